"""No decomposition: one request for all scores and an explanation.

Source: the ablation of T2I-Eval (arXiv 2411.15488) that asks for everything at once. What is ours: the answer, one line a
dimension, ``<level> <dimension>``, the overall score first, then the explanation. It starts with a level, so the distribution
over the levels at its first token gives the overall score in one forward pass, as the ``levels`` protocol reads it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from t2i_eval_kedro.answers import N_A
from t2i_eval_kedro.judging.protocols.base import Answer, ChatMessage, EvaluationItem, Request, Score, Verdict
from t2i_eval_kedro.judging.protocols.parsing import ScoreReading, expected_score, parse_score
from t2i_eval_kedro.judging.protocols.wording import DIGITS, WordedProtocol, Wording
from t2i_eval_kedro.schema import FAILED, OK, UNPARSED
from t2i_eval_kedro.steps import DIRECT, OVERALL


class Direct(WordedProtocol):
    """Asks once for a score of each dimension and an explanation, and parses the answer."""

    name = DIRECT
    version = 2

    def __init__(self, wording: Wording, *, reading: ScoreReading = "tolerant") -> None:
        """Ask in the words of ``wording``; ``reading`` is how scores are read (:func:`parse_score`)."""
        super().__init__(wording)
        self.reading: ScoreReading = reading

    def requests(self, item: EvaluationItem, answers: Mapping[str, Answer]) -> Sequence[Request]:
        """The one request."""
        return [] if DIRECT in answers or not item.dimensions else [self.request(item)]

    def request(self, item: EvaluationItem) -> Request:
        """The request for all dimensions of ``item``."""
        dimensions = {name.replace("_", " "): item.dimensions[name] for name in _ordered(item)}
        text = self.wording.render(DIRECT, prompt=item.prompt, dimensions=dimensions)
        return Request(
            item_id=item.item_id,
            step=DIRECT,
            task=DIRECT,
            aspect=_ordered(item)[0],
            messages=(ChatMessage("user", text, (item.image,)),),
            max_tokens=self.wording.max_tokens[DIRECT],
            context={"prompt": item.prompt, "dimensions": dimensions},
            question_id=f"{item.item_id}/{DIRECT}",
        )

    def answer(self, item: EvaluationItem, scores: Mapping[str, float | None], explanation: str | None) -> str:
        """What a student learns to say: the nearest level of each score on 0 to 10, N/A for null."""
        levels = {
            name.replace("_", " "): N_A if scores.get(name) is None else self.wording.level(float(scores[name]))  # type: ignore[arg-type]
            for name in _ordered(item)
        }
        return self.wording.render("direct_answer", scores=levels, explanation=explanation)

    def verdict(self, item: EvaluationItem, answers: Mapping[str, Answer]) -> Verdict:
        """The score of each dimension; what is not in its place is unparsed."""
        answer = answers.get(DIRECT)
        names = _ordered(item)
        if answer is None or answer.status != OK:
            return Verdict(dict.fromkeys(names, Score(None, FAILED, answer.text if answer else "not asked")))
        parts = [part.strip() for part in re.split(r"\n| , ", answer.text, maxsplit=len(names))]
        explanation = parts[len(names)] if len(parts) > len(names) else None
        scores, repairs = {}, list[str]()
        for place, name in enumerate(names):
            stated = _stated(parts[place], name.replace("_", " ")) if place < len(parts) else None
            if stated is None or (self.reading == "strict" and stated[1]):
                scores[name] = Score(None, UNPARSED, answer.text)
                continue
            scores[name] = parse_score(Answer(stated[0]), self.wording, explanation, reading=self.reading)
            repairs += [*stated[1], *scores[name].repairs]
        return Verdict(scores, repairs=tuple(repairs))


class DirectLevels(Direct):
    """The request of :class:`Direct`, of whose answer only the first token is read: the level of the overall score."""

    name = "direct_levels"

    def request(self, item: EvaluationItem) -> Request:
        """The same messages, answered by a distribution over the levels."""
        return replace(super().request(item), candidate_tokens=self.wording.levels)

    def verdict(self, item: EvaluationItem, answers: Mapping[str, Answer]) -> Verdict:
        """The expectation over the levels, of the first dimension alone."""
        answer, name = answers.get(DIRECT), _ordered(item)[0]
        if answer is None or answer.status != OK:
            return Verdict({name: Score(None, FAILED, answer.text if answer else "not asked")})
        return Verdict({name: expected_score(answer, self.wording.vocabulary(DIGITS))})


def _stated(line: str, dimension: str) -> tuple[str, tuple[str, ...]] | None:
    """The score in a line ``<score> <dimension>``, and what had to be mended; also read is ``- **overall**: 7/10``."""
    word, _, rest = line.partition(" ")
    if rest == dimension:
        return word, ()
    plain, name = re.sub(r"\*\*|__|`", "", line).strip(" -*\t"), re.escape(dimension)
    match = re.fullmatch(rf"(.+?)[\s:=-]+{name}|{name}\s*[:=-]\s*(.+)", plain, re.IGNORECASE)
    return None if match is None else (match[1] or match[2], ("a line in another form",))


def _ordered(item: EvaluationItem) -> list[str]:
    """The dimensions, the overall one first."""
    return sorted(item.dimensions, key=lambda name: name != OVERALL)
