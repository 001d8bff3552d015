from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from head_samples import grey_data, grey_items

from t2i_eval_kedro import schema
from t2i_eval_kedro.agreement.challenge import ntire_alignment
from t2i_eval_kedro.judging.ensembles import EnsembleSettings
from t2i_eval_kedro.training.heads.judges import Predictions
from t2i_eval_kedro.training.heads.results import as_lines, element_summary, submission, summarise, tables

RESAMPLES = {"n_resamples": 200, "confidence": 0.95, "seed": 0}
ITEMS = grey_items("test", copies=8) + grey_items("validation", copies=4)
DATA = grey_data(ITEMS)
TABLE = schema.ITEMS.frame(
    {
        "item_id": item.item_id,
        "benchmark": "x",
        "prompt_id": item.prompt_id,
        "prompt": item.prompt_id,
        "generator": "g",
        "image": item.image,
    }
    for item in ITEMS
)


def judge(name: str, noise: float, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    scores = {item.item_id: float(np.clip(item.rating + noise * rng.normal(), 0, 1)) for item in ITEMS}
    return tables(name, Predictions(scores), ITEMS, "overall")


def test_tables_hold_scores_of_0_to_10_and_nulls_with_their_status() -> None:
    said = Predictions({"test-3-0": 0.25}, {"test-3-0": {"light": 0.7, "cat": None}})
    scores, elements = tables("fga", said, [ITEMS[3]], "overall")
    assert scores[["score", "status"]].to_numpy().tolist() == [[2.5, "ok"]]
    assert elements["status"].tolist() == ["ok", "not_applicable"]
    assert elements["score"].isna().tolist() == [False, True]


def test_the_gain_of_an_ensemble_is_its_difference_from_the_member_that_validation_prefers() -> None:
    a, b = judge("a", 0.3)[0], judge("b", 0.3, seed=1)[0]
    both = a.assign(judge="both", score=(a["score"] + b["score"]) / 2)
    ensembles = {"both": EnsembleSettings(members=("a", "b"), method="mean")}
    costs = {"a": {"seconds_per_image": 0.5}, "b": {"seconds_per_image": 0.25}}
    found = summarise(
        DATA, TABLE, "test", pd.concat([a, b, both]), schema.ELEMENT_SCORES.empty(), ensembles, costs, **RESAMPLES
    )
    gold = {item.item_id: item.rating for item in ITEMS}

    def spearman(table: pd.DataFrame, fold: str) -> float:
        rows = table[table["item_id"].str.startswith(fold)].set_index("item_id")["score"]
        return float(rows.corr(pd.Series(gold), method="spearman"))

    best = max((a, b), key=lambda table: spearman(table, "validation"))
    gain = found["ensembles"]["both"]
    assert gain["best_member"] == best["judge"].iloc[0]
    assert gain["gain"]["value"] == pytest.approx(spearman(both, "test") - spearman(best, "test"), abs=1e-6)
    assert gain["gain"]["low"] < gain["gain"]["value"] < gain["gain"]["high"]
    assert gain["seconds_per_image"] == 0.75
    assert found["judges"]["a"]["spearman"]["value"] == pytest.approx(spearman(a, "test"), abs=1e-6)
    assert found["judges"]["a"]["spearman"]["n_prompts"] == 8
    unknown = summarise(
        DATA, TABLE, "test", pd.concat([a, b, both]), schema.ELEMENT_SCORES.empty(), ensembles, {}, **RESAMPLES
    )
    assert unknown["ensembles"]["both"]["seconds_per_image"] is None


def test_balanced_accuracy_by_hand_and_what_is_not_scored_is_counted_apart() -> None:
    # of 11 items: "grey" is always there, "light" from 6 on, "cat" never
    said = Predictions(
        {item.item_id: 0.5 for item in ITEMS},
        {
            item.item_id: {"grey": 0.9, "light": 0.4 if item.image in ("6", "7") else item.rating, "cat": None}
            for item in ITEMS
        },
    )
    _, elements = tables("fga", said, ITEMS, "overall")
    found = element_summary(DATA, TABLE, "test", elements, 200, 0.95, 0)["fga"]
    # light: 0.5 counts as present (image 5, absent): 5 of 6 absent right; present: 3 of 5, and 11 of 11 grey
    assert found["accuracy"]["value"] == pytest.approx((5 + 3 + 11) / 22, abs=1e-6)
    assert found["balanced_accuracy"]["value"] == pytest.approx((5 / 6 + 14 / 16) / 2, abs=1e-6)
    assert found["n_unscored"] == 8 * 11
    assert found["accuracy"]["n"] == 8 * 22


def test_a_threshold_is_fitted_on_validation_and_used_on_the_test_fold() -> None:
    def summary(shift: float) -> dict:
        # on the test fold "light" is scored .8 where it is there and .7 where not; "shift" moves validation alone
        elements = {
            item.item_id: {
                "light": (0.8 if item.labels["light"] else 0.7) - (shift if item.fold == "validation" else 0.0)
            }
            for item in ITEMS
        }
        _, rows = tables("fga", Predictions({i.item_id: 0.5 for i in ITEMS}, elements), ITEMS, "overall")
        return element_summary(DATA, TABLE, "test", rows, 200, 0.95, 0)["fga"]

    found = summary(0.0)
    assert found["balanced_accuracy"]["value"] == 0.5
    assert (found["balanced_accuracy_fitted"]["value"], found["fitted_threshold"]) == (1.0, 0.8)
    moved = summary(0.3)
    assert (moved["balanced_accuracy_fitted"]["value"], moved["fitted_threshold"]) == (0.5, 0.5)


def test_without_validation_elements_no_threshold_is_fitted() -> None:
    elements = {item.item_id: {"light": 0.5} for item in ITEMS if item.fold == "test"}
    asked = [item for item in ITEMS if item.fold == "test"]
    _, rows = tables("fga", Predictions({i.item_id: 0.5 for i in asked}, elements), asked, "overall")
    found = element_summary(DATA, TABLE, "test", rows, 200, 0.95, 0)["fga"]
    assert "fitted_threshold" not in found
    assert "balanced_accuracy_fitted" not in found


def test_a_submission_is_scored_by_the_challenges_own_formula() -> None:
    said = Predictions(
        {item.item_id: item.rating for item in ITEMS},
        {item.item_id: {"grey": 0.9, "light": 0.3, "cat": None} for item in ITEMS},
    )
    scores, elements = tables("fga", said, ITEMS, "overall")
    names = {
        f"{prompt}/{name}": f"{part.text} ({part.skill})"
        for prompt, parts in DATA.parts.items()
        for name, part in parts.items()
    }
    one = grey_data(ITEMS[:11])
    answers, truth = submission(one, names, "test", scores, elements, "fga")
    assert len(answers) == len(truth) == 11
    assert answers[0]["element_score"] == {"grey (color)": 1, "light grey (color)": 0, "cat (object)": 0}
    assert (answers[0]["total_score"], answers[10]["total_score"]) == (1.0, 5.0)
    found = ntire_alignment(json.loads(as_lines(truth)), json.loads(as_lines(answers)), "corrected")
    assert found["SRCC"] == pytest.approx(1.0)
    assert found["ACC"] == pytest.approx((11 + 6 + 11) / 33)
    assert submission(one, names, "test", scores, elements, "nobody") == ([], [])
