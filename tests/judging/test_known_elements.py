"""Elements that the caller knows: the canonical table and the file of ``--elements``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from t2i_eval_kedro import schema
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.known_elements import elements_by_prompt, elements_for, read_elements
from t2i_eval_kedro.judging.protocols import PromptElement


def test_the_canonical_table_by_prompt() -> None:
    table = schema.ELEMENTS.frame(
        [
            {"prompt_id": "p", "element_id": "1", "text": "a cat", "skill": "object", "question": "Is there a cat?"},
            {"prompt_id": "p", "element_id": "2", "text": "black", "skill": "color", "parents": "1", "expected": "yes"},
            {"prompt_id": "q", "element_id": "1", "text": "a dog", "skill": "object", "parents": "7, 8"},
        ]
    )
    assert elements_by_prompt(table) == {
        "p": (
            PromptElement("1", "a cat", "Is there a cat?", "object"),
            PromptElement("2", "black", "", "color", parents=("1",)),
        ),
        "q": (PromptElement("1", "a dog", "", "object", parents=("7", "8")),),
    }
    assert elements_by_prompt(schema.ELEMENTS.empty()) == {}


@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_a_file_of_elements(tmp_path: Path, suffix: str) -> None:
    rows = [
        {"prompt": "a black cat", "question": "Is there a cat?", "parents": ""},
        {"prompt": "a black cat", "question": "Is the cat black?", "parents": "1"},
        {"prompt": "", "question": "Is it sharp?", "parents": ""},
    ]
    file = tmp_path / f"elements{suffix}"
    lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
    file.write_text(json.dumps(rows) if suffix == ".json" else "\n".join(lines))
    known = read_elements(file)
    cat = elements_for("a black cat", known)
    assert [(e.element_id, e.question, e.expected, e.parents) for e in cat] == [
        ("1", "Is there a cat?", "yes", ()),
        ("2", "Is the cat black?", "yes", ("1",)),
    ]
    assert [e.question for e in elements_for("another prompt", known)] == ["Is it sharp?"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prompt,question\na,", "neither text nor question"),
        ("element_id,question\n1,Is it?\n1,Was it?", "'1' stands twice"),
        ("question,parents\nIs it?,9", "parent '9'"),
        ("question,parents\nIs it?", "cells where"),
    ],
)
def test_a_faulty_file_is_refused_with_its_fault(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "elements.csv"
    file.write_text(text)
    with pytest.raises(T2IEvalError, match=message):
        read_elements(file)


def test_json_that_is_no_list_of_objects(tmp_path: Path) -> None:
    file = tmp_path / "elements.json"
    file.write_text('{"a cat": [{"text": "a cat"}]}')
    assert [element.text for element in read_elements(file)["a cat"]] == ["a cat"]
    for text in ('{"a": 1}', '{"a": [1]}', "[1]", "[", '[{"test": "a cat"}]'):
        file.write_text(text)
        with pytest.raises(T2IEvalError):
            read_elements(file)
