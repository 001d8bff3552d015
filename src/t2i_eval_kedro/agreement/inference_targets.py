"""Intervals for other targets than new prompts: new generators, new raters, new prompts and generators at once.

* Generators: whole generators are drawn again. With fewer than 8 there is no interval.
* Raters: whole raters are drawn again and the gold is averaged anew. Raters must be persons who can be told apart.
* Prompts and generators: both are drawn, an item counts with the product of both counts. This two-way ("pigeonhole")
  bootstrap is known to be too wide: noise of single items enters up to three times (McCullagh 2000; Owen 2007, "The
  pigeonhole bootstrap").
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from t2i_eval_kedro.agreement.rated_items import keep_ties
from t2i_eval_kedro.statistics.bootstrap import draw_counts
from t2i_eval_kedro.statistics.correlation import STATISTICS
from t2i_eval_kedro.statistics.kernels import Floats, Ints
from t2i_eval_kedro.statistics.pooled import Weights, pooled_statistics

BLOCK = 128
"""Draws whose counts of single items are held in memory at once."""

RATER_DRAWS = 200
"""Draws of raters: the order of the gold changes with each, so that nothing can be sorted beforehand."""

TWO_WAY_DRAWS = 200
"""Most draws of prompts and generators at once: every item has a count of its own in each."""


def over_generators(
    x: Floats, y: Floats, generator: Ints, generators: int, draws: int, seed: int, names: tuple[str, ...]
) -> dict[str, Floats]:
    """Statistics under a bootstrap of whole generators, each ``(draws,)``; items of no generator are left out."""
    kept = generator >= 0
    weights = Weights(draw_counts(generators, draws, seed))
    return pooled_statistics(x[kept], y[kept], generator[kept], weights, names)


def over_prompts_and_generators(
    x: Floats,
    y: Floats,
    prompt: Ints,
    prompts: int,
    generator: Ints,
    generators: int,
    draws: int,
    seed: int,
    names: tuple[str, ...],
) -> dict[str, Floats]:
    """Statistics under the two-way bootstrap, each ``(draws,)``."""
    kept = generator >= 0
    cell, row = np.unique(prompt[kept] * generators + generator[kept], return_inverse=True)
    # Drawn from separate streams, so that the counts of prompts and of generators are independent.
    of_prompts, of_generators = draw_counts(prompts, draws, seed), draw_counts(generators, draws, seed + 1)
    parts = []
    for begin in range(0, draws, BLOCK):
        part = slice(begin, begin + BLOCK)
        table = of_prompts[part][:, cell // generators] * of_generators[part][:, cell % generators]
        parts.append(pooled_statistics(x[kept], y[kept], row, Weights(table), names))
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def over_raters(
    x: Floats, table: Floats, draws: int, seed: int, names: tuple[str, ...]
) -> dict[str, npt.NDArray[np.float64]]:
    """Statistics under a bootstrap of whole raters, each ``(draws,)``.

    Args:
        x: ``(n,)`` scores, NaN where missing.
        table: ``(n, raters)`` ratings, NaN where missing. Items that no drawn rater rated are left out of that draw.
        draws: number of draws; equal draws are computed once.
        seed: of the draws.
        names: of :data:`~t2i_eval_kedro.statistics.correlation.STATISTICS`.
    """
    different, place = np.unique(draw_counts(table.shape[1], draws, seed), axis=0, return_inverse=True)
    filled, present = np.nan_to_num(table), np.isfinite(table).astype(float)
    out = {name: np.full(len(different), np.nan) for name in names}
    for position, counts in enumerate(different.astype(float)):
        number = present @ counts
        kept = (number > 0) & np.isfinite(x)
        gold = keep_ties((filled @ counts)[kept] / number[kept])
        for name in names:
            out[name][position] = STATISTICS[name](x[kept], gold)
    return {name: values[place.ravel()] for name, values in out.items()}
