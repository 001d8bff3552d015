"""The types that protocols, backends and the engine share."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol as TypingProtocol

from t2i_eval_kedro.judging.protocols.evidence import StructureEvidence
from t2i_eval_kedro.judging.protocols.response_schemas import ResponseSchema
from t2i_eval_kedro.schema import NOT_APPLICABLE, OK


@dataclass(frozen=True)
class ChatMessage:
    """One turn of a chat: its text, and the images that stand before the text, by their key in the image store."""

    role: str
    text: str
    images: tuple[str, ...] = ()


@dataclass(frozen=True)
class PromptElement:
    """One checkable part of a prompt.

    Attributes:
        element_id: names it within its prompt.
        text: the part as a phrase.
        skill: its category, such as ``color``, or "".
        question: a question about the image.
        expected: the answer to it that means "satisfied".
        parents: the elements without which the question has nothing to ask about.
    """

    element_id: str
    text: str
    question: str
    skill: str = ""
    expected: str = "yes"
    parents: tuple[str, ...] = ()


@dataclass(frozen=True)
class EvaluationItem:
    """What is judged.

    Attributes:
        item_id: the item.
        prompt: the text that the image was generated from.
        image: the key of the image in the image store.
        dimensions: what scores are wanted for: name -> phrase that a judge is asked with.
        elements: the parts of the prompt, where the caller knows them; else they come from the extract stage.
        reference: the key of an image that shows what was meant, or "".
        comparison_image: the key of another image for the same prompt that this one is compared with, or "".
        evidence: what a network of structure says about the image, for a protocol that is asked with evidence.
    """

    item_id: str
    prompt: str
    image: str
    dimensions: Mapping[str, str] = field(default_factory=dict)
    elements: tuple[PromptElement, ...] = ()
    reference: str = ""
    comparison_image: str = ""
    evidence: StructureEvidence | None = None


@dataclass(frozen=True)
class Request:
    """One question to a backend.

    Attributes:
        item_id: the item that it is about.
        step: names the request within the transcript of its item, such as ``attributes/2/score``.
        task: the kind of request, shared by all items; also the sub-task that a student learns from the answer.
        aspect: the aspect or dimension that it is about, or "".
        messages: the chat so far; the last turn is the user's.
        max_tokens: the longest answer that is useful.
        candidate_tokens: where not empty, the answer is a distribution over these words and nothing is generated.
        top_logprobs: where not 0, each generated token is reported with so many of the likeliest ones in its place.
        context: what the templates were filled with; a simulated backend reads it, a model never sees it.
        question_id: joins the requests of one question.
        response_schema: the schema of the answer, where it is no free text; for servers that can hold a model to it.
    """

    item_id: str
    step: str
    task: str
    aspect: str
    messages: tuple[ChatMessage, ...]
    max_tokens: int
    candidate_tokens: tuple[str, ...] = ()
    top_logprobs: int = 0
    context: Mapping[str, object] = field(default_factory=dict)
    question_id: str = ""
    response_schema: type[ResponseSchema] | None = None

    @property
    def chat(self) -> list[dict[str, object]]:
        """The messages as plain mappings, the form in which tables, training and models take them."""
        return [{"role": m.role, "text": m.text, "images": list(m.images)} for m in self.messages]

    @cached_property
    def messages_json(self) -> str:
        """:attr:`chat` as JSON text."""
        return json.dumps(self.chat, ensure_ascii=False)


@dataclass(frozen=True)
class Token:
    """One generated token, its natural log probability, and those of the likeliest tokens in its place."""

    text: str
    logprob: float
    top: Mapping[str, float]


@dataclass(frozen=True)
class Answer:
    """What came back: text, or for a request with choices the probability of each and of everything else.

    ``status`` is ``ok`` when there is an answer, whatever it says, and ``failed`` when there is none; ``text`` then
    holds the reason. ``probabilities`` sum to 1 over the choices; ``out_of_vocabulary_mass`` is the probability that the model gave to
    everything else before they were made to. ``rejected`` says why the distribution is not to be read, where that is too much.
    ``tokens`` are there where the request asked for ``top_logprobs``.
    """

    text: str
    status: str = OK
    probabilities: Mapping[str, float] = field(default_factory=dict)
    out_of_vocabulary_mass: float = 0.0
    rejected: str = ""
    usage: Mapping[str, int] = field(default_factory=dict)
    tokens: tuple[Token, ...] = ()


@dataclass(frozen=True)
class Score:
    """One score, 0 to 10 whatever the scale of the benchmark; null unless ``status`` is ``ok``.

    ``repairs`` names what had to be mended before its answer could be read.
    """

    value: float | None
    status: str
    explanation: str | None = None
    repairs: tuple[str, ...] = ()

    @classmethod
    def not_applicable(cls, explanation: str | None = None) -> Score:
        """The aspect does not apply to this prompt."""
        return cls(None, NOT_APPLICABLE, explanation)


@dataclass(frozen=True)
class Verdict:
    """What a protocol read from one item's answers.

    Attributes:
        scores: a score for each dimension.
        elements: a score for each element that was asked about, 0 to 1 as people's labels are.
        repairs: what had to be mended before an answer could be read, one entry a mending.
    """

    scores: Mapping[str, Score]
    elements: Mapping[str, Score] = field(default_factory=dict)
    repairs: tuple[str, ...] = ()


class Protocol(TypingProtocol):
    """How a judge is asked. A protocol is a pure function of the answers so far."""

    @property
    def name(self) -> str:
        """The protocol's name in the registry."""

    @property
    def label(self) -> str:
        """Name and wording with the version of each, the ``prompt_version`` of transcripts and examples."""

    def requests(self, item: EvaluationItem, answers: Mapping[str, Answer]) -> Sequence[Request]:
        """What to ask next, given the answers so far by step; empty when nothing is left to ask."""

    def verdict(self, item: EvaluationItem, answers: Mapping[str, Answer]) -> Verdict:
        """The scores that the answers hold. Total: any answers give a verdict, if one of nulls."""
