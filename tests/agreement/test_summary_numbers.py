"""Numbers of the summary against short independent computations with numpy, scipy and statsmodels.

Intervals and p-values are recomputed with random numbers of their own, so they agree up to Monte-Carlo error only.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from t2i_eval_kedro import schema
from t2i_eval_kedro.agreement import judge_agreement, summarise
from t2i_eval_kedro.agreement.challenge import vqascore_accuracy
from t2i_eval_kedro.statistics import correlation, pooled

PROMPTS, GENERATORS = 40, 9
JUDGES = {"good": 0.4, "fair": 1.2, "fair2": 1.3, "poor": 4.0}
B = 1000


def _frames() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(5)
    items, ratings, scores = [], [], []
    for p in range(PROMPTS):
        # Every fourth prompt has 2 items, fewer than an average within prompts takes.
        for g in range(GENERATORS) if p % 4 else rng.choice(GENERATORS, 2, replace=False):
            item, truth = f"p{p:02d}g{g}", rng.normal() + 0.4 * g
            items.append(
                {
                    "item_id": item,
                    "benchmark": "b",
                    "prompt_id": f"p{p}",
                    "prompt": f"text {p:02d}",
                    "generator": f"g{g}",
                }
            )
            for rater, noise in enumerate((0.6, 1.0, 1.6)):
                value = float(np.clip(np.round(truth + 1.5 + noise * rng.normal()), 1, 5))
                ratings.append(
                    {
                        "item_id": item,
                        "rater_id": f"r{rater}",
                        "dimension": "overall",
                        "score": value,
                        "scale_min": 1,
                        "scale_max": 5,
                        "off_scale": False,
                    }
                )
            for name, noise in JUDGES.items():
                scores.append(
                    {
                        "item_id": item,
                        "judge": name,
                        "dimension": "",
                        "run": 0,
                        "score": truth + noise * rng.normal(),
                        "status": "ok",
                        "higher_is_better": True,
                    }
                )
    return schema.ITEMS.frame(items), schema.RATINGS.frame(ratings), schema.SCORES.frame(scores)


FRAMES = _frames()


@pytest.fixture(scope="module")
def summary() -> Any:
    return summarise(*FRAMES, n_resamples=B)


@pytest.fixture(scope="module")
def wide() -> pd.DataFrame:
    """One row an item: prompt, generator, gold and each judge's score."""
    items, ratings, scores = FRAMES
    table = items.set_index("item_id")[["prompt", "generator"]]
    table["gold"] = ratings.groupby("item_id")["score"].mean()
    return table.join(scores.pivot_table(index="item_id", columns="judge", values="score")).sort_index()


def spearman(x: Any, y: Any) -> float:
    return float(stats.spearmanr(x, y).statistic)


def bootstrap(wide: pd.DataFrame, by: str, statistic: Any, confidence: float = 0.95) -> tuple[float, float]:
    """Percentile interval of ``statistic`` of the table, with whole groups of column ``by`` resampled."""
    rng = np.random.default_rng(99)
    parts = [part for _, part in wide.groupby(by)]
    values = [statistic(pd.concat([parts[k] for k in rng.integers(len(parts), size=len(parts))])) for _ in range(400)]
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return low, high


def test_the_interval_equals_a_bootstrap_over_prompts(summary, wide):
    found = summary["evaluators"]["fair"]["overall"]["spearman"]
    low, high = bootstrap(wide, "prompt", lambda t: spearman(t["fair"], t["gold"]))
    assert (found["low"], found["high"]) == (pytest.approx(low, abs=0.02), pytest.approx(high, abs=0.02))


def test_the_interval_has_the_confidence_asked_for(wide):
    found = summarise(*FRAMES, n_resamples=B, confidence=0.6)["evaluators"]["fair"]["overall"]["spearman"]
    low, high = bootstrap(wide, "prompt", lambda t: spearman(t["fair"], t["gold"]), 0.6)
    assert (found["low"], found["high"]) == (pytest.approx(low, abs=0.015), pytest.approx(high, abs=0.015))


