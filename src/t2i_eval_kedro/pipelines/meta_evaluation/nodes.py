"""Measures how well every evaluator that has scores agrees with people. Knows no model."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from t2i_eval_kedro import schema
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.evaluators import in_fold
from t2i_eval_kedro.provenance import recipe


class MetaEvaluationSettings(BaseModel):
    """How agreement is measured.

    Attributes:
        fold: the items that count: ``test``, another fold, or ``all``.
        n_resamples: number of bootstrap resamples of whole prompts and of permutations.
        confidence: confidence level of the intervals.
        seed: random seed of the resamples and permutations.
        missing: what an item without a score counts as: left out (``drop``), worst score (``worst``), an error (``refuse``),
            or, as T2I-Eval does, the mean of the others (``mean``).
        first: judges that come first in a paired difference (first minus second), protocol by protocol; every pair is tested.
    """

    model_config = ConfigDict(extra="forbid")

    fold: str
    n_resamples: int = Field(ge=100)
    confidence: float = Field(gt=0, lt=1)
    seed: int = Field(ge=0)
    missing: Literal["drop", "worst", "refuse", "mean"]
    first: list[str]


def gather_scores(*tables: pd.DataFrame) -> pd.DataFrame:
    """The scores of all evaluators in one table; empty where a benchmark records none and no judge has been trained."""
    return schema.SCORES.check(pd.concat(tables, ignore_index=True))


def gather_element_scores(*tables: pd.DataFrame) -> pd.DataFrame:
    """The scores of single elements by all evaluators that give some, in one table."""
    return schema.ELEMENT_SCORES.check(pd.concat(tables, ignore_index=True))


def in_order(scores: pd.DataFrame, first: Sequence[str]) -> list[str]:
    """The names of the evaluators of ``scores``: those of the judges ``first``, protocol by protocol, then the others by name."""
    known = schema.evaluators(scores)
    protocols = list(dict.fromkeys(scores.loc[scores["judge"].isin(first), "protocol"]))
    places = {
        name: (protocols.index(protocol), first.index(judge))
        for name, (judge, protocol) in known.items()
        if judge in first
    }
    return [*sorted(places, key=places.__getitem__), *(name for name in known if name not in places)]


def measure(
    items: pd.DataFrame,
    splits: pd.DataFrame,
    ratings: pd.DataFrame,
    scores: pd.DataFrame,
    elements: pd.DataFrame,
    element_ratings: pd.DataFrame,
    element_scores: pd.DataFrame,
    preferences: pd.DataFrame,
    card: Mapping[str, Any],
    settings: MetaEvaluationSettings,
    parameters: Mapping[str, Any],
) -> dict[str, Any]:
    """The content of ``summary.json``: agreement of each evaluator with people on held-out items, with intervals.

    Raises:
        T2IEvalError: the fold has no item.
    """
    from t2i_eval_kedro.agreement import reproduce, summarise  # scipy and numba are slow to import

    held_out = in_fold(items, splits, settings.fold)
    if not len(held_out):
        raise T2IEvalError(
            f"Fold '{settings.fold}' has no item; choose one of {', '.join(sorted(set(splits['fold'])))} or all "
            "(meta_evaluation.fold)."
        )
    measured = summarise(
        held_out,
        ratings,
        scores,
        n_resamples=settings.n_resamples,
        confidence=settings.confidence,
        seed=settings.seed,
        missing=settings.missing,
        pairs=itertools.combinations(in_order(scores, settings.first), 2),
        elements=elements,
        element_ratings=element_ratings,
        element_scores=element_scores,
        preferences=preferences,
    )
    # Published figures are of the whole benchmark, whatever the fold.
    published = reproduce(items, ratings, scores, element_scores)
    return {
        "benchmark": card["name"],
        "synthetic": card["synthetic"],
        "student": parameters["student"],
        "variant": parameters["variant"],
        "seed": parameters["seed"],
        "fold": settings.fold,
        **measured,
        **({"published": published} if published else {}),
        "recipe": recipe(parameters),
    }
