"""Figures of heat maps, against values worked out by hand and an independent AUC."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from t2i_eval_kedro.statistics.heat_maps import NAMES, heat_map_figures, map_figures

TRUE = np.array([[0.0, 0.0], [0.0, 1.0]])


def test_four_pixels_by_hand() -> None:
    figures = map_figures(TRUE, np.array([[0.0, 0.1], [0.1, 0.8]]))
    assert figures["kld"] == pytest.approx(np.log(1 / 0.8))
    assert figures["sim"] == pytest.approx(0.8)
    predicted = np.array([0.0, 0.1, 0.1, 0.8])
    assert figures["nss"] == pytest.approx((0.8 - 0.25) / predicted.std())
    assert figures["cc"] == pytest.approx(np.corrcoef([0, 0, 0, 1], predicted)[0, 1])
    assert figures["auc_judd"] == 1


def test_a_perfect_map_and_one_that_is_the_same_everywhere() -> None:
    rng = np.random.default_rng(0)
    true = rng.random((20, 30))
    perfect = map_figures(true, true)
    assert (perfect["kld"], perfect["cc"], perfect["sim"]) == pytest.approx((0, 1, 1))
    flat = map_figures(TRUE, np.full((2, 2), 0.3))
    assert flat == pytest.approx({"kld": np.log(4), "cc": 0, "sim": 0.25, "nss": 0, "auc_judd": 0.5})
    assert flat == map_figures(TRUE, np.zeros((2, 2)))


def test_auc_is_the_area_under_the_curve_ties_included() -> None:
    rng = np.random.default_rng(1)
    true, predicted = rng.random((40, 40)), np.round(rng.random((40, 40)), 1)
    expected = roc_auc_score((true >= 0.5 * true.max()).ravel(), predicted.ravel())
    assert map_figures(true, predicted)["auc_judd"] == pytest.approx(expected)


def test_empty_maps_are_apart() -> None:
    empty, hot = np.zeros((2, 2)), np.full((2, 2), 0.5)
    figures = heat_map_figures([(empty, hot), (empty, empty), (TRUE, TRUE), (TRUE, hot)])
    assert (figures["n"], figures["n_empty"], figures["n_constant"]) == (4, 2, 1)
    assert figures["mse_empty"] == pytest.approx(0.125)
    assert figures["mse"] == pytest.approx((0.25 + 0 + 0 + 0.25) / 4)
    assert figures["sim"] == pytest.approx((1 + 0.25) / 2)
    nothing = heat_map_figures([(empty, empty)])
    assert [nothing[name] for name in NAMES] == [None] * 5


@pytest.mark.parametrize("wrong", [np.zeros((2, 3)), np.full((2, 2), np.nan), np.full((2, 2), -1.0)])
def test_what_is_no_heat_map_is_refused(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"pixels|negative"):
        map_figures(TRUE, wrong)
