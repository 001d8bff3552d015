"""Parts of a benchmark by what their prompts are like, one property at a time with the others held alike.

Long prompts have more elements, so agreement on long prompts says nothing about length. Here prompts are compared by length among those
with as many elements, and by elements among those that are as long. Ours.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

KINDS = {
    "nested": "Nested descriptions",
    "contradictory": "Contradictory prompts",
    "negated": "Prompts that deny something",
}
"""Kinds of prompts that the items' attribute ``prompt_kind`` marks, where a benchmark has it (shapes 2), and their titles."""


@dataclass(frozen=True)
class Slice:
    """Some of the items: ``(n,)`` whether each belongs, in the order of the items that it was made of, and a title for people."""

    title: str
    rows: npt.NDArray[np.bool_]


def prompt_slices(
    items: pd.DataFrame, elements: pd.DataFrame, untrained_generators: Collection[str] = ()
) -> dict[str, Slice]:
    """The slices of ``items`` that hold any, by name.

    * ``shorter``, ``longer``: prompts below and above the median number of words of the prompts with as many elements; those at
      the median are in neither. Both have the same numbers of elements in them.
    * ``fewer_elements``, ``more_elements``: likewise by elements, among prompts of as many words.
    * ``nested``, ``contradictory``, ``negated``: as the benchmark marks its prompts.
    * ``untrained_generators``: images of generators that nobody trained on, which on shapes commit faults of their untrained.

    Args:
        items: canonical table.
        elements: canonical table; without rows for these prompts there are no slices by elements.
        untrained_generators: names of generators that are only tested on.
    """
    words = items["prompt"].map(lambda text: len(text.split()))
    counts = items["prompt_id"].map(elements.groupby("prompt_id").size())
    slices = {}
    if counts.notna().any():
        prompts = pd.DataFrame({"words": words, "elements": counts, "prompt": items["prompt_id"]}).dropna()
        short, long = _halves(prompts, "words", "elements", items.index)
        few, many = _halves(prompts, "elements", "words", items.index)
        slices = {
            "shorter": Slice("Shorter prompts among those with as many elements", short),
            "longer": Slice("Longer prompts among those with as many elements", long),
            "fewer_elements": Slice("Prompts with fewer elements among those as long", few),
            "more_elements": Slice("Prompts with more elements among those as long", many),
        }
    kinds = items["attributes"].map(_kinds)
    for kind, title in KINDS.items():
        slices[kind] = Slice(title, np.array([kind in named for named in kinds], dtype=bool))
    untrained = items["generator"].isin(list(untrained_generators)).to_numpy(dtype=bool)
    slices["untrained_generators"] = Slice("Generators that nobody trained on", untrained)
    return {name: part for name, part in slices.items() if part.rows.any()}


def _halves(
    prompts: pd.DataFrame, by: str, alike: str, index: pd.Index
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """The items below and above the median of ``by`` over the prompts with the same ``alike``."""
    once = prompts.drop_duplicates("prompt")
    median = prompts[alike].map(once.groupby(alike)[by].median())
    below, above = prompts[by] < median, prompts[by] > median
    # A group of which one half is empty would make the halves differ in what is held alike.
    both = prompts[alike].map((below.groupby(prompts[alike]).any()) & (above.groupby(prompts[alike]).any()))
    return tuple((half & both).reindex(index, fill_value=False).to_numpy(dtype=bool) for half in (below, above))  # type: ignore[return-value]


def _kinds(attributes: object) -> set[str]:
    """The kinds of prompt that the attributes of an item mark."""
    marked = json.loads(attributes).get("prompt_kind") if isinstance(attributes, str) else None
    return {kind for kind in KINDS if isinstance(marked, dict) and marked.get(kind) is True}
