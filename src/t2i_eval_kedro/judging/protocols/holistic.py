"""VIEScore: one request for semantic consistency with the prompt, one for perceptual quality without it.

Source: VIEScore (ACL 2024): semantic consistency SC is the smallest score of the first answer, perceptual quality PQ the smallest of
the second (naturalness, artifacts), and O = sqrt(SC * PQ). They are the dimensions ``alignment``, ``appearance`` and ``overall``
here. The released code puts a random number where an answer cannot be read; here the score is unparsed. The wording of the
requests is ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from t2i_eval_kedro.answers import ScoreList, parse_score_list
from t2i_eval_kedro.judging.protocols.base import Answer, ChatMessage, EvaluationItem, Request, Score, Verdict
from t2i_eval_kedro.judging.protocols.elements import ALIGNMENT
from t2i_eval_kedro.judging.protocols.response_schemas import ScoreListSchema
from t2i_eval_kedro.judging.protocols.wording import WordedProtocol
from t2i_eval_kedro.schema import FAILED, OK, UNPARSED
from t2i_eval_kedro.steps import APPEARANCE, OVERALL

DIMENSIONS = (ALIGNMENT, APPEARANCE, OVERALL)
STEPS = {ALIGNMENT: ("holistic_sc", 1), APPEARANCE: ("holistic_pq", 2)}
"""By dimension: the template, and how many scores it asks for."""


class Holistic(WordedProtocol):
    """Asks both requests at once."""

    name = "holistic"
    version = 2

    def requests(self, item: EvaluationItem, answers: Mapping[str, Answer]) -> Sequence[Request]:
        """Semantic consistency, which is told the prompt, and perceptual quality, which is not."""
        return [
            self._request(item, dimension, step, {"prompt": item.prompt} if dimension == ALIGNMENT else {})
            for dimension, (step, _) in STEPS.items()
            if step not in answers
        ]

    def _request(self, item: EvaluationItem, dimension: str, step: str, context: Mapping[str, object]) -> Request:
        return Request(
            item_id=item.item_id,
            step=step,
            task=step,
            aspect=dimension,
            messages=(ChatMessage("user", self.wording.render(step, **context), (item.image,)),),
            max_tokens=self.wording.max_tokens[step],
            context=context,
            question_id=f"{item.item_id}/{step}",
            response_schema=ScoreListSchema,
        )

    def verdict(self, item: EvaluationItem, answers: Mapping[str, Answer]) -> Verdict:
        """The smallest score of each answer, and the geometric mean of the two."""
        read = {dimension: self._read(answers.get(step), n) for dimension, (step, n) in STEPS.items()}
        scores = {dimension: score for dimension, (score, _) in read.items()}
        return Verdict(
            scores | {OVERALL: self._overall(scores[ALIGNMENT], scores[APPEARANCE])},
            repairs=tuple(repair for _, repairs in read.values() for repair in repairs),
        )

    def _read(self, answer: Answer | None, n: int) -> tuple[Score, tuple[str, ...]]:
        if answer is None or answer.status != OK:
            return Score(None, FAILED, answer.text if answer else "not asked"), ()
        read: ScoreList = parse_score_list(answer.text, n)
        if read.scores is None:
            return Score(None, UNPARSED, answer.text), ()
        return Score(min(read.scores), OK, read.reasoning), read.repairs

    def _overall(self, consistency: Score, quality: Score) -> Score:
        for status in (FAILED, UNPARSED):
            for score in (consistency, quality):
                if score.status == status:
                    return Score(None, status, score.explanation)
        explanation = " ".join(filter(None, (consistency.explanation, quality.explanation)))
        return Score(math.sqrt((consistency.value or 0) * (quality.value or 0)), OK, explanation or None)
