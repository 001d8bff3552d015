"""Makes the synthetic benchmark ``shapes``: canonical tables and images, the same for the same seed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.schema import ELEMENT_RATINGS, ELEMENTS, ITEMS, PREFERENCES, RATINGS, mask_key
from t2i_eval_kedro.shapes.generators import GENERATORS, Painted, SimulatedGenerator, generators, imagine
from t2i_eval_kedro.shapes.prompts import (
    DEFAULT_PROMPTS,
    ScenePrompt,
    check_number,
    elements,
    prompt_text,
    sample_prompts,
)
from t2i_eval_kedro.shapes.raters import PANELS, SCALE_MAX, SCALE_MIN, Rater
from t2i_eval_kedro.shapes.render import (
    SIDE,
    SIDES,
    Flaw,
    Placed,
    draw,
    flaw_mask,
    place,
    png_bytes,
    sample_flaws,
)
from t2i_eval_kedro.shapes.truth import item_attributes

BENCHMARK = "shapes"
VERSION = 2  # raised whenever the same settings make other items
PAIRS = 6  # of images of one prompt that raters compare

# First word of every random stream, so that pictures and ratings never share one; `prompts` has others.
_IMAGES, _RATINGS, _FLAWS, _PAIRS = 2, 3, 4, 5


@dataclass(frozen=True)
class ShapesSettings:
    """What is made.

    Attributes:
        n_prompts: number of prompts, 1 to `prompts.MAX_PROMPTS`; the first ones do not depend on it.
        seed: random seed of everything; another seed makes another benchmark.
        generators: 8, or 24.
        raters: who rates, one of `raters.PANELS`.
        side: pixels of a side, one of `render.SIDES`.
        structure: whether structural faults are planted, marked in masks and scored.
    """

    n_prompts: int = DEFAULT_PROMPTS
    seed: int = 0
    generators: int = len(GENERATORS)
    raters: str = "three"
    side: int = SIDE
    structure: bool = False

    def check(self) -> None:
        """Raise a `T2IEvalError` where a setting is none of those that there are."""
        check_number(self.n_prompts)
        if self.side not in SIDES:
            raise T2IEvalError(
                f"The side of a shapes image is {self.side} pixels; choose {', '.join(map(str, SIDES))}."
            )
        if self.raters not in PANELS:
            raise T2IEvalError(f"There are no shapes raters '{self.raters}'; choose {', '.join(PANELS)}.")
        generators(self.generators)


@dataclass(frozen=True)
class _Picture:
    key: str
    objects: list[Placed]
    painted: Painted
    flaws: tuple[Flaw, ...]
    grain_seed: tuple[int, ...]


class DrawnImages(Sequence[tuple[str, bytes]]):
    """Pairs of (key, PNG file), each drawn when it is asked for.

    Where structural faults are planted, each image is followed by its mask (0: sound, 1: faulty) under `schema.mask_key`.
    """

    def __init__(self, pictures: Sequence[_Picture], side: int, masks: bool) -> None:
        """The images of ``pictures``, ``side`` pixels wide and high, each followed by its mask if ``masks``."""
        self._pictures, self._side, self._masks = pictures, side, masks

    def __len__(self) -> int:
        """The number of images and masks."""
        return len(self._pictures) * (2 if self._masks else 1)

    def __getitem__(self, index: Any) -> Any:
        """One pair, or a list of those of a slice."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        number, is_mask = divmod(range(len(self))[index], 2) if self._masks else (range(len(self))[index], 0)
        picture = self._pictures[number]
        if is_mask:
            mask = flaw_mask(picture.objects, self._side, picture.flaws)
            return mask_key(picture.key), png_bytes(Image.fromarray(mask.astype(np.uint8)))
        degradation = picture.painted.degradation
        image = draw(picture.objects, degradation, self._side, picture.flaws, picture.grain_seed)
        return picture.key, png_bytes(image)


@dataclass(frozen=True)
class ShapesBenchmark:
    """The benchmark: canonical tables, and the images under the keys of ``items.image``."""

    items: pd.DataFrame
    ratings: pd.DataFrame
    elements: pd.DataFrame
    element_ratings: pd.DataFrame
    preferences: pd.DataFrame
    images: DrawnImages


