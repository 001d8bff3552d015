from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from plain_settings import settings_of

from t2i_eval_kedro import schema
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.backends.simulated import SimulatedBackend
from t2i_eval_kedro.judging.evaluators import evaluation_items, judge_items
from t2i_eval_kedro.judging.protocols import Answer, EvaluationItem, Wording
from t2i_eval_kedro.judging.protocols.conversation import Conversation
from t2i_eval_kedro.judging.protocols.registry import ProtocolOptions
from t2i_eval_kedro.judging.protocols.wording import WordingSettings
from t2i_eval_kedro.schema import TRANSCRIPTS
from t2i_eval_kedro.shapes.make import make_shapes
from t2i_eval_kedro.shapes.second_round import disputed
from t2i_eval_kedro.teacher.text_only import PROMPT
from t2i_eval_kedro.training.examples import means_on_ten, require_protocols
from t2i_eval_kedro.training.rebalancing import rebalance
from t2i_eval_kedro.training.recipes import Sources, build_examples
from t2i_eval_kedro.training.settings import ExampleSettings, taught_tasks

CONF = Path(__file__).parents[2] / "conf" / "base"
PHRASES = {name: name for name in ("appearance", "attributes", "overall", "relations")}


@pytest.fixture(scope="module")
def wording() -> Wording:
    settings = yaml.safe_load((CONF / "parameters_judging.yml").read_text())["judging"]["wordings"]["compact"]
    return Wording.load(CONF / "prompts", "compact", WordingSettings(**settings))


