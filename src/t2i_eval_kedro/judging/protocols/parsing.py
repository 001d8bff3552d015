"""From the text of an answer to a score or a list of questions. Strict and total: what is not plainly there is unparsed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from t2i_eval_kedro.answers import is_not_applicable
from t2i_eval_kedro.judging.protocols.base import Answer, Score
from t2i_eval_kedro.judging.protocols.wording import AnswerVocabulary, Wording
from t2i_eval_kedro.schema import FAILED, MISSING, OK, UNPARSED

ASPECTS = ("appearance", "attributes", "relations")
"""The three aspects of T2I-Eval: appearance quality, intrinsic attribute and relationship attribute consistency."""

MAX_QUESTIONS = 40
"""More questions than this about one prompt is a runaway answer, not an extraction."""


@dataclass(frozen=True)
class Question:
    """One line of an extraction: the aspect, the entities it is about, and the question."""

    aspect: str
    entities: tuple[str, ...]
    text: str


def parse_score(answer: Answer, wording: Wording | AnswerVocabulary, explanation: str | None = None) -> Score:
    """The score that ``answer`` states: the whole answer is one level, or N/A.

    A level inside a longer text is not taken ("8 out of 9", "**8**", "8 or 9"), because which number was meant is then a
    guess; T2I-Eval's own parser takes the first word that reads as a number.
    """
    if answer.status != OK:
        return Score(None, FAILED, answer.text)
    word = answer.text.strip().removesuffix(".")
    if word in wording.levels:
        return Score(wording.value(word), OK, explanation)
    if is_not_applicable(word):
        return Score(None, MISSING, explanation)
    return Score(None, UNPARSED, answer.text)


@lru_cache(maxsize=4096)  # a protocol asks again in every round
def parse_questions(text: str) -> tuple[Question, ...]:
    """The questions of an extraction, one ``aspect | entities | question`` a line; lines of another form are left out.

    A repeated question is kept once. An empty tuple means that the extraction failed.
    """
    questions: dict[Question, None] = {}
    for line in text.splitlines():
        fields = [re.sub(r"\s+", " ", part).strip() for part in line.lstrip("-* ").split("|")]
        if len(fields) != 3:
            continue
        aspect, entities, text = fields[0].lower(), tuple(filter(None, re.split(r"\s*,\s*", fields[1]))), fields[2]
        if aspect in ASPECTS and entities and text.endswith("?"):
            questions[Question(aspect, entities, text)] = None
    return tuple(questions) if len(questions) <= MAX_QUESTIONS else ()
