"""What a judge that predicts numbers says, as canonical tables, as a summary and as a submission to a challenge."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from t2i_eval_kedro import schema
from t2i_eval_kedro.agreement.label_agreement import prompt_weights
from t2i_eval_kedro.judging.ensembles import EnsembleSettings, wide
from t2i_eval_kedro.statistics.estimates import Json, bootstrap_estimate
from t2i_eval_kedro.statistics.kernels import Floats, Ints
from t2i_eval_kedro.statistics.pooled import Weights, pooled_statistics
from t2i_eval_kedro.statistics.ties import Bools
from t2i_eval_kedro.training.heads.data import VALIDATION, HeadData, HeadItem
from t2i_eval_kedro.training.heads.judges import Predictions
from t2i_eval_kedro.training.heads.transfer import OtherBenchmarks

STATISTICS = ("spearman", "pearson")
TRANSFER_COLUMNS = (
    "evaluator",
    "trained_on",
    "judged",
    "dimension",
    "items",
    "prompts",
    "spearman",
    "low",
    "high",
    "left_out",
)
"""Columns of the cross-dataset table."""


def tables(
    judge: str, predictions: Predictions, items: Sequence[HeadItem], dimension: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The canonical tables ``scores`` (0 to 10) and ``element_scores`` (0 to 1) of ``items``.

    An element that is not found in its prompt has no score and the status ``not_applicable``.
    """
    scores = score_table(judge, {item.item_id: 10 * predictions.scores[item.item_id] for item in items}, dimension)
    elements = [
        {
            "item_id": item.item_id,
            "element_id": element,
            "judge": judge,
            "run": 0,
            "score": score,
            "status": schema.NOT_APPLICABLE if score is None else schema.OK,
        }
        for item in items
        for element, score in predictions.elements.get(item.item_id, {}).items()
    ]
    return scores, schema.ELEMENT_SCORES.frame(elements)


def score_table(judge: str, scores: Mapping[str, float], dimension: str) -> pd.DataFrame:
    """The canonical table ``scores`` of one judge, higher is better, from ``scores`` by item."""
    return schema.SCORES.frame(
        {
            "item_id": item,
            "judge": judge,
            "dimension": dimension,
            "run": 0,
            "score": score,
            "status": schema.OK,
            "higher_is_better": True,
        }
        for item, score in scores.items()
    )


