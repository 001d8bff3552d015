"""An evaluator is a protocol, a backend and perhaps an adapter. This module builds them and lets them judge items."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from t2i_eval_kedro import schema
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.backends.base import Backend
from t2i_eval_kedro.judging.engine import Judgement, judge
from t2i_eval_kedro.judging.protocols import Decomposed, Levels, Subject, Wording
from t2i_eval_kedro.judging.protocols.decomposed import OVERALL
from t2i_eval_kedro.judging.protocols.parsing import ASPECTS
from t2i_eval_kedro.judging.protocols.wording import WordingSettings

log = logging.getLogger(__name__)

DECOMPOSED_DIMENSIONS = (OVERALL, *ASPECTS)


class JudgingSettings(BaseModel):
    """How judges are asked.

    Attributes:
        wording: which set of prompt files; a student is asked in the wording that it was trained with.
        wordings: the levels, answer lengths and version of each wording.
        protocols: ``levels`` (one forward pass a dimension) and ``decomposed`` (the whole chain, generated and parsed).
        fold: the fold that trained judges are measured on.
        batch_size: requests that a local model answers at once.
    """

    model_config = ConfigDict(extra="forbid")

    wording: str
    wordings: dict[str, WordingSettings]
    protocols: list[Literal["levels", "decomposed"]]
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
) -> Judgement:
    """Let one backend judge ``items`` by each protocol.

    The ``levels`` protocol gives the evaluator ``name``, the decomposed one ``<name>_decomposed``. The decomposed protocol scores
    four dimensions of its own; where people rated none of them there is nothing to compare, and it is not run.
    """
    asked = subjects(items, phrases)
    parts = []
    if "levels" in protocols:
        parts.append(judge(asked, Levels(wording), backend, evaluator=name))
    if "decomposed" in protocols:
        if set(phrases) & set(DECOMPOSED_DIMENSIONS):
            parts.append(judge(asked, Decomposed(wording), backend, evaluator=f"{name}_decomposed"))
        else:
            log.info("The decomposed protocol is not run: nobody rated %s here.", ", ".join(DECOMPOSED_DIMENSIONS))
    return Judgement.join(parts)


def in_fold(items: pd.DataFrame, splits: pd.DataFrame, *folds: str) -> pd.DataFrame:
    """The items in ``folds`` of the split by prompt; ``all`` means every item."""
    if "all" in folds:
        return items
    wanted = splits.loc[splits["fold"].isin(folds), "item_id"]
    return schema.ITEMS.check(items[items["item_id"].isin(set(wanted))])
