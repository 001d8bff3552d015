"""An evaluator is a protocol, a backend and perhaps an adapter. This module builds them and lets them judge items."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import pandas as pd
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from t2i_eval_kedro import schema
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.backends.base import Backend
from t2i_eval_kedro.judging.engine import Judgement, judge
from t2i_eval_kedro.judging.protocols import Subject, Wording
from t2i_eval_kedro.judging.protocols.registry import PROTOCOLS, ProtocolOptions, build, known
from t2i_eval_kedro.judging.protocols.wording import WordingSettings

log = logging.getLogger(__name__)


class JudgingSettings(BaseModel):
    """How judges are asked.

    Attributes:
        wording: which set of prompt files; a student is asked in the wording that it was trained with.
        wordings: the levels, answer lengths and version of each wording.
        protocols: names of the registry, such as ``levels`` (one forward pass a dimension) and ``decomposed`` (the whole
            chain, generated and parsed); docs/protocols.md lists them.
        options: what protocols leave to the settings.
        fold: the fold that trained judges are measured on.
        batch_size: requests that a local model answers at once.
    """

    model_config = ConfigDict(extra="forbid")

    wording: str
    wordings: dict[str, WordingSettings]
    protocols: list[Annotated[str, AfterValidator(known)]]
    options: ProtocolOptions = Field(default_factory=ProtocolOptions)
    fold: str = "test"
    batch_size: int = Field(64, ge=1)

    def load_wording(self, templates: Mapping[str, str]) -> Wording:
        """The chosen wording from ``templates``, ``<wording>/<template>`` -> jinja source.

        Raises:
            T2IEvalError: it is not among the settings or has no template.
        """
        prefix = f"{self.wording}/"
        own = {name.removeprefix(prefix): text for name, text in templates.items() if name.startswith(prefix)}
        if self.wording not in self.wordings or not own:
            raise T2IEvalError(
                f"There is no wording '{self.wording}' (judging.wording); the wordings are {', '.join(self.wordings)}."
            )
        return Wording(self.wording, own, self.wordings[self.wording])


def load_templates(prompts: Mapping[str, Callable[[], str]]) -> dict[str, str]:
    """The text of every prompt file, ``<wording>/<template>`` -> jinja source."""
    return {name: load() for name, load in prompts.items()}


def phrases_of(card: Mapping[str, Any]) -> dict[str, str]:
    """The dimensions that people rated, by a data card: name -> the phrase that a judge is asked with."""
    return {dimension["name"]: dimension["description"] for dimension in card["dimensions"]}


def subjects(items: pd.DataFrame, phrases: Mapping[str, str]) -> list[Subject]:
    """The items that have an image, as subjects to be scored on the dimensions of ``phrases`` (name -> phrase)."""
    return [
        Subject(str(row.item_id), str(row.prompt), str(row.image), phrases)
        for row in items.dropna(subset=["image"]).itertuples()
    ]


def judge_items(
    items: pd.DataFrame,
    backend: Backend,
    wording: Wording,
    phrases: Mapping[str, str],
    protocols: Sequence[str],
    *,
    name: str,
    options: ProtocolOptions | None = None,
    run: int = 0,
) -> Judgement:
    """Let one backend judge ``items`` by each protocol.

    The ``levels`` protocol gives the evaluator ``name``, any other ``<name>_<protocol>``. A protocol with dimensions of its
    own is not run where people rated none of them: there would be nothing to compare.
    """
    asked = subjects(items, phrases)
    parts = []
    for chosen in protocols:
        own = PROTOCOLS[chosen].dimensions
        if own and not set(phrases) & set(own):
            log.info("Protocol '%s' is not run: nobody rated %s here.", chosen, ", ".join(own))
            continue
        evaluator = name if chosen == "levels" else f"{name}_{chosen}"
        parts.append(judge(asked, build(chosen, wording, options), backend, evaluator=evaluator, run=run))
    return Judgement.join(parts)


def in_fold(items: pd.DataFrame, splits: pd.DataFrame, *folds: str) -> pd.DataFrame:
    """The items in ``folds`` of the split by prompt; ``all`` means every item."""
    if "all" in folds:
        return items
    wanted = splits.loc[splits["fold"].isin(folds), "item_id"]
    return schema.ITEMS.check(items[items["item_id"].isin(set(wanted))])
