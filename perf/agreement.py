"""Speed of the agreement statistics beside a scipy loop, and calibration of the tests between judges.

Work: 20 generators x 2,000 prompts = 40,000 (synthetic) items, 10 metrics of which 3 are discrete, gold = mean of 3 raters.
Every part runs in a process of its own on one thread. A scipy loop is timed on a few repetitions and multiplied up to the
same work, which the result says; so are the goals. Processor time is what a goal of one core is compared with; seconds on the
clock grow with whatever else the machine does. The first call's compilation is timed with an empty cache.

    python perf/agreement.py [compile|speed|report|calibration]
"""

from __future__ import annotations

import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from t2i_eval_kedro import schema
from t2i_eval_kedro.agreement import summarise
from t2i_eval_kedro.statistics.bootstrap import resample_counts
from t2i_eval_kedro.statistics.error_rates import DEFAULT_TESTS, SimulationDesign, type_one_error
from t2i_eval_kedro.statistics.grouping import Groups, resampled_average, statistics_within_groups
from t2i_eval_kedro.statistics.item_permutation import item_permutation
from t2i_eval_kedro.statistics.pooled import Weights, pooled_statistics
from t2i_eval_kedro.statistics.prompt_permutation import ExchangeTable, exchanged_sums
from t2i_eval_kedro.statistics.significance import PairedPermutation, one_scale, random_exchanges

GENERATORS, PROMPTS, METRICS, DISCRETE, RATERS, DRAWS = 20, 2000, 10, 3, 3, 1000
SIMULATIONS = 4000
CELLS = [SimulationDesign(generators, even) for generators in (5, 10, 20) for even in (True, False)]
BIASED = SimulationDesign(10, True, generator_bias=0.5)
PARTS = ("compile", "speed", "report", "calibration")

Result = dict[str, Any]


class Work:
    """The items, their gold and the metrics."""

    def __init__(self, prompts: int = PROMPTS) -> None:
        rng = np.random.default_rng(0)
        n = prompts * GENERATORS
        self.prompts = prompts
        self.prompt, self.generator = np.repeat(np.arange(prompts), GENERATORS), np.tile(np.arange(GENERATORS), prompts)
        truth = rng.normal(size=n)
        self.ratings = np.clip(np.round(3 + truth[:, None] + rng.normal(size=(n, RATERS))), 1, 5)
        self.gold = np.round(self.ratings.mean(axis=1), 9)
        self.metrics = [truth + (1 + 0.2 * m) * rng.normal(size=n) for m in range(METRICS)]
        for m in range(DISCRETE):
            self.metrics[m] = np.clip(np.round(2 * self.metrics[m] + 5), 0, 10)
        self.groups = Groups.by_code(self.prompt, map(str, range(prompts)))
        self.pairs = list(itertools.combinations(range(METRICS), 2))


def perm_both_grouped(work: Work) -> None:
    scaled = [one_scale(metric, "rank") for metric in work.metrics]
    item_permutation(scaled, work.gold, work.groups.members, work.pairs, DRAWS, 0)


def perm_both_flat(work: Work) -> None:
    scaled = [one_scale(metric, "rank") for metric in work.metrics]
    items = np.arange(len(work.gold))
    swaps = ExchangeTable.of(random_exchanges(len(items), DRAWS, 0))
    for a, b in work.pairs:
        for side in exchanged_sums(scaled[a], scaled[b], work.gold, items, swaps):
            side.spearman()
            side.kendall_b()


def prompt_swaps_grouped(work: Work) -> None:
    swaps = PairedPermutation(random_exchanges(work.prompts, DRAWS, 0))
    inside = [statistics_within_groups(metric, work.gold, work.groups) for metric in work.metrics]
    for a, b in work.pairs:
        for name in ("kendall_b", "spearman", "pearson", "pairwise_accuracy"):
            swaps.grouped(inside[a][name], inside[b][name])


def bootstrap(work: Work) -> None:
    weights = Weights(resample_counts(work.prompts, DRAWS, 0))
    everyone = np.ones(work.prompts, dtype=bool)
    for metric in work.metrics:
        pooled_statistics(metric, work.gold, work.prompt, weights, ("spearman", "kendall_b", "pearson"))
        resampled_average(
            statistics_within_groups(metric, work.gold, work.groups)["kendall_b"], everyone, weights.table
        )


def _swapped(work: Work) -> tuple[np.ndarray, np.ndarray]:
    a, b = (one_scale(metric, "rank") for metric in work.metrics[2:4])
    held = np.random.default_rng(1).integers(0, 2, len(a)).astype(bool)
    return np.where(held, b, a), np.where(held, a, b)


