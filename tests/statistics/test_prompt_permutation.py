"""Both sides of every swap, counted in one walk, equal the general walk over each side."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from t2i_eval_kedro.statistics.kernels import RankSums, lanes, plan, rank_sums
from t2i_eval_kedro.statistics.prompt_permutation import ExchangeTable, exchanged_sums


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 30), st.integers(1, 12), st.integers(1, 40), st.integers(1, 40), st.integers(0, 10**6))
def test_both_sides_equal_the_general_walk(n, groups, values_x, values_y, seed):
    rng = np.random.default_rng(seed)
    a, b = (rng.integers(0, values_x, n).astype(float) for _ in range(2))
    y, group = rng.integers(0, values_y, n).astype(float), rng.integers(0, groups, n)
    table = rng.integers(0, 2, (3, groups))
    sides = exchanged_sums(a, b, y, group, ExchangeTable.of(table))
    order = plan(np.r_[a, b], np.r_[y, y], np.r_[group, group + groups])
    for found, weights in zip(sides, (np.hstack([1 - table, table]), np.hstack([table, 1 - table])), strict=True):
        expected = rank_sums(order, lanes(weights), 3)
        for name in RankSums.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
