"""Agreement of raters against published worked examples and simulated truth."""

from __future__ import annotations

import numpy as np
import pytest

from t2i_eval_kedro.agreement import human_agreement
from t2i_eval_kedro.statistics import reliability
from t2i_eval_kedro.statistics.correlation import pearson

SHROUT_FLEISS = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float)


def simulated(n=4000, k=3, noise=1.0, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=n)
    return truth, truth[:, None] + noise * rng.normal(size=(n, k))


def test_icc_of_the_worked_example():
    found = reliability.icc(SHROUT_FLEISS)  # Shrout and Fleiss (1979), tables 2 and 4
    assert (round(found.one, 2), round(found.agreement, 2), round(found.consistency, 2)) == (0.17, 0.29, 0.71)


def test_icc_with_unequal_numbers_is_close_to_the_full_one():
    _, table = simulated()
    full = reliability.icc(table).one
    table[::3, 2] = np.nan
    part = reliability.icc(table)
    assert part.one == pytest.approx(full, abs=0.03)
    assert np.isnan(part.agreement)


@pytest.mark.parametrize("unidentified", [True, False])
@pytest.mark.parametrize("statistic", ["spearman", "pearson"])
def test_the_ceiling_is_what_the_truth_reaches(unidentified, statistic):
    truth, table = simulated()
    reached = np.corrcoef(truth, table.mean(axis=1))[0, 1]
    assert reliability.noise_ceiling(table, statistic, unidentified) == pytest.approx(reached, abs=0.03)


def test_the_human_level_and_a_judge_that_is_one_more_rater():
    truth, table = simulated(noise=1.0)
    judge = truth + np.random.default_rng(9).normal(size=len(truth))
    human, machine = reliability.leave_one_rater_out(table, "pearson", judge)
    assert human.mean() == pytest.approx(machine.mean(), abs=0.02)
    assert machine.mean() < pearson(judge, table.mean(axis=1))


def test_alpha_and_kappas():
    assert reliability.alpha(np.array([[1.0, 1], [2, 2], [3, 3]])) == 1
    assert np.isnan(reliability.alpha(np.array([[1.0, 1], [1, 1]])))
    assert np.isnan(reliability.alpha(np.array([[1.0, np.nan], [np.nan, 1]])))
    assert reliability.fleiss(np.array([[1.0, 1, 1], [2, 2, 2]])) == 1
    assert np.isnan(reliability.fleiss(np.ones((4, 3))))
    table = np.tile([[1.0, 1, 2], [2, 2, 1], [3, 3, 3]], (2, 1))
    kappas = reliability.weighted_kappas(table)
    assert len(kappas) == 3
    assert kappas[0] == 1
    assert kappas[1] == kappas[2] < 1


def test_one_rater_and_published_means_have_no_reliability():
    one = np.ones((5, 1))
    assert "one rater" in human_agreement.rater_agreement(one, False)["reason"]
    assert human_agreement.noise_ceiling(one, False)["spearman"]["value"] is None
    assert human_agreement.leave_one_out_baseline(one, np.arange(5.0))["spearman"]["rater"] is None


def test_unidentified_slots_have_one_way_figures_only():
    found = human_agreement.rater_agreement(SHROUT_FLEISS, unidentified=True)
    assert found["icc_1"]["value"] == pytest.approx(0.17, abs=0.005)
    assert found["icc_2"]["value"] is None
    assert "slots" in found["weighted_kappa"]["reason"]
