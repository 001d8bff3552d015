"""What the engine expects of a backend."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from t2i_eval_kedro.judging.protocols.base import Answer, Request

# How the text of a failed answer begins, where the reason is one that is counted.
REFUSED, TRUNCATED, MALFORMED = "refused", "truncated", "malformed"


class Backend(Protocol):
    """Answers requests, in any order, each exactly once."""

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        """Yield ``(position in requests, answer)`` as answers arrive; a request that cannot be answered is ``failed``."""


class LocalBackend(Backend, Protocol):
    """A backend that runs a model itself and so knows its tokens."""

    def require_tokens(self, choices: Iterable[Sequence[str]]) -> None:
        """Check before anything is asked that the model can tell the choices apart; raises T2IEvalError."""
