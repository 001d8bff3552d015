"""Trains the student on examples, and lets it judge the held-out items before and after."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from t2i_eval_kedro.datasets.image_store import ImageStore
from t2i_eval_kedro.judging.evaluators import JudgingSettings
from t2i_eval_kedro.models.settings import ModelSettings
from t2i_eval_kedro.pipelines.judging.nodes import data_note, judge_held_out
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
) -> tuple[Path, pd.DataFrame, dict[str, float]]:
    """The adapter's folder (moved into place by its dataset), the training curve, and what the training took.

    That is its ``seconds`` on this machine, its ``steps``, and the training ``examples`` and how many of them are ``distinct``.
    """
    start = time.monotonic()
    seeded = settings.model_copy(update={"seed": settings.seed + seed})
    job = SFTJob(model=model, settings=seeded, data_note=data_note(card))
    adapter, curve = run(job, examples, images, launch, folder)
    names = examples.loc[examples["fold"] == "train", "example_id"]
    took = {
        "seconds": round(time.monotonic() - start, 1),
        "steps": int(curve["step"].max()),
        "examples": len(names),
        "distinct": int(names.str.replace(r"#\d+$", "", regex=True).nunique()),
    }
    return adapter, curve, took


def judge_base(
    items: pd.DataFrame,
    elements: pd.DataFrame,
    splits: pd.DataFrame,
    images: ImageStore,
    card: Mapping[str, Any],
    prompts: Mapping[str, Callable[[], str]],
    model: ModelSettings,
    judging: JudgingSettings,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The untrained model's scores, transcripts and element scores of the held-out items."""
    return judge_held_out("base", None, items, elements, splits, images, card, prompts, model, judging)


def judge_sft(
    adapter: Path,
    items: pd.DataFrame,
    elements: pd.DataFrame,
    splits: pd.DataFrame,
    images: ImageStore,
    card: Mapping[str, Any],
    prompts: Mapping[str, Callable[[], str]],
    model: ModelSettings,
    judging: JudgingSettings,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The trained student's scores, transcripts and element scores of the held-out items."""
    return judge_held_out("sft", adapter, items, elements, splits, images, card, prompts, model, judging)
