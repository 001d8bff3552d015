"""The golden files against short restatements of the released code, which use nothing of this package.

A golden file that was mistyped, or that nobody reads, would guard nothing.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import curve_fit
from scipy.stats import kendalltau, norm, pearsonr, spearmanr

FOLDER = Path(__file__).parent / "fixtures" / "golden"
PARTS = {
    "deqa_soft_label": {"rows", "made_with"},
    "dsg": {"cases", "made_with"},
    "ntire_track1": {"truth", "submission", "expected", "made_with"},
    "ntire_track2": {
        *("gt", "pred", "mask_encoding", "expected", "expected_with_function_default_ratio_0.0001", "made_with"),
    },
    "rebalance": {
        *("summarize_bins", "p75_including_NA_bin", "per_bin_out", "stage12_bins", "stage12_p75"),
        *("stage12_per_bin_out", "observed_from_official_run", "empty_bin"),
    },
    "t2i_eval_scores": {"extract", "corr", "made_with"},
    "viescore_average": {
        *("r", "official_average_correlation", "printed", "arithmetic", "fisher_proper", "human_human_T2I_SC"),
    },
}


def golden(name: str) -> Any:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def test_every_file_is_known_whole() -> None:
    assert {path.stem: set(json.loads(path.read_text())) for path in FOLDER.glob("*.json")} == PARTS
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(f"`{name}.json`" in readme for name in PARTS)


def tokens(text: str) -> list[float | None]:
    found: list[float | None] = []
    for token in text.split():
        try:
            found.append(None if token in ("N/A", "None") else float(token))
        except ValueError:
            continue
    return found


@pytest.mark.parametrize("case", golden("t2i_eval_scores")["extract"], ids=lambda case: case["text"] or "empty")
def test_t2i_eval_extraction(case: dict[str, Any]) -> None:
    found = tokens(case["text"])
    assert [str(value) for value in found] == case["list"]
    before = case["text"].split("N/A")[0]
    first = next((value for value in tokens(before) if value is not None), None)
    assert case["single"] == ("N/A" if first is None else str(first))


def test_t2i_eval_correlation() -> None:
    case = golden("t2i_eval_scores")["corr"]
    given = [value if isinstance(value, int | float) else None for value in case["result"]]
    known = [value for value in given if value is not None]
    for fill, name in ((sum(known) / len(known), "mean"), (0.0, "zero")):
        filled = [fill if value is None else value for value in given]
        assert name == "zero" or filled == case["filled_mean"]
        assert spearmanr(filled, case["ref"]).statistic == pytest.approx(case[f"spearman_{name}"], abs=1e-12)
        assert kendalltau(filled, case["ref"]).statistic == pytest.approx(case[f"kendall_b_{name}"], abs=1e-12)


def test_rebalance() -> None:
    case = golden("rebalance")
    sizes = case["summarize_bins"]
    assert case["stage12_bins"] == {name: 2 * size for name, size in sizes.items()}
    for bins, limit, out in (("summarize_bins", "p75_including_NA_bin", "per_bin_out"), ("stage12_bins", "stage12_p75", "stage12_per_bin_out")):  # fmt: skip
        assert np.percentile(list(case[bins].values()), 75) == case[limit]
        assert math.floor(case[limit]) == case[out]
    observed = case["observed_from_official_run"]
    assert (observed["summarize_per_bin"], observed["stage12_per_bin"]) == (
        case["per_bin_out"],
        case["stage12_per_bin_out"],
    )
    assert observed["summarize_total_per_category"] == 11 * case["per_bin_out"]
    assert observed["stage12_total_per_aspect"] == 11 * case["stage12_per_bin_out"]


@pytest.mark.parametrize("case", golden("dsg")["cases"])
def test_dsg(case: dict[str, Any]) -> None:
    yes = {key: answer == "yes" for key, answer in case["answers"].items()}
    valid = {key: all(yes.get(str(parent), True) for parent in case["deps"][key]) for key in yes}
    assert valid == case["validity"]
    assert case["without_dep"] == pytest.approx(sum(yes.values()) / len(yes))
    assert case["with_dep"] == pytest.approx(sum(yes[key] and valid[key] for key in yes) / len(yes))


@pytest.mark.parametrize(
    "row", golden("deqa_soft_label")["rows"], ids=lambda r: f"{r['density']}-{r['mos']}-{r['std']}"
)
def test_deqa_soft_label(row: dict[str, Any]) -> None:
    levels, mean, std = np.arange(5.0, 0, -1), row["mos"], row["std"]
    if row["density"] == "cdf":
        raw = norm.cdf((levels + 0.5 - mean) / std) - norm.cdf((levels - 0.5 - mean) / std)
    else:
        raw = norm.pdf(levels, mean, std)
    alpha = (mean - 3) / (levels @ raw - 3 * raw.sum() + 1e-9)
    beta = (1 - alpha * raw.sum()) / 5
    assert (alpha, beta) == (
        pytest.approx(row["alpha"], rel=1e-6, abs=1e-9),
        pytest.approx(row["beta"], rel=1e-6, abs=1e-9),
    )
    shares = np.maximum(alpha * raw + beta, 0)
    gauss = std >= 0.2 and abs(shares @ levels - mean) <= 0.1
    assert row["used"] == ("gauss" if gauss else "binary")
    shares = shares if gauss else np.maximum(0, 1 - abs(levels - mean))
    assert shares == pytest.approx(row["probs_excellent_to_bad"], abs=2e-8)
    assert (row["sum"], row["mean"]) == (
        pytest.approx(shares.sum(), abs=1e-7),
        pytest.approx(shares @ levels, abs=1e-7),
    )


def test_viescore_average() -> None:
    case = golden("viescore_average")
    r = np.array(case["r"])
    assert case["arithmetic"] == pytest.approx(r.mean(), abs=1e-12)
    assert case["official_average_correlation"] == pytest.approx(np.tanh(r.mean()), abs=1e-12)
    assert case["printed"] == round(case["official_average_correlation"], 4)
    assert case["fisher_proper"] == pytest.approx(np.tanh(np.arctanh(r).mean()), abs=1e-12)
    people = case["human_human_T2I_SC"]
    assert people["published"] == round(people["tanh_of_mean_of_tanh_of_model_means"], 4)
    assert people["plain_mean"] < people["fisher_proper"]


def logistic(x: Any, *b: float) -> Any:
    return (b[0] - b[1]) / (1 + np.exp(-(x - b[2]) / abs(b[3]))) + b[1]


def fitted(x: Any, y: Any) -> float:
    """Pearson's correlation of ``y`` with the four-parameter logistic fitted from ``x`` to ``y``."""
    start = [max(y), min(y), np.mean(x), 0.5]
    found, _ = curve_fit(logistic, x, y, p0=start, maxfev=int(1e8))
    return float(pearsonr(logistic(x, *found), y).statistic)


