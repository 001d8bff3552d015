"""What can be set of a server that speaks OpenAI's chat completions, apart from its client, which is slow to import."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class OpenAISettings(BaseModel):
    """Which server is asked, and how hard.

    Attributes:
        model: name as the server knows it.
        base_url: address of the server, ending in ``/v1``; null for the environment's OPENAI_BASE_URL, else OpenAI itself.
        requests_per_minute: limit; null for none.
        tokens_per_minute: limit on the tokens sent and the longest answers asked for; null for none.
        in_flight: requests under way at once.
        timeout_s: seconds until an unanswered request is given up and tried again.
        retries: how often a request is tried again after a fault of the connection.
        temperature: sampling temperature.
        seed: sent with every request; servers may ignore it.
        structured: ask for JSON after a schema where the answer has one. A server that refuses is asked in words instead.
        token_limit: the name of the limit on an answer's length; newer models of OpenAI want the second, which is learned.
        samples: answers to draw at temperature 1 where a distribution over words is wanted and the server gives no
            log-probabilities; 0 to fail instead.
    """

    model_config = ConfigDict(extra="forbid")

    model: str
    base_url: str | None
    requests_per_minute: float | None = Field(gt=0)
    tokens_per_minute: float | None = Field(gt=0)
    in_flight: int = Field(ge=1)
    timeout_s: float = Field(gt=0)
    retries: int = Field(ge=0)
    temperature: float = Field(ge=0)
    seed: int = Field(ge=0)
    structured: bool
    token_limit: Literal["max_tokens", "max_completion_tokens"]
    samples: int = Field(ge=0)

    @property
    def identity(self) -> dict[str, object]:
        """What decides an answer besides the request; the server's address does not, so that a team shares answers."""
        chosen = ("model", "temperature", "seed", "structured")
        return {name: getattr(self, name) for name in chosen} | ({"samples": self.samples} if self.samples else {})
