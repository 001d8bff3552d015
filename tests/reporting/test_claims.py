from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from t2i_eval_kedro.reporting import claims
from t2i_eval_kedro.reporting.inputs import ReportInputs

MakeSummary = Callable[..., dict[str, Any]]
MakePair = Callable[..., dict[str, object]]


def supported(inputs: ReportInputs) -> str:
    return " ".join(claims.may_conclude(claims.subject(inputs), inputs))


def unsupported(inputs: ReportInputs) -> str:
    return " ".join(claims.may_not_conclude(claims.subject(inputs), inputs)).replace("\N{NO-BREAK SPACE}", " ")


def headline(inputs: ReportInputs) -> str:
    return claims.headline(claims.subject(inputs)).replace("\N{NO-BREAK SPACE}", " ")


def test_headline_names_the_trained_judge_even_where_another_is_higher(inputs: ReportInputs) -> None:
    assert headline(inputs) == (
        "On 36 held-out synthetic items (12 prompts) the judge trained by SFT agrees with simulated raters’ overall ratings "
        "at Spearman ρ 0.75 [0.70, 0.80]; the untrained judge 0.14 [0.09, 0.19]."
    )


def test_headline_of_recorded_metrics_names_highest_and_lowest(make_summary: MakeSummary) -> None:
    text = headline(ReportInputs(summary=make_summary(bleu=0.2, tifa=0.6, clip=0.3), card={"synthetic": False}))
    assert text == (
        "On 36 items the evaluator that agrees most with people’s overall ratings is tifa, at Spearman ρ 0.60 [0.55, 0.65]; "
        "the least of the 3 is bleu, at 0.20 [0.15, 0.25]."
    )


def test_headline_says_why_nothing_was_measured(make_summary: MakeSummary) -> None:
    given = make_summary(sft=None)
    for cell in given["evaluators"]["sft"]["overall"].values():
        cell["reason"] = "no ratings"
    assert headline(ReportInputs(summary=given)) == "No agreement with people could be measured on shapes: no ratings."


def test_all_items_are_not_called_held_out(inputs: ReportInputs) -> None:
    assert "held-out" not in headline(replace(inputs, summary={**inputs.summary, "fold": "all"}))


def test_the_headline_dimension_can_be_chosen(inputs: ReportInputs) -> None:
    assert "appearance ratings" in headline(replace(inputs, summary={**inputs.summary, "primary": "appearance"}))


@pytest.mark.parametrize(("value", "shown"), [(0.3, True), (0.04, False), (-0.3, True)])
def test_agreement_is_claimed_only_where_the_interval_excludes_zero(
    make_summary: MakeSummary, value: float, shown: bool
) -> None:
    inputs = ReportInputs(summary=make_summary(sft=value))
    assert ("the interval excludes zero" in supported(inputs)) is shown
    assert ("agrees with people at all is not shown" in unsupported(inputs)) is not shown
    assert ("orders images against people" in supported(inputs)) is (value < -0.05)


def test_differences_are_sorted_by_whether_they_exclude_zero(make_summary: MakeSummary, make_pair: MakePair) -> None:
    given = make_summary(sft=0.7, grpo=0.68, base=0.1)
    given["significance"] = [make_pair("base", "sft", -0.6, 0.1), make_pair("sft", "grpo", 0.02, 0.1)]
    inputs = ReportInputs(summary=given)
    assert "sft minus base 0.60" in supported(inputs)
    assert "sft minus grpo 0.02 [−0.08, 0.12]" in unsupported(inputs)
    assert "not corrected for their number" in unsupported(inputs)


def test_holm_decides_where_it_was_computed(make_summary: MakeSummary, make_pair: MakePair) -> None:
    given = make_summary(a=0.7, b=0.5, c=0.1)
    given["significance"] = [
        make_pair("a", "b", 0.2, 0.1, p_holm=0.2),
        make_pair("a", "c", 0.6, 0.1, p_holm=0.001),
        make_pair("b", "c", 0.4, 0.5, p_holm=0.3),
    ]
    assert "Holm’s correction for 3 comparisons, 1 of these differences has" in supported(ReportInputs(summary=given))
    for row in given["significance"]:
        row["p_holm"] = 0.3
    assert "no difference has a p-value below 0.05" in unsupported(ReportInputs(summary=given))
    given["settings"] = {"n_resamples": 50, "confidence": 0.95}
    assert "cannot be tested together: with 50 random swaps" in unsupported(ReportInputs(summary=given))


def test_few_prompts_and_wide_intervals_are_said(make_summary: MakeSummary) -> None:
    given = make_summary(sft=0.5)
    assert "only" not in unsupported(ReportInputs(summary={**given, "data": {"overall": {"n_prompts": 100}}}))
    given["evaluators"]["sft"]["overall"]["spearman"] |= {"low": 0.1, "high": 0.9}
    text = unsupported(ReportInputs(summary={**given, "data": {"overall": {"n_prompts": 4}}}))
    assert "There are only 4 prompts." in text
    assert "its interval is 0.80 wide, from 0.10 to 0.90" in text


def test_a_human_teacher_and_synthetic_data_are_said(make_summary: MakeSummary) -> None:
    given = make_summary(sft=0.5, teacher=0.9)
    real = ReportInputs(summary={**given, "teacher": "human"}, card={"synthetic": False})
    assert "of training prompts only" in unsupported(real)
    assert "are synthetic" not in unsupported(real)
    made = ReportInputs(summary=given, card={"synthetic": True})
    assert "are synthetic" in unsupported(made)
    assert "reads the truth behind each scene" in unsupported(made)


def test_unparsed_answers_are_said_with_their_share(make_summary: MakeSummary) -> None:
    given = make_summary(sft=0.5, base=0.1)
    assert "no score" not in unsupported(ReportInputs(summary=given))
    given["counts"]["base"]["overall"] = {"ok": 30, "unparsed": 10, "failed": 0, "missing": 0}
    assert "Some items have no score (base 25%)" in unsupported(ReportInputs(summary=given))


@pytest.mark.parametrize(("reward", "learned"), [(0.8, True), (0.7, False)])
def test_reward_is_held_against_the_best_constant_answer(
    make_summary: MakeSummary, reward: float, learned: bool
) -> None:
    curve = pd.DataFrame({"step": range(20), "reward": [0.5] * 10 + [reward] * 10, "best_constant_reward": 0.718})
    inputs = ReportInputs(summary=make_summary(grpo=0.5), grpo_curve=curve)
    assert ("above the 0.718" in supported(inputs)) is learned
    assert ("is not above the 0.718" in unsupported(inputs)) is not learned
