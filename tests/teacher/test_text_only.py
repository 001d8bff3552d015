from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from t2i_eval_kedro.datasets.answer_store import AnswerStore
from t2i_eval_kedro.datasets.image_store import ImageStore
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.backends.simulated import SimulatedBackend
from t2i_eval_kedro.judging.evaluators import judge_items
from t2i_eval_kedro.judging.protocols import Wording
from t2i_eval_kedro.judging.protocols.decomposed import Decomposed
from t2i_eval_kedro.judging.protocols.parsing import parse_questions
from t2i_eval_kedro.pipelines.teacher_distillation.nodes import ask_teacher
from t2i_eval_kedro.schema import TRANSCRIPTS
from t2i_eval_kedro.shapes.make import make_shapes
from t2i_eval_kedro.shapes.prompts import ScenePrompt, elements
from t2i_eval_kedro.teacher.teachers import Material, TeacherSettings, ask_about_text
from t2i_eval_kedro.teacher.text_only import (
    ask_about_findings,
    ask_extractions,
    ask_mixtures,
    further_prompts,
    mixed_items,
    read_findings,
)

PHRASES = {name: name for name in ("appearance", "attributes", "overall", "relations")}


@pytest.fixture(scope="module")
def items() -> pd.DataFrame:
    return make_shapes(4, 0).items


def teacher(items: pd.DataFrame, wording: Wording) -> SimulatedBackend:
    return SimulatedBackend(items, wording, seed=0, error_rate=0.0, score_noise=0.0)


def test_drawn_prompts_state_nothing_that_the_benchmark_states(items: pd.DataFrame) -> None:
    everything = make_shapes(300, 0).items

    def cores(rows: pd.DataFrame) -> set[str]:
        return {ScenePrompt.from_json(json.loads(text)["prompt_scene"]).core for text in rows["attributes"]}

    unguarded = further_prompts(items, 3000, seed=1)
    guarded = further_prompts(everything, 3000, seed=1)
    assert cores(unguarded) & cores(everything)  # which the guard would have to leave out
    assert not cores(guarded) & cores(everything)
    assert len(cores(guarded)) == len(guarded) == 3000
    assert further_prompts(everything, 3000, seed=1).equals(guarded)
    assert len(further_prompts(items, 0, seed=1)) == 0


