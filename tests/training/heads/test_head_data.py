from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from head_samples import grey_data, grey_items

from t2i_eval_kedro import schema
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.training.heads.data import head_data, perturbed


def tables(dimension: str = "overall") -> dict[str, pd.DataFrame]:
    items = [("a", "p", "a.png"), ("b", "p", "b.png"), ("c", "q", "c.png"), ("d", "q", None)]
    ratings = [("a", "r1", 2), ("a", "r2", 4), ("b", "r1", 5), ("b", "r2", None), ("c", "r1", 1), ("d", "r1", 1)]
    return {
        "items": schema.ITEMS.frame(
            {
                "item_id": item,
                "benchmark": "x",
                "prompt_id": prompt,
                "prompt": prompt,
                "generator": "g",
                "image": image,
                "attributes": json.dumps({"type": "real"}),
            }
            for item, prompt, image in items
        ),
        "splits": schema.SPLITS.frame(
            {"item_id": item, "split_name": "s", "fold": "train" if prompt == "p" else "test"}
            for item, prompt, _ in items
        ),
        "ratings": schema.RATINGS.frame(
            {
                "item_id": item,
                "rater_id": rater,
                "dimension": dimension,
                "score": score,
                "scale_min": 1,
                "scale_max": 5,
                "off_scale": False,
            }
            for item, rater, score in ratings
        ),
        "elements": schema.ELEMENTS.frame(
            [
                {"prompt_id": "p", "element_id": "e", "text": "cat", "skill": "object"},
                {"prompt_id": "p", "element_id": "f", "text": "red cat", "skill": "color", "parents": "e"},
            ]
        ),
        "element_ratings": schema.ELEMENT_RATINGS.frame(
            {"item_id": "a", "element_id": "e", "rater_id": rater, "label": label}
            for rater, label in (("r1", 1), ("r2", 0), ("r3", 1), ("r4", None))
        ),
    }


def test_scores_labels_and_variances_by_hand() -> None:
    data = head_data(**tables(), dimension=None)
    a, b, c = data.items  # d has no image
    assert (a.rating, b.rating, c.rating) == (0.5, 1.0, 0.0)
    assert (a.spread, b.spread) == (0.25, 0.0)
    assert (a.variance, b.variance) == (2.0, 2.0)  # of 3 and 5
    assert c.variance == 0.0  # d counts, though nobody sees it: both have 1
    assert a.labels == {"e": pytest.approx(2 / 3)}
    assert (a.fold, c.fold, a.kind) == ("train", "test", "real")
    assert data.parts["p"]["f"].parents == ("e",)
    assert data.scale == (1.0, 5.0)


def test_a_prompt_with_one_image_has_no_variance() -> None:
    given = tables()
    given["ratings"] = given["ratings"][given["ratings"]["item_id"] != "d"]
    assert np.isnan(head_data(**given, dimension=None).items[2].variance)


def test_a_benchmark_without_elements_has_none_to_learn() -> None:
    given = tables() | {"elements": schema.ELEMENTS.empty(), "element_ratings": schema.ELEMENT_RATINGS.empty()}
    data = head_data(**given, dimension=None)
    assert data.parts == {}
    assert data.items[0].labels == {}


def test_the_dimension_is_overall_or_the_first_or_the_one_that_is_named() -> None:
    given = tables("fidelity")
    assert head_data(**given, dimension=None).dimension == "fidelity"
    with pytest.raises(T2IEvalError, match=r"Nobody rated 'overall' .* people rated fidelity"):
        head_data(**given, dimension="overall")
    with pytest.raises(T2IEvalError, match="people rated nothing"):
        head_data(**given | {"ratings": schema.RATINGS.empty()}, dimension=None)


def test_a_fraction_of_the_prompts_keeps_its_scores_and_the_others_lose_all_that_people_said() -> None:
    data = grey_data([replace(item, variance=1.7) for item in grey_items(copies=10) + grey_items("test")])
    known, unknown = data.training_items(0.3, 0)
    assert len({item.prompt_id for item in known}) == 3
    assert len(known) + len(unknown) == 110
    assert all(item.rating is None and not item.labels and item.fold == "train" for item in unknown)
    assert all(item.spread == 0 and math.isnan(item.variance) for item in unknown)
    more, _ = data.training_items(0.6, 0)
    assert {item.item_id for item in known} < {item.item_id for item in more}
    with pytest.raises(T2IEvalError, match="No training item has an image and a score of 'overall'"):
        grey_data(grey_items("test")).training_items(1.0, 0)


def test_noise_stays_on_the_scale() -> None:
    items = grey_items(copies=50)
    rng = np.random.default_rng(0)
    noisy = np.array(perturbed(items, 0.1, rng))
    inner = np.array([0.25 < item.rating < 0.75 for item in items])
    assert np.std((noisy - [item.rating for item in items])[inner]) == pytest.approx(0.1, rel=0.15)
    assert noisy.min() == 0
    assert noisy.max() == 1
    assert perturbed(items, 0.1, rng) != list(noisy)  # anew each time
    assert perturbed(items, 0.0, rng) == [item.rating for item in items]
