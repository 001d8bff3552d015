"""Rankings of generators."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from t2i_eval_kedro.statistics import ranking
from t2i_eval_kedro.statistics.pooled import Weights


def test_means_under_weights_leave_real_photographs_out():
    values, generator, row = np.array([1.0, 2, 3, 9]), np.array([0, 1, 0, -1]), np.array([0, 0, 1, 1])
    found = ranking.generator_means(values, generator, 2, row, Weights(np.array([[1, 1], [2, 0], [0, 1]])))
    np.testing.assert_allclose(found, [[2, 2], [1, 2], [3, np.nan]])


def test_agreement_of_means_equals_scipy():
    rng = np.random.default_rng(0)
    a, b = np.round(rng.normal(size=(20, 6)), 1), np.round(rng.normal(size=(20, 6)), 1)
    found = ranking.compare_means(a, b)
    for k in range(20):
        assert found.kendall_b[k] == pytest.approx(stats.kendalltau(a[k], b[k]).statistic)
        assert found.spearman[k] == pytest.approx(stats.spearmanr(a[k], b[k]).statistic)
        assert found.pearson[k] == pytest.approx(stats.pearsonr(a[k], b[k]).statistic)


def test_soft_accuracy_of_people_with_themselves_is_one_and_with_the_reverse_is_low():
    rng = np.random.default_rng(0)
    prompt, generator = np.repeat(np.arange(60), 4), np.tile(np.arange(4), 60)
    values = generator * 0.5 + rng.normal(size=240)
    signs = rng.choice([-1.0, 1.0], size=(500, 60))
    own = ranking.order_p_values(values, generator, 4, prompt, signs)
    other = ranking.order_p_values(-values, generator, 4, prompt, signs)
    assert ranking.soft_pairwise_accuracy(own, own) == 1
    assert ranking.soft_pairwise_accuracy(own, other) < 0.1
    # Every later generator is better by at least half a standard deviation, so p that the earlier is better is near 1.
    assert (own > 0.85).all()


def test_p_values_of_generators_equal_scipys_permutation_test():
    rng = np.random.default_rng(4)
    prompt, generator = np.repeat(np.arange(12), 2), np.tile([0, 1], 12)
    values = rng.normal(size=24) + 0.3 * (generator == 0)
    signs = rng.choice([-1.0, 1.0], size=(20_000, 12))
    a, b = values[generator == 0], values[generator == 1]
    exact = stats.permutation_test(
        (a, b), lambda x, y: np.mean(x - y), permutation_type="samples", alternative="greater", n_resamples=np.inf
    ).pvalue
    assert ranking.order_p_values(values, generator, 2, prompt, signs)[0] == pytest.approx(exact, abs=0.01)


def test_p_values_of_two_equal_generators_are_one_half():
    prompt, generator = np.repeat(np.arange(10), 2), np.tile([0, 1], 10)
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(99, 10))
    assert ranking.order_p_values(np.ones(20), generator, 2, prompt, signs) == pytest.approx([0.5])


def test_rank_probabilities_share_ties_out():
    found = ranking.rank_probabilities(np.array([[3.0, 2, 1], [1.0, 1, 0], [np.nan, 1, 0]]))
    np.testing.assert_allclose(found, [[0.75, 0.25, 0], [0.25, 0.75, 0], [0, 0, 1]])


@pytest.mark.parametrize("unit", [1e-14, 1e-160, 1e160])
def test_agreement_of_means_does_not_depend_on_the_unit_of_the_scores(unit):
    rng = np.random.default_rng(0)
    a, b = np.round(rng.normal(size=(20, 9)), 1), np.round(rng.normal(size=(20, 9)), 1)
    plain, scaled = ranking.compare_means(a, b), ranking.compare_means(a * unit, b)
    for name in ("kendall_b", "spearman", "pearson", "pairwise_accuracy"):
        np.testing.assert_allclose(getattr(scaled, name), getattr(plain, name), atol=1e-12, err_msg=name)
    np.testing.assert_array_equal(ranking.rank_probabilities(a * unit), ranking.rank_probabilities(a))
    one, other = (ranking.kendall_over_generators(v, b[0], 50, 0) for v in (a[0], a[0] * unit))
    np.testing.assert_allclose(one, other)


def test_means_that_differ_by_rounding_only_are_ties():
    judge = np.array([[0.1 + 0.2, 0.3, 0.0, 1e-17]])
    assert ranking.compare_means(judge, np.array([[1.0, 1, 0, 0]])).pairwise_accuracy[0] == 1