def test_the_interval_over_generators_resamples_generators(summary, wide):
    found = summary["intervals"]["fair"]["overall"]["spearman"]["generators"]
    # Student's t on Fisher's scale: the spread of z is half the length of its 68.27% interval.
    one_deviation = 2 * stats.norm.cdf(1) - 1
    low, high = np.arctanh(bootstrap(wide, "generator", lambda t: spearman(t["fair"], t["gold"]), one_deviation))
    z = np.arctanh(spearman(wide["fair"], wide["gold"]))
    reach = stats.t.isf(0.025, GENERATORS - 1) * (high - low) / 2 * np.sqrt(GENERATORS / (GENERATORS - 1))
    assert found["low"] == pytest.approx(np.tanh(z - reach), abs=0.03)
    assert found["high"] == pytest.approx(np.tanh(z + reach), abs=0.03)


def test_within_prompts_only_groups_of_three_or_more_count_in_value_and_interval(summary, wide):
    found = summary["within_group"]["prompt"]["fair"]["overall"]["kendall_b"]
    large = wide[wide.groupby("prompt")["gold"].transform("size") >= 3]

    def mean(table: pd.DataFrame) -> float:
        return float(np.mean(table["tau"]))

    taus = large.groupby("prompt").apply(lambda t: stats.kendalltau(t["fair"], t["gold"]).statistic)
    assert found["value"] == pytest.approx(taus.mean(), abs=1e-6)
    assert (found["n_groups"], found["suppressed_groups"]) == (30, 10)
    low, high = bootstrap(pd.DataFrame({"tau": taus.to_numpy(), "prompt": taus.index.to_numpy()}), "prompt", mean)
    assert (found["low"], found["high"]) == (pytest.approx(low, abs=0.02), pytest.approx(high, abs=0.02))


def test_within_generators_the_value_is_the_plain_mean_and_the_interval_its_bootstrap(summary, wide):
    found = summary["within_group"]["generator"]["fair"]["overall"]["pearson"]

    def mean(table: pd.DataFrame) -> float:
        return float(
            np.mean([np.corrcoef(t["fair"], t["gold"])[0, 1] for _, t in table.groupby("generator") if len(t) > 1])
        )

    assert found["value"] == pytest.approx(mean(wide), abs=1e-6)
    low, high = bootstrap(wide, "prompt", mean)
    assert (found["low"], found["high"]) == (pytest.approx(low, abs=0.03), pytest.approx(high, abs=0.03))
    one = summary["within_group"]["generator"]["fair"]["overall"]["groups"]["g3"]["pearson"]["value"]
    own = wide[wide["generator"] == "g3"]
    assert one == pytest.approx(np.corrcoef(own["fair"], own["gold"])[0, 1], abs=1e-6)


def test_the_ranking_of_generators_equals_scipy_on_means(summary, wide):
    found = summary["ranking"]["fair"]["overall"]
    means = wide.groupby("generator")[["fair", "gold"]].mean()
    assert found["kendall_b"]["value"] == pytest.approx(stats.kendalltau(means["fair"], means["gold"]).statistic)
    ranks = means["fair"].rank(ascending=False).astype(int).to_dict()
    assert {name: row["rank"] for name, row in found["generators"].items()} == ranks


def test_soft_pairwise_accuracy_equals_a_permutation_of_prompts(summary, wide):
    rng = np.random.default_rng(3)
    signs = rng.choice([-1.0, 1.0], size=(4000, PROMPTS))
    gaps = {}
    for name in ("poor", "gold"):
        table = wide.pivot_table(index="prompt", columns="generator", values=name).to_numpy()
        gaps[name] = [np.nan_to_num(table[:, i] - table[:, j]) for i, j in itertools.combinations(range(GENERATORS), 2)]
    p = {name: np.array([np.mean(signs @ gap > gap.sum()) for gap in of]) for name, of in gaps.items()}
    expected = 1 - np.abs(p["poor"] - p["gold"]).mean()
    assert expected < 0.95
    assert summary["ranking"]["poor"]["overall"]["soft_pairwise_accuracy"]["value"] == pytest.approx(expected, abs=0.01)


