from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from t2i_eval_kedro import schema
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.ensembles import EnsembleSettings, combine, ensemble_scores, stacking_weights, wide


def table(**judges: dict[str, float | None]) -> pd.DataFrame:
    return schema.SCORES.frame(
        {
            "item_id": item,
            "judge": judge,
            "dimension": "overall",
            "run": 0,
            "score": score,
            "status": schema.OK if score is not None else schema.FAILED,
            "higher_is_better": judge != "distance",
        }
        for judge, scores in judges.items()
        for item, score in scores.items()
    )


def scores_of(*values: float | None) -> dict[str, float | None]:
    return {f"i{n}": value for n, value in enumerate(values)}


def test_a_judge_of_other_units_weighs_no_more() -> None:
    scores = table(a=scores_of(1, 2, 3), reward=scores_of(-200, 0, -100))
    said, weights = combine(wide(scores, "overall"), EnsembleSettings(members=("a", "reward"), method="mean"), {})
    step = 1.5**0.5
    assert said.tolist() == pytest.approx([-step, step / 2, step / 2])
    assert weights == {"a": 0.5, "reward": 0.5}


def test_ranks_are_shares_and_ties_share_theirs() -> None:
    scores = table(a=scores_of(1, 2, 2, 9), b=scores_of(4, 3, 2, 1))
    said, _ = combine(wide(scores, "overall"), EnsembleSettings(members=("a", "b"), method="rank_mean"), {})
    assert said.tolist() == pytest.approx([(1 + 4) / 8, (2.5 + 3) / 8, (2.5 + 2) / 8, (4 + 1) / 8])


def test_lower_is_better_is_turned_around() -> None:
    scores = table(a=scores_of(1, 2, 3), distance=scores_of(3, 2, 1))
    said, _ = combine(wide(scores, "overall"), EnsembleSettings(members=("a", "distance"), method="mean"), {})
    assert said.is_monotonic_increasing


def test_stacking_finds_the_weights_that_made_peoples_scores() -> None:
    rng = np.random.default_rng(0)
    members = rng.normal(size=(200, 3))
    assert stacking_weights(members, members @ [0.7, 0.3, 0.0] + 5) == pytest.approx([0.7, 0.3, 0.0])
    assert stacking_weights(members, -members.sum(axis=1)) == pytest.approx([1 / 3] * 3)  # nobody goes with people


def test_stacking_is_fitted_on_validation_items_alone() -> None:
    rng = np.random.default_rng(1)
    good, bad = rng.normal(size=(2, 60))
    scores = table(good=scores_of(*good), bad=scores_of(*bad))
    settings = EnsembleSettings(members=("good", "bad"), method="stacking")
    _, weights = combine(wide(scores, "overall"), settings, {f"i{n}": good[n] for n in range(30)})
    assert weights["good"] > 0.99
    with pytest.raises(T2IEvalError, match=r"needs 10 validation items .* there are 3"):
        combine(wide(scores, "overall"), settings, {f"i{n}": good[n] for n in range(3)})


def test_an_item_that_a_member_did_not_score_has_no_score() -> None:
    scores = table(a=scores_of(1, 2, None, 4), b=scores_of(4, 3, 2, 1))
    settings = {"both": EnsembleSettings(members=("a", "b"), method="mean")}
    said, _ = ensemble_scores(scores, settings, {}, "overall", ["i0", "i1", "i2", "i3"])
    assert said["status"].tolist() == ["ok", "ok", "not_applicable", "ok"]
    assert said["score"].isna().tolist() == [False, False, True, False]
    assert set(said["judge"]) == {"both"}


def test_a_member_that_there_is_not_is_named() -> None:
    settings = {"both": EnsembleSettings(members=("a", "c"), method="mean")}
    with pytest.raises(T2IEvalError, match="'c' has no scores; there are scores of a, b"):
        ensemble_scores(table(a=scores_of(1), b=scores_of(2)), settings, {}, "overall", ["i0"])


def test_a_constant_member_adds_nothing_and_breaks_nothing() -> None:
    scores = table(a=scores_of(1, 2, 3), flat=scores_of(5, 5, 5))
    said, _ = combine(wide(scores, "overall"), EnsembleSettings(members=("a", "flat"), method="mean"), {})
    assert said.tolist() == pytest.approx([-(1.5**0.5) / 2, 0, 1.5**0.5 / 2])
