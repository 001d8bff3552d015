from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from t2i_eval_kedro import schema
from t2i_eval_kedro.agreement.slices import prompt_slices
from t2i_eval_kedro.shapes.make import make_shapes

WORDS = [(3, 1), (5, 1), (5, 2), (9, 2), (9, 3), (11, 4)]  # words and elements of each prompt


@pytest.fixture(scope="module")
def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    items = schema.ITEMS.frame(
        {
            "item_id": f"{p}/{g}",
            "benchmark": "b",
            "prompt_id": str(p),
            "prompt": " ".join([f"word{p}", *["more"] * (words - 1)]),
            "generator": g,
            "attributes": json.dumps({"prompt_kind": {"nested": p == 0, "contradictory": False, "phrasing": "x"}}),
        }
        for p, (words, _) in enumerate(WORDS)
        for g in ("a", "b")
    )
    elements = schema.ELEMENTS.frame(
        {"prompt_id": str(p), "element_id": str(e), "text": "t", "skill": "s"}
        for p, (_, count) in enumerate(WORDS)
        for e in range(count)
    )
    return items, elements


def prompts(items: pd.DataFrame, rows: np.ndarray) -> list[int]:
    return sorted(set(items.loc[rows, "prompt_id"].astype(int)))


def test_one_property_is_compared_while_the_other_is_alike(tables: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    items, elements = tables
    found = {name: prompts(items, part.rows) for name, part in prompt_slices(items, elements, ["b"]).items()}
    assert found == {
        "shorter": [0, 2],  # of one element, and of two; 4 and 5 have no prompt to be compared with
        "longer": [1, 3],
        "fewer_elements": [1, 3],  # of five words, and of nine
        "more_elements": [2, 4],
        "nested": [0],
        "untrained_generators": [0, 1, 2, 3, 4, 5],
    }


def test_slices_follow_the_items_whatever_their_index(tables: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    items, elements = tables
    turned = items.iloc[::-1].set_axis(range(100, 112))
    for name, part in prompt_slices(turned, elements, ["b"]).items():
        assert (part.rows[::-1] == prompt_slices(items, elements, ["b"])[name].rows).all()
    assert prompt_slices(items, elements, ["b"])["untrained_generators"].rows.sum() == 6


def test_without_elements_there_are_no_slices_by_them(tables: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    items, _ = tables
    assert set(prompt_slices(items, schema.ELEMENTS.empty())) == {"nested"}


def test_on_shapes_both_halves_have_the_same_numbers_of_elements() -> None:
    made = make_shapes(60, seed=1)
    parts = prompt_slices(made.items, made.elements, ["shapes-jumble"])
    assert set(parts) == {
        *("shorter", "longer", "fewer_elements", "more_elements"),
        *("nested", "contradictory", "negated", "untrained_generators"),
    }
    counts = made.items["prompt_id"].map(made.elements.groupby("prompt_id").size())
    words = made.items["prompt"].str.split().str.len()
    for few, many, alike, by in (
        ("shorter", "longer", counts, words),
        ("fewer_elements", "more_elements", words, counts),
    ):
        low, high = parts[few].rows, parts[many].rows
        assert set(alike[low]) == set(alike[high])
        for value in set(alike[low]):
            assert by[low & (alike == value)].max() < by[high & (alike == value)].min()
