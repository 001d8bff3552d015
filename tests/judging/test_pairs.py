"""Two images of one prompt: by a judge that sees both, and by the scores of each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from t2i_eval_kedro import schema
from t2i_eval_kedro.agreement.label_agreement import preference_accuracy
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.comparisons import COMPARISON_COLUMNS
from t2i_eval_kedro.judging.judge import GivenImages, Judge
from t2i_eval_kedro.judging.pairs import judge_pairs
from t2i_eval_kedro.judging.protocols import Answer, Wording
from t2i_eval_kedro.judging.protocols.reasoning import PairRule
from t2i_eval_kedro.judging.protocols.registry import build

ITEMS = schema.ITEMS.frame(
    {"item_id": i, "benchmark": "b", "prompt_id": "p", "prompt": "a cat", "generator": "g", "image": f"{i}.png"}
    for i in "ijk"
)
PAIRS = pd.DataFrame({"prompt_id": "p", "item_a": ["i", "j", "i"], "item_b": ["j", "k", "j"]})
PHRASES = {"overall": "how good it is", "mood": "its mood"}


class Scores:
    """A judge that gives each image its score, and to the image that it sees first a little more."""

    def __init__(self, scores: dict[str, str], first: float = 0.0) -> None:
        self.scores, self.first, self.asked = scores, first, 0

    def answer(self, requests):
        for i, request in enumerate(requests):
            self.asked += 1
            images = request.messages[-1].images
            stated = [self.scores[image] for image in images]
            if len(images) == 1:
                yield i, Answer(stated[0])
            else:
                first = f"{float(stated[0]) + self.first}" if stated[0].isdigit() else stated[0]
                yield i, Answer(f"<think>seen</think><answer>A {first}, B {stated[1]}</answer>")


def compared(judge: Scores, full: Wording, protocol: str, tie: float = 0.5) -> pd.DataFrame:
    rule = PairRule(tie)
    table, _ = judge_pairs(PAIRS, ITEMS, judge, build(protocol, full), rule, PHRASES, "overall", name="m")
    assert len(table) == 2
    return table.astype(object).where(table.notna(), None)


def test_a_judge_of_pairs_is_asked_in_both_orders_and_says_whether_they_agree(full: Wording) -> None:
    judge = Scores({"i.png": "8", "j.png": "6", "k.png": "5"}, first=1.6)
    table = compared(judge, full, "pairwise")
    assert judge.asked == 2 * 2 * 2  # pairs, dimensions, orders
    assert table["label"].tolist() == ["a", "a"]
    assert table["margin"].tolist() == pytest.approx([2, 1])
    assert table["consistent"].tolist() == [0, 0]  # 3.6 and .4; 2.6 and -.6
    assert all(table["probability"] > 0.5)


def test_what_a_judge_of_pairs_says_is_compared_with_people(full: Wording) -> None:
    table = compared(Scores({"i.png": "8", "j.png": "6", "k.png": "4"}, first=1.6), full, "pairwise")
    table.loc[0, "consistent"] = 1.0
    people = schema.PREFERENCES.frame(
        {"prompt_id": "p", "item_a": a, "item_b": b, "rater_id": "r", "label": "a"} for a, b in ("ij", "kj")
    )
    found = preference_accuracy(
        ITEMS, people, schema.SCORES.empty(), schema.PREFERENCE_SCORES.check(table), 100, 0.95, 0
    )
    cell = found["m_pairwise"][""]
    assert cell["accuracy"]["value"] == 0.5  # of j and k it prefers the other
    assert (cell["order_consistency"]["value"], cell["order_consistency"]["n"]) == (0.5, 2)
    one_order = table.assign(consistent=np.nan)
    found = preference_accuracy(
        ITEMS, people, schema.SCORES.empty(), schema.PREFERENCE_SCORES.check(one_order), 100, 0.95, 0
    )
    assert "order_consistency" not in found["m_pairwise"][""]


def test_scores_of_single_images_give_preferences_too(full: Wording) -> None:
    judge = Scores({"i.png": "9", "j.png": "9", "k.png": "5"})
    table = compared(judge, full, "levels")
    assert judge.asked == 3 * 2  # each image once
    assert table["label"].tolist() == ["tie", "a"]
    assert table["margin"].tolist() == pytest.approx([0, 40 / 9])
    assert table["consistent"].tolist() == [None, None]
    assert table["probability"].tolist() == pytest.approx([0.5, 1 / (1 + np.exp(-40 / 9))])


@pytest.mark.parametrize("protocol", ["pairwise", "levels"])
def test_what_cannot_be_read_costs_its_own_pairs(full: Wording, protocol: str) -> None:
    table = compared(Scores({"i.png": "8", "j.png": "6", "k.png": "good"}), full, protocol)
    assert table["status"].tolist() == ["ok", "unparsed"]
    assert table["label"].tolist() == ["a", None]


@pytest.fixture
def judge(full: Wording, tmp_path: Path):
    for name in "ab":
        Image.new("RGB", (8, 8), "red" if name == "a" else "blue").save(tmp_path / f"{name}.png")

    def build_judge(protocol: str, tie: float = 0.5) -> Judge:
        scores = {"a.png": "4", "b.png": "7"}
        images, rule = GivenImages(tmp_path), PairRule(tie)
        return Judge("m", build(protocol, full), Scores(scores), images, {"overall": "x"}, rule=rule)

    return build_judge


def test_the_python_door_compares_two_images(judge) -> None:
    one = judge("pairwise").compare("a.png", "b.png", "a cat")
    assert (one.label, one.preference.consistent, one.status) == ("b", True, "ok")
    assert one.probability == pytest.approx(1 / (1 + np.exp(3)))
    assert "b" in repr(one)
    assert "seen" in repr(one)
    assert one.as_dict()["preferences"][0]["margin"] == -3
    assert judge("levels", tie=9).compare("a.png", "b.png", "a cat").label == "tie"
    with pytest.raises(T2IEvalError, match=r"'none\.png' cannot be judged"):
        judge("pairwise").compare("a.png", "none.png", "a cat")
    with pytest.raises(T2IEvalError, match="compares two images of one prompt"):
        judge("pairwise")("a.png", "a cat")


def test_too_much_probability_outside_the_levels_leaves_no_preference(full: Wording, tmp_path: Path) -> None:
    class Elsewhere:
        """Is sure of a level, with next to no probability."""

        def answer(self, requests):
            for i, request in enumerate(requests):
                level = request.candidate_tokens[0 if request.messages[-1].images == ("b.png",) else -1]
                yield i, Answer(level, probabilities={level: 1.0}, out_of_vocabulary_mass=0.95)

    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    given = build("levels", full), Elsewhere(), GivenImages(tmp_path), {"overall": "x"}
    assert Judge("m", *given).compare("a.png", "b.png", "a cat").label == "a"
    held = Judge("m", *given, max_out_of_vocabulary=0.9).compare("a.png", "b.png", "a cat")
    assert (held.label, held.status) == (None, "unparsed")
    assert "95.0% of the probability is on other words" in held.preference.explanations[0]


def test_a_table_of_pairs_keeps_its_columns_and_its_bad_rows(judge) -> None:
    rows = pd.DataFrame(
        {
            "prompt": ["a cat", "", "a dog"],
            "image": ["a.png", "a.png", "b.png"],
            "image_b": ["b.png", "b.png", ""],
            "margin": ["mine", "mine", "mine"],
        }
    )
    found = judge("pairwise").compare_frame(rows)
    frame = found.frame()
    assert found.consistency == 1
    assert list(frame.columns) == ["prompt", "image", "image_b", "input_margin", *COMPARISON_COLUMNS]
    assert frame["preference"].fillna("none").tolist() == ["b", "none", "none"]
    assert frame["explanation"].tolist()[1:] == ["the row has no prompt", "the row does not have two images"]
    with pytest.raises(T2IEvalError, match="does not have the column 'image_b'"):
        judge("pairwise").compare_frame(rows.drop(columns="image_b"))
