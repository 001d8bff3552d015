"""What the numbers of a ratings table say about its scale and its raters, before anything is averaged.

Thresholds are ours, chosen so that a rater who is merely harsh, lenient or rarely uses the ends is not flagged.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd

from t2i_eval_kedro.errors import T2IEvalError

CODES = (-999.0, -99.0, -9.0, -1.0, 9.0, 99.0, 999.0, 9999.0)
LEAST_RATINGS = 10  # of a rater before their range is compared with the others'
RANGE_RATIO = 3.0  # how many times as high the highest rating of one group of raters must be as that of another
LONE_RATINGS = 3  # as many values far outside the rest are called lone outliers
LONE_FRACTION = 0.005
REVERSED, REVERSED_ITEMS = -0.3, 20  # rank correlation with the other raters' mean, and items in common


def likely_code(values: pd.Series) -> tuple[float, int, float, float] | None:
    """A number that often means "nothing", and stands apart from all others: it, how often, lowest and highest of the others.

    Args:
        values: numbers without nulls.
    """
    counts = values.value_counts()
    for code in CODES:
        n = int(counts.get(code, 0))
        rest = counts.index[counts.index != code]
        if not n or len(rest) < 2:
            continue
        low, high = float(rest.min()), float(rest.max())
        if code < 0 <= low or (code > 0 and code > high + (high - low) / 2):
            return code, n, low, high
    return None


def refuse_missing_codes(scores: pd.Series, dimension: str) -> None:
    """Stop where a number that often means "no rating" stands apart from all other ratings.

    Args:
        scores: the ratings of one dimension, without nulls.
        dimension: its name.

    Raises:
        T2IEvalError: there is such a number.
    """
    code_found = likely_code(scores)
    if code_found is not None:
        code, n, low, high = code_found
        raise T2IEvalError(
            f"{n} ratings of '{dimension}' are {code:g}, all others are {low:g} to {high:g}: {code:g} looks like a code for a missing "
            f"rating. Say --missing-code {code:g} if it is one, or --scale {min(low, code):g}:{max(high, code):g} if it is a rating."
        )


def refuse_lone_outliers(scores: pd.Series, dimension: str) -> None:
    """Stop where a few ratings are farther from all others than the others are from each other.

    Raises:
        T2IEvalError: there are such ratings.
    """
    values = np.sort(scores.to_numpy(dtype=float))
    n = len(values)
    few = max(LONE_RATINGS, int(LONE_FRACTION * n))
    if n < 4 * few or values[0] == values[-1]:
        return
    for k in range(1, few + 1):
        above = values[:-k], values[-k:], values[-k] - values[-k - 1]
        below = values[k:], values[:k], values[k] - values[k - 1]
        for rest, lone, gap in (above, below):
            if rest[-1] > rest[0] and gap > rest[-1] - rest[0]:
                raise T2IEvalError(
                    f"{k} of {n} ratings of '{dimension}' ({', '.join(f'{value:g}' for value in np.unique(lone))}) are far outside the "
                    f"others, which are {rest[0]:g} to {rest[-1]:g}. Say --scale {rest[0]:g}:{rest[-1]:g} to exclude and count them, or "
                    f"--scale {values[0]:g}:{values[-1]:g} if they are ratings."
                )


def refuse_mixed_scales(ratings: pd.DataFrame, dimension: str, declared: Collection[str] = ()) -> None:
    """Stop where raters used scales of different height.

    Args:
        ratings: rater_id and score of one dimension, without nulls.
        dimension: its name.
        declared: raters whose scale the user gave.

    Raises:
        T2IEvalError: some raters' highest rating is at least three times that of others.
    """
    per = ratings.groupby("rater_id")["score"].agg(["min", "max", "size", "nunique"])
    per = per[(per["size"] >= LEAST_RATINGS) & (per["nunique"] > 1) & ~per.index.isin(list(declared))]
    # Heights are compared from 0, or from the lowest rating where it is below.
    base = min(0.0, float(per["min"].min())) if len(per) else 0.0
    tops = (per["max"] - base).sort_values()
    for lower, upper in zip(range(len(tops) - 1), range(1, len(tops)), strict=True):
        below, above = tops.iloc[: lower + 1], tops.iloc[upper:]
        if below.iloc[-1] > 0 and above.iloc[0] >= RANGE_RATIO * below.iloc[-1]:
            odd, rest = (above, below) if len(above) <= len(below) else (below, above)
            rater = str(odd.index[0])
            spans = [
                (float(per.loc[list(g.index), "min"].min()), float(per.loc[list(g.index), "max"].max()))
                for g in (odd, rest)
            ]
            names = ", ".join(f"'{name}'" for name in list(map(str, odd.index))[:5])
            raise T2IEvalError(
                f"Raters used different scales for '{dimension}': {names} rated {spans[0][0]:g} to {spans[0][1]:g}, the others {spans[1][0]:g} "
                f"to {spans[1][1]:g}. Map them with --scale {spans[1][0]:g}:{spans[1][1]:g} --ratings-scale "
                f"'{rater!s}={spans[0][0]:g}:{spans[0][1]:g}' (MIN:MAX of the scale), or say --scale {min(s[0] for s in spans):g}:"
                f"{max(s[1] for s in spans):g} if all used one."
            )


def refuse_ranks(ratings: pd.DataFrame, dimension: str) -> None:
    """Stop where ratings are ranks within the prompt: 1 to k, each once, for every rater.

    Args:
        ratings: prompt_id, rater_id and score of one dimension, without nulls.
        dimension: its name.

    Raises:
        T2IEvalError: they look like ranks.
    """
    groups = ratings.groupby(["prompt_id", "rater_id"])["score"].agg(["size", "nunique", "min", "max"])
    groups = groups[groups["size"] >= 3]
    if len(groups) < 5:
        return
    ranked = (groups["nunique"] == groups["size"]) & (groups["min"] == 1) & (groups["max"] == groups["size"])
    if ranked.mean() > 0.95:
        raise T2IEvalError(
            f"The ratings of '{dimension}' are the ranks 1 to {int(groups['size'].max())} within each prompt. Say --ratings-lower-is-better "
            "if 1 is the best image, --ratings-higher-is-better if it is the worst."
        )


def rater_notes(ratings: pd.DataFrame, dimension: str) -> list[str]:
    """What is odd about single raters of one dimension: all ratings equal, or against the others.

    Args:
        ratings: item_id, rater_id and score, without nulls.
        dimension: its name.
    """
    notes: list[str] = []
    names = ratings["rater_id"].unique()
    if len(names) < 2:
        return notes
    per = ratings.groupby("rater_id")["score"].agg(["size", "nunique", "first", "min", "max"])
    constant = per[(per["nunique"] == 1) & (per["size"] >= LEAST_RATINGS)]
    for rater, row in constant.iterrows():
        notes.append(
            f"Rater '{rater!s}' gave {row['first']:g} to all {int(row['size'])} items of '{dimension}', which tells nothing about them."
        )
    if len(names) > 200:
        return notes
    totals = ratings.groupby("item_id")["score"].agg(["sum", "size"])
    joined = ratings.join(totals, on="item_id", rsuffix="_all")
    rest = (joined["sum"] - joined["score"]) / (joined["size"] - 1).where(joined["size"] > 1)
    joined = joined.assign(rest=rest)[rest.notna()]
    for rater, rows in joined.groupby("rater_id"):
        if len(rows) < REVERSED_ITEMS or rows["score"].nunique() < 2 or rows["rest"].nunique() < 2:
            continue
        correlation = _rank_correlation(rows["score"], rows["rest"])
        if correlation <= REVERSED:
            low, high = per.loc[rater, ["min", "max"]]
            notes.append(
                f"Rater '{rater!s}' rates '{dimension}' against the others (rank correlation {correlation:.2f} over {len(rows)} items); if the scale was "
                f"read the other way, say --ratings-scale '{rater!s}={high:g}:{low:g}'."
            )
    return notes


def _rank_correlation(a: Any, b: Any) -> float:
    return float(a.rank().corr(b.rank()))
