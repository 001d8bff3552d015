"""Simulated text-to-image generators: each reads what a prompt states and gets some of it wrong in its own way.

All faults are open to every generator, each has some that it commits more often, and how well a single try turns out
(`LUCK`) matters more than who tries, so a generator's name tells little about the score of its picture.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.shapes.prompts import ScenePrompt, other_value
from t2i_eval_kedro.shapes.render import FLAWS, Degradation, sample_severity
from t2i_eval_kedro.shapes.scene import (
    COLORS,
    SHAPES,
    SIZES,
    Group,
    Scene,
    fits,
    layout_relations,
    layouts,
    region_cells,
)

#: Families of faults that no generator but the held-out ones commits.
HELD_OUT_FAMILIES = ("swapped", "grain", "warped")
#: The rates of a try are those of its generator times a factor of beta(*LUCK) times two.
LUCK = (0.9, 0.9)


@dataclass(frozen=True)
class SimulatedGenerator:
    """One simulated generator.

    Attributes:
        name: as it stands in the ``generator`` column.
        color, count, size, missing: probability that a group gets the wrong one, or is left out (half of the time
            another shape takes its place).
        relation: probability that the groups are laid out against the stated relations.
        negation: probability that what shall not be there, or the colour that a group shall not have, is painted.
        swapped: probability that two groups take each other's colour and size.
        blur, haze, grain: (probability, lowest, highest severity) of the degradation.
        flaw: probability that the picture has structural faults, where they are asked for.
        flaws: their families.
    """

    name: str
    color: float = 0.13
    count: float = 0.13
    size: float = 0.1
    missing: float = 0.08
    relation: float = 0.15
    negation: float = 0.4
    swapped: float = 0.0
    blur: tuple[float, float, float] = (0.25, 0.1, 0.9)
    haze: tuple[float, float, float] = (0.25, 0.1, 0.9)
    grain: tuple[float, float, float] = (0.0, 0.0, 0.0)
    flaw: float = 0.6
    flaws: tuple[str, ...] = FLAWS[:2] + FLAWS[3:]

    @property
    def short_name(self) -> str:
        """The name without the benchmark's prefix, as used in item ids."""
        return self.name.removeprefix("shapes-")


@dataclass(frozen=True)
class Painted:
    """What a generator painted.

    Attributes:
        scene: the groups, in the prompt's order; one that was left out is absent, what nobody asked for comes last.
        degradation: how far the picture is spoiled.
        families: the families of the faults that were committed, sorted.
    """

    scene: Scene
    degradation: Degradation
    families: tuple[str, ...]


#: Eight generators; their main faults differ and overlap. The last two are held out of training.
GENERATORS = (
    SimulatedGenerator(
        "shapes-careful", 0.05, 0.05, 0.05, 0.03, 0.06, 0.2, blur=(0.15, 0.1, 0.6), haze=(0.15, 0.1, 0.6)
    ),
    SimulatedGenerator("shapes-palette", color=0.34, size=0.18, missing=0.04, count=0.08),
    SimulatedGenerator("shapes-miscount", count=0.38, size=0.2, color=0.08, missing=0.04),
    SimulatedGenerator("shapes-forgetful", missing=0.22, count=0.12, color=0.12, relation=0.12),
    SimulatedGenerator("shapes-mirror", relation=0.5, color=0.1, missing=0.05, count=0.1),
    SimulatedGenerator(
        "shapes-misty", color=0.1, count=0.1, missing=0.06, blur=(0.5, 0.15, 0.9), haze=(0.5, 0.15, 0.9)
    ),
    SimulatedGenerator("shapes-jumble", swapped=0.45, color=0.08, size=0.06, flaws=("warped",)),
    SimulatedGenerator(
        "shapes-grainy", count=0.1, missing=0.06, blur=(0.1, 0.1, 0.9), grain=(0.5, 0.1, 0.9), flaws=("warped", "torn")
    ),
)
HELD_OUT = tuple(generator.name for generator in GENERATORS[-2:])
MANY = 24


def generators(n: int) -> tuple[SimulatedGenerator, ...]:
    """`GENERATORS`, and where ``n`` is 24 sixteen more whose rates are drawn, the same ones each time.

    Raises:
        T2IEvalError: ``n`` is neither 8 nor 24.
    """
    if n == len(GENERATORS):
        return GENERATORS
    if n != MANY:
        raise T2IEvalError(f"The number of shapes generators is {n}; choose {len(GENERATORS)} or {MANY}.")
    rng = np.random.default_rng(24)
    more = []
    for i in range(len(GENERATORS), MANY):
        rates: dict[str, Any] = {
            name: round(float(rng.uniform(low, high)), 3)
            for name, (low, high) in {
                "color": (0.04, 0.3),
                "count": (0.04, 0.3),
                "size": (0.04, 0.25),
                "missing": (0.03, 0.14),
                "relation": (0.05, 0.4),
                "negation": (0.2, 0.6),
            }.items()
        }
        blur, haze = ((round(float(rng.uniform(0.1, 0.4)), 3), 0.1, 0.9) for _ in range(2))
        more.append(SimulatedGenerator(f"shapes-drawn-{i + 1:02d}", **rates, blur=blur, haze=haze))
    return (*GENERATORS, *more)