def test_ntire_track1() -> None:
    case, by_path = golden("ntire_track1"), {}
    for side in ("truth", "submission"):
        by_path[side] = {row["img_path"]: row for row in case[side]}
    paths = sorted(by_path["truth"])
    truth = np.array([by_path["truth"][path]["total_score"] for path in paths])
    given = np.array([by_path["submission"][path]["total_score"] for path in paths])
    right = Counter(
        (value >= 0.5) == (by_path["submission"][path]["element_score"][name] >= 0.5)
        for path in paths
        for name, value in by_path["truth"][path]["element_score"].items()
    )
    expected = case["expected"]
    accuracy = right[True] / right.total()
    assert expected["SRCC"] == pytest.approx(spearmanr(given, truth).statistic, abs=1e-12)
    assert expected["PLCC"] == pytest.approx(fitted(truth, given), abs=1e-4)  # the released arguments are swapped
    assert expected["plcc_if_arguments_not_swapped"] == pytest.approx(fitted(given, truth), abs=1e-4)
    assert expected["plcc_raw_pearson"] == pytest.approx(pearsonr(given, truth).statistic, abs=1e-12)
    assert expected["krcc"] == pytest.approx(kendalltau(given, truth).statistic, abs=1e-12)
    assert expected["ACC"] == pytest.approx(accuracy, abs=1e-12)
    assert expected["Final"] == pytest.approx(0.25 * (expected["SRCC"] + expected["PLCC"]) + 0.5 * accuracy, abs=1e-12)


def test_ntire_track2() -> None:
    case = golden("ntire_track2")
    names = sorted(case["gt"])
    truth, given = (np.array([case[side][name]["score"] for name in names]) for side in ("gt", "pred"))
    for part in ("expected", "expected_with_function_default_ratio_0.0001"):
        expected = case[part]
        precision, recall = expected["precision"], expected["recall"]
        assert expected["srcc"] == pytest.approx(spearmanr(given, truth).statistic, abs=1e-12)
        assert expected["plcc"] == pytest.approx(fitted(given, truth), abs=1e-4)
        assert expected["f1_score"] == pytest.approx(2 * precision * recall / (precision + recall), abs=1e-9)
        combined = 0.7 * expected["f1_score"] + 0.15 * (expected["plcc"] + expected["srcc"])
        assert expected["final_score"] == pytest.approx(combined, abs=1e-12)
    assert case["expected"]["f1_score"] != case["expected_with_function_default_ratio_0.0001"]["f1_score"]