@pytest.fixture(scope="module")
def tables(wording: Wording) -> Sources:
    made = make_shapes(n_prompts=10, seed=3)
    teacher = SimulatedBackend(made.items, wording, seed=0, error_rate=0.02, score_noise=0.3)
    said = judge_items(made.items, teacher, wording, PHRASES, ["decomposed"], name="teacher")
    splits = made.items[["item_id"]].assign(split_name="t", fold="train")
    held_out = made.items["prompt_id"].isin(["p0008", "p0009"])
    splits.loc[held_out, "fold"] = ["validation", "test"] * (int(held_out.sum()) // 2)
    text = TRANSCRIPTS.empty()
    return Sources(
        made.items, splits, made.ratings, made.elements, made.element_ratings, said.transcripts, text, said.scores
    )


@pytest.fixture(scope="module")
def build(tables: Sources, wording: Wording) -> Callable[..., pd.DataFrame]:
    return lambda **dials: build_examples(
        tables, PHRASES, ProtocolOptions(), wording, settings_of(ExampleSettings, **dials)
    )


def test_nothing_is_taught_of_the_test_fold(build: Callable[..., pd.DataFrame], tables: Sources) -> None:
    test = set(tables.splits.loc[tables.splits["fold"] == "test", "item_id"])
    for task in (
        *("subtasks", "published_subtasks", "conversation", "direct", "score", "elements", "negative_elements"),
        *("reason", "reason_aspects", "reason_pair"),
    ):
        examples = build(tasks=[task])
        assert len(examples)
        assert not test & set(examples["item_id"])


def test_the_conversation_is_what_the_protocol_asks(
    build: Callable[..., pd.DataFrame], tables: Sources, wording: Wording
) -> None:
    example = build(tasks=["conversation"]).iloc[0]
    assert example["weight"] == 1
    said = tables.transcripts[tables.transcripts["item_id"] == example["item_id"]]
    item = tables.items.set_index("item_id").loc[example["item_id"]]
    evaluation_item = EvaluationItem(str(example["item_id"]), item["prompt"], item["image"])
    answers = {row.step: Answer(row.answer) for row in said.itertuples() if row.step != "merge/score"}
    (request,) = Conversation(wording).requests(evaluation_item, answers)
    taught = json.loads(example["messages"])
    assert request.step == "merge/score"
    assert [m | {"learn": None} for m in taught] == [m | {"learn": None} for m in request.chat]
    assert all(message.get("learn") == (message["role"] == "assistant" or None) for message in taught)


def test_a_direct_example_reads_as_the_scores_it_was_made_of(
    build: Callable[..., pd.DataFrame], tables: Sources, wording: Wording
) -> None:
    from t2i_eval_kedro.judging.protocols.direct import Direct

    given = tables.scores.set_index(["item_id", "dimension"])["score"]
    for row in build(tasks=["direct"]).itertuples():
        evaluation_item = EvaluationItem(str(row.item_id), "", "", PHRASES)
        verdict = Direct(wording).verdict(evaluation_item, {"direct": Answer(str(row.completion))})
        for dimension, score in verdict.scores.items():
            expected = given[row.item_id, dimension]
            assert (score.value is None) == pd.isna(expected)
            assert score.value is None or score.value == pytest.approx(expected, abs=0.5)
            assert score.explanation
        assert str(row.completion).split()[0] in wording.levels


def test_peoples_scores_and_the_spread_of_raters(build: Callable[..., pd.DataFrame], tables: Sources) -> None:
    examples = build(tasks=["score"], scores="people").set_index(["item_id", "aspect"])
    (item, dimension), rated = next(iter(tables.ratings.groupby(["item_id", "dimension"])))
    low, high = rated["scale_min"].iloc[0], rated["scale_max"].iloc[0]
    assert examples["score"][item, dimension] == pytest.approx(10 * (rated["score"].mean() - low) / (high - low))
    means = means_on_ten(tables.ratings).set_index(["item_id", "dimension"])
    assert means["std"][item, dimension] == pytest.approx(10 / (high - low) * np.std(rated["score"]))


def test_ratings_from_one_to_five_go_from_nought_to_ten() -> None:
    rows = [
        {"item_id": "i", "rater_id": rater, "score": score} for rater, score in (("a", 1), ("b", 3), ("c", 5), ("d", 5))
    ]
    same = {"dimension": "overall", "scale_min": 1, "scale_max": 5, "off_scale": False}
    means = means_on_ten(schema.RATINGS.frame(row | same for row in rows))
    assert means["score"].tolist() == pytest.approx([(0 + 5 + 10 + 10) / 4])
    assert means["std"].tolist() == pytest.approx([np.std([0, 5, 10, 10])])


def test_soft_labels_have_peoples_mean(build: Callable[..., pd.DataFrame]) -> None:
    examples = build(tasks=["score"], soft="corrected")
    for row in examples.itertuples():
        label = {float(level): value for level, value in json.loads(str(row.soft_label)).items()}
        assert sum(label.values()) == pytest.approx(1)
        assert sum(level * value for level, value in label.items()) == pytest.approx(row.score, abs=1e-6)


def test_smaller_fractions_of_the_prompts_are_nested(build: Callable[..., pd.DataFrame]) -> None:
    def prompts(share: float, fold: str = "train") -> set[str]:
        examples = build(tasks=["score"], prompt_fraction=share)
        return {item[:5] for item in examples.loc[examples["fold"] == fold, "item_id"]}

    assert [len(prompts(share)) for share in (0.25, 0.5, 1)] == [2, 4, 8]
    assert prompts(0.25) < prompts(0.5) < prompts(1)
    assert prompts(0.25, "validation") == prompts(1, "validation")


def test_a_generator_is_left_out(build: Callable[..., pd.DataFrame]) -> None:
    examples = build(leave_out=["shapes-misty"])
    assert not examples["item_id"].str.endswith("misty").any()
    with pytest.raises(T2IEvalError, match=r"no generator 'mist' to leave out"):
        build(leave_out=["mist"])


def test_variance_weights_rise_with_the_spread_and_are_one_on_average(
    build: Callable[..., pd.DataFrame], tables: Sources
) -> None:
    examples = build(tasks=["score"], variance_weight=True)
    by_prompt = examples.groupby(examples["item_id"].str[:5])["weight"].agg(["min", "max"])
    assert (by_prompt["min"] == by_prompt["max"]).all()
    overall = tables.scores[tables.scores["dimension"] == "overall"]
    spread = overall.groupby(overall["item_id"].str[:5])["score"].var().reindex(by_prompt.index)
    assert spread.corr(by_prompt["min"]) == pytest.approx(1)
    assert by_prompt["min"].min() >= 0.5
    assert by_prompt["min"].mean() == pytest.approx(1)


def test_examples_of_further_prompts_weigh_one_beside_those_of_a_spread(tables: Sources, wording: Wording) -> None:
    """They have no images whose scores could lie apart."""
    steps = tables.transcripts[tables.transcripts["step"] == "extract"]
    further = replace(tables, about_text=steps.assign(item_id=PROMPT + steps["item_id"]))
    settings = settings_of(ExampleSettings, tasks=["subtasks"], text_only=True, variance_weight=True)
    weight = build_examples(further, PHRASES, ProtocolOptions(), wording, settings).set_index("item_id")["weight"]
    of_further = weight.index.str.startswith(PROMPT)
    assert of_further.any()
    assert (weight[of_further] == 1).all()
    assert weight[~of_further].nunique() > 1


def test_a_mixture_with_an_item_that_is_left_out_is_not_learned_whatever_items_are_called(
    tables: Sources, wording: Wording
) -> None:
    def renamed(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(item_id="prompt/" + table["item_id"].str.replace("-", "+"))

    a, b, misty = (f"prompt/p0000+{name}" for name in ("grainy", "mirror", "misty"))
    steps = renamed(tables.transcripts)
    assert {a, b, misty} <= set(steps["item_id"])
    extract = steps[steps["step"] == "extract"].head(1)
    about = [extract.assign(item_id=name, answer=name) for name in (f"{a}+{b}", f"{a}+{misty}", "prompt/00000")]
    changed = {
        name: renamed(getattr(tables, name)) for name in ("items", "splits", "ratings", "element_ratings", "scores")
    }
    sources = replace(tables, **changed, transcripts=steps, about_text=pd.concat(about))
    settings = settings_of(ExampleSettings, tasks=["subtasks"], text_only=True, leave_out=["shapes-misty"])
    learned = set(build_examples(sources, PHRASES, ProtocolOptions(), wording, settings)["item_id"])
    assert {f"{a}+{b}", "prompt/00000"} <= learned
    assert f"{a}+{misty}" not in learned


def test_people_are_learned_from_after_a_second_round(build: Callable[..., pd.DataFrame], tables: Sources) -> None:
    first, second = (
        build(tasks=["score"], scores="people", second_round=rounds).set_index(["item_id", "aspect"])["score"]
        for rounds in (None, 0.25)
    )
    asked = tables.ratings[disputed(tables.ratings)].set_index(["item_id", "dimension"]).index
    changed = first.index[first != second]
    assert len(changed) > 0
    assert set(changed) <= set(asked)


def test_a_second_round_of_people_is_refused_where_a_teacher_s_scores_are_taught(
    build: Callable[..., pd.DataFrame],
) -> None:
    with pytest.raises(T2IEvalError, match=r"examples\.second_round .* set examples\.scores=people"):
        build(tasks=["score"], second_round=0.25)
    assert len(build(tasks=["score"], second_round=0.25, soft="corrected"))  # a distribution of people's


def test_the_published_subtasks_are_two_examples_a_question(build: Callable[..., pd.DataFrame]) -> None:
    ours, published = (build(tasks=[task]).set_index("example_id") for task in ("subtasks", "published_subtasks"))
    about = ours[ours["aspect"].isin(["attributes", "relations"]) & ~ours.index.str.contains("summary")]
    chats = published.loc[about.index[about.index.str.endswith("/explain")]]
    assert len(published) == len(ours) - len(chats)
    for name, chat in chats["messages"].items():
        asked, answered, _ = json.loads(chat)
        assert asked == json.loads(ours.loc[name.replace("/explain", "/answer"), "messages"])[0]
        assert answered["learn"]
        assert answered["text"] == ours.loc[name.replace("/explain", "/answer"), "completion"]
    assert not published.loc[published.index.difference(chats.index), "messages"].str.contains('"learn"').any()


def test_negative_questions_have_the_other_answer(build: Callable[..., pd.DataFrame]) -> None:
    positive, negative = build(tasks=["elements"]), build(tasks=["elements", "negative_elements"])
    negative = negative[negative["task"] == "yes_no_negative"].set_index("question_id")["completion"]
    positive = positive.set_index("question_id")["completion"]
    assert set(negative.index) == set(positive.index)
    assert all({positive[name], negative[name]} == {"yes", "no"} for name in positive.index)


def test_where_no_teacher_was_asked_scores_are_taught_and_steps_alone_are_refused(
    tables: Sources, wording: Wording, caplog: pytest.LogCaptureFixture
) -> None:
    untaught = replace(tables, transcripts=tables.transcripts.iloc[:0], scores=tables.scores.iloc[:0])

    def tasks(*named: str) -> set[str]:
        settings = settings_of(ExampleSettings, tasks=list(named))
        return set(build_examples(untaught, PHRASES, ProtocolOptions(), wording, settings)["task"])

    assert tasks("subtasks", "conversation", "score") == {"score"}
    assert "'conversation' (examples.tasks) is not taught" in caplog.text
    with pytest.raises(T2IEvalError, match=r"no teacher was asked; set teacher\.kind"):
        tasks("published_subtasks")
    assert taught_tasks(["subtasks", "elements", "score"], "human") == ["elements", "score"]
    assert taught_tasks(["subtasks", "score"], "recorded") == ["subtasks", "score"]


def test_elements_are_answered_as_most_people_did(build: Callable[..., pd.DataFrame], tables: Sources) -> None:
    examples = build(tasks=["elements"]).set_index("example_id")
    shares = tables.element_ratings.groupby(["item_id", "element_id"])["label"].mean()
    for (item, element), share in shares.items():
        name = f"{item}/yes_no/{element}"
        if name in examples.index:
            assert examples["completion"][name] == ("yes" if share > 0.5 else "no")
    assert set(examples["completion"]) == {"yes", "no"}


def test_skills_are_answered_by_the_median_option(tables: Sources, wording: Wording) -> None:
    face = "faithfulness/face"
    items = tables.items.iloc[:2].assign(prompt_id="q")
    elements = pd.DataFrame([{"prompt_id": "q", "element_id": face, "text": "face", "skill": face, "expected": "4"}])
    ratings = pd.concat(
        tables.ratings.iloc[:1].assign(item_id=items["item_id"].iloc[n], rater_id=str(r), dimension=face, score=score)
        for n, scores in enumerate([(0, 1, 4), (2, 4)])
        for r, score in enumerate(scores)
    )
    own = replace(
        tables,
        items=items,
        splits=items[["item_id"]].assign(split_name="t", fold="train"),
        ratings=ratings,
        elements=elements.assign(question="The face? 0: bad; 4: good.", parents=None),
    )
    examples = build_examples(
        own, {face: "face"}, ProtocolOptions(), wording, settings_of(ExampleSettings, tasks=("skills",))
    )
    assert list(examples["completion"]) == ["1", "2"]
    assert examples["messages"].str.contains("0: bad; 4: good.").all()


def test_an_empty_task_is_refused(build: Callable[..., pd.DataFrame]) -> None:
    with pytest.raises(T2IEvalError, match=r"task 'skills' .* has no training example"):
        build(tasks=["score", "skills"])


def test_the_sampler_draws_filled_bins_alike(build: Callable[..., pd.DataFrame]) -> None:
    examples = build(tasks=["subtasks", "score"])
    balanced, table = rebalance(examples, method="weighted", shares={"score": 0.25})
    assert list(balanced["example_id"]) == list(examples["example_id"])
    assert balanced.loc[balanced["fold"] != "train", "frequency"].isna().all()
    own = balanced[(balanced["fold"] == "train") & (balanced["task"] == "score") & (balanced["aspect"] == "overall")]
    mass = own.groupby(np.minimum(np.floor(own["score"]), 10))["frequency"].sum()
    assert mass.to_numpy() == pytest.approx(mass.mean())
    scores = balanced[(balanced["fold"] == "train") & (balanced["task"] == "score")]
    assert scores["frequency"].sum() == pytest.approx(0.25 * (balanced["fold"] == "train").sum())
    assert set(table.columns) == {"task", "aspect", "bin", "before", "after"}


def test_examples_of_another_version_are_refused(build: Callable[..., pd.DataFrame]) -> None:
    examples = build(tasks=["score"])
    label = examples["prompt_version"].iloc[0]
    assert require_protocols(examples, [label]) is examples
    with pytest.raises(
        T2IEvalError, match=rf"{len(examples)} training examples were written with prompt version '{label}'"
    ):
        require_protocols(examples, [label.replace("/compact@", "/compact@9")])
    assert len(require_protocols(examples.assign(prompt_version=None), [])) == len(examples)


def test_categories_of_elements_stand_in_the_request_that_is_learned_and_asked(
    tables: Sources, wording: Wording
) -> None:
    options = ProtocolOptions(categories=True)
    levels = options.levels(wording)
    examples = build_examples(tables, PHRASES, options, wording, settings_of(ExampleSettings, tasks=["score"]))
    item = tables.items.set_index("item_id").loc[examples["item_id"].iloc[0]]
    skills = set(tables.elements.loc[tables.elements["prompt_id"] == item["prompt_id"], "skill"])
    text = json.loads(examples["messages"].iloc[0])[0]["text"]
    assert skills
    assert all(skill in text for skill in skills)
    asked = evaluation_items(tables.items, PHRASES, tables.elements)
    (same,) = (s for s in asked if s.item_id == examples["item_id"].iloc[0])
    assert examples["messages"].iloc[0] in {request.messages_json for request in levels.requests(same, {})}


@pytest.mark.parametrize("vocabulary", ["words", "yes_no"])
def test_soft_labels_are_over_the_words_of_the_vocabulary(tables: Sources, wording: Wording, vocabulary: str) -> None:
    options = ProtocolOptions(answer_vocabulary=vocabulary)
    levels = options.levels(wording)
    soft = settings_of(ExampleSettings, tasks=["score"], soft="corrected")
    examples = build_examples(tables, PHRASES, options, wording, soft)
    probabilities = json.loads(examples["soft_label"].iloc[0])
    assert list(probabilities) == list(levels.vocabulary.levels)
    assert sum(probabilities.values()) == pytest.approx(1)
