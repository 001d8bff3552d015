"""The study of GRPO at a tiny size: every kind of row runs, is kept, and is not run again."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from perf.grpo import FULL, LONG, ROWS, TENTH, UNTRAINED, Row, Study, run

from t2i_eval_kedro.steps import REASON, REASON_PAIR, SCORE
from t2i_eval_kedro.training.settings import GRPOSettings

SMALL = {
    "sft": {"max_steps": 3, "batch_size": 8, "eval_steps": 0, "eval_examples": 8, "warmup_steps": 0, "save_steps": 0},
    "grpo": {
        "max_steps": 1,
        "prompts_per_step": 2,
        "generations": 2,
        "batch_size": 4,
        "eval_steps": 1,
        "eval_examples": 4,
        "max_completion_length": 12,
        "logging_steps": 1,
        "save_steps": 0,
        "min_distinct": 0,
    },
}


@pytest.mark.slow
def test_rows_are_run_once_and_make_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {
        UNTRAINED: Row(UNTRAINED),
        "grpo_from_untrained": Row(UNTRAINED, {"tasks": [SCORE], "start": "base", "rehearsal_weight": 0.0}),
        TENTH: Row(TENTH),
        "grpo_preferences": Row(TENTH, {"tasks": [REASON_PAIR], "targets": "preferences"}),
    }
    study = Study(tmp_path, 12, SMALL, resamples=20)
    share = {name: _share(study.supervised(name, 0), REASON) for name in (FULL, LONG)}
    assert 1.5 < share[LONG] / share[FULL] < 3
    result = run(study, rows)
    assert set(result["rows"]) == set(rows)
    assert result["rows"]["grpo_from_untrained"]["took"][0]["seconds_per_step"]["generation"] > 0
    assert -1 <= result["rows"][UNTRAINED]["levels"]["points"]["value"] <= 1
    assert 0 <= result["rows"][UNTRAINED]["levels"]["within"]["value"] <= 1
    assert set(result["differences"]) == {"grpo_from_untrained - untrained", "grpo_preferences - sft_tenth"}
    assert result["rows"]["grpo_preferences"]["pairs"]["read"] == 0  # three steps do not teach a grammar

    def trained_again(*_: object) -> None:
        raise AssertionError("a finished row was trained again")

    monkeypatch.setattr(Study, "train", trained_again)
    assert run(study, rows)["differences"] == result["differences"]


def _share(examples: pd.DataFrame, task: str) -> float:
    drawn = examples[examples["fold"] == "train"]
    return float(drawn.loc[drawn["task"] == task, "frequency"].sum() / drawn["frequency"].sum())


def test_every_row_has_settings_that_are_valid() -> None:
    from t2i_eval_kedro.judging.project import Project

    given = dict(Project.open(Path(), "base", {"student": "tiny_vlm"}).parameters["grpo"])
    for name, row in ROWS.items():
        assert row.start in (UNTRAINED, TENTH, FULL, LONG), name
        if row.grpo is not None:
            settings = GRPOSettings.model_validate(
                given | dict(row.grpo) | {"rewards": given["rewards"] | dict(row.grpo.get("rewards", {}))}
            )
            assert settings.chosen_rewards()
