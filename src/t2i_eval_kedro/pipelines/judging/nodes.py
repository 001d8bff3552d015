"""What the pipelines that make a judge share: the judge scores the held-out items."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from t2i_eval_kedro import schema
from t2i_eval_kedro.benchmarks.splits import VALIDATION
from t2i_eval_kedro.datasets.image_store import ImageStore
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging import shards
from t2i_eval_kedro.judging.attribution import Truth, attribute_errors, choose_items
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
from t2i_eval_kedro.judging.evidence import evidence_source
from t2i_eval_kedro.judging.local_models import cache_answers, open_backend
from t2i_eval_kedro.judging.pairs import judge_pairs
from t2i_eval_kedro.judging.protocols import Wording
from t2i_eval_kedro.judging.protocols.registry import build, candidate_tokens_of, resolved
from t2i_eval_kedro.judging.selection import choose_protocol
from t2i_eval_kedro.models.settings import ModelSettings
from t2i_eval_kedro.schema import BASE
from t2i_eval_kedro.training.critiques import main_dimension
from t2i_eval_kedro.training.settings import Task, taught_tasks

log = logging.getLogger(__name__)


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
    best: Mapping[str, Any] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Scores, transcripts and element scores by each protocol on the fold of ``judging``.

    The judge is the model with ``adapter`` on it, whose folder has the judge's name; without one it is the base model, which is also asked
    by the ``protocol`` of ``best`` (:func:`choose_base_protocol`). Which protocols ``taught`` in the settings stands for follows from the
    ``tasks`` of the training and the kind of ``teacher``.

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
    if best and best["protocol"] and best["protocol"] not in judging.protocols:
        judging = judging.model_copy(update={"protocols": [*judging.protocols, best["protocol"]]})
    wording = judging.load_wording(load_templates(prompts))
    backend: Backend | None = None
    elsewhere: Elsewhere | None = None
    if judging.ray_workers:
        elsewhere = shards.on_ray(model, adapter, images, judging)
    else:
        backend = _open(judging.protocols, images, wording, model, judging, adapter)
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
        evidence=evidence_source(judging, images),
        elements=elements,
        similarity=similarity,
        elsewhere=elsewhere,
        chunk_size=judging.batch_size,
        max_out_of_vocabulary=judging.max_out_of_vocabulary,
    )
    return judgement.scores, judgement.transcripts, judgement.element_scores


def _open(
    protocols: Sequence[str],
    images: ImageStore,
    wording: Wording,
    model: ModelSettings,
    judging: JudgingSettings,
    adapter: Path | None,
) -> Backend:
    """The model with its kept answers, able to answer ``protocols``."""
    local = open_backend(model, adapter, images, judging)
    local.require_tokens(candidate_tokens_of(protocols, wording, judging.options))
    return cache_answers(local, model, adapter, images, judging)


def choose_base_protocol(
    items: pd.DataFrame,
    elements: pd.DataFrame,
    splits: pd.DataFrame,
    ratings: pd.DataFrame,
    images: ImageStore,
    data_card: Mapping[str, Any],
    prompts: Mapping[str, Callable[[], str]],
    model: ModelSettings,
    judging: JudgingSettings,
) -> dict[str, Any]:
    """Which of ``judging.baseline_protocols`` the untrained model agrees best by, on validation items.

    ``protocol`` is None where there is no protocol to choose from, or no validation item with an image and a rating.
    """
    rated = in_fold(items, splits, VALIDATION)
    rated = rated[rated["image"].notna() & rated["item_id"].isin(ratings["item_id"])]
    if not judging.baseline_protocols or rated.empty:
        return {"protocol": None, "candidates": []}
    if len(rated) > judging.baseline_items:
        rated = rated.sample(judging.baseline_items, random_state=0).sort_index()
    wording = judging.load_wording(load_templates(prompts))
    judgement = judge_items(
        rated,
        _open(judging.baseline_protocols, images, wording, model, judging, None),
        wording,
        phrases_of(data_card),
        judging.baseline_protocols,
        name=BASE,
        options=judging.options,
        evidence=evidence_source(judging, images),
        elements=elements,
        chunk_size=judging.batch_size,
    )
    chosen = choose_protocol(judgement.scores, ratings)
    if chosen["protocol"]:
        log.info("The untrained model is also asked by %s, which is best on validation prompts.", chosen["protocol"])
    return chosen


def attribute(
    items: pd.DataFrame,
    elements: pd.DataFrame,
    splits: pd.DataFrame,
    ratings: pd.DataFrame,
    element_ratings: pd.DataFrame,
    images: ImageStore,
    data_card: Mapping[str, Any],
    prompts: Mapping[str, Callable[[], str]],
    model: ModelSettings,
    judging: JudgingSettings,
    tasks: Sequence[Task],
    teacher: str,
    adapter: Path | None = None,
) -> pd.DataFrame:
    """The canonical table ``attribution`` of the model, with ``adapter`` on it where one is given; empty where the judge is not
    asked by ``decomposed``, no element is known, or ``judging.attribution_items`` is 0."""
    chosen = choose_items(in_fold(items, splits, judging.fold), elements, judging.attribution_items)
    learned = taught_tasks(tasks, teacher_kind(teacher, synthetic=data_card["synthetic"]))
    if chosen.empty or "decomposed" not in resolved(judging.protocols, learned):
        return schema.ATTRIBUTION.empty()
    wording = judging.load_wording(load_templates(prompts))
    return attribute_errors(
        chosen,
        _open(["decomposed"], images, wording, model, judging, adapter),
        wording,
        phrases_of(data_card),
        Truth.of(chosen, elements, element_ratings, ratings),
        name=BASE if adapter is None else adapter.name,
        options=judging.options,
        evidence=evidence_source(judging, images),
        chunk_size=judging.batch_size,
    )


def compare_pairs(
    items: pd.DataFrame,
    splits: pd.DataFrame,
    preferences: pd.DataFrame,
    images: ImageStore,
    data_card: Mapping[str, Any],
    prompts: Mapping[str, Callable[[], str]],
    model: ModelSettings,
    judging: JudgingSettings,
    adapter: Path | None = None,
) -> pd.DataFrame:
    """The canonical table ``preference_scores`` of the model, with ``adapter`` on it where one is given, on ``judging.pairs`` held-out
    pairs that people compared; empty where that is 0, nobody compared any, or nobody rated a dimension to ask for."""
    held_out = in_fold(items, splits, judging.fold)
    shown = held_out.loc[held_out["image"].notna(), "item_id"]
    pairs = preferences[preferences["item_a"].isin(shown) & preferences["item_b"].isin(shown)]
    pairs = pairs.drop_duplicates(["prompt_id", "item_a", "item_b"])
    phrases = phrases_of(data_card)
    if not judging.pairs or pairs.empty or not phrases:
        return schema.PREFERENCE_SCORES.empty()
    pairs = pairs.sample(min(judging.pairs, len(pairs)), random_state=0).sort_index()
    wording = judging.load_wording(load_templates(prompts))
    dimension = main_dimension(phrases)
    table, _ = judge_pairs(
        pairs,
        items,
        _open(["pairwise"], images, wording, model, judging, adapter),
        build("pairwise", wording, judging.options),
        judging.options.pair_rule,
        {dimension: phrases[dimension]},
        dimension,
        name=BASE if adapter is None else adapter.name,
        chunk_size=judging.batch_size,
    )
    return table


def data_note(card: Mapping[str, Any]) -> str:
    """A sentence for an adapter's card on where its training data comes from."""
    return f"The examples come from {card['title']}, licence {card['licence']}."
