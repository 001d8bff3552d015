"""Scores that look at no meaning at all. A judge that agrees no better with people than these has learned little (ours).

| judge | score of an image |
|---|---|
| ``baseline_generator`` | the mean that people gave its generator on the training folds; a generator that is not in them gets the mean of all |
| ``baseline_pixel_gradient`` | the largest difference in brightness between two neighbouring pixels, which blur and haze lower |
| ``baseline_prompt_length`` | minus the number of words of the prompt |
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from t2i_eval_kedro import schema
from t2i_eval_kedro.datasets.image_store import ImageStore
from t2i_eval_kedro.ratings import mean_ratings
from t2i_eval_kedro.schema import GENERATOR_BASELINE, GRADIENT_BASELINE, LENGTH_BASELINE


def baseline_scores(
    items: pd.DataFrame, training: pd.DataFrame, ratings: pd.DataFrame, images: ImageStore
) -> pd.DataFrame:
    """The canonical table ``scores`` of every baseline that can be computed for ``items``.

    Args:
        items: canonical table of the items to score.
        training: canonical table of the items whose ratings may be used; without any there is no baseline by generator.
        ratings: canonical table.
        images: the image store; items without an image have no gradient.
    """
    rows = [
        *_by_generator(items, training, mean_ratings(ratings)),
        *((row.item_id, LENGTH_BASELINE, "", -float(len(str(row.prompt).split()))) for row in items.itertuples()),
        *(
            (
                row.item_id,
                GRADIENT_BASELINE,
                "",
                largest_gradient(np.asarray(images.image(str(row.image)).convert("L"))),
            )
            for row in items.dropna(subset=["image"]).itertuples()
            if row.image in images
        ),
    ]
    table = pd.DataFrame(rows, columns=["item_id", "judge", "dimension", "score"])
    return schema.SCORES.check(
        table.assign(protocol=None, run=0, status=schema.OK, explanation=None, higher_is_better=True)
    )


def largest_gradient(brightness: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> float:
    """The largest step in ``brightness`` (height, width; 0 to 255) from a pixel to the next in its row or column."""
    values = brightness.astype(np.float64)
    steps = [np.abs(np.diff(values, axis=axis)) for axis in (0, 1)]
    return float(max((step.max() for step in steps if step.size), default=0.0))


def _by_generator(
    items: pd.DataFrame, training: pd.DataFrame, people: pd.DataFrame
) -> Iterable[tuple[str, str, str, float]]:
    learned = people.merge(training[["item_id", "generator"]], on="item_id")
    for dimension, some in learned.groupby("dimension", sort=True):
        means, overall = some.groupby("generator")["score"].mean(), some["score"].mean()
        for item, generator in zip(items["item_id"], items["generator"], strict=True):
            yield item, GENERATOR_BASELINE, str(dimension), float(means.get(generator, overall))
