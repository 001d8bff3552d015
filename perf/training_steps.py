"""Seconds of a training step of the embedded model in one process and in two, and of GRPO beside trl's own way.

Work: what ``make demo`` left in ``data/``. Each way trains for a few and for more steps; a step is the difference, a start what is left of
the first. The ways take turns, and the fastest of several rounds is kept.

- ``sft``: the default recipe.
- ``grpo``: 128 scores of one token a step, and 16 supervised examples rehearsed, from the demo's student.
- ``grpo as trl does it``: a request and its image encoded for each answer, the probability of every answer computed, and what is
  rehearsed padded to its longest. Rewards and all else are the same.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.io import DatasetError

from t2i_eval_kedro.judging.evaluators import load_templates
from t2i_eval_kedro.judging.project import Project
from t2i_eval_kedro.models.settings import ModelSettings
from t2i_eval_kedro.training import grpo_trainer
from t2i_eval_kedro.training.launch import AnyJob, GRPOJob, SFTJob, run
from t2i_eval_kedro.training.settings import GRPOSettings, LaunchSettings, SFTSettings

ROOT = Path(__file__).parents[1]
STEPS = {"sft": (20, 100), "grpo": (4, 16)}
ROUNDS = 2


@contextmanager
def as_trl_does_it() -> Iterator[None]:
    """Without what :mod:`t2i_eval_kedro.training.grpo_trainer` saves."""

    def each(rows: Any, _: Any) -> tuple[list[int], list[int]]:
        return [*range(len(rows))], [*range(len(rows))]

    with patch.object(grpo_trainer, "_different", each), patch.object(grpo_trainer, "takes_parts", lambda _: False):
        yield


def main() -> dict[str, Any]:
    """Seconds a step and of a start, by way."""
    bootstrap_project(ROOT)
    with KedroSession.create(ROOT) as session:
        catalog = session.load_context().catalog
    try:
        images, start = catalog.load("images"), catalog.load("sft_adapter")
        examples = {"sft": catalog.load("balanced_examples"), "grpo": catalog.load("grpo_examples")}
    except DatasetError as error:
        raise SystemExit(f"Run make demo first: {error}") from None
    project = Project.open(ROOT, "base", {})
    model, tuning = project.settings("model", ModelSettings), project.settings("sft", SFTSettings)
    policy, launch = project.settings("grpo", GRPOSettings), project.settings("launch", LaunchSettings)

    def job(kind: str, steps: int, shared: bool) -> AnyJob:
        brief = {"max_steps": steps, "eval_steps": 0, "save_steps": 0}
        if kind == "sft":
            return SFTJob(model=model, settings=tuning.model_copy(update=brief | {"eval_examples": 0}), data_note="")
        return GRPOJob(
            model=model,
            settings=policy.model_copy(update=brief | {"share_prefixes": shared}),
            start=start,
            lora=tuning.lora,
            judging=project.judging,
            templates=load_templates(catalog.load("prompts")),
            data_note="",
        )

    def seconds(kind: str, steps: int, processes: int, plain: bool) -> float:
        with TemporaryDirectory() as folder, as_trl_does_it() if plain else nullcontext():
            began = time.perf_counter()
            how = launch.model_copy(update={"processes": processes})
            run(job(kind, steps, not plain), examples[kind], images, how, Path(folder) / "training")
            return time.perf_counter() - began

    ways = {
        "sft": ("sft", 1, False),
        "sft, two processes": ("sft", 2, False),
        "grpo": ("grpo", 1, False),
        "grpo, two processes": ("grpo", 2, False),
        "grpo as trl does it": ("grpo", 1, True),
    }
    took: dict[str, tuple[float, float]] = {}
    for _ in range(ROUNDS):
        for name, (kind, processes, plain) in ways.items():
            few, more = (seconds(kind, steps, processes, plain) for steps in STEPS[kind])
            step = (more - few) / (STEPS[kind][1] - STEPS[kind][0])
            took[name] = min(took.get(name, (step, few)), (step, few - STEPS[kind][0] * step))
    result = {
        "seconds": {
            name: {"a step": round(step, 3), "a start": round(begin, 1)} for name, (step, begin) in took.items()
        },
        "times faster": {
            f"{name} than {other}": round(took[other][0] / took[name][0], 2)
            for name, other in (
                ("sft, two processes", "sft"),
                ("grpo, two processes", "grpo"),
                ("grpo", "grpo as trl does it"),
            )
        },
    }
    print(json.dumps(result, indent=1))
    return result
