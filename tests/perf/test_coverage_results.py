"""The simulation of coverage and error rates says what the code and docs/agreement.md say."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from t2i_eval_kedro.statistics.bootstrap import MIN_GROUPS
from t2i_eval_kedro.statistics.inference_targets import MIN_RATERS
from t2i_eval_kedro.statistics.ranking import MIN_GENERATORS
from t2i_eval_kedro.statistics.significance import MIN_PROMPTS, MIN_PROMPTS_WITHIN

ROOT = Path(__file__).parents[2]
WITHIN = "kendall_b_within_prompt"


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    return json.loads((ROOT / "perf/results/coverage.json").read_text())["result"]


def stated(pattern: str) -> list[float]:
    """The numbers that docs/agreement.md gives where it matches ``pattern``."""
    text = " ".join((ROOT / "docs/agreement.md").read_text().split())
    match = re.search(pattern, text)
    assert match, pattern
    return [float(number) for number in match.groups()]


def rejected(rows: Iterable[dict[str, Any]]) -> list[float]:
    """The share of true hypotheses that is rejected, of every p-value that is shown."""
    return [
        share
        for row in rows
        for shares in row["type_one_error"].values()
        for name, share in shares.items()
        if row["p_value_within_prompts_given" if name == WITHIN else "p_value_given"]
    ]


def test_there_is_an_interval_or_a_p_value_from_the_least_numbers_of_the_code_on(result: dict[str, Any]) -> None:
    assert result["least_numbers"] == {
        "prompts_for_an_interval": MIN_GROUPS,
        "prompts_for_a_p_value": MIN_PROMPTS,
        "prompts_for_a_p_value_within_prompts": MIN_PROMPTS_WITHIN,
        "generators": MIN_GENERATORS,
        "raters": MIN_RATERS,
    }
    for row in result["prompts"]:
        n = row["prompts"]
        given = (row["interval_given"], row["p_value_given"], row["p_value_within_prompts_given"])
        assert given == (n >= MIN_GROUPS, n >= MIN_PROMPTS, n >= MIN_PROMPTS_WITHIN)
    assert stated(r"Below (\d+) prompts there is no interval, below (\d+) no p-value \((\d+) for") == [
        MIN_GROUPS,
        MIN_PROMPTS,
        MIN_PROMPTS_WITHIN,
    ]
    assert stated(r"intervals over raters cover [\d.]+% to [\d.]+% from (\d+) raters on") == [MIN_RATERS]


def test_what_is_shown_covers_and_rejects_as_often_as_the_docs_say(result: dict[str, Any]) -> None:
    given = [row for row in result["prompts"] if row["interval_given"]]
    covered = [
        share for row in given for kind in ("coverage", "coverage_of_differences") for share in row[kind].values()
    ]
    raters = [row["coverage"] for row in result["raters"] if row["interval_given"]]
    for shares, pattern, digits in (
        (covered, r"intervals cover ([\d.]+)% to ([\d.]+)% in", 0),
        (raters, r"over raters cover ([\d.]+)% to ([\d.]+)% from", 0),
        (rejected(result["prompts"]), r"the test rejects ([\d.]+)% to ([\d.]+)% of true", 1),
    ):
        assert stated(pattern) == [round(100 * min(shares), digits), round(100 * max(shares), digits)], pattern
