"""The benchmark as a whole: right tables, right pictures, the same for the same seed."""

from __future__ import annotations

import hashlib
import io
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.shapes.generators import GENERATORS
from t2i_eval_kedro.shapes.make import ShapesBenchmark, make_shapes, sample_scenes
from t2i_eval_kedro.shapes.raters import RATERS, Rater
from t2i_eval_kedro.shapes.render import BACKGROUND, RGB, Degradation, draw, place, render
from t2i_eval_kedro.shapes.scene import COLORS, SHAPES, SIZES, Group, Scene, prompt_text


@pytest.fixture(scope="module")
def small() -> ShapesBenchmark:
    return make_shapes(n_prompts=40, seed=0)


def _digest(benchmark: ShapesBenchmark) -> str:
    """A hash of every table and every pixel (not of the PNG files: their compression belongs to Pillow's zlib)."""
    digest = hashlib.sha256()
    for table in (benchmark.items, benchmark.ratings, benchmark.elements, benchmark.element_ratings):
        digest.update(table.to_csv(index=False).encode())
    for key, png in benchmark.images:
        digest.update(key.encode() + Image.open(io.BytesIO(png)).tobytes())
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


def test_relations_are_rated_where_the_prompt_states_one_and_only_there(small: ShapesBenchmark) -> None:
    truth = {row.item_id: json.loads(row.attributes)["truth"]["relations"] for row in small.items.itertuples()}
    rated = set(small.ratings.loc[small.ratings["dimension"] == "relations", "item_id"])
    assert rated == {item_id for item_id, score in truth.items() if score is not None}
    assert 0 < len(rated) < len(truth)


def test_ratings_are_integers_that_follow_the_truth(small: ShapesBenchmark) -> None:
    scores = small.ratings["score"]
    assert scores.between(0, 10).all()
    assert (scores == scores.round()).all()
    truth = pd.DataFrame(
        {row.item_id: json.loads(row.attributes)["truth"] for row in small.items.itertuples()}
    ).T.astype(float)
    mean = small.ratings.groupby(["item_id", "dimension"])["score"].mean().unstack()
    for dimension in ("overall", "appearance", "attributes", "relations"):
        assert mean[dimension].corr(truth[dimension]) > 0.9


def test_raters_differ_in_bias_and_some_labels_are_flipped(small: ShapesBenchmark) -> None:
    by_rater = small.ratings[small.ratings["dimension"] == "overall"].groupby("rater_id")["score"].mean()
    assert by_rater["rater-mild"] - by_rater["rater-strict"] > 0.5
    truth = {row.item_id: json.loads(row.attributes)["elements"] for row in small.items.itertuples()}
    wrong = [truth[r.item_id][r.element_id] != bool(r.label) for r in small.element_ratings.itertuples()]
    assert 0.01 < np.mean(wrong) < 0.08


def test_a_rater_without_noise_gives_the_rounded_and_clipped_truth() -> None:
    rater = Rater("exact", {"overall": 3.0}, {}, {"overall": 0.0, "appearance": 0.0}, 0.0)
    rng = np.random.default_rng(0)
    assert rater.score("appearance", 6.4, rng) == 6.0
    assert rater.score("overall", 9.0, rng) == 10.0
    assert [rater.label(value, rng) for value in (True, False)] == [1.0, 0.0]


def test_same_seed_same_bytes_and_another_seed_another_benchmark(small: ShapesBenchmark) -> None:
    again = make_shapes(n_prompts=40, seed=0)
    assert again.images == small.images
    assert _digest(again) == _digest(small)
    assert _digest(make_shapes(n_prompts=40, seed=1)) != _digest(small)


def test_the_benchmark_has_not_changed() -> None:
    assert (
        _digest(make_shapes(n_prompts=5, seed=0)) == "ea272832a46cd3159b494eaea21ed471a91de9e6e3e3a199f203a683dae8baaa"
    )


def test_first_items_do_not_depend_on_the_number_of_prompts(small: ShapesBenchmark) -> None:
    fewer = make_shapes(n_prompts=3, seed=0)
    n = 3 * len(GENERATORS)
    assert fewer.images == small.images[:n]
    pd.testing.assert_frame_equal(fewer.items, small.items.head(n))


@pytest.mark.parametrize("n", [0, -1, 10_001])
def test_an_impossible_size_is_refused(n: int) -> None:
    with pytest.raises(T2IEvalError, match=str(n)):
        make_shapes(n_prompts=n)


def test_prompts_stay_distinct_when_short_prompts_run_out() -> None:
    texts = [prompt_text(scene) for scene in sample_scenes(3000, seed=2)]
    assert len(set(texts)) == 3000


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("color", COLORS)
def test_each_object_is_drawn_in_its_colour_at_its_place(shape: str, color: str) -> None:
    scene = Scene((Group(shape, color, "large", 2, 3),))
    objects = place(scene, np.random.default_rng(5))
    image = draw(objects, Degradation())
    assert image.size == (64, 64)
    assert len({o.cell for o in objects}) == 2
    for o in objects:
        assert image.getpixel((int(o.x), int(o.y))) == RGB[color]
    pixels = np.asarray(image)
    assert (pixels[:, :30] == BACKGROUND).all()
    assert (pixels[:30] == BACKGROUND).all()


def test_size_blur_and_haze_change_the_picture_as_they_should() -> None:
    def ink(size: str, degradation: Degradation) -> np.ndarray:
        image = render(Scene((Group("square", "blue", size, 1, 0),)), degradation, np.random.default_rng(1))
        return np.asarray(image).astype(float)

    areas = [(ink(size, Degradation()) != BACKGROUND).any(axis=2).sum() for size in SIZES]
    assert areas[1] > 2 * areas[0]
    sharp, blurry, hazy = (ink("large", d) for d in (Degradation(), Degradation(blur=0.8), Degradation(haze=0.8)))
    assert np.abs(np.diff(blurry, axis=1)).max() < 0.5 * np.abs(np.diff(sharp, axis=1)).max()
    assert np.ptp(hazy) < 0.5 * np.ptp(sharp)
