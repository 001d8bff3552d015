from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau

from t2i_eval_kedro import schema
from t2i_eval_kedro.agreement.skills_study import skills_study

SKILLS = {"faithfulness/hand": 4.0, "faithfulness/object": 4.0, "alignment/Count": 2.0, "alignment/Color": 2.0}
GENERATORS = [f"g{i:02d}" for i in range(24)]


@pytest.fixture(scope="module")
def tables() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """24 generators of ten images; hands are in half of them, and the judge answers as the first rater does."""
    rng = np.random.default_rng(0)
    items, ratings, scores = [], [], []
    for g, generator in enumerate(GENERATORS):
        for i in range(10):
            item = f"{generator}/{i}"
            items.append(
                {"item_id": item, "benchmark": "b", "prompt_id": str(i), "prompt": f"p{i}", "generator": generator}
            )
            for skill, best in SKILLS.items():
                absent = skill == "faithfulness/hand" and i % 2
                asked = skill != "alignment/Color" or i < 4
                for rater in ("ann", "bob"):
                    option = float(np.clip(round(best * g / 23 + rng.normal(0, 0.4)), 0, best))
                    row = {"item_id": item, "rater_id": rater, "dimension": skill, "score": option, "off_scale": False}
                    if asked and not absent:
                        ratings.append(row | {"scale_min": 0.0, "scale_max": best})
                    if asked and rater == "ann":
                        scores.append(
                            {"item_id": item, "judge": "sft", "protocol": "skills", "dimension": skill, "run": 0}
                            | {"score": None if absent else 10 * option / best, "higher_is_better": True}
                            | {"status": schema.NOT_APPLICABLE if absent else schema.OK}
                        )
    return schema.ITEMS.frame(items), schema.RATINGS.frame(ratings), schema.SCORES.frame(scores)


def test_the_aggregates_are_micro_macro_a_total_and_a_question(tables: tuple[pd.DataFrame, ...]) -> None:
    items, ratings, scores = tables
    found = skills_study(items, ratings, scores, resamples=200, confidence=0.95, seed=0)
    row = next(r for r in found["skills_by_generator"] if (r["who"], r["generator"]) == ("people", "g10"))
    answered = ratings[ratings["item_id"].str.startswith("g10/")]
    means = answered.groupby(["dimension", "item_id"])["score"].mean()
    hand, thing = means["faithfulness/hand"], means["faithfulness/object"]
    assert (len(hand), len(thing)) == (5, 10)
    assert row["faithfulness"] == pytest.approx((hand.sum() + thing.sum()) / 15, abs=1e-6)
    assert row["faithfulness_macro"] == pytest.approx((hand.mean() + thing.mean()) / 2, abs=1e-6)
    total = means["alignment/Count"].sum() + means["alignment/Color"].sum()
    assert row["alignment_total"] == pytest.approx(total / 10, abs=1e-6)
    assert row["alignment_a_question"] == pytest.approx(total / 14, abs=1e-6)


def test_kendall_is_over_generators_with_an_interval(tables: tuple[pd.DataFrame, ...]) -> None:
    items, ratings, scores = tables
    found = skills_study(items, ratings, scores, resamples=200, confidence=0.95, seed=0)
    by = pd.DataFrame(found["skills_by_generator"]).pivot(index="generator", columns="who", values="faithfulness")
    entry = next(r for r in found["skills_kendall"] if r["aggregate"] == "faithfulness")
    evaluator = entry["evaluator"]
    assert entry["value"] == pytest.approx(kendalltau(by[evaluator], by["people"]).statistic, abs=1e-6)
    assert entry["n"] == 24
    assert 0.5 < entry["low"] < entry["value"] < entry["high"] <= 1
    assert {r["aggregate"] for r in found["skills_kendall"]} == {
        *("faithfulness", "faithfulness_macro", "alignment_total", "alignment_a_question")
    }


def test_kappa_is_cohens_by_hand_and_says_how_many_pairs(tables: tuple[pd.DataFrame, ...]) -> None:
    items, ratings, scores = tables
    found = skills_study(items, ratings, scores, resamples=100, confidence=0.95, seed=0)
    entry = next(r for r in found["skills_kappa"] if r["skill"] == "alignment/Count")
    wide = ratings[ratings["dimension"] == "alignment/Count"].pivot(index="item_id", columns="rater_id", values="score")
    same = (wide["ann"] == wide["bob"]).mean()
    chance = sum((wide["ann"] == v).mean() * (wide["bob"] == v).mean() for v in range(3))
    assert entry["cohen_kappa"] == pytest.approx((same - chance) / (1 - chance), abs=1e-6)
    assert (entry["pairs"], entry["items"]) == (1, 240)


def test_without_skills_there_is_no_study(tables: tuple[pd.DataFrame, ...]) -> None:
    items, ratings, scores = tables
    assert (
        skills_study(
            items,
            ratings.assign(dimension="overall").drop_duplicates(["item_id", "rater_id"]),
            scores,
            resamples=100,
            confidence=0.95,
            seed=0,
        )
        == {}
    )
