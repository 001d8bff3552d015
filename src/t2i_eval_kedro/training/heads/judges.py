"""What every judge that predicts numbers can do, and how one is trained: on people's scores, and perhaps on its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pandas as pd

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.models.processors import ImageSource
from t2i_eval_kedro.training.augment import augmented
from t2i_eval_kedro.training.heads.data import HeadData, HeadItem
from t2i_eval_kedro.training.heads.settings import DataSettings, PseudoLabelSettings

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Predictions:
    """What a judge says.

    Attributes:
        scores: item -> score, 0 to 1.
        elements: item -> element -> score, 0 to 1; None for an element that the judge does not find in the prompt.
    """

    scores: Mapping[str, float]
    elements: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)


class HeadJudge(Protocol):
    """A judge that predicts numbers."""

    def fit(self, items: Sequence[HeadItem], data: DataSettings, seed: int) -> pd.DataFrame:
        """Train on rated ``items``; returns the training curve."""
        ...

    def predict(self, items: Sequence[HeadItem], view: View | None = None) -> Predictions:
        """Score ``items``, as ``view`` shows their images, or as they are."""
        ...

    def save(self, folder: Path) -> None:
        """Write what was trained to ``folder``, whole or not at all."""
        ...


@dataclass(frozen=True)
class View:
    """Images in a version of their own: number 0 as they are, each other number in another light.

    Attributes:
        version: number of the version.
        strength: strength of the changes, 0 to 1.
        seed: random seed of the changes.
    """

    version: int
    strength: float
    seed: int

    def image(self, images: ImageSource, key: str) -> Image:
        """The image ``key`` of ``images`` in this version."""
        return augmented(images.image(key), key, self.version, self.strength, self.seed)


def trained(
    make: Callable[[], HeadJudge], data: HeadData, settings: DataSettings, seed: int
) -> tuple[HeadJudge, pd.DataFrame, dict[str, int]]:
    """A judge trained on ``data``, its curve, and the number of items that it learned from.

    With pseudo-labels a first judge scores the images that nobody scored, and a second one learns from people's scores and those
    of the first that are sure enough.

    Args:
        make: makes an untrained judge.
        data: items of all folds; those of the fold ``train`` are learned from.
        settings: what is learned from.
        seed: random seed of the training.
    """
    known, unknown = data.training_items(settings.labelled_fraction, settings.seed)
    judge = make()
    curve = judge.fit(known, settings, seed)
    counts = {"labelled": len(known), "unlabelled": len(unknown), "pseudo_labelled": 0}
    if settings.pseudo_labels.max_spread is None:
        return judge, curve, counts
    if not unknown:
        raise T2IEvalError(
            "Every training image has a score, so there is nothing to label; set heads.data.labelled_fraction below 1, or "
            "heads.data.pseudo_labels.max_spread to null."
        )
    added = pseudo_labelled(judge, unknown, settings.pseudo_labels, settings.seed)
    log.info("%d of %d images without a score are learned from with a judge's own.", len(added), len(unknown))
    judge = make()
    curve = judge.fit([*known, *added], settings, seed)
    return judge, curve, counts | {"pseudo_labelled": len(added)}


def pseudo_labelled(
    judge: HeadJudge, items: Sequence[HeadItem], settings: PseudoLabelSettings, seed: int
) -> list[HeadItem]:
    """Those of ``items`` that ``judge`` is sure of, with its mean score over the versions of each image.

    An element gets the label that its mean score is nearer to, 0 or 1.
    """
    views = [
        judge.predict(items, View(version, settings.strength, seed) if version else None)
        for version in range(settings.versions)
    ]
    kept = []
    for item in items:
        scores = np.array([one.scores[item.item_id] for one in views])
        if settings.max_spread is not None and scores.std() > settings.max_spread:
            continue
        parts = [one.elements.get(item.item_id, {}) for one in views]
        means = {name: np.mean([part[name] for part in parts]) for name, value in parts[0].items() if value is not None}
        labels = {name: float(mean >= 0.5) for name, mean in means.items()}
        kept.append(replace(item, rating=float(np.clip(scores.mean(), 0, 1)), labels=labels))
    return kept
