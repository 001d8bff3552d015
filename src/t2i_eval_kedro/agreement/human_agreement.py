"""Sections of the summary about the raters: reliability, noise ceiling, and the leave-one-rater-out baseline."""

from __future__ import annotations

import numpy as np
import pandas as pd

from t2i_eval_kedro.agreement.rated_items import RatedItems
from t2i_eval_kedro.ratings import valid_ratings
from t2i_eval_kedro.statistics import reliability
from t2i_eval_kedro.statistics.estimates import Json, estimate, round_or_none
from t2i_eval_kedro.statistics.kernels import Floats

UNIDENTIFIED_RATERS = frozenset({"tifa160", "genai_bench"})
"""Benchmarks with unidentified raters: a column of ratings is a slot, not one person throughout."""

CEILING_STATISTICS = ("spearman", "pearson")
"""Statistics that have a noise ceiling and a leave-one-rater-out baseline."""


def rating_table(ratings: pd.DataFrame, sample: RatedItems) -> Floats:
    """``(items, raters)`` ratings of one dimension in the order of the sample; NaN where missing or off the scale."""
    kept = valid_ratings(ratings[ratings["dimension"] == sample.dimension])
    kept = kept[kept["item_id"].isin(sample.item_ids)]
    wide = kept.pivot(index="item_id", columns="rater_id", values="score").sort_index(axis=1)
    return np.asarray(wide.reindex(list(sample.item_ids)).to_numpy(dtype=float))


def rater_agreement(table: Floats, unidentified: bool) -> Json:
    """Inter-rater reliability of one dimension as JSON; null with a reason where a coefficient is not defined.

    Args:
        table: ``(items, raters)`` ratings, NaN where missing.
        unidentified: whether columns are slots that cannot be told apart; only one-way coefficients exist then.
    """
    reason = _no_raters(table)
    if reason:
        return {"n_raters": table.shape[1], "unidentified": unidentified, "reason": reason}
    correlations = reliability.icc(table)
    out: Json = {
        "n_raters": table.shape[1],
        "unidentified": unidentified,
        "krippendorff_alpha_interval": estimate(reliability.alpha(table)),
        "krippendorff_alpha_ordinal": estimate(reliability.alpha(table, "ordinal")),
        "fleiss_kappa": estimate(reliability.fleiss(table)),
        "icc_1": estimate(correlations.one),
    }
    if unidentified:
        slots = "the rater columns are anonymous slots, which cannot be told apart"
        nothing = {"value": None, "reason": slots}
        return out | {name: dict(nothing) for name in ("icc_2", "icc_3", "weighted_kappa")}
    incomplete = "not every rater rated every item"
    kappas = reliability.weighted_kappas(table)
    kappas = kappas[np.isfinite(kappas)]
    mean = float(kappas.mean()) if len(kappas) else float("nan")
    kappa = estimate(mean, "no pair of raters has enough items in common", n_pairs=len(kappas))
    if len(kappas):
        kappa |= {"lowest": round_or_none(float(kappas.min())), "highest": round_or_none(float(kappas.max()))}
    return out | {
        "icc_2": estimate(correlations.agreement, incomplete),
        "icc_3": estimate(correlations.consistency, incomplete),
        "weighted_kappa": kappa,
    }


def noise_ceiling(table: Floats, unidentified: bool) -> Json:
    """The noise ceiling of each statistic, and the single-rater reliability that it is computed from."""
    reason = _no_raters(table)
    out: Json = {}
    for name in CEILING_STATISTICS:
        if reason:
            out[name] = {"value": None, "reason": reason}
            continue
        single = reliability.single_reliability(table, name, unidentified)
        value = reliability.noise_ceiling(table, name, unidentified)
        out[name] = estimate(value, "the raters' agreement is not defined", single_rater_reliability=single)
    return out


def add_attenuation_correction(figures: Json, limits: Json) -> None:
    """Add to each headline figure its correlation corrected for attenuation in the ratings, value / noise ceiling.

    Spearman (1904): dividing by the square root of the reliability of people's mean estimates the correlation with the
    mean of an unlimited number of such raters. It may exceed 1 by sampling error.
    """
    for name in CEILING_STATISTICS:
        value, limit = figures[name]["value"], limits[name]["value"]
        figures[name]["corrected_for_attenuation"] = (
            round_or_none(value / limit) if value is not None and limit else None
        )


def leave_one_out_baseline(table: Floats, judge: Floats) -> Json:
    """Leave-one-rater-out baseline: each rater against the mean of the others, averaged over raters, and the judge alike.

    ``rater`` and ``judge`` are over the same items and the same means of the other raters, so they can be compared.
    """
    reason = _no_raters(table)
    out: Json = {}
    for name in CEILING_STATISTICS:
        if reason:
            out[name] = {"rater": None, "judge": None, "reason": reason}
            continue
        of_rater, of_judge = reliability.leave_one_rater_out(table, name, judge)
        both = np.isfinite(of_rater) & np.isfinite(of_judge)
        if not both.any():
            out[name] = {"rater": None, "judge": None, "reason": "no rater has enough items in common with the others"}
            continue
        out[name] = {
            "rater": round_or_none(float(of_rater[both].mean())),
            "judge": round_or_none(float(of_judge[both].mean())),
            "n_raters": int(both.sum()),
        }
    return out


def _no_raters(table: Floats) -> str | None:
    if table.shape[1] < 2:
        return "only one column of ratings (one rater, or published means)"
    if (np.isfinite(table).sum(axis=1) >= 2).sum() < 2:
        return "fewer than 2 items have two ratings"
    return None
