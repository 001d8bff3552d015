"""Scenes: well formed, in regions that do not overlap, with relations that follow from where things are."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2i_eval_kedro.shapes.scene import (
    GROUP_SHARES,
    MAX_GROUPS,
    NUMBERS,
    Group,
    Scene,
    fits,
    layout_relations,
    layouts,
    region_cells,
    relation,
    sample_scene,
)

scenes = st.integers(0, 2**32).map(lambda seed: sample_scene(np.random.default_rng(seed)))
_REGIONS = range(20)


@given(scenes)
def test_a_scene_is_well_formed(scene: Scene) -> None:
    groups = scene.groups
    assert 1 <= len(groups) <= MAX_GROUPS
    assert len({g.shape for g in groups}) == len(groups)
    cells = [cell for g in groups for cell in region_cells(g.region)]
    assert len(set(cells)) == len(cells)
    assert all(1 <= g.count <= min(3, len(region_cells(g.region))) for g in groups)
    assert all(relation(a, b) is not None for a, b in pairwise(groups))
    assert Scene.from_json(scene.to_json()) == scene


def test_numbers_of_groups_follow_their_shares() -> None:
    rng = np.random.default_rng(0)
    counts = np.bincount([len(sample_scene(rng).groups) for _ in range(4000)], minlength=MAX_GROUPS + 1)[1:]
    np.testing.assert_allclose(counts / 4000, GROUP_SHARES, atol=0.03)
    assert {len(sample_scene(rng, 2).groups) for _ in range(200)} == {1, 2}


def _where(region: int) -> tuple[set[int], set[int]]:
    rows, columns = zip(*(divmod(cell, 4) for cell in region_cells(region)), strict=True)
    return set(rows), set(columns)


@pytest.mark.parametrize("first", _REGIONS)
@pytest.mark.parametrize("second", _REGIONS)
def test_a_relation_follows_from_rows_and_columns(first: int, second: int) -> None:
    a, b = (Group(shape, "red", "small", 1, region) for shape, region in (("circle", first), ("square", second)))
    (rows, columns), (other_rows, other_columns) = _where(first), _where(second)
    if set(region_cells(first)) & set(region_cells(second)):
        return  # no scene has both
    expected = None
    if rows & other_rows:
        expected = "left of" if max(columns) < min(other_columns) else "right of"
    elif columns & other_columns:
        expected = "above" if max(rows) < min(other_rows) else "below"
    assert relation(a, b) == expected
    opposite = {"left of": "right of", "right of": "left of", "above": "below", "below": "above", None: None}
    assert relation(b, a) == opposite[expected]


def test_halves_share_out_their_quadrant() -> None:
    for quadrant in range(4):
        for first in (0, 2):
            halves = [region_cells(4 + 4 * quadrant + first + k) for k in (0, 1)]
            assert sorted(halves[0] + halves[1]) == sorted(region_cells(quadrant))
        assert all(Group("star", "red", "small", 1, 4 + 4 * quadrant + h).quadrant == quadrant for h in range(4))


@pytest.mark.parametrize(("n", "number"), [(1, 4), (2, 8), (3, 8), (4, 8)])
def test_layouts_of_quadrants_are_all_paths_over_neighbours(n: int, number: int) -> None:
    assert len(set(layouts(n))) == len(layouts(n)) == number
    assert all(None not in layout_relations(layout) and len(set(layout)) == n for layout in layouts(n))


def test_layouts_of_five_groups_halve_one_quadrant() -> None:
    for layout in layouts(5):
        assert sum(region >= 4 for region in layout) == 2
        assert None not in layout_relations(layout)
        assert sum(len(region_cells(region)) for region in layout) == 16
    assert len(set(layouts(5))) == len(layouts(5)) > 8


def test_a_group_of_three_does_not_fit_half_a_quadrant() -> None:
    assert fits([2, 3], [4, 1])
    assert not fits([3, 3], [4, 1])


def test_numbers_cover_every_count_and_every_two_regions_of_a_partition_are_apart() -> None:
    assert NUMBERS == ("one", "two", "three")
    for layout in layouts(5):
        assert not any(set(region_cells(a)) & set(region_cells(b)) for a, b in combinations(layout, 2))
