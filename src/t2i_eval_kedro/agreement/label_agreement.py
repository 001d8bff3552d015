"""Accuracy of element labels and of preferences, from the canonical tables, as JSON."""

from __future__ import annotations

import numpy as np
import pandas as pd

from t2i_eval_kedro.agreement.rated_items import oriented_scores
from t2i_eval_kedro.schema import OK, evaluator_names
from t2i_eval_kedro.statistics.binary_metrics import element_labels, preference_hits
from t2i_eval_kedro.statistics.bootstrap import draw_counts
from t2i_eval_kedro.statistics.estimates import Json, drawn
from t2i_eval_kedro.statistics.kernels import Floats, Ints
from t2i_eval_kedro.statistics.pooled import Weights


def elements(
    items: pd.DataFrame, ratings: pd.DataFrame, scores: pd.DataFrame, draws: int, level: float, seed: int
) -> Json:
    """Accuracy, precision, recall and F1 of each judge's element scores.

    Args:
        items: which items count.
        ratings: table ``element_ratings``; an element is present where the mean of its labels is 0.5 or more.
        scores: table ``element_scores``; runs are averaged, and 0.5 or more means present.
        draws: of the bootstrap over prompts.
        level: of the intervals.
        seed: of the draws.
    """
    key = ["item_id", "element_id"]
    gold = ratings[ratings["item_id"].isin(items["item_id"])].dropna(subset=["label"]).groupby(key)["label"].mean()
    out: Json = {}
    held_out = scores[scores["item_id"].isin(items["item_id"])]
    for name, rows in held_out.groupby(evaluator_names(held_out), sort=True):
        usable = rows[(rows["status"] == OK) & rows["score"].notna()]
        said = usable.groupby(key)["score"].mean().reindex(gold.index)
        kept = said.notna().to_numpy()
        row, weights = _prompts(items, gold.index.get_level_values("item_id")[kept], draws, seed)
        found = element_labels(said.to_numpy(dtype=float)[kept], gold.to_numpy(dtype=float)[kept], row, weights)
        reason = None if kept.any() else "no element has both a label and a score"
        out[str(name)] = {
            figure: drawn(getattr(found, figure), level, reason, n=int(kept.sum()))
            for figure in ("accuracy", "precision", "recall", "f1")
        } | {"missing": int((~kept).sum())}
    return out


def preferences(
    items: pd.DataFrame,
    wanted: pd.DataFrame,
    scores: pd.DataFrame,
    answers: pd.DataFrame | None,
    draws: int,
    level: float,
    seed: int,
) -> Json:
    """Share of people's preferences that each judge shares: name -> dimension -> figure.

    ``accuracy`` wants the same of a, b and tie; ``accuracy_without_ties`` is over the preferences that are no ties, and
    counts a tie of the judge one half.

    Args:
        items: which items count.
        wanted: table ``preferences``; every rater's label counts.
        scores: table ``scores``: the judge prefers the item with the higher score.
        answers: table ``preference_scores`` of judges asked for a preference; they stand under the dimension "".
        draws: of the bootstrap over prompts.
        level: of the intervals.
        seed: of the draws.
    """
    known = set(items["item_id"])
    pairs = wanted[wanted["item_a"].isin(known) & wanted["item_b"].isin(known)]
    label = np.asarray(pairs["label"].map({"a": 1, "b": -1, "tie": 0}), dtype=np.int8)
    row, weights = _prompts(items, pd.Index(pairs["item_a"]), draws, seed)
    table = oriented_scores(scores[scores["item_id"].isin(known)])["score"]
    out: Json = {}
    for name, dimension in sorted({(evaluator, dimension) for evaluator, dimension, _ in table.index}):
        own = table.loc[(name, dimension)]
        a, b = (np.asarray(own.reindex(pairs[side]), dtype=np.float64) for side in ("item_a", "item_b"))
        gap = a - b
        out.setdefault(str(name), {})[str(dimension)] = _hits(gap, label, row, weights, level)
    if answers is not None:
        key = ["prompt_id", "item_a", "item_b"]
        answered = answers[answers["status"] == OK]
        for name, rows in answered.groupby(evaluator_names(answered), sort=True):
            said = rows.set_index(key)["label"].map({"a": 1.0, "b": -1.0, "tie": 0.0})
            gap = np.asarray(said.reindex(pd.MultiIndex.from_frame(pairs[key])), dtype=np.float64)
            out.setdefault(str(name), {})[""] = _hits(gap, label, row, weights, level)
    return out


def _hits(
    gap: Floats, label: np.ndarray[tuple[int, ...], np.dtype[np.int8]], row: Ints, weights: Weights, level: float
) -> Json:
    kept = np.isfinite(gap)
    exact, half = preference_hits(gap[kept], label[kept])
    reason = None if kept.any() else "no preference has a score for both items"
    out: Json = {"missing": int((~kept).sum())}
    for name, values in (("accuracy", exact), ("accuracy_without_ties", half)):
        used = np.isfinite(values)
        total, number = weights.sums(np.column_stack([values[used], np.ones(used.sum())]), row[kept][used]).T
        with np.errstate(divide="ignore", invalid="ignore"):
            out[name] = drawn(total / number, level, reason, n=int(used.sum()))
    return out


def _prompts(items: pd.DataFrame, item_ids: pd.Index, draws: int, seed: int) -> tuple[Ints, Weights]:
    """The weight row of each item (its prompt's), and the weightings: all ones, then the draws."""
    text = items["prompt"].where(items["prompt"] != "", items["prompt_id"])
    own = pd.Series(text.to_numpy(), index=items["item_id"]).loc[item_ids].to_numpy().astype(str)
    names, row = np.unique(own, return_inverse=True)
    ones = np.ones((1, len(names)), dtype=np.int64)
    return row.astype(np.int64), Weights(np.vstack([ones, draw_counts(len(names), draws, seed)]))
