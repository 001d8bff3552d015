"""What a figure of agreement does not show: answers that are all alike, sub-tasks that training made worse, and which stage of a chain
loses the agreement."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pandas as pd

from t2i_eval_kedro.agreement.label_agreement import prompt_weights
from t2i_eval_kedro.ratings import mean_ratings
from t2i_eval_kedro.schema import OK, evaluator_names
from t2i_eval_kedro.statistics.estimates import Json, bootstrap_estimate, round_or_none
from t2i_eval_kedro.statistics.pooled import pooled_statistics

FEW_VALUES = 3
"""A judge that uses no more different scores than these on a dimension is said to (ours)."""
MOSTLY_ALIKE = 0.5
"""A judge that gives one score on every dimension to this share of the items is said to (ours)."""
SAME_SCORE = 0.01
"""Scores no further apart than this share of a judge's range count as one (ours): expected scores are hardly ever equal."""


def score_variety(scores: pd.DataFrame) -> list[Json]:
    """By evaluator: how many different scores it gives, and to which share of items one score on every dimension.

    Args:
        scores: canonical table ``scores``; only what is ok counts, and only evaluators with items on two or more dimensions have the
            share (else it is null).

    Returns:
        Records ``{evaluator, items, fewest_values, dimension, one_score_for_all, few, same, alike}``: the fewest different scores on a
        dimension and that dimension. ``few`` and ``same`` say whether the judge is to be named for the number of its scores, or
        for giving one on every dimension; ``alike`` for either.
    """
    usable = scores[(scores["status"] == OK) & scores["score"].notna()]
    rows: list[Json] = []
    for name, some in usable.groupby(evaluator_names(usable), sort=True):
        least = SAME_SCORE * float(some["score"].max() - some["score"].min())
        values = pd.Series({name: _distinct(column, least) for name, column in some.groupby("dimension")["score"]})
        per_item = some.groupby(["item_id", "run"])["score"].agg(["min", "max", "size"])
        several = per_item[per_item["size"] > 1]
        share = float((several["max"] - several["min"] <= least).mean()) if len(several) else None
        same = share is not None and share >= MOSTLY_ALIKE
        fewest, items = int(values.min()), int(some["item_id"].nunique())
        rows.append(
            {
                "evaluator": str(name),
                "items": items,
                "fewest_values": fewest,
                "dimension": str(values.idxmin()),
                "one_score_for_all": share,
                "few": fewest <= FEW_VALUES < items,
                "same": same,
                "alike": fewest <= FEW_VALUES < items or same,
            }
        )
    return rows


def _distinct(values: pd.Series, least: float) -> int:
    """How many different ``values`` there are, where those within ``least`` of the lowest of them count as one."""
    count, start = 0, -np.inf
    for value in np.sort(values.unique()):
        if value - start > least:
            count, start = count + 1, value
    return count


def out_of_vocabulary(transcripts: pd.DataFrame, limit: float) -> list[Json]:
    """How much probability each evaluator gives to other words than the answers that it may choose from.

    Args:
        transcripts: canonical table ``transcripts``; only requests that were answered by a distribution count.
        limit: the share above which a score is null (``judging.max_out_of_vocabulary``).

    Returns:
        Records ``{evaluator, requests, mean, highest, above_limit, mostly_other}``: the mean and highest share of the probability, the
        fraction of requests above ``limit``, and whether the mean is above one half.
    """
    rows: list[Json] = []
    usage = transcripts["usage"].fillna("")
    chosen = transcripts[usage.str.contains('"out_of_vocabulary_mass"', regex=False)]
    shares = pd.Series([json.loads(text)["out_of_vocabulary_mass"] for text in chosen["usage"]], chosen.index, float)
    for name, some in shares.groupby(evaluator_names(chosen), sort=True):
        rows.append(
            {"evaluator": str(name), "requests": len(some), "mean": float(some.mean()), "highest": float(some.max())}
            | {"above_limit": float((some > limit).mean()), "mostly_other": bool(some.mean() > 0.5)}
        )
    return rows


