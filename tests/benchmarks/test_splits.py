"""Splits: no prompt in two folds, no fold empty, the same on every machine."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t2i_eval_kedro import schema
from t2i_eval_kedro.benchmarks.splits import (
    leave_generators_out,
    normalised,
    only_tested,
    prompt_groups,
    split_by_prompt,
)
from t2i_eval_kedro.errors import T2IEvalError


def items(prompts: list[tuple[str, str]], generators: tuple[str, ...] = ("g1", "g2", "g3")) -> pd.DataFrame:
    return schema.ITEMS.frame(
        {
            "item_id": f"{generator}/{number}",
            "benchmark": "made",
            "prompt_id": prompt_id,
            "prompt": text,
            "generator": generator,
        }
        for number, (prompt_id, text) in enumerate(prompts)
        for generator in generators
    )


def numbered(count: int) -> pd.DataFrame:
    return items([(f"p{i}", f"prompt number {i}") for i in range(count)])


TEXTS = st.sampled_from(["A cat", "a  CAT.", "a dog", "Two dogs", "ein Haus", "e\u0301tude", "\u00e9tude", "!!", "?"])


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), TEXTS), min_size=9, max_size=30), st.integers(0, 2**31))
def test_no_prompt_text_and_no_prompt_id_is_in_two_folds(prompts: list[tuple[str, str]], seed: int) -> None:
    table = items(prompts)
    try:
        splits = split_by_prompt(table, {"train": 0.5, "test": 0.5}, seed)
    except T2IEvalError:
        assert prompt_groups(table).nunique() < 2
        return
    joined = table.merge(splits, on="item_id")
    assert (joined.groupby(joined["prompt"].map(normalised))["fold"].nunique() == 1).all()
    assert (joined.groupby("prompt_id")["fold"].nunique() == 1).all()
    assert set(splits["fold"]) == {"train", "test"}


@settings(deadline=None, max_examples=50)
@given(st.integers(3, 60), st.tuples(*[st.integers(1, 20)] * 3), st.integers(0, 1000))
def test_folds_have_their_shares_and_none_is_empty(count: int, weights: tuple[int, int, int], seed: int) -> None:
    fractions = {
        fold: weight / sum(weights) for fold, weight in zip(("train", "validation", "test"), weights, strict=True)
    }
    splits = split_by_prompt(numbered(count), fractions, seed)
    sizes = splits["fold"].value_counts() / 3
    assert sizes.sum() == count
    for fold, share in fractions.items():
        assert sizes[fold] >= 1
        assert abs(sizes[fold] - share * count) < 2


def test_nineteen_prompts_split_as_expected_on_every_machine() -> None:
    table = numbered(19)
    splits = split_by_prompt(table, seed=0)
    assert (splits["fold"].value_counts() / 3).to_dict() == {"train": 13, "test": 4, "validation": 2}
    folds = table.merge(splits, on="item_id").drop_duplicates("prompt_id").set_index("prompt_id")["fold"]
    assert sorted(folds[folds == "test"].index) == EXPECTED_TEST_PROMPTS
    shuffled = split_by_prompt(table.sample(frac=1, random_state=3), seed=0)
    pd.testing.assert_frame_equal(
        shuffled.sort_values("item_id", ignore_index=True), splits.sort_values("item_id", ignore_index=True)
    )
    assert not split_by_prompt(table, seed=1)["fold"].equals(splits["fold"])


EXPECTED_TEST_PROMPTS = ["p1", "p16", "p3", "p4"]


def test_everything_can_be_test() -> None:
    assert set(split_by_prompt(numbered(3), {"train": 0, "test": 1.0})["fold"]) == {"test"}


@pytest.mark.parametrize("fractions", [{"train": 0.5}, {"train": 1.5, "test": -0.5}, {"train": 0.7, "test": 0.7}])
def test_fractions_must_be_shares_of_a_whole(fractions: dict[str, float]) -> None:
    with pytest.raises(T2IEvalError, match="shares of 1"):
        split_by_prompt(numbered(5), fractions)


def test_fewer_prompts_than_folds_are_refused() -> None:
    with pytest.raises(T2IEvalError, match="2 prompts cannot be split into 3 folds"):
        split_by_prompt(numbered(2))


def test_left_out_generators_stand_in_test_alone_with_prompts_of_their_own() -> None:
    table = numbered(40)
    splits = leave_generators_out(table, ["g2"], seed=4)
    joined = table.merge(splits, on="item_id")
    assert set(joined.loc[joined["fold"] == "test", "generator"]) == {"g2"}
    assert set(joined.loc[joined["fold"].isin(["train", "validation"]), "generator"]) == {"g1", "g3"}
    used = joined[joined["fold"] != "unused"]
    assert (used.groupby("prompt_id")["fold"].nunique() == 1).all()
    assert set(splits["split_name"]) == {"generator"}


@pytest.mark.parametrize("left_out", [[], ["g9"], ["g1", "g2", "g3"]])
def test_generators_to_leave_out_must_be_some_of_those_there(left_out: list[str]) -> None:
    with pytest.raises(T2IEvalError, match="some, not all, of g1, g2, g3"):
        leave_generators_out(numbered(10), left_out)


def test_items_of_a_generator_that_is_held_out_are_for_testing_alone() -> None:
    table = numbered(20)
    splits = split_by_prompt(table, {"train": 0.6, "validation": 0.2, "test": 0.2}, 0)
    folds = only_tested(splits, table, ["g1"]).set_index("item_id")["fold"]
    of_g1 = folds.index.str.startswith("g1/")
    assert set(folds[of_g1]) == {"test", "unused"}
    assert set(folds[~of_g1]) == {"train", "validation", "test"}
    with pytest.raises(T2IEvalError, match="There is no generator 'g9'"):
        only_tested(splits, table, ["g9"])
    with pytest.raises(T2IEvalError, match="got none"):
        leave_generators_out(table, [], {"train": 0.6, "validation": 0.2, "test": 0.2})
