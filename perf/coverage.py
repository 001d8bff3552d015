"""Simulated coverage of the intervals and type-I error of the default test, from 2 to 100 prompts and from 2 to 27 raters.

**Prompts.** An item's quality is a generator effect (4 generators, fixed), a prompt effect (0.5) and an item effect (1). Three raters
see it with noise of 1 on a 5-point scale. Judges see it with an error per prompt (0.7) and per item (1); in the design that is not
exchangeable the second judge's error, of the same variance, is per item alone. Covered is the value over 60,000 prompts: of each
statistic over all items, of Kendall's tau-b within prompts, of the difference between the judges of the second design, and of the noise
ceiling. Type-I error: how often p <= 0.05 although both judges agree equally well with people.

**Generators.** The same with 40 prompts and generators drawn anew (effect 0.4); covered is the value over 4,000 generators on those
prompts, or on other prompts for the interval over prompts and generators.

**Raters.** 160 items are judged once; panels of R raters rate them, each rater with a leniency (0.3) and noise (1; not exchangeable: 0.6
to 1.6). Covered is the mean over other panels of R raters of the same items.

Standard errors: a coverage of 95% is known to 0.7 percentage points from 1,000 simulations, to 1.0 from 500.

    python perf/coverage.py [prompts|generators|raters]
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from t2i_eval_kedro.statistics import reliability
from t2i_eval_kedro.statistics.bootstrap import MIN_GROUPS, percentile_interval, resample_counts, with_sample
from t2i_eval_kedro.statistics.correlation import STATISTIC_FUNCTIONS
from t2i_eval_kedro.statistics.grouping import Groups, resampled_average, statistics_within_groups
from t2i_eval_kedro.statistics.inference_targets import (
    MIN_RATERS,
    over_generators,
    over_groups,
    over_items,
    over_prompts_and_generators,
    over_raters,
)
from t2i_eval_kedro.statistics.pooled import Weights, pooled_statistics
from t2i_eval_kedro.statistics.ranking import MIN_GENERATORS
from t2i_eval_kedro.statistics.significance import MIN_PROMPTS, MIN_PROMPTS_WITHIN, PairedPermutation, random_exchanges

NAMES = ("spearman", "kendall_b", "pearson")
WITHIN, CEILING = "kendall_b_within_prompt", "noise_ceiling"
GENERATORS, SIMULATIONS, RESAMPLES, PERMUTATIONS, CONFIDENCE = 4, 1000, 400, 999, 0.95
PROMPTS = (2, 3, 4, 5, 6, 7, 8, 10, 15, 20, 40, 100)
NUMBERS_OF_GENERATORS = (8, 12, 20)
RATERS = (2, 3, 4, 5, 8, 15, 27)

Floats = npt.NDArray[np.float64]
Result = dict[str, Any]


def sample(
    prompts: int, rng: np.random.Generator, exchangeable: bool = True
) -> tuple[Any, Floats, Floats, Floats, Floats]:
    """Prompt of each item, two judges' scores, the mean ratings, and the ratings ``(n, 3)``."""
    prompt, generator = np.repeat(np.arange(prompts), GENERATORS), np.tile(np.arange(GENERATORS), prompts)
    n = len(prompt)
    quality = (
        np.linspace(-0.7, 0.7, GENERATORS)[generator] + 0.5 * rng.normal(size=prompts)[prompt] + rng.normal(size=n)
    )
    table = np.clip(np.round(3 + quality[:, None] + rng.normal(size=(n, 3))), 1, 5)
    first, second = (quality + 0.7 * rng.normal(size=prompts)[prompt] + rng.normal(size=n) for _ in range(2))
    if not exchangeable:
        second = quality + np.sqrt(1 + 0.7**2) * rng.normal(size=n)
    return prompt, first, second, table.mean(axis=1), table


def within(x: Floats, y: Floats, prompt: Any, prompts: int) -> Floats:
    """Kendall's tau-b within each prompt."""
    return statistics_within_groups(x, y, Groups.by_code(prompt, map(str, range(prompts))))["kendall_b"]


