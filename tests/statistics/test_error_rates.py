"""The tests between judges keep their level in samples made under the null hypothesis."""

from __future__ import annotations

import numpy as np
import pytest

from t2i_eval_kedro.statistics.error_rates import DEFAULT_TESTS, SimulationDesign, simulate, type_one_error


@pytest.mark.slow
@pytest.mark.parametrize("even", [True, False])
def test_under_the_null_hypothesis_three_to_seven_percent_of_p_values_are_at_most_5_percent(even):
    rejected = type_one_error(SimulationDesign(generators=4, even=even, prompts=40), simulations=1000, permutations=199)
    for name in DEFAULT_TESTS:
        assert 0.03 <= rejected[name] <= 0.07, (name, rejected[name])


def test_tests_that_take_items_as_independent_reject_too_often():
    # The reason for permuting whole prompts: items of one prompt share the errors of each judge.
    rejected = type_one_error(SimulationDesign(generators=16, even=True, prompts=30), simulations=300, permutations=99)
    assert rejected["items (PERM-BOTH), spearman"] > 0.08
    assert rejected["prompts, spearman"] < 0.08


def test_the_simulated_judges_are_exchangeable_and_on_other_scales():
    first, second = [], []
    for seed in range(60):
        a, b, y, prompt, generator = simulate(SimulationDesign(generators=5, even=True), np.random.default_rng(seed))
        assert (len(a), prompt.max() + 1, generator.max() + 1) == (200, 40, 5)
        first.append(np.corrcoef(a, y)[0, 1])
        second.append(np.corrcoef(b, y)[0, 1])
    assert np.mean(first) == pytest.approx(np.mean(second), abs=0.02)
    assert b.mean() == pytest.approx(3, abs=6)
    assert b.std() > 5 * a.std()
