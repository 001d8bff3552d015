"""Accuracy of element labels and of preferences, from the canonical tables, as JSON."""

from __future__ import annotations

import numpy as np
import pandas as pd

from t2i_eval_kedro.agreement.rated_items import oriented_scores
from t2i_eval_kedro.schema import OK, PREFERENCES, evaluator_names
from t2i_eval_kedro.statistics.binary_metrics import element_labels, preference_hits
from t2i_eval_kedro.statistics.bootstrap import resample_counts, with_sample
from t2i_eval_kedro.statistics.estimates import Json, bootstrap_estimate
from t2i_eval_kedro.statistics.kernels import Floats, Ints
from t2i_eval_kedro.statistics.pooled import Weights


def element_metrics(
    items: pd.DataFrame, ratings: pd.DataFrame, scores: pd.DataFrame, resamples: int, confidence: float, seed: int
) -> Json:
    """Accuracy, precision, recall and F1 of each judge's element scores.

    Args:
        items: which items count.
        ratings: table ``element_ratings``; an element is present where the mean of its labels is 0.5 or more.
        scores: table ``element_scores``; runs are averaged, and 0.5 or more means present.
        resamples: number of bootstrap resamples of prompts.
        confidence: confidence level of the intervals, such as 0.95.
        seed: random seed of the resamples.
    """
    key = ["item_id", "element_id"]
    gold = ratings[ratings["item_id"].isin(items["item_id"])].dropna(subset=["label"]).groupby(key)["label"].mean()
    out: Json = {}
    held_out = scores[scores["item_id"].isin(items["item_id"])]
    for name, rows in held_out.groupby(evaluator_names(held_out), sort=True):
        usable = rows[(rows["status"] == OK) & rows["score"].notna()]
        predicted = usable.groupby(key)["score"].mean().reindex(gold.index)
        kept = predicted.notna().to_numpy()
        row, weights = prompt_weights(items, gold.index.get_level_values("item_id")[kept], resamples, seed)
        metrics = element_labels(predicted.to_numpy(dtype=float)[kept], gold.to_numpy(dtype=float)[kept], row, weights)
        reason = None if kept.any() else "no element has both a label and a score"
        out[str(name)] = {
            metric: bootstrap_estimate(
                getattr(metrics, metric), confidence, weights.table.shape[1], reason, n=int(kept.sum())
            )
            for metric in ("accuracy", "precision", "recall", "f1")
        } | {"n_unscored": int((~kept).sum())}
    return out


def preference_accuracy(
    items: pd.DataFrame,
    preferences: pd.DataFrame,
    scores: pd.DataFrame,
    answers: pd.DataFrame | None,
    resamples: int,
    confidence: float,
    seed: int,
) -> Json:
    """Accuracy of each judge's preferences against people's: name -> dimension -> metric.

    ``accuracy`` counts an exact match of a, b or tie; ``accuracy_without_ties`` is over the preferences that are not
    ties, and counts a tie of the judge as one half. ``by_strength`` is the same for each strength of a preference, where they are given.

    Args:
        items: which items count.
        preferences: table ``preferences``; every rater's label counts.
        scores: table ``scores``: the judge prefers the item with the higher score.
        answers: table ``preference_scores`` of judges asked for a preference; they stand under the dimension "", with
            ``order_consistency`` beside where they were asked in both orders: the fraction of pairs whose label is the same in both.
        resamples: number of bootstrap resamples of prompts.
        confidence: confidence level of the intervals, such as 0.95.
        seed: random seed of the resamples.
    """
    known = set(items["item_id"])
    preferences = PREFERENCES.check(preferences)
    pairs = preferences[preferences["item_a"].isin(known) & preferences["item_b"].isin(known)]
    label = np.asarray(pairs["label"].map({"a": 1, "b": -1, "tie": 0}), dtype=np.int8)
    row, weights = prompt_weights(items, pd.Index(pairs["item_a"]), resamples, seed)
    strength = np.asarray(pairs["strength"], dtype=np.float64)
    table = oriented_scores(scores[scores["item_id"].isin(known)])["score"]
    out: Json = {}
    for name, dimension in sorted({(evaluator, dimension) for evaluator, dimension, _ in table.index}):
        of_judge = table.loc[(name, dimension)]
        a, b = (np.asarray(of_judge.reindex(pairs[side]), dtype=np.float64) for side in ("item_a", "item_b"))
        gap = a - b
        out.setdefault(str(name), {})[str(dimension)] = _hits(gap, label, row, weights, confidence, strength)
    if answers is not None:
        key = ["item_a", "item_b"]  # an item has one prompt, which tables may spell in several ways
        answered = answers[answers["status"] == OK]
        for name, rows in answered.groupby(evaluator_names(answered), sort=True):
            asked = rows[key].assign(label=_signed(rows["label"]))
            turned = asked.rename(columns={"item_a": "item_b", "item_b": "item_a"}).assign(label=-asked["label"])
            both = pd.concat([asked, turned]).drop_duplicates(key)  # raters may have seen a pair in either order
            predicted = both.set_index(key)["label"]
            gap = np.asarray(predicted.reindex(pd.MultiIndex.from_frame(pairs[key])), dtype=np.float64)
            figures = _hits(gap, label, row, weights, confidence, strength)
            asked_twice = rows[rows["consistent"].notna() & rows["item_a"].isin(known)]
            if len(asked_twice):
                own_row, own_weights = prompt_weights(items, pd.Index(asked_twice["item_a"]), resamples, seed)
                same = asked_twice["consistent"].to_numpy(dtype=float)
                figures["order_consistency"] = _mean(same, own_row, own_weights, confidence, "no pair in both orders")
            out.setdefault(str(name), {})[""] = figures
    return out


