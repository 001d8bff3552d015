from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.schema import EXAMPLES
from t2i_eval_kedro.training.rebalancing import BINS, METHODS, frequencies, kinds, rebalance

GOLDEN = json.loads((Path(__file__).parents[1] / "fixtures/golden/rebalance.json").read_text())


def row(
    example_id: str, task: str, score: float | None, *, aspect: str = "", pair: str = "", fold: str = "train"
) -> dict:
    return {
        "example_id": example_id,
        "item_id": "i",
        "fold": fold,
        "task": task,
        "aspect": aspect,
        "messages": "[]",
        "completion": "N/A" if score is None else f"{score:g}",
        "score": score,
        "question_id": pair or example_id,
        "weight": 1.0,
    }


def scored(task: str, counts: dict[str, int], **kwargs: str) -> list[dict]:
    value = dict(zip(BINS, [*(low + 0.5 for low in range(10)), 10.0, None], strict=True))
    return [
        row(f"{task}-{name}-{n}", task, value[name], **kwargs) for name, count in counts.items() for n in range(count)
    ]


def paired(counts: dict[str, int]) -> list[dict]:
    stage_2 = scored("appearance_2", counts, aspect="appearance")
    stage_1 = [
        row(f"explain-{r['example_id']}", "appearance_1", None, aspect="appearance", pair=r["question_id"])
        for r in stage_2
    ]
    return stage_1 + stage_2


def after(table: pd.DataFrame, task: str) -> dict[str, int]:
    return dict(table[table["task"] == task].set_index("bin")["after"])


def test_summaries_equal_the_official_run() -> None:
    _, table = rebalance(EXAMPLES.frame(scored("summary_2", GOLDEN["summarize_bins"], aspect="overall")))
    counts = after(table, "summary_2")
    assert counts.pop("N/A") == 0
    per_bin = GOLDEN["observed_from_official_run"]["summarize_per_bin"]
    assert set(counts.values()) == {per_bin} == {GOLDEN["per_bin_out"]} == {int(GOLDEN["p75_including_NA_bin"])}
    assert sum(counts.values()) == GOLDEN["observed_from_official_run"]["summarize_total_per_category"]


def test_questions_equal_the_official_run_when_pairs_may_split() -> None:
    examples = EXAMPLES.frame(paired(GOLDEN["summarize_bins"]))
    _, table = rebalance(examples, split_pairs=True)
    assert table.groupby("bin")["before"].sum().to_dict() == GOLDEN["stage12_bins"]
    counts = table.groupby("bin")["after"].sum().drop("N/A")
    per_bin = GOLDEN["observed_from_official_run"]["stage12_per_bin"]
    assert set(counts) == {per_bin} == {GOLDEN["stage12_per_bin_out"]} == {int(GOLDEN["stage12_p75"])}
    assert counts.sum() == GOLDEN["observed_from_official_run"]["stage12_total_per_aspect"]


def test_questions_keep_their_explanation() -> None:
    balanced, table = rebalance(EXAMPLES.frame(paired(GOLDEN["summarize_bins"])))
    assert after(table, "appearance_1") == after(table, "appearance_2")
    assert set(after(table, "appearance_2").values()) == {0, 9}  # 9 whole pairs are the most that fit in 19 rows
    copies = balanced.assign(copy=balanced["example_id"].str.extract(r"(#\d+)$")[0].fillna(""))
    assert set(copies.groupby(["question_id", "copy"]).size()) == {2}


def test_summaries_are_balanced_by_aspect() -> None:
    few = dict.fromkeys(BINS, 1)
    many = dict.fromkeys(BINS, 5)
    rows = scored("summary_2", few, aspect="overall") + [
        r | {"example_id": "b" + r["example_id"], "aspect": "appearance"} for r in scored("summary_2", many)
    ]
    _, table = rebalance(EXAMPLES.frame(rows))
    sizes = table[table["bin"] != "N/A"].groupby("aspect")["after"].agg(["min", "max"])
    assert sizes.loc["overall"].tolist() == [1, 1]
    assert sizes.loc["appearance"].tolist() == [5, 5]


def test_an_empty_bin_is_skipped() -> None:
    counts = {name: (0 if name == "3-4" else 4) for name in BINS}
    _, table = rebalance(EXAMPLES.frame(scored("score", counts, aspect="overall")))
    assert after(table, "score") == {name: (0 if name == "N/A" else 4) for name in BINS if name != "3-4"}


