"""Which protocol an untrained model is asked by: the one that agrees best with people on validation prompts.

A trained judge is to be compared with the best that its base model can do without training, and what that is must not be chosen on the
items that both are measured on.
"""

from __future__ import annotations

from statistics import fmean
from typing import Any

import pandas as pd

from t2i_eval_kedro import schema
from t2i_eval_kedro.ratings import mean_ratings


def choose_protocol(scores: pd.DataFrame, ratings: pd.DataFrame) -> dict[str, Any]:
    """The protocol of ``scores`` with the highest Spearman with people's means, and what the others have.

    Args:
        scores: canonical table of one judge by several protocols.
        ratings: canonical table.

    Returns:
        ``protocol``, None where no figure is defined, and ``candidates``, records ``{protocol, items, scored, spearman}``:
        Spearman is the mean over the rated dimensions that the scores meet (a score of no dimension meets all); an item without a
        score has the lowest one. Of equal protocols the first in ``scores`` is taken.
    """
    people = mean_ratings(ratings)[["item_id", "dimension", "score"]].rename(columns={"score": "people"})
    candidates: list[dict[str, Any]] = []
    for protocol, some in scores.groupby("protocol", sort=False):
        valid = some["score"].where(some["status"] == schema.OK)
        filled = some.assign(score=valid.fillna(valid.min()))
        free = filled["dimension"] == ""
        joined = pd.concat(
            [
                filled[~free].merge(people, on=["item_id", "dimension"]),
                filled[free].drop(columns="dimension").merge(people, on="item_id"),
            ]
        ).dropna(subset=["score"])
        each = [
            rows["score"].corr(rows["people"], method="spearman")
            for _, rows in joined.groupby("dimension")
            if len(rows) > 2 and rows["score"].nunique() > 1 and rows["people"].nunique() > 1
        ]
        candidates.append(
            {
                "protocol": str(protocol),
                "items": int(some["item_id"].nunique()),
                "scored": int(some.loc[valid.notna(), "item_id"].nunique()),
                "spearman": float(fmean(each)) if each else None,
            }
        )
    able = [row for row in candidates if row["spearman"] is not None]
    best = max(able, key=lambda row: row["spearman"])["protocol"] if able else None
    return {"protocol": best, "candidates": candidates}
