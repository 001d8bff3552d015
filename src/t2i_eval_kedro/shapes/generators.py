"""Simulated text-to-image generators: each reads a prompt's scene and gets some of it wrong in its own way."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from t2i_eval_kedro.shapes.render import Degradation
from t2i_eval_kedro.shapes.scene import COLORS, SHAPES, SIZES, Group, Scene, layout_relations, layouts


@dataclass(frozen=True)
class SimulatedGenerator:
    """One simulated generator.

    Attributes:
        name: as it stands in the ``generator`` column.
        color, count, size, missing: probability that a group gets the wrong one, or is left out (half of the time
            another shape takes its place).
        relation: probability that the groups are laid out against the stated relations.
        blur, haze: (probability, lowest, highest severity) of the degradation.
    """

    name: str
    color: float = 0.04
    count: float = 0.04
    size: float = 0.04
    missing: float = 0.02
    relation: float = 0.04
    blur: tuple[float, float, float] = (0.05, 0.1, 0.4)
    haze: tuple[float, float, float] = (0.05, 0.1, 0.4)

    @property
    def short_name(self) -> str:
        """The name without the benchmark's prefix, as used in item ids."""
        return self.name.removeprefix("shapes-")


#: Six generators, from a careful one to weak ones; their main faults differ.
GENERATORS = (
    SimulatedGenerator("shapes-careful", 0.02, 0.02, 0.02, 0.01, 0.02, (0.03, 0.1, 0.3), (0.03, 0.1, 0.3)),
    SimulatedGenerator("shapes-palette", color=0.6, size=0.2, haze=(0.2, 0.1, 0.4)),
    SimulatedGenerator("shapes-miscount", count=0.7, size=0.35, blur=(0.2, 0.1, 0.4)),
    SimulatedGenerator("shapes-forgetful", missing=0.45, color=0.12, count=0.12, blur=(0.15, 0.1, 0.5)),
    SimulatedGenerator("shapes-mirror", relation=0.7, color=0.1, count=0.1, haze=(0.3, 0.2, 0.5)),
    SimulatedGenerator("shapes-misty", color=0.08, count=0.08, blur=(0.55, 0.25, 0.9), haze=(0.55, 0.25, 0.9)),
)


def imagine(scene: Scene, generator: SimulatedGenerator, rng: np.random.Generator) -> tuple[Scene, Degradation]:
    """The scene that ``generator`` paints for the prompt of ``scene``, and how far it spoils the picture.

    The painted groups stand in the prompt's order; one that was left out is absent. A single group that would be left
    out is always replaced, so that no picture is empty.
    """
    groups = [_distort(group, generator, rng) for group in scene.groups]
    layout = _lay_out(scene, rng.random() < generator.relation, rng)
    unused = [shape for shape in SHAPES if scene.find(shape) is None]
    painted: list[Group] = []
    for group, quadrant in zip(groups, layout, strict=True):
        shape = group.shape
        if rng.random() < generator.missing:
            if not unused or (len(groups) > 1 and rng.random() < 0.5):
                continue
            shape = unused.pop(int(rng.integers(len(unused))))
        painted.append(replace(group, shape=shape, quadrant=quadrant))
    if not painted:  # every group was left out: keep the first
        painted.append(replace(groups[0], quadrant=layout[0]))
    return Scene(tuple(painted)), Degradation(_severity(generator.blur, rng), _severity(generator.haze, rng))


def _distort(group: Group, generator: SimulatedGenerator, rng: np.random.Generator) -> Group:
    if rng.random() < generator.color:
        group = replace(group, color=_other(COLORS, group.color, rng))
    if rng.random() < generator.count:
        group = replace(group, count=int(_other(("1", "2", "3"), str(group.count), rng)))
    if rng.random() < generator.size:
        group = replace(group, size=_other(SIZES, group.size, rng))
    return group


def _other(values: tuple[str, ...], value: str, rng: np.random.Generator) -> str:
    rest = [v for v in values if v != value]
    return rest[int(rng.integers(len(rest)))]


def _lay_out(scene: Scene, wrong: bool, rng: np.random.Generator) -> tuple[int, ...]:
    """Quadrants that keep all stated relations, or that break at least one."""
    stated = layout_relations([group.quadrant for group in scene.groups])
    choices = [p for p in layouts(len(scene.groups)) if (layout_relations(p) != stated) == (wrong and bool(stated))]
    return choices[int(rng.integers(len(choices)))]


def _severity(setting: tuple[float, float, float], rng: np.random.Generator) -> float:
    probability, low, high = setting
    return round(float(rng.uniform(low, high)), 3) if rng.random() < probability else 0.0
