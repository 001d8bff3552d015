from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from t2i_eval_kedro import schema
from t2i_eval_kedro.reporting import claims, views
from t2i_eval_kedro.reporting.inputs import ReportInputs

MakeSummary = Callable[..., dict[str, Any]]
MakePair = Callable[..., dict[str, object]]


def supported(inputs: ReportInputs) -> str:
    return " ".join(claims.may_conclude(claims.report_context(inputs), inputs))


def unsupported(inputs: ReportInputs) -> str:
    return " ".join(claims.may_not_conclude(claims.report_context(inputs), inputs)).replace("\N{NO-BREAK SPACE}", " ")


def headline(inputs: ReportInputs) -> str:
    return claims.headline(claims.report_context(inputs)).replace("\N{NO-BREAK SPACE}", " ")


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
    assert "1 of 3 paired differences in Spearman ρ on overall excludes zero and has p below 0.05" in supported(
        ReportInputs(summary=given)
    )
    for row in given["significance"]:
        row["p_holm"] = 0.3
    assert "no difference has a p-value below 0.05" in unsupported(ReportInputs(summary=given))
    given["settings"] = {"n_resamples": 50, "confidence": 0.95}
    assert "cannot be tested together: with 50 random permutations" in unsupported(ReportInputs(summary=given))


def test_a_difference_without_an_interval_is_neither_decided_nor_tested(
    make_summary: MakeSummary, make_pair: MakePair
) -> None:
    given = make_summary(a=0.7, b=0.5, c=0.1)
    bare = make_pair("b", "c", 0.4, 0.1) | {"low": None, "high": None, "p": None, "p_holm": None}
    given["significance"] = [
        make_pair("a", "b", 0.2, 0.1, p_holm=0.01),
        make_pair("a", "c", 0.6, 0.1, p_holm=0.01),
        bare,
    ]
    given["settings"] = {"n_resamples": 50, "confidence": 0.95}  # enough for two tests, too few for three
    inputs = ReportInputs(summary=given)
    assert "2 of 2 paired differences" in supported(inputs)
    assert "include zero" not in unsupported(inputs)
    assert "cannot be tested together" not in unsupported(inputs)
    assert "stand behind 1 paired difference;" in unsupported(inputs)


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
    given["counts"]["base"]["overall"] = {"ok": 30, "unparsed": 10, "failed": 0, "not_applicable": 0}
    assert "Some items have no score (base 25%)" in unsupported(ReportInputs(summary=given))


@pytest.mark.parametrize(("reward", "learned"), [(0.8, True), (0.7, False)])
def test_reward_is_held_against_the_best_constant_answer(
    make_summary: MakeSummary, reward: float, learned: bool
) -> None:
    curve = pd.DataFrame({"step": range(20), "reward": [0.5] * 10 + [reward] * 10, "best_constant_reward": 0.718})
    inputs = ReportInputs(summary=make_summary(grpo=0.5), grpo_curve=curve)
    assert ("above the 0.718" in supported(inputs)) is learned
    assert ("is not above the 0.718" in unsupported(inputs)) is not learned


def test_an_evaluator_that_left_most_items_unscored_is_neither_named_nor_best(make_summary: MakeSummary) -> None:
    given = make_summary(sparse=0.9, whole=0.6, poor=0.2)
    given["counts"]["sparse"]["overall"] = {"ok": 5, "unparsed": 31, "failed": 0, "not_applicable": 0}
    inputs = ReportInputs(summary=given, card={"synthetic": False})
    assert "agrees most with people’s overall ratings is whole" in headline(inputs)
    assert "least of the 2 is poor" in headline(inputs)
    block = views.agreement(inputs.summary, claims.report_context(inputs), ["overall"], set())[0]["main"]
    assert [row["evaluator"] for row in block["rows"]] == ["whole", "poor", "sparse"]
    assert [row["best"][0] for row in block["rows"]] == [True, False, False]


def test_a_teacher_that_reads_the_truth_is_not_best(inputs: ReportInputs) -> None:
    block = views.agreement(inputs.summary, claims.report_context(inputs), ["overall"], set())[0]["main"]
    assert {row["evaluator"]: row["best"][0] for row in block["rows"]} == {
        "sft": True,
        "falling_metric": False,
        "base": False,
        "teacher": False,
    }


def test_a_reversed_order_is_not_best(make_summary: MakeSummary) -> None:
    given = make_summary(a=-0.97, b=-0.99)
    block = views.agreement(given, claims.report_context(ReportInputs(summary=given)), ["overall"], set())[0]
    assert not any(any(row["best"]) for row in block["main"]["rows"])


def test_a_difference_that_the_correction_does_not_keep_is_not_called_one(
    make_summary: MakeSummary, make_pair: MakePair
) -> None:
    given = make_summary(a=0.7, b=0.6, c=0.1)
    given["significance"] = [
        make_pair("a", "b", 0.1, 0.05, p=0.04, p_holm=0.08),
        make_pair("a", "c", 0.6, 0.1, p=0.001, p_holm=0.003),
        make_pair("b", "c", 0.05, 0.1, p=0.4, p_holm=0.4),
    ]
    inputs = ReportInputs(summary=given)
    assert "1 of 3 paired differences" in supported(inputs)
    assert "a minus b" not in supported(inputs)
    shown = {(row["a"], row["b"]): row["differs"] for row in views.differences(claims.report_context(inputs))["main"]}
    assert shown == {("a", "b"): "not after correction", ("a", "c"): "yes", ("b", "c"): "no"}


def scores(judge: str, rows: list[tuple[float, float]]) -> pd.DataFrame:
    shared = {"judge": judge, "protocol": "levels", "run": 0, "status": "ok", "higher_is_better": True}
    return schema.SCORES.frame(
        shared | {"item_id": f"i{k}", "dimension": dimension, "score": score}
        for k, pair in enumerate(rows)
        for dimension, score in zip(("overall", "appearance"), pair, strict=True)
    )


def test_a_judge_that_answers_one_number_on_every_dimension_is_said_to(make_summary: MakeSummary) -> None:
    alike = [(k / 10, k / 10 + 0.001) for k in range(98)]
    apart = [(k / 10, 9 - k / 10) for k in range(2)]
    inputs = ReportInputs(summary=make_summary(grpo=0.5), scores=scores("grpo", alike + apart))
    assert "grpo gives one number on every dimension for 98% of its items" in unsupported(inputs)
    mixed = ReportInputs(summary=make_summary(grpo=0.5), scores=scores("grpo", alike[:30] + apart * 35))
    assert "one number on every dimension" not in unsupported(mixed)


def test_a_judge_of_few_values_is_said_to_be_one(make_summary: MakeSummary) -> None:
    few = scores("sft", [(float(k % 3), float((k + 1) % 3)) for k in range(40)])
    assert "sft uses 3 different scores on appearance" in unsupported(
        ReportInputs(summary=make_summary(sft=0.5), scores=few)
    )


def test_a_training_on_few_examples_or_of_no_step_is_said_to_be_one(make_summary: MakeSummary) -> None:
    table = pd.DataFrame({"task": ["score"], "aspect": ["overall"], "bin": ["5"], "before": [24], "after": [24]})
    inputs = ReportInputs(
        summary=make_summary(sft=0.5),
        rebalancing=table,
        grpo_curve=pd.DataFrame({"step": [0], "reward": [0.5], "best_constant_reward": [0.4]}),
    )
    assert "trained on 24 examples only" in unsupported(inputs)
    assert "GRPO took no step" in unsupported(inputs)
