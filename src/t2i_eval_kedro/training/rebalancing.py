"""Balancing the training examples over the scores that they teach.

Teachers give high scores far more often than low ones, and a student of such examples learns to say "8". T2I-Eval
(arXiv 2411.15488; ``--rebalance`` in its released code) resamples every whole-number bin of scores to the same size,
the 75th percentile of the bins' sizes, which thins out large bins as well as repeating small ones.

The bins are [0, 1), [1, 2), ..., [9, 10), {10} on a scale of 0 to 10, and N/A for an example that teaches "no score".
Another scale is mapped to 0 to 10 linearly.

Copies of few examples are learned by heart, and a resampling by score says nothing of how much of each task is needed. Ours, the
method ``weighted``: nothing is copied; each example has a frequency with which a sampler draws it. Each kind of request has a share
of what is drawn, and within it bins of scores are evened out part of the way.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from t2i_eval_kedro.answers import N_A
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.protocols import skills
from t2i_eval_kedro.schema import EXAMPLES
from t2i_eval_kedro.steps import (
    ANSWER,
    ASPECTS,
    ATTRIBUTES,
    CONVERSATION,
    DIRECT,
    EXTRACT,
    MERGE,
    OVERALL,
    REASON,
    REASON_ASPECTS,
    REASONING,
    RELATIONS,
    SCORE,
    SUMMARY,
    YES_NO,
    YES_NO_NEGATIVE,
    aspect_of,
    explanation_task,
    score_task,
)
from t2i_eval_kedro.training.settings import REHEARSAL

logger = logging.getLogger(__name__)

BINS = (*(f"{low}-{low + 1}" for low in range(10)), "10", "N/A")
METHODS = ("official", "oversample", "undersample", "weighted", "none")
BY_ASPECT = (score_task(SUMMARY), SCORE, DIRECT, CONVERSATION, REASON, REASON_ASPECTS)
TASKS = (
    EXTRACT,
    *(name(aspect) for aspect in (*ASPECTS, SUMMARY) for name in (explanation_task, score_task)),
    *(SCORE, DIRECT, CONVERSATION, *REASONING, YES_NO, YES_NO_NEGATIVE, skills.TASK, REHEARSAL),
)
"""Every task that an example can be of."""
TABLE = ("task", "aspect", "bin", "before", "after")

_NOT_BINNED = "all"


@dataclass(frozen=True)
class _Row:
    """What balancing needs to know of one training example.

    ``group`` is the set it is balanced in, ``bin`` the bin of its score (of its partner's score, for an explanation),
    ``unit`` names the rows that are drawn together.
    """

    place: int
    task: str
    aspect: str
    group: str
    bin: str
    unit: str


def rebalance(
    examples: pd.DataFrame,
    *,
    method: str = "official",
    seed: int = 0,
    repeats: Mapping[str, int] | None = None,
    score_range: tuple[float, float] = (0.0, 10.0),
    split_pairs: bool = False,
    shares: Mapping[str, float | None] | None = None,
    evenness: float = 1.0,
    max_frequency: float = math.inf,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Resample the scored training examples so that the scores are balanced.

    Balanced are the questions of each aspect (``appearance_2``, ``attributes_2`` and ``relations_2``, each with its
    explanation in stage 1), the summaries (``summary_2``) and the direct requests for a score (``score``), the last two
    an aspect at a time. Everything else passes. Only the fold ``train`` is touched: no copy crosses into another.

    Args:
        examples: the table ``schema.EXAMPLES``.
        method: ``official``: every filled bin to the 75th percentile (linear interpolation) of all 12 bin sizes, N/A
            counted in it and then dropped. ``oversample``: to the largest bin. ``undersample``: to the smallest filled
            bin; both leave N/A as it is. ``weighted``: no copies but the column ``frequency``, see :func:`frequencies`.
            ``none``: nothing but the repeats.
        seed: random seed of the resampling.
        repeats: task -> how often its training examples are repeated after balancing; 1 where a task is not named.
        score_range: lowest and highest score of the wording.
        split_pairs: resample explanation and score apart, as the published code does; otherwise they stay together and
            each bin has the largest number of complete pairs that fits.
        shares, evenness, max_frequency: of ``weighted``.

    Returns:
        The examples, copies with ``#2``, ``#3``, ... after their ``example_id``, and a table (task, aspect, bin,
        before, after) of the training examples.

    Raises:
        T2IEvalError: an unknown method or task, a repeat below 1, or a score outside ``score_range``.
    """
    repeats = dict(repeats or {})
    if method not in METHODS:
        raise T2IEvalError(f"Unknown rebalancing method '{method}'; choose one of {', '.join(METHODS)}.")
    bad = [f"{task}: {count}" for task, count in repeats.items() if count < 1]
    if bad:
        raise T2IEvalError(f"Rebalancing must repeat a task at least once, not '{bad[0]}'.")
    examples = EXAMPLES.check(examples)
    train = examples[examples["fold"] == "train"].reset_index(drop=True)
    if unknown := sorted(set(repeats) - set(TASKS)):
        raise T2IEvalError(
            f"There is no task '{unknown[0]}' to repeat (rebalancing.repeats); the tasks are {', '.join(TASKS)}."
        )
    if method == "weighted" and repeats:
        raise T2IEvalError(
            "The method 'weighted' copies nothing; give rebalancing.shares in place of rebalancing.repeats."
        )
    rng = np.random.default_rng(seed)
    groups: dict[str, list[_Row]] = {}
    for row in _rows(train, score_range, split_pairs):
        groups.setdefault(row.group, []).append(row)
    if method == "weighted":
        return _weighted(examples, shares or {}, evenness, max_frequency, score_range)
    kept = [row for name in sorted(groups) for row in _resample(groups[name], method, rng)]
    kept = sorted((row for row in kept for _ in range(repeats.get(row.task, 1))), key=lambda row: row.place)
    balanced = _numbered(train.iloc[[row.place for row in kept]])
    before = [_cell(row) for rows in groups.values() for row in rows]
    after = Counter(_cell(row) for row in kept)
    return EXAMPLES.check(pd.concat([balanced, examples[examples["fold"] != "train"]])), _table(before, after)


def kinds(examples: pd.DataFrame) -> pd.Series:
    """The kind of each example: the name of the template that its request is written with.

    It says more than the task, which puts together a question's answer and its explanation, and the summaries and the merge.
    """
    kind = examples["task"].copy()
    checked = (ATTRIBUTES, RELATIONS)
    questions = kind.isin([explanation_task(aspect) for aspect in checked])
    answers = examples["example_id"].str.contains(rf"/{ANSWER}(?:#\d+)?$")
    kind = kind.mask(questions & answers, ANSWER).mask(questions & ~answers, "check_1")
    kind = kind.mask(kind.isin([score_task(aspect) for aspect in checked]), "check_2")
    merge = kind.isin([explanation_task(SUMMARY), score_task(SUMMARY)]) & (examples["aspect"] == OVERALL)
    return kind.mask(merge, kind.str.replace(SUMMARY, MERGE))


def frequencies(
    examples: pd.DataFrame,
    shares: Mapping[str, float | None],
    *,
    evenness: float = 1.0,
    max_frequency: float = math.inf,
    score_range: tuple[float, float] = (0.0, 10.0),
) -> np.ndarray:
    """How often each of ``examples`` is drawn in an epoch that is as long as there are examples.

    Args:
        examples: training examples.
        shares: kind (:func:`kinds`) -> its share of what is drawn; None for a kind that has none of its own. Such kinds divide what is left
            in proportion to how many examples they have. Where nothing is left, they are drawn as often as they are among the examples, and
            a warning says so. The other shares are scaled to what remains. The share of a kind that has no example goes to the others.
        evenness: 0 leaves scores as frequent as they are, 1 makes every bin as frequent as any other; between them, a bin of n
            examples counts as n to the power of one minus this. Applied to each aspect of each kind whose answers are scores. Answers
            without a score (N/A) stay as frequent as they are, and so do explanations and answers of yes and no.
        max_frequency: an example is drawn at most so many times as often as the mean of its kind.
        score_range: lowest and highest score.
    """
    kind = kinds(examples)
    given = {name: share for name, share in shares.items() if share is not None and (kind == name).any()}
    counts = kind[~kind.isin(list(given))].value_counts()
    left = 1 - sum(given.values())
    if left < 1e-9 and len(counts):
        left = float(counts.sum()) / len(kind)
        given = {name: share * (1 - left) / sum(given.values()) for name, share in given.items()}
        names = sorted(counts.index)
        logger.warning(
            "The shares of the other kinds leave nothing for %s, so each is drawn as often as it is among the examples, together %.1f%% of "
            "the time; give it a share of its own with rebalancing.shares.%s.",
            " and ".join(f"'{name}'" for name in names),
            100 * left,
            names[0],
        )
    present = given | {str(name): left * count / counts.sum() for name, count in counts.items()}
    total = sum(present.values())
    weight = _evened(examples, kind, evenness, score_range)
    out = np.zeros(len(examples))
    for name, share in present.items():
        rows = (kind == name).to_numpy()
        out[rows] = share / total * len(examples) * _capped(weight[rows], max_frequency)
    return out


def _evened(examples: pd.DataFrame, kind: pd.Series, evenness: float, score_range: tuple[float, float]) -> np.ndarray:
    """The weight of each example within its kind, 1 on average over an aspect of a kind."""
    names = [
        _bin(name, score, score_range)
        for name, score in zip(examples["example_id"], examples["score"].astype(float), strict=True)
    ]
    weight = np.ones(len(examples))
    table = pd.DataFrame({"kind": kind.to_numpy(), "aspect": examples["aspect"].to_numpy(), "bin": names})
    for _, rows in table[table["bin"] != "N/A"].groupby(["kind", "aspect"]):
        size = rows["bin"].map(rows["bin"].value_counts()).to_numpy(dtype=float)
        each = size**-evenness
        weight[rows.index] = each / each.mean()
    return weight


def _capped(weight: np.ndarray, most: float) -> np.ndarray:
    """``weight`` scaled to sum to one, none of it above ``most`` times its mean; what is cut off goes to the others."""
    scaled = weight / weight.sum()
    for _ in range(100):
        over = scaled > most / len(scaled) + 1e-12
        if not over.any() or over.all():
            break
        scaled[over] = most / len(scaled)
        free = scaled < most / len(scaled) - 1e-12
        scaled[free] *= (1 - scaled[~free].sum()) / scaled[free].sum()
    return np.asarray(scaled / scaled.sum())


def _weighted(
    examples: pd.DataFrame,
    shares: Mapping[str, float | None],
    evenness: float,
    max_frequency: float,
    score_range: tuple[float, float],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every example once, with how often it is drawn; the table's column ``after`` is what to expect of an epoch."""
    training = (examples["fold"] == "train").to_numpy()
    train = examples[training].reset_index(drop=True)
    drawn = examples["frequency"].to_numpy(dtype=float, copy=True)
    drawn[training] = frequencies(
        train, shares, evenness=evenness, max_frequency=max_frequency, score_range=score_range
    )
    bins = [
        _NOT_BINNED if math.isnan(score) and text != N_A else _bin(name, score, score_range)
        for name, score, text in zip(
            train["example_id"], train["score"].astype(float), train["completion"], strict=True
        )
    ]
    cells = list(zip(kinds(train), train["aspect"], bins, strict=True))
    after: dict[tuple[str, str, str], float] = {}
    for cell, frequency in zip(cells, drawn[training], strict=True):
        after[cell] = after.get(cell, 0.0) + frequency
    return EXAMPLES.check(examples.assign(frequency=drawn)), _table(cells, after)


def _scored_by(task: str) -> str | None:
    """The task that states the score of this task's question; None for a task that is about no one question."""
    aspect = aspect_of(task)
    return score_task(aspect) if aspect in ASPECTS else None


def _bin(example_id: str, score: float, score_range: tuple[float, float]) -> str:
    if math.isnan(score):
        return "N/A"
    low, high = score_range
    if not low <= score <= high:
        raise T2IEvalError(
            f"Example '{example_id}' teaches the score {score:g}, outside {low:g} to {high:g}; correct the example or "
            "the score range."
        )
    return BINS[int(round((score - low) / (high - low) * 10, 9))]


def _rows(train: pd.DataFrame, score_range: tuple[float, float], split_pairs: bool) -> list[_Row]:
    records = train[["example_id", "task", "aspect", "score", "question_id"]].to_dict("records")
    partner = {
        (record["task"], record["question_id"]): _bin(record["example_id"], record["score"], score_range)
        for record in records
        if _scored_by(record["task"]) == record["task"]
    }
    rows = []
    for place, record in enumerate(records):
        task, aspect, pair = record["task"], record["aspect"], record["question_id"]
        group, bin_, unit = _NOT_BINNED, _NOT_BINNED, record["example_id"]
        scored_by = _scored_by(task)
        if scored_by is not None and (scored_by, pair) in partner:
            group, bin_ = scored_by, partner[scored_by, pair]
            unit = unit if split_pairs else pair
        elif task in BY_ASPECT:
            group, bin_ = f"{task}/{aspect}", _bin(record["example_id"], record["score"], score_range)
        rows.append(_Row(place, task, aspect, group, bin_, unit))
    return rows


def _resample(rows: list[_Row], method: str, rng: np.random.Generator) -> list[_Row]:
    """One set after resampling, a row as often as it is kept."""
    bins: dict[str, list[_Row]] = {name: [row for row in rows if row.bin == name] for name in BINS}
    filled = {name: members for name, members in bins.items() if members and name != "N/A"}
    if method == "none" or not filled:
        return rows
    sizes = [len(members) for members in filled.values()]
    size = {
        "official": float(np.percentile([len(members) for members in bins.values()], 75)),
        "oversample": float(max(sizes)),
        "undersample": float(min(sizes)),
    }[method]
    kept = [] if method == "official" else list(bins["N/A"])
    for members in filled.values():
        units: dict[str, list[_Row]] = {}
        for row in members:
            units.setdefault(row.unit, []).append(row)
        names = list(units)
        n_units = math.floor(size * len(names) / len(members) + 1e-9)
        full, rest = divmod(n_units, len(names))
        drawn = rng.choice(len(names), size=rest, replace=False)
        kept += [row for name in names for _ in range(full) for row in units[name]]
        kept += [row for place in drawn for row in units[names[place]]]
    if not kept:
        logger.warning(
            "Only %d of the 12 score bins of '%s' are filled, so the 75th percentile of their sizes, %g, leaves no "
            "example; it is not rebalanced.",
            sum(bool(members) for members in bins.values()),
            rows[0].group,
            size,
        )
        return rows
    return kept


def _numbered(rows: pd.DataFrame) -> pd.DataFrame:
    """``rows`` with ``#2``, ``#3``, ... after the id of every copy."""
    seen: Counter[str] = Counter()
    names = []
    for example_id in rows["example_id"]:
        seen[example_id] += 1
        names.append(example_id if seen[example_id] == 1 else f"{example_id}#{seen[example_id]}")
    return rows.assign(example_id=names)


def _cell(row: _Row) -> tuple[str, str, str]:
    return row.task, row.aspect, row.bin


def _table(before: list[tuple[str, str, str]], after: Mapping[tuple[str, str, str], float]) -> pd.DataFrame:
    had = Counter(before)
    order = {name: place for place, name in enumerate((*BINS, _NOT_BINNED))}
    keys = sorted(had, key=lambda key: (key[0], key[1], order[key[2]]))
    return pd.DataFrame([(*key, had[key], round(after.get(key, 0))) for key in keys], columns=list(TABLE))
