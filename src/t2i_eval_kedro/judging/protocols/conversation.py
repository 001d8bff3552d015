"""The decomposed chain as one long conversation: every request sees all answers before it.

Source: an ablation of T2I-Eval's sub-tasks. Questions, order inside a question, templates and verdict are those of
:class:`~t2i_eval_kedro.judging.protocols.decomposed.Decomposed`; one question is finished before the next begins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from t2i_eval_kedro.judging.protocols.base import Answer, ChatMessage, EvaluationItem, Request, Verdict
from t2i_eval_kedro.judging.protocols.decomposed import Decomposed
from t2i_eval_kedro.judging.protocols.wording import Wording
from t2i_eval_kedro.steps import CONVERSATION

VERSION = 2


class Conversation:
    """Asks the requests of the decomposed protocol one after another in a single chat."""

    name = CONVERSATION

    def __init__(self, wording: Wording) -> None:
        """Ask in the words of ``wording``."""
        self.chain = Decomposed(wording)

    @property
    def label(self) -> str:
        """Name, wording and version."""
        return self.chain.wording.label(self.name, VERSION)

    def requests(self, item: EvaluationItem, answers: Mapping[str, Answer]) -> Sequence[Request]:
        """The next request, after all turns before it; the image stands in the first."""
        # The chain is asked again from its start, because only its order tells what was said before what.
        history: list[ChatMessage] = []
        given: dict[str, Answer] = {}
        while waiting := self.chain.requests(item, given):
            step, turn = waiting[0].step, waiting[0].messages[-1].text
            history.append(ChatMessage("user", turn, () if history else (item.image,)))
            if step not in answers:
                return [replace(waiting[0], task=CONVERSATION, messages=tuple(history))]
            given[step] = answers[step]
            history.append(ChatMessage("assistant", answers[step].text))
        return []

    def verdict(self, item: EvaluationItem, answers: Mapping[str, Answer]) -> Verdict:
        """As of the decomposed protocol."""
        return self.chain.verdict(item, answers)
