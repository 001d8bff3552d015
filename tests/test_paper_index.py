"""The index of the papers' claims: its commands resolve, its figures are those of the committed files, its verdicts follow from them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import test_documents
from kedro_project import ROOT

from t2i_eval_kedro.reporting.ablations import CLAIMS

PAGE = ROOT / "docs" / "paper_index.md"
STUDY = "kedro ablations --study ablation --jobs 2"
ROWS = [
    tuple(cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1])
    for line in PAGE.read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("| claim")
]
ABLATIONS = json.loads((ROOT / "perf/results/ablations.json").read_text(encoding="utf-8"))
STRUCTURE_SUMMARY = ROOT / "perf/results/summaries/shapes_structure-networks.json"
MEASURED = {claim["text"]: claim for claim in ABLATIONS["claims"]}


def estimate(entry: dict) -> str:
    """The difference to two digits; to three where a bound would read as zero."""
    digits = 3 if any(abs(entry[bound]) < 0.005 for bound in ("low", "high")) else 2
    shown = [f"{entry[name]:+.{digits}f}" for name in ("difference", "low", "high")]
    value, low, high = ("+0" + text[2:] if float(text) == 0 else text for text in shown)
    return f"{value} [{low}, {high}]"


def seeds(number: int) -> str:
    return f"{number} seed{'s' * (number > 1)}"


def verdict(entry: dict) -> str:
    sure = entry["p_holm"] is not None and entry["p_holm"] < 0.05
    return "holds" if entry["low"] > 0 and sure else "fails" if entry["high"] < 0 and sure else "open"


def test_all_five_papers_and_every_claim_of_the_study_are_there() -> None:
    titles = re.findall(r"^## .*arXiv (\S+)\)", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert titles == ["2411.15488", "2505.17897", "2406.16562", "2412.18150", "2505.16314"]
    texts = {row[0] for row in ROWS}
    by_the_study = {row[0] for row in ROWS if row[1].strip("`") == STUDY}
    assert {claim.text for claim in CLAIMS} <= by_the_study
    assert len(texts) == len(ROWS) >= 25


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_a_row_has_a_command_a_figure_of_a_file_and_what_follows(
    row: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, command, figure, follows = row
    (text,) = re.findall(r"`(.+?)`", command)
    test_documents.test_a_documented_command_is_one_that_there_is(PAGE, text, monkeypatch)
    assert follows in ("holds", "fails", "open")
    if figure == "open":
        assert follows == "open"
        assert claim not in MEASURED, "the study has measured it"
        return
    shown, link = re.fullmatch(r"\[(.+)\]\((\S+)\)", figure).groups()  # type: ignore[union-attr]
    file = (PAGE.parent / link).resolve()
    assert file.is_file()
    if file.name == "ablations.json":
        entry = MEASURED[claim]
        assert (shown, follows) == (f"{estimate(entry)}, {seeds(len(entry['seeds']))}", verdict(entry))
    elif file.name.startswith("shapes_structure"):
        a, b, name = re.findall(r"`(\w+)`", shown)
        entry = structure_difference(file, a, b, name)
        assert shown.partition(": ")[2] == estimate(entry)
        assert follows == ("holds" if entry["low"] > 0 else "fails" if entry["high"] < 0 else "open")
    elif file.parent.name == "summaries":
        entry = difference(file, *re.findall(r"`(\w+)`", shown))
        assert shown.partition(": ")[2] == estimate(entry)
        assert follows == verdict(entry)
    elif file.name in ("grpo.json", "grpo_long.json"):
        a, b, protocol = re.findall(r"`(\w+)`", shown)
        result = json.loads(file.read_text(encoding="utf-8"))["result"]
        found = result["differences"][f"{a} - {b}"][protocol]
        both = min(result["rows"][name]["seeds"] for name in (a, b))
        assert shown.partition(": ")[2] == f"{estimate(found | {'difference': found['value']})}, {seeds(both)}"
        assert follows == ("holds" if found["low"] > 0 else "fails" if found["high"] < 0 else "open")
    elif file.name == "heads.json":
        found = json.loads(file.read_text(encoding="utf-8"))
        names = re.findall(r"`(\w+)`", shown)
        entry = found["differences"][" - ".join(names)] if len(names) == 2 else found["ensembles"][names[0]]["gain"]
        assert shown.partition(": ")[2] == estimate({"difference": entry["value"], **entry})
        assert follows == ("holds" if entry["low"] > 0 else "fails" if entry["high"] < 0 else "open")
    elif file.name == "evalalign.json":
        judge, aggregate = re.findall(r"`(\w+)`", shown)
        kendall = json.loads(file.read_text(encoding="utf-8"))["runs"]["1.0"]["kendall"]
        (entry,) = [row for row in kendall if (row["evaluator"], row["aggregate"]) == (judge, aggregate)]
        assert shown.partition(": ")[2] == estimate({"difference": entry["value"], **entry})
        assert follows == ("holds" if entry["low"] > 0 else "fails" if entry["high"] < 0 else "open")
    elif file.name == "reannotation.json":
        found = json.loads(file.read_text(encoding="utf-8"))["result"]
        figures = [found[name]["rmse_to_truth"] for name in ("first", "second")]
        ceilings = [found[name]["noise_ceiling_spearman"]["value"] for name in ("first", "second")]
        expected = [*(f"{value:.2f}" for value in figures), *(f"{value:.3f}" for value in ceilings)]
        assert re.findall(r"\d\.\d+", shown) == expected
        assert follows == ("holds" if figures[1] < figures[0] else "fails")


def difference(file: Path, a: str, b: str) -> dict:
    """The paired difference in Spearman of the overall score, as a run's summary has it."""
    summary = json.loads(file.read_text(encoding="utf-8"))
    for entry in summary["significance"]:
        if (entry["dimension"], entry["statistic"]) == ("overall", "spearman") and {entry["a"], entry["b"]} == {a, b}:
            if entry["a"] == a:
                return entry
            return entry | {"difference": -entry["difference"], "low": -entry["high"], "high": -entry["low"]}
    raise AssertionError(f"{file.name} does not compare {a} with {b}")


