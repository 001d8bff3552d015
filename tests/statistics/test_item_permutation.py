"""Item-level permutations within prompts against all exchanges of items, written out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.statistics.correlation import kendall_b, pairwise_accuracy
from t2i_eval_kedro.statistics.item_permutation import item_permutation


def mean(values):
    values = np.array(values)
    return values[np.isfinite(values)].mean() if np.isfinite(values).any() else np.nan


def difference(x, z, y, groups, exchanged, function):
    """Mean over groups of the first side's statistic minus that of the second, after items were exchanged."""
    one, other = np.where(exchanged, z, x), np.where(exchanged, x, z)
    return mean([function(one[g], y[g]) for g in groups]) - mean([function(other[g], y[g]) for g in groups])


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(2, 3), min_size=1, max_size=2), st.integers(1, 12), st.integers(0, 10**6))
def test_every_permutation_is_one_of_all_exchanges_and_the_same_for_every_pair(sizes, values, seed):
    rng = np.random.default_rng(seed)
    n = sum(sizes)
    groups = np.split(np.arange(n), np.cumsum(sizes)[:-1])
    a, b, c = (rng.integers(0, values, n).astype(float) for _ in range(3))
    y = rng.integers(0, 4, n).astype(float)
    tau, accuracy = item_permutation([a, b, c], y, groups, [(0, 1), (2, 1)], 40, seed)
    by_hand = {
        tuple(
            round(float(np.nan_to_num(difference(x, b, y, groups, np.array(exchanged), function), nan=9)), 9) + 0.0
            for function in (kendall_b, pairwise_accuracy)
            for x in (a, c)
        )
        for exchanged in itertools.product([False, True], repeat=n)
    }
    found = np.vstack([tau, accuracy]).T
    assert {tuple(round(float(v), 9) + 0.0 for v in row) for row in np.nan_to_num(found, nan=9)} <= by_hand


def test_every_exchange_is_equally_likely():
    rng = np.random.default_rng(0)
    a, b, y = (rng.normal(size=6) for _ in range(3))
    groups = [np.arange(3), np.arange(3, 6)]
    tau, _ = item_permutation([a, b], y, groups, [(0, 1)], 20_000, 1)
    expected = [
        difference(a, b, y, groups, np.array(exchanged), kendall_b)
        for exchanged in itertools.product([False, True], repeat=6)
    ]
    values, counts = np.unique(np.round(expected, 9), return_counts=True)
    found = np.array([(np.abs(tau[0] - v) < 1e-6).sum() for v in values])
    assert found.sum() == 20_000
    assert stats.chisquare(found, counts / 64 * 20_000).pvalue > 0.001


def test_a_prompt_of_64_items_equals_single_items_by_chance():
    rng = np.random.default_rng(1)
    a, b, y = (rng.normal(size=64) for _ in range(3))
    _, accuracy = item_permutation([a, b], y, [np.arange(64)], [(0, 1)], 4000, 2)
    by_hand = []
    for _ in range(400):
        exchanged = rng.integers(0, 2, 64).astype(bool)
        by_hand.append(difference(a, b, y, [np.arange(64)], exchanged, pairwise_accuracy))
    assert accuracy.mean() == pytest.approx(0, abs=0.01)
    assert accuracy.std() == pytest.approx(np.std(by_hand), rel=0.15)


def test_prompts_of_more_than_64_items_are_refused():
    with pytest.raises(T2IEvalError, match="at most 64"):
        item_permutation([np.zeros(65)] * 2, np.zeros(65), [np.arange(65)], [(0, 1)], 2, 0)
