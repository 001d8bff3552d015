"""Labels and preferences against tables counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from t2i_eval_kedro.statistics.binary_metrics import element_labels, preference_hits
from t2i_eval_kedro.statistics.pooled import Weights

SCORES = np.array([0.9, 0.5, 0.8, 0.7, 0.2, 0.1, 0.4, 0.6])
LABELS = np.array([1.0, 1.0, 0.0, 1 / 3, 0.5, 0.0, 2 / 3, 0.2])


def test_precision_and_recall_are_not_exchanged_in_a_table_counted_by_hand():
    # Judge present: items 0, 1, 2, 3, 7; people present (0.5 or more): 0, 1, 4, 6. TP 2, FP 3, FN 2, TN 1.
    found = element_labels(SCORES, LABELS, np.arange(8), Weights(np.ones((1, 8), dtype=np.int64)))
    assert found.accuracy[0] == 3 / 8
    assert found.precision[0] == 2 / 5
    assert found.recall[0] == 2 / 4
    assert found.f1[0] == pytest.approx(2 * 2 / (2 * 2 + 3 + 2))


def test_weighted_labels_equal_sklearn_on_the_labels_written_out():
    rng = np.random.default_rng(0)
    row, table = np.array([0, 0, 1, 1, 2, 2, 3, 3]), rng.integers(0, 3, (20, 4))
    found = element_labels(SCORES, LABELS, row, Weights(table))
    for k, weights in enumerate(table):
        copies = weights[row]
        true, predicted = np.repeat(LABELS >= 0.5, copies), np.repeat(SCORES >= 0.5, copies)
        if not (true & predicted).any():
            continue
        assert found.accuracy[k] == pytest.approx(metrics.accuracy_score(true, predicted))
        assert found.precision[k] == pytest.approx(metrics.precision_score(true, predicted))
        assert found.recall[k] == pytest.approx(metrics.recall_score(true, predicted))
        assert found.f1[k] == pytest.approx(metrics.f1_score(true, predicted))


def test_without_a_positive_label_precision_and_recall_are_undefined():
    found = element_labels(np.zeros(3), np.zeros(3), np.arange(3), Weights(np.ones((1, 3), dtype=np.int64)))
    assert found.accuracy[0] == 1
    assert np.isnan([found.precision[0], found.recall[0], found.f1[0]]).all()


def test_a_tie_of_the_judge_counts_one_half_and_a_tie_of_the_rater_is_left_out():
    difference = np.array([2.0, 2.0, 0.0, 0.0, -1.0, 0.5])
    preferred = np.array([1, -1, 1, 0, -1, 0], dtype=np.int8)
    exact, half = preference_hits(difference, preferred)
    assert exact.tolist() == [1, 0, 0, 1, 1, 0]
    np.testing.assert_array_equal(half, [1, 0, 0.5, np.nan, 1, np.nan])
