"""No decomposition: one request for all scores and an explanation.

Source: the ablation of T2I-Eval (arXiv 2411.15488) that asks for everything at once. What is ours: the answer, one line a
dimension, ``<level> <dimension>``, the overall score first, then the explanation. It starts with a level, so the distribution
over the levels at its first token gives the overall score in one forward pass, as the ``levels`` protocol reads it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from t2i_eval_kedro.answers import NOT_APPLICABLE
from t2i_eval_kedro.judging.protocols.base import Answer, ChatMessage, EvaluationItem, Request, Score, Verdict
from t2i_eval_kedro.judging.protocols.decomposed import OVERALL
from t2i_eval_kedro.judging.protocols.parsing import parse_score
from t2i_eval_kedro.judging.protocols.wording import DIGITS, Wording
from t2i_eval_kedro.schema import FAILED, OK, UNPARSED

TASK = "direct"
VERSION = 1


class Direct:
    """Asks once for a score of each dimension and an explanation, and parses the answer."""

    name = TASK

    def __init__(self, wording: Wording) -> None:
        """Ask in the words of ``wording``."""
        self.wording = wording

    @property
    def label(self) -> str:
        """Name, wording and version."""
        return self.wording.label(self.name, VERSION)

    def requests(self, subject: EvaluationItem, answers: Mapping[str, Answer]) -> Sequence[Request]:
        """The one request."""
        return [] if TASK in answers or not subject.dimensions else [self.request(subject)]

    def request(self, subject: EvaluationItem) -> Request:
        """The request for all dimensions of ``subject``."""
        dimensions = {name.replace("_", " "): subject.dimensions[name] for name in _ordered(subject)}
        text = self.wording.render(TASK, prompt=subject.prompt, dimensions=dimensions)
        return Request(
            item_id=subject.item_id,
            step=TASK,
            task=TASK,
            aspect=_ordered(subject)[0],
            messages=(ChatMessage("user", text, (subject.image,)),),
            max_tokens=self.wording.max_tokens[TASK],
            context={"prompt": subject.prompt, "dimensions": dimensions},
            question_id=f"{subject.item_id}/{TASK}",
        )

    def answer(self, subject: EvaluationItem, scores: Mapping[str, float | None], explanation: str | None) -> str:
        """What a student learns to say: the nearest level of each score on 0 to 10, N/A for null."""
        said = {
            name.replace("_", " "): NOT_APPLICABLE
            if scores.get(name) is None
            else self.wording.level(float(scores[name]))  # type: ignore[arg-type]
            for name in _ordered(subject)
        }
        return self.wording.render("direct_answer", scores=said, explanation=explanation)

    def verdict(self, subject: EvaluationItem, answers: Mapping[str, Answer]) -> Verdict:
        """The score of each dimension; strict: what is not in its place is unparsed."""
        answer = answers.get(TASK)
        names = _ordered(subject)
        if answer is None or answer.status != OK:
            return Verdict(dict.fromkeys(names, Score(None, FAILED, answer.text if answer else "not asked")))
        parts = [part.strip() for part in re.split(r"\n| , ", answer.text, maxsplit=len(names))]
        explanation = parts[len(names)] if len(parts) > len(names) else None
        scores = {}
        for place, name in enumerate(names):
            word, _, said = parts[place].partition(" ") if place < len(parts) else ("", "", "")
            fits = said == name.replace("_", " ")
            scores[name] = (
                parse_score(Answer(word), self.wording, explanation) if fits else Score(None, UNPARSED, answer.text)
            )
        return Verdict(scores)


class DirectLevels(Direct):
    """The request of :class:`Direct`, of whose answer only the first token is read: the level of the overall score."""

    name = "direct_levels"

    @property
    def label(self) -> str:
        """Name, wording and version."""
        return self.wording.label(self.name, VERSION)

    def request(self, subject: EvaluationItem) -> Request:
        """The same messages, answered by a distribution over the levels."""
        return replace(super().request(subject), candidate_tokens=self.wording.levels)

    def verdict(self, subject: EvaluationItem, answers: Mapping[str, Answer]) -> Verdict:
        """The expectation over the levels, of the first dimension alone."""
        answer, name = answers.get(TASK), _ordered(subject)[0]
        if answer is None or answer.status != OK:
            return Verdict({name: Score(None, FAILED, answer.text if answer else "not asked")})
        expected = self.wording.vocabulary(DIGITS).expectation(answer.probabilities)
        return Verdict({name: Score(None, UNPARSED, answer.text) if expected is None else Score(expected, OK)})


def _ordered(subject: EvaluationItem) -> list[str]:
    """The dimensions, the overall one first."""
    return sorted(subject.dimensions, key=lambda name: name != OVERALL)
