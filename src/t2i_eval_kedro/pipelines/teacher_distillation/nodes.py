"""A teacher judges the items step by step, and its steps become examples to learn from."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from t2i_eval_kedro import schema
from t2i_eval_kedro.judging.backends.simulated import SimulatedBackend
from t2i_eval_kedro.judging.evaluators import JudgingSettings, judge_items, load_templates, phrases_of
from t2i_eval_kedro.training.examples import (
    examples_from_scores,
    examples_from_transcripts,
    mean_ratings,
    require_training_fold,
)

log = logging.getLogger(__name__)

TEACHER = "teacher"


class TeacherSettings(BaseModel):
    """Who teaches.

    Attributes:
        kind: ``simulated`` sees the truth of a synthetic benchmark; ``human`` are people's mean scores, without steps;
            ``auto`` takes the first where there is a truth to see, else the second.
        seed: of the simulated teacher's errors.
        error_rate: share of questions that the simulated teacher answers wrongly.
        score_noise: standard deviation of the noise on its scores, on the scale of 0 to 10.
    """

    model_config = ConfigDict(extra="forbid")

    kind: Literal["auto", "simulated", "human"]
    seed: int = Field(ge=0)
    error_rate: float = Field(ge=0, le=1)
    score_noise: float = Field(ge=0)


def ask_teacher(
    items: pd.DataFrame,
    card: Mapping[str, Any],
    prompts: Mapping[str, Callable[[], str]],
    teacher: TeacherSettings,
    judging: JudgingSettings,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The teacher's transcripts and scores of all items; both empty for the human teacher, who gave no steps."""
    if teacher.kind == "human" or (teacher.kind == "auto" and not card["synthetic"]):
        log.info("The teacher is human: examples are made from people's mean scores.")
        return schema.TRANSCRIPTS.empty(), schema.SCORES.empty()
    wording = judging.load_wording(load_templates(prompts))
    backend = SimulatedBackend(
        items, wording, seed=teacher.seed, error_rate=teacher.error_rate, score_noise=teacher.score_noise
    )
    said = judge_items(items, backend, wording, phrases_of(card), ["decomposed"], name=TEACHER)
    return said.transcripts, said.scores.assign(evaluator=TEACHER)


def build_examples(
    items: pd.DataFrame,
    splits: pd.DataFrame,
    ratings: pd.DataFrame,
    transcripts: pd.DataFrame,
    scores: pd.DataFrame,
    card: Mapping[str, Any],
    prompts: Mapping[str, Callable[[], str]],
    judging: JudgingSettings,
) -> pd.DataFrame:
    """Sub-tasks from the transcripts, and direct score requests from the teacher's scores (or people's, if human)."""
    wording = judging.load_wording(load_templates(prompts))
    folds = dict(zip(splits["item_id"], splits["fold"], strict=True))
    given = scores if len(scores) else mean_ratings(ratings)
    parts = [
        examples_from_transcripts(transcripts, folds, wording),
        examples_from_scores(given, items, folds, phrases_of(card), wording),
    ]
    return require_training_fold(schema.EXAMPLES.check(pd.concat(parts, ignore_index=True)))
