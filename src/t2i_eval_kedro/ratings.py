"""People's ratings as every part of the project reads them: which count, and what their mean is."""

from __future__ import annotations

import pandas as pd

from t2i_eval_kedro.statistics.ties import keep_ties


def valid_ratings(ratings: pd.DataFrame) -> pd.DataFrame:
    """The rows of the canonical table ``ratings`` that count: those with a score that is on the scale."""
    return ratings[ratings["score"].notna() & ~ratings["off_scale"].astype(bool)]


def mean_ratings(ratings: pd.DataFrame) -> pd.DataFrame:
    """People's mean for each dimension and item: dimension, item_id, score, n_ratings, scale_min, scale_max.

    Equal means stay equal whatever the order of their ratings (:func:`~t2i_eval_kedro.statistics.ties.keep_ties`).
    """
    means = (
        valid_ratings(ratings)
        .groupby(["dimension", "item_id"], sort=True)
        .agg(
            score=("score", "mean"),
            n_ratings=("score", "size"),
            scale_min=("scale_min", "min"),
            scale_max=("scale_max", "max"),
        )
    )
    means["score"] = keep_ties(means["score"].to_numpy(dtype=float))
    return means.reset_index()
