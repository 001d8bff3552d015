from __future__ import annotations

import base64
import io
from collections.abc import Callable

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.reporting.gallery import build_cases, clip, embed, pick_cases
from t2i_eval_kedro.reporting.inputs import ReportInputs


def items(number: int, prompts: int) -> pd.DataFrame:
    return pd.DataFrame(
        {"item_id": [f"i{k:02d}" for k in range(number)], "prompt_id": [f"p{k % prompts}" for k in range(number)]}
    )


def test_cases_are_the_extremes_and_the_largest_disagreements() -> None:
    table = items(12, 12)
    people = pd.Series(range(12), index=table["item_id"], dtype=float)
    judge = people.copy()
    judge["i03"], judge["i08"] = 11.5, -0.5  # ranked far above and far below
    cases = pick_cases(table, people, judge, "people", "sft", each=1)
    assert [(group, row["item_id"]) for group, row in cases] == [
        ("Rated high by people", "i11"),
        ("Rated low by people", "i00"),
        ("Ranked higher by sft than by people", "i03"),
        ("Ranked lower by sft than by people", "i08"),
    ]


def test_no_disagreement_is_shown_where_the_judge_orders_as_people_do() -> None:
    table = items(10, 10)
    people = pd.Series(range(10), index=table["item_id"], dtype=float)
    assert {group for group, _ in pick_cases(table, people, 2 * people + 1)} == {
        "Rated high by people",
        "Rated low by people",
    }


@settings(max_examples=40, deadline=None)
@given(
    scores=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=30),
    prompts=st.integers(1, 10),
    each=st.integers(1, 3),
)
def test_cases_do_not_repeat_and_do_not_depend_on_the_order_of_rows(
    scores: list[tuple[int, int]], prompts: int, each: int
) -> None:
    table = items(len(scores), prompts)
    people = pd.Series([float(p) for p, _ in scores], index=table["item_id"])
    judge = pd.Series([float(j) for _, j in scores], index=table["item_id"])
    cases = [(group, row["item_id"]) for group, row in pick_cases(table, people, judge, each=each)]
    shown = [item for _, item in cases]
    assert len(shown) == len(set(shown))
    assert len(cases) <= 4 * each
    assert cases[0][1] == people.index[people == people.max()].min()
    assert cases == [(g, row["item_id"]) for g, row in pick_cases(table.iloc[::-1], people, judge, each=each)]


def test_prompts_repeat_only_where_no_other_is_left() -> None:
    table = items(40, 20)
    people = pd.Series(range(40), index=table["item_id"], dtype=float)
    judge = people.sample(frac=1, random_state=0).set_axis(people.index)
    cases = pick_cases(table, people, judge)
    assert len({row["prompt_id"] for _, row in cases}) == len(cases) == 8
    one_prompt = table.assign(prompt_id="p")
    assert len(pick_cases(one_prompt, people, judge)) == 8


@pytest.mark.parametrize(
    ("size", "expected"), [((64, 64), (64, 64)), ((1000, 500), (320, 160)), ((300, 900), (107, 320))]
)
def test_images_are_embedded_as_they_are_or_scaled_down(
    make_png: Callable[..., bytes], size: tuple[int, int], expected: tuple[int, int]
) -> None:
    data = make_png(*size)
    picture = embed(data, "x")
    kind, encoded = picture.uri.removeprefix("data:").split(";base64,")
    decoded = base64.b64decode(encoded)
    assert (picture.width, picture.height) == expected == Image.open(io.BytesIO(decoded)).size
    assert (decoded == data) is (size == expected)
    assert kind == ("image/png" if size == expected else "image/jpeg")
    assert picture.pixelated is (expected[0] <= 128)


def test_an_image_cut_short_is_refused(make_png: Callable[..., bytes]) -> None:
    with pytest.raises(T2IEvalError, match=r"Image 'half\.png' cannot be read"):
        embed(make_png(200, 200)[:100], "half.png")


def test_a_case_holds_ratings_verdicts_statuses_and_dialogues(inputs: ReportInputs) -> None:
    item = inputs.items.iloc[3]  # prompt 1, which the untrained judge did not answer
    tables = {"ratings": inputs.ratings, "scores": inputs.scores, "transcripts": inputs.transcripts}
    (case,) = build_cases([("group", item)], tables, inputs.image, ["teacher", "base"], ["overall"])
    mine = inputs.ratings[(inputs.ratings["item_id"] == item["item_id"]) & (inputs.ratings["dimension"] == "overall")]
    assert case["people"]["overall"] == {
        "mean": pytest.approx(mine["score"].mean()),
        "low": mine["score"].min(),
        "high": mine["score"].max(),
        "n": 3,
        "scale": "0 to 10",
    }
    assert [row["evaluator"] for row in case["verdicts"]] == ["teacher", "base"]
    assert case["verdicts"][1]["cells"] == {"overall": "unparsed"}
    assert case["dialogues"][0]["steps"][0]["asked"].startswith("Judge: ")


def test_long_texts_are_cut_visibly() -> None:
    assert clip("short", 10) == "short"
    assert clip("x" * 11, 10) == "x" * 10 + " …"