def structure_difference(file: Path, a: str, b: str, figure: str) -> dict:
    """The paired difference of two models of structure on families of faults that were seen in training."""
    measured = json.loads(file.read_text(encoding="utf-8"))
    for entry in [*measured["differences"], *measured["labels"]["differences"]]:
        if entry["stratum"] == "seen" and {entry["a"], entry["b"]} == {a, b}:
            value, low, high = (entry[figure][part] for part in ("value", "low", "high"))
            if entry["a"] == a:
                return {"difference": value, "low": low, "high": high}
            return {"difference": -value, "low": -high, "high": -low}
    raise AssertionError(f"{file.name} does not compare {a} with {b}")


STRUCTURE = ROOT / "docs" / "structure.md"
MEASURED_STRUCTURE = re.findall(
    r"^\| `(\w+)` \| (seen|unseen) \| (.+?) \|$", STRUCTURE.read_text(encoding="utf-8"), re.MULTILINE
)


@pytest.mark.parametrize("row", MEASURED_STRUCTURE, ids=["-".join(row[:2]) for row in MEASURED_STRUCTURE])
def test_the_figures_of_the_page_on_structure_are_those_of_the_summary(row: tuple[str, str, str]) -> None:
    name, stratum, cells = row
    summary = json.loads(STRUCTURE_SUMMARY.read_text(encoding="utf-8"))
    figures = summary["variants"][name][stratum]
    expected = [figures[figure] for figure in ("F1_Score", "SRCC", "PLCC", "Final_Score")]
    assert cells.split(" | ") == [f"{one['value']:.2f} [{one['low']:.2f}, {one['high']:.2f}]" for one in expected]


def test_the_page_on_structure_shows_every_network_on_seen_and_unseen_faults() -> None:
    assert len(MEASURED_STRUCTURE) == 6


RESULTS = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
STUDY_ROWS = re.findall(r"^\| `(\w+)` \| (\d) \| (.+?) \|$", RESULTS, re.MULTILINE)


@pytest.mark.parametrize("row", STUDY_ROWS, ids=[row[0] for row in STUDY_ROWS])
def test_the_figures_of_the_study_s_page_are_those_of_its_file(row: tuple[str, str, str]) -> None:
    def shown(figure: dict | None) -> str:
        return "-" if figure is None else f"{figure['value']:.2f} [{figure['low']:.2f}, {figure['high']:.2f}]"

    variant, seeds, cells = row
    study = ABLATIONS
    free_form, request = (study["scores"][name] for name in ("free_form", "request"))
    entries = [entry for entry in free_form["differences"] if (entry["a"], entry["b"]) == (variant, "full")]
    assert int(seeds) == len(study["seeds"][variant])
    assert [cell.strip() for cell in cells.split("|")] == [
        shown(free_form["figures"].get(variant)),
        *(part for entry in entries for part in (estimate(entry), f"{entry['p_holm']:.3f}")),
        *([] if entries else ["", ""]),
        shown(request["figures"].get(variant)),
    ]


def test_the_study_s_page_has_every_variant_that_was_measured() -> None:
    assert [row[0] for row in STUDY_ROWS] == list(ABLATIONS["variants"])