def no_tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables of a judge that is not asked."""
    return schema.SCORES.empty(), schema.ELEMENT_SCORES.empty()


def summarise(
    data: HeadData,
    items: pd.DataFrame,
    fold: str,
    scores: pd.DataFrame,
    element_scores: pd.DataFrame,
    ensembles: Mapping[str, EnsembleSettings],
    costs: Mapping[str, Mapping[str, Any]],
    *,
    n_resamples: int,
    confidence: float,
    seed: int,
) -> Json:
    """Agreement of each judge with people on held-out prompts, and what each ensemble adds to its best member.

    Args:
        data: items with people's scores and labels.
        items: canonical table.
        fold: the held-out fold.
        scores: canonical table of all judges and ensembles.
        element_scores: canonical table.
        ensembles: members and method of each ensemble.
        costs: what each judge took: ``seconds`` of training, ``seconds_per_image`` of judging.
        n_resamples: bootstrap resamples of whole prompts.
        confidence: confidence level of the intervals.
        seed: random seed of the resamples.

    Returns:
        ``judges`` and ``ensembles`` by name. The best member is the one that agrees best on validation prompts, so that the
        choice does not see the prompts that the gain is measured on; where no member judged any, on the held-out ones,
        which understates the gain.
    """
    table = wide(scores, data.dimension)
    people = {item.item_id: item.rating for item in data.items if item.rating is not None}
    held_out = [item.item_id for item in data.items if item.fold == fold and item.item_id in people]
    checked = [item.item_id for item in data.items if item.fold == VALIDATION and item.item_id in people]

    def agreement(
        values: Sequence[pd.Series], chosen: Sequence[str], resamples: int
    ) -> tuple[list[dict[str, Any]], int, int]:
        """The statistics of each of ``values`` over the items that all of them score, under every weighting."""
        common = [item for item in chosen if all(np.isfinite(value.get(item, np.nan)) for value in values)]
        row, weights = prompt_weights(items, pd.Index(common), resamples, seed)
        gold = np.array([people[item] for item in common], dtype=float)
        estimates = [
            pooled_statistics(value.loc[common].to_numpy(dtype=float), gold, row, weights, STATISTICS) if common else {}
            for value in values
        ]
        return estimates, len(common), len(np.unique(row))

    judges: Json = {}
    for name in table.columns:
        estimates, n, prompts = agreement([table[name]], held_out, n_resamples)
        reason = None if n else "no held-out item has both a score and a rating"
        judges[str(name)] = {
            statistic: bootstrap_estimate(
                estimates[0].get(statistic, np.array([np.nan])), confidence, prompts, reason, n=n, n_prompts=prompts
            )
            for statistic in STATISTICS
        } | dict(costs.get(str(name), {}))
    for name, found_elements in element_summary(
        data, items, fold, element_scores, n_resamples, confidence, seed
    ).items():
        judges.setdefault(name, {})["elements"] = found_elements
    gains: Json = {}
    for name, settings in ensembles.items():
        members = list(settings.members)
        compared = [
            agreement([table[member]], checked or held_out, 1)[0][0].get("spearman", [np.nan])[0] for member in members
        ]
        best = members[int(np.nanargmax(compared))] if np.isfinite(compared).any() else members[0]
        (ours, theirs), n, prompts = agreement([table[name], table[best]], held_out, n_resamples)
        reason = None if n else "no held-out item has a score of all members"
        difference = ours["spearman"] - theirs["spearman"] if n else np.array([np.nan])
        seconds = [costs.get(member, {}).get("seconds_per_image") for member in members]
        gains[name] = {
            "method": settings.method,
            "members": members,
            "best_member": best,
            "gain": bootstrap_estimate(difference, confidence, prompts, reason, n=n, n_prompts=prompts),
            "seconds_per_image": None if None in seconds else float(np.sum(seconds)),  # type: ignore[arg-type]
        }
    return {"dimension": data.dimension, "fold": fold, "judges": judges, "ensembles": gains}


def element_summary(
    data: HeadData,
    items: pd.DataFrame,
    fold: str,
    element_scores: pd.DataFrame,
    n_resamples: int,
    confidence: float,
    seed: int,
) -> dict[str, Json]:
    """Accuracy of element scores by judge: the share that is right (threshold one half on both sides), and balanced.

    Balanced accuracy is the mean of the shares that are right among present and among absent elements. Elements without a
    score are counted in ``n_unscored`` and in nothing else. ``balanced_accuracy_fitted`` is the same with ``fitted_threshold`` for the
    judge (:func:`fitted_threshold`, of the validation prompts; ours), whose own uncertainty is not in the interval; both are absent where
    the judge scored no validation element, or people's labels of those are all alike.
    """
    gold, checked = (
        {(i.item_id, element): label for i in data.fold(name) for element, label in i.labels.items()}
        for name in (fold, VALIDATION)
    )
    out: dict[str, Json] = {}
    for judge, rows in element_scores.groupby("judge", sort=True):
        usable = rows[rows["status"] == schema.OK]
        pairs = zip(usable["item_id"].astype(str), usable["element_id"].astype(str), strict=True)
        answers = dict(zip(pairs, usable["score"].astype(float), strict=True))
        keys = sorted(answers.keys() & gold.keys())
        row, weights = prompt_weights(items, pd.Index([item for item, _ in keys]), n_resamples, seed)
        present = np.array([float(gold[key] >= 0.5) for key in keys])
        given = np.array([answers[key] for key in keys])

        def accuracies(
            threshold: float,
            present: Floats = present,
            given: Floats = given,
            row: Ints = row,
            weights: Weights = weights,
        ) -> tuple[Floats, Floats]:
            right = ((given >= threshold) == present).astype(float)
            columns = np.column_stack([right, right * present, present, right * (1 - present), 1 - present])
            total, hits, positives, passes, negatives = weights.sums(columns.reshape(-1, 5), row).T
            with np.errstate(divide="ignore", invalid="ignore"):
                return total / (positives + negatives), (hits / positives + passes / negatives) / 2

        values = dict(zip(("accuracy", "balanced_accuracy"), accuracies(0.5), strict=True))
        known = sorted(answers.keys() & checked.keys())
        fitted = fitted_threshold(
            np.array([answers[key] for key in known]), np.array([checked[key] >= 0.5 for key in known], dtype=bool)
        )
        if fitted is not None:
            values["balanced_accuracy_fitted"] = accuracies(fitted)[1]
        prompts = len(np.unique(row))
        out[str(judge)] = {
            name: bootstrap_estimate(value, confidence, prompts, None, n=len(keys)) for name, value in values.items()
        } | {"n_unscored": len(gold) - len(keys)}
        if fitted is not None:
            out[str(judge)]["fitted_threshold"] = round(fitted, 6)
    return out


def fitted_threshold(scores: Floats, present: Bools) -> float | None:
    """The score from which on elements count as present that gives the best balanced accuracy; the lowest of several.

    None where all of ``present``, of shape (n,) like ``scores``, are alike.

    Example:
        >>> fitted_threshold(np.array([0.2, 0.6, 0.7, 0.9]), np.array([False, False, True, True]))
        0.7
    """
    if not present.any() or present.all():
        return None
    values = np.unique(scores)
    hits = 1 - np.searchsorted(np.sort(scores[present]), values) / present.sum()
    passes = np.searchsorted(np.sort(scores[~present]), values) / (~present).sum()
    return float(values[np.argmax(hits + passes)])


def transfer_table(
    learned: str,
    fold: str,
    data: HeadData,
    others: OtherBenchmarks,
    scores: pd.DataFrame,
    trained: Iterable[str],
    *,
    n_resamples: int,
    confidence: float,
    seed: int,
) -> pd.DataFrame:
    """Spearman with people of each evaluator on the benchmark it learned from and on each other one.

    Args:
        learned: name of the benchmark that is learned from.
        fold: its held-out fold, which is measured.
        data: its items.
        others: benchmarks that are measured whole.
        scores: canonical table of the scores of all of these items, those of ``others`` under their longer names.
        trained: evaluators that learned from ``learned``; the others learned from none.
        n_resamples: bootstrap resamples of whole prompts.
        confidence: confidence level of the intervals.
        seed: random seed of the resamples.

    Returns:
        A row for each evaluator and benchmark, with :data:`TRANSFER_COLUMNS`: what people rated there (``dimension``), numbers of images and
        prompts, the interval over prompts (empty where there are too few), and the images that were left out because their prompt is
        learned from. No row where an evaluator scored nothing.
    """
    table = wide(scores, data.dimension)
    measured = {learned: ([i for i in data.items if i.fold == fold and i.rating is not None], data.dimension, 0)}
    measured |= {
        name: (others.items(name), other.data.dimension, other.left_out) for name, other in others.known.items()
    }
    trained = set(trained)
    rows = []
    for evaluator in table.columns:
        for name, (items, dimension, left_out) in measured.items():
            values = table[evaluator].reindex([item.item_id for item in items]).to_numpy(dtype=float)
            scored = [item for item, value in zip(items, values, strict=True) if np.isfinite(value)]
            if not scored:
                continue
            frame = pd.DataFrame({key: [getattr(i, key) for i in scored] for key in ("item_id", "prompt_id", "prompt")})
            row, weights = prompt_weights(frame, pd.Index(frame["item_id"]), n_resamples, seed)
            gold = np.array([item.rating for item in scored], dtype=float)
            statistic = pooled_statistics(values[np.isfinite(values)], gold, row, weights, ("spearman",))["spearman"]
            prompts = len(np.unique(row))
            estimate = bootstrap_estimate(statistic, confidence, prompts)
            rows.append(
                {
                    "evaluator": evaluator,
                    "trained_on": learned if evaluator in trained else "",
                    "judged": name,
                    "dimension": dimension,
                    "items": len(scored),
                    "prompts": prompts,
                    "spearman": estimate["value"],
                    "low": estimate["low"],
                    "high": estimate["high"],
                    "left_out": left_out,
                }
            )
    return pd.DataFrame(rows, columns=list(TRANSFER_COLUMNS))


def submission(
    data: HeadData,
    elements: Mapping[str, str],
    fold: str,
    scores: pd.DataFrame,
    element_scores: pd.DataFrame,
    judge: str,
) -> tuple[list[Json], list[Json]]:
    """``output.json`` of the NTIRE 2025 alignment track by ``judge``, and the truth to score it against.

    Args:
        data: items with people's scores and labels.
        elements: element -> its name in the file, ``<text> (<skill>)``, by ``<prompt_id>/<element_id>``.
        fold: the held-out fold.
        scores: canonical table; ranks are all that the challenge's score looks at, so they are brought to 1 to 5 by their range.
        element_scores: canonical table; an element without a score is written as 0, as a label that is missing counts as wrong.
        judge: name of the evaluator.
    """
    answered = (
        wide(scores, data.dimension)[judge].dropna()
        if judge in wide(scores, data.dimension)
        else pd.Series(dtype=float)
    )
    low, high = (float(answered.min()), float(answered.max())) if len(answered) else (0.0, 1.0)
    labels = element_scores[element_scores["judge"] == judge].set_index(["item_id", "element_id"])["score"].to_dict()
    answers, truth = [], []
    for item in data.items:
        if item.fold != fold or item.rating is None or item.item_id not in answered.index:
            continue
        names = {element: elements[f"{item.prompt_id}/{element}"] for element in item.labels}
        path = item.image
        score = 1 + 4 * (float(answered[item.item_id]) - low) / ((high - low) or 1.0)
        given = {element: labels.get((item.item_id, element)) for element in names}
        answers.append(
            {
                "img_path": path,
                "total_score": round(score, 6),
                "element_score": {names[e]: int(v is not None and v >= 0.5) for e, v in given.items()},
            }
        )
        truth.append(
            {
                "img_path": path,
                "prompt": item.prompt,
                "total_score": round(1 + 4 * item.rating, 6),
                "element_score": {names[e]: item.labels[e] for e in names},
            }
        )
    return answers, truth


def as_lines(entries: Sequence[Mapping[str, Any]]) -> str:
    """A JSON list with one entry a line."""
    return "[\n" + ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries) + "\n]\n"
