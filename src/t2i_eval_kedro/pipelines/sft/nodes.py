"""Trains the student on examples."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from t2i_eval_kedro.datasets.image_store import ImageStore
from t2i_eval_kedro.models.adapters import keep_recipe
from t2i_eval_kedro.models.settings import ModelSettings
from t2i_eval_kedro.pipelines.judging.nodes import data_note
from t2i_eval_kedro.provenance import recipe
from t2i_eval_kedro.training.launch import SFTJob, run
from t2i_eval_kedro.training.settings import LaunchSettings, SFTSettings


def train(
    examples: pd.DataFrame,
    images: ImageStore,
    card: Mapping[str, Any],
    model: ModelSettings,
    settings: SFTSettings,
    launch: LaunchSettings,
    seed: int,
    folder: Path,
    parameters: Mapping[str, Any],
) -> tuple[Path, pd.DataFrame, dict[str, float]]:
    """The adapter's folder (moved into place by its dataset), the training curve, and what the training took.

    That is its ``seconds`` on this machine, those of before an interruption among them, its ``steps``, and the training ``examples`` and
    how many of them are ``distinct``.
    """
    seeded = settings.model_copy(update={"seed": settings.seed + seed})
    job = SFTJob(model=model, settings=seeded, data_note=data_note(card))
    adapter, curve = run(job, examples, images, launch, folder)
    keep_recipe(adapter, recipe(parameters))
    names = examples.loc[examples["fold"] == "train", "example_id"]
    took = {
        "seconds": curve.attrs["seconds"],
        "steps": curve.attrs["steps"],
        "examples": len(names),
        "distinct": int(names.str.replace(r"#\d+$", "", regex=True).nunique()),
    }
    return adapter, curve, took
