"""Intervals for other targets than new prompts: new generators, new raters, new prompts and generators at once.

* Generators: whole generators are resampled. With fewer than 8 there is no interval.
* Raters: whole raters are resampled and the gold is averaged anew. Raters must be identified persons.
* Prompts and generators: both are resampled, an item counts with the product of both counts. This two-way ("pigeonhole")
  bootstrap is known to be too wide: noise of single items enters up to three times (McCullagh 2000; Owen 2007, "The
  pigeonhole bootstrap").
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from t2i_eval_kedro.statistics.bootstrap import resample_counts
from t2i_eval_kedro.statistics.correlation import STATISTIC_FUNCTIONS
from t2i_eval_kedro.statistics.kernels import Floats, Ints
from t2i_eval_kedro.statistics.pooled import Weights, pooled_statistics
from t2i_eval_kedro.statistics.ties import keep_ties

BLOCK = 128
"""Resamples whose counts of single items are held in memory at once."""

RATER_RESAMPLES = 200
"""Number of rater resamples. Kept small because the mean ratings, and so the ranks, are recomputed for each."""

TWO_WAY_RESAMPLES = 200
"""Most resamples of prompts and generators at once: every item has a count of its own in each."""


def over_generators(
    x: Floats, y: Floats, generator: Ints, generators: int, resamples: int, seed: int, names: tuple[str, ...]
) -> dict[str, Floats]:
    """Statistics under a bootstrap of whole generators, each ``(resamples,)``; items of no generator are left out."""
    kept = generator >= 0
    weights = Weights(resample_counts(generators, resamples, seed))
    return pooled_statistics(x[kept], y[kept], generator[kept], weights, names)


def over_prompts_and_generators(
    x: Floats,
    y: Floats,
    prompt: Ints,
    prompts: int,
    generator: Ints,
    generators: int,
    resamples: int,
    seed: int,
    names: tuple[str, ...],
) -> dict[str, Floats]:
    """Statistics under the two-way bootstrap, each ``(resamples,)``."""
    kept = generator >= 0
    cell, row = np.unique(prompt[kept] * generators + generator[kept], return_inverse=True)
    # Drawn from separate streams, so that the counts of prompts and of generators are independent.
    of_prompts, of_generators = (
        resample_counts(prompts, resamples, seed),
        resample_counts(generators, resamples, seed + 1),
    )
    parts = []
    for begin in range(0, resamples, BLOCK):
        part = slice(begin, begin + BLOCK)
        table = of_prompts[part][:, cell // generators] * of_generators[part][:, cell % generators]
        parts.append(pooled_statistics(x[kept], y[kept], row, Weights(table), names))
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def over_raters(
    x: Floats, table: Floats, resamples: int, seed: int, names: tuple[str, ...]
) -> dict[str, npt.NDArray[np.float64]]:
    """Statistics under a bootstrap of whole raters, each ``(resamples,)``.

    Args:
        x: ``(n,)`` scores, NaN where missing.
        table: ``(n, raters)`` ratings, NaN where missing. Items that no drawn rater rated are left out of that resample.
        resamples: number of resamples; equal resamples are computed once.
        seed: random seed of the resamples.
        names: statistics, any of :data:`~t2i_eval_kedro.statistics.correlation.STATISTIC_FUNCTIONS`.
    """
    different, place = np.unique(resample_counts(table.shape[1], resamples, seed), axis=0, return_inverse=True)
    filled, present = np.nan_to_num(table), np.isfinite(table).astype(float)
    out = {name: np.full(len(different), np.nan) for name in names}
    for position, counts in enumerate(different.astype(float)):
        number = present @ counts
        kept = (number > 0) & np.isfinite(x)
        gold = keep_ties((filled @ counts)[kept] / number[kept])
        for name in names:
            out[name][position] = STATISTIC_FUNCTIONS[name](x[kept], gold)
    return {name: values[place.ravel()] for name, values in out.items()}
