"""Tie calibration: the threshold is the best one, and it never comes from the prompts that it scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t2i_eval_kedro.statistics.ties import best_threshold, pairs_within_groups, tie_calibrated


def accuracy(x, y, threshold):
    i, j, _ = pairs_within_groups((np.arange(len(x)),))
    gap = x[i] - x[j]
    said = np.where(np.abs(gap) <= threshold, 0, np.sign(gap))
    return (said == np.sign(y[i] - y[j])).mean()


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3)), min_size=2, max_size=15))
def test_the_best_threshold_beats_every_other(values):
    x, y = np.array(values, float).T
    i, j, _ = pairs_within_groups((np.arange(len(x)),))
    gap, wanted = x[i] - x[j], np.sign(y[i] - y[j])
    threshold, best = best_threshold(np.abs(gap), (np.sign(gap) == wanted) & (wanted != 0), wanted == 0)
    assert best == pytest.approx(accuracy(x, y, threshold))
    assert best == pytest.approx(max(accuracy(x, y, t) for t in [0, *np.abs(gap)]))


def test_the_threshold_comes_from_the_other_prompts():
    # Two prompts and two folds: each prompt is scored with the threshold of the other, which is wrong for it.
    x = np.array([0.0, 0.5, 1.0, 0.0, 0.5, 1.0])
    y = np.array([3.0, 3.0, 3.0, 1.0, 2.0, 3.0])
    found = tie_calibrated(x, y, (np.arange(3), np.arange(3, 6)))
    assert found.by_prompt.tolist() == [0, 0]
    assert sorted(found.thresholds) == [0, 1]


def test_ratings_of_a_prompt_never_move_the_threshold_that_scores_it():
    rng = np.random.default_rng(0)
    prompts = tuple(np.arange(4 * p, 4 * p + 4) for p in range(40))
    y = rng.integers(1, 4, 160).astype(float)
    x = y + rng.uniform(-0.2, 0.2, 160)
    before = tie_calibrated(x, y, prompts, seed=1)
    assert np.nanmean(before.by_prompt) > 0.9
    moved = np.zeros(2, dtype=int)
    for members in prompts:
        changed = y.copy()
        changed[members] = [1.0, 3, 1, 3]
        after = tie_calibrated(x, changed, prompts, seed=1)
        differ = np.array(after.thresholds) != before.thresholds
        assert differ.sum() <= 1
        moved += differ
    assert moved.sum() > 0


def test_one_prompt_alone_cannot_be_calibrated():
    found = tie_calibrated(np.array([1.0, 2]), np.array([1.0, 2]), (np.array([0, 1]),))
    assert np.isnan(found.by_prompt).all()
    assert found.thresholds == ()
