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


def test_a_fold_is_scored_with_the_threshold_of_the_others():
    # In half of the prompts small differences mean ties, in the other half they do not.
    rng = np.random.default_rng(0)
    prompts = [np.arange(4 * p, 4 * p + 4) for p in range(40)]
    y = rng.integers(1, 4, 160).astype(float)
    x = y + rng.uniform(-0.2, 0.2, 160)
    found = tie_calibrated(x, y, tuple(prompts), folds=2, seed=1)
    assert len(found.thresholds) == 2
    assert np.nanmean(found.by_prompt) > 0.95
    fold = np.random.default_rng(1).permutation(40) % 2
    changed = y.copy()
    for p in np.flatnonzero(fold == 0):
        changed[prompts[p]] = rng.permutation(y[prompts[p]])
    again = tie_calibrated(x, changed, tuple(prompts), folds=2, seed=1)
    # Fold 0 is scored with the threshold from fold 1, which has not changed.
    assert again.thresholds[0] == found.thresholds[0]


def test_one_prompt_alone_cannot_be_calibrated():
    found = tie_calibrated(np.array([1.0, 2]), np.array([1.0, 2]), (np.array([0, 1]),))
    assert np.isnan(found.by_prompt).all()
    assert found.thresholds == ()
