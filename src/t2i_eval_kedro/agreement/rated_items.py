"""From the canonical tables to arrays: one sample a dimension, its items in one order, every judge's scores beside the
gold.

* Gold: the mean over raters of the ratings that are present and on the scale.
* A judge's score of an item: the mean over its runs that gave one, negated where lower is better.
* Scores under the dimension "" belong to a metric without a dimension of its own; they are compared with every rated
  dimension in which the judge has no scores of that dimension itself.
* Items without a rating are in no sample; items without a score stay as NaN and are counted, never imputed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.ratings import mean_ratings
from t2i_eval_kedro.schema import (
    FAILED,
    ITEMS,
    NOT_APPLICABLE,
    OK,
    RATINGS,
    SCORES,
    STATUSES,
    UNPARSED,
    evaluator_names,
    is_among,
)
from t2i_eval_kedro.statistics.kernels import Floats, Ints
from t2i_eval_kedro.statistics.ties import keep_ties

Missing = Literal["drop", "worst", "refuse", "mean"]


@dataclass(frozen=True)
class RatedItems:
    """The rated items of one dimension, sorted by ``item_id``, and every judge's scores of them.

    Attributes:
        dimension: what was rated.
        item_ids: ``(n,)`` identifiers.
        prompt: ``(n,)`` index of the item's prompt among the prompts of these items (one prompt = one text).
        generator: ``(n,)`` index into ``generators``; -1 for a real photograph, which has none.
        generators: names, sorted.
        gold: ``(n,)`` mean rating.
        scale: lowest and highest rating allowed.
        scores: judge -> ``(n,)`` oriented scores, NaN where there is none.
        scored: judge -> ``(n,)`` whether the judge scored the item; a score that stands in for a missing one does not count.
        counts: judge -> status -> number of rated items.
        runs: judge with several runs -> ``(n, runs)`` oriented scores, NaN where there is none.
        prompts: number of prompts.
    """

    dimension: str
    item_ids: tuple[str, ...]
    prompt: Ints
    generator: Ints
    generators: tuple[str, ...]
    gold: Floats
    scale: tuple[float, float]
    prompts: int
    scores: dict[str, Floats] = field(default_factory=dict)
    scored: dict[str, npt.NDArray[np.bool_]] = field(default_factory=dict)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    runs: dict[str, Floats] = field(default_factory=dict)


def build(
    items: pd.DataFrame, ratings: pd.DataFrame, scores: pd.DataFrame, *, missing: Missing = "drop"
) -> dict[str, RatedItems]:
    """Join the canonical tables into one sample a rated dimension, by name.

    Args:
        items: canonical table; only what joins to it is used.
        ratings: canonical table.
        scores: canonical table.
        missing: what stands for the score of a rated item that has none: ``drop`` leaves it out of that judge's
            figures, ``worst`` takes the judge's own worst score in the dimension, ``mean`` the mean of its other scores
            (as T2I-Eval's published evaluation does; it is never a default), ``refuse`` raises.

    Raises:
        T2IEvalError: a score is missing and ``missing`` is ``refuse``, or the policy is unknown.
    """
    if missing not in ("drop", "worst", "refuse", "mean"):
        raise T2IEvalError(f"Unknown policy for missing scores '{missing}'; choose drop, worst, refuse or mean.")
    items, ratings, scores = ITEMS.check(items), RATINGS.check(ratings), SCORES.check(scores)
    items = items.sort_values("item_id", ignore_index=True)
    text = items["prompt"].where(items["prompt"] != "", items["prompt_id"])
    prompt_names = text.to_numpy()
    real = _real(items)
    generators = tuple(sorted(set(items["generator"][~real])))
    index = {name: position for position, name in enumerate(generators)}
    generator = np.array([-1 if r else index[g] for g, r in zip(items["generator"], real, strict=True)], dtype=np.int64)
    place = pd.Series(np.arange(len(items)), index=items["item_id"])
    judged = oriented_scores(scores[is_among(scores["item_id"], items["item_id"])])
    several_runs = scores["run"].nunique() > 1
    out: dict[str, RatedItems] = {}
    for dimension, rows in mean_ratings(ratings[is_among(ratings["item_id"], items["item_id"])]).groupby(
        "dimension", sort=True
    ):
        at = np.sort(place.loc[rows["item_id"]].to_numpy())
        ordered = rows.set_index("item_id").loc[items["item_id"].iloc[at]]
        # By object: an array of fixed-width text would take the longest prompt's length for every item.
        prompt = pd.factorize(prompt_names[at].astype(object), sort=True)[0].astype(np.int64)
        sample = RatedItems(
            dimension=str(dimension),
            item_ids=tuple(ordered.index),
            prompt=prompt,
            generator=generator[at],
            generators=generators,
            gold=ordered["score"].to_numpy(dtype=float),
            scale=(float(ordered["scale_min"].min()), float(ordered["scale_max"].max())),
            prompts=int(prompt.max()) + 1,
        )
        _add_scores(sample, judged, missing)
        if several_runs:
            _add_runs(sample, scores)
        out[sample.dimension] = sample
    return out


def skills(items: pd.DataFrame, elements: pd.DataFrame | None = None) -> dict[str, set[str]]:
    """Skills of each item that has any: lists "skills" and "levels" of its attributes, and the skills of its prompt's elements."""
    if (elements is None or not len(elements)) and items["attributes"].isna().all():
        return {}
    by_prompt = {} if elements is None else elements.groupby("prompt_id")["skill"].agg(set).to_dict()
    out: dict[str, set[str]] = {}
    for item, prompt, text in zip(items["item_id"], items["prompt_id"], items["attributes"], strict=True):
        attributes = json.loads(text) if isinstance(text, str) else {}
        named = {str(tag) for key in ("skills", "levels") for tag in attributes.get(key) or ()}
        out[item] = named | by_prompt.get(prompt, set())
    return out


def _real(items: pd.DataFrame) -> pd.Series:
    """Which items are real photographs, by ``"real": true`` in their attributes."""
    return (
        items["attributes"]
        .map(lambda text: isinstance(text, str) and json.loads(text).get("real") is True)
        .astype(bool)
    )


def oriented_scores(scores: pd.DataFrame) -> pd.DataFrame:
    """The mean oriented score over the runs that gave one, and the status, by evaluator, dimension and item."""
    sign = np.where(scores["higher_is_better"].astype(bool), 1.0, -1.0)
    usable = (scores["status"] == OK) & scores["score"].notna()
    # A row that calls itself ok and holds no number is an answer without a valid score.
    status = scores["status"].where(usable | (scores["status"] != OK), UNPARSED)
    rank = status.map({name: position for position, name in enumerate((OK, UNPARSED, FAILED, NOT_APPLICABLE))})
    table = scores[["dimension", "item_id"]].assign(
        evaluator=evaluator_names(scores), score=(scores["score"] * sign).where(usable), rank=rank
    )
    grouped = table.groupby(["evaluator", "dimension", "item_id"], sort=True).agg(
        score=("score", "mean"), rank=("rank", "min")
    )
    several = table.duplicated(["evaluator", "dimension", "item_id"]).any()
    if several:
        grouped["score"] = keep_ties(grouped["score"].to_numpy(dtype=float))
    grouped["status"] = grouped.pop("rank").map(dict(enumerate((OK, UNPARSED, FAILED, NOT_APPLICABLE))))
    return grouped


def _add_scores(sample: RatedItems, judged: pd.DataFrame, missing: Missing) -> None:
    available = set(
        judged.reset_index()[["evaluator", "dimension"]].drop_duplicates().itertuples(index=False, name=None)
    )
    for name in sorted({evaluator for evaluator, _ in available}):
        scored = next((d for d in (sample.dimension, "") if (name, d) in available), None)
        if scored is None:
            continue
        rows = judged.loc[(name, scored)].reindex(list(sample.item_ids))
        counts = rows["status"].fillna(NOT_APPLICABLE).value_counts()
        sample.counts[name] = {status: int(counts.get(status, 0)) for status in STATUSES}
        values = rows["score"].to_numpy(dtype=float)
        sample.scored[name] = np.isfinite(values)
        sample.scores[name] = _fill(values, missing, name, sample)


def _add_runs(sample: RatedItems, scores: pd.DataFrame) -> None:
    names = evaluator_names(scores)
    for name in sample.scores:
        rows = scores[(names == name) & is_among(scores["item_id"], pd.Series(sample.item_ids, dtype="str"))]
        rows = rows[rows["dimension"] == (sample.dimension if (rows["dimension"] == sample.dimension).any() else "")]
        if rows["run"].nunique() < 2:
            continue
        sign = np.where(rows["higher_is_better"].astype(bool), 1.0, -1.0)
        usable = (rows["status"] == OK) & rows["score"].notna()
        wide = rows.assign(score=(rows["score"] * sign).where(usable)).pivot(
            index="item_id", columns="run", values="score"
        )
        sample.runs[name] = wide.reindex(list(sample.item_ids)).to_numpy(dtype=float)


def _fill(values: Floats, missing: Missing, name: str, sample: RatedItems) -> Floats:
    absent = np.isnan(values)
    if missing == "drop" or not absent.any():
        return values
    if missing == "refuse":
        first = sample.item_ids[int(np.argmax(absent))]
        raise T2IEvalError(
            f"Evaluator '{name}' has no score for {int(absent.sum())} of {len(values)} items rated for "
            f"'{sample.dimension}', the first '{first}'; add the scores or choose 'drop' or 'worst' for missing ones."
        )
    if absent.all():
        return values
    return np.where(absent, np.nanmin(values) if missing == "worst" else np.nanmean(values), values)
