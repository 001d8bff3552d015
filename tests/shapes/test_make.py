"""The benchmark as a whole: right tables, right pictures, the same for the same seed."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from t2i_eval_kedro.benchmarks import read_benchmark
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.schema import mask_key
from t2i_eval_kedro.shapes.generators import GENERATORS
from t2i_eval_kedro.shapes.make import PAIRS, ShapesBenchmark, make_shapes
from t2i_eval_kedro.shapes.raters import RATERS


@pytest.fixture(scope="module")
def small() -> ShapesBenchmark:
    return make_shapes(n_prompts=40, seed=0)


def _pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


def _digest(benchmark: ShapesBenchmark) -> str:
    """A hash of every table and every pixel (not of the PNG files: their compression belongs to Pillow's zlib)."""
    digest = hashlib.sha256()
    for name in ("items", "ratings", "elements", "element_ratings", "preferences"):
        digest.update(getattr(benchmark, name).to_csv(index=False).encode())
    for key, png in benchmark.images:
        digest.update(key.encode() + _pixels(png).tobytes())
    return digest.hexdigest()


def test_tables_join_and_cover_every_prompt_generator_and_rater(small: ShapesBenchmark) -> None:
    items = small.items
    assert len(items) == 40 * len(GENERATORS)
    assert items["prompt"].nunique() == items["prompt_id"].nunique() == 40
    assert items["item_id"][0] == "p0000-careful"
    assert list(items["image"]) == [key for key, _ in small.images]
    assert (small.ratings.groupby(["item_id", "dimension"])["rater_id"].nunique() == len(RATERS)).all()
    assert set(small.element_ratings["item_id"]) == set(items["item_id"])
    joined = small.element_ratings.merge(items[["item_id", "prompt_id"]]).merge(
        small.elements, on=["prompt_id", "element_id"]
    )
    assert len(joined) == len(small.element_ratings)
    assert set(small.elements["expected"]) == {"yes"}


def test_relations_are_rated_where_the_prompt_states_one_and_only_there(small: ShapesBenchmark) -> None:
    truth = {row.item_id: json.loads(row.attributes)["truth"]["relations"] for row in small.items.itertuples()}
    rated = set(small.ratings.loc[small.ratings["dimension"] == "relations", "item_id"])
    assert rated == {item_id for item_id, score in truth.items() if score is not None}
    assert 0 < len(rated) < len(truth)


def _truth(made: ShapesBenchmark) -> pd.DataFrame:
    truths = {row.item_id: json.loads(row.attributes)["truth"] for row in made.items.itertuples()}
    return pd.DataFrame(truths).T.astype(float)


def test_ratings_are_integers_that_follow_the_truth(small: ShapesBenchmark) -> None:
    scores = small.ratings["score"]
    assert scores.between(0, 10).all()
    assert (scores == scores.round()).all()
    mean = small.ratings.groupby(["item_id", "dimension"])["score"].mean().unstack()
    for dimension in ("overall", "appearance", "attributes", "relations"):
        assert mean[dimension].corr(_truth(small)[dimension]) > 0.9


def test_raters_differ_in_bias_and_some_labels_are_flipped(small: ShapesBenchmark) -> None:
    by_rater = small.ratings[small.ratings["dimension"] == "overall"].groupby("rater_id")["score"].mean()
    assert by_rater["rater-mild"] - by_rater["rater-strict"] > 0.5
    truth = {row.item_id: json.loads(row.attributes)["elements"] for row in small.items.itertuples()}
    wrong = [truth[r.item_id][r.element_id] != bool(r.label) for r in small.element_ratings.itertuples()]
    assert 0.01 < np.mean(wrong) < 0.08


def test_preferences_compare_images_of_one_prompt_and_follow_the_truth(small: ShapesBenchmark) -> None:
    preferences = small.preferences
    prompt_of = small.items.set_index("item_id")["prompt_id"]
    for side in ("item_a", "item_b"):
        assert (preferences[side].map(prompt_of) == preferences["prompt_id"]).all()
    assert (preferences["item_a"] != preferences["item_b"]).all()
    assert (preferences.groupby("prompt_id").size() == PAIRS * len(RATERS)).all()
    overall = _truth(small)["overall"]
    difference = preferences["item_a"].map(overall) - preferences["item_b"].map(overall)
    means = difference.groupby(preferences["label"]).mean()
    assert means["a"] > 1.5 > -1.5 > means["b"]
    assert abs(means["tie"]) < 0.7
    assert 0.1 < (preferences["label"] == "tie").mean() < 0.4


def test_same_seed_same_bytes_and_another_seed_another_benchmark(small: ShapesBenchmark) -> None:
    again = make_shapes(n_prompts=40, seed=0)
    assert list(again.images) == list(small.images)
    assert _digest(again) == _digest(small)
    assert _digest(make_shapes(n_prompts=40, seed=1)) != _digest(small)


def test_the_benchmark_has_not_changed() -> None:
    """Where it should change, raise `make.VERSION` too."""
    assert (
        _digest(make_shapes(n_prompts=5, seed=0)) == "57be07295c3447aceae808d17f037d96f53b4563e947cf50898a8549c6048f03"
    )


def test_first_items_do_not_depend_on_the_number_of_prompts(small: ShapesBenchmark) -> None:
    fewer = make_shapes(n_prompts=3, seed=0)
    n = 3 * len(GENERATORS)
    assert list(fewer.images) == small.images[:n]
    pd.testing.assert_frame_equal(fewer.items, small.items.head(n))


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"n_prompts": 0}, "0"),
        ({"n_prompts": 10_001}, "10001"),
        ({"generators": 9}, "9"),
        ({"side": 100}, "100"),
        ({"raters": "nobody"}, "nobody"),
    ],
)
def test_an_impossible_setting_is_refused(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(T2IEvalError, match=named):
        make_shapes(**{"n_prompts": 1} | settings)


def test_side_raters_and_structure_leave_the_scenes_as_they_are() -> None:
    plain = make_shapes(3)

    def scenes(made: ShapesBenchmark) -> list[Any]:
        return [json.loads(text)["image_scene"] for text in made.items["attributes"]]

    for settings in ({"side": 256}, {"raters": "crowd"}, {"structure": True}):
        other = make_shapes(3, **settings)
        assert scenes(other) == scenes(plain)
        assert list(other.items["prompt"]) == list(plain.items["prompt"])
    assert _pixels(make_shapes(1, side=512).images[0][1]).shape == (512, 512, 3)
    assert make_shapes(3, raters="crowd").ratings["rater_id"].nunique() == 12
    assert len(make_shapes(2, generators=24).items) == 48


def test_structural_faults_have_masks_scores_and_ratings() -> None:
    made = make_shapes(12, structure=True, side=256)
    plain = make_shapes(12, side=256)
    images = dict(made.images)
    assert len(images) == len(made.images) == 2 * len(made.items)
    faulty = 0
    for row, (key, before) in zip(made.items.itertuples(), plain.images, strict=True):
        attributes = json.loads(row.attributes)
        mask = _pixels(images[mask_key(key)])
        assert mask.shape == (256, 256)
        assert set(np.unique(mask)) <= {0, 1}
        assert bool(attributes["flaws"]) == bool(mask.any()) == (attributes["truth"]["structure"] < 10)
        assert (images[key] == before) == (not attributes["flaws"])
        faulty += bool(attributes["flaws"])
    assert 0.4 < faulty / len(made.items) < 0.8
    rated = made.ratings[made.ratings["dimension"] == "structure"]
    assert set(rated["item_id"]) == set(made.items["item_id"])
    assert rated.groupby("item_id")["score"].mean().corr(_truth(made)["structure"]) > 0.85


def test_shapes_structure_is_the_same_scenes_larger_with_masks_that_its_faults_explain() -> None:
    small_ones, made = (
        read_benchmark("shapes", Path(), n_prompts=3),
        read_benchmark("shapes_structure", Path(), n_prompts=3),
    )
    assert made.name == "shapes_structure"
    assert set(made.items["benchmark"]) == {"shapes_structure"}
    assert list(made.items["prompt"]) == list(small_ones.items["prompt"])
    assert [d.name for d in made.dimensions][-1] == "structure"
    files = dict(made.images())
    for row in made.items.itertuples():
        mask = _pixels(files[mask_key(row.image)])
        assert _pixels(files[row.image]).shape == (256, 256, 3)
        assert mask.shape == (256, 256)
        assert set(np.unique(mask)) <= {0, 1}
        flawed = bool(json.loads(row.attributes)["flaws"])
        assert flawed or not mask.any()
    assert sum(_pixels(files[mask_key(row.image)]).any() for row in made.items.itertuples()) > 8
