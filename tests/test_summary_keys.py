"""Summaries written with the keys of an earlier release are read."""

from __future__ import annotations

from t2i_eval_kedro.summary_keys import with_current_keys

OLD = {
    "settings": {"level": 0.95, "missing": "drop", "seed": 0},
    "evaluators": {"share_of_ceiling": {"overall": {"spearman": {"value": 0.5, "share_of_ceiling": 0.6}}}},
    "counts": {"missing": {"overall": {"ok": 1, "missing": 2}}},
    "by": {"prompt": {"e": {"overall": {"spearman": {"value": 0.5}}}}},
    "ceiling": {"overall": {"spearman": {"value": 0.9}}},
    "raters": {"overall": {"n_raters": 3, "anonymous": False}},
    "human_level": {"e": {"overall": {"spearman": {"people": 0.7, "judge": 0.5}}}},
    "ranks": {"overall": {"spearman": {"e": {"rank": 1, "probability": [1.0]}}}},
    "significance": [{"a": "e", "b": "f", "statistic": "kendall_b_by_prompt", "p": 0.1}],
    "elements": {"e": {"accuracy": {"value": 0.8}, "missing": 3}},
    "published": [{"system": "s", "really": "Pearson's correlation"}],
}
NEW = {
    "settings": {"confidence": 0.95, "missing_policy": "drop", "seed": 0},
    "evaluators": {"share_of_ceiling": {"overall": {"spearman": {"value": 0.5, "corrected_for_attenuation": 0.6}}}},
    "counts": {"missing": {"overall": {"ok": 1, "not_applicable": 2}}},
    "within_group": {"prompt": {"e": {"overall": {"spearman": {"value": 0.5}}}}},
    "noise_ceiling": {"overall": {"spearman": {"value": 0.9}}},
    "raters": {"overall": {"n_raters": 3, "unidentified": False}},
    "leave_one_rater_out": {"e": {"overall": {"spearman": {"rater": 0.7, "judge": 0.5}}}},
    "ranks": {"overall": {"spearman": {"e": {"rank": 1, "rank_probability": [1.0]}}}},
    "significance": [{"a": "e", "b": "f", "statistic": "kendall_b_within_prompt", "p": 0.1}],
    "elements": {"e": {"accuracy": {"value": 0.8}, "n_unscored": 3}},
    "published": [{"system": "s", "actual_method": "Pearson's correlation"}],
}


def test_old_keys_are_read_and_an_evaluator_named_like_a_key_keeps_its_name():
    assert with_current_keys(OLD) == NEW


def test_a_summary_of_today_is_unchanged():
    assert with_current_keys(NEW) == NEW
