"""Thoughts made of a teacher's chain, and the examples made of them."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from t2i_eval_kedro.judging.backends.simulated import SimulatedBackend
from t2i_eval_kedro.judging.evaluators import judge_items
from t2i_eval_kedro.judging.protocols import EvaluationItem, Wording
from t2i_eval_kedro.judging.protocols.reasoning import IMAGES, Pairwise, Reasoning, ReasoningAspects, parse_reasoned
from t2i_eval_kedro.shapes import truth
from t2i_eval_kedro.shapes.make import make_shapes
from t2i_eval_kedro.steps import REASONING
from t2i_eval_kedro.training.critiques import critiques, pairs_of, reasoning_examples
from t2i_eval_kedro.training.rebalancing import rebalance

PHRASES = {name: name for name in ("appearance", "attributes", "overall", "relations")}
MADE = make_shapes(n_prompts=12, seed=3)


@pytest.fixture(scope="module")
def said(load_wording):
    wording = load_wording("compact")
    teacher = SimulatedBackend(MADE.items, wording, seed=0, error_rate=0, score_noise=0)
    return judge_items(MADE.items, teacher, wording, PHRASES, ["decomposed"], name="teacher")


def test_a_critique_names_every_fault_that_the_teacher_found_and_nothing_else(said, compact: Wording) -> None:
    thoughts = critiques(said.transcripts, compact)
    assert set(thoughts) == set(MADE.items["item_id"])
    faultless = 0
    for item, text in zip(MADE.items["item_id"], MADE.items["attributes"], strict=True):
        attributes = json.loads(text)
        *faults, clarity = thoughts[item].split(" . ")
        assert clarity == f"it is {truth.describe_appearance(attributes)}"
        wrong = [name for name, holds in attributes["elements"].items() if not holds]
        assert (faults == ["nothing wrong"]) == (not wrong)
        faultless += not wrong
        # what hangs on a missing shape is named once, by the shape
        expected = {seen if (seen := truth.describe(attributes, name)).startswith("no ") else name for name in wrong}
        assert len(faults) == max(len(expected), 1)
        assert {fault for fault in faults if fault.startswith("no ")} == {
            name for name in expected if name.startswith("no ")
        }
    assert 0 < faultless < len(thoughts)


def test_an_incomplete_chain_makes_no_critique(said, compact: Wording) -> None:
    item = MADE.items["item_id"][0]
    cut = said.transcripts[(said.transcripts["item_id"] != item) | (said.transcripts["step"] != "merge/score")]
    assert set(critiques(cut, compact)) == set(MADE.items["item_id"]) - {item}


@pytest.mark.parametrize("task", ["reason", "reason_aspects", "reason_pair"])
def test_examples_are_what_the_protocols_ask_and_read(task: str, said, compact: Wording) -> None:
    folds = {item: "train" if n % 8 < 6 else "test" for n, item in enumerate(MADE.items["item_id"])}
    thoughts = critiques(said.transcripts, compact)
    made = reasoning_examples(task, said.scores, MADE.items, folds, PHRASES, compact, thoughts)
    assert len(made) == sum(fold == "train" for fold in folds.values())
    scores = said.scores.set_index(["item_id", "dimension"])["score"]
    by_id = MADE.items.set_index("item_id")
    for row in made.itertuples():
        a, _, b = row.example_id.removesuffix(f"/{row.task}").partition("/")[0].partition("|")
        item = by_id.loc[a]
        other = by_id.loc[b, "image"] if b else ""
        subject = EvaluationItem(row.item_id, item["prompt"], item["image"], PHRASES, comparison_image=other)
        protocol = {"reason": Reasoning, "reason_aspects": ReasoningAspects, "reason_pair": Pairwise}[task](compact)
        asked = {request.messages_json for request in protocol.requests(subject, {})}
        assert row.messages in asked
        assert row.prompt_version == protocol.label
        names = {"reason": (), "reason_aspects": list(PHRASES), "reason_pair": IMAGES}[task]
        read = parse_reasoned(row.completion, names)
        assert thoughts[a] in read.thought
        if task == "reason_pair":
            assert read.scores == (round(scores[a, "overall"]), round(scores[b, "overall"]))
            assert pd.isna(row.score)  # it states two, and is balanced over neither
        else:
            stated = read.scores[list(names).index("overall") if names else 0]
            assert stated == round(scores[a, "overall"])
            assert row.score == scores[a, "overall"]


def test_each_image_is_the_first_of_one_pair_and_the_second_of_another() -> None:
    items = pd.DataFrame({"item_id": [*"edcba", "x", "y", "z"], "prompt": ["p"] * 5 + ["q", "q", "r"]})
    pairs = list(pairs_of(items))
    assert pairs == [("a", "b"), ("b", "c"), ("c", "d"), ("d", "e"), ("e", "a"), ("x", "y")]


def test_requests_alone_need_no_teacher(said, compact: Wording) -> None:
    folds = dict.fromkeys(MADE.items["item_id"], "train")
    made = reasoning_examples("reason", said.scores, MADE.items, folds, PHRASES, compact, None)
    assert len(made) == len(MADE.items)
    assert set(made["completion"]) == {""}
    pairs = reasoning_examples("reason_pair", said.scores, MADE.items, folds, PHRASES, compact, None)
    scores = said.scores[said.scores["dimension"] == "overall"].set_index("item_id")["score"]
    a, b = zip(*(name.split("/")[0].split("|") for name in pairs["example_id"]), strict=True)
    assert pairs["score"].tolist() == pytest.approx((scores[[*a]].to_numpy() - scores[[*b]].to_numpy()).tolist())


def test_examples_of_every_kind_are_balanced_by_every_method(said, compact: Wording) -> None:
    folds = dict.fromkeys(MADE.items["item_id"], "train")
    thoughts = critiques(said.transcripts, compact)
    made = pd.concat(
        reasoning_examples(task, said.scores, MADE.items, folds, PHRASES, compact, thoughts) for task in REASONING
    )
    for method in ("weighted", "official", "oversample", "none"):
        balanced, _ = rebalance(
            made, method=method, shares={"reason": 0.5, "reason_pair": 0.5} if method == "weighted" else None
        )
        assert set(balanced["task"]) == set(REASONING)


def test_the_tokens_of_the_tags_are_trained_where_answers_reason(said, compact: Wording) -> None:
    from kedro_project import ROOT

    from t2i_eval_kedro.models.processors import load_processor
    from t2i_eval_kedro.training.sft import score_tokens

    processor = load_processor(ROOT / "data/06_models/tiny_vlm")
    folds = dict.fromkeys(MADE.items["item_id"], "train")
    made = reasoning_examples(
        "reason", said.scores, MADE.items, folds, PHRASES, compact, critiques(said.transcripts, compact)
    )
    trained = set(score_tokens(made, processor))
    text = made["completion"].iloc[0]
    used = processor.tokenizer.encode(text, add_special_tokens=False)
    words = [processor.tokenizer.convert_ids_to_tokens(token) for token in used if token in trained]
    assert "".join(words).replace("Ġ", "") == "<think></think><answer></answer>"
    assert not score_tokens(made.assign(task="extract"), processor)
