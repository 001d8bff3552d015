"""One forward pass a dimension: the expectation over the score levels at the answer position.

Source: Q-Align's and iMatch's expectation over level tokens, and VQAScore's probability of an answer, over the level words
of the wording. The request is the ``score`` template, the same text that supervised examples and GRPO are made of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from t2i_eval_kedro.judging.protocols.base import Answer, Message, Request, Score, Subject, Verdict
from t2i_eval_kedro.judging.protocols.wording import Wording
from t2i_eval_kedro.schema import FAILED, OK

TASK = "score"


class Levels:
    """Asks for each dimension of the subject directly and reads the probabilities of the levels."""

    def __init__(self, wording: Wording) -> None:
        """Ask in the words of ``wording``."""
        self.wording = wording

    @property
    def label(self) -> str:
        """Name, wording and version."""
        return f"levels/{self.wording.name}@{self.wording.version}"

    def requests(self, subject: Subject, answers: Mapping[str, Answer]) -> Sequence[Request]:
        """One request a dimension, all at once."""
        return [
            self.request(subject, dimension, phrase)
            for dimension, phrase in subject.dimensions.items()
            if f"{TASK}/{dimension}" not in answers
        ]

    def request(self, subject: Subject, dimension: str, phrase: str) -> Request:
        """The direct score request for one dimension."""
        text = self.wording.render(
            "score", prompt=subject.prompt, dimension=dimension.replace("_", " "), description=phrase
        )
        step = f"{TASK}/{dimension}"
        return Request(
            item_id=subject.item_id,
            step=step,
            task=TASK,
            aspect=dimension,
            messages=(Message("user", text, (subject.image,)),),
            max_tokens=self.wording.max_tokens[TASK],
            choices=self.wording.levels,
            context={"prompt": subject.prompt, "dimension": dimension},
            pair=f"{subject.item_id}/{step}",
        )

    def verdict(self, subject: Subject, answers: Mapping[str, Answer]) -> Verdict:
        """The expectation sum_i p_i * value_i, with p normalised over the levels."""
        return Verdict({name: self._score(answers.get(f"{TASK}/{name}")) for name in subject.dimensions})

    def _score(self, answer: Answer | None) -> Score:
        if answer is None or answer.status != OK:
            return Score(None, FAILED, answer.text if answer else "not asked")
        values = [p * self.wording.value(level) for level, p in answer.probabilities.items()]
        return Score(sum(values), OK)
