"""T2I-Eval's two ablations: the questions are asked in one call an aspect, or all in one call.

Source: T2I-Eval (arXiv 2411.15488), the ablations of the decomposed protocol. Everything but the questions (extraction,
summaries, merge) is as in :mod:`~t2i_eval_kedro.judging.protocols.decomposed`, so that one thing differs. The form of a grouped
answer, one line ``number | answer | explanation | score`` a question, is ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from t2i_eval_kedro.answers import N_A
from t2i_eval_kedro.judging.protocols.base import Answer, EvaluationItem, Request, Score
from t2i_eval_kedro.judging.protocols.decomposed import Decomposed
from t2i_eval_kedro.judging.protocols.parsing import Question, ScoreReading
from t2i_eval_kedro.judging.protocols.wording import Wording
from t2i_eval_kedro.schema import UNPARSED

ALL = "all"
TASK = "answer_group"


class DecomposedGrouped(Decomposed):
    """The decomposed chain, with its questions asked together."""

    def __init__(
        self, wording: Wording, *, by_aspect: bool, reading: ScoreReading = "tolerant", text_stages: bool = False
    ) -> None:
        """Ask in the words of ``wording``, one call an aspect or one for all questions."""
        super().__init__(wording, reading=reading, text_stages=text_stages)
        self.by_aspect = by_aspect
        self.name = "decomposed_by_aspect" if by_aspect else "decomposed_flat"

    def _next_of_questions(
        self, item: EvaluationItem, answers: Mapping[str, Answer], questions: Sequence[Question]
    ) -> Sequence[Request]:
        groups: dict[str, list[str]] = {}
        for question in questions:
            groups.setdefault(self._group(question), []).append(question.text)
        return [
            self._request(
                item,
                self._step(group),
                TASK,
                group,
                TASK,
                {"prompt": item.prompt, "aspect": group, "questions": texts},
            )
            for group, texts in groups.items()
            if self._step(group) not in answers
        ]

    def _finding(self, answers: Mapping[str, Answer], questions: Sequence[Question], number: int) -> dict[str, str]:
        answer, explanation, level = self._line(answers, questions, number)
        score = self._parse(Answer(level)).value
        return {
            "question": questions[number].text,
            "answer": answer,
            "explanation": explanation,
            "score": N_A if score is None else self.wording.level(min(max(score, 0), 10)),
        }

    def _question_score(self, answers: Mapping[str, Answer], questions: Sequence[Question], number: int) -> Score:
        level = self._line(answers, questions, number)[2]
        return self._parse(Answer(level)) if level else Score(None, UNPARSED, "no line about it")

    def _line(self, answers: Mapping[str, Answer], questions: Sequence[Question], number: int) -> tuple[str, str, str]:
        """Answer, explanation and score of one question; empty where the answer has no line about it."""
        group = self._group(questions[number])
        position = sum(self._group(other) == group for other in questions[: number + 1])
        return parse_group(answers[self._step(group)].text).get(position, ("", "", ""))

    def _group(self, question: Question) -> str:
        return question.aspect if self.by_aspect else ALL

    def _step(self, group: str) -> str:
        return f"{group}/answers"


def parse_group(text: str) -> dict[int, tuple[str, str, str]]:
    """Answer, explanation and score by the number of the question, from lines ``number | answer | explanation | score``.

    Lines of another form are left out, and so is a question with two different lines.
    """
    findings: dict[int, tuple[str, str, str]] = {}
    ambiguous: set[int] = set()
    for line in text.splitlines():
        fields = [part.strip() for part in line.strip().strip("|").split("|")]
        number = re.fullmatch(r"[-*]?\s*(\d{1,3})[.)]?", fields[0])
        if len(fields) == 4 and number is not None:
            finding = (fields[1], fields[2], fields[3])
            if findings.setdefault(int(number[1]), finding) != finding:
                ambiguous.add(int(number[1]))
    return {number: finding for number, finding in findings.items() if number not in ambiguous}
