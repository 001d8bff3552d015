"""Checks of a benchmark as a whole: each finds its issue and reports nothing in clean data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from t2i_eval_kedro import schema
from t2i_eval_kedro.benchmarks import Benchmark, Dimension
from t2i_eval_kedro.benchmarks.base import Builder
from t2i_eval_kedro.benchmarks.card import data_card
from t2i_eval_kedro.benchmarks.checks import (
    Thresholds,
    check_benchmark,
    check_examples,
    check_splits,
    count_excluded,
    quotes_score,
)
from t2i_eval_kedro.benchmarks.splits import split_by_prompt

DIMENSIONS = (Dimension("looks", 1, 5, "how it looks"), Dimension("match", 1, 5, "how it matches"))


def made(prompts: int = 60, raters: int = 5, noise: float = 0.7) -> Benchmark:
    """A clean benchmark of two unrelated dimensions whose raters agree well."""
    rng = np.random.default_rng(0)
    out = Builder("made", "Made", "none", DIMENSIONS)
    for number in range(prompts):
        for generator in "gh":
            item = f"{generator}/{number}"
            out.item(item, f"p{number}", f"prompt {number}", generator)
            for dimension in DIMENSIONS:
                truth = rng.uniform(1, 5)
                for rater in range(raters):
                    score = float(np.clip(round(truth + rng.normal(0, noise)), 1, 5))
                    out.rating(item, f"r{rater}", dimension, score, item)
    benchmark = out.build()
    benchmark.items["image"] = benchmark.items["item_id"]
    return benchmark


def found(benchmark: Benchmark, thresholds: Thresholds | None = None) -> dict[str, list[str]]:
    issues = check_benchmark(benchmark, thresholds)
    return {
        str(kind): [f"{where}: {detail}" for where, detail in zip(rows["where"], rows["detail"], strict=True)]
        for kind, rows in issues.groupby("kind")
    }


def test_clean_data_has_no_faults() -> None:
    assert found(made()) == {}


def test_a_rater_whose_dimension_nobody_else_rated_is_not_compared() -> None:
    benchmark = made()
    table = benchmark.ratings
    # r2 alone rates "looks"; what they give follows the others' "match" because images are good or bad altogether.
    table = table[(table["dimension"] != "looks") | (table["rater_id"] == "r2")]
    others = table[(table["dimension"] == "match") & (table["rater_id"] != "r2")].groupby("item_id")["score"].mean()
    alone = (table["dimension"] == "looks") & (table["rater_id"] == "r2")
    table.loc[alone, "score"] = table.loc[alone, "item_id"].map(others)
    notes = found(replace(benchmark, ratings=table))
    assert "follows_other_dimension" not in notes
    assert "-1.00" not in str(notes)


def test_a_rater_with_swapped_columns_follows_the_other_dimension() -> None:
    benchmark = made()
    table = benchmark.ratings
    swap = {"looks": "match", "match": "looks"}
    mine = table["rater_id"] == "r2"
    table.loc[mine, "dimension"] = table.loc[mine, "dimension"].map(swap)
    notes = found(benchmark)["follows_other_dimension"]
    assert len(notes) == 2
    assert all(note.startswith("rater r2: ") for note in notes)
    assert "scores of looks follow the others' match" in notes[0]


def test_a_rater_who_copies_one_dimension_into_the_other_is_noted() -> None:
    benchmark = made()
    table = benchmark.ratings
    mine = table[table["rater_id"] == "r4"].set_index(["item_id", "dimension"])["score"].unstack()
    for row in table.index[(table["rater_id"] == "r4") & (table["dimension"] == "match")]:
        table.loc[row, "score"] = mine.loc[table.loc[row, "item_id"], "looks"]
    notes = found(benchmark)
    assert notes["copied_dimension"] == ["rater r4: all 120 scores of looks are those of match"]
    assert notes["follows_other_dimension"][0].startswith("rater r4: scores of match follow the others' looks")


def test_raters_who_say_almost_nothing_or_always_the_same_are_noted() -> None:
    benchmark = made()
    table = benchmark.ratings
    table.loc[(table["rater_id"] == "r0") & (table["dimension"] == "looks"), "score"] = 3.0
    few = table[(table["rater_id"] == "r1")].index[8:]
    benchmark.ratings = table.drop(index=few)
    notes = found(benchmark)
    assert notes["constant_rater"] == ["rater r0: all 120 ratings of looks are 3"]
    assert [note.split(";")[0] for note in notes["sparse_rater"]] == [
        "rater r1: 4 ratings of looks",
        "rater r1: 4 ratings of match",
    ]
    assert "sparse_rater" not in found(benchmark, Thresholds(sparse_share=0.01))


def test_items_without_image_rating_or_of_a_generator_and_prompt_seen_before_are_noted() -> None:
    benchmark = made(4)
    items = benchmark.items
    items.loc[0, "image"] = None
    items.loc[3, "prompt"] = "Prompt 2."
    items.loc[4, "prompt"] = "PROMPT 3"
    benchmark.ratings = benchmark.ratings[benchmark.ratings["item_id"] != "g/0"]
    notes = found(benchmark)
    assert notes["no_image"] == ["items: 1 items have no image: g/0"]
    assert notes["no_rating"] == ["items: 1 items have no rating: g/0"]
    assert notes["duplicate_item"] == ["items: 2 items are of a prompt and generator that stood before: h/2, g/3"]
    assert len(notes["duplicate_prompt"]) == 1


def test_identifiers_that_do_not_join_are_noted() -> None:
    benchmark = made(4)
    extra = {"item_id": "x", "rater_id": "r", "dimension": "looks", "score": 3, "scale_min": 1, "scale_max": 5}
    benchmark.ratings = pd.concat([benchmark.ratings, schema.RATINGS.frame([extra | {"off_scale": False}])])
    element = {"element_id": "e", "text": "t", "skill": "s"}
    benchmark.elements = schema.ELEMENTS.frame([element | {"prompt_id": "p0"}, element | {"prompt_id": "nowhere"}])
    benchmark.element_ratings = schema.ELEMENT_RATINGS.frame(
        {"item_id": f"g/{number}", "element_id": "e", "rater_id": "r", "label": 1} for number in (0, 1)
    )
    assert found(benchmark)["not_joined"] == [
        "ratings: 1 values of item_id are in no item: x",
        "elements: 1 values of prompt_id are in no item: nowhere",
        "element_ratings: 1 rows are about no element of their prompt: g/1 e",
    ]


def test_a_generator_that_made_fewer_images_is_noted() -> None:
    benchmark = made(6)
    benchmark.items = benchmark.items[benchmark.items["item_id"] != "h/3"]
    benchmark.ratings = benchmark.ratings[benchmark.ratings["item_id"] != "h/3"]
    assert found(benchmark)["incomplete_generator"] == ["h: 5 prompts where another generator has 6"]


def test_splits_that_tear_a_prompt_or_forget_an_item_are_noted() -> None:
    items = made(6).items
    splits = split_by_prompt(items)
    assert check_splits(items, splits).empty
    splits.loc[0, "fold"] = "test" if splits.loc[0, "fold"] != "test" else "train"
    issues = check_splits(items, splits.iloc[:-1])
    assert issues["kind"].tolist() == ["prompt_in_two_folds", "item_without_fold"]
    assert "h/5" in issues["detail"].iloc[1]


@pytest.mark.parametrize(
    ("text", "score", "quoted"),
    [
        ("The cat is sharp; a score of 7 is fair.", 7, True),
        ("I rate it 7.5 out of 10.", 7.5, True),
        ("7/10, since the tail is missing", 7, True),
        ("Score: 7", 7, True),
        ("Score: 7", 8, False),
        ("Two of the 7 apples are green.", 7, False),
        ("The score board in the image shows goals. There are 7 players.", 7, False),
        ("It scored 7.5", 7, False),
        ("The jersey number 17/10 is odd", 7, False),
    ],
)
def test_text_that_states_a_score_is_found(text: str, score: float, quoted: bool) -> None:
    assert quotes_score(text, score) is quoted


def example(name: str, pair: str, completion: str, score: float | None) -> dict[str, object]:
    fixed = {"item_id": "i", "fold": "train", "task": "t", "aspect": "", "messages": "[]", "weight": 1.0}
    return {"example_id": name, "question_id": pair, "completion": completion, "score": score} | fixed


def test_examples_whose_explanation_states_the_label_are_noted() -> None:
    examples = schema.EXAMPLES.frame(
        [
            example("1", "a", "It deserves a score of 4.", None),
            example("2", "a", "4", 4),
            example("3", "b", "It deserves a score of 4.", None),
            example("4", "b", "9", 9),
            example("5", "c", "9", 9),
        ]
    )
    issues = check_examples(examples)
    assert issues["detail"].tolist() == ["1 requests state the score that should be predicted: 2"]


def test_what_was_set_aside_is_counted_and_the_card_holds_it_all() -> None:
    out = Builder("made", "Made", "none", DIMENSIONS)
    for number in range(3):
        out.item(f"g/{number}", f"p{number}", f"prompt {number}", "g")
        out.rating(f"g/{number}", "r", DIMENSIONS[0], 4 + number, "here")
    out.issues.add("not_joined", "there", "7 answers", "answers excluded", 7)
    benchmark = out.build()
    assert count_excluded(benchmark.issues) == 8
    card = data_card(benchmark, split_by_prompt(benchmark.items))
    assert card["sizes"]["prompts"] == card["sizes"]["items"] == 3
    assert card["splits"]["prompt"]["test"] == {"items": 1, "prompts": 1}
    looks = card["dimensions"][0]
    assert (looks["ratings"], looks["off_scale"], looks["distribution"]) == (2, 1, {"4": 1, "5": 1})
    assert [(issue["kind"], issue["count"]) for issue in card["data_issues"]] == [
        ("not_joined", 7),
        ("off_scale_rating", 1),
    ]
    assert "6" in card["data_issues"][1]["examples"][0]
