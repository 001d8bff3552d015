"""What the pipelines that make a judge share: the judge scores the held-out items."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from t2i_eval_kedro.datasets.image_store import ImageStore
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging import shards
from t2i_eval_kedro.judging.backends.base import Backend
from t2i_eval_kedro.judging.evaluators import (
    Elsewhere,
    JudgingSettings,
    in_fold,
    judge_items,
    load_templates,
    phrases_of,
    teacher_kind,
)
from t2i_eval_kedro.judging.local_models import cache_answers, open_backend
from t2i_eval_kedro.judging.protocols.registry import candidate_tokens_of, resolved
from t2i_eval_kedro.models.settings import ModelSettings
from t2i_eval_kedro.schema import BASE
from t2i_eval_kedro.training.settings import Task, taught_tasks


def judge_held_out(
    items: pd.DataFrame,
    elements: pd.DataFrame,
    splits: pd.DataFrame,
    images: ImageStore,
    data_card: Mapping[str, Any],
    prompts: Mapping[str, Callable[[], str]],
    model: ModelSettings,
    judging: JudgingSettings,
    tasks: Sequence[Task],
    teacher: str,
    adapter: Path | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Scores, transcripts and element scores by each protocol on the fold of ``judging``.

    The judge is the model with ``adapter`` on it, whose folder has the judge's name; without one it is the base model. Which protocols
    ``taught`` in the settings stands for follows from the ``tasks`` of the training and the kind of ``teacher``.

    Raises:
        T2IEvalError: no item of the fold has an image.
    """
    held_out = in_fold(items, splits, judging.fold)
    if not held_out["image"].notna().any():
        raise T2IEvalError(
            f"No item of fold '{judging.fold}' has an image, so there is nothing to judge; change ingestion.split or "
            "judging.fold, or measure recorded scores with --pipelines=ingestion,meta_evaluation,reporting."
        )
    learned = taught_tasks(tasks, teacher_kind(teacher, synthetic=data_card["synthetic"]))
    judging = judging.model_copy(update={"protocols": resolved(judging.protocols, learned)})
    wording = judging.load_wording(load_templates(prompts))
    backend: Backend | None = None
    elsewhere: Elsewhere | None = None
    if judging.ray_workers:
        elsewhere = shards.on_ray(model, adapter, images, judging)
    else:
        local = open_backend(model, adapter, images, judging)
        local.require_tokens(candidate_tokens_of(judging.protocols, wording, judging.options))
        backend = cache_answers(local, model, adapter, images, judging)
    similarity = None
    if adapter is None and "similarity" in judging.protocols:  # it knows no adapter, so once is enough
        from t2i_eval_kedro.judging.backends.similarity import SimilarityBackend

        similarity = SimilarityBackend(judging.similarity, images)
    judgement = judge_items(
        held_out,
        backend,
        wording,
        phrases_of(data_card),
        judging.protocols,
        name=BASE if adapter is None else adapter.name,
        options=judging.options,
        elements=elements,
        similarity=similarity,
        elsewhere=elsewhere,
        chunk_size=judging.batch_size,
    )
    return judgement.scores, judgement.transcripts, judgement.element_scores


def data_note(card: Mapping[str, Any]) -> str:
    """A sentence for an adapter's card on where its training data comes from."""
    return f"The examples come from {card['title']}, licence {card['licence']}."
