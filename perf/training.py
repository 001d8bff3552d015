"""What training achieves on the synthetic benchmark, over seeds: base, SFT, GRPO, and GRPO from a deliberately short SFT.

Every cell is a real ``kedro run`` of the default configuration (variants ``full`` and ``short``). Reported is the Spearman
correlation of the level expectation with the raters' mean ``overall`` on the held-out prompts, averaged over seeds, and paired
differences with 95% intervals from one bootstrap over prompts that all cells share. No number is tuned on these prompts.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from t2i_eval_kedro.agreement.rated_items import build
from t2i_eval_kedro.statistics.bootstrap import percentile_interval, resample_counts, with_sample
from t2i_eval_kedro.statistics.pooled import Weights, pooled_statistics

SEEDS = (0, 1, 2)
DRAWS = 2000
WORKERS = 2
DATA = Path("data")
VARIANTS = ("full", "short")
DIFFERENCES = (
    ("sft", "base"),
    ("grpo", "sft"),
    ("sft_short", "base"),
    ("grpo_short", "sft_short"),
)


def main() -> dict[str, object]:
    runs = [(variant, seed) for variant in VARIANTS for seed in SEEDS]
    for run in runs:  # one after the other, as they write the same files; only the first ingests and asks
        kedro(*run, "ingestion,teacher_distillation")
    with ThreadPoolExecutor(WORKERS) as pool:
        times = list(pool.map(lambda run: kedro(*run, "rebalancing,sft,grpo,meta_evaluation,reporting"), runs))
    seconds = {f"{variant}/seed_{seed}": time for (variant, seed), time in zip(runs, times, strict=True)}
    replicates = spearman_draws(DATA)
    table = {name: interval(draws.mean(axis=0)) for name, draws in replicates.items()}
    differences = {
        f"{a} - {b}": {
            "mean over seeds": interval((replicates[a] - replicates[b]).mean(axis=0)),
            "by seed": [interval(draws) for draws in replicates[a] - replicates[b]],
        }
        for a, b in DIFFERENCES
    }
    for name, figure in table.items():
        print(f"{name:20s} {figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]")
    for name, row in differences.items():
        figure = row["mean over seeds"]
        print(f"{name:28s} {figure['value']:+.3f} [{figure['low']:+.3f}, {figure['high']:+.3f}]")
    return {"seeds": SEEDS, "draws": DRAWS, "spearman": table, "differences": differences, "seconds": seconds}


def kedro(variant: str, seed: int, pipelines: str) -> float:
    """Run ``pipelines`` of one variant and seed with one thread; returns the seconds it took."""
    start = time.monotonic()
    subprocess.run(
        [
            *(sys.executable, "-m", "kedro", "run", "--env=base", f"--pipelines={pipelines}"),
            f"--params=variant={variant},seed={seed}",
        ],
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        stderr=subprocess.DEVNULL,
    )
    return round(time.monotonic() - start, 1)


def spearman_draws(data: Path) -> dict[str, np.ndarray]:
    """For each evaluator ``(seeds, 1 + draws)`` correlations: the figure itself, then one a bootstrap draw."""
    items = pd.read_parquet(data / "02_intermediate/shapes/items.parquet")
    splits = pd.read_parquet(data / "02_intermediate/shapes/splits.parquet")
    ratings = pd.read_parquet(data / "02_intermediate/shapes/ratings.parquet")
    held_out = items[items["item_id"].isin(splits.loc[splits["fold"] == "test", "item_id"])]
    overall = ratings[ratings["dimension"] == "overall"]
    rows: dict[str, list[np.ndarray]] = {}
    for variant in VARIANTS:
        for seed in SEEDS:
            folder = data / "07_model_output/shapes/tiny_vlm" / variant / f"seed_{seed}"
            scores = pd.concat(
                [pd.read_parquet(folder / f"{name}_scores.parquet") for name in ("base", "sft", "grpo")],
                ignore_index=True,
            )
            sample = build(held_out, overall, scores)["overall"]
            weights = Weights(with_sample(resample_counts(sample.prompts, DRAWS, 0)))
            for name in ("sft", "grpo") if variant == "short" else ("base", "sft", "grpo"):
                values = sample.scores[name]
                used = np.isfinite(values)
                drawn = pooled_statistics(values[used], sample.gold[used], sample.prompt[used], weights, ("spearman",))
                rows.setdefault(f"{name}_short" if variant == "short" else name, []).append(drawn["spearman"])
    return {name: np.stack(draws) for name, draws in rows.items()}


def interval(draws: np.ndarray) -> dict[str, float]:
    """The figure and its 95% interval from ``(1 + draws,)`` correlations."""
    low, high = percentile_interval(draws[1:])
    return {"value": round(float(draws[0]), 4), "low": round(low, 4), "high": round(high, 4)}
