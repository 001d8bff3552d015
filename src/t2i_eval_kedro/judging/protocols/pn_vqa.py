"""PN-VQA: for every element a positive and a negative question, and the difference of their probabilities.

Source: EvalMuse-40K (arXiv 2412.18150). Templates and formula are not published; both are ours. With
d = P(yes | positive) - P(yes | negative), where P(yes) + P(no) = 1, an element scores (1 + d) / 2, which is the mean of
P(yes | positive) and P(no | negative); the item scores the mean over its elements. A judge that says yes to everything gets 0.5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from t2i_eval_kedro.judging.protocols.base import Answer, EvaluationItem, PromptElement, Request, Score, Verdict
from t2i_eval_kedro.judging.protocols.elements import (
    ALIGNMENT,
    elements_of,
    extract_request,
    mean_score,
    probability_of_yes,
    yes_no_request,
)
from t2i_eval_kedro.judging.protocols.wording import WordedProtocol
from t2i_eval_kedro.schema import OK
from t2i_eval_kedro.steps import YES_NO, YES_NO_NEGATIVE

DIMENSIONS = (ALIGNMENT,)


class PnVqa(WordedProtocol):
    """Asks two questions an element, all at once."""

    name = "pn_vqa"
    version = 1

    def requests(self, item: EvaluationItem, answers: Mapping[str, Answer]) -> Sequence[Request]:
        """The extraction where the item has no elements, then all questions at once."""
        elements = elements_of(item, answers)
        if elements is None:
            return [extract_request(self.wording, item)]
        asked = [request for element in elements for request in self.positive_and_negative(item, element)]
        return [request for request in asked if request.step not in answers]

    def positive_and_negative(self, item: EvaluationItem, element: PromptElement) -> tuple[Request, Request]:
        """The positive and the negative question about one element."""
        positive, negative = (
            yes_no_request(self.wording, item, element, template) for template in (YES_NO, YES_NO_NEGATIVE)
        )
        return positive, negative

    def verdict(self, item: EvaluationItem, answers: Mapping[str, Answer]) -> Verdict:
        """(1 + d) / 2 an element, and their mean as the alignment."""
        scores = {element.element_id: self._score(element, answers) for element in elements_of(item, answers) or ()}
        return Verdict({ALIGNMENT: mean_score(scores, answers)}, elements=scores)

    def _score(self, element: PromptElement, answers: Mapping[str, Answer]) -> Score:
        positive, negative = (
            probability_of_yes(answers.get(f"{template}/{element.element_id}"), self.wording)
            for template in (YES_NO, YES_NO_NEGATIVE)
        )
        if isinstance(positive, Score):
            return positive
        if isinstance(negative, Score):
            return negative
        return Score((1 + positive - negative) / 2, OK)