def kept_or_forgotten(
    items: pd.DataFrame,
    elements: pd.DataFrame,
    element_ratings: pd.DataFrame,
    element_scores: pd.DataFrame,
    stages: Sequence[tuple[str, str]],
    resamples: int,
    confidence: float,
    seed: int,
) -> list[Json]:
    """How accurate judges' answers about elements are before and after a training, by protocol and skill.

    Args:
        items: which items count.
        elements: canonical table, which names the skill of each element.
        element_ratings: canonical table; an element is satisfied where the mean of its labels is above 0.5, and is left out where
            people are divided.
        element_scores: canonical table; above 0.5 is satisfied. Elements that one of the two judges did not answer are left out.
        stages: pairs of judges, before and after the training.
        resamples: number of bootstrap resamples of prompts.
        confidence: confidence level of the intervals, such as 0.95.
        seed: random seed of the resamples.

    Returns:
        Records ``{protocol, skill, before, after, n, accuracy_before, accuracy_after, change, forgotten}``; ``change`` is an estimate
        with its interval, and ``forgotten`` says whether that lies below zero.
    """
    key = ["item_id", "element_id"]
    label = element_ratings[element_ratings["item_id"].isin(items["item_id"])].groupby(key)["label"].mean().dropna()
    truth = (label[label != 0.5] > 0.5).rename("truth").reset_index()
    truth = truth.merge(items[["item_id", "prompt_id"]], on="item_id")
    truth = truth.merge(elements[["prompt_id", "element_id", "skill"]], on=["prompt_id", "element_id"])
    usable = element_scores[(element_scores["status"] == OK) & element_scores["score"].notna()]
    right = usable.merge(truth, on=key)
    right["right"] = ((right["score"] > 0.5) == right["truth"]).astype(float)
    rows: list[Json] = []
    for before, after in stages:
        wide = (
            right[right["judge"].isin([before, after])]
            .pivot_table(index=["protocol", "skill", *key], columns="judge", values="right", aggfunc="mean")
            .reindex(columns=[before, after])
            .dropna()
        )
        for (protocol, skill), some in wide.groupby(level=["protocol", "skill"], sort=True):
            row, weights = prompt_weights(items, some.index.get_level_values("item_id"), resamples, seed)
            sums = weights.sums(np.column_stack([some[before], some[after], np.ones(len(some))]), row)
            with np.errstate(divide="ignore", invalid="ignore"):
                change = (sums[:, 1] - sums[:, 0]) / sums[:, 2]
            estimate = bootstrap_estimate(change, confidence, len(set(row)), n=len(some))
            high = estimate["high"]
            rows.append(
                {
                    "protocol": str(protocol),
                    "skill": str(skill),
                    "before": before,
                    "after": after,
                    "n": len(some),
                    "accuracy_before": float(some[before].mean()),
                    "accuracy_after": float(some[after].mean()),
                    "change": estimate,
                    "forgotten": high is not None and high < 0,
                }
            )
    return rows


def error_attribution(
    attribution: pd.DataFrame,
    items: pd.DataFrame,
    ratings: pd.DataFrame,
    dimension: str,
    resamples: int,
    confidence: float,
    seed: int,
) -> list[Json]:
    """How the final agreement of a chain changes where one stage at a time is made true.

    Args:
        attribution: canonical table; an item that has no score has the judge's lowest one in ``spearman`` and ``change``.
        items: canonical table.
        ratings: canonical table.
        dimension: rated dimension that the final score is compared with.
        resamples: number of bootstrap resamples of prompts.
        confidence: confidence level of the intervals, such as 0.95.
        seed: random seed of the resamples.

    Returns:
        Records ``{judge, true_stage, dimension, items, replaced, scored, spearman, spearman_scored, change}``: the mean number of
        answers replaced per item, the fraction of items with a score, Spearman over all items and over those with a score, and the
        change of the former to the judge's own chain (``true_stage`` none), with its interval. A stage of which nothing was replaced has
        no figures.
    """
    people = mean_ratings(ratings[ratings["dimension"] == dimension]).set_index("item_id")["score"]
    rows: list[Json] = []
    for judge, some in attribution[attribution["item_id"].isin(people.index)].groupby("judge", sort=False):
        stages = list(dict.fromkeys(some["stage"]))
        score = some.assign(score=some["score"].where(some["status"] == OK)).pivot_table(
            index="item_id", columns="stage", values="score", dropna=False, aggfunc="first"
        )
        score = score.reindex(columns=stages)
        y = people[score.index].to_numpy(dtype=float)
        row, weights = prompt_weights(items, score.index, resamples, seed)
        lowest = float(np.nanmin(score.to_numpy(dtype=float))) if score.notna().any(axis=None) else 0.0
        baseline = None
        for stage in stages:
            x = score[stage].to_numpy(dtype=float)
            scored = np.isfinite(x)
            replaced = float(some.loc[some["stage"] == stage, "replaced"].mean())
            values = pooled_statistics(np.where(scored, x, lowest), y, row, weights, ("spearman",))["spearman"]
            baseline = values if baseline is None else baseline
            known = stage == stages[0] or replaced > 0
            reason = None if known else "nothing of this stage is known"
            over_scored = (
                pd.Series(x[scored]).corr(pd.Series(y[scored]), method="spearman") if scored.sum() > 2 else np.nan
            )
            rows.append(
                {
                    "judge": str(judge),
                    "true_stage": stage,
                    "dimension": dimension,
                    "items": len(x),
                    "replaced": replaced,
                    "scored": float(scored.mean()),
                    "spearman": bootstrap_estimate(values, confidence, weights.table.shape[1], reason, n=len(x)),
                    "spearman_scored": round_or_none(over_scored) if known else None,
                    "change": None
                    if stage == stages[0]
                    else bootstrap_estimate(values - baseline, confidence, weights.table.shape[1], reason, n=len(x)),
                }
            )
    return rows
