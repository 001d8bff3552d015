"""Trains the student further on bare human scores or preferences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from t2i_eval_kedro import schema
from t2i_eval_kedro.datasets.adapter import check_folder
from t2i_eval_kedro.datasets.image_store import ImageStore
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.evaluators import JudgingSettings, load_templates, phrases_of
from t2i_eval_kedro.models.adapters import keep_recipe
from t2i_eval_kedro.models.settings import ModelSettings
from t2i_eval_kedro.pipelines.judging.nodes import data_note
from t2i_eval_kedro.provenance import recipe
from t2i_eval_kedro.schema import SFT
from t2i_eval_kedro.steps import REASON_PAIR, SCORE
from t2i_eval_kedro.training.critiques import main_dimension, reasoning_examples
from t2i_eval_kedro.training.examples import examples_from_scores, means_on_ten, require_training_fold
from t2i_eval_kedro.training.launch import GRPOJob, run
from t2i_eval_kedro.training.settings import REHEARSAL, GRPOSettings, LaunchSettings, SFTSettings


def build_examples(
    items: pd.DataFrame,
    elements: pd.DataFrame,
    splits: pd.DataFrame,
    ratings: pd.DataFrame,
    supervised: pd.DataFrame,
    card: Mapping[str, Any],
    prompts: Mapping[str, Callable[[], str]],
    judging: JudgingSettings,
    settings: GRPOSettings,
) -> pd.DataFrame:
    """The requests of ``grpo.tasks`` with people's mean as the target, direct score requests to measure agreement with, and where
    they are rehearsed the supervised examples, as the fold ``rehearsal``.
    """
    wording = judging.load_wording(load_templates(prompts))
    phrases = phrases_of(card)
    if not phrases:
        raise T2IEvalError(
            f"Nobody rated an item of '{card['name']}', so there is no score to train on; add ratings, or run the other "
            "pipelines alone (--pipelines)."
        )
    dimension = main_dimension(phrases)
    asked = {dimension: phrases[dimension]}
    folds = dict(zip(splits["item_id"], splits["fold"], strict=True))
    means = means_on_ten(ratings)
    direct = examples_from_scores(means, items, folds, asked, judging.options.levels(wording), elements)
    parts = [direct if SCORE in settings.tasks else direct[direct["fold"] == "validation"]]
    for task in settings.tasks:
        if task != SCORE:
            made = reasoning_examples(task, means, items, folds, asked, wording, None)
            if task == REASON_PAIR and not (made["fold"] == "train").any():
                raise T2IEvalError(
                    "No prompt of the training fold has two rated images to compare (grpo.tasks: reason_pair); ask for scores "
                    "(reason), or choose another benchmark."
                )
            parts.append(made)
    if settings.rehearses:
        taught = supervised[supervised["fold"] == "train"]
        parts.append(taught.assign(fold=REHEARSAL, example_id=f"{REHEARSAL}/" + taught["example_id"]))
    return require_training_fold(schema.EXAMPLES.check(pd.concat(parts, ignore_index=True)))


def train(
    examples: pd.DataFrame,
    images: ImageStore,
    start: Path,
    card: Mapping[str, Any],
    prompts: Mapping[str, Callable[[], str]],
    judging: JudgingSettings,
    model: ModelSettings,
    settings: GRPOSettings,
    sft: SFTSettings,
    launch: LaunchSettings,
    seed: int,
    folder: Path,
    parameters: Mapping[str, Any],
) -> tuple[Path, pd.DataFrame, dict[str, float]]:
    """The adapter's folder (moved into place by its dataset), the training curve, and the seconds that training and its steps took.

    Raises:
        T2IEvalError: ``start``, the adapter of supervised fine-tuning, is needed (``grpo.start``) and not there.
    """
    if settings.start == SFT:
        check_folder(start)
    job = GRPOJob(
        model=model,
        settings=settings.model_copy(update={"seed": settings.seed + seed}),
        start=start if settings.start == SFT else None,
        lora=sft.lora,
        judging=judging,
        templates=load_templates(prompts),
        data_note=data_note(card),
    )
    adapter, curve = run(job, examples, images, launch, folder)
    keep_recipe(adapter, recipe(parameters))
    split = {f"seconds_per_step_{name}": value for name, value in curve.attrs.get("seconds_per_step", {}).items()}
    return adapter, curve, {"seconds": curve.attrs["seconds"], **split}
