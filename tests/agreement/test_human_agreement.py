"""Sections of the summary about raters."""

from __future__ import annotations

import numpy as np
import pytest

from t2i_eval_kedro.agreement import human_agreement

TABLE = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float)


def test_one_rater_and_published_means_have_no_reliability():
    one = np.ones((5, 1))
    assert "one rater" in human_agreement.rater_agreement(one, False)["reason"]
    assert human_agreement.noise_ceiling(one, False)["spearman"]["value"] is None
    assert human_agreement.leave_one_out_baseline(one, np.arange(5.0))["spearman"]["rater"] is None


def test_unidentified_raters_have_one_way_coefficients_only():
    found = human_agreement.rater_agreement(TABLE, unidentified=True)
    assert found["icc_1"]["value"] == pytest.approx(0.17, abs=0.005)
    assert found["icc_2"]["value"] is None
    assert "slots" in found["weighted_kappa"]["reason"]


def test_the_baseline_tells_rater_and_judge_apart():
    judge = np.array([1.0, 2, 3, 6, 5, 4])  # agrees badly with every rater
    found = human_agreement.leave_one_out_baseline(TABLE, judge)["spearman"]
    assert found["rater"] > 0.5
    assert found["judge"] < found["rater"] - 0.5


def test_correction_for_attenuation_divides_by_the_ceiling():
    figures = {"spearman": {"value": 0.6}, "pearson": {"value": None}}
    human_agreement.add_attenuation_correction(figures, {"spearman": {"value": 0.8}, "pearson": {"value": 0.9}})
    assert figures["spearman"]["corrected_for_attenuation"] == 0.75
    assert figures["pearson"]["corrected_for_attenuation"] is None
