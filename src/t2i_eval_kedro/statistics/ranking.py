"""System level: does the judge rank the generators as people do?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from t2i_eval_kedro.statistics.bootstrap import resample_counts
from t2i_eval_kedro.statistics.kernels import Counts, Floats, Ints
from t2i_eval_kedro.statistics.pooled import Weights, integer_product, pooled_statistics
from t2i_eval_kedro.statistics.ties import snap_ties

MIN_GENERATORS = 8
"""Fewer generators than this are too few to say anything about new generators: no permutation, no bootstrap of generators."""


@dataclass(frozen=True)
class SystemAgreement:
    """Agreement of two rankings of generators, each ``(weightings,)``."""

    kendall_b: Floats
    spearman: Floats
    pearson: Floats
    pairwise_accuracy: Floats


def among_used(generator: Ints) -> tuple[Ints, Ints]:
    """The generators that occur in ``generator``, and the index of each item's among them; -1 stays (a real photograph)."""
    used = np.unique(generator[generator >= 0])
    return used, np.where(generator >= 0, np.searchsorted(used, generator), -1)


def generator_means(values: Floats, generator: Ints, generators: int, row: Ints, weights: Weights) -> Floats:
    """Mean of ``values`` over each generator's items, ``(weightings, G)``; NaN where a weighting has none.

    Args:
        values: ``(n,)`` scores or ratings.
        generator: ``(n,)`` index of the generator; -1 is left out (a real photograph).
        generators: number of generators, G.
        row: ``(n,)`` weight row of each item.
        weights: table of weightings.
    """
    kept = generator >= 0
    rows = weights.table.shape[1]
    cell = row[kept] * generators + generator[kept]
    total = np.bincount(cell, weights=values[kept], minlength=rows * generators).reshape(rows, generators)
    number = np.bincount(cell, minlength=rows * generators).reshape(rows, generators)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(weights.product(total) / weights.product(number))


def compare_means(judge: Floats, people: Floats) -> SystemAgreement:
    """Agreement of ``(weightings, G)`` means of the judge with those of people."""
    judge, people = snap_ties(judge), snap_ties(people)
    first, second = np.triu_indices(judge.shape[1], 1)
    a, b = np.sign(judge[:, first] - judge[:, second]), np.sign(people[:, first] - people[:, second])
    with np.errstate(divide="ignore", invalid="ignore"):
        tau = (a * b).sum(axis=1) / np.sqrt((a != 0).sum(axis=1)) / np.sqrt((b != 0).sum(axis=1))
        accuracy = np.where(np.isnan(a).any(axis=1), np.nan, (a == b).mean(axis=1) if len(first) else np.nan)
    return SystemAgreement(tau, _rows(_ranks(judge), _ranks(people)), _rows(judge, people), accuracy)


def _ranks(means: Floats) -> Floats:
    return np.asarray(stats.rankdata(means, axis=1), dtype=float)


def _rows(a: Floats, b: Floats) -> Floats:
    """Pearson's correlation of each row of ``a`` with that of ``b``."""
    a, b = _centred(a), _centred(b)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((a * b).sum(axis=1) / np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1)))


def _centred(rows: Floats) -> Floats:
    """Each row minus its mean, divided by the largest deviation: squares neither vanish nor overflow; NaN if constant."""
    deviation = rows - rows.mean(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(deviation / np.abs(deviation).max(axis=1, keepdims=True, initial=0.0))


def random_signs(prompts: int, permutations: int, seed: int) -> npt.NDArray[np.int8]:
    """``(permutations, P)`` of +1 and -1, each with probability one half; one byte each."""
    rng = np.random.default_rng(seed)
    out = np.empty((permutations, prompts), dtype=np.int8)
    for row in out:
        row[:] = rng.choice([-1.0, 1.0], size=prompts)
    return out


def order_p_values(values: Floats, generator: Ints, generators: int, prompt: Ints, signs: Counts) -> Floats:
    """One-sided p-value that generator i is better than j, ``(pairs,)``, by exchanging their items prompt by prompt.

    Only prompts with items of both count. Small p means that i is better.

    Args:
        values: ``(n,)`` scores or ratings.
        generator: ``(n,)`` index of the generator; -1 is left out.
        generators: number of generators.
        prompt: ``(n,)`` index of the prompt.
        signs: ``(permutations, P)`` of +1 and -1, the same for the judge and for people.
    """
    rows = signs.shape[1]
    kept = generator >= 0
    cell = prompt[kept] * generators + generator[kept]
    with np.errstate(divide="ignore", invalid="ignore"):
        means = np.bincount(cell, weights=values[kept], minlength=rows * generators) / np.bincount(
            cell, minlength=rows * generators
        )
    table = means.reshape(rows, generators)
    first, second = np.triu_indices(generators, 1)
    gap = np.nan_to_num(table[:, first] - table[:, second])
    observed = gap.sum(axis=0)
    null = integer_product(signs, gap)
    slack = 1e-9 * np.abs(gap).sum(axis=0)
    # Half of the permutations equal to the observed sum: two generators that are exactly alike get one half.
    above, equal = (null > observed + slack).sum(axis=0), (np.abs(null - observed) <= slack).sum(axis=0)
    return np.asarray((above + 0.5 * equal + 0.5) / (len(signs) + 1))


def soft_pairwise_accuracy(judge: Floats, people: Floats) -> float:
    """``1 - mean |p_people - p_judge|`` over pairs of generators.

    Thompson et al. (2024), "Improving Statistical Significance in Human Evaluation of Automatic Metrics via Soft
    Pairwise Accuracy"; the p-values are those of :func:`order_p_values`.
    """
    return float(1 - np.abs(judge - people).mean()) if len(judge) else float("nan")


def kendall_over_generators(judge: Floats, people: Floats, resamples: int, seed: int) -> Floats:
    """Kendall's tau-b of ``(G,)`` means under a bootstrap of the generators, ``(resamples,)``."""
    counts = Weights(resample_counts(len(judge), resamples, seed))
    rows = np.arange(len(judge))
    return pooled_statistics(snap_ties(judge), snap_ties(people), rows, counts, ("kendall_b",))["kendall_b"]


def rank_probabilities(means: Floats) -> Floats:
    """``(G, G)`` fraction of resamples in which generator g has rank r, 0 the highest mean; a tie counts in equal parts.

    Args:
        means: ``(resamples, G)`` means; resamples with a missing mean are left out.
    """
    kept = means[np.isfinite(means).all(axis=1)]
    size = means.shape[1]
    out = np.zeros((size, size))
    if len(kept) == 0:
        return np.full((size, size), np.nan)
    lowest = -snap_ties(kept)
    best = stats.rankdata(lowest, axis=1, method="min").astype(int) - 1
    worst = stats.rankdata(lowest, axis=1, method="max").astype(int) - 1
    for rank in range(size):
        at_rank = (best <= rank) & (rank <= worst)
        out[:, rank] = (at_rank / (worst - best + 1)).sum(axis=0)
    return out / len(kept)
