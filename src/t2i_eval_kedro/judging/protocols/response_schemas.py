"""Answers that a machine reads, as pydantic schemas: for servers that can hold a model to one (structured outputs).

A schema says what may be answered and writes an answer as the text that the protocol's parser reads and a student learns, so
that it makes no difference downstream whether a server knows structured outputs.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from functools import lru_cache
from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict, create_model

from t2i_eval_kedro.answers import N_A


class ResponseSchema(BaseModel):
    """The answer to one kind of request."""

    model_config = ConfigDict(extra="forbid")

    @abstractmethod
    def text(self) -> str:
        """The answer as the prompt asks for it in words."""


class ScoreSchema(ResponseSchema):
    """One level, or that the question does not apply."""

    score: str

    def text(self) -> str:
        """The level alone."""
        return self.score


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid")

    aspect: Literal["appearance", "attributes", "relations"]
    entities: list[str]
    question: str


class ExtractionSchema(ResponseSchema):
    """The questions about a prompt."""

    model_config = ConfigDict(title="ExtractionForm")  # a title is sent and names kept answers, so it stays

    questions: list[_Line]

    def text(self) -> str:
        """One ``aspect | entities | question`` a line."""
        return "\n".join(f"{line.aspect} | {', '.join(line.entities)} | {line.question}" for line in self.questions)


class _StatedLine(_Line):
    stated: str


class StructuredExtractionSchema(ResponseSchema):
    """The questions about a prompt, each with the attribute or relation that the prompt states."""

    questions: list[_StatedLine]

    def text(self) -> str:
        """One ``aspect | entities | stated | question`` a line; ``-`` where nothing is stated."""
        return "\n".join(
            f"{line.aspect} | {', '.join(line.entities)} | {line.stated.strip() or '-'} | {line.question}"
            for line in self.questions
        )


class ScoreListSchema(ResponseSchema):
    """Scores from 0 to 10, and why."""

    model_config = ConfigDict(title="ScoreListForm")

    reasoning: str
    score: list[float]

    def text(self) -> str:
        """The object itself, as JSON."""
        return json.dumps({"score": self.score, "reasoning": self.reasoning}, ensure_ascii=False)


@lru_cache
def score_schema(levels: tuple[str, ...]) -> type[ResponseSchema]:
    """The schema whose score is one of ``levels`` or N/A."""
    allowed = Literal[(*levels, N_A)]  # type: ignore[valid-type]
    return cast("type[ResponseSchema]", create_model("Score", __base__=ScoreSchema, score=(allowed, ...)))


@lru_cache
def option_schema(options: tuple[int, ...]) -> type[ResponseSchema]:
    """The schema whose score is one of ``options``."""
    words = tuple(map(str, options))
    allowed: Any = Literal.__getitem__(words)
    return cast("type[ResponseSchema]", create_model("Option", __base__=ScoreSchema, score=(allowed, ...)))


@lru_cache
def json_schema(schema: type[ResponseSchema]) -> dict[str, Any]:
    """The JSON schema of ``schema``, in the strict subset: no other keys, every key required."""
    return schema.model_json_schema()
