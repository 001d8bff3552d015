"""One forward pass a dimension: the expectation over the score levels at the answer position.

Source: Q-Align (five words), iMatch (fifteen letters, and the categories of the elements in the prompt) and VQAScore (the
probability of yes), over the answer vocabulary that the settings choose. The request is the ``score`` template of that vocabulary, the
same text that supervised examples and GRPO are made of. The probabilities are made to sum to 1 over the scale; what the
model gave to other tokens stands in the transcript as ``out_of_vocabulary_mass``. VQAScore does not do so: its P(yes) is
``score / 10 * (1 - out_of_vocabulary_mass)`` here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from t2i_eval_kedro.judging.protocols.base import Answer, ChatMessage, EvaluationItem, Request, Score, Verdict
from t2i_eval_kedro.judging.protocols.parsing import ScoreReading, expected_score, parse_score
from t2i_eval_kedro.judging.protocols.wording import DIGITS, WordedProtocol, Wording
from t2i_eval_kedro.schema import FAILED, OK
from t2i_eval_kedro.steps import SCORE


class Levels(WordedProtocol):
    """Asks for each dimension of the item directly and reads the probabilities of the levels."""

    name = "levels"
    version = 2

    def __init__(
        self,
        wording: Wording,
        *,
        vocabulary: str = DIGITS,
        categories: bool = False,
        reading: ScoreReading = "tolerant",
    ) -> None:
        """Ask in the words of ``wording``.

        Args:
            wording: the templates.
            vocabulary: name of the words that scores are given in, one of ``wording``'s answer vocabularies.
            categories: name the categories of the item's elements in the request, where it has some.
            reading: how a score is read where a backend gives text in place of probabilities.
        """
        super().__init__(wording)
        self.vocabulary = wording.vocabulary(vocabulary)
        self.template = SCORE if vocabulary == DIGITS else f"{SCORE}_{vocabulary}"
        self.categories = categories
        self.reading: ScoreReading = reading
        self._variant = "_".join(
            [self.name, *([] if vocabulary == DIGITS else [vocabulary]), *(["categories"] if categories else [])]
        )

    @property
    def label(self) -> str:
        """Name, with the vocabulary where it is not the digits, and wording, each with its version."""
        return self.wording.label(self._variant, self.version)

    def requests(self, item: EvaluationItem, answers: Mapping[str, Answer]) -> Sequence[Request]:
        """One request a dimension, all at once."""
        return [
            self.request(item, dimension, phrase)
            for dimension, phrase in item.dimensions.items()
            if f"{SCORE}/{dimension}" not in answers
        ]

    def request(self, item: EvaluationItem, dimension: str, phrase: str) -> Request:
        """The direct score request for one dimension."""
        text = self.wording.render(
            self.template,
            prompt=item.prompt,
            dimension=dimension.replace("_", " "),
            description=phrase,
            levels=self.vocabulary.levels,
        )
        if self.categories and item.elements:
            elements = self.wording.render("categories", elements=item.elements)
            text = f"{elements}\n{text}"
        step = f"{SCORE}/{dimension}"
        return Request(
            item_id=item.item_id,
            step=step,
            task=SCORE,
            aspect=dimension,
            messages=(ChatMessage("user", text, (item.image,)),),
            max_tokens=self.wording.max_tokens[SCORE],
            candidate_tokens=self.vocabulary.levels,
            context={"prompt": item.prompt, "dimension": dimension},
            question_id=f"{item.item_id}/{step}",
        )

    def verdict(self, item: EvaluationItem, answers: Mapping[str, Answer]) -> Verdict:
        """The expectation sum_i p_i * value_i, with p normalised over the levels.

        A backend that has no probabilities to tell gives text; then the level that it states is the score.
        """
        scores = {name: self._score(answers.get(f"{SCORE}/{name}")) for name in item.dimensions}
        return Verdict(scores, repairs=tuple(repair for score in scores.values() for repair in score.repairs))

    def _score(self, answer: Answer | None) -> Score:
        if answer is None or answer.status != OK:
            return Score(None, FAILED, answer.text if answer else "not asked")
        if not answer.probabilities:
            return parse_score(answer, self.vocabulary, reading=self.reading)
        return expected_score(answer, self.vocabulary)
