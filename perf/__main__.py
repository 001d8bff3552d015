"""``python -m perf [NAME ...]``: run the named benchmarks, or all, and write ``perf/results/<name>.json``."""

from __future__ import annotations

import argparse
import importlib
import json
import platform
from pathlib import Path

from t2i_eval_kedro.provenance import commit, provenance

NAMES = (
    "agreement",
    "agreement_size",
    "coverage",
    "first_verdict",
    "grpo",
    "ingestion",
    "judging",
    "reannotation",
    "sft",
    "structure",
    "teacher",
    "training_steps",
    "waiting",
)
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m perf", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(NAMES)}; all by default")
    names = parser.parse_args().names or NAMES
    if unknown := set(names) - set(NAMES):
        parser.error(f"there is no benchmark '{min(unknown)}'; the benchmarks are {', '.join(NAMES)}")
    for name in names:
        print(f"== {name}", flush=True)
        result = importlib.import_module(f"perf.{name}").main()
        machine = {"processor": platform.processor() or platform.machine(), "system": platform.system()}
        RESULTS.mkdir(exist_ok=True)
        document = {"commit": commit(), "machine": machine, "versions": provenance("")["versions"], "result": result}
        (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")
        print(f"written to {RESULTS / f'{name}.json'}", flush=True)


if __name__ == "__main__":
    main()