def permutation_p(wide: pd.DataFrame, by: str, a: str, b: str) -> float:
    """Two-sided p-value of the difference of Spearman, the ranks of whole groups exchanged."""
    rng = np.random.default_rng(7)
    x, z, y = wide[a].rank().to_numpy(), wide[b].rank().to_numpy(), wide["gold"].to_numpy()
    code = wide[by].astype("category").cat.codes.to_numpy()
    observed = spearman(x, y) - spearman(z, y)
    extreme = 0
    for _ in range(600):
        swap = rng.integers(0, 2, code.max() + 1)[code].astype(bool)
        extreme += abs(spearman(np.where(swap, z, x), y) - spearman(np.where(swap, x, z), y)) >= abs(observed)
    return (extreme + 1) / 601


def entry(summary: Any, a: str, b: str, statistic: str = "spearman") -> Any:
    return next(e for e in summary["significance"] if {e["a"], e["b"]} == {a, b} and e["statistic"] == statistic)


def test_the_test_between_judges_equals_a_permutation_of_prompts(summary, wide):
    assert entry(summary, "fair", "fair2")["p"] == pytest.approx(
        permutation_p(wide, "prompt", "fair", "fair2"), abs=0.06
    )


def test_the_test_over_generators_equals_a_permutation_of_generators(summary, wide):
    assert entry(summary, "good", "fair")["generators"]["p"] < 0.05
    expected = permutation_p(wide, "generator", "fair", "fair2")
    assert entry(summary, "fair", "fair2")["generators"]["p"] == pytest.approx(expected, abs=0.06)


def test_adjusted_p_values_equal_statsmodels(summary):
    for statistic in ("spearman", "kendall_b", "pearson", "kendall_b_within_prompt"):
        entries = [e for e in summary["significance"] if e["statistic"] == statistic]
        assert len(entries) == 6
        p = [e["p"] for e in entries]
        assert [e["p_holm"] for e in entries] == pytest.approx(multipletests(p, method="holm")[1], abs=2e-6)
        assert [e["p_benjamini_hochberg"] for e in entries] == pytest.approx(
            multipletests(p, method="fdr_bh")[1], abs=2e-6
        )
        assert [e["p_holm"] for e in entries] != p


def test_judges_share_a_rank_unless_they_differ_significantly(summary):
    found = summary["ranks"]["overall"]["spearman"]
    assert {name: row["rank"] for name, row in found.items()} == {"good": 1, "fair": 2, "fair2": 2, "poor": 3}
    for name, row in found.items():
        assert sum(row["rank_probability"]) == pytest.approx(1, abs=1e-5), name
    assert found["good"]["rank_probability"][0] > 0.99


def test_the_noise_ceiling_and_the_correction_for_attenuation(summary, wide):
    ratings = FRAMES[1].pivot_table(index="item_id", columns="rater_id", values="score").loc[wide.index]
    single = np.mean([ratings[a].corr(ratings[b]) for a, b in itertools.combinations(ratings.columns, 2)])
    ceiling = np.sqrt(3 * single / (1 + 2 * single))
    assert summary["noise_ceiling"]["overall"]["pearson"]["value"] == pytest.approx(ceiling, abs=1e-6)
    found = summary["evaluators"]["fair"]["overall"]["pearson"]
    expected = np.corrcoef(wide["fair"], wide["gold"])[0, 1] / ceiling
    assert found["corrected_for_attenuation"] == pytest.approx(expected, abs=1e-5)


