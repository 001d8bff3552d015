"""What a network of structure says about an image, as text before a request. Ours.

T2I-Eval's judge looks at the image alone. Here the requests about the appearance of an entity (its explanation, and its score) can be preceded by
the score and the marked regions of a network that was trained to find structural faults.
"""

from __future__ import annotations

from dataclasses import dataclass

from t2i_eval_kedro.judging.protocols.wording import Wording
from t2i_eval_kedro.steps import APPEARANCE, explanation_task, score_task

EVIDENCE_TASKS = frozenset({explanation_task(APPEARANCE), score_task(APPEARANCE)})
"""Tasks of the requests that evidence stands before."""


@dataclass(frozen=True)
class MarkedRegion:
    """A region that a network marks as broken.

    Attributes:
        size: ``small``, ``medium`` or ``large``.
        place: the third of the image that its centre is in, such as ``upper left``, ``lower`` or ``middle``.
        share: share of the image's area, 0 to 1.
    """

    size: str
    place: str
    share: float


@dataclass(frozen=True)
class StructureEvidence:
    """What a network says about one image.

    Attributes:
        score: its score, 0 to 10; None where it could not look at the image.
        regions: what it marks, the largest first.
    """

    score: float | None
    regions: tuple[MarkedRegion, ...] = ()


NO_EVIDENCE = StructureEvidence(None)
"""Of an image that cannot be read: the request stays as it is, and fails for that reason."""


def with_evidence(request: str, wording: Wording, evidence: StructureEvidence) -> str:
    """The text ``request`` with ``evidence`` before it, in the words of ``wording``."""
    if evidence.score is None:
        return request
    return wording.render(
        "evidence", request=request, score=wording.level(evidence.score), regions=list(evidence.regions)
    )