def scipy_grouped(work: Work) -> float:
    """One draw of one pair: tau-b of every prompt on both sides; a tenth of the prompts, times ten."""
    sides = _swapped(work)
    start = time.perf_counter()
    for side in sides:
        for members in work.groups.members[: work.prompts // 10]:
            stats.kendalltau(side[members], work.gold[members])
    return 10 * (time.perf_counter() - start) * len(work.pairs) * DRAWS


def scipy_flat(work: Work) -> float:
    """Three draws of one pair."""
    sides = _swapped(work)
    start = time.perf_counter()
    for _ in range(3):
        for side in sides:
            stats.spearmanr(side, work.gold)
            stats.kendalltau(side, work.gold)
    return (time.perf_counter() - start) / 3 * len(work.pairs) * DRAWS


def scipy_bootstrap(work: Work) -> float:
    """Three draws of one metric, and grouped tau-b of a tenth of its prompts in each."""
    rng = np.random.default_rng(2)
    start, extra = time.perf_counter(), 0.0
    for _ in range(3):
        drawn = rng.integers(work.prompts, size=work.prompts)
        items = np.concatenate([work.groups.members[p] for p in drawn])
        x, y = work.metrics[3][items], work.gold[items]
        for function in (stats.spearmanr, stats.kendalltau, stats.pearsonr):
            function(x, y)
        begin = time.perf_counter()
        for p in drawn[: work.prompts // 10]:
            stats.kendalltau(work.metrics[3][work.groups.members[p]], work.gold[work.groups.members[p]])
        extra += 9 * (time.perf_counter() - begin)
    return (time.perf_counter() - start + extra) / 3 * METRICS * DRAWS


TASKS: dict[str, tuple[Callable[[Work], None], Callable[[Work], float], float]] = {
    "PERM-BOTH, prompt-grouped tau-b and accuracy, 45 pairs x 1,000": (perm_both_grouped, scipy_grouped, 30),
    "PERM-BOTH, flat Spearman and tau-b, 45 pairs x 1,000": (perm_both_flat, scipy_flat, 10),
    "whole-prompt swap, 4 grouped statistics, 45 pairs x 1,000": (prompt_swaps_grouped, scipy_grouped, 1),
    "bootstrap over prompts, 10 metrics x 1,000": (bootstrap, scipy_bootstrap, 10),
}


def compile_time() -> Result:
    """What the first use costs with an empty cache, and with a full one."""
    with tempfile.TemporaryDirectory() as cache:
        code = (
            "import perf.agreement as b\n"
            "b.DRAWS = 2\n"
            "small = b.Work(10)\n"
            "[run(small) for run, _, _ in b.TASKS.values()]"
        )
        seconds = []
        for _ in range(2):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"NUMBA_CACHE_DIR": cache})
            seconds.append(round(time.perf_counter() - start, 1))
    return {"first_use_s": seconds[0], "later_use_s": seconds[1]}


def speed() -> Result:
    """Every task, and the scipy loop of the same work in the same process."""
    work, small = Work(), Work(10)
    out: Result = {}
    for name, (run, loop, goal) in TASKS.items():
        run(small)  # loads the compiled code
        start, busy = time.perf_counter(), time.process_time()
        run(work)
        seconds, cpu = time.perf_counter() - start, time.process_time() - busy
        slow = loop(work)
        out[name] = {
            "seconds": round(seconds, 2),
            "cpu_seconds": round(cpu, 2),
            "goal_seconds": goal,
            "scipy_loop_seconds_multiplied_up": round(slow),
            "times_faster": round(slow / seconds),
        }
        print(f"{name}: {seconds:.2f} s (goal {goal} s), scipy loop {slow:.0f} s", file=sys.stderr, flush=True)
    return out


def report() -> Result:
    """The whole default report, from the tables to the summary."""
    work = Work()
    names = [f"p{p}g{g}" for p, g in zip(work.prompt, work.generator, strict=True)]
    items = schema.ITEMS.check(
        pd.DataFrame(
            {
                "item_id": names,
                "benchmark": "synthetic",
                "prompt_id": [f"p{p}" for p in work.prompt],
                "prompt": [f"text {p}" for p in work.prompt],
                "generator": [f"g{g}" for g in work.generator],
                "image": None,
                "attributes": None,
            }
        )
    )
    ratings = pd.concat(
        pd.DataFrame({"item_id": names, "rater_id": f"r{r}", "score": work.ratings[:, r]}) for r in range(RATERS)
    ).assign(dimension="overall", scale_min=1.0, scale_max=5.0, off_scale=False, std=np.nan, n_raters=None)
    scores = pd.concat(
        pd.DataFrame({"item_id": names, "evaluator": f"m{m}", "score": metric}) for m, metric in enumerate(work.metrics)
    ).assign(dimension="", run=0, status="ok", explanation=None, higher_is_better=True)
    start, busy = time.perf_counter(), time.process_time()
    summarise(items, ratings, scores, n_resamples=DRAWS)
    seconds, cpu = time.perf_counter() - start, time.process_time() - busy
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "goal_seconds": 60,
        "peak_memory_mib": round(peak),
        "goal_memory_mib": 1024,
    }


def calibration() -> Result:
    """Share of true null hypotheses that each test rejects at 5%."""
    rows = []
    for cell in (*CELLS, BIASED):
        rejected = type_one_error(cell, SIMULATIONS)
        rows.append({"cell": vars(cell), "rejected": {name: round(share, 4) for name, share in rejected.items()}})
        print(rows[-1], file=sys.stderr, flush=True)
    kept = all(0.035 <= row["rejected"][name] <= 0.065 for row in rows[: len(CELLS)] for name in DEFAULT_TESTS)
    return {
        "nominal": 0.05,
        "simulations_a_cell": SIMULATIONS,
        "standard_error": round(float(np.sqrt(0.05 * 0.95 / SIMULATIONS)), 4),
        "null_model": "t2i_eval_kedro.statistics.error_rates; the last cell is not null for tests that fix the generators",
        "default_test_between_3.5_and_6.5_percent": kept,
        "rows": rows,
    }


def main() -> Result:
    """Run every part in a process of its own, on one thread."""
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    out: Result = {}
    for part in PARTS:
        command = [sys.executable, "-m", "perf.agreement", part]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | threads)
        out[part] = json.loads(done.stdout) | {"load_average_at_the_end": round(os.getloadavg()[0], 1)}
        print(part, json.dumps(out[part], indent=1), flush=True)
    return out


if __name__ == "__main__":
    chosen = {"compile": compile_time, "speed": speed, "report": report, "calibration": calibration}
    print(json.dumps(chosen[sys.argv[1]]() if len(sys.argv) > 1 else main(), indent=1))
