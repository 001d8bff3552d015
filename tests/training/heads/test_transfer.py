"""Other benchmarks beside the one that is learned from: nothing of them is mixed up or seen before, and one table compares all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from head_samples import grey_data, grey_items
from PIL import Image
from random_model import Pictures
from scipy.stats import spearmanr

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.training.heads.judges import Predictions
from t2i_eval_kedro.training.heads.results import TRANSFER_COLUMNS, tables, transfer_table
from t2i_eval_kedro.training.heads.transfer import OtherBenchmarks, other_benchmark, refuse_unusable

OWN = grey_data(
    [
        *grey_items("train", prompt="A grey card."),
        *grey_items("validation", prompt="a dark card"),
        *(replace(item, prompt=item.prompt_id) for item in grey_items("test", copies=12)),
    ]
)
OWN_IMAGES = Pictures({str(n): Image.new("RGB", (4, 4), (n, n, n)) for n in range(11)})
IMAGES = Pictures({str(n): Image.new("RGB", (4, 4), (200 + n, 0, 0)) for n in range(11)})


def mine() -> OtherBenchmarks:
    """Two prompts that are learned from in another spelling, twelve that are not, and an image that nobody rated."""
    seen = [
        *grey_items("train", prompt="The gr\u00e9y  card"),
        *(replace(i, item_id=f"b{i.item_id}", prompt_id="dark") for i in grey_items("test", prompt="A dark card")),
    ]
    new = [replace(item, prompt=f"new {item.prompt_id}") for item in grey_items("test", copies=12)]
    unrated = replace(new[0], item_id="unrated", rating=None)
    data = grey_data([*seen, *new, unrated])
    return OtherBenchmarks({"mine": other_benchmark(replace(data, dimension="likeness"), IMAGES, OWN.items)})


def test_prompts_that_are_learned_from_and_unrated_images_are_left_out() -> None:
    other = mine().known["mine"]
    assert other.left_out == 22
    assert {item.prompt for item in other.data.items} == {f"new test-{n}" for n in range(12)}
    assert len(other.data.items) == 132


def test_items_elements_and_images_of_equal_names_do_not_meet() -> None:
    others = mine()
    data, images = others.beside(OWN, OWN_IMAGES)
    assert data.items == OWN.items  # what is learned from stays what it was
    theirs = next(item for item in others.items() if item.item_id == "mine::test-3-0")
    assert images.image(theirs.image).getpixel((0, 0)) == (203, 0, 0)
    assert images.image("3").getpixel((0, 0)) == (3, 3, 3)
    assert data.parts[theirs.prompt_id] == others.known["mine"].data.parts["test-0"]
    assert "test-0" in data.parts
    nothing = OtherBenchmarks()
    assert nothing.items() == []
    assert nothing.beside(OWN, OWN_IMAGES) == (OWN, OWN_IMAGES)


def test_the_table_has_a_row_for_each_judge_and_benchmark() -> None:
    others = mine()
    rng = np.random.default_rng(0)
    asked = [*OWN.fold("validation", "test"), *others.items()]
    noise = {i.item_id: (2.0 if i.item_id.startswith("mine") else 0.1) * rng.standard_normal() for i in asked}
    said = {i.item_id: float(i.rating or 0) + noise[i.item_id] for i in asked}
    head, _ = tables("score_head", Predictions(said), asked, "overall")
    clip, _ = tables("clip_score", Predictions(said), [i for i in asked if "::" not in i.item_id], "overall")
    found = transfer_table(
        "own", "test", OWN, others, pd.concat([head, clip]), ["score_head"], n_resamples=300, confidence=0.95, seed=0
    )
    assert list(found.columns) == list(TRANSFER_COLUMNS)
    rows = found.set_index(["evaluator", "judged"])
    assert set(rows.index) == {("clip_score", "own"), ("score_head", "own"), ("score_head", "mine")}  # no empty row
    assert rows["trained_on"].to_dict() == {
        ("clip_score", "own"): "",
        ("score_head", "own"): "own",
        ("score_head", "mine"): "own",
    }
    there = rows.loc[("score_head", "mine")]
    items = others.items("mine")
    expected = spearmanr([said[i.item_id] for i in items], [i.rating for i in items]).statistic
    assert there["spearman"] == pytest.approx(expected, abs=1e-6)
    assert there["low"] < there["spearman"] < there["high"]
    assert (there["dimension"], there["items"], there["prompts"], there["left_out"]) == ("likeness", 132, 12, 22)
    own = rows.loc[("score_head", "own")]
    assert (own["items"], own["prompts"], own["left_out"]) == (132, 12, 0)
    assert own["low"] > there["high"]


def test_a_benchmark_that_is_learned_from_or_named_twice_is_refused() -> None:
    with pytest.raises(T2IEvalError, match="'shapes', which the judges learn from"):
        refuse_unusable(["mine", "shapes"], "shapes")
    with pytest.raises(T2IEvalError, match="'mine' twice"):
        refuse_unusable(["mine", "mine"], "shapes")
    refuse_unusable(["mine", "yours"], "shapes")
