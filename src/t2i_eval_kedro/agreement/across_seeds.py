"""Variants of a judge that were each trained with several seeds: their agreement, and how it differs from one of them.

* A variant's figure is the mean over its seeds.
* Its interval resamples prompts and seeds, both with replacement; all variants share the resamples, and variants with the same
  seed are paired.
* The test exchanges whole prompts between two variants, the same prompts in every seed, and takes the mean difference. Its target is
  new prompts with these seeds: a handful of seeds are too few for a test over seeds. :func:`adjust` corrects the p-values of a family.
* Where two variants have different seeds, their difference is over those that both have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from t2i_eval_kedro.agreement.rated_items import RatedItems
from t2i_eval_kedro.statistics import correlation
from t2i_eval_kedro.statistics import significance as tests
from t2i_eval_kedro.statistics.bootstrap import resample_counts, with_sample
from t2i_eval_kedro.statistics.estimates import Json, bootstrap_estimate, round_or_none
from t2i_eval_kedro.statistics.kernels import Floats
from t2i_eval_kedro.statistics.pooled import Weights, pooled_statistics

Kept = npt.NDArray[np.bool_]


def compare_variants(
    sample: RatedItems,
    variants: Mapping[str, Mapping[int, str]],
    pairs: Sequence[tuple[str, str]],
    *,
    kept: Mapping[str, Kept] | None = None,
    statistic: str = "spearman",
    n_resamples: int = 1000,
    n_permutations: int | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[dict[str, Json], list[Json]]:
    """The agreement of each variant, and the paired differences.

    Args:
        sample: the rated items and every judge's scores of them.
        variants: variant -> seed -> its judge in ``sample``.
        pairs: pairs of variants; a difference is the first minus the second.
        kept: variant -> ``(n,)`` the items that it is measured on, if not all; a difference is over the items of its first.
        statistic: one of :data:`~t2i_eval_kedro.statistics.pooled.POOLED_STATISTICS`.
        n_resamples: number of bootstrap resamples.
        n_permutations: number of random permutations, by default as many. No p-value is below ``1 / (n_permutations + 1)``, so a large
            family of tests needs more.
        confidence: confidence level of the intervals, such as 0.95.
        seed: random seed of the resamples and permutations.

    Returns:
        Variant -> ``{value, low, high, n, n_prompts, by_seed}``; a list of ``{a, b, seeds, difference, low, high, p, n}``, where
        ``seeds`` are those of both. Where a figure is undefined it is null, with a ``reason``.
    """
    table = resample_counts(sample.prompts, n_resamples, seed)
    weights = Weights(with_sample(table))
    permutation = tests.PairedPermutation(
        tests.random_exchanges(sample.prompts, n_permutations or n_resamples, seed + 1)
    )
    # Variants with the same number of seeds share the resamples of seeds, so that their differences are paired.
    picked = {
        count: np.random.default_rng(seed + 2).integers(count, size=(n_resamples, count))
        for count in range(1, max(map(len, variants.values()), default=0) + 1)
    }
    kept = kept or {}

    def resampled(names: Sequence[str], rows: Kept) -> Floats:
        return np.stack(
            [
                pooled_statistics(
                    sample.scores[name][rows], sample.gold[rows], sample.prompt[rows], weights, (statistic,)
                )[statistic]
                for name in names
            ]
        )

    def over_seeds(values: Floats) -> Floats:
        """``(seeds, 1 + B)`` figures to ``(1 + B,)``: their mean, then the mean over each resample's seeds."""
        resampled = values[picked[len(values)], np.arange(1, values.shape[1])[:, None]].mean(axis=1)
        return np.concatenate([[values[:, 0].mean()], resampled])

    def scored(names: Sequence[str], variant: str) -> Kept:
        rows: Kept = np.asarray(np.isfinite([sample.scores[name] for name in names]).all(axis=0))
        return rows & kept[variant] if variant in kept else rows

    def undefined(names: Sequence[str], rows: Kept) -> str | None:
        reasons = (correlation.undefined(sample.scores[name][rows], sample.gold[rows]) for name in names)
        return next((reason for reason in reasons if reason), None)

    figures: dict[str, Json] = {}
    for variant, by_seed_names in variants.items():
        names = list(by_seed_names.values())
        rows = scored(names, variant)
        reason = undefined(names, rows)
        values = np.full((len(names), 1 + n_resamples), np.nan) if reason else resampled(names, rows)
        size = {"n": int(rows.sum()), "n_prompts": len(np.unique(sample.prompt[rows]))}
        by_seed = [round_or_none(value) for value in values[:, 0]]
        figures[variant] = bootstrap_estimate(over_seeds(values), confidence, size["n_prompts"], reason, **size) | {
            "by_seed": by_seed
        }
    differences: list[Json] = []
    for a, b in pairs:
        seeds = sorted(set(variants[a]) & set(variants[b]))
        of_a, of_b = [variants[a][one] for one in seeds], [variants[b][one] for one in seeds]
        rows = scored((*of_a, *of_b), a)
        reason = undefined((*of_a, *of_b), rows) if seeds else "no seed in common"
        who = {"a": a, "b": b, "seeds": seeds}
        if reason:
            nothing = {"difference": None, "low": None, "high": None, "p": None}
            differences.append(who | nothing | {"n": int(rows.sum()), "reason": reason})
            continue
        entry = bootstrap_estimate(
            over_seeds(resampled(of_a, rows) - resampled(of_b, rows)),
            confidence,
            len(np.unique(sample.prompt[rows])),
            n=int(rows.sum()),
        )
        null = np.mean(
            [
                permutation.pooled(
                    sample.scores[x][rows], sample.scores[z][rows], sample.gold[rows], sample.prompt[rows], (statistic,)
                )[statistic]
                for x, z in zip(of_a, of_b, strict=True)
            ],
            axis=0,
        )
        difference = float(entry["value"])
        p, _ = tests.p_value(difference, null)
        differences.append(
            who
            | {"difference": entry.pop("value")}
            | entry
            | {"p": round_or_none(p) if len(np.unique(sample.prompt[rows])) >= tests.MIN_PROMPTS else None}
        )
    return figures, differences


def adjust(family: Iterable[Json]) -> None:
    """Write Holm's adjusted p-value into each difference of one ``family`` of tests, as ``p_holm``."""
    tested = [entry for entry in family if entry["p"] is not None]
    for entry, adjusted in zip(tested, tests.holm([entry["p"] for entry in tested]), strict=True):
        entry["p_holm"] = round_or_none(adjusted)
