"""A teacher judges the items step by step, and its steps become examples to learn from."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
from pydantic import SecretStr

from t2i_eval_kedro import schema
from t2i_eval_kedro.benchmarks.splits import in_use, training_items
from t2i_eval_kedro.datasets.answer_store import AnswerStore
from t2i_eval_kedro.datasets.image_store import ImageStore
from t2i_eval_kedro.judging.attribution import Truth, choose_items
from t2i_eval_kedro.judging.evaluators import JudgingSettings, in_fold, load_templates, phrases_of
from t2i_eval_kedro.judging.evidence import evidence_source
from t2i_eval_kedro.teacher import teachers
from t2i_eval_kedro.teacher.teachers import Material, TeacherSettings
from t2i_eval_kedro.training import recipes
from t2i_eval_kedro.training.settings import ExampleSettings

log = logging.getLogger(__name__)


def ask_teacher(
    items: pd.DataFrame,
    splits: pd.DataFrame,
    images: ImageStore,
    recorded: pd.DataFrame,
    card: Mapping[str, Any],
    prompts: Mapping[str, Callable[[], str]],
    answers: AnswerStore,
    key: SecretStr | None,
    teacher: TeacherSettings,
    judging: JudgingSettings,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """The teacher's transcripts, those about text alone, scores and account; all but the last empty for the human teacher.

    Items that count in no fold (outside a sample, or with a generator that is left out) are not asked about, nor paid for.
    """
    kind = teacher.chosen(synthetic=card["synthetic"])
    if kind == "human":
        log.warning(
            "%s: examples are made from people's mean scores, and sub-tasks are not taught; teacher.kind=openai or recorded "
            "gives a teacher's steps.%s",
            "No teacher was asked (teacher.kind=auto, and no truth that one could be simulated from)"
            if teacher.kind == "auto"
            else "The teacher is human",
            f" Without effect: {teacher.about_text}." if teacher.about_text else "",
        )
        return schema.TRANSCRIPTS.empty(), schema.TRANSCRIPTS.empty(), schema.SCORES.empty(), {"teacher": kind}
    wording = judging.load_wording(load_templates(prompts))
    material = Material(
        in_use(items, splits), images, recorded, answers, key, training=training_items(splits), all_items=items
    )
    judgement, about_text, costs = teachers.ask_teacher(kind, teacher, material, wording, phrases_of(card))
    answers.close()
    return judgement.transcripts, about_text, judgement.scores, costs


def attribute_teacher(
    items: pd.DataFrame,
    splits: pd.DataFrame,
    ratings: pd.DataFrame,
    elements: pd.DataFrame,
    element_ratings: pd.DataFrame,
    images: ImageStore,
    recorded: pd.DataFrame,
    card: Mapping[str, Any],
    prompts: Mapping[str, Callable[[], str]],
    answers: AnswerStore,
    key: SecretStr | None,
    teacher: TeacherSettings,
    judging: JudgingSettings,
) -> pd.DataFrame:
    """The canonical table ``attribution`` of the teacher on held-out items; empty where it cannot be asked again, or is not to be."""
    kind = teacher.chosen(synthetic=card["synthetic"])
    n = judging.attribution_items if kind == "simulated" else teacher.attribution_items
    chosen = choose_items(in_fold(items, splits, judging.fold), elements, n)
    attribution = teachers.teacher_attribution(
        kind,
        teacher,
        Material(chosen, images, recorded, answers, key),
        Truth.of(chosen, elements, element_ratings, ratings),
        judging.load_wording(load_templates(prompts)),
        phrases_of(card),
    )
    answers.close()
    return attribution


def first_run(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a teacher's first run; later ones say how far it agrees with itself."""
    return table[table["run"] == 0]


def build_examples(
    items: pd.DataFrame,
    splits: pd.DataFrame,
    ratings: pd.DataFrame,
    elements: pd.DataFrame,
    element_ratings: pd.DataFrame,
    transcripts: pd.DataFrame,
    about_text: pd.DataFrame,
    scores: pd.DataFrame,
    images: ImageStore,
    card: Mapping[str, Any],
    prompts: Mapping[str, Callable[[], str]],
    judging: JudgingSettings,
    settings: ExampleSettings,
) -> pd.DataFrame:
    """The training examples: which tasks, and from whose answers, is in the settings; ``images`` are looked at for evidence alone."""
    wording = judging.load_wording(load_templates(prompts))
    transcripts, scores = first_run(transcripts), first_run(scores)
    tables = recipes.Sources(items, splits, ratings, elements, element_ratings, transcripts, about_text, scores)
    return recipes.build_examples(
        tables, phrases_of(card), judging.options, wording, settings, evidence_source(judging, images)
    )


def check_teacher(
    items: pd.DataFrame,
    ratings: pd.DataFrame,
    elements: pd.DataFrame,
    element_ratings: pd.DataFrame,
    transcripts: pd.DataFrame,
    scores: pd.DataFrame,
    examples: pd.DataFrame,
    prompts: Mapping[str, Callable[[], str]],
    judging: JudgingSettings,
) -> dict[str, Any]:
    """Is the teacher worth learning from; empty for the human one, who is the reference."""
    if not len(transcripts):
        return {}
    from t2i_eval_kedro.teacher import checks  # scipy and numba are slow to import

    wording = judging.load_wording(load_templates(prompts))
    return checks.check_teacher(items, ratings, elements, element_ratings, transcripts, scores, examples, wording)
