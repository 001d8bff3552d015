"""Published figures come out of the published data."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest

from t2i_eval_kedro import schema
from t2i_eval_kedro.agreement.published import facts, reproduce
from t2i_eval_kedro.errors import T2IEvalError

ROOT = os.environ.get("T2I_EVAL_SHARED_DATA")
NOT_REPRODUCED = {("GPT-4o 0-shot", 'spearman O, "Fisher" average over 5 models')}


def test_the_facts_are_there():
    rows = facts()
    assert len(rows) == 34
    assert {row["benchmark"] for row in rows} == {"tifa160", "dsg", "viescore_imagenhub"}


@pytest.mark.skipif(ROOT is None, reason="T2I_EVAL_SHARED_DATA is not set")
@pytest.mark.parametrize(("name", "number"), [("tifa160", 20), ("dsg", 8), ("viescore_imagenhub", 6)])
def test_every_figure_is_reproduced_to_the_printed_digit(name, number):
    reader = importlib.import_module(f"t2i_eval_kedro.benchmarks.readers.{name}")
    benchmark = reader.read(Path(ROOT) / name)
    found = reproduce(benchmark.items, benchmark.ratings, benchmark.scores, benchmark.element_scores)
    assert len(found) == number
    missed = {(entry["system"], entry["statistic_as_labelled"]) for entry in found if not entry["match"]}
    assert missed == (NOT_REPRODUCED if name == "viescore_imagenhub" else set())
    for entry in found:
        assert entry["actual_method"]
        if (entry["system"], entry["statistic_as_labelled"]) in NOT_REPRODUCED:
            assert entry["as_published"] == pytest.approx(0.3882, abs=5e-5)
        if name == "dsg":
            assert entry["n"] == 795
            assert "5 unanswered items scored 0" in entry["actual_method"]
            assert entry["corrected"] != entry["as_published"]
        if name == "tifa160" and entry["statistic_as_labelled"] == "spearman":
            assert entry["actual_method"].startswith("Pearson")


def test_a_benchmark_without_printed_figures_has_none():
    item = {"item_id": "i", "benchmark": "own", "prompt_id": "p", "prompt": "a cat", "generator": "g"}
    assert reproduce(schema.ITEMS.frame([item]), schema.RATINGS.empty(), schema.SCORES.empty()) == []


def of_benchmark(benchmark: str, n: int = 6):
    items = [
        {"item_id": f"i{k}", "benchmark": benchmark, "prompt_id": f"p{k}", "prompt": f"a cat {k}", "generator": "g"}
        for k in range(n)
    ]
    ratings = [
        {"item_id": f"i{k}", "rater_id": f"r{r}", "dimension": dimension, "score": float(1 + (k + r) % 3), "scale_min": 1,
         "scale_max": 5, "off_scale": False}
        for k in range(n) for r in range(2) for dimension in ("alignment", "O", "SC", "PQ")
    ]  # fmt: skip
    return schema.ITEMS.frame(items), schema.RATINGS.frame(ratings)


@pytest.mark.parametrize("benchmark", ["tifa160", "dsg", "viescore_imagenhub"])
def test_a_system_without_scores_has_its_printed_figure_and_a_reason(benchmark):
    items, ratings = of_benchmark(benchmark)
    found = [entry for entry in reproduce(items, ratings, schema.SCORES.empty()) if entry["system"] != "human raters"]
    assert found
    for entry in found:
        assert entry["published"] is not None
        assert (entry["as_published"], entry["corrected"], entry["match"]) == (None, None, False)
        assert entry["reason"] == "the benchmark's files hold no scores of this system"


def test_two_benchmarks_at_once_are_refused():
    items, ratings = of_benchmark("dsg")
    items.loc[0, "benchmark"] = "tifa160"
    with pytest.raises(T2IEvalError, match="belong to one benchmark"):
        reproduce(items, ratings, schema.SCORES.empty())