def position_bias(shown: pd.DataFrame, preferences: pd.DataFrame, resamples: int, confidence: float, seed: int) -> Json:
    """How often a judge prefers the image that it is shown first: name -> figures, intervals over prompts.

    ``first_preferred`` is over the verdicts that are no tie; ``first_preferred_by_people`` is people's on the same pairs and places,
    which a judge without bias would come near. Where a judge was asked about a pair in both orders, ``consistent`` is how often it
    prefers the same image (or none) in both, and there the unbiased value of ``first_preferred`` is one half.

    Args:
        shown: verdicts as they were asked: prompt_id, item_a (shown first), item_b, evaluator, label.
        preferences: table ``preferences``.
        resamples: number of bootstrap resamples of prompts.
        confidence: confidence level of the intervals, such as 0.95.
        seed: random seed of the resamples.
    """
    label = _signed(preferences["label"])
    both_sides = [
        preferences[["item_a", "item_b"]].set_axis(["first", "second"], axis=1).assign(people=label),
        preferences[["item_b", "item_a"]].set_axis(["first", "second"], axis=1).assign(people=-label),
    ]
    people = pd.concat(both_sides).groupby(["first", "second"])["people"].mean()
    out: Json = {}
    for name, rows in shown.groupby("evaluator", sort=True):
        prompt, prompts = pd.factorize(rows["prompt_id"], sort=True)
        weights = Weights(with_sample(resample_counts(len(prompts), resamples, seed)))
        verdict = _signed(rows["label"]).to_numpy()
        by_people = people.reindex(pd.MultiIndex.from_frame(rows[["item_a", "item_b"]])).to_numpy(dtype=float)
        turned = rows.rename(columns={"item_a": "item_b", "item_b": "item_a"})[["item_a", "item_b", "label"]]
        twice = rows.reset_index(names="place").merge(
            turned.drop_duplicates(["item_a", "item_b"]), on=["item_a", "item_b"], suffixes=("", "_turned")
        )
        same = np.full(len(rows), np.nan)
        at = pd.Index(rows.index).get_indexer(twice["place"])
        same[at] = _signed(twice["label"]) == -_signed(twice["label_turned"])
        figures = {
            "first_preferred": np.where(verdict != 0, verdict > 0, np.nan),
            "first_preferred_by_people": np.where(np.nan_to_num(by_people) != 0, by_people > 0, np.nan),
            "consistent": same,
        }
        out[str(name)] = {
            figure: _mean(values, prompt.astype(np.int64), weights, confidence, "no such verdict")
            for figure, values in figures.items()
        } | {"n_verdicts": len(rows), "n_pairs_in_both_orders": len(twice) // 2}
    return out


def _signed(labels: pd.Series) -> pd.Series:
    """1 where the first image is preferred, -1 where the second is, 0 for a tie, NaN where there is no label."""
    return labels.map({"a": 1.0, "b": -1.0, "tie": 0.0}).astype(float)


def _mean(values: Floats, row: Ints, weights: Weights, confidence: float, reason: str) -> Json:
    """The mean of ``values`` that are finite, with its interval."""
    used = np.isfinite(values)
    total, number = weights.sums(np.column_stack([values[used], np.ones(used.sum())]), row[used]).T
    with np.errstate(divide="ignore", invalid="ignore"):
        return bootstrap_estimate(
            total / number, confidence, len(np.unique(row[used])), None if used.any() else reason, n=int(used.sum())
        )


def _hits(
    gap: Floats,
    label: np.ndarray[tuple[int, ...], np.dtype[np.int8]],
    row: Ints,
    weights: Weights,
    confidence: float,
    strength: Floats,
) -> Json:
    kept = np.isfinite(gap)
    exact, half = preference_hits(gap[kept], label[kept])
    reason = "no preference has a score for both items"
    out: Json = {"n_unscored": int((~kept).sum())}
    for name, values in (("accuracy", exact), ("accuracy_without_ties", half)):
        out[name] = _mean(values, row[kept], weights, confidence, reason)
    strengths = np.unique(strength[np.isfinite(strength)])
    if len(strengths):
        out["by_strength"] = {
            f"{value:g}": _mean(half[strength[kept] == value], row[kept][strength[kept] == value], weights, confidence, reason)
            for value in strengths
        }  # fmt: skip
    return out


def prompt_weights(items: pd.DataFrame, item_ids: pd.Index, resamples: int, seed: int) -> tuple[Ints, Weights]:
    """The weight row of each item (its prompt's), and the weightings: all ones, then the resamples."""
    text = items["prompt"].where(items["prompt"] != "", items["prompt_id"])
    row, names = pd.factorize(pd.Series(text.to_numpy(), index=items["item_id"]).loc[item_ids].to_numpy(), sort=True)
    return row.astype(np.int64), Weights(with_sample(resample_counts(len(names), resamples, seed)))
