"""Simulated coverage of the intervals and type-I error of the default test, from 2 to 100 prompts and from 2 to 27 raters.

**Prompts.** An item's quality is a generator effect (4 generators, fixed), a prompt effect (0.5) and an item effect (1). Three raters
see it with noise of 1 on a 5-point scale. Judges see it with an error per prompt (0.7) and per item (1); in the design that is not
exchangeable the second judge's error, of the same variance, is per item alone. Covered is the value over 20,000 prompts. Type-I error:
how often p <= 0.05 although both judges agree equally well with people (exactly where exchangeable).

**Raters.** 160 items are judged once; panels of R raters rate them, each rater with a leniency (0.3) and noise (1; not exchangeable: 0.6
to 1.6). Covered is the mean over other panels of R raters of the same items.

Standard errors: a coverage of 95% is known to 1.5 percentage points from 200 simulations, to 2.2 from 100.

    python perf/coverage.py [prompts|raters]
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from t2i_eval_kedro.statistics.bootstrap import MIN_GROUPS, percentile_interval, resample_counts
from t2i_eval_kedro.statistics.correlation import STATISTIC_FUNCTIONS
from t2i_eval_kedro.statistics.inference_targets import MIN_RATERS, over_raters
from t2i_eval_kedro.statistics.pooled import Weights, pooled_statistics
from t2i_eval_kedro.statistics.significance import MIN_PROMPTS, PairedPermutation, p_value, random_exchanges

NAMES = ("spearman", "kendall_b", "pearson")
GENERATORS, SIMULATIONS, RESAMPLES, PERMUTATIONS, CONFIDENCE = 4, 200, 400, 199, 0.95
PROMPTS = (2, 3, 4, 5, 6, 8, 10, 15, 20, 40, 100)
RATERS = (2, 3, 4, 5, 8, 15, 27)

Floats = npt.NDArray[np.float64]
Result = dict[str, Any]


def sample(prompts: int, rng: np.random.Generator, exchangeable: bool = True) -> tuple[Any, Floats, Floats, Floats]:
    """Prompt of each item, two judges' scores and the mean ratings."""
    prompt, generator = np.repeat(np.arange(prompts), GENERATORS), np.tile(np.arange(GENERATORS), prompts)
    n = len(prompt)
    quality = (
        np.linspace(-0.7, 0.7, GENERATORS)[generator] + 0.5 * rng.normal(size=prompts)[prompt] + rng.normal(size=n)
    )
    ratings = np.clip(np.round(3 + quality[:, None] + rng.normal(size=(n, 3))), 1, 5).mean(axis=1)
    first, second = (quality + 0.7 * rng.normal(size=prompts)[prompt] + rng.normal(size=n) for _ in range(2))
    if not exchangeable:
        second = quality + np.sqrt(1 + 0.7**2) * rng.normal(size=n)
    return prompt, first, second, ratings


def by_prompts() -> list[Result]:
    """Coverage and type-I error for each number of prompts."""
    _, first, _, ratings = sample(20_000, np.random.default_rng(1))
    truth = {name: STATISTIC_FUNCTIONS[name](first, ratings) for name in NAMES}
    rows = []
    for prompts in PROMPTS:
        covered = {name: [0, 0] for name in NAMES}
        rejected = {kind: dict.fromkeys(NAMES, 0) for kind in ("exchangeable", "not_exchangeable")}
        for k in range(SIMULATIONS):
            rng = np.random.default_rng([prompts, k])
            prompt, first, second, ratings = sample(prompts, rng)
            weights = Weights(resample_counts(prompts, RESAMPLES, k))
            values = pooled_statistics(first, ratings, prompt, weights, NAMES)
            for name in NAMES:
                # The expanded interval with the least number of prompts lifted, to show what it would cover below it.
                tail = special.ndtr(
                    -special.stdtrit(prompts - 1, (1 + CONFIDENCE) / 2) * np.sqrt(prompts / (prompts - 1))
                )
                usable = values[name][np.isfinite(values[name])]
                for place, q in enumerate((tail, (1 - CONFIDENCE) / 2)):
                    low, high = np.quantile(usable, [q, 1 - q])
                    if place == 0 and prompts >= MIN_GROUPS:
                        low, high = percentile_interval(values[name], CONFIDENCE, prompts)
                    covered[name][place] += bool(low <= truth[name] <= high)
            permutation = PairedPermutation(random_exchanges(prompts, PERMUTATIONS, k))
            for kind, counts in rejected.items():
                if kind == "not_exchangeable":
                    prompt, first, second, ratings = sample(prompts, rng, exchangeable=False)
                null = permutation.pooled(first, second, ratings, prompt, NAMES)
                for name in NAMES:
                    function = STATISTIC_FUNCTIONS[name]
                    observed = function(first, ratings) - function(second, ratings)
                    counts[name] += p_value(observed, null[name])[0] <= 1 - CONFIDENCE + 1e-12
        rows.append(
            {
                "prompts": prompts,
                "interval_given": prompts >= MIN_GROUPS,
                "p_value_given": prompts >= MIN_PROMPTS,
                "coverage": {name: round(counts[0] / SIMULATIONS, 3) for name, counts in covered.items()},
                "coverage_of_plain_percentiles": {name: round(c[1] / SIMULATIONS, 3) for name, c in covered.items()},
                "type_one_error": {
                    kind: {name: round(count / SIMULATIONS, 3) for name, count in counts.items()}
                    for kind, counts in rejected.items()
                },
            }
        )
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


def by_raters() -> list[Result]:
    """Coverage of the interval over raters for each number of raters."""
    function = STATISTIC_FUNCTIONS["spearman"]
    rows = []
    for exchangeable in (True, False):
        for raters in RATERS:
            covered, plain, widths = 0, 0, []
            for k in range(SIMULATIONS // 2):
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
                resampled = [
                    function(judge, table[:, rng.integers(raters, size=raters)].mean(axis=1)) for _ in range(60)
                ]
                low, high = np.quantile(resampled, [0.025, 0.975])
                plain += bool(low <= truth <= high)
            rows.append(
                {
                    "raters": raters,
                    "exchangeable": exchangeable,
                    "interval_given": raters >= MIN_RATERS,
                    "coverage": round(covered / (SIMULATIONS // 2), 3),
                    "coverage_of_a_bootstrap_of_raters": round(plain / (SIMULATIONS // 2), 3),
                    "mean_width": round(float(np.mean(widths)), 3),
                }
            )
            print(rows[-1], file=sys.stderr, flush=True)
    return rows


def main() -> Result:
    """Both simulations."""
    return {
        "nominal": CONFIDENCE,
        "simulations": {"prompts": SIMULATIONS, "raters": SIMULATIONS // 2},
        "data": "simulated; the models are in perf/coverage.py",
        "least_numbers": {
            "prompts_for_an_interval": MIN_GROUPS,
            "prompts_for_a_p_value": MIN_PROMPTS,
            "raters": MIN_RATERS,
        },
        "prompts": by_prompts(),
        "raters": by_raters(),
    }


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    chosen = {"prompts": by_prompts, "raters": by_raters}
    print(json.dumps(chosen[sys.argv[1]]() if len(sys.argv) > 1 else main(), indent=1))