def test_the_leave_one_rater_out_baseline_of_rater_and_judge(summary, wide):
    ratings = FRAMES[1].pivot_table(index="item_id", columns="rater_id", values="score").loc[wide.index]
    others = {r: ratings.drop(columns=r).mean(axis=1).round(9) for r in ratings}
    found = summary["leave_one_rater_out"]["poor"]["overall"]["spearman"]
    rater = np.mean([spearman(ratings[r], others[r]) for r in ratings])
    judge = np.mean([spearman(wide["poor"], others[r]) for r in ratings])
    assert abs(rater - judge) > 0.2
    assert (found["rater"], found["judge"]) == (pytest.approx(rater, abs=1e-6), pytest.approx(judge, abs=1e-6))


def test_unidentified_raters_are_not_resampled(summary):
    assert summary["intervals"]["fair"]["overall"]["spearman"]["raters"]["low"] is not None
    slots = summarise(*FRAMES, n_resamples=50, unidentified_raters=True)
    found = slots["intervals"]["fair"]["overall"]["spearman"]["raters"]
    assert found == {"low": None, "high": None, "reason": "the raters cannot be told apart"}
    assert slots["raters"]["overall"]["icc_2"]["value"] is None


def test_element_metrics_and_preferences_equal_counts(wide):
    items, ratings, scores = FRAMES
    labels = [
        {"item_id": item, "element_id": "e", "rater_id": "r", "label": float(k % 3 > 0)}
        for k, item in enumerate(wide.index)
    ]
    judged = [
        {"item_id": item, "element_id": "e", "judge": "j", "run": 0, "score": float(k % 4 == 1), "status": "ok"}
        for k, item in enumerate(wide.index)
    ]
    pairs = [
        {"prompt_id": p, "item_a": t["item_id"].iloc[0], "item_b": t["item_id"].iloc[1], "rater_id": "r", "label": "a"}
        for p, t in items.groupby("prompt_id")
    ]
    out = summarise(
        items,
        ratings,
        scores,
        n_resamples=50,
        element_ratings=schema.ELEMENT_RATINGS.frame(labels),
        element_scores=schema.ELEMENT_SCORES.frame(judged),
        preferences=schema.PREFERENCES.frame(pairs),
    )
    true, said = np.arange(len(wide)) % 3 > 0, np.arange(len(wide)) % 4 == 1
    found = {name: cell["value"] for name, cell in out["elements"]["j"].items() if name != "n_unscored"}
    assert found["precision"] == pytest.approx((true & said).sum() / said.sum(), abs=1e-6)
    assert found["recall"] == pytest.approx((true & said).sum() / true.sum(), abs=1e-6)
    hits = [wide.loc[row["item_a"], "good"] > wide.loc[row["item_b"], "good"] for row in pairs]
    assert out["preferences"]["good"][""]["accuracy"]["value"] == pytest.approx(np.mean(hits), abs=1e-6)


def test_the_corrected_vqascore_accuracy_takes_its_threshold_from_other_prompts():
    # Two prompts, so each is scored with the threshold of the other. In the first every gap of the judge up to 1 is a
    # tie of people; in the second no gap is. Tuned on themselves both would be perfect.
    scores = np.array([0.0, 0.5, 1.0, 0.0, 0.5, 1.0])
    ratings = np.array([3.0, 3.0, 3.0, 1.0, 2.0, 3.0])
    prompt = np.array([0, 0, 0, 1, 1, 1])
    assert vqascore_accuracy(scores, ratings, prompt, "corrected")["accuracy"] == 0
    assert vqascore_accuracy(scores[:3], ratings[:3])["accuracy"] == 1
    assert vqascore_accuracy(scores[3:], ratings[3:])["accuracy"] == 1


