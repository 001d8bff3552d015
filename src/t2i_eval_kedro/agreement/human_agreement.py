"""What the summary says of the raters: their agreement, the noise ceiling, the human level."""

from __future__ import annotations

import numpy as np
import pandas as pd

from t2i_eval_kedro.agreement import raters
from t2i_eval_kedro.agreement.rated_items import RatedItems
from t2i_eval_kedro.statistics.estimates import Json, figure, number
from t2i_eval_kedro.statistics.kernels import Floats

ANONYMOUS = frozenset({"tifa160", "genai_bench"})
"""Benchmarks whose rater columns are slots: the first column is not one person throughout."""

STATISTICS = ("spearman", "pearson")


def rating_table(ratings: pd.DataFrame, sample: RatedItems) -> Floats:
    """``(items, raters)`` ratings of one dimension in the order of the sample; NaN where missing or off the scale."""
    kept = ratings[
        (ratings["dimension"] == sample.dimension) & ratings["score"].notna() & ~ratings["off_scale"].astype(bool)
    ]
    kept = kept[kept["item_id"].isin(sample.item_ids)]
    wide = kept.pivot(index="item_id", columns="rater_id", values="score").sort_index(axis=1)
    return np.asarray(wide.reindex(list(sample.item_ids)).to_numpy(dtype=float))


def reliability(table: Floats, anonymous: bool) -> Json:
    """Agreement among the raters of one dimension."""
    reason = _no_raters(table)
    if reason:
        return {"n_raters": table.shape[1], "anonymous": anonymous, "reason": reason}
    correlations = raters.icc(table)
    out: Json = {
        "n_raters": table.shape[1],
        "anonymous": anonymous,
        "krippendorff_alpha_interval": figure(raters.alpha(table)),
        "krippendorff_alpha_ordinal": figure(raters.alpha(table, "ordinal")),
        "fleiss_kappa": figure(raters.fleiss(table)),
        "icc_1": figure(correlations.one),
    }
    if anonymous:
        slots = "the rater columns are anonymous slots, which cannot be told apart"
        nothing = {"value": None, "reason": slots}
        return out | {name: dict(nothing) for name in ("icc_2", "icc_3", "weighted_kappa")}
    incomplete = "not every rater rated every item"
    kappas = raters.weighted_kappas(table)
    kappas = kappas[np.isfinite(kappas)]
    mean = float(kappas.mean()) if len(kappas) else float("nan")
    kappa = figure(mean, "no pair of raters has enough items in common", n_pairs=len(kappas))
    if len(kappas):
        kappa |= {"lowest": number(float(kappas.min())), "highest": number(float(kappas.max()))}
    return out | {
        "icc_2": figure(correlations.agreement, incomplete),
        "icc_3": figure(correlations.consistency, incomplete),
        "weighted_kappa": kappa,
    }


def ceiling(table: Floats, anonymous: bool) -> Json:
    """The noise ceiling of each statistic, and the reliability of one rater that it comes from."""
    reason = _no_raters(table)
    out: Json = {}
    for name in STATISTICS:
        if reason:
            out[name] = {"value": None, "reason": reason}
            continue
        single = raters.single_reliability(table, name, anonymous)
        value = raters.noise_ceiling(table, name, anonymous)
        out[name] = figure(value, "the raters' agreement is not defined", single_rater_reliability=single)
    return out


def add_share_of_ceiling(figures: Json, limits: Json) -> None:
    """Give each headline figure as a share of the noise ceiling, too."""
    for name in STATISTICS:
        value, limit = figures[name]["value"], limits[name]["value"]
        figures[name]["share_of_ceiling"] = number(value / limit) if value is not None and limit else None


def level(table: Floats, judge: Floats) -> Json:
    """Each rater against the mean of the others, and the judge against the same means, averaged over raters."""
    reason = _no_raters(table)
    out: Json = {}
    for name in STATISTICS:
        if reason:
            out[name] = {"people": None, "judge": None, "reason": reason}
            continue
        human, machine = raters.human_level(table, name, judge)
        both = np.isfinite(human) & np.isfinite(machine)
        if not both.any():
            out[name] = {"people": None, "judge": None, "reason": "no rater has enough items in common with the others"}
            continue
        out[name] = {
            "people": number(float(human[both].mean())),
            "judge": number(float(machine[both].mean())),
            "n_raters": int(both.sum()),
        }
    return out


def _no_raters(table: Floats) -> str | None:
    if table.shape[1] < 2:
        return "only one column of ratings (one rater, or published means)"
    if (np.isfinite(table).sum(axis=1) >= 2).sum() < 2:
        return "fewer than 2 items have two ratings"
    return None
