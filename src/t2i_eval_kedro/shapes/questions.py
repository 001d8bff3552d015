"""Generic questions about a picture of shapes, with their answers: what the tiny model is pre-trained on.

No answer is a score and no generator or rater of the benchmark is involved: pictures come from `sample_picture`, which
draws scenes at random, some with their groups off the prompts' grid of relations, some blurred or hazy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations, pairwise, permutations

import numpy as np

from t2i_eval_kedro.shapes.render import Degradation
from t2i_eval_kedro.shapes.scene import (
    COLORS,
    NUMBERS,
    RELATIONS,
    SHAPES,
    SIZES,
    Group,
    Scene,
    count_question,
    layouts,
    plural,
    prompt_text,
    relation,
    sample_scene,
)
from t2i_eval_kedro.shapes.truth import clarity

QUADRANTS = ("upper left", "upper right", "lower left", "lower right")

Pair = tuple[str, str]


def sample_picture(rng: np.random.Generator) -> tuple[Scene, Degradation]:
    """A random scene, one in six with its groups in any quadrants, and a degradation (none in half of the cases)."""
    scene = sample_scene(rng)
    if rng.random() < 1 / 6:
        quadrants = rng.permutation(4)[: len(scene.groups)]
        scene = Scene(tuple(replace(group, quadrant=int(q)) for group, q in zip(scene.groups, quadrants, strict=True)))
    blur, haze = (round(float(rng.uniform(0.1, 0.9)), 3) if rng.random() < 0.3 else 0.0 for _ in range(2))
    return scene, Degradation(blur, haze)


def adjacent(first: Group, second: Group) -> bool:
    """Whether the two groups' quadrants share a side."""
    return {first.quadrant, second.quadrant} not in ({0, 3}, {1, 2})


def captions(scene: Scene) -> list[str]:
    """Every prompt that describes the scene; none where no order of the groups puts neighbours side by side."""
    return [
        prompt_text(Scene(order))
        for order in permutations(scene.groups)
        if all(adjacent(a, b) for a, b in pairwise(order))
    ]


def ask(scene: Scene, degradation: Degradation, kind: str, rng: np.random.Generator) -> Pair | None:
    """One question of this ``kind`` (a key of `KINDS`) and its answer; None where the picture does not allow it."""
    return _ASKERS[kind](scene, degradation, rng)


def _pick(values: tuple[str, ...] | list[str], rng: np.random.Generator) -> str:
    return values[int(rng.integers(len(values)))]


def _subject(scene: Scene, rng: np.random.Generator, absent: float = 0.12) -> tuple[str, Group | None]:
    """A shape to ask about, and its group, or None in a share ``absent`` of the cases."""
    if rng.random() < absent:
        return _pick([shape for shape in SHAPES if scene.find(shape) is None], rng), None
    group = scene.groups[int(rng.integers(len(scene.groups)))]
    return group.shape, group


def _color(scene: Scene, _: Degradation, rng: np.random.Generator) -> Pair:
    shape, group = _subject(scene, rng)
    return f"what color is the {shape} ?", group.color if group else f"no {shape}"


def _size(scene: Scene, _: Degradation, rng: np.random.Generator) -> Pair:
    shape, group = _subject(scene, rng)
    return f"what size is the {shape} ?", group.size if group else f"no {shape}"


def _count(scene: Scene, _: Degradation, rng: np.random.Generator) -> Pair:
    shape, group = _subject(scene, rng)
    return f"how many {plural(shape)} are there ?", NUMBERS[group.count - 1] if group else "none"


def _shape(scene: Scene, _: Degradation, rng: np.random.Generator) -> Pair:
    quadrant = int(rng.integers(4))
    found = [group.shape for group in scene.groups if group.quadrant == quadrant]
    return f"what is in the {QUADRANTS[quadrant]} ?", found[0] if found else "nothing"


def _position(scene: Scene, _: Degradation, rng: np.random.Generator) -> Pair:
    shape, group = _subject(scene, rng)
    return f"where is the {shape} ?", QUADRANTS[group.quadrant] if group else f"no {shape}"


def _relation(scene: Scene, _: Degradation, rng: np.random.Generator) -> Pair | None:
    pair = _neighbours(scene, rng)
    if pair is None:
        return None
    a, b = pair
    return f"how does the {a.shape} stand to the {b.shape} ?", relation(a, b)


def _neighbours(scene: Scene, rng: np.random.Generator) -> tuple[Group, Group] | None:
    pairs = [pair for pair in combinations(scene.groups, 2) if adjacent(*pair)]
    if not pairs:
        return None
    a, b = pairs[int(rng.integers(len(pairs)))]
    return (a, b) if rng.random() < 0.5 else (b, a)


def _yes_no(scene: Scene, _: Degradation, rng: np.random.Generator) -> Pair:
    """An element's question in the benchmark's words; "yes" in about half of the cases."""
    about = _pick(("object", "color", "size", "count", "relation"), rng)
    pair = _neighbours(scene, rng) if about == "relation" else None
    if pair is not None:
        a, b = pair
        stated = relation(a, b) if rng.random() < 0.5 else _pick(RELATIONS, rng)
        return f"is the {a.shape} {stated} the {b.shape} ?", _word(stated == relation(a, b))
    shape, group = _subject(scene, rng, 0.5 if about in ("object", "relation") else 0.1)
    if about in ("object", "relation"):
        return f"is there a {shape} ?", _word(group is not None)
    truthful = group is not None and rng.random() < 0.5
    if about == "count":
        count = group.count if group is not None and truthful else int(rng.integers(1, 4))
        return count_question(shape, count), _word(group is not None and group.count == count)
    value = getattr(group, about) if truthful else _pick(COLORS if about == "color" else SIZES, rng)
    return f"is the {shape} {value} ?", _word(group is not None and getattr(group, about) == value)