def truths(exchangeable: bool) -> dict[str, float]:
    """What the figures of the first judge, or the differences of both where they are not exchangeable, are over 60,000 prompts."""
    prompt, first, second, ratings, table = sample(60_000, np.random.default_rng(1 + exchangeable), exchangeable)
    out: dict[str, float] = {}
    for judge, sign in ((first, 1.0), *(() if exchangeable else ((second, -1.0),))):
        for name in NAMES:
            out[name] = out.get(name, 0.0) + sign * STATISTIC_FUNCTIONS[name](judge, ratings)
        out[WITHIN] = out.get(WITHIN, 0.0) + sign * float(np.nanmean(within(judge, ratings, prompt, 60_000)))
    if exchangeable:
        out[CEILING] = float(reliability.noise_ceiling(table, "spearman", False)[0])
    return out


def covers(resampled: Floats, groups: int, truth: float) -> bool:
    """Whether the interval of ``(1 + B,)`` values covers ``truth``; below the least number of groups the expanded one without it."""
    usable = resampled[1:][np.isfinite(resampled[1:])]
    if groups >= MIN_GROUPS:
        low, high = percentile_interval(resampled[1:], CONFIDENCE, groups, float(resampled[0]))
    elif len(usable):
        tail = special.ndtr(-special.stdtrit(groups - 1, (1 + CONFIDENCE) / 2) * np.sqrt(groups / (groups - 1)))
        low, high = np.quantile(usable, [tail, 1 - tail])
    else:
        return False
    return bool(low <= truth <= high)


def by_prompts() -> list[Result]:
    """Coverage and type-I error for each number of prompts."""
    truth, gaps = truths(True), truths(False)
    rows = []
    for prompts in PROMPTS:
        covered, of_gaps = dict.fromkeys(truth, 0), dict.fromkeys(gaps, 0)
        # Within prompts the second judge of the design that is not exchangeable agrees less: a rejection there is no error.
        rejected = {
            "exchangeable": dict.fromkeys((*NAMES, WITHIN), 0),
            "not_exchangeable": dict.fromkeys(NAMES, 0),
        }
        every = np.ones(prompts, dtype=bool)
        for k in range(SIMULATIONS):
            rng = np.random.default_rng([prompts, k])
            weights = Weights(with_sample(resample_counts(prompts, RESAMPLES, k)))
            permutation = PairedPermutation(random_exchanges(prompts, PERMUTATIONS, k))
            for kind, counts in rejected.items():
                prompt, first, second, ratings, table = sample(prompts, rng, kind == "exchangeable")
                inside = [within(judge, ratings, prompt, prompts) for judge in (first, second)]
                values = pooled_statistics(first, ratings, prompt, weights, NAMES)
                other = pooled_statistics(second, ratings, prompt, weights, NAMES)
                values[WITHIN], other[WITHIN] = (resampled_average(v, every, weights.table) for v in inside)
                if kind == "exchangeable":
                    values[CEILING] = reliability.noise_ceiling(table, "spearman", False, prompt, weights)
                    for name in covered:
                        covered[name] += covers(values[name], prompts, truth[name])
                else:
                    for name in of_gaps:
                        of_gaps[name] += covers(values[name] - other[name], prompts, gaps[name])
                null = permutation.pooled(first, second, ratings, prompt, NAMES) | {
                    WITHIN: permutation.grouped(*inside)
                }
                for name in counts:
                    gap = float(values[name][0] - other[name][0])
                    counts[name] += permutation.p_value(gap, null[name])[0] <= 1 - CONFIDENCE + 1e-12
        rows.append(
            {
                "prompts": prompts,
                "interval_given": prompts >= MIN_GROUPS,
                "p_value_given": prompts >= MIN_PROMPTS,
                "p_value_within_prompts_given": prompts >= MIN_PROMPTS_WITHIN,
                "coverage": _shares(covered, SIMULATIONS),
                "coverage_of_differences": _shares(of_gaps, SIMULATIONS),
                "type_one_error": {kind: _shares(counts, SIMULATIONS) for kind, counts in rejected.items()},
            }
        )
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def _shares(counts: dict[str, int], total: int) -> dict[str, float]:
    return {name: round(count / total, 3) for name, count in counts.items()}


