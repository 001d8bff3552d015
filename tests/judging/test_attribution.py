"""The chain with one stage made true: a judge that errs in one stage alone loses its agreement there and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from zlib import crc32

import pandas as pd
import pytest

from t2i_eval_kedro import schema
from t2i_eval_kedro.agreement.diagnostics import error_attribution
from t2i_eval_kedro.judging.attribution import (
    STAGES,
    Truth,
    WithTrueStage,
    attribute_errors,
    choose_items,
    final_dimension,
)
from t2i_eval_kedro.judging.backends.simulated import SimulatedBackend
from t2i_eval_kedro.judging.evaluators import judge_items
from t2i_eval_kedro.judging.protocols import Answer, Request, Wording
from t2i_eval_kedro.judging.protocols.decomposed import TEXT_TASKS
from t2i_eval_kedro.judging.protocols.registry import ProtocolOptions
from t2i_eval_kedro.shapes.make import make_shapes
from t2i_eval_kedro.steps import EXTRACT

PHRASES = {"overall": "x", "appearance": "x", "attributes": "x", "relations": "x"}
SHAPES = make_shapes(6, seed=3)
TRUTH = Truth.of(SHAPES.items, SHAPES.elements, SHAPES.element_ratings, SHAPES.ratings)


class WrongIn:
    """The simulated teacher, but for one stage that it always gets wrong."""

    def __init__(self, wording: Wording, stage: str) -> None:
        self.stage = stage
        self.right = SimulatedBackend(SHAPES.items, wording, seed=0, error_rate=0, score_noise=0)

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        for i, given in self.right.answer(requests):
            step, text = requests[i].step, given.text
            if self.stage == "extract" and step == "extract":
                text = "\n".join(line for line in text.splitlines() if line.startswith("appearance"))
            scored = ("attributes", "relations") if self.stage == "evaluate" else ("summary",)
            if self.stage == "answer" and step.endswith("/answer"):
                text = "no" if text == "yes" else "yes"
            elif self.stage in ("evaluate", "summarise") and step.endswith("/score") and step.split("/")[0] in scored:
                text = str(crc32(f"{requests[i].question_id}".encode()) % 11)
            yield i, Answer(text)


def attributed(wording: Wording, wrong: str) -> dict[str, dict]:
    options = ProtocolOptions(text_stages=False)  # the simulated judge looks at each image in every stage
    table = attribute_errors(
        SHAPES.items, WrongIn(wording, wrong), wording, PHRASES, TRUTH, name="sft", options=options
    )
    schema.ATTRIBUTION.check(table)
    rows = error_attribution(table, SHAPES.items, SHAPES.ratings, "overall", 100, 0.95, 0)
    return {row["true_stage"]: row for row in rows}


@pytest.mark.parametrize("wrong", ["evaluate", "summarise"])
def test_agreement_comes_back_where_the_wrong_stage_is_made_true(compact: Wording, wrong: str) -> None:
    rows = attributed(compact, wrong)
    assert list(rows) == ["none", *STAGES]
    gain = {stage: rows[stage]["change"]["value"] for stage in STAGES}
    assert rows["none"]["change"] is None
    assert rows["none"]["replaced"] == 0
    assert gain[wrong] > 0.15
    assert gain[wrong] == max(gain.values())
    assert rows[wrong]["spearman"]["value"] > 0.8
    assert rows[wrong]["spearman_scored"] == pytest.approx(rows[wrong]["spearman"]["value"], abs=0.05)
    assert gain["extract"] == 0  # it was right before
    for later in STAGES[: STAGES.index(wrong)]:
        assert gain[later] < 0.05


class Blurred:
    """The simulated teacher, who is out by two where it is shown the image once more: it was taught those stages without."""

    def __init__(self, wording: Wording) -> None:
        self.right = SimulatedBackend(SHAPES.items, wording, seed=0, error_rate=0, score_noise=0)

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        for i, given in self.right.answer(requests):
            shown = any(message["images"] for message in requests[i].chat)
            wrong = shown and requests[i].task in TEXT_TASKS and given.text.isdigit()
            yield i, Answer(str(max(0, int(given.text) - 2))) if wrong else given


@pytest.mark.parametrize("text_stages", [False, True])
def test_the_chain_without_a_true_stage_is_the_one_that_is_measured(compact: Wording, text_stages: bool) -> None:
    options = ProtocolOptions(text_stages=text_stages)
    table = attribute_errors(SHAPES.items, Blurred(compact), compact, PHRASES, TRUTH, name="sft", options=options)
    judged = judge_items(SHAPES.items, Blurred(compact), compact, PHRASES, ["decomposed"], name="sft", options=options)
    chain = judged.scores[judged.scores["dimension"] == "overall"].set_index("item_id")["score"]
    again = table[table["stage"] == "none"].set_index("item_id")["score"]
    pd.testing.assert_series_equal(again.sort_index(), chain.sort_index(), check_names=False)


class AlwaysSeven(Blurred):
    """Finds the same in every image, so that all requests without one read alike for the images of a prompt."""

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        for i, given in self.right.answer(requests):
            text = "yes" if given.text in ("yes", "no") else "7" if given.text.isdigit() else "it is so"
            yield i, given if requests[i].task == EXTRACT else Answer(text)


def test_a_true_summary_is_that_of_each_image_though_their_findings_are_the_same(compact: Wording) -> None:
    table = attribute_errors(
        SHAPES.items,
        AlwaysSeven(compact),
        compact,
        PHRASES,
        TRUTH,
        name="sft",
        options=ProtocolOptions(text_stages=True),
    )
    rated = SHAPES.ratings[SHAPES.ratings["dimension"].isin(["attributes", "relations"])].dropna(subset="score")
    aspects = rated.groupby("item_id")["dimension"].nunique()
    replaced = table[table["stage"] == "summarise"].set_index("item_id")["replaced"]
    assert (replaced >= 2 * aspects.reindex(replaced.index)).all()  # an explanation and a score of each


def test_a_true_extraction_asks_about_every_element_and_keeps_the_questions_about_appearance(compact: Wording) -> None:
    rows = attributed(compact, "extract")
    assert rows["none"]["scored"] > 0.9  # an object that is not there has no appearance
    assert rows["extract"]["replaced"] == 1
    assert rows["extract"]["change"]["value"] > 0.1
    right = attributed(compact, "nothing")
    assert rows["extract"]["spearman"]["value"] == pytest.approx(right["none"]["spearman"]["value"], abs=0.1)


def test_true_answers_follow_the_majority_and_what_is_expected(compact: Wording) -> None:
    asked = {"item_id": "i", "task": "attributes_1", "aspect": "attributes", "messages": (), "max_tokens": 1}

    def request(step: str, question: str) -> Request:
        return Request(step=step, context={"question": question}, **asked)

    truth = Truth(
        {},
        {("i", "is it red"): 1.0, ("i", "is it blue"): 0.25, ("i", "is it big"): 0.5},
        {("i", "is it red"): "yes", ("i", "is it blue"): "no", ("i", "is it big"): "yes"},
        {("i", "attributes"): 7.0},
    )
    assert truth.answer("answer", request("attributes/1/answer", "Is it red?"), compact) == "yes"
    assert (
        truth.answer("answer", request("attributes/1/answer", "is it blue ?"), compact) == "yes"
    )  # not satisfied: the opposite of no
    assert truth.answer("answer", request("attributes/1/answer", "is it big ?"), compact) is None  # people are divided
    assert truth.answer("answer", request("attributes/1/answer", "is it wet ?"), compact) is None
    assert truth.answer("answer", request("attributes/1/score", "is it red ?"), compact) is None  # another stage
    assert truth.answer("evaluate", request("attributes/1/score", "is it blue ?"), compact) == "3"
    assert truth.answer("evaluate", request("attributes/1/explain", "is it red ?"), compact) == "all right"
    assert truth.answer("summarise", request("summary/attributes/score", ""), compact) == "7"
    assert truth.answer("evaluate", request("summary/attributes/score", ""), compact) is None


def test_a_stage_of_which_nothing_is_known_has_no_figure(compact: Wording) -> None:
    truth = Truth.of(SHAPES.items, SHAPES.elements, schema.ELEMENT_RATINGS.empty(), SHAPES.ratings)
    items = schema.ITEMS.check(SHAPES.items.head(24))
    table = attribute_errors(
        items, WrongIn(compact, "summarise"), compact, PHRASES, truth, name="sft", options=ProtocolOptions()
    )
    rows = error_attribution(table, items, SHAPES.ratings, "overall", 100, 0.95, 0)
    by_stage = {row["true_stage"]: row for row in rows}
    assert by_stage["answer"]["change"]["value"] is None
    assert by_stage["answer"]["change"]["reason"] == "nothing of this stage is known"
    assert by_stage["summarise"]["change"]["value"] is not None


def test_the_judge_is_not_asked_what_the_truth_answers(compact: Wording) -> None:
    class Counting(WrongIn):
        asked = 0

        def answer(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
            self.asked += sum(request.step.endswith("/answer") for request in requests)
            yield from super().answer(requests)

    judge = Counting(compact, "nothing")
    question = SHAPES.elements["question"].iloc[0]
    item = str(SHAPES.items["item_id"].iloc[0])
    request = Request(item, "attributes/0/answer", "attributes_1", "attributes", (), 1, context={"question": question})
    backend = WithTrueStage(judge, TRUTH, "answer", compact)
    assert [text.text for _, text in backend.answer([request])] in (["yes"], ["no"])
    assert (judge.asked, backend.replaced[item]) == (0, 1)


def test_items_are_drawn_among_those_whose_prompts_have_questions() -> None:
    some = choose_items(SHAPES.items, SHAPES.elements, 10)
    assert len(some) == 10
    assert list(some["item_id"]) == list(choose_items(SHAPES.items, SHAPES.elements, 10)["item_id"])
    assert choose_items(SHAPES.items, SHAPES.elements.assign(question=pd.NA), 10).empty
    assert choose_items(SHAPES.items, SHAPES.elements, 0).empty


def test_the_final_score_is_compared_with_people_s_overall_rating_or_the_nearest_to_it() -> None:
    def rated(*names: str) -> pd.DataFrame:
        return pd.DataFrame({"dimension": names})

    assert final_dimension(rated("appearance", "O")) == "O"
    assert final_dimension(rated("quality", "alignment")) == "alignment"
    assert final_dimension(rated("beauty")) == "beauty"
    assert final_dimension(rated()) is None
