"""Coarse labels of simulated annotators, against the exact masks that they are drawn from."""

from __future__ import annotations

import numpy as np
import pytest

from t2i_eval_kedro.shapes.annotations import INVENTED, MISSED, annotate

RNG = np.random.default_rng(0)


def disc() -> np.ndarray:
    y, x = np.mgrid[:128, :128]
    return (x - 40) ** 2 + (y - 60) ** 2 < 400


def two() -> np.ndarray:
    mask = disc()
    mask[100:110, 90:120] = True
    return mask


def test_a_box_is_the_bounding_box_of_each_fault() -> None:
    ((first, second),) = annotate(two(), "boxes", RNG)
    assert second == {"bbox_type": 1, "bbox": [{"x": 90.0, "y": 100.0}, {"x": 119.0, "y": 109.0}]}
    rows, columns = np.nonzero(disc())
    assert [first["bbox"][0]["x"], first["bbox"][1]["y"]] == [columns.min(), rows.max()]


def test_a_polygon_is_convex_clockwise_and_holds_the_fault() -> None:
    ((region, _),) = annotate(two(), "polygons", RNG)
    corners = np.array([(p["x"], p["y"]) for p in region["bbox"]])
    edges = np.roll(corners, -1, axis=0) - corners
    following = np.roll(edges, -1, axis=0)
    assert (edges[:, 0] * following[:, 1] - edges[:, 1] * following[:, 0] >= -1e-9).all()
    assert 40 - 20 - 3 < corners[:, 0].min() < 40 - 19
    margin = (np.ptp(corners[:, 0]) - 38) / 2
    assert margin == pytest.approx(0.02 * 128, abs=0.1)


def test_sloppy_annotators_miss_and_invent_as_often_as_they_should() -> None:
    rng = np.random.default_rng(1)
    drawn = [len(one) for _ in range(400) for one in annotate(disc(), "sloppy", rng)]
    nothing = [len(one) for _ in range(400) for one in annotate(np.zeros((64, 64), bool), "sloppy", rng)]
    assert np.mean(nothing) == pytest.approx(INVENTED, abs=0.03)
    assert np.mean(drawn) == pytest.approx(1 - MISSED + INVENTED, abs=0.04)
    boxes = [one[0]["bbox"] for _ in range(200) for one in annotate(disc(), "sloppy", rng) if one]
    widths = [box[1]["x"] - box[0]["x"] for box in boxes]
    assert np.mean(widths) == pytest.approx(39 * 1.2, rel=0.06)
    assert np.std(widths) == pytest.approx(39 * 0.15 * 2**0.5, rel=0.3)


def test_nobody_draws_exact_labels() -> None:
    with pytest.raises(ValueError, match="nobody draws 'exact'"):
        annotate(disc(), "exact", RNG)