def _word(holds: bool) -> str:
    return "yes" if holds else "no"


def _clarity(scene: Scene, degradation: Degradation, rng: np.random.Generator) -> Pair:
    group = scene.groups[int(rng.integers(len(scene.groups)))]
    questions = ("is the image clear ?", "how clear is the image ?", f"is the {group.shape} clear ?")
    return _pick(questions, rng), clarity(degradation)


def _caption(scene: Scene, _: Degradation, rng: np.random.Generator) -> Pair | None:
    """The caption that names the group in the foremost quadrant first, so that one picture has one caption."""
    ordered = Scene(tuple(sorted(scene.groups, key=lambda group: group.quadrant)))
    found = captions(ordered)
    return ("describe the image", found[0]) if found else None


def _difference(scene: Scene, _degradation: Degradation, rng: np.random.Generator) -> Pair | None:
    """A description that is wrong in zero to three places, and what is wrong with it."""
    if not all(adjacent(a, b) for a, b in pairwise(scene.groups)):
        return None
    groups = list(scene.groups)
    for _ in range(int(rng.choice(4, p=[0.25, 0.35, 0.25, 0.15]))):
        groups = _change(groups, scene, rng)
    return f"{prompt_text(Scene(tuple(groups)))} , what is wrong ?", differences(Scene(tuple(groups)), scene)


def _change(groups: list[Group], seen: Scene, rng: np.random.Generator) -> list[Group]:
    i = int(rng.integers(len(groups)))
    what = _pick(("color", "size", "count", "shape", "relation"), rng)
    if what == "relation":
        layout = layouts(len(groups))[int(rng.integers(len(layouts(len(groups)))))]
        return [replace(group, quadrant=q) for group, q in zip(groups, layout, strict=True)]
    if what == "shape":
        taken = {group.shape for group in (*groups, *seen.groups)}
        value: str | int = _pick([shape for shape in SHAPES if shape not in taken] or [groups[i].shape], rng)
    elif what == "count":
        value = int(rng.integers(1, 4))
    else:
        value = _pick(COLORS if what == "color" else SIZES, rng)
    changed = replace(groups[i], **{what: value})  # type: ignore[arg-type]
    return [*groups[:i], changed, *groups[i + 1 :]]


def differences(described: Scene, seen: Scene) -> str:
    """What the picture ``seen`` shows otherwise than ``described``, in the order of the description, or ``nothing``."""
    found: list[str] = []
    for wanted in described.groups:
        group = seen.find(wanted.shape)
        if group is None:
            found.append(f"no {wanted.shape}")
            continue
        found += [
            f"the {group.shape} is {getattr(group, what)}"
            for what in ("color", "size")
            if getattr(group, what) != getattr(wanted, what)
        ]
        if group.count != wanted.count:
            found.append(f"{NUMBERS[group.count - 1]} {group.shape if group.count == 1 else plural(group.shape)}")
    for a, b in pairwise(described.groups):
        seen_a, seen_b = seen.find(a.shape), seen.find(b.shape)
        if seen_a is not None and seen_b is not None and relation(seen_a, seen_b) != relation(a, b):
            found.append(f"the {a.shape} is {relation(seen_a, seen_b)} the {b.shape}")
    return ", ".join(found) or "nothing"


def _numeral(scene: Scene, _: Degradation, rng: np.random.Generator) -> Pair:
    """How many objects there are, or which of two numbers is more or less, in numerals: it teaches their order."""
    if rng.random() < 0.3:
        return "how many in all , in numbers ?", str(sum(group.count for group in scene.groups))
    a, b = (int(n) for n in rng.choice(11, size=2, replace=False))
    if rng.random() < 0.5:
        return f"what is more , {a} or {b} ?", str(max(a, b))
    return f"what is less , {a} or {b} ?", str(min(a, b))


_ASKERS: dict[str, Callable[[Scene, Degradation, np.random.Generator], Pair | None]] = {
    "color": _color,
    "size": _size,
    "count": _count,
    "shape": _shape,
    "position": _position,
    "relation": _relation,
    "yes_no": _yes_no,
    "clarity": _clarity,
    "caption": _caption,
    "difference": _difference,
    "numeral": _numeral,
}

#: Share of each kind among the pre-training questions.
KINDS = {
    "color": 0.07,
    "size": 0.06,
    "count": 0.09,
    "shape": 0.04,
    "position": 0.04,
    "relation": 0.10,
    "yes_no": 0.18,
    "clarity": 0.07,
    "caption": 0.08,
    "difference": 0.27,
}

#: The same for the last stage, in which the numerals are learned.
KINDS_WITH_NUMERALS = {kind: 0.6 * share for kind, share in KINDS.items()} | {"numeral": 0.4}