def test_prompts_of_a_file_without_those_of_the_benchmark_and_their_twins(items: pd.DataFrame, tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    twin = "The " + items["prompt"].iloc[0].upper().replace("A ", "a ") + " !"
    file.write_text(f"a cat on a mat\n\n{twin}\nA cat, on a mat.\ntwo dogs\n", encoding="utf-8")
    assert list(further_prompts(items, str(file), seed=0)["prompt"]) == ["a cat on a mat", "two dogs"]
    file.write_text(twin, encoding="utf-8")
    with pytest.raises(T2IEvalError, match="no prompt that is not one of the benchmark's"):
        further_prompts(items, str(file), seed=0)
    with pytest.raises(T2IEvalError, match="cannot be read"):
        further_prompts(items, str(tmp_path / "none.txt"), seed=0)


def test_a_prompt_of_the_benchmark_in_a_list_or_a_table_is_none_of_the_further_ones(
    items: pd.DataFrame, tmp_path: Path
) -> None:
    known, others = items["prompt"].iloc[0], ["3 cats on a mat", "2.5 litres of milk", 'two "dogs"']
    lines = [f"{n}{known}" for n in ("1. ", " 2) ", "(3) ", "4.", "")] + [f'"{known}"', f"6. '{known}'"]
    file = tmp_path / "prompts.txt"
    file.write_text(
        "\n".join([*lines, others[0], "7. " + others[1], "8) 3 cats on a mat", others[2]]), encoding="utf-8"
    )
    assert list(further_prompts(items, str(file), seed=0)["prompt"]) == others
    numbered = items.assign(prompt="007. A cat")
    file.write_text("007. A cat\na cat\na dog", encoding="utf-8")
    assert list(further_prompts(numbered, str(file), seed=0)["prompt"]) == ["a dog"]
    for name, mark in (("p.csv", ","), ("p.TSV", "\t")):
        table = pd.DataFrame({"id": range(4), "prompt": [known, f"2. {known}", "a cat, on a mat", "3 dogs"]})
        table.to_csv(tmp_path / name, sep=mark, index=False)
        made = further_prompts(items, str(tmp_path / name), seed=0)
        assert list(made["prompt"]) == ["a cat, on a mat", "3 dogs"]


def test_a_table_of_prompts_that_cannot_be_read_is_refused(items: pd.DataFrame, tmp_path: Path) -> None:
    file = tmp_path / "prompts.csv"
    file.write_text('"a red cube",P0\n', encoding="utf-8")
    with pytest.raises(T2IEvalError, match=r"must have the columns prompt.*lacks prompt and has a red cube, P0"):
        further_prompts(items, str(file), seed=0)
    file.write_text("prompt\na cat, on a mat\n", encoding="utf-8")
    with pytest.raises(
        T2IEvalError, match=r"prompts\.csv:2: 2 cells where 1 belong; correct the file of teacher\.extra_prompts"
    ):
        further_prompts(items, str(file), seed=0)


def test_prompts_are_drawn_for_shapes_alone(items: pd.DataFrame) -> None:
    assert further_prompts(items.assign(attributes=None), 5, seed=0).empty


def test_extractions_show_no_image_and_ask_what_the_prompt_states(items: pd.DataFrame, load_wording: Any) -> None:
    wording: Wording = load_wording("compact")
    prompts = further_prompts(items, 20, seed=0)
    said = ask_extractions(prompts, Decomposed(wording), teacher(prompts, wording))
    assert list(said["step"]) == ["extract"] * 20
    for row, text in zip(said.itertuples(), prompts["attributes"], strict=True):
        (message,) = json.loads(str(row.messages))
        assert message["images"] == []
        asked = {question.text for question in parse_questions(str(row.answer)) if question.aspect != "appearance"}
        assert asked == {
            element.question for element in elements(ScenePrompt.from_json(json.loads(text)["prompt_scene"]))
        }


def test_mixtures_sum_up_what_was_found_in_two_images(items: pd.DataFrame, load_wording: Any) -> None:
    wording: Wording = load_wording("compact")
    chain, backend = Decomposed(wording, text_stages=True), teacher(items, load_wording("compact"))
    said = judge_items(items, backend, wording, PHRASES, ["decomposed"], name="teacher").transcripts
    training = items[items["prompt_id"] != "p0000"]
    mixed = ask_mixtures(said, training, chain, backend, per_prompt=5, seed=0)
    assert mixed["item_id"].nunique() == 3 * 5
    assert set(mixed["step"].str.partition("/")[0]) == {"summary", "merge"}
    assert not mixed["messages"].map(lambda text: any(turn["images"] for turn in json.loads(text))).any()
    scores = said.set_index(["item_id", "step"])["answer"].to_dict()
    differing = 0
    for name, rows in mixed.groupby("item_id"):
        a, b = str(name).split("+")
        assert a.split("-")[0] == b.split("-")[0] != "p0000"
        for row in rows[rows["step"].str.endswith("attributes/explain")].itertuples():
            text = json.loads(str(row.messages))[0]["text"]
            listed = [word for word in text.split(" , summary")[0].split() if word.isdecimal()]
            steps = [s for i, s in scores if i == a and s.startswith("attributes/") and s.endswith("/score")]
            assert len(listed) == len(steps)
            assert all(level in (scores[a, s], scores[b, s]) for level, s in zip(listed, steps, strict=True))
            differing += listed not in ([scores[a, s] for s in steps], [scores[b, s] for s in steps])
    assert differing  # else nothing was mixed


def test_what_a_student_found_is_scored_and_summed_up_by_the_teacher_right_or_wrong(
    items: pd.DataFrame, load_wording: Any, tmp_path: Path
) -> None:
    wording: Wording = load_wording("compact")
    training, file = items[items["prompt_id"] != "p0000"], tmp_path / "transcripts.parquet"
    erring = SimulatedBackend(items, wording, seed=3, error_rate=0.3, score_noise=4.0)
    said = judge_items(items, erring, wording, PHRASES, ["decomposed"], name="sft").transcripts
    said.to_parquet(file)
    chain = Decomposed(wording, text_stages=True)
    found = read_findings(file, training, chain)
    assert set(found["item_id"]) == set(training["item_id"])  # those held out are left out
    asked = ask_about_findings(found, training, chain, teacher(items, wording))
    assert set(asked["item_id"]) == {f"{item}+{item}" for item in training["item_id"]}
    assert not asked["messages"].map(lambda text: any(turn["images"] for turn in json.loads(text))).any()
    assert not asked["step"].str.contains("answer|extract").any()
    assert not asked["step"].str.startswith("appearance/").any()  # which needs the image
    answers = said.set_index(["item_id", "step"])["answer"]
    scored = asked[asked["step"].str.fullmatch(r"(attributes|relations)/\d+/score")]
    assert len(scored) > 50
    for row in scored.itertuples():
        right = answers[str(row.item_id).partition("+")[0], str(row.step).replace("/score", "/answer")] == "yes"
        assert (float(row.answer) >= 5) == right  # by the student's own answer, which is often wrong
    assert set(asked["step"].str.partition("/")[0]) == {"attributes", "relations", "summary", "merge"}


def test_a_file_without_findings_is_refused(items: pd.DataFrame, load_wording: Any, tmp_path: Path) -> None:
    file = tmp_path / "transcripts.parquet"
    chain = Decomposed(load_wording("compact"), text_stages=True)
    with pytest.raises(T2IEvalError, match="cannot be read as the transcripts of a judge"):
        read_findings(file, items, chain)
    items.to_parquet(file)
    with pytest.raises(T2IEvalError, match="cannot be read as the transcripts of a judge"):
        read_findings(file, items, chain)
    said = judge_items(
        items, teacher(items, load_wording("compact")), load_wording("compact"), PHRASES, ["levels"], name="sft"
    )
    said.transcripts.to_parquet(file)
    with pytest.raises(T2IEvalError, match="no complete decomposed chain"):
        read_findings(file, items, chain)
    chains = judge_items(
        items, teacher(items, load_wording("compact")), load_wording("compact"), PHRASES, ["decomposed"], name="sft"
    ).transcripts
    chains[chains["step"] == "extract"].to_parquet(file)  # the student came no further
    with pytest.raises(T2IEvalError, match="no complete decomposed chain"):
        read_findings(file, items, chain)
    chains.to_parquet(file)
    with pytest.raises(T2IEvalError, match=r"in the wording compact@\d+, and the teacher is asked as .*full@"):
        read_findings(file, items, Decomposed(load_wording("full"), text_stages=True))
    with pytest.raises(T2IEvalError, match=r"about another prompt than the benchmark's, 'a red cube'"):
        read_findings(file, items.assign(prompt="a red cube"), chain)


def test_items_may_be_called_as_mixtures_and_further_prompts_are(
    items: pd.DataFrame, load_wording: Any, tmp_path: Path
) -> None:
    wording, file = load_wording("compact"), tmp_path / "transcripts.parquet"
    named = items.assign(item_id="prompt/" + items["item_id"].str.replace("-", "+"))
    said = judge_items(named, teacher(named, wording), wording, PHRASES, ["decomposed"], name="sft").transcripts
    said.to_parquet(file)
    chain = Decomposed(wording, text_stages=True)
    asked = ask_about_findings(read_findings(file, named, chain), named, chain, teacher(named, wording))
    assert set(asked["item_id"]) == {f"{item}+{item}" for item in named["item_id"]}
    known = set(named["item_id"])
    assert all(
        mixed_items(name, known) == (name[: len(name) // 2], name[len(name) // 2 + 1 :]) for name in asked["item_id"]
    )
    assert mixed_items("prompt/00001", known) is None


def settings(**given: Any) -> TeacherSettings:
    conf = Path(__file__).parents[2] / "conf" / "base" / "parameters_teacher_distillation.yml"
    return TeacherSettings.model_validate(yaml.safe_load(conf.read_text(encoding="utf-8"))["teacher"] | given)


def test_a_simulated_teacher_reads_no_file_of_prompts(items: pd.DataFrame, load_wording: Any, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a cat on a mat", encoding="utf-8")
    store = AnswerStore(tmp_path / "a.sqlite")
    material = Material(items, ImageStore(None), TRANSCRIPTS.empty(), store, None)
    chosen = settings(extra_prompts=str(tmp_path / "prompts.txt"))
    with pytest.raises(T2IEvalError, match=r"simulated teacher cannot read a file of prompts.*give a number"):
        ask_about_text("simulated", chosen, material, TRANSCRIPTS.empty(), load_wording("compact"))


@pytest.mark.parametrize("kind", ["auto", "human"])
def test_settings_without_effect_are_named_where_no_teacher_is_asked(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    def warned(**given: Any) -> str:
        caplog.clear()
        rest: Any = [None] * 4
        ask_teacher(*rest, {"synthetic": False}, {}, *rest[:2], settings(kind=kind, **given), rest[0])
        return caplog.text

    assert "people's mean scores" in warned()
    assert "Without effect" not in warned()
    assert "Without effect: teacher.extra_prompts, teacher.findings." in warned(extra_prompts="x", findings="y")


def test_settings_without_effect_are_named_where_a_teacher_is_recorded(
    items: pd.DataFrame, load_wording: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    material = Material(items, ImageStore(None), TRANSCRIPTS.empty(), AnswerStore(tmp_path / "a.sqlite"), None)
    for given, said in (({}, False), ({"mixtures": 3}, True)):
        asked = ask_about_text("recorded", settings(**given), material, TRANSCRIPTS.empty(), load_wording("compact"))
        assert asked.empty
        assert ("Without effect: teacher.mixtures." in caplog.text) == said
