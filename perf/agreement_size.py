"""Memory and time of `agreement` for files of one to ten million ratings (synthetic).

Ten raters rate the images of four generators; two judges score them. Each size runs in a process of its own, on one thread: the files
are read and the whole default report is computed, with 1,000 resamples and permutations.

    python perf/agreement_size.py [rows ...]      # one JSON line per size
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

RATERS, GENERATORS = 10, 4
JUDGES = {"good": 0.8, "noisy": 1.5}
ROWS = (1_000_000, 3_000_000, 10_000_000)
GOAL = {"rows": 10_000_000, "peak_memory_mib": 8192, "seconds": 360}


def write_files(rows: int, folder: Path) -> None:
    """Write ``ratings.csv`` of ``rows`` rows and ``scores.csv`` to ``folder``."""
    rng = np.random.default_rng(0)
    prompts = rows // RATERS // GENERATORS
    quality = 0.5 * rng.normal(size=(prompts, 1)) + rng.normal(size=(prompts, GENERATORS)) + np.linspace(-0.5, 0.5, 4)
    with (folder / "ratings.csv").open("w") as ratings:
        ratings.write("item_id,prompt_id,generator,rater_id,dimension,score\n")
        for p, row in enumerate(quality):
            given = np.clip(np.round(3 + row[:, None] + rng.normal(size=(GENERATORS, RATERS))), 1, 5).astype(int)
            ratings.writelines(
                f"p{p:06d}_g{g},p{p:06d},g{g},r{r},overall,{score}\n"
                for g, of_item in enumerate(given)
                for r, score in enumerate(of_item)
            )
    with (folder / "scores.csv").open("w") as scores:
        scores.write("item_id,evaluator,score\n")
        for name, noise in JUDGES.items():
            given = quality + noise * rng.normal(size=quality.shape)
            scores.writelines(
                f"p{p:06d}_g{g},{name},{score:.5f}\n" for p, row in enumerate(given) for g, score in enumerate(row)
            )


def measure(folder: Path) -> dict[str, Any]:
    """Read the files and compute the report, in this process."""
    from t2i_eval_kedro import agreement

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start, busy = time.perf_counter(), time.process_time()
    measured = agreement(folder / "ratings.csv", folder / "scores.csv")
    return {
        "spearman": measured.summary["evaluators"]["good"]["overall"]["spearman"]["value"],
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(time.process_time() - busy, 1),
        "peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "memory_before_mib": round(before),
        "load_average": round(os.getloadavg()[0], 1),
    }


def main(sizes: tuple[int, ...] = ROWS) -> dict[str, Any]:
    """Every size."""
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    out: dict[str, Any] = {"data": "synthetic", "goal": GOAL}
    for rows in sizes:
        with tempfile.TemporaryDirectory() as folder:
            write_files(rows, Path(folder))
            command = [sys.executable, __file__, "--measure", folder]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | threads)
        out[f"{rows} rows"] = json.loads(done.stdout)
        print(rows, done.stdout.strip(), file=sys.stderr, flush=True)
    return out


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure(Path(sys.argv[2]))))
    else:
        print(json.dumps(main(tuple(map(int, sys.argv[1:])) or ROWS), indent=1))
