"""What a figure of agreement does not show: answers that are all alike, and sub-tasks that training made worse."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from t2i_eval_kedro.agreement.label_agreement import prompt_weights
from t2i_eval_kedro.schema import OK, evaluator_names
from t2i_eval_kedro.statistics.estimates import Json, bootstrap_estimate

FEW_VALUES = 3
"""A judge that uses no more different scores than these on a dimension is said to (ours)."""
MOSTLY_ALIKE = 0.9
"""A judge that gives one score on every dimension to this share of the items is said to (ours)."""


def score_variety(scores: pd.DataFrame) -> list[Json]:
    """By evaluator: how many different scores it gives, and to which share of items one score on every dimension.

    Args:
        scores: canonical table ``scores``; only what is ok counts, and only evaluators with items on two or more dimensions have the
            share (else it is null).

    Returns:
        Records ``{evaluator, items, fewest_values, dimension, one_score_for_all, alike}``: the fewest different scores on a dimension
        and that dimension; ``alike`` says whether the judge is to be named for either.
    """
    usable = scores[(scores["status"] == OK) & scores["score"].notna()]
    rows: list[Json] = []
    for name, some in usable.groupby(evaluator_names(usable), sort=True):
        values = some.groupby("dimension")["score"].nunique()
        per_item = some.groupby(["item_id", "run"])["score"].agg(["nunique", "size"])
        several = per_item[per_item["size"] > 1]
        share = float((several["nunique"] == 1).mean()) if len(several) else None
        fewest = int(values.min())
        rows.append(
            {
                "evaluator": str(name),
                "items": int(some["item_id"].nunique()),
                "fewest_values": fewest,
                "dimension": str(values.idxmin()),
                "one_score_for_all": share,
                "alike": fewest <= FEW_VALUES or (share is not None and share >= MOSTLY_ALIKE),
            }
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
