"""Figures that sources have printed, beside what their released data gives.

``published.csv`` holds the printed figures as facts. Each is computed twice: ``as_published`` as the source computes
it, which is not always what its label says, and ``corrected`` as the label says. ``actual_method``
names how the printed figure was computed.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator
from importlib import resources

import numpy as np
import pandas as pd

from t2i_eval_kedro import schema
from t2i_eval_kedro.agreement.challenge import viescore_average
from t2i_eval_kedro.agreement.human_agreement import rating_table
from t2i_eval_kedro.agreement.rated_items import RatedItems, build
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.statistics.correlation import kendall_b, pearson, spearman
from t2i_eval_kedro.statistics.estimates import Json, round_or_none
from t2i_eval_kedro.statistics.grouping import fisher_mean
from t2i_eval_kedro.statistics.kernels import Floats
from t2i_eval_kedro.statistics.reliability import leave_one_rater_out

Row = dict[str, str]
Reproduction = tuple[float, float, str, int]
"""As published, corrected, the method of the published figure, and the number of items of the corrected one."""


def facts() -> list[Row]:
    """The rows of ``published.csv``: benchmark, system, target, statistic_as_labelled, value (as printed), note."""
    text = resources.files("t2i_eval_kedro.agreement").joinpath("published.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def reproduce(
    items: pd.DataFrame, ratings: pd.DataFrame, scores: pd.DataFrame, element_scores: pd.DataFrame | None = None
) -> list[Json]:
    """Every printed figure of the benchmark of ``items``, beside what the data gives; empty where there is none.

    Args:
        items: canonical table of the *whole* benchmark, as its reader yields it.
        ratings: canonical table of people's ratings.
        scores: recorded scores.
        element_scores: recorded answers to single questions; without them an item that a judge did not answer is
            recognised by the status of its score only.

    Returns:
        One entry a figure: ``{system, target, statistic_as_labelled, published, as_published, corrected, match,
        actual_method, n}``; ``match`` says whether ``as_published`` equals the printed figure to its last digit.

    Raises:
        T2IEvalError: ``items`` mixes benchmarks.
    """
    names = sorted(set(items["benchmark"]))
    if len(names) > 1:
        raise T2IEvalError(f"Published figures belong to one benchmark; the items are of {', '.join(names)}.")
    rows = [row for row in facts() if row["benchmark"] in names]
    if not rows:
        return []
    samples = build(items, ratings, scores)
    judges = {name: judge for name, (judge, _) in schema.evaluators(scores).items()}
    compute = {"tifa160": _tifa, "dsg": _dsg, "viescore_imagenhub": _viescore}[names[0]]
    answers = schema.ELEMENT_SCORES.empty() if element_scores is None else element_scores
    return [
        _entry(row, compute(row, samples, ratings, answers[answers["judge"] == judges.get(row["system"])]))
        for row in rows
    ]


def _entry(row: Row, computed: Reproduction | None) -> Json:
    printed = float(row["value"])
    digits = len(row["value"].partition(".")[2])
    head: Json = {name: row[name] for name in ("system", "target", "statistic_as_labelled")} | {"published": printed}
    if computed is None:
        reason = "the benchmark's files hold no scores of this system"
        return head | {"as_published": None, "corrected": None, "match": False, "reason": reason}
    as_published, corrected, actual_method, n = computed
    match = math.isfinite(as_published) and f"{as_published:.{digits}f}" == f"{printed:.{digits}f}"
    out = head | {
        "as_published": round_or_none(as_published),
        "corrected": round_or_none(corrected),
        "match": match,
        "actual_method": actual_method,
        "n": n,
    }
    return out | ({"note": row["note"]} if row["note"] else {})


def _tifa(
    row: Row, samples: dict[str, RatedItems], ratings: pd.DataFrame, answers: pd.DataFrame
) -> Reproduction | None:
    """Over all items; what is printed as Spearman is Pearson."""
    sample = samples.get("alignment")
    if sample is None or row["system"] not in sample.scores:
        return None
    scores = sample.scores[row["system"]]
    x, y = scores[np.isfinite(scores)], sample.gold[np.isfinite(scores)]
    if row["statistic_as_labelled"] == "spearman":
        return pearson(x, y), spearman(x, y), "Pearson's correlation, printed as Spearman's", len(x)
    value = kendall_b(x, y)
    return value, value, "Kendall's tau-b", len(x)


def _dsg(row: Row, samples: dict[str, RatedItems], ratings: pd.DataFrame, answers: pd.DataFrame) -> Reproduction | None:
    """Over all items; an item without an answer of the question-answering model counts 0, as if it had said no."""
    sample = samples.get("alignment")
    if sample is None or row["system"] not in sample.scores:
        return None
    scores = sample.scores[row["system"]]
    answered = np.isfinite(scores)
    if len(answers):
        answered &= np.isin(np.array(sample.item_ids, dtype=object), answers["item_id"].unique())
    function, name = {"spearman": (spearman, "Spearman's rho"), "kendall": (kendall_b, "Kendall's tau-b")}[
        row["statistic_as_labelled"]
    ]
    zeroed = np.where(answered, scores, 0.0)
    unanswered = int((~answered).sum())
    actual_method = f"{name} with {unanswered} unanswered item{'s' * (unanswered != 1)} scored 0"
    return (
        function(zeroed, sample.gold),
        function(scores[answered], sample.gold[answered]),
        actual_method,
        int(answered.sum()),
    )


def _viescore(
    row: Row, samples: dict[str, RatedItems], ratings: pd.DataFrame, answers: pd.DataFrame
) -> Reproduction | None:
    """Per generator, then averaged over generators by a Fisher mean that lacks its arctanh."""
    sample = samples.get(row["statistic_as_labelled"].partition(",")[0].removeprefix("spearman "))
    if sample is None:
        return None
    if row["system"] == "human raters":
        table = rating_table(ratings, sample)
        of_raters = [leave_one_rater_out(table[at], "spearman")[0] for at in _by_generator(sample)]
        shrunk = [viescore_average([float(np.mean(values))]) for values in of_raters]
        actual_method = (
            "tanh(mean(tanh(r))) over generators of the raters' mean Spearman: a Fisher mean without its arctanh, twice"
        )
        corrected = fisher_mean(np.concatenate(of_raters))
        return viescore_average(shrunk), corrected, actual_method, len(sample.gold)
    if row["system"] not in sample.scores:
        return None
    scores = sample.scores[row["system"]]
    # The source adds the raters up as they come, so that equal means of O may differ in the last bit and are no ties.
    plain = rating_table(ratings, sample).mean(axis=1)
    summed, tied = (
        [_defined(spearman, scores[at], gold[at]) for at in _by_generator(sample)] for gold in (plain, sample.gold)
    )
    actual_method = "tanh(mean(r)) over generators: a Fisher mean without its arctanh"
    if summed != tied:
        actual_method += (
            f"; equal ratings that differ by rounding are not taken as ties (with ties {viescore_average(tied):.4f})"
        )
    return viescore_average(summed), fisher_mean(np.array(tied)), actual_method, int(np.isfinite(scores).sum())


def _by_generator(sample: RatedItems) -> Iterator[np.ndarray[tuple[int, ...], np.dtype[np.int64]]]:
    for g in range(len(sample.generators)):
        yield np.flatnonzero(sample.generator == g)


def _defined(function: Callable[[Floats, Floats], float], x: Floats, y: Floats) -> float:
    return function(x[np.isfinite(x)], y[np.isfinite(x)])
