from __future__ import annotations

import json

import pandas as pd
import pytest

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.ratings import mean_ratings
from t2i_eval_kedro.shapes.make import make_shapes
from t2i_eval_kedro.shapes.second_round import disputed, second_round

MADE = make_shapes(60, seed=2)


def test_disputed_are_items_whose_raters_lie_a_quarter_of_the_scale_apart() -> None:
    ratings = MADE.ratings.iloc[:4].assign(
        item_id=["a", "a", "b", "b"], dimension="overall", rater_id=["r", "s"] * 2, score=[5.0, 7.5, 5.0, 7.4]
    )
    assert disputed(ratings).tolist() == [True, True, False, False]
    assert disputed(ratings.assign(scale_max=9.0), 0.25).all()  # 2.4 of 9 is more than a quarter


def test_only_what_was_disputed_is_rated_again_and_comes_nearer_to_the_truth() -> None:
    again = second_round(MADE.items, MADE.ratings)
    changed = again["score"] != MADE.ratings["score"]
    was = disputed(MADE.ratings)
    assert not changed[~was].any()
    assert changed[was].mean() > 0.5
    assert again.drop(columns="score").equals(MADE.ratings.drop(columns="score"))
    truth = pd.Series({row.item_id: json.loads(row.attributes)["truth"]["overall"] for row in MADE.items.itertuples()})

    def error(ratings: pd.DataFrame) -> float:
        means = mean_ratings(ratings[ratings["dimension"] == "overall"]).set_index("item_id")["score"]
        return float(((means - truth[means.index]) ** 2).mean())

    # Whoever lay far off by chance does so less the second time; a bias stays.
    assert disputed(again).mean() < was.mean()
    assert error(again) < error(MADE.ratings)
    assert second_round(MADE.items, MADE.ratings).equals(again)
    assert not second_round(MADE.items, MADE.ratings, seed=1).equals(again)


def test_real_raters_cannot_be_asked_again() -> None:
    with pytest.raises(T2IEvalError, match="Rater 'Ada' is not simulated"):
        second_round(MADE.items, MADE.ratings.assign(rater_id="Ada"))
