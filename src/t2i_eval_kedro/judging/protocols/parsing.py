"""From the text of an answer to a score or a list of questions. Total: what is not plainly there is unparsed."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from t2i_eval_kedro.answers import Statement, is_not_applicable, number, read_statement, t2i_eval_score
from t2i_eval_kedro.judging.protocols.base import Answer, Score
from t2i_eval_kedro.judging.protocols.wording import AnswerVocabulary, Wording
from t2i_eval_kedro.schema import FAILED, NOT_APPLICABLE, OK, UNPARSED
from t2i_eval_kedro.steps import ASPECTS

MAX_QUESTIONS = 40
"""More questions than this about one prompt is a runaway answer, not an extraction."""

_UNSPECIFIED = ("unspecified", "not specified", "unknown", "none", "n/a")
"""Values with which a model says that the prompt states none: T2I-Eval's own and others that were seen."""


@dataclass(frozen=True)
class Question:
    """One line of an extraction: the aspect, the entities it is about, the question, and what the prompt states.

    ``stated`` is an attribute of the entity (``colour: black``) or the relation of the entities (``left of``); "" for appearance, and
    in a wording that asks for questions alone.
    """

    aspect: str
    entities: tuple[str, ...]
    text: str
    stated: str = ""


def expected_score(answer: Answer, vocabulary: AnswerVocabulary) -> Score:
    """The expectation over the words of ``vocabulary``, 0 to 10; unparsed where the answer is no distribution over them, or one that was
    rejected because too much probability lies outside of them."""
    value = None if answer.rejected else vocabulary.expectation(answer.probabilities)
    return Score(None, UNPARSED, answer.rejected or answer.text) if value is None else Score(value, OK)


ScoreReading = Literal["tolerant", "strict", "as_published"]


def parse_score(
    answer: Answer,
    wording: Wording | AnswerVocabulary,
    explanation: str | None = None,
    *,
    reading: ScoreReading = "tolerant",
) -> Score:
    """The score that ``answer`` states, 0 to 10, or that the question does not apply.

    Args:
        answer: what the judge said.
        wording: the words that a score may be given in.
        explanation: text that goes with the score.
        reading: ``strict``: the whole answer is one level, or N/A. ``tolerant``: what judges write around it is taken away and
            counted (:func:`~t2i_eval_kedro.answers.read_statement`); a number between two levels ("8.5") is the score between theirs,
            and one out of 10 or of the highest level ("7/10") the proportion. ``as_published``: T2I-Eval's own, the first word that
            reads as a number (:func:`~t2i_eval_kedro.answers.t2i_eval_score`), on any scale; for comparisons with its figures alone.
    """
    if answer.status != OK:
        return Score(None, FAILED, answer.text)
    if reading == "as_published":
        first = t2i_eval_score(answer.text)
        if first is None or not math.isfinite(first):
            return Score(None, UNPARSED if "N/A" not in answer.text.split() else NOT_APPLICABLE, answer.text)
        value = _between(first, wording)
        return Score(first if value is None else value, OK, explanation)
    word = answer.text.strip().removesuffix(".")
    if word in wording.levels:
        return Score(wording.value(word), OK, explanation)
    if is_not_applicable(word):
        return Score(None, NOT_APPLICABLE, explanation)
    if reading == "strict":
        return Score(None, UNPARSED, answer.text)
    stated = read_statement(answer.text)
    if is_not_applicable(stated.word):
        return Score(None, NOT_APPLICABLE, explanation, stated.repairs)
    value, repair = _value(stated, wording)
    if value is None:
        return Score(None, UNPARSED, answer.text)
    return Score(value, OK, explanation, (*stated.repairs, *([repair] if repair else [])))


def _value(stated: Statement, wording: Wording | AnswerVocabulary) -> tuple[float | None, str]:
    """The score, 0 to 10, that a statement gives in the words of ``wording``, and what had to be mended for it."""
    if stated.word in wording.levels:
        return wording.value(stated.word), ""
    alike = [level for level in wording.levels if level.casefold() == stated.word.casefold()]
    if len(alike) == 1:
        return wording.value(alike[0]), "another case"
    if stated.value is None:
        return None, ""
    if stated.maximum == 10 and 0 <= stated.value <= 10:
        return stated.value, "a score written out of its maximum"
    value = _between(stated.value, wording)
    if stated.maximum is None:
        return value, "a score between two levels, or written otherwise"
    highest = number(wording.levels[-1])
    return (value if stated.maximum == highest else None), "a score written out of its maximum"


def _between(stated: float, wording: Wording | AnswerVocabulary) -> float | None:
    """Where ``stated`` lies, 0 to 10, between levels that are numerals; ``None`` where it is off them or they are none."""
    low, high = number(wording.levels[0]), number(wording.levels[-1])
    if low is None or high is None or not low <= stated <= high:
        return None
    return 10 * (stated - low) / (high - low)


@lru_cache(maxsize=4096)  # a protocol asks again in every round
def parse_questions(text: str) -> tuple[Question, ...]:
    """The questions of an extraction, one ``aspect | entities | question`` a line; lines of another form are left out.

    A line may say what the prompt states before its question: ``aspect | entities | colour: black | question``. What it says is
    unspecified is left out, for the prompt does not ask for it. A repeated question is kept once. An empty tuple means that the
    extraction failed.
    """
    questions: dict[Question, None] = {}
    for line in text.splitlines():
        fields = [re.sub(r"\s+", " ", part).strip() for part in line.lstrip("-* ").split("|")]
        if len(fields) not in (3, 4):
            continue
        aspect, entities, text = fields[0].lower(), tuple(filter(None, re.split(r"\s*,\s*", fields[1]))), fields[-1]
        stated = fields[2] if len(fields) == 4 and aspect != "appearance" and fields[2] != "-" else ""
        if stated.rpartition(":")[2].strip().casefold() in _UNSPECIFIED:
            continue
        if aspect in ASPECTS and entities and text.endswith("?"):
            questions[Question(aspect, entities, text, stated)] = None
    return tuple(questions) if len(questions) <= MAX_QUESTIONS else ()
