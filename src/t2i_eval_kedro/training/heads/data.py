"""What judges that predict numbers learn from: items with people's mean scores, and elements with people's labels."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.ratings import mean_ratings, valid_ratings

TRAIN, VALIDATION = "train", "validation"


@dataclass(frozen=True)
class PromptPart:
    """One element of a prompt: its text, its skill and the elements that it presupposes."""

    text: str
    skill: str
    parents: tuple[str, ...] = ()


@dataclass(frozen=True)
class HeadItem:
    """One image with its prompt and what people said of it.

    Attributes:
        item_id: the item.
        prompt_id: its prompt.
        prompt: the text.
        image: key in the image store.
        fold: ``train``, ``validation`` or ``test``.
        rating: people's mean score on 0 to 1; None where nobody scored it.
        spread: standard deviation of their scores, on 0 to 1; 0 where one person or only a mean is known.
        variance: variance (ddof 1) of the mean scores of all rated images of the prompt, on a scale of 1 to 5; NaN where it has one.
        kind: ``real`` or ``synthetic`` prompt where the benchmark says so, else what kind of prompt it is; "" where it says nothing.
        labels: people's mean label of each element that they labelled, 0 to 1.
    """

    item_id: str
    prompt_id: str
    prompt: str
    image: str
    fold: str
    rating: float | None
    spread: float = 0.0
    variance: float = float("nan")
    kind: str = ""
    labels: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class HeadData:
    """The items, and the elements of each prompt by their identifiers.

    Attributes:
        items: all items with an image.
        parts: prompt -> element -> what it is.
        dimension: what people's scores are about.
        scale: lowest and highest of people's scores, which 0 and 1 stand for.
    """

    items: tuple[HeadItem, ...]
    parts: Mapping[str, Mapping[str, PromptPart]]
    dimension: str
    scale: tuple[float, float]

    def fold(self, *names: str) -> list[HeadItem]:
        """The items in the folds ``names``."""
        return [item for item in self.items if item.fold in names]

    def training_items(self, fraction: float, seed: int) -> tuple[list[HeadItem], list[HeadItem]]:
        """The rated training items of a ``fraction`` of the prompts, and the other training items without what people said of them.

        A smaller fraction is part of every larger one.
        """
        items = self.fold(TRAIN)
        prompts = sorted({item.prompt_id for item in items if item.rating is not None})
        order = np.random.default_rng(seed).permutation(len(prompts))
        kept = {prompts[i] for i in order[: max(1, round(fraction * len(prompts)))]} if prompts else set()
        known = [item for item in items if item.prompt_id in kept and item.rating is not None]
        if not known:
            raise T2IEvalError(
                f"No training item has an image and a score of '{self.dimension}', so no judge can be trained on scores; add "
                "ratings, or change ingestion.split or heads.dimension."
            )
        chosen = {item.item_id for item in known}
        hidden = [
            replace(i, rating=None, spread=0.0, variance=float("nan"), labels={})
            for i in items
            if i.item_id not in chosen
        ]
        return known, hidden


def head_data(
    items: pd.DataFrame,
    splits: pd.DataFrame,
    ratings: pd.DataFrame,
    elements: pd.DataFrame,
    element_ratings: pd.DataFrame,
    dimension: str | None,
) -> HeadData:
    """The items with an image, in the folds of their prompts.

    Args:
        items: canonical table.
        splits: canonical table.
        ratings: canonical table.
        elements: canonical table; without rows there are no elements to learn.
        element_ratings: canonical table.
        dimension: what is learned; None for ``overall`` where people scored that, else the first dimension of the ratings.

    Raises:
        T2IEvalError: nobody rated ``dimension``.
    """
    rated = list(dict.fromkeys(ratings["dimension"]))
    dimension = dimension or next((name for name in ("overall", *rated) if name in rated), None)
    if dimension is None or dimension not in rated:
        raise T2IEvalError(
            f"Nobody rated '{dimension}' (heads.dimension); people rated {', '.join(rated) or 'nothing'}, and a judge is trained on scores."
        )
    means = mean_ratings(ratings)
    means = means[means["dimension"] == dimension].set_index("item_id")
    low, high = float(means["scale_min"].min()), float(means["scale_max"].max())
    scores = ((means["score"] - low) / (high - low)).to_dict()
    valid = valid_ratings(ratings)
    valid = valid[valid["dimension"] == dimension]
    spreads = (valid.groupby("item_id")["score"].std(ddof=0) / (high - low)).fillna(0.0).to_dict()
    prompts = dict(zip(items["item_id"], items["prompt_id"], strict=True))
    by_prompt = pd.Series(scores, dtype=float).groupby(prompts)
    variances = (16 * by_prompt.var(ddof=1)).to_dict()  # 4 units of a scale of 1 to 5
    folds = dict(zip(splits["item_id"], splits["fold"], strict=True))
    labels: dict[str, dict[str, float]] = {}
    means_of_labels = (
        element_ratings.groupby(["item_id", "element_id"], sort=True)["label"].mean().dropna().reset_index()
    )
    for row in means_of_labels.itertuples():
        labels.setdefault(str(row.item_id), {})[str(row.element_id)] = float(row.label)  # type: ignore[arg-type]
    collected = [
        HeadItem(
            item_id=str(row.item_id),
            prompt_id=str(row.prompt_id),
            prompt=str(row.prompt),
            image=str(row.image),
            fold=str(folds.get(row.item_id, "")),
            rating=scores.get(row.item_id),
            spread=float(spreads.get(row.item_id, 0.0)),
            variance=float(variances.get(row.prompt_id, float("nan"))),
            kind=prompt_kind(row.attributes),
            labels=labels.get(str(row.item_id), {}),
        )
        for row in items.dropna(subset=["image"]).itertuples()
    ]
    return HeadData(tuple(collected), _parts(elements), dimension, (low, high))


def _parts(elements: pd.DataFrame) -> dict[str, dict[str, PromptPart]]:
    parts: dict[str, dict[str, PromptPart]] = {}
    for row in elements.itertuples():
        parents = tuple(str(row.parents).split(",")) if isinstance(row.parents, str) else ()
        parts.setdefault(str(row.prompt_id), {})[str(row.element_id)] = PromptPart(
            str(row.text), str(row.skill), parents
        )
    return parts


def prompt_kind(attributes: object) -> str:
    """The kind of a prompt from ``items.attributes``: EvalMuse's ``real`` or ``synthetic``, or of shapes ``contradictory``, ``negated``,
    ``nested`` or ``plain``, the first that holds; "" where nothing is known.

    Example:
        >>> prompt_kind('{"type": "real"}'), prompt_kind('{"prompt_kind": {"negated": true, "nested": true}}'), prompt_kind(None)
        ('real', 'negated', '')
    """
    known: Any = json.loads(attributes) if isinstance(attributes, str) else {}
    if isinstance(known.get("type"), str):
        return str(known["type"])
    kinds = known.get("prompt_kind")
    if not isinstance(kinds, Mapping):
        return ""
    return next((name for name in ("contradictory", "negated", "nested") if kinds.get(name)), "plain")


def perturbed(items: Sequence[HeadItem], deviation: float, rng: np.random.Generator) -> list[float]:
    """People's scores of ``items``, 0 to 1, with normal noise of ``deviation`` (a fraction of the scale), cut off at 0 and 1."""
    scores = np.array([item.rating for item in items], dtype=float)
    return [float(score) for score in np.clip(scores + deviation * rng.standard_normal(len(scores)), 0, 1)]
