"""Evaluators: names, dimensions under the names that people used, elements of the caller, comparisons."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from t2i_eval_kedro import schema
from t2i_eval_kedro.judging.evaluators import JudgingSettings, judge_items, teacher_kind
from t2i_eval_kedro.judging.protocols import Answer, Wording
from t2i_eval_kedro.judging.protocols.registry import PROTOCOLS, build, resolved

CONF = Path(__file__).parents[2] / "conf/base"
ITEMS = schema.ITEMS.frame(
    {"item_id": i, "benchmark": "b", "prompt_id": "p", "prompt": "a cat", "generator": "g", "image": f"{i}.png"}
    for i in ("i", "j")
)
ELEMENTS = schema.ELEMENTS.frame(
    [{"prompt_id": "p", "element_id": "e1", "text": "a cat", "skill": "object", "question": "Is there a cat?"}]
)


class Scripted:
    """Says the same to every request of a task."""

    def __init__(self, **by_task: str) -> None:
        self.by_task = by_task

    def answer(self, requests):
        for i, request in enumerate(requests):
            yield i, Answer(self.by_task[request.task])


def test_scores_take_the_names_that_people_used(full: Wording) -> None:
    judge = Scripted(holistic_sc='{"score": [4]}', holistic_pq='{"score": [9, 9]}', yes_no="Yes", score="5")
    phrases = {"SC": "x", "PQ": "y"}
    said = judge_items(ITEMS, judge, full, phrases, ["levels", "holistic", "dsg"], name="m", elements=ELEMENTS)
    found = {
        (row.judge, row.protocol, row.dimension): row.score
        for row in said.scores[said.scores["item_id"] == "i"].itertuples()
    }
    assert found == {
        ("m", "levels", "SC"): pytest.approx(50 / 9),
        ("m", "levels", "PQ"): pytest.approx(50 / 9),
        ("m", "holistic", "SC"): 4,
        ("m", "holistic", "PQ"): 9,
        ("m", "holistic", "overall"): 6,
        ("m", "dsg", "SC"): 10,
    }
    assert (
        said.element_scores[["element_id", "judge", "protocol", "score"]].values.tolist()
        == [["e1", "m", "dsg", 1.0]] * 2
    )


def test_a_protocol_whose_dimensions_nobody_rated_is_not_run(full: Wording) -> None:
    said = judge_items(ITEMS, Scripted(score="5"), full, {"mood": "x"}, ["levels", "holistic", "similarity"], name="m")
    assert set(said.scores["protocol"]) == {"levels"}


def test_elements_are_scored_where_people_labelled_them_though_nobody_rated_alignment(full: Wording) -> None:
    judge = Scripted(yes_no="Yes", score="5")
    said = judge_items(ITEMS, judge, full, {"mood": "x"}, ["levels", "dsg"], name="m", elements=ELEMENTS)
    assert said.element_scores[["item_id", "protocol", "score"]].values.tolist() == [
        ["i", "dsg", 1.0],
        ["j", "dsg", 1.0],
    ]
    of_dsg = said.scores[said.scores["protocol"] == "dsg"]
    assert set(of_dsg["dimension"]) == {""}  # is compared with everything that they rated


def test_a_protocol_for_pairs_is_not_run_on_single_images(full: Wording) -> None:
    said = judge_items(ITEMS, Scripted(score="5"), full, {"mood": "x"}, ["pairwise", "levels"], name="m")
    assert set(said.scores["protocol"]) == {"levels"}


def test_every_protocol_is_built_by_its_name(full: Wording) -> None:
    labels = [build(name, full).label for name in PROTOCOLS]
    assert [label.partition("@")[0].removesuffix("_text") for label in labels] == list(PROTOCOLS)


def test_an_unknown_protocol_is_refused_with_those_there_are() -> None:
    settings = yaml.safe_load((CONF / "parameters_judging.yml").read_text())["judging"]
    with pytest.raises(ValidationError, match="no protocol 'dgs'; the protocols are levels, decomposed"):
        JudgingSettings(**settings | {"protocols": ["dgs"]})
    assert JudgingSettings(**settings | {"protocols": list(PROTOCOLS)}).options.answer_vocabulary == "digits"


@pytest.mark.parametrize(
    ("names", "tasks", "protocols"),
    [
        (["taught"], ["subtasks", "score"], ["levels", "decomposed"]),
        (["taught", "dsg"], ["score"], ["levels", "dsg"]),  # no teacher was asked
        (["taught", "expected"], ["published_subtasks"], ["decomposed", "decomposed_levels"]),
        (["taught", "expected"], ["direct"], ["direct", "direct_levels"]),
        (["expected", "taught"], ["score"], ["levels"]),
        (["decomposed", "levels"], ["score"], ["decomposed", "levels"]),  # asked for by name
        (["levels", "taught"], ["elements", "score"], ["levels", "pn_vqa"]),
    ],
)
def test_what_was_taught_is_asked_and_what_is_named(names: list[str], tasks: list[str], protocols: list[str]) -> None:
    assert resolved(names, tasks) == protocols


def test_the_teacher_of_a_real_benchmark_is_human_unless_one_is_named() -> None:
    assert [teacher_kind("auto", synthetic=synthetic) for synthetic in (True, False)] == ["simulated", "human"]
    assert teacher_kind("recorded", synthetic=False) == "recorded"
