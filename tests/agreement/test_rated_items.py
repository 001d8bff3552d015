"""Joining ratings and scores: nothing is imputed, nothing is dropped unseen."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from t2i_eval_kedro import schema
from t2i_eval_kedro.agreement.judge_agreement import JudgeAgreement
from t2i_eval_kedro.agreement.rated_items import build
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.statistics.pooled import Weights


def items(n=4, **more):
    rows = [
        {
            "item_id": f"i{k}",
            "benchmark": "b",
            "prompt_id": f"p{k // 2}",
            "prompt": f"text {k // 2}",
            "generator": f"g{k % 2}",
        }
        for k in range(n)
    ]
    for k, extra in more.items():
        rows[int(k[1:])].update(extra)
    return schema.ITEMS.frame(rows)


def rating(item, rater, score, off_scale=False, dimension="overall"):
    return {
        "item_id": item,
        "rater_id": rater,
        "dimension": dimension,
        "score": score,
        "scale_min": 1,
        "scale_max": 5,
        "off_scale": off_scale,
    }


def score(item, value, status="ok", judge="e", dimension="overall", run=0, better=True):
    return {
        "item_id": item,
        "judge": judge,
        "dimension": dimension,
        "run": run,
        "score": value,
        "status": status,
        "higher_is_better": better,
    }


def sample(score_rows, rating_rows=None, **options):
    rating_rows = rating_rows or [rating(f"i{k}", "r", k + 1) for k in range(4)]
    return build(items(), schema.RATINGS.frame(rating_rows), schema.SCORES.frame(score_rows), **options)


def test_gold_is_the_mean_of_ratings_on_the_scale():
    rows = [rating("i0", "a", 2), rating("i0", "b", 3), rating("i0", "c", 9, off_scale=True), rating("i1", "a", None)]
    found = sample([score("i0", 1.0)], rows)["overall"]
    assert found.item_ids == ("i0",)
    assert found.gold.tolist() == [2.5]


def test_missing_scores_are_counted_and_stay_missing():
    rows = [score("i0", 1.0), score("i1", None, "unparsed"), score("i2", None, "failed")]
    found = sample(rows)["overall"]
    assert found.counts["e"] == {"ok": 1, "unparsed": 1, "failed": 1, "not_applicable": 1}
    np.testing.assert_array_equal(found.scores["e"], [1, np.nan, np.nan, np.nan])


def test_an_ok_row_without_a_number_is_unparsed():
    assert sample([score("i0", None, "ok")])["overall"].counts["e"]["unparsed"] == 1


@pytest.mark.parametrize(("policy", "expected"), [("worst", [1, 4, 1, 1]), ("mean", [1, 4, 2.5, 2.5])])
def test_policies_for_missing_scores(policy, expected):
    found = sample([score("i0", 1.0), score("i1", 4.0)], missing=policy)["overall"]
    assert found.scores["e"].tolist() == expected


def test_worst_is_the_highest_score_where_lower_is_better():
    found = sample([score("i0", 1.0, better=False), score("i1", 4.0, better=False)], missing="worst")["overall"]
    assert found.scores["e"].tolist() == [-1, -4, -4, -4]


def test_refuse_names_the_judge_and_the_item():
    with pytest.raises(T2IEvalError, match="'e' has no score for 3 of 4 items rated for 'overall', the first 'i1'"):
        sample([score("i0", 1.0)], missing="refuse")
    with pytest.raises(T2IEvalError, match="Unknown policy"):
        sample([score("i0", 1.0)], missing="guess")


def test_a_metric_without_dimension_meets_every_rated_dimension():
    rows = [rating("i0", "a", 2), rating("i0", "a", 3, dimension="appearance")]
    found = sample([score("i0", 7.0, dimension=""), score("i0", 9.0, dimension="overall")], rows)
    assert found["overall"].scores["e"].tolist() == [9]
    assert found["appearance"].scores["e"].tolist() == [7]


def test_runs_are_averaged():
    assert sample([score("i0", 1.0), score("i0", 2.0, run=1)])["overall"].scores["e"][0] == 1.5


def test_means_over_runs_that_are_equal_are_ties():
    """0.1 + 0.2 + 0.3 and 0.3 + 0.2 + 0.1 differ in their last bit."""
    rows = [score("i0", v, run=k) for k, v in enumerate((0.1, 0.2, 0.3))]
    rows += [score("i1", v, run=k) for k, v in enumerate((0.3, 0.2, 0.1))]
    found = sample(rows)["overall"].scores["e"]
    assert found[0] == found[1]


def test_a_score_at_the_very_end_of_the_scale_is_on_it():
    rated = sample([score(f"i{k}", v) for k, v in enumerate((1.0, 2.0, 3.0, 5.0))])["overall"]
    weights = Weights(np.ones((2, rated.prompts), dtype=np.int64))
    assert JudgeAgreement.of(rated, "e", weights).overall(0.95)["rmse"]["value"] == pytest.approx(0.5)


def test_one_prompt_is_one_text_and_real_photographs_have_no_generator():
    table = items(i1={"prompt_id": "other"}, i3={"generator": "own", "attributes": '{"real": true}'})
    ratings = schema.RATINGS.frame([rating(f"i{k}", "r", k + 1) for k in range(4)])
    found = build(table, ratings, schema.SCORES.frame([score("i0", 1.0)]))["overall"]
    assert found.prompt.tolist() == [0, 0, 1, 1]
    assert found.prompts == 2
    assert found.generators == ("g0", "g1")
    assert found.generator.tolist() == [0, 1, 0, -1]


def test_one_very_long_prompt_does_not_cost_its_length_for_every_item():
    rows = [
        {
            "item_id": f"i{k}",
            "benchmark": "b",
            "prompt_id": f"p{k}",
            "prompt": "x" * 100_000 if k == 0 else f"text {k}",
            "generator": "g",
        }
        for k in range(2000)
    ]
    table = schema.ITEMS.frame(rows)
    ratings = schema.RATINGS.frame([rating(f"i{k}", "r", k % 5 + 1) for k in range(2000)])
    scores = schema.SCORES.frame([score("i0", 1.0)])
    tracemalloc.start()
    found = build(table, ratings, scores)["overall"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.prompts == 2000
    assert peak < 1e8  # text of fixed width would take 800 MB


def test_runs_are_kept_beside_their_mean():
    found = sample([score("i0", 1.0), score("i0", 2.0, run=1), score("i1", 5.0), score("i1", None, "unparsed", run=1)])[
        "overall"
    ]
    np.testing.assert_array_equal(found.runs["e"][:2], [[1, 2], [5, np.nan]])
    assert sample([score("i0", 1.0)])["overall"].runs == {}


@pytest.mark.parametrize(
    ("values", "known"), [((2.0, 3.0, 4.0, 2.5), True), ((2.0, 3.0, 4.0, 5.5), False), ((0.5, 3.0, 4.0, 2.0), False)]
)
def test_the_error_of_scores_off_the_ratings_scale_is_unknown(values: tuple[float, ...], known: bool) -> None:
    rated = sample([score(f"i{k}", v) for k, v in enumerate(values)])["overall"]
    weights = Weights(np.ones((2, rated.prompts), dtype=np.int64))
    found = JudgeAgreement.of(rated, "e", weights).overall(0.95)["rmse"]
    assert (found["value"] is not None) is known
    assert known or "not on the ratings' scale of 1 to 5" in found["reason"]