@pytest.mark.parametrize("missing", ["drop", "worst", "mean"])
def test_an_incomplete_judge_has_coverage_and_its_agreement_with_the_worst_score_for_the_rest(wide, missing):
    items, ratings, scores = FRAMES
    part = scores.copy()
    # The judge answers only the images that people like: left out are those where it might be wrong.
    low = set(wide.index[wide["gold"] < wide["gold"].median()])
    silent = (part["judge"] == "fair") & part["item_id"].isin(low)
    part.loc[silent, "score"], part.loc[silent, "status"] = np.nan, "failed"
    out = summarise(items, ratings, part, n_resamples=50, missing=missing)
    found = out["completeness"]["fair"]["overall"]
    kept = ~wide.index.isin(low)
    assert found["coverage"] == pytest.approx(kept.mean(), abs=1e-6)
    assert found["n_unscored"] == (~kept).sum()
    filled = wide["fair"].where(kept, wide["fair"][kept].min())
    assert found["unscored_as_worst"]["spearman"]["value"] == pytest.approx(spearman(filled, wide["gold"]), abs=1e-6)
    judged = out["evaluators"]["fair"]["overall"]["spearman"]["value"]
    stand_in = {"drop": np.nan, "worst": wide["fair"][kept].min(), "mean": wide["fair"][kept].mean()}[missing]
    used = wide.assign(fair=wide["fair"].where(kept, stand_in)).dropna(subset="fair")
    assert judged == pytest.approx(spearman(used["fair"], used["gold"]), abs=1e-6)
    assert out["completeness"]["good"]["overall"]["coverage"] == 1


def test_the_spread_over_runs_of_a_judge(wide):
    items, ratings, scores = FRAMES
    rng = np.random.default_rng(1)
    one = scores[scores["judge"] == "good"]
    runs = [one.assign(run=run, score=one["score"] + 0.8 * rng.normal(size=len(one))) for run in range(3)]
    out = summarise(
        items, ratings, schema.SCORES.check(pd.concat([*runs, scores[scores["judge"] != "good"]])), n_resamples=50
    )
    found = out["runs"]["good"]["overall"]
    by_run = [spearman(r.set_index("item_id")["score"].loc[wide.index], wide["gold"]) for r in runs]
    assert found["spearman"]["by_run"] == pytest.approx(by_run, abs=1e-6)
    assert found["spearman"]["mean"] == pytest.approx(np.mean(by_run), abs=1e-6)
    assert found["spearman"]["standard_deviation"] == pytest.approx(np.std(by_run, ddof=1), abs=1e-6)
    assert found["score_standard_deviation"] == pytest.approx(0.8, abs=0.06)
    assert set(out["runs"]) == {"good"}
    low = [run.assign(score=-run["score"], higher_is_better=False) for run in runs]  # one whose low scores are good
    turned = summarise(items, ratings, schema.SCORES.check(pd.concat(low)), n_resamples=50)["runs"]["good"]["overall"]
    assert turned["score_standard_deviation"] == found["score_standard_deviation"]
    assert turned["spearman"] == found["spearman"]
    assert out["evaluators"]["good"]["overall"]["spearman"]["value"] > found["spearman"]["mean"]


@pytest.mark.parametrize("prompts", [1, 6, 7, 8])
def test_below_the_least_number_of_prompts_there_is_no_interval_and_no_p_value(prompts):
    items, ratings, scores = FRAMES
    few = items[items["prompt_id"].isin([f"p{p}" for p in range(1, 40) if p % 4][:prompts])]
    out = summarise(few, ratings, scores, n_resamples=100)
    found = out["evaluators"]["fair"]["overall"]["spearman"]
    assert found["value"] is not None
    assert (found["low"] is None) is (prompts < 8)
    few = "1 prompt is too few (at least 8)" if prompts == 1 else f"{prompts} prompts are too few (at least 8)"
    assert (few in found.get("reason", "")) is (prompts < 8)
    test = entry(out, "fair", "poor")
    assert test["difference"] is not None
    assert entry(out, "fair", "poor", "kendall_b_within_prompt")["p"] is None  # at least 15 there
    assert (test["p"] is None) is (prompts < 7)
    assert ("no p-value" in test.get("reason", "")) is (prompts < 7)


