"""The truth behind a synthetic item: which elements hold, what is seen, and the score on each dimension.

The scores are this project's own definition (0 to 10):

* appearance = 10 (1 - blur) (1 - haze) (1 - grain);
* attributes = 10 x the share of satisfied elements that are no relations;
* relations = 10 x the share of satisfied relations, or none where the prompt states none;
* overall = (1 - `WORST_SHARE`) x the weighted mean (`WEIGHTS`, normalised over the dimensions that exist)
  + `WORST_SHARE` x the lowest of them, so that one bad fault is not averaged away;
* structure = 10 x the product of (1 - `FLAW_COST` x strength) over structural faults; it is apart from the others.

`item_attributes` writes all of it into the JSON of ``items.attributes``; the functions that take ``attributes`` read
that JSON object, and are what a simulated teacher sees instead of the pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import prod
from typing import Any

from t2i_eval_kedro.shapes.generators import Painted
from t2i_eval_kedro.shapes.prompts import ScenePrompt, elements
from t2i_eval_kedro.shapes.render import Degradation, Flaw
from t2i_eval_kedro.shapes.scene import NUMBERS, Group, Scene, relation

DIMENSIONS = ("overall", "appearance", "attributes", "relations")
STRUCTURE = "structure"
WEIGHTS = {"appearance": 0.35, "attributes": 0.45, "relations": 0.2}
WORST_SHARE = 0.3
FLAW_COST = 0.5


def item_attributes(prompt: ScenePrompt, painted: Painted, flaws: Sequence[Flaw] | None = None) -> dict[str, Any]:
    """What ``items.attributes`` holds: prompt and picture, each element's truth, the true scores.

    Args:
        prompt: what was asked for.
        painted: what the generator made of it.
        flaws: the structural faults of the picture; None where the benchmark has none, and no score for structure.
    """
    held = elements_held(prompt, painted.scene)
    scores = _scores(prompt, held, painted.degradation)
    attributes: dict[str, Any] = {
        "prompt_scene": prompt.to_json(),
        "prompt_kind": prompt.kinds(),
        "image_scene": painted.scene.to_json(),
        "degradation": asdict(painted.degradation),
        "faults": list(painted.families),
        "elements": held,
        "truth": scores,
    }
    if flaws is not None:
        attributes["flaws"] = [asdict(flaw) for flaw in flaws]
        scores[STRUCTURE] = round(10 * prod(1 - FLAW_COST * flaw.strength for flaw in flaws), 3)
    return attributes


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

    Existence and absence: ``there is a circle`` or ``no circle``; colour, denied colour and size: ``it is blue``; count:
    ``there are three``; relation: ``it is above the square``, or ``no square`` where one of the two is not there.
    """
    scene = Scene.from_json(attributes["image_scene"])
    shape, _, rest = element_id.removesuffix(".conflict").partition(".")
    group = scene.find(shape)
    if group is None:
        return f"no {shape}"
    if rest in ("", "absent"):
        return f"there is a {shape}"
    if rest in ("color", "not_color"):
        return f"it is {group.color}"
    if rest == "size":
        return f"it is {group.size}"
    if rest == "count":
        return f"there {'is' if group.count == 1 else 'are'} {NUMBERS[group.count - 1]}"
    other_shape = rest.rpartition(".")[2]
    other = scene.find(other_shape)
    return f"no {other_shape}" if other is None else f"it is {relation(group, other)} the {other_shape}"


def clarity(degradation: Degradation) -> str:
    """The degradation in words, where .1, .35 and .6 are the bounds of "slightly", none and "very": ``clear``, ``slightly blurry``, ``hazy``, ``very blurry and slightly hazy``."""
    words = [
        f"{_degree(value)}{word}"
        for word, value in (("blurry", degradation.blur), ("hazy", degradation.haze), ("grainy", degradation.grain))
        if value >= 0.1
    ]
    return " and ".join(words) or "clear"


def describe_appearance(attributes: Mapping[str, Any]) -> str:
    """`clarity` of an item."""
    return clarity(Degradation(**attributes["degradation"]))


def _degree(value: float) -> str:
    if value < 0.35:
        return "slightly "
    return "" if value < 0.6 else "very "


def elements_held(prompt: ScenePrompt, seen: Scene) -> dict[str, bool]:
    """Whether a picture of the scene ``seen`` satisfies each element of ``prompt``, by element id."""
    held: dict[str, bool] = {}
    for element in elements(prompt):
        shape, _, rest = element.element_id.partition(".")
        group, intended = seen.find(shape), prompt.scene.find(shape)
        if rest == "absent":
            held[element.element_id] = group is None
        elif group is None:
            held[element.element_id] = False
        elif element.skill == "spatial":
            stated, _, other_shape = rest.rpartition(".")
            other = seen.find(other_shape)
            held[element.element_id] = other is not None and relation(group, other) == stated.replace("_", " ")
        else:
            held[element.element_id] = not rest or _attribute_holds(prompt, rest, group, intended)
    return held


def _attribute_holds(prompt: ScenePrompt, rest: str, seen: Group, intended: Group | None) -> bool:
    name, _, conflict = rest.partition(".")
    if conflict and prompt.conflict is not None:
        return bool(getattr(seen, name) == prompt.conflict.value)
    if name == "not_color":
        denied = dict(zip((g.shape for g in prompt.scene.groups), prompt.not_color, strict=True))
        return seen.color != denied[seen.shape]
    return intended is not None and getattr(seen, name) == getattr(intended, name)


def _scores(prompt: ScenePrompt, held: Mapping[str, bool], degradation: Degradation) -> dict[str, float | None]:
    spatial = {element.element_id for element in elements(prompt) if element.skill == "spatial"}
    relational = [value for key, value in held.items() if key in spatial]
    intrinsic = [value for key, value in held.items() if key not in spatial]
    scores = {
        "appearance": 10 * (1 - degradation.blur) * (1 - degradation.haze) * (1 - degradation.grain),
        "attributes": 10 * sum(intrinsic) / len(intrinsic),
    }
    if relational:
        scores["relations"] = 10 * sum(relational) / len(relational)
    scores["overall"] = overall_score(scores)
    return {name: round(scores[name], 3) if name in scores else None for name in DIMENSIONS}
