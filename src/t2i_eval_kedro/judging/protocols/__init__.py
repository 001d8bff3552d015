"""How a judge is asked: which messages, in which order, and how the answers become scores. Pure: no model, no I/O."""

from t2i_eval_kedro.judging.protocols.base import (
    Answer,
    ChatMessage,
    EvaluationItem,
    PromptElement,
    Protocol,
    Request,
    Score,
    Verdict,
)
from t2i_eval_kedro.judging.protocols.decomposed import Decomposed
from t2i_eval_kedro.judging.protocols.levels import Levels
from t2i_eval_kedro.judging.protocols.wording import Wording

__all__ = [
    "Answer",
    "ChatMessage",
    "Decomposed",
    "EvaluationItem",
    "Levels",
    "PromptElement",
    "Protocol",
    "Request",
    "Score",
    "Verdict",
    "Wording",
]
