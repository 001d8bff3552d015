"""An evaluator is a protocol, a backend and perhaps an adapter. This module builds them and lets them judge items."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from t2i_eval_kedro import schema
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.backends.base import Backend
from t2i_eval_kedro.judging.backends.openai_settings import OpenAISettings
from t2i_eval_kedro.judging.engine import Judgement, judge
from t2i_eval_kedro.judging.evidence import EvidenceSource, add_evidence
from t2i_eval_kedro.judging.known_elements import elements_by_prompt
from t2i_eval_kedro.judging.protocols import EvaluationItem, Protocol, Wording
from t2i_eval_kedro.judging.protocols.registry import PROTOCOLS, ProtocolOptions, build, known, known_or_resolved
from t2i_eval_kedro.judging.protocols.similarity import SimilaritySettings
from t2i_eval_kedro.judging.protocols.wording import WordingSettings

log = logging.getLogger(__name__)

Elsewhere = Callable[[Sequence[EvaluationItem], Protocol, str], Judgement]
"""Judges items by a protocol under a judge's name, as :func:`~t2i_eval_kedro.judging.engine.judge` does."""

SAME_AS = {
    "SC": "alignment",
    "prompt_matching": "alignment",
    "PQ": "appearance",
    "quality": "appearance",
    "O": "overall",
}
"""Dimensions that people rated under another name than the protocols' own."""


_SET_OF_VLLM = dict.fromkeys(
    ("model", "dtype", "revision", "trust_remote_code"), "use the settings of model"
) | dict.fromkeys(("enable_lora", "max_lora_rank"), "they come from the adapter")


class JudgingSettings(BaseModel):
    """How judges are asked.

    Attributes:
        wording: which set of prompt files; a student is asked in the wording that it was trained with.
        wordings: the levels, answer lengths and version of each wording.
        protocols: names of the registry, such as ``levels`` (one forward pass a dimension) and ``decomposed`` (the whole
            chain, generated and parsed); docs/protocols.md lists them. ``taught`` stands for those that the student is taught,
            ``expected`` for those that read the same answers as expected scores over rating tokens.
        options: what protocols leave to the settings.
        similarity: the model that answers the protocol ``similarity``.
        fold: the fold that trained judges are measured on.
        baseline_protocols: protocols of which the untrained model is also asked by the best, chosen on validation prompts; [] for none.
        baseline_items: validation items, drawn at random, that it is chosen on.
        attribution_items: held-out items, drawn at random, that the decomposed chain is asked about again with one stage made true
            at a time (:mod:`t2i_eval_kedro.judging.attribution`), about two chains each; 0 for none.
        pairs: pairs of held-out images that people compared, drawn at random, that judges compare, too, in both orders (the protocol
            ``pairwise``, whose answers a student must be taught); 0 for none.
        max_out_of_vocabulary: share of probability that a judge may give to other words than the levels, or than yes and no; with more,
            the score is null with that reason.
        batch_size: requests that a local model answers at once, and items that go through a protocol together.
        answers: file that keeps every answer of a local model, so that a run that was killed goes on where it was and nothing
            is asked twice; null for none. It may be deleted at any time.
        backend: what runs a judge: ``transformers``, ``vllm`` (an extra, for a GPU), or ``openai``, any server that speaks OpenAI's
            chat completions.
        vllm: further arguments of ``vllm.LLM`` under their own names, such as ``gpu_memory_utilization``, ``max_model_len`` or
            ``tensor_parallel_size``.
        server: that server; its key comes from OPENAI_API_KEY, and a server of one's own wants none.
        ray_workers: processes that judge, on this machine or on the Ray cluster that RAY_ADDRESS names
            (:mod:`t2i_eval_kedro.judging.shards`); 0 to judge in this process.
    """

    model_config = ConfigDict(extra="forbid")

    wording: str
    wordings: dict[str, WordingSettings]
    protocols: list[Annotated[str, AfterValidator(known_or_resolved)]]
    options: ProtocolOptions
    similarity: SimilaritySettings
    fold: str
    baseline_protocols: list[Annotated[str, AfterValidator(known)]]
    baseline_items: int = Field(ge=1)
    attribution_items: int = Field(ge=0)
    pairs: int = Field(ge=0)
    max_out_of_vocabulary: float = Field(ge=0, le=1)
    batch_size: int = Field(ge=1)
    answers: str | None
    backend: Literal["transformers", "vllm", "openai"]
    vllm: dict[str, Any]
    server: OpenAISettings
    ray_workers: int = Field(ge=0)

    @field_validator("vllm")
    @classmethod
    def _of_the_engine(cls, given: dict[str, Any]) -> dict[str, Any]:
        """The options, unless this project sets one of them itself."""
        for name, instead in _SET_OF_VLLM.items():
            if name in given:
                raise ValueError(f"'{name}' of vllm.LLM is set by this project: {instead}")
        return given

    def load_wording(self, templates: Mapping[str, str]) -> Wording:
        """The chosen wording from ``templates``, ``<wording>/<template>`` -> jinja source.

        Raises:
            T2IEvalError: it is not among the settings or has no template.
        """
        prefix = f"{self.wording}/"
        texts = {name.removeprefix(prefix): text for name, text in templates.items() if name.startswith(prefix)}
        if self.wording not in self.wordings or not texts:
            raise T2IEvalError(
                f"There is no wording '{self.wording}' (judging.wording); the wordings are {', '.join(self.wordings)}."
            )
        return Wording(self.wording, texts, self.wordings[self.wording])


