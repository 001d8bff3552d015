"""``plan``: from assumptions, from a pilot, and what it refuses."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from t2i_eval_kedro.cli.plan import plan


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(plan, [str(a) for a in arguments])
    return result.exit_code, result.output


@pytest.fixture
def pilot(tmp_path):
    rng = np.random.default_rng(0)
    ratings, scores = [], []
    for p in range(30):
        shared = rng.normal()
        for g in range(4):
            quality = shared + rng.normal()
            row = {"item_id": f"p{p}g{g}", "prompt_id": f"p{p}", "generator": f"g{g}", "dimension": "overall"}
            ratings += [
                row | {"rater_id": f"r{r}", "score": int(np.clip(round(3 + quality + rng.normal()), 1, 5))}
                for r in range(3)
            ]
            scores += [
                {"item_id": f"p{p}g{g}", "evaluator": name, "score": quality + noise * rng.normal()}
                for name, noise in (("good", 0.5), ("poor", 3.0))
            ]
    pd.DataFrame(ratings).to_csv(tmp_path / "ratings.csv", index=False)
    pd.DataFrame(scores).to_csv(tmp_path / "scores.csv", index=False)
    return ["--ratings", tmp_path / "ratings.csv", "--scores", tmp_path / "scores.csv"]


def table(text: str) -> pd.DataFrame:
    """The rows of the printed plan by their names."""
    lines = text[text.index("plan  prompts") :].splitlines()[1:]
    rows = {}
    for line in lines:
        *name, prompts, images, raters, ratings, ceiling, agreement, width, gap, power = line.split()
        rows[" ".join(name)] = [prompts, images, raters, ratings, ceiling, agreement, width, gap, power]
    return pd.DataFrame.from_dict(rows, orient="index")


def test_a_pilot_gives_size_components_and_judges(pilot):
    status, text = run(*pilot, "--simulations", 10)
    assert status == 0, text
    assert "30 prompts, 4 images per prompt, 3 ratings per image" in text
    assert "Judges: good, poor" in text
    rows = table(text)
    assert rows.loc["as planned", [0, 1, 2, 3]].tolist() == ["30", "4", "3", "360"]
    assert rows.loc["one more rater", [2, 3]].tolist() == ["4", "480"]
    assert rows.loc["one more image per prompt", [1, 3]].tolist() == ["5", "450"]
    assert rows.loc["a tenth more prompts", [0, 3]].tolist() == ["33", "396"]
    assert float(rows.loc["one more rater", 4]) > float(rows.loc["as planned", 4])


def test_assumptions_alone(pilot):
    size = ("--prompts", 50, "--images", 2, "--raters", 3)
    status, text = run(*size, "--reliability", 0.5, "--correlation", 0.6, "--simulations", 10)
    assert status == 0, text
    assert float(table(text).loc["as planned", 4]) == pytest.approx(np.sqrt(0.75), abs=1e-3)
    status, text = run(*size, "--reliability", 0.5)
    assert status == 1
    assert "the plan needs --correlation" in text
    status, text = run(*size, "--reliability", 0, "--correlation", 0.6)
    assert status == 1
    assert "assumed reliability is 0" in text


def test_too_few_prompts_have_no_width_and_no_power():
    size = ("--prompts", 4, "--images", 3, "--raters", 3, "--reliability", 0.5, "--correlation", 0.6)
    rows = table(run(*size, "--simulations", 10)[1])
    assert rows.loc["as planned", [6, 7, 8]].tolist() == ["–", "–", "–"]