def test_fewer_than_three_raters_have_no_interval_over_raters():
    items, ratings, scores = FRAMES
    out = summarise(items, ratings[ratings["rater_id"] != "r2"], scores, n_resamples=50)
    found = out["intervals"]["fair"]["overall"]["spearman"]["raters"]
    assert found["low"] is None
    assert "2 raters are too few" in found["reason"]


def concordance(x: Any, y: Any) -> float:
    """Lin's concordance correlation (1989), which this project does not report."""
    return float(2 * np.cov(x, y, ddof=0)[0, 1] / (np.var(x) + np.var(y) + (np.mean(x) - np.mean(y)) ** 2))


def test_a_statistic_is_added_by_a_function_and_its_name_and_then_has_an_interval(
    wide: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What CONTRIBUTING.md says: nothing but these two lines, and the summary has value and interval."""
    monkeypatch.setattr(pooled, "STATISTIC_FUNCTIONS", correlation.STATISTIC_FUNCTIONS | {"concordance": concordance})
    monkeypatch.setattr(judge_agreement, "REPORTED_STATISTICS", (*judge_agreement.REPORTED_STATISTICS, "concordance"))
    items, ratings, scores = FRAMES
    cell = summarise(items, ratings, scores[scores["judge"] == "good"], n_resamples=300)["evaluators"]["good"][
        "overall"
    ]
    low, high = bootstrap(wide, "prompt", lambda table: concordance(table["good"], table["gold"]))
    assert cell["concordance"]["value"] == pytest.approx(concordance(wide["good"], wide["gold"]), abs=1e-6)
    assert (cell["concordance"]["low"], cell["concordance"]["high"]) == pytest.approx((low, high), abs=0.02)


def test_items_of_no_generator_do_not_count_for_new_generators(wide):
    items, ratings, scores = FRAMES
    nobody = items["prompt_id"].isin(["p1", "p2", "p3"])
    photographs = items.assign(attributes=np.where(nobody, '{"real": true}', None))
    found = entry(summarise(photographs, ratings, scores, n_resamples=B), "fair", "fair2")["generators"]["p"]
    assert found == pytest.approx(
        permutation_p(wide[~wide.index.isin(items.loc[nobody, "item_id"])], "generator", "fair", "fair2"), abs=0.025
    )


@pytest.mark.parametrize("generators", [7, 8])
def test_eight_generators_are_enough_for_an_interval_over_them(generators):
    items, ratings, scores = FRAMES
    some = items[items["generator"].isin([f"g{k}" for k in range(generators)])]
    found = summarise(some, ratings, scores, n_resamples=50)["intervals"]["fair"]["overall"]["spearman"]["generators"]
    assert (found["low"] is not None) is (generators == 8)


@pytest.mark.parametrize("generators", [7, 8])
def test_generators_that_a_judge_did_not_score_or_nobody_rated_do_not_count(generators):
    items, ratings, scores = FRAMES
    some = items[items["generator"].isin([f"g{k}" for k in range(generators)])]
    part = scores[scores["item_id"].isin(some["item_id"]) | ~scores["judge"].isin(["fair", "fair2"])]
    rated = ratings[ratings["item_id"].isin(some["item_id"])]
    expected = summarise(some, rated, scores, n_resamples=50)
    for whole in (summarise(items, ratings, part, n_resamples=50), summarise(items, rated, scores, n_resamples=50)):
        assert whole["intervals"]["fair"]["overall"] == expected["intervals"]["fair"]["overall"]
        tested, alone = (entry(summary, "fair", "fair2")["generators"] for summary in (whole, expected))
        assert (tested["p"] is not None) is (generators == 8)
        assert tested.get("reason") == alone.get("reason")
