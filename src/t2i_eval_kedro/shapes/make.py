"""Makes the synthetic benchmark ``shapes``: canonical tables and images, the same for the same seed."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pandas as pd

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.schema import ELEMENT_RATINGS, ELEMENTS, ITEMS, RATINGS
from t2i_eval_kedro.shapes.generators import GENERATORS, imagine
from t2i_eval_kedro.shapes.raters import RATERS, SCALE_MAX, SCALE_MIN
from t2i_eval_kedro.shapes.render import png_bytes, render
from t2i_eval_kedro.shapes.scene import Scene, elements, prompt_text, sample_scene
from t2i_eval_kedro.shapes.truth import item_attributes

BENCHMARK = "shapes"
DEFAULT_PROMPTS = 480
MAX_PROMPTS = 10_000

# First word of every random stream, so that prompts, pictures and ratings never share one.
_PROMPTS, _IMAGES, _RATINGS = 1, 2, 3


@dataclass(frozen=True)
class ShapesBenchmark:
    """The benchmark: four canonical tables and ``images``, pairs of (key, PNG file), the keys of ``items.image``."""

    items: pd.DataFrame
    ratings: pd.DataFrame
    elements: pd.DataFrame
    element_ratings: pd.DataFrame
    images: list[tuple[str, bytes]]


def sample_scenes(n_prompts: int, seed: int) -> list[Scene]:
    """``n_prompts`` scenes whose prompts all differ.

    Raises:
        T2IEvalError: ``n_prompts`` is not between 1 and `MAX_PROMPTS`.
    """
    if not 1 <= n_prompts <= MAX_PROMPTS:
        raise T2IEvalError(f"The number of shapes prompts is {n_prompts}; choose 1 to {MAX_PROMPTS}.")
    rng = np.random.default_rng([seed, _PROMPTS])
    scenes: dict[str, Scene] = {}
    while len(scenes) < n_prompts:
        scene = sample_scene(rng)
        scenes.setdefault(prompt_text(scene), scene)
    return list(scenes.values())


def make_shapes(n_prompts: int = DEFAULT_PROMPTS, seed: int = 0) -> ShapesBenchmark:
    """Make the benchmark: one item for each prompt and each of `GENERATORS`, rated by each of `RATERS`.

    Every item draws from its own random stream, so that the items of the first prompts do not depend on ``n_prompts``.

    Raises:
        T2IEvalError: ``n_prompts`` is not between 1 and `MAX_PROMPTS`.
    """
    items: list[dict[str, object]] = []
    ratings: list[dict[str, object]] = []
    element_rows: list[dict[str, object]] = []
    labels: list[dict[str, object]] = []
    images: list[tuple[str, bytes]] = []
    for p, scene in enumerate(sample_scenes(n_prompts, seed)):
        prompt_id = f"p{p:04d}"
        element_rows += _element_rows(prompt_id, scene)
        for g, generator in enumerate(GENERATORS):
            item_id = f"{prompt_id}-{generator.short_name}"
            rng = np.random.default_rng([seed, _IMAGES, p, g])
            painted, degradation = imagine(scene, generator, rng)
            images.append((f"{item_id}.png", png_bytes(render(painted, degradation, rng))))
            attributes = item_attributes(scene, painted, degradation)
            items.append(
                {
                    "item_id": item_id,
                    "benchmark": BENCHMARK,
                    "prompt_id": prompt_id,
                    "prompt": prompt_text(scene),
                    "generator": generator.name,
                    "image": images[-1][0],
                    "attributes": json.dumps(attributes),
                }
            )
            for r, rater in enumerate(RATERS):
                rng = np.random.default_rng([seed, _RATINGS, p, g, r])
                ratings += [
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
                labels += [
                    {
                        "item_id": item_id,
                        "element_id": element_id,
                        "rater_id": rater.rater_id,
                        "label": rater.label(holds, rng),
                    }
                    for element_id, holds in attributes["elements"].items()
                ]
    return ShapesBenchmark(
        ITEMS.frame(items),
        RATINGS.frame(ratings),
        ELEMENTS.frame(element_rows),
        ELEMENT_RATINGS.frame(labels),
        images,
    )


def _element_rows(prompt_id: str, scene: Scene) -> list[dict[str, object]]:
    return [
        {
            "prompt_id": prompt_id,
            "element_id": element.element_id,
            "text": element.text,
            "skill": element.skill,
            "question": element.question,
            "expected": "yes",
            "parents": ",".join(element.parents) or None,
        }
        for element in elements(scene)
    ]
