"""The teacher behind a server, as a person runs it: paid once, accounted for, its key nowhere."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import yaml
from chat_server import serving
from kedro_project import run_kedro

PLANTED = "sk-planted-0123456789"
TEACHER = "--pipelines=teacher_distillation"


def ask(project: Path, url: str, *more: str) -> subprocess.CompletedProcess[str]:
    given = [
        "teacher.kind=openai",
        f"teacher.openai.base_url={url}",
        "judging.wording=full",
        "teacher.openai.requests_per_minute=null",
        "teacher.openai.tokens_per_minute=null",
        *more,
    ]
    return run_kedro(project, "run", "--env=test", TEACHER, f"--params={','.join(given)}")


@pytest.mark.slow
def test_from_items_to_examples(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    made = run_kedro(project, "run", "--env=test", "--pipelines=ingestion", "--params=ingestion.shapes.n_prompts=3")
    assert made.returncode == 0, made.stderr
    with serving(tmp_path, 0.0) as server:
        without = ask(project, server.url)
        assert without.returncode == 1
        assert "The teacher has no key" in without.stderr.splitlines()[-1]

        credentials = project / "conf" / "test" / "credentials.yml"
        credentials.write_text(yaml.safe_dump({"teacher": {"api_key": PLANTED}}))
        broke = ask(project, server.url, "teacher.budget=0.2")
        assert broke.returncode == 1
        assert "The budget of 0.20 USD would be broken" in broke.stderr.splitlines()[-1]
        n_before = server.counted("answered").total()
        assert 10 < n_before < 100  # about 0.0026 USD a request

        first = ask(project, server.url)
        assert first.returncode == 0, first.stderr
        n_answered = server.counted("answered").total()
        second = ask(project, server.url)
        assert second.returncode == 0, second.stderr
        assert server.counted("answered").total() == n_answered
        assert set(server.counted("asked").values()) == {1}  # by no run twice

    data = project / "data" / "03_primary" / "shapes"
    costs = json.loads((data / "teacher_costs.json").read_text())
    assert costs["account"]["requests"] == n_answered
    assert costs["account"]["cost"] == pytest.approx(n_answered * (1000 * 2.5 + 10 * 10) / 1e6)
    assert costs["spent_so_far"] == costs["account"]
    transcripts = pd.read_parquet(data / "teacher_transcripts.parquet")
    assert transcripts["status"].eq("ok").all()
    examples = pd.read_parquet(project / "data/04_feature/shapes/full/seed_0/examples.parquet")
    tasks = {f"{t}_{i}" for t in ("appearance", "attributes", "relations", "summary") for i in "12"}
    assert set(examples["task"]) == tasks | {"extract", "score"}

    credentials.unlink()
    outputs = [run.stdout + run.stderr for run in (without, broke, first, second)]
    assert not any(PLANTED in output for output in outputs)
    files = [path for path in project.rglob("*") if path.is_file()]
    assert (data / "teacher_answers.sqlite") in files
    assert not [path for path in files if PLANTED.encode() in path.read_bytes()]