def make_shapes(n_prompts: int = DEFAULT_PROMPTS, seed: int = 0, **settings: Any) -> ShapesBenchmark:
    """Make the benchmark: one item for each prompt and generator, rated by each rater.

    Every item draws from its own random streams, so that the items of the first prompts do not depend on ``n_prompts``, nor
    the scenes on side, raters or structural faults.

    Args:
        n_prompts: see `ShapesSettings`.
        seed: see `ShapesSettings`.
        settings: the other fields of `ShapesSettings`.

    Raises:
        T2IEvalError: a setting is none of those that there are.
    """
    made = ShapesSettings(n_prompts, seed, **settings)
    made.check()
    items: list[dict[str, object]] = []
    ratings: list[dict[str, object]] = []
    element_rows: list[dict[str, object]] = []
    labels: list[dict[str, object]] = []
    preferences: list[dict[str, object]] = []
    pictures: list[_Picture] = []
    painters, panel = generators(made.generators), PANELS[made.raters]
    for p, prompt in enumerate(sample_prompts(n_prompts, seed)):
        prompt_id = f"p{p:04d}"
        element_rows += _element_rows(prompt_id, prompt)
        overall: dict[str, float] = {}
        for g, generator in enumerate(painters):
            item_id = f"{prompt_id}-{generator.short_name}"
            picture = _paint(f"{item_id}.png", prompt, generator, made, p, g)
            attributes = item_attributes(prompt, picture.painted, picture.flaws if made.structure else None)
            pictures.append(picture)
            items.append(
                {
                    "item_id": item_id,
                    "benchmark": BENCHMARK,
                    "prompt_id": prompt_id,
                    "prompt": prompt_text(prompt),
                    "generator": generator.name,
                    "image": picture.key,
                    "attributes": json.dumps(attributes),
                }
            )
            overall[item_id] = attributes["truth"]["overall"]
            for r, rater in enumerate(panel):
                rng = np.random.default_rng([seed, _RATINGS, p, g, r])
                ratings += _rating_rows(item_id, rater, attributes, rng)
                labels += [
                    {
                        "item_id": item_id,
                        "element_id": element_id,
                        "rater_id": rater.rater_id,
                        "label": rater.label(holds, rng),
                    }
                    for element_id, holds in attributes["elements"].items()
                ]
        preferences += _preference_rows(prompt_id, overall, panel, np.random.default_rng([seed, _PAIRS, p]))

    return ShapesBenchmark(
        ITEMS.frame(items),
        RATINGS.frame(ratings),
        ELEMENTS.frame(element_rows),
        ELEMENT_RATINGS.frame(labels),
        PREFERENCES.frame(preferences),
        DrawnImages(pictures, made.side, made.structure),
    )


def _paint(
    key: str, prompt: ScenePrompt, generator: SimulatedGenerator, made: ShapesSettings, p: int, g: int
) -> _Picture:
    rng = np.random.default_rng([made.seed, _IMAGES, p, g])
    painted = imagine(prompt, generator, rng)
    objects = place(painted.scene, rng)
    flaws: tuple[Flaw, ...] = ()
    if made.structure:
        rng = np.random.default_rng([made.seed, _FLAWS, p, g])
        flaws = sample_flaws(objects, generator.flaw, generator.flaws, rng)
    return _Picture(key, objects, painted, flaws, (made.seed, _IMAGES, p, g, 1))


def _rating_rows(
    item_id: str, rater: Rater, attributes: dict[str, Any], rng: np.random.Generator
) -> list[dict[str, object]]:
    return [
        {
            "item_id": item_id,
            "rater_id": rater.rater_id,
            "dimension": dimension,
            "score": rater.score(dimension, score, rng),
            "scale_min": SCALE_MIN,
            "scale_max": SCALE_MAX,
            "off_scale": False,
        }
        for dimension, score in attributes["truth"].items()
        if score is not None
    ]


def _preference_rows(
    prompt_id: str, overall: dict[str, float], panel: tuple[Rater, ...], rng: np.random.Generator
) -> list[dict[str, object]]:
    """What each rater prefers in `PAIRS` pairs of the prompt's images: neighbours on a ring in random order."""
    names = list(overall)
    ring = [names[int(i)] for i in rng.permutation(len(names))]
    pairs = [(ring[i], ring[(i + 1) % len(ring)]) for i in range(min(PAIRS, len(ring)))]
    return [
        {
            "prompt_id": prompt_id,
            "item_a": a,
            "item_b": b,
            "rater_id": rater.rater_id,
            "label": rater.prefer(overall[a], overall[b], rng),
        }
        for a, b in pairs
        for rater in panel
    ]


def _element_rows(prompt_id: str, prompt: ScenePrompt) -> list[dict[str, object]]:
    return [
        {"prompt_id": prompt_id, "expected": "yes"} | asdict(element) | {"parents": ",".join(element.parents) or None}
        for element in elements(prompt)
    ]