def test_a_set_with_too_few_bins_is_left_and_said(caplog: pytest.LogCaptureFixture) -> None:
    examples = EXAMPLES.frame(scored("score", {"4-5": 3, "7-8": 2}, aspect="overall"))
    balanced, _ = rebalance(examples)
    assert len(balanced) == 5
    assert "Only 2 of the 12 score bins of 'score/overall' are filled" in caplog.text


def test_only_the_training_fold_is_resampled_and_repeated() -> None:
    rows = scored("score", dict.fromkeys(BINS, 2), aspect="overall")
    held_out = [r | {"example_id": "v" + r["example_id"], "fold": "validation"} for r in rows]
    extract = [row("e", "extract", None)]
    balanced, table = rebalance(EXAMPLES.frame(rows + extract + held_out), repeats={"extract": 8, "score": 1})
    assert (balanced["fold"] == "validation").sum() == len(held_out)
    assert sorted(balanced.loc[balanced["task"] == "extract", "example_id"]) == sorted(
        ["e", *(f"e#{n}" for n in range(2, 9))]
    )
    assert after(table, "extract") == {"all": 8}


@pytest.mark.parametrize("method", METHODS)
def test_no_copy_crosses_into_another_fold(method: str) -> None:
    rows = scored("score", {name: n + 1 for n, name in enumerate(BINS)}, aspect="overall")
    folds = {
        fold: [r | {"example_id": f"{fold}-{r['example_id']}", "item_id": fold, "fold": fold} for r in rows]
        for fold in ("train", "validation", "test")
    }
    balanced, _ = rebalance(
        EXAMPLES.frame([r for of in folds.values() for r in of]),
        method=method,
        repeats={} if method == "weighted" else {"score": 3},
    )
    assert (balanced["item_id"] == balanced["fold"]).all()
    for fold in ("validation", "test"):
        left = balanced.loc[balanced["fold"] == fold, "example_id"]
        assert sorted(left) == sorted(r["example_id"] for r in folds[fold])


@pytest.mark.parametrize(("method", "size"), [("oversample", 6), ("undersample", 2)])
def test_other_methods_reach_their_size(method: str, size: int) -> None:
    examples = EXAMPLES.frame(scored("score", {"0-1": 2, "5-6": 6, "10": 3, "N/A": 1}, aspect="overall"))
    _, table = rebalance(examples, method=method)
    assert after(table, "score") == {"0-1": size, "5-6": size, "10": size, "N/A": 1}


def test_another_scale_is_mapped() -> None:
    rows = [row(f"{n}", "score", 1 + n / 10, aspect="overall") for n in range(41)]
    _, table = rebalance(EXAMPLES.frame(rows), score_range=(1, 5), method="none")
    counts = after(table, "score")
    assert counts["10"] == 1
    assert all(counts[name] == 4 for name in BINS[:10])


def test_a_score_off_the_scale_is_named() -> None:
    with pytest.raises(T2IEvalError, match="'bad' teaches the score 11"):
        rebalance(EXAMPLES.frame([row("bad", "score", 11.0)]))


def test_an_unknown_method_is_named() -> None:
    with pytest.raises(T2IEvalError, match="'p75'"):
        rebalance(EXAMPLES.empty(), method="p75")


def test_no_examples_stay_no_examples() -> None:
    balanced, table = rebalance(EXAMPLES.empty())
    assert balanced.empty
    assert table.empty


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=12, max_size=12), st.integers(0, 2**31))
def test_official_is_seeded_and_every_filled_bin_has_the_same_size(sizes: list[int], seed: int) -> None:
    counts = dict(zip(BINS, sizes, strict=True))
    examples = EXAMPLES.frame(scored("score", counts, aspect="overall"))
    first, table = rebalance(examples, seed=seed)
    again, _ = rebalance(examples, seed=seed)
    pd.testing.assert_frame_equal(first, again)
    filled = [name for name in BINS[:-1] if counts[name]]
    left = after(table, "score") if sizes and sum(sizes) else {}
    if len(filled) > 3:
        assert len({left[name] for name in filled}) == 1
        assert left.get("N/A", 0) == 0
    assert set(first["item_id"]) <= {"i"}
    assert first["example_id"].is_unique


def example(n: int, task: str, step: str, score: float | None = None, aspect: str = "attributes") -> dict:
    return row(f"i{n}/{step}", task, score, aspect=aspect)


