"""Answers that a machine reads, as pydantic schemas: for servers that can hold a model to one (structured outputs).

A form says what may be answered and writes an answer as the text that the protocol's parser reads and a student learns, so
that it makes no difference downstream whether a server knows structured outputs.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from functools import lru_cache
from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict, create_model

from t2i_eval_kedro.answers import NOT_APPLICABLE


class Form(BaseModel):
    """The answer to one kind of request."""

    model_config = ConfigDict(extra="forbid")

    @abstractmethod
    def text(self) -> str:
        """The answer as the prompt asks for it in words."""


class ScoreForm(Form):
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


class ExtractionForm(Form):
    """The questions about a prompt."""

    questions: list[_Line]

    def text(self) -> str:
        """One ``aspect | entities | question`` a line."""
        return "\n".join(f"{line.aspect} | {', '.join(line.entities)} | {line.question}" for line in self.questions)


class ScoreListForm(Form):
    """Scores from 0 to 10, and why."""

    reasoning: str
    score: list[float]

    def text(self) -> str:
        """The object itself, as JSON."""
        return json.dumps({"score": self.score, "reasoning": self.reasoning}, ensure_ascii=False)


@lru_cache
def score_form(levels: tuple[str, ...]) -> type[Form]:
    """The form whose score is one of ``levels`` or N/A."""
    allowed = Literal[(*levels, NOT_APPLICABLE)]  # type: ignore[valid-type]
    return cast("type[Form]", create_model("Score", __base__=ScoreForm, score=(allowed, ...)))


@lru_cache
def option_form(options: tuple[int, ...]) -> type[Form]:
    """The form whose score is one of ``options``."""
    words = tuple(map(str, options))
    allowed: Any = Literal.__getitem__(words)
    return cast("type[Form]", create_model("Option", __base__=ScoreForm, score=(allowed, ...)))


@lru_cache
def json_schema(form: type[Form]) -> dict[str, Any]:
    """The JSON schema of ``form``, in the strict subset: no other keys, every key required."""
    return form.model_json_schema()