def load_templates(prompts: Mapping[str, Callable[[], str]]) -> dict[str, str]:
    """The text of every prompt file, ``<wording>/<template>`` -> jinja source."""
    return {name: load() for name, load in prompts.items()}


def phrases_of(card: Mapping[str, Any]) -> dict[str, str]:
    """The dimensions that people rated, by a data card: name -> the phrase that a judge is asked with."""
    return {dimension["name"]: dimension["description"] for dimension in card["dimensions"]}


def teacher_kind(kind: str, *, synthetic: bool) -> str:
    """``kind`` of teacher (``teacher.kind``), with ``auto`` decided: simulated where there is a truth to see, else human."""
    return ("simulated" if synthetic else "human") if kind == "auto" else kind


def evaluation_items(
    items: pd.DataFrame, phrases: Mapping[str, str], elements: pd.DataFrame | None = None
) -> list[EvaluationItem]:
    """The items that have an image, as what is judged, to be scored on the dimensions of ``phrases`` (name -> phrase).

    ``elements`` is the canonical table; a prompt that is not in it has its elements extracted where a protocol needs some.
    """
    known_elements = {} if elements is None else elements_by_prompt(elements)
    return [
        EvaluationItem(
            str(row.item_id),
            str(row.prompt),
            str(row.image),
            phrases,
            known_elements.get(str(row.prompt_id), ()),
            schema.reference_of(row.attributes),
        )
        for row in items.dropna(subset=["image"]).itertuples()
    ]


def judge_items(
    items: pd.DataFrame,
    backend: Backend | None,
    wording: Wording,
    phrases: Mapping[str, str],
    protocols: Sequence[str],
    *,
    name: str,
    options: ProtocolOptions | None = None,
    elements: pd.DataFrame | None = None,
    similarity: Backend | None = None,
    elsewhere: Elsewhere | None = None,
    evidence: EvidenceSource | None = None,
    run: int = 0,
    chunk_size: int | None = None,
    max_out_of_vocabulary: float = 1.0,
) -> Judgement:
    """Let one backend judge ``items`` by each protocol; ``run``, ``chunk_size`` and ``max_out_of_vocabulary`` are the engine's.

    Where there is no ``backend``, ``elsewhere`` judges in its place: other processes. ``evidence`` is for protocols that are asked with some.

    A protocol with dimensions of its own is not run where people rated none of them and there is no element whose score could be
    compared; where there is, its scores have no dimension (``""``) and are compared with every one that people rated. Where they
    rated the same thing under another name (:data:`SAME_AS`), its scores take that name.
    """
    asked = evaluation_items(items, phrases, elements)
    rated = {SAME_AS.get(dimension, dimension): dimension for dimension in phrases}
    parts = []
    for chosen in protocols:
        if PROTOCOLS[chosen].pairs:
            log.info("Protocol '%s' compares two images and is not run on one; kedro judge asks it.", chosen)
            continue
        dimensions = PROTOCOLS[chosen].dimensions
        on_elements = PROTOCOLS[chosen].elements and elements is not None and len(elements)
        if dimensions and not set(rated) & set(dimensions) and not on_elements:
            log.info("Protocol '%s' is not run: nobody rated %s here.", chosen, ", ".join(dimensions))
            continue
        protocol = build(chosen, wording, options)
        items_of = add_evidence(asked, protocol, evidence)
        answering = similarity if chosen == "similarity" else backend
        if answering is not None:
            judgement = judge(
                items_of,
                protocol,
                answering,
                name=name,
                run=run,
                chunk_size=chunk_size,
                max_out_of_vocabulary=max_out_of_vocabulary,
            )
        elif chosen != "similarity" and elsewhere is not None:
            judgement = elsewhere(items_of, protocol, name)
        else:
            continue
        if dimensions:
            named = judgement.scores["dimension"].replace(rated) if set(rated) & set(dimensions) else ""
            judgement = replace(judgement, scores=judgement.scores.assign(dimension=named))
        parts.append(judgement)
    return Judgement.join(parts)


def in_fold(items: pd.DataFrame, splits: pd.DataFrame, *folds: str) -> pd.DataFrame:
    """The items in ``folds`` of the split by prompt; ``all`` means every item."""
    if "all" in folds:
        return items
    chosen = splits.loc[splits["fold"].isin(folds), "item_id"]
    return schema.ITEMS.check(items[items["item_id"].isin(set(chosen))])
