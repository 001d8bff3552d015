"""Swaps of single items inside prompts equal swapping by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.statistics.correlation import kendall_b, pairwise_accuracy
from t2i_eval_kedro.statistics.item_permutation import item_permutation


def mean(values):
    values = np.array(values)
    return values[np.isfinite(values)].mean() if np.isfinite(values).any() else np.nan


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 14), min_size=1, max_size=4), st.integers(1, 12), st.integers(0, 10**6))
def test_equals_swapping_by_hand(sizes, values, seed):
    rng = np.random.default_rng(seed)
    n = sum(sizes)
    groups = np.split(np.arange(n), np.cumsum(sizes)[:-1])
    a, b, c = (rng.integers(0, values, n).astype(float) for _ in range(3))
    y = rng.integers(0, 4, n).astype(float)
    used = [g for g in groups if len(g) > 1]
    if not used:
        return
    tau, accuracy = item_permutation([a, b, c], y, groups, [(0, 1), (2, 1)], 5, seed)
    swaps = np.random.default_rng(seed).integers(0, 2**64, size=(5, len(used)), dtype=np.uint64)
    for d in range(5):
        swapped = np.zeros(n, dtype=bool)
        for word, g in zip(swaps[d], used, strict=True):
            swapped[g] = [(int(word) >> k) & 1 for k in range(len(g))]
        for p, (x, z) in enumerate([(a, b), (c, b)]):
            one, other = np.where(swapped, z, x), np.where(swapped, x, z)
            for found, function in ((tau, kendall_b), (accuracy, pairwise_accuracy)):
                expected = mean([function(one[g], y[g]) for g in used]) - mean([function(other[g], y[g]) for g in used])
                assert found[p, d] == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_prompts_of_more_than_64_items_are_refused():
    with pytest.raises(T2IEvalError, match="at most 64"):
        item_permutation([np.zeros(65)] * 2, np.zeros(65), [np.arange(65)], [(0, 1)], 2, 0)