def imagine(prompt: ScenePrompt, generator: SimulatedGenerator, rng: np.random.Generator) -> Painted:
    """The picture that ``generator`` makes for ``prompt``, how far it is spoiled, and which faults were committed.

    What the prompt does not state is free and no fault. A single group that would be left out is always replaced, so that no
    picture is empty.
    """
    luck = 2 * float(rng.beta(*LUCK))
    scene, families = prompt.scene, set[str]()

    def errs(rate: float) -> bool:
        return rng.random() < min(rate * luck, 0.95)

    groups = [_free(group, prompt, i, rng) for i, group in enumerate(scene.groups)]
    for i, group in enumerate(groups):
        for name in ("color", "count", "size"):
            stated = name == "count" or name in prompt.stated[i]
            if errs(getattr(generator, name)) and stated:
                value: Any = other_value(name, getattr(group, name), rng)
                changed = replace(group, **{name: value})
                if changed.count <= len(region_cells(group.region)):
                    group = changed
                    families.add(name)
        denied = prompt.not_color[i]
        if denied and errs(generator.negation):
            group = replace(group, color=denied)
            families.add("negation")
        groups[i] = group
    if len(groups) > 1 and errs(generator.swapped):
        i, j = (int(k) for k in rng.permutation(len(groups))[:2])
        a, b = groups[i], groups[j]
        if (a.color, a.size) != (b.color, b.size):
            groups[i], groups[j] = replace(a, color=b.color, size=b.size), replace(b, color=a.color, size=a.size)
            families.add("swapped")
    wrong_layout = errs(generator.relation) and len(groups) > 1
    layout = _lay_out(scene, [group.count for group in groups], wrong_layout, rng)
    if layout_relations(layout) != layout_relations([group.region for group in scene.groups]):
        families.add("relation")
    unused = [shape for shape in SHAPES if scene.find(shape) is None and shape != prompt.absent]
    painted: list[Group] = []
    for group, region in zip(groups, layout, strict=True):
        shape = group.shape
        if errs(generator.missing):
            families.add("missing")
            if not unused or (len(groups) > 1 and rng.random() < 0.5):
                continue
            shape = unused.pop(int(rng.integers(len(unused))))
        painted.append(replace(group, shape=shape, region=region))
    if not painted:  # every group was left out: keep the first
        painted.append(replace(groups[0], region=layout[0]))
    if prompt.absent is not None and errs(generator.negation):
        free = sorted({0, 1, 2, 3} - {group.quadrant for group in painted})
        region = free[int(rng.integers(len(free)))]
        color, size = COLORS[rng.integers(len(COLORS))], SIZES[rng.integers(len(SIZES))]
        painted.append(Group(prompt.absent, color, size, int(rng.integers(1, 4)), region))
        families.add("negation")
    severities = {name: _severity(getattr(generator, name), luck, rng) for name in ("blur", "haze", "grain")}
    families |= {name for name, severity in severities.items() if severity > 0}
    return Painted(Scene(tuple(painted)), Degradation(**severities), tuple(sorted(families)))


def _free(group: Group, prompt: ScenePrompt, number: int, rng: np.random.Generator) -> Group:
    """The group with what the prompt leaves open drawn anew."""
    stated, denied = prompt.stated[number], prompt.not_color[number]
    if "color" not in stated:
        choices = [color for color in COLORS if color != denied]
        group = replace(group, color=choices[int(rng.integers(len(choices)))])
    if "size" not in stated:
        group = replace(group, size=SIZES[int(rng.integers(len(SIZES)))])
    return group


def _lay_out(scene: Scene, counts: list[int], wrong: bool, rng: np.random.Generator) -> tuple[int, ...]:
    """Regions that keep all stated relations, or that break at least one, with room for ``counts`` objects."""
    stated = layout_relations([group.region for group in scene.groups])
    room = [layout for layout in layouts(len(counts)) if fits(counts, layout)]
    choices = [layout for layout in room if (layout_relations(layout) != stated) == wrong]
    return choices[int(rng.integers(len(choices)))]


def _severity(setting: tuple[float, float, float], luck: float, rng: np.random.Generator) -> float:
    probability, low, high = setting
    spoiled = rng.random() < min(probability * luck, 0.95)
    return sample_severity(low, high, rng) if spoiled else 0.0
