"""Think, then score: one image on one dimension or on all of them, or two images of one prompt side by side.

Source: T2I-Eval-R1 (arXiv 2505.17897) trains a judge whose answer is a chain of reasoning and a score, from single and from
pairwise labels. Its templates and its grammar are not public; both are ours:

    answer = "<think>" text "</think>" "<answer>" stated "</answer>"
    stated = number                                                        one dimension
           | {"overall": number, "appearance": null, ...}                  all dimensions, or the images A and B
           | overall number, appearance n/a, ...                           the same in plain words

with blanks between the parts, each tag once, every name once and in the order of the request, and numbers from 0 to 10. What
does not match from its first character to its last is unparsed. Two images are never scored ``n/a``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from t2i_eval_kedro.answers import MAX_CHARACTERS, is_not_applicable, number_on_scale
from t2i_eval_kedro.judging.protocols.base import Answer, ChatMessage, EvaluationItem, Request, Score, Verdict
from t2i_eval_kedro.judging.protocols.wording import WordedProtocol, Wording
from t2i_eval_kedro.schema import FAILED, OK, UNPARSED
from t2i_eval_kedro.steps import REASON, REASON_ASPECTS, REASON_PAIR

IMAGES = ("A", "B")
"""What a judge of pairs calls the two images, in the order in which it sees them."""
_GRAMMAR = re.compile(r"\s*<think>(.*)</think>\s*<answer>(.*)</answer>\s*", re.DOTALL)
_TAG = re.compile(r"</?(?:think|answer)>")
_NUMBER = re.compile(r"\d{1,2}(?:\.\d+)?")

Preferred = Literal["a", "b", "tie"]


@dataclass(frozen=True)
class Reasoned:
    """An answer of the right grammar: what was thought, and the scores; None for a dimension that does not apply."""

    thought: str
    scores: tuple[float | None, ...]


def parse_reasoned(text: str, names: Sequence[str] = ()) -> Reasoned | None:
    """``text`` by the grammar, with one score for each of ``names`` (one without a name where there are none), or ``None``.

    Example:
        >>> parse_reasoned("<think>a clear cat</think><answer>8.5</answer>")
        Reasoned(thought='a clear cat', scores=(8.5,))
        >>> parse_reasoned("<think>a clear cat</think><answer>8.5 of 10</answer>") is None
        True
        >>> parse_reasoned("<think>B is sharper</think><answer>A 4, B 9</answer>", IMAGES).scores
        (4.0, 9.0)
    """
    if len(text) > MAX_CHARACTERS or len(_TAG.findall(text)) != 4:
        return None
    match = _GRAMMAR.fullmatch(text)
    if match is None:
        return None
    stated = match[2].strip()
    if not names:
        values: list[object] | None = [stated]
    else:
        values = _object(stated, names) if stated.startswith("{") else _words(stated, names)
    scores = [_score(value) for value in values or ()]
    if not scores or "bad" in scores or (None in scores and (not names or tuple(names) == IMAGES)):
        return None
    return Reasoned(match[1].strip(), tuple(score for score in scores if not isinstance(score, str)))


def _score(stated: object) -> float | Literal["bad"] | None:
    """A stated score; None where it says that the dimension does not apply."""
    if stated is None or is_not_applicable(stated):
        return None
    if isinstance(stated, bool) or (isinstance(stated, str) and not _NUMBER.fullmatch(stated)):
        return "bad"
    value = number_on_scale(stated, 0, 10)
    return "bad" if value is None else value


def _object(stated: str, names: Sequence[str]) -> list[object] | None:
    """The values of a JSON object with exactly the keys ``names``, in that order; a number in quotes is none."""
    try:
        pairs = json.loads(stated, object_pairs_hook=list)
    except (ValueError, RecursionError):
        return None
    if not isinstance(pairs, list) or [pair[0] for pair in pairs if isinstance(pair, tuple)] != list(names):
        return None
    values = [value for _, value in pairs]
    return None if any(isinstance(value, str) and not is_not_applicable(value) for value in values) else values


def _words(stated: str, names: Sequence[str]) -> list[object] | None:
    """The values of ``name value, name value``, in any case and with or without a colon."""
    parts = [part.strip() for part in stated.split(",")]
    if len(parts) != len(names):
        return None
    matches = [
        re.fullmatch(rf"{re.escape(name)}\s*(?::\s*|\s)(\S+)", part, re.IGNORECASE)
        for name, part in zip(names, parts, strict=True)
    ]
    return [match[1] for match in matches if match] if all(matches) else None


def write_reasoned(wording: Wording, thought: str, scores: Mapping[str, float | None]) -> str:
    """The answer that a student learns: ``thought`` and the scores, by name, of one dimension, of several, or of both images.

    Args:
        wording: its template ``reason_answer`` says how answers are written.
        thought: what was thought; text that looks like a tag is escaped.
        scores: 0 to 10 by name; one score alone is written without its name.
    """
    return wording.render("reason_answer", thought=thought, scores=dict(scores))


def _request(
    wording: Wording,
    item: EvaluationItem,
    task: str,
    step: str,
    aspect: str,
    images: tuple[str, ...],
    **context: object,
) -> Request:
    context = {"prompt": item.prompt, **context}
    return Request(
        item_id=item.item_id,
        step=step,
        task=task,
        aspect=aspect,
        messages=(ChatMessage("user", wording.render(task, **context), images),),
        max_tokens=wording.max_tokens[task],
        context=context,
        question_id=f"{item.item_id}/{step}",
    )


class Reasoning(WordedProtocol):
    """One request per dimension, each answered by a thought and one score."""

    name = "reasoning"
    version = 1

    def requests(self, item: EvaluationItem, answers: Mapping[str, Answer]) -> Sequence[Request]:
        """One request per dimension, all at once."""
        return [
            self.request(item, dimension, phrase)
            for dimension, phrase in item.dimensions.items()
            if f"{REASON}/{dimension}" not in answers
        ]

    def request(self, item: EvaluationItem, dimension: str, phrase: str) -> Request:
        """The request for one dimension."""
        context = {"dimension": dimension.replace("_", " "), "description": phrase}
        step = f"{REASON}/{dimension}"
        return _request(self.wording, item, REASON, step, dimension, (item.image,), **context)

    def verdict(self, item: EvaluationItem, answers: Mapping[str, Answer]) -> Verdict:
        """The score and the thought of each dimension."""
        return Verdict({name: self._score(answers.get(f"{REASON}/{name}")) for name in item.dimensions})

    def _score(self, answer: Answer | None) -> Score:
        if answer is None or answer.status != OK:
            return Score(None, FAILED, answer.text if answer else "not asked")
        read = parse_reasoned(answer.text)
        return Score(None, UNPARSED, answer.text) if read is None else Score(read.scores[0], OK, read.thought)


class ReasoningAspects(WordedProtocol):
    """One request for all dimensions, answered by one thought and a score for each."""

    name = "reasoning_aspects"
    version = 1

    def requests(self, item: EvaluationItem, answers: Mapping[str, Answer]) -> Sequence[Request]:
        """The one request."""
        return [] if REASON_ASPECTS in answers or not item.dimensions else [self.request(item)]

    def request(self, item: EvaluationItem) -> Request:
        """The request for all dimensions of ``item``."""
        dimensions = dict(zip(_spoken(item), item.dimensions.values(), strict=True))
        aspect = next(iter(item.dimensions))
        return _request(
            self.wording, item, REASON_ASPECTS, REASON_ASPECTS, aspect, (item.image,), dimensions=dimensions
        )

    def verdict(self, item: EvaluationItem, answers: Mapping[str, Answer]) -> Verdict:
        """The score of each dimension, with the one thought; all are unparsed where one cannot be read."""
        answer, names = answers.get(REASON_ASPECTS), list(item.dimensions)
        if answer is None or answer.status != OK:
            return Verdict(dict.fromkeys(names, Score(None, FAILED, answer.text if answer else "not asked")))
        read = parse_reasoned(answer.text, _spoken(item))
        if read is None:
            return Verdict(dict.fromkeys(names, Score(None, UNPARSED, answer.text)))
        return Verdict(
            {
                name: Score.not_applicable(read.thought) if score is None else Score(score, OK, read.thought)
                for name, score in zip(names, read.scores, strict=True)
            }
        )


def _spoken(item: EvaluationItem) -> list[str]:
    """The names of the dimensions as they are asked for and answered with."""
    return [name.replace("_", " ") for name in item.dimensions]


@dataclass(frozen=True)
class PairRule:
    """How two scores become a preference. Ours.

    Attributes:
        tie: a tie where the mean difference of the two scores is no larger than this, on 0 to 10.
        slope: steepness of the probability, ``1 / (1 + exp(-slope * difference))``, the mean of both orders.
    """

    tie: float = 0.5
    slope: float = 1.0

    def label(self, margin: float) -> Preferred:
        """What the score of A minus that of B says."""
        return "tie" if abs(margin) <= self.tie else "a" if margin > 0 else "b"

    def probability(self, margin: float) -> float:
        """The probability that A is the better one, 0 to 1."""
        return 1 / (1 + math.exp(-self.slope * margin))


@dataclass(frozen=True)
class Preference:
    """Which of two images is better.

    Attributes:
        label: ``a``, ``b`` or ``tie``; None where there is no verdict.
        probability: that A is better, 0 to 1.
        margin: score of A minus score of B, the mean of the orders that were asked.
        scores: the mean scores of A and B.
        consistent: whether both orders give the same label; None where one order settles it, or one cannot be read.
        status: ``ok``, ``unparsed`` or ``failed``.
        explanations: what was thought, one text for each order; or why there is no verdict.
    """

    label: Preferred | None
    probability: float | None
    margin: float | None
    scores: tuple[float, float] | None
    consistent: bool | None
    status: str
    explanations: tuple[str, ...] = ()


def preference(scores: Sequence[tuple[float, float]], rule: PairRule, explanations: tuple[str, ...] = ()) -> Preference:
    """The preference that the scores of A and B say, one pair of them for each order that was asked.

    Example:
        >>> preference([(8, 5), (7, 6)], PairRule()).label, preference([(8, 5), (5, 8)], PairRule()).consistent
        ('a', False)
    """
    margins = [a - b for a, b in scores]
    margin = sum(margins) / len(margins)
    return Preference(
        label=rule.label(margin),
        probability=sum(map(rule.probability, margins)) / len(margins),
        margin=margin,
        scores=(sum(a for a, _ in scores) / len(scores), sum(b for _, b in scores) / len(scores)),
        consistent=len({rule.label(one) for one in margins}) == 1 if len(margins) > 1 else None,
        status=OK,
        explanations=explanations,
    )


class Pairwise(WordedProtocol):
    """Two requests per dimension: the images in one order, then in the other. Both must be read for a verdict."""

    name = "pairwise"
    version = 1

    def __init__(self, wording: Wording, rule: PairRule | None = None) -> None:
        """Ask in the words of ``wording``; ``rule`` makes the preference."""
        super().__init__(wording)
        self.rule = rule or PairRule()

    def requests(self, item: EvaluationItem, answers: Mapping[str, Answer]) -> Sequence[Request]:
        """Both orders of each dimension, all at once; nothing where there is no image to compare with."""
        if not item.comparison_image:
            return []
        return [
            self.request(item, dimension, phrase, swapped=swapped)
            for dimension, phrase in item.dimensions.items()
            for swapped in (False, True)
            if _step(dimension, swapped) not in answers
        ]

    def request(self, item: EvaluationItem, dimension: str, phrase: str, *, swapped: bool = False) -> Request:
        """The request for one dimension in one order."""
        images = (item.image, item.comparison_image)
        context = {"dimension": dimension.replace("_", " "), "description": phrase}
        step = _step(dimension, swapped)
        return _request(
            self.wording,
            item,
            REASON_PAIR,
            step,
            dimension,
            images[::-1] if swapped else images,
            swapped=swapped,
            **context,
        )

    def verdict(self, item: EvaluationItem, answers: Mapping[str, Answer]) -> Verdict:
        """The mean score of the first image in both orders, by dimension."""
        preferences = {name: self.preference(name, answers) for name in item.dimensions}
        return Verdict(
            {
                name: Score(one.scores[0] if one.scores else None, one.status, "\n".join(one.explanations) or None)
                for name, one in preferences.items()
            }
        )

    def preference(self, dimension: str, answers: Mapping[str, Answer]) -> Preference:
        """What both answers about ``dimension`` say. Total: where one cannot be read there is no preference, with its reason."""
        scores, thoughts = [], []
        for swapped in (False, True):
            answer = answers.get(_step(dimension, swapped))
            if answer is None or answer.status != OK:
                return _no_preference(FAILED, answer.text if answer else "there is no second image to compare with")
            read = parse_reasoned(answer.text, IMAGES)
            if read is None:
                return _no_preference(UNPARSED, answer.text)
            a, b = (float(score) for score in read.scores if score is not None)
            scores.append((b, a) if swapped else (a, b))
            thoughts.append(read.thought)
        return preference(scores, self.rule, tuple(thoughts))


def _no_preference(status: str, reason: str) -> Preference:
    return Preference(None, None, None, None, None, status, (reason,))


def _step(dimension: str, swapped: bool) -> str:
    return f"{REASON_PAIR}/{dimension}{'/swapped' if swapped else ''}"
