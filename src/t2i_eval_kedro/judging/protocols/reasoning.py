"""Think, then score: one image, or two images of one prompt side by side.

Source: T2I-Eval-R1 (arXiv 2505.17897) trains a judge whose answer is a chain of reasoning and a score, from single and from
pairwise labels. Its templates and its grammar are not public; both are ours:

    single   = "<think>" text "</think>" "<answer>" number "</answer>"
    pairwise = "<think>" text "</think>" "<answer>" {"A": number, "B": number} "</answer>"

with blanks between the parts, each tag once, and numbers from 0 to 10. What does not match from its first character to its
last is unparsed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from t2i_eval_kedro.answers import MAX_CHARACTERS, number_on_scale
from t2i_eval_kedro.judging.protocols.base import Answer, ChatMessage, EvaluationItem, Request, Score, Verdict
from t2i_eval_kedro.judging.protocols.wording import Wording
from t2i_eval_kedro.schema import FAILED, OK, UNPARSED

VERSION = 1
SINGLE, PAIR = "reason", "reason_pair"
_GRAMMAR = re.compile(r"\s*<think>(.*)</think>\s*<answer>(.*)</answer>\s*", re.DOTALL)
_TAG = re.compile(r"</?(?:think|answer)>")
_NUMBER = re.compile(r"\d{1,2}(?:\.\d+)?")


@dataclass(frozen=True)
class Reasoned:
    """An answer of the right grammar: what was thought, and the score of the image, or of the images A and B."""

    thought: str
    scores: tuple[float, ...]


def parse_reasoned(text: str, *, pair: bool = False) -> Reasoned | None:
    """``text`` by the grammar, or ``None``.

    Example:
        >>> parse_reasoned("<think>a clear cat</think><answer>8.5</answer>")
        Reasoned(thought='a clear cat', scores=(8.5,))
        >>> parse_reasoned("<think>a clear cat</think><answer>8.5 of 10</answer>") is None
        True
    """
    if len(text) > MAX_CHARACTERS or len(_TAG.findall(text)) != 4:
        return None
    match = _GRAMMAR.fullmatch(text)
    if match is None:
        return None
    stated = match[2].strip()
    if pair:
        try:
            pairs = json.loads(stated, object_pairs_hook=list)
        except (ValueError, RecursionError):
            return None
        if not isinstance(pairs, list) or [entry[0] for entry in pairs if isinstance(entry, tuple)] != ["A", "B"]:
            return None
        values = [number_on_scale(value, 0, 10) if isinstance(value, int | float) else None for _, value in pairs]
    else:
        values = [number_on_scale(stated, 0, 10) if _NUMBER.fullmatch(stated) else None]
    scores = tuple(value for value in values if value is not None)
    return Reasoned(match[1].strip(), scores) if len(scores) == len(values) else None


class Reasoning:
    """One request a dimension; a item with a rival is compared with it and scored as image A."""

    name = "reasoning"

    def __init__(self, wording: Wording) -> None:
        """Ask in the words of ``wording``."""
        self.wording = wording

    @property
    def label(self) -> str:
        """Name and wording with their versions."""
        return self.wording.label(self.name, VERSION)

    def requests(self, item: EvaluationItem, answers: Mapping[str, Answer]) -> Sequence[Request]:
        """One request a dimension, all at once."""
        return [
            self.request(item, dimension, phrase)
            for dimension, phrase in item.dimensions.items()
            if f"{_task(item)}/{dimension}" not in answers
        ]

    def request(self, item: EvaluationItem, dimension: str, phrase: str) -> Request:
        """The request for one dimension."""
        task = _task(item)
        context = {"prompt": item.prompt, "dimension": dimension.replace("_", " "), "description": phrase}
        images = (item.image, item.comparison_image) if item.comparison_image else (item.image,)
        step = f"{task}/{dimension}"
        return Request(
            item_id=item.item_id,
            step=step,
            task=task,
            aspect=dimension,
            messages=(ChatMessage("user", self.wording.render(task, **context), images),),
            max_tokens=self.wording.max_tokens[task],
            context=context,
            question_id=f"{item.item_id}/{step}",
        )

    def verdict(self, item: EvaluationItem, answers: Mapping[str, Answer]) -> Verdict:
        """The score and the thought of each dimension."""
        task = _task(item)
        return Verdict({name: self._score(answers.get(f"{task}/{name}"), task) for name in item.dimensions})

    def _score(self, answer: Answer | None, task: str) -> Score:
        if answer is None or answer.status != OK:
            return Score(None, FAILED, answer.text if answer else "not asked")
        read = parse_reasoned(answer.text, pair=task == PAIR)
        return Score(None, UNPARSED, answer.text) if read is None else Score(read.scores[0], OK, read.thought)


def _task(item: EvaluationItem) -> str:
    return PAIR if item.comparison_image else SINGLE
