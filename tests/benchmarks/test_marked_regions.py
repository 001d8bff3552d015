"""Regions of annotators that are odd: what counts, and what is counted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from benchmark_helpers import picture

from t2i_eval_kedro.benchmarks import read_benchmark
from t2i_eval_kedro.benchmarks.readers.evalmuse_structure import crosses_itself, marked_counts, signed_area

SQUARE = [(2, 2), (8, 2), (8, 8), (2, 8)]
PENTAGRAM = [(50, 5), (76, 86), (5, 36), (95, 36), (24, 86)]


def region(*corners: tuple[float, float], kind: int = 2) -> dict:
    return {"bbox_type": kind, "bbox": [{"x": x, "y": y} for x, y in corners]}


def mask_of(*regions: dict, width: int = 100, height: int = 100) -> np.ndarray:
    return marked_counts([list(regions)], width, height) > 0


def test_direction_and_start_of_a_polygon_do_not_change_its_area() -> None:
    assert signed_area(np.array(SQUARE, float)) == 36  # clockwise on a screen
    assert signed_area(np.array(SQUARE[::-1], float)) == -36
    same = [mask_of(region(*SQUARE[k:], *SQUARE[:k])) for k in range(4)] + [mask_of(region(*SQUARE[::-1]))]
    assert all((mask == mask_of(region((2, 2), (8, 8), kind=1))).all() for mask in same)


def test_a_polygon_that_crosses_itself_counts_with_all_that_it_encloses() -> None:
    assert crosses_itself(np.array(PENTAGRAM, float))
    assert not crosses_itself(np.array(SQUARE, float))
    assert not crosses_itself(np.array([(0, 0), (4, 4), (8, 0), (4, 4.5)], float))
    mask = mask_of(region(*PENTAGRAM))
    assert mask[50, 50]  # the middle, which the rule of odd crossings would leave out
    assert not mask[10, 10]
    # Its middle is enclosed too where the picture's edge cuts through it.
    moved = [(x - 50, y) for x, y in PENTAGRAM]
    assert (mask_of(region(*moved))[:, :50] == mask[:, 50:]).all()


def test_what_is_odd_is_counted_and_what_marks_nothing_is_excluded(tmp_path: Path) -> None:
    clipped, outside = region((-5, 2), (6, 8), kind=1), region((30, 1), (40, 5), kind=1)
    line, point = region((1, 1), (5, 5), (3, 3)), region((4, 4), (4, 9), kind=1)
    bow = region((2, 2), (10, 10), (10, 2), (2, 10))
    info = {
        "a.png": {"prompt_en": "a man", "mos": 3, "bbox_info": [[clipped, outside], [line, point], []]},
        "b.png": {"prompt_en": "a man", "mos": 3, "bbox_info": [[region(*SQUARE[::-1])], [bow], [outside]]},
        "c.png": {"prompt_en": "a man", "mos": 3, "bbox_info": [[outside], [], "none"]},
    }
    folder = tmp_path / "evalmuse_structure"
    folder.mkdir()
    (folder / "train_info.json").write_text(json.dumps(info))
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(picture(size=(20, 12)))
    made = read_benchmark("evalmuse_structure", tmp_path)
    counted = made.issues.groupby("kind")["count"].sum().to_dict()
    assert {kind: counted[kind] for kind in counted if kind.startswith("region_") or kind == "malformed_entry"} == {
        "region_clipped": 1,
        "region_outside": 2,  # the image of the third is not there, so nobody knows
        "region_empty": 2,
        "region_counterclockwise": 1,
        "region_self_intersecting": 1,
        "malformed_entry": 1,
    }
    kept = {row.item_id: json.loads(row.attributes)["regions"] for row in made.items.itertuples()}
    assert [[len(drawn) for drawn in kept[name]] for name in ("a.png", "b.png")] == [[1, 0, 0], [1, 1, 0]]
    issue = made.issues.set_index("kind").loc["region_outside"]
    assert "a.png" in issue["where"]
    assert issue["action"] == "region excluded"


@pytest.mark.parametrize("far", [1e3, 1e9, 1e15])
def test_corners_far_away_are_no_trouble(far: float) -> None:
    assert mask_of(region((-far, -far), (far, far), kind=1)).all()
    assert mask_of(region((-far, 40), (50, 40), (50, 60), (-far, 60)))[50, 10]
