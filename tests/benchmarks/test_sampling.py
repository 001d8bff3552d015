"""Balanced sampling: as even as can be, proven where the solver ends, the same for the same seed."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t2i_eval_kedro.benchmarks.sampling import balanced_sample
from t2i_eval_kedro.errors import T2IEvalError


def prompts(count: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    skills = [list(rng.choice(list("uvwx"), rng.integers(0, 3), replace=False)) for _ in range(count)]
    return pd.DataFrame(
        {
            "subject": rng.choice(list("abcd"), count, p=[0.7, 0.1, 0.1, 0.1]),
            "skills": skills,
            "cluster": rng.integers(0, 5, count).astype(object),
        },
        index=[f"p{i}" for i in range(count)],
    )


def unevenness(table: pd.DataFrame, chosen: list[str], targets: dict[str, dict[str, float]]) -> float:
    total = 0.0
    for dimension, wanted in targets.items():
        cells = table.loc[chosen, dimension]
        held = [str(v) for cell in cells for v in (cell if isinstance(cell, list) else [cell])]
        total += sum(abs(held.count(category) - target) for category, target in wanted.items())
    return total


@settings(max_examples=15, deadline=None)
@given(st.integers(6, 10), st.integers(1, 5), st.integers(0, 1000))
def test_no_other_sample_is_more_even(count: int, size: int, seed: int) -> None:
    table = prompts(count, seed)
    sample = balanced_sample(table, size, seed=seed, gap=0.0)
    best = min(unevenness(table, list(other), sample.targets) for other in combinations(table.index, size))
    assert sample.unevenness == pytest.approx(best, abs=1e-4)
    assert (sample.method, sample.gap) == ("milp", 0)
    assert len(set(sample.chosen)) == size


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000))
def test_what_is_reported_is_what_was_chosen(seed: int) -> None:
    table = prompts(200, seed)
    sample = balanced_sample(table, 60, weights={"subject": 1, "skills": 1, "cluster": 1}, seed=seed)
    assert sample.unevenness == pytest.approx(unevenness(table, sample.chosen, sample.targets), abs=1e-3)
    assert sample.bound <= sample.unevenness
    assert sample.gap <= 0.01 + 1e-9
    counts = table.loc[sample.chosen, "subject"].value_counts().to_dict()
    assert {k: v for k, v in sample.counts["subject"].items() if v} == counts


def test_the_same_seed_gives_the_same_sample_also_when_time_is_short() -> None:
    table = prompts(300, 1)
    for limit, method in ((30.0, "milp"), (0.0, "rounding")):
        samples = [balanced_sample(table, 100, seed=5, time_limit=limit) for _ in range(2)]
        assert samples[0] == samples[1]
        assert samples[0].method == method
    shuffled = table.sample(frac=1, random_state=0)
    assert balanced_sample(table, 100, seed=6).chosen != balanced_sample(table, 100, seed=7).chosen
    assert len(balanced_sample(shuffled, 100).chosen) == 100


def test_the_fallback_is_nearly_as_even_and_reports_its_gap() -> None:
    table = prompts(2000, 3)
    closed, fallback = balanced_sample(table, 400), balanced_sample(table, 400, time_limit=0.0)
    assert closed.unevenness <= fallback.unevenness <= closed.unevenness + 5
    assert fallback.gap >= (fallback.unevenness - closed.unevenness) / fallback.unevenness
    random = list(np.random.default_rng(0).choice(table.index, 400, replace=False))
    assert fallback.unevenness < unevenness(table, random, fallback.targets) / 5


def test_scarce_categories_are_taken_whole_and_the_rest_is_even() -> None:
    table = pd.DataFrame({"style": ["rare"] * 2 + ["a"] * 50 + ["b"] * 50}, index=[f"p{i}" for i in range(102)])
    sample = balanced_sample(table, 20)
    assert sample.counts == {"style": {"rare": 2, "a": 9, "b": 9}}
    assert sample.unevenness == 0


@pytest.mark.parametrize("size", [0, 6])
def test_sizes_that_cannot_be_are_refused(size: int) -> None:
    with pytest.raises(T2IEvalError, match="cannot be chosen from 5"):
        balanced_sample(prompts(5, 0), size)
    with pytest.raises(T2IEvalError, match="is duplicated"):
        balanced_sample(pd.concat([prompts(5, 0)] * 2), 3)
    with pytest.raises(T2IEvalError, match=r"needs a dimension to even out; .*ingestion\.sample\.dimensions"):
        balanced_sample(prompts(5, 0)[[]], 3)
