"""Variants of a judge that were each trained with several seeds: their agreement, and how it differs from one of them.

* A variant's figure is the mean over its seeds.
* Its interval draws prompts and seeds again, both with replacement; all variants share the draws, and variants with the same
  seed are paired.
* The test swaps whole prompts between two variants, the same prompts in every seed, and takes the mean difference. Its target is
  new prompts with these seeds: a handful of seeds are too few for a test over seeds. p-values are adjusted by Holm's method.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from t2i_eval_kedro.agreement.rated_items import RatedItems
from t2i_eval_kedro.statistics import correlation
from t2i_eval_kedro.statistics import significance as tests
from t2i_eval_kedro.statistics.bootstrap import draw_counts
from t2i_eval_kedro.statistics.estimates import Json, drawn, number
from t2i_eval_kedro.statistics.kernels import Floats
from t2i_eval_kedro.statistics.pooled import Weights, pooled_statistics

Kept = npt.NDArray[np.bool_]


def compare_variants(
    sample: RatedItems,
    variants: Mapping[str, Sequence[str]],
    pairs: Sequence[tuple[str, str]],
    *,
    kept: Mapping[str, Kept] | None = None,
    statistic: str = "spearman",
    n_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[dict[str, Json], list[Json]]:
    """The agreement of each variant, and the paired differences.

    Args:
        sample: the rated items and every judge's scores of them.
        variants: variant -> its judges in ``sample``, one a seed, in the same order of seeds for every variant.
        pairs: of variants, whose difference is the first minus the second.
        kept: variant -> ``(n,)`` the items that it is measured on, if not all; a difference is over the items of its first.
        statistic: of :data:`~t2i_eval_kedro.statistics.pooled.FLAT_STATISTICS`.
        n_resamples: draws of the intervals and of the tests.
        level: of the intervals.
        seed: of the draws.

    Returns:
        Variant -> ``{value, low, high, n, n_prompts, by_seed}``; a list of ``{a, b, difference, low, high, p, p_holm, n}``.
        Where a figure is undefined it is null, with a ``reason``.
    """
    table = draw_counts(sample.prompts, n_resamples, seed)
    weights = Weights(np.vstack([np.ones((1, sample.prompts), dtype=np.int64), table]))
    swaps = tests.Swaps(tests.random_swaps(sample.prompts, n_resamples, seed + 1))
    rng = np.random.default_rng(seed + 2)
    seeds = max(map(len, variants.values()), default=1)
    picked = rng.integers(seeds, size=(n_resamples, seeds))
    kept = kept or {}

    def draws(names: Sequence[str], rows: Kept) -> Floats:
        return np.stack(
            [
                pooled_statistics(
                    sample.scores[name][rows], sample.gold[rows], sample.prompt[rows], weights, (statistic,)
                )[statistic]
                for name in names
            ]
        )

    def over_seeds(values: Floats) -> Floats:
        """``(seeds, 1 + B)`` figures to ``(1 + B,)``: their mean, then the mean over each draw's seeds."""
        chosen = picked[:, : len(values)] % len(values)
        resampled = values[chosen, np.arange(1, values.shape[1])[:, None]].mean(axis=1)
        return np.concatenate([[values[:, 0].mean()], resampled])

    def scored(names: Sequence[str], variant: str) -> Kept:
        rows: Kept = np.asarray(np.isfinite([sample.scores[name] for name in names]).all(axis=0))
        return rows & kept[variant] if variant in kept else rows

    def undefined(names: Sequence[str], rows: Kept) -> str | None:
        reasons = (correlation.undefined(sample.scores[name][rows], sample.gold[rows]) for name in names)
        return next((reason for reason in reasons if reason), None)

    figures: dict[str, Json] = {}
    for variant, names in variants.items():
        rows = scored(names, variant)
        reason = undefined(names, rows)
        values = np.full((len(names), 1 + n_resamples), np.nan) if reason else draws(names, rows)
        size = {"n": int(rows.sum()), "n_prompts": len(np.unique(sample.prompt[rows]))}
        by_seed = [number(value) for value in values[:, 0]]
        figures[variant] = drawn(over_seeds(values), level, reason, **size) | {"by_seed": by_seed}
    differences: list[Json] = []
    for a, b in pairs:
        rows = scored((*variants[a], *variants[b]), a)
        reason = undefined((*variants[a], *variants[b]), rows)
        if reason is None and len(variants[a]) != len(variants[b]):
            reason = f"{len(variants[a])} and {len(variants[b])} seeds cannot be paired"
        if reason:
            nothing = {"difference": None, "low": None, "high": None, "p": None}
            differences.append({"a": a, "b": b} | nothing | {"n": int(rows.sum()), "reason": reason})
            continue
        entry = drawn(over_seeds(draws(variants[a], rows) - draws(variants[b], rows)), level, n=int(rows.sum()))
        null = np.mean(
            [
                swaps.flat(
                    sample.scores[x][rows], sample.scores[z][rows], sample.gold[rows], sample.prompt[rows], (statistic,)
                )[statistic]
                for x, z in zip(variants[a], variants[b], strict=True)
            ],
            axis=0,
        )
        difference = float(entry["value"])
        p, _ = tests.p_value(difference, null)
        differences.append({"a": a, "b": b, "difference": entry.pop("value")} | entry | {"p": number(p)})
    tested = [entry for entry in differences if entry["p"] is not None]
    for entry, adjusted in zip(tested, tests.holm([entry["p"] for entry in tested]), strict=True):
        entry["p_holm"] = number(adjusted)
    return figures, differences
