"""A sweep over the weights of a composite score."""

from __future__ import annotations

import pytest

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.statistics.sensitivity import simplex, weight_sweep


def test_the_grid_covers_the_simplex():
    grid = simplex(3, 4)
    assert len(grid) == len(set(grid)) == 15
    assert all(sum(weights) == pytest.approx(1) and min(weights) >= 0 for weights in grid)


def test_the_nearest_weights_at_which_the_winner_changes():
    entries = {"a": (0.80, 0.80, 0.70), "b": (0.70, 0.70, 0.78)}
    found = weight_sweep(entries, ("SRCC", "PLCC", "ACC"), (0.25, 0.25, 0.5))
    assert found["reference"]["winners"] == ["a"]
    assert found["nearest_change"]["winners"] == ["b"]
    assert found["nearest_change"]["weights"]["ACC"] == pytest.approx(0.6)
    assert sum(found["winners"].values()) == pytest.approx(1)


def test_an_entry_that_is_always_best_is_never_overtaken():
    found = weight_sweep({"a": (0.9, 0.9), "b": (0.1, 0.2)}, ("x", "y"), (0.5, 0.5))
    assert found["nearest_change"] is None
    assert found["winners"] == {"a": 1, "b": 0}


def test_broken_entries():
    with pytest.raises(T2IEvalError, match="'a' needs 2 finite figures"):
        weight_sweep({"a": (0.1,)}, ("x", "y"), (0.5, 0.5))
    with pytest.raises(T2IEvalError, match="at least one entry"):
        weight_sweep({}, ("x", "y"), (0.5, 0.5))
