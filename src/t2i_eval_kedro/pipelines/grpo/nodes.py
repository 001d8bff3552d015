"""Trains the student further on bare human scores."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from t2i_eval_kedro.datasets.image_store import ImageStore
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.evaluators import JudgingSettings, load_templates, phrases_of
from t2i_eval_kedro.models.adapters import keep_recipe
from t2i_eval_kedro.models.settings import ModelSettings
from t2i_eval_kedro.pipelines.judging.nodes import data_note
from t2i_eval_kedro.provenance import recipe
from t2i_eval_kedro.training.examples import examples_from_scores, means_on_ten, require_training_fold
from t2i_eval_kedro.training.launch import GRPOJob, run
from t2i_eval_kedro.training.settings import GRPOSettings, LaunchSettings


def build_examples(
    items: pd.DataFrame,
    elements: pd.DataFrame,
    splits: pd.DataFrame,
    ratings: pd.DataFrame,
    card: Mapping[str, Any],
    prompts: Mapping[str, Callable[[], str]],
    judging: JudgingSettings,
) -> pd.DataFrame:
    """The direct request for the benchmark's first dimension, with people's mean score as the target."""
    wording = judging.load_wording(load_templates(prompts))
    phrases = phrases_of(card)
    if not phrases:
        raise T2IEvalError(
            f"Nobody rated an item of '{card['name']}', so there is no score to train on; add ratings, or run the other "
            "pipelines alone (--pipelines)."
        )
    dimension, phrase = next(iter(phrases.items()))
    folds = dict(zip(splits["item_id"], splits["fold"], strict=True))
    return require_training_fold(
        examples_from_scores(
            means_on_ten(ratings), items, folds, {dimension: phrase}, judging.options.levels(wording), elements
        )
    )


def train(
    examples: pd.DataFrame,
    images: ImageStore,
    start: Path,
    card: Mapping[str, Any],
    prompts: Mapping[str, Callable[[], str]],
    judging: JudgingSettings,
    model: ModelSettings,
    settings: GRPOSettings,
    launch: LaunchSettings,
    seed: int,
    folder: Path,
    parameters: Mapping[str, Any],
) -> tuple[Path, pd.DataFrame, dict[str, float]]:
    """The adapter's folder (moved into place by its dataset), the reward curve, and the seconds that training took."""
    began = time.monotonic()
    job = GRPOJob(
        model=model,
        settings=settings.model_copy(update={"seed": settings.seed + seed}),
        start=start,
        judging=judging,
        templates=load_templates(prompts),
        data_note=data_note(card),
    )
    adapter, curve = run(job, examples, images, launch, folder)
    keep_recipe(adapter, recipe(parameters))
    return adapter, curve, {"seconds": round(time.monotonic() - began, 1)}