def test_kinds_are_the_templates_of_the_requests() -> None:
    rows = [
        example(0, "attributes_1", "attributes/0/answer"),
        example(0, "attributes_1", "attributes/0/explain"),
        example(0, "relations_2", "relations/1/score", 3.0, "relations"),
        example(0, "summary_1", "summary/attributes/explain"),
        example(0, "summary_2", "merge/score", 5.0, "overall"),
        example(0, "score", "score/overall", 5.0, "overall"),
    ]
    assert list(kinds(EXAMPLES.frame(rows))) == ["answer", "check_1", "check_2", "summary_1", "merge_2", "score"]


def test_each_kind_has_its_share_and_the_rest_go_by_their_number() -> None:
    rows = [example(n, "extract", "extract") for n in range(10)]
    rows += [example(n, "attributes_1", "attributes/0/answer") for n in range(30)]
    rows += [example(n, "appearance_1", "appearance/0/explain") for n in range(60)]
    examples = EXAMPLES.frame(rows)
    kind = kinds(examples).to_numpy()

    def drawn(**shares: float | None) -> list[float]:
        out = frequencies(examples, shares)
        return [round(float(out[kind == name].sum()), 6) for name in ("extract", "answer", "appearance_1")]

    assert drawn() == [10, 30, 60]
    assert drawn(extract=0.4) == [40, 20, 40]  # what is left, by their number
    assert drawn(extract=0.3, answer=0.3, appearance_1=0.4) == [30, 30, 40]
    assert drawn(extract=0.2, answer=0.2, appearance_1=0.1) == [40, 40, 20]  # scaled to one
    assert drawn(extract=0.4, score=0.6) == [40, 20, 40]  # nothing teaches a score
    assert drawn(answer=0.0)[1] == 0
    assert drawn(extract=0.4, answer=None) == [40, 20, 40]


def test_a_kind_for_which_no_share_is_left_is_drawn_as_often_as_it_is_there(caplog: pytest.LogCaptureFixture) -> None:
    rows = [example(n, "extract", "extract") for n in range(10)]
    rows += [example(n, "score", "score/overall", 5.0, "overall") for n in range(60)]
    rows += [row(f"y{n}", "yes_no", None) for n in range(30)]
    examples = EXAMPLES.frame(rows)
    kind = kinds(examples).to_numpy()
    for shares in ({"extract": 0.5, "score": 0.5}, {"extract": 1.0, "score": 1.0, "yes_no": None}):
        out = frequencies(examples, shares)
        assert [out[kind == name].sum() for name in ("extract", "score", "yes_no")] == pytest.approx([35, 35, 30])
        assert "leave nothing for 'yes_no'" in caplog.text
        caplog.clear()
    assert frequencies(examples, {"extract": 0.5, "score": 0.4, "yes_no": 0.1})[
        kind == "yes_no"
    ].sum() == pytest.approx(10)
    assert not caplog.text


def test_bins_are_evened_out_part_of_the_way_and_no_example_is_drawn_too_often() -> None:
    rows = [example(n, "score", f"s{n}", 9.5, "overall") for n in range(90)]
    rows += [example(n, "score", f"s{n}", 0.5, "overall") for n in range(90, 100)]
    rows += [row(f"n{n}", "score", None, aspect="overall") for n in range(20)]
    examples = EXAMPLES.frame(rows)
    for evenness, low in ((0.0, 10), (0.5, 100 * 10**0.5 / (90**0.5 + 10**0.5)), (1.0, 50)):
        out = frequencies(examples, {}, evenness=evenness)
        assert (out[:90].sum(), out[90:100].sum(), out[100:].sum()) == pytest.approx((100 - low, low, 20))
    capped = frequencies(examples, {}, evenness=1.0, max_frequency=2.0)
    assert capped.max() == pytest.approx(2.0)
    assert capped.sum() == pytest.approx(len(rows))
    assert capped[:90].max() < 1 < capped[100:].min()


def test_a_task_that_there_is_not_cannot_be_repeated() -> None:
    with pytest.raises(T2IEvalError, match=r"no task 'check_1' to repeat .*attributes_1"):
        rebalance(EXAMPLES.frame([row("e", "extract", None)]), method="none", repeats={"check_1": 2})


def test_the_sampler_has_no_use_for_repeats() -> None:
    with pytest.raises(T2IEvalError, match="copies nothing"):
        rebalance(EXAMPLES.frame([row("e", "extract", None)]), method="weighted", repeats={"extract": 2})


def test_the_table_counts_what_the_sampler_draws() -> None:
    rows = [example(n, "score", f"s{n}", 9.5, "overall") for n in range(30)] + [row("e", "extract", None)]
    balanced, table = rebalance(EXAMPLES.frame(rows), method="weighted")
    assert table["after"].sum() == pytest.approx(balanced["frequency"].sum())