def by_generators(simulations: int = 500) -> list[Result]:
    """Coverage of the intervals over generators, and over prompts and generators."""
    prompts = 40

    def study(generators: int, effect: Floats, rng: np.random.Generator) -> tuple[Any, Any, Floats, Floats]:
        """Prompt, generator, score and mean rating of each item; ``effect``: of each prompt, on quality and on the judge."""
        prompt, generator = np.repeat(np.arange(prompts), generators), np.tile(np.arange(generators), prompts)
        n = len(prompt)
        quality = 0.4 * rng.normal(size=generators)[generator] + effect[0][prompt] + rng.normal(size=n)
        ratings = np.clip(np.round(3 + quality[:, None] + rng.normal(size=(n, 3))), 1, 5).mean(axis=1)
        return prompt, generator, quality + effect[1][prompt] + rng.normal(size=n), ratings

    def effects(rng: np.random.Generator) -> Floats:
        return np.array([[0.5], [0.7]]) * rng.normal(size=(2, prompts))

    function, rows = STATISTIC_FUNCTIONS["spearman"], []
    everywhere = np.mean(
        [function(*study(1000, effects(rng), rng)[2:]) for rng in map(np.random.default_rng, range(40))]
    )
    for generators in NUMBERS_OF_GENERATORS:
        covered = {"generators": 0, "prompts_and_generators": 0}
        for k in range(simulations):
            rng = np.random.default_rng([generators, k])
            effect = effects(rng)
            prompt, generator, x, y = study(generators, effect, rng)
            here = function(*study(1000, effect, rng)[2:])
            one = over_generators(x, y, generator, generators, RESAMPLES, k, ("spearman",))["spearman"]
            weights = Weights(with_sample(resample_counts(prompts, RESAMPLES, k)))
            of_prompts = pooled_statistics(x, y, prompt, weights, ("spearman",))["spearman"]
            of_items = over_items(x, y, 200, k, ("spearman",))["spearman"]
            low, high = over_groups(function(x, y), one, generators, CONFIDENCE)
            covered["generators"] += bool(low <= here <= high)
            low, high = over_prompts_and_generators(of_prompts, one, of_items, prompts, generators, CONFIDENCE)
            covered["prompts_and_generators"] += bool(low <= everywhere <= high)
        rows.append({"generators": generators, "coverage": _shares(covered, simulations)})
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def panel(quality: Floats, raters: int, rng: np.random.Generator, exchangeable: bool) -> Floats:
    """Ratings ``(items, raters)`` of one panel."""
    noise = np.ones(raters) if exchangeable else rng.uniform(0.6, 1.6, raters)
    return np.asarray(
        np.clip(
            np.round(
                3 + quality[:, None] + 0.3 * rng.normal(size=raters) + noise * rng.normal(size=(len(quality), raters))
            ),
            1,
            5,
        )
    )


def by_raters(simulations: int = 500) -> list[Result]:
    """Coverage of the interval over raters for each number of raters."""
    function = STATISTIC_FUNCTIONS["spearman"]
    rows = []
    for exchangeable in (True, False):
        for raters in RATERS:
            covered, widths = 0, []
            for k in range(simulations):
                rng = np.random.default_rng([raters, k])
                quality = rng.normal(size=160)
                judge = quality + rng.normal(size=160)
                truth = np.mean(
                    [function(judge, panel(quality, raters, rng, exchangeable).mean(axis=1)) for _ in range(40)]
                )
                table = panel(quality, raters, rng, exchangeable)
                low, high = over_raters(judge, table, CONFIDENCE, ("spearman",))["spearman"]
                covered += bool(low <= truth <= high)
                widths.append(high - low)
            rows.append(
                {
                    "raters": raters,
                    "exchangeable": exchangeable,
                    "interval_given": raters >= MIN_RATERS,
                    "coverage": round(covered / simulations, 3),
                    "mean_width": round(float(np.mean(widths)), 3),
                }
            )
            print(rows[-1], file=sys.stderr, flush=True)
    return rows


def main() -> Result:
    """All simulations."""
    return {
        "nominal": CONFIDENCE,
        "simulations": {"prompts": SIMULATIONS, "generators": 500, "raters": 500},
        "data": "simulated; the models are in perf/coverage.py",
        "least_numbers": {
            "prompts_for_an_interval": MIN_GROUPS,
            "prompts_for_a_p_value": MIN_PROMPTS,
            "prompts_for_a_p_value_within_prompts": MIN_PROMPTS_WITHIN,
            "generators": MIN_GENERATORS,
            "raters": MIN_RATERS,
        },
        "prompts": by_prompts(),
        "generators": by_generators(),
        "raters": by_raters(),
    }


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    chosen = {"prompts": by_prompts, "generators": by_generators, "raters": by_raters}
    print(json.dumps(chosen[sys.argv[1]]() if len(sys.argv) > 1 else main(), indent=1))
