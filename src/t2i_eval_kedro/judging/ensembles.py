"""Several judges as one: the mean of their scores, the mean of their ranks, or a combination fitted on validation prompts.

Scores of different judges have different units (an ImageReward is no score of 0 to 10), so ``mean`` and ``stacking`` take each
judge's scores minus their mean over the items that all members scored, divided by their standard deviation there. No rating of a
person is needed for that. A constant judge adds nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.schema import NOT_APPLICABLE, OK, SCORES, evaluator_names

if TYPE_CHECKING:
    from t2i_eval_kedro.statistics.kernels import Floats

Method = Literal["mean", "rank_mean", "stacking"]
LEAST_ITEMS = 10
"""Fewest validation items that a stacking is fitted on."""


class EnsembleSettings(BaseModel):
    """One ensemble.

    Attributes:
        members: names of the evaluators, two or more.
        method: ``mean`` of standardised scores, ``rank_mean`` (mean rank, 0 to 1), or ``stacking``: non-negative least squares of people's
            mean scores on the members' standardised scores, over validation items.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    members: Annotated[tuple[str, ...], Field(min_length=2)]
    method: Method


def wide(scores: pd.DataFrame, dimension: str) -> pd.DataFrame:
    """Scores on ``dimension`` by item (rows) and evaluator (columns), higher is better, runs averaged; NaN where there is none.

    A score without a dimension of its own counts for every dimension.
    """
    usable = scores[(scores["status"] == OK) & scores["dimension"].isin([dimension, ""])]
    oriented = usable["score"].where(usable["higher_is_better"].astype(bool), -usable["score"])
    table = usable.assign(score=oriented, evaluator=evaluator_names(usable))
    by_dimension = table.pivot_table(
        index=["item_id", "evaluator"], columns="dimension", values="score", aggfunc="mean"
    )
    for name in (dimension, ""):
        if name not in by_dimension:
            by_dimension[name] = np.nan
    return by_dimension[dimension].fillna(by_dimension[""]).unstack("evaluator")


def combine(
    table: pd.DataFrame, settings: EnsembleSettings, people: Mapping[str, float]
) -> tuple[pd.Series, dict[str, float]]:
    """The ensemble's scores by item, and the weight of each member.

    Args:
        table: scores of :func:`wide`.
        settings: members and method.
        people: people's mean scores of validation items, for ``stacking``.

    Returns:
        Scores of the items that every member scored, others being left out, and the weights on standardised scores (ranks for
        ``rank_mean``), which sum to 1.

    Raises:
        T2IEvalError: a member has no scores, or there are too few validation items to fit weights on.
    """
    unknown = [name for name in settings.members if name not in table]
    if unknown:
        raise T2IEvalError(
            f"Ensemble member '{unknown[0]}' has no scores; there are scores of {', '.join(map(str, table.columns)) or 'nobody'}."
        )
    scored = table[list(settings.members)].dropna()
    if settings.method == "rank_mean":
        ranks = scored.rank(pct=True)
        return ranks.mean(axis=1), dict.fromkeys(settings.members, 1 / len(settings.members))
    spread = scored.std(ddof=0)
    standard = ((scored - scored.mean()) / spread.where(spread > 0, np.inf)).fillna(0.0)
    if settings.method == "mean":
        return standard.mean(axis=1), dict.fromkeys(settings.members, 1 / len(settings.members))
    fitted = standard.loc[[item for item in standard.index if item in people]]
    if len(fitted) < LEAST_ITEMS:
        raise T2IEvalError(
            f"Stacking needs {LEAST_ITEMS} validation items that people and all members ({', '.join(settings.members)}) scored, and there "
            f"are {len(fitted)}; choose mean or rank_mean, or members that judge the validation fold."
        )
    weights = stacking_weights(fitted.to_numpy(), np.array([people[item] for item in fitted.index]))
    combined = pd.Series(standard.to_numpy() @ weights, index=standard.index)
    return combined, dict(zip(settings.members, map(float, weights), strict=True))


def stacking_weights(scores: Floats, people: Floats) -> Floats:
    """Non-negative weights of the columns of ``scores`` (n, k) whose combination is nearest to ``people`` (n,), summing to 1.

    Equal weights where no column goes with people's scores at all.
    """
    from scipy.optimize import nnls  # scipy is slow to import

    weights, _ = nnls(scores - scores.mean(axis=0), people - people.mean())
    total = weights.sum()
    return np.asarray(weights / total if total > 0 else np.full(scores.shape[1], 1 / scores.shape[1]))


def ensemble_scores(
    scores: pd.DataFrame,
    settings: Mapping[str, EnsembleSettings],
    people: Mapping[str, float],
    dimension: str,
    items: Sequence[str],
) -> tuple[pd.DataFrame, dict[str, dict[str, float]]]:
    """The canonical table ``scores`` of every ensemble for ``items``, and the weights of its members.

    An item that a member did not score has no score, with the status ``not_applicable``.

    Args:
        scores: canonical table of all judges.
        settings: ensembles by name.
        people: people's mean scores of validation items.
        dimension: what is scored.
        items: identifiers of the items that an ensemble scores.
    """
    table = wide(scores, dimension)
    rows: list[dict[str, object]] = []
    weights = {}
    for name, chosen in settings.items():
        values, weights[name] = combine(table, chosen, people)
        for item in items:
            known = item in values.index
            rows.append(
                {
                    "item_id": item,
                    "judge": name,
                    "dimension": dimension,
                    "run": 0,
                    "score": float(values[item]) if known else None,
                    "status": OK if known else NOT_APPLICABLE,
                    "explanation": None if known else "a member has no score",
                    "higher_is_better": True,
                }
            )
    return SCORES.frame(rows), weights
