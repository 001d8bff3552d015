"""The truth behind a synthetic item: which elements hold, what is seen, and the score on each dimension.

The scores are this project's own definition (0 to 10):

* appearance = 10 (1 - blur) (1 - haze);
* attributes = 10 x the share of satisfied existence, colour, size and count elements;
* relations = 10 x the share of satisfied relations, or none where the prompt states none;
* overall = (1 - `WORST_SHARE`) x the weighted mean (`WEIGHTS`, normalised over the dimensions that exist)
  + `WORST_SHARE` x the lowest of them, so that one bad fault is not averaged away.

`item_attributes` writes all of it into the JSON of ``items.attributes``; the functions that take ``attributes`` read
that JSON object, and are what a simulated teacher sees instead of the pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from t2i_eval_kedro.shapes.render import Degradation
from t2i_eval_kedro.shapes.scene import NUMBERS, Group, Scene, elements, relation

DIMENSIONS = ("overall", "appearance", "attributes", "relations")
WEIGHTS = {"appearance": 0.35, "attributes": 0.45, "relations": 0.2}
WORST_SHARE = 0.3


def item_attributes(prompt_scene: Scene, image_scene: Scene, degradation: Degradation) -> dict[str, Any]:
    """What ``items.attributes`` holds: both scenes, the degradation, each element's truth, the true scores."""
    held = _elements_held(prompt_scene, image_scene)
    return {
        "prompt_scene": prompt_scene.to_json(),
        "image_scene": image_scene.to_json(),
        "degradation": {"blur": degradation.blur, "haze": degradation.haze},
        "elements": held,
        "truth": _scores(prompt_scene, held, degradation),
    }


def element_truth(attributes: Mapping[str, Any]) -> dict[str, bool]:
    """Whether the image satisfies each element of its prompt, by element id."""
    return dict(attributes["elements"])


def true_scores(attributes: Mapping[str, Any]) -> dict[str, float | None]:
    """The true score on each of `DIMENSIONS`, 0 to 10; None for relations where the prompt states none."""
    return dict(attributes["truth"])


def overall_score(scores: Mapping[str, float]) -> float:
    """The overall score (0 to 10) that follows from the scores of one or more of the other dimensions."""
    total = sum(WEIGHTS[name] for name in scores)
    mean = sum(WEIGHTS[name] * score for name, score in scores.items()) / total
    return (1 - WORST_SHARE) * mean + WORST_SHARE * min(scores.values())


def describe(attributes: Mapping[str, Any], element_id: str) -> str:
    """What the image really shows where ``element_id`` asks, in the prompts' own words.

    Existence: ``there is a circle`` or ``no circle``; colour and size: ``it is blue``; count: ``there are three``;
    relation: ``it is above the square``, or ``no square`` where one of the two is not there.
    """
    scene = Scene.from_json(attributes["image_scene"])
    shape, _, rest = element_id.partition(".")
    group = scene.find(shape)
    if group is None:
        return f"no {shape}"
    if not rest:
        return f"there is a {shape}"
    if rest == "color":
        return f"it is {group.color}"
    if rest == "size":
        return f"it is {group.size}"
    if rest == "count":
        return f"there {'is' if group.count == 1 else 'are'} {NUMBERS[group.count - 1]}"
    other_shape = rest.rpartition(".")[2]
    other = scene.find(other_shape)
    return f"no {other_shape}" if other is None else f"it is {relation(group, other)} the {other_shape}"


def clarity(degradation: Degradation) -> str:
    """The degradation in words: ``clear``, ``slightly blurry``, ``hazy``, ``very blurry and slightly hazy``."""
    found = [
        f"{_degree(value)}{word}"
        for word, value in (("blurry", degradation.blur), ("hazy", degradation.haze))
        if value >= 0.1
    ]
    return " and ".join(found) or "clear"


def describe_appearance(attributes: Mapping[str, Any]) -> str:
    """`clarity` of an item."""
    return clarity(Degradation(**attributes["degradation"]))


def _degree(value: float) -> str:
    if value < 0.35:
        return "slightly "
    return "" if value < 0.6 else "very "


def _elements_held(prompt_scene: Scene, image_scene: Scene) -> dict[str, bool]:
    held: dict[str, bool] = {}
    for element in elements(prompt_scene):
        shape, _, rest = element.element_id.partition(".")
        wanted, seen = prompt_scene.find(shape), image_scene.find(shape)
        if wanted is None or seen is None:
            held[element.element_id] = False
        elif rest in ("", "color", "size", "count"):
            held[element.element_id] = not rest or getattr(wanted, rest) == getattr(seen, rest)
        else:
            other = image_scene.find(rest.rpartition(".")[2])
            held[element.element_id] = other is not None and _keeps(prompt_scene, wanted, seen, other)
    return held


def _keeps(prompt_scene: Scene, wanted: Group, seen: Group, other: Group) -> bool:
    wanted_other = prompt_scene.find(other.shape)
    return wanted_other is not None and relation(seen, other) == relation(wanted, wanted_other)


def _scores(prompt_scene: Scene, held: Mapping[str, bool], degradation: Degradation) -> dict[str, float | None]:
    spatial = {element.element_id for element in elements(prompt_scene) if element.skill == "spatial"}
    relational = [value for key, value in held.items() if key in spatial]
    intrinsic = [value for key, value in held.items() if key not in spatial]
    scores = {
        "appearance": 10 * (1 - degradation.blur) * (1 - degradation.haze),
        "attributes": 10 * sum(intrinsic) / len(intrinsic),
    }
    if relational:
        scores["relations"] = 10 * sum(relational) / len(relational)
    scores["overall"] = overall_score(scores)
    return {name: round(scores[name], 3) if name in scores else None for name in DIMENSIONS}
