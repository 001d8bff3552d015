"""Scores without a judge: what they are made of, and that they use nothing of the items that they score."""

from __future__ import annotations

import numpy as np
import pytest

from t2i_eval_kedro import schema
from t2i_eval_kedro.datasets.image_store import ImageStore, write_image_store
from t2i_eval_kedro.judging.baselines import baseline_scores, largest_gradient
from t2i_eval_kedro.shapes.make import make_shapes

SHAPES = make_shapes(8, seed=1)
HELD_OUT = SHAPES.items["prompt_id"].isin(sorted(set(SHAPES.items["prompt_id"]))[:2])


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageStore:
    folder = tmp_path_factory.mktemp("images") / "store"
    write_image_store(folder, SHAPES.images)
    return ImageStore(folder)


def test_each_baseline_is_what_it_is_called(images: ImageStore) -> None:
    items, training = SHAPES.items[HELD_OUT], SHAPES.items[~HELD_OUT]
    table = baseline_scores(items, training, SHAPES.ratings, images)
    assert set(table["judge"]) == set(schema.BASELINES)
    one = items.iloc[0]
    mine = table[table["item_id"] == one["item_id"]].set_index(["judge", "dimension"])["score"]
    assert mine[schema.LENGTH_BASELINE, ""] == -len(one["prompt"].split())
    same = training.loc[training["generator"] == one["generator"], "item_id"]
    rated = SHAPES.ratings[(SHAPES.ratings["dimension"] == "overall") & SHAPES.ratings["item_id"].isin(same)]
    assert mine[schema.GENERATOR_BASELINE, "overall"] == pytest.approx(rated.groupby("item_id")["score"].mean().mean())
    assert 0 < mine[schema.GRADIENT_BASELINE, ""] <= 255


def test_ratings_of_the_scored_items_are_not_used(images: ImageStore) -> None:
    items, training = SHAPES.items[HELD_OUT], SHAPES.items[~HELD_OUT]
    changed = SHAPES.ratings.copy()
    changed.loc[changed["item_id"].isin(items["item_id"]), "score"] = 0.0
    before, after = (baseline_scores(items, training, ratings, images) for ratings in (SHAPES.ratings, changed))
    assert before.equals(after)
    alone = baseline_scores(items, training.iloc[:0], SHAPES.ratings, images)
    assert schema.GENERATOR_BASELINE not in set(alone["judge"])


def test_the_gradient_is_the_largest_step_between_neighbours() -> None:
    assert largest_gradient(np.array([[0, 10, 40], [0, 9, 250]], dtype=np.uint8)) == 241
    assert largest_gradient(np.array([[7]], dtype=np.uint8)) == 0
