"""Image-text similarity: the prompt and the image, and no question.

Source: CLIPScore (EMNLP 2021), 2.5 * max(cos, 0) with "A photo depicts " before the prompt; PickScore (NeurIPS 2023) and HPSv2
(arXiv 2306.09341), the scaled cosine of models trained on preferences. All three are one cosine of a CLIP-class model up
to its scale, so the score here is 10 * max(cos, 0) and the cosine itself is in the transcript: CLIPScore is a quarter of the
score, and ranks are those of the papers. Which model, and what stands before the prompt, is the backend's
(:class:`~t2i_eval_kedro.judging.backends.similarity.SimilarityBackend`); a judge that writes text cannot answer this request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field

from t2i_eval_kedro.answers import number_on_scale
from t2i_eval_kedro.judging.protocols.base import Answer, ChatMessage, EvaluationItem, Request, Score, Verdict
from t2i_eval_kedro.judging.protocols.elements import ALIGNMENT
from t2i_eval_kedro.schema import FAILED, OK, UNPARSED

VERSION = 1
DIMENSIONS = (ALIGNMENT,)
TASK = "similarity"
TOLERANCE = 1e-3  # of a cosine in half precision


class SimilaritySettings(BaseModel):
    """Which model compares images with prompts.

    Attributes:
        model: a folder or a hub name, such as ``openai/clip-vit-base-patch32`` or ``yuvalkirstain/PickScore_v1``.
        processor: processor of another model, where the model's repository has none (PickScore:
            ``laion/CLIP-ViT-H-14-laion2B-s32B-b79K``); null for the model's own.
        prefix: what stands before a prompt; ``"A photo depicts "`` for CLIPScore.
        revision: branch, tag or commit of a hub name.
        device: ``auto`` (a GPU where there is one), ``cpu`` or a torch device.
        batch_size: pairs that are compared at once.
    """

    model_config = ConfigDict(extra="forbid")

    model: str
    processor: str | None
    prefix: str
    revision: str | None
    device: str
    batch_size: int = Field(ge=1)


class Similarity:
    """One request an item: the prompt as it is, and the image. It has no wording."""

    name = "similarity"

    @property
    def label(self) -> str:
        """Name and version."""
        return f"{self.name}@{VERSION}"

    def requests(self, item: EvaluationItem, answers: Mapping[str, Answer]) -> Sequence[Request]:
        """Prompt and image."""
        if TASK in answers:
            return []
        message = ChatMessage("user", item.prompt, (item.image,))
        return [Request(item.item_id, TASK, TASK, ALIGNMENT, (message,), max_tokens=1, question_id=item.item_id)]

    def verdict(self, item: EvaluationItem, answers: Mapping[str, Answer]) -> Verdict:
        """10 * max(cos, 0) as the alignment."""
        answer = answers.get(TASK)
        if answer is None or answer.status != OK:
            return Verdict({ALIGNMENT: Score(None, FAILED, answer.text if answer else "not asked")})
        cosine = number_on_scale(answer.text, -1 - TOLERANCE, 1 + TOLERANCE)
        if cosine is None:
            return Verdict({ALIGNMENT: Score(None, UNPARSED, answer.text)})
        return Verdict({ALIGNMENT: Score(10 * min(max(cosine, 0.0), 1.0), OK, f"cosine {cosine:.4f}")})
