"""Sections of the summary about the raters: reliability, noise ceiling, and the leave-one-rater-out baseline."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from t2i_eval_kedro.agreement.rated_items import RatedItems
from t2i_eval_kedro.ratings import valid_ratings
from t2i_eval_kedro.schema import is_among
from t2i_eval_kedro.statistics import reliability
from t2i_eval_kedro.statistics.estimates import Json, bootstrap_estimate, estimate, round_or_none
from t2i_eval_kedro.statistics.kernels import Floats, Ints
from t2i_eval_kedro.statistics.pooled import Weights

UNIDENTIFIED_RATERS = frozenset({"tifa160", "genai_bench"})
"""Benchmarks with unidentified raters: a column of ratings is a slot, not one person throughout."""

CEILING_STATISTICS = ("spearman", "pearson")
"""Statistics that have a noise ceiling and a leave-one-rater-out baseline."""

CEILING_RESAMPLES = 200
"""Most bootstrap resamples of a noise ceiling: every pair of raters has a correlation of its own in each."""

MAX_CEILING_PAIRS = 300
"""Most pairs of raters for which a noise ceiling has an interval."""


def rating_frame(ratings: pd.DataFrame, sample: RatedItems) -> pd.DataFrame:
    """Ratings of one dimension: items (in the order of the sample) x raters; NaN where missing or off the scale."""
    kept = valid_ratings(ratings[ratings["dimension"] == sample.dimension])
    kept = kept[is_among(kept["item_id"], pd.Series(sample.item_ids, dtype="str"))]
    wide = kept.pivot(index="item_id", columns="rater_id", values="score").sort_index(axis=1)
    return wide.reindex(list(sample.item_ids)).astype(float)


def rating_table(ratings: pd.DataFrame, sample: RatedItems) -> Floats:
    """``(items, raters)`` of :func:`rating_frame`."""
    return np.asarray(rating_frame(ratings, sample).to_numpy(dtype=float))


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


def noise_ceiling(
    table: Floats,
    raters: Sequence[str],
    unidentified: bool,
    prompt: Ints | None = None,
    weights: Weights | None = None,
    confidence: float = 0.95,
) -> Json:
    """The noise ceiling of each statistic with its interval over prompts, and the single-rater reliability behind it.

    A rater who gave one value to all items has no correlation with anyone: such raters are left out and named. There is no
    ceiling where a rater orders the items against the others, or where the raters do not agree.

    Args:
        table: ``(items, raters)`` ratings, NaN where missing.
        raters: names of the columns.
        unidentified: whether columns are slots that cannot be told apart.
        prompt: ``(items,)`` index of each item's prompt; without it there is no interval.
        weights: weights of prompts, ``(1 + B, P)``: all ones, then the bootstrap resamples.
        confidence: confidence level of the interval.
    """
    constant = np.zeros(table.shape[1], dtype=bool) if unidentified else reliability.constant_raters(table)
    against = np.zeros(table.shape[1], dtype=bool) if unidentified else reliability.reversed_raters(table)
    kept = table[:, ~constant]
    reason = _no_raters(kept)
    if reason and constant.any():
        reason = f"{reason}, without {_named(raters, constant)}"
    if 0 < 2 * against.sum() < table.shape[1]:  # where most do, they simply do not agree
        reason = (
            f"{_named(raters, against)} ordered the items against the other raters; if the scale was reversed, correct "
            "the ratings"
        )
    pairs = kept.shape[1] * (kept.shape[1] - 1) // 2
    prompts = 0 if prompt is None else len(np.unique(prompt[np.isfinite(kept).any(axis=1)]))
    interval = prompt is not None and weights is not None and (unidentified or pairs <= MAX_CEILING_PAIRS)
    rows = Weights(weights.table[: 1 + CEILING_RESAMPLES]) if interval and weights is not None else None
    out: Json = {}
    for name in CEILING_STATISTICS:
        if reason:
            out[name] = {"value": None, "reason": reason}
            continue
        row = prompt if interval else None
        single = float(reliability.single_reliability(kept, name, unidentified)[0])
        values = reliability.noise_ceiling(kept, name, unidentified, row, rows)
        why = None
        if not single > 0:
            why = "the raters do not agree: their single-rater reliability is "
            why += f"{single:.2f}" if np.isfinite(single) else "not defined"
        if interval:
            out[name] = bootstrap_estimate(values, confidence, prompts, why, single_rater_reliability=single)
        else:
            out[name] = estimate(float("nan") if why else float(values[0]), why, single_rater_reliability=single)
        if constant.any():
            out[name]["note"] = f"without {_named(raters, constant)}, who gave one value to every item"
    return out


def _named(raters: Sequence[str], chosen: npt.NDArray[np.bool_]) -> str:
    names = [name for name, is_chosen in zip(raters, chosen, strict=True) if is_chosen]
    return f"rater {names[0]}" if len(names) == 1 else f"raters {', '.join(names)}"


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
