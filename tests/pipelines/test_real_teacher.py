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

from t2i_eval_kedro.cli.dvc_sync import dvc_yaml

PLANTED = "sk-planted-0123456789"
TEACHER = ("run", "--env=test", "--pipelines=teacher_distillation")
SAMPLE = "ingestion.shapes.n_prompts=4,ingestion.sample.prompts=3,ingestion.sample.dimensions.element_skills=1.0"
AFTER = "--pipelines=rebalancing,sft,meta_evaluation,reporting"


def openai(url: str, *more: str) -> list[str]:
    """Parameters of a teacher behind the server at ``url``."""
    return [
        "teacher.kind=openai",
        f"teacher.openai.base_url={url}",
        "judging.wording=full",
        "teacher.extra_prompts=0",
        "teacher.openai.requests_per_minute=null",
        "teacher.openai.tokens_per_minute=null",
        *more,
    ]


def ask(project: Path, url: str, *more: str, command: tuple[str, ...] = TEACHER) -> subprocess.CompletedProcess[str]:
    return run_kedro(project, *command, f"--params={','.join(openai(url, *more))}")


@pytest.mark.slow
def test_from_items_to_examples(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    made = run_kedro(project, "run", "--env=test", "--pipelines=ingestion", f"--params={SAMPLE}")
    assert made.returncode == 0, made.stderr
    splits = pd.read_parquet(project / "data/02_intermediate/shapes/splits.parquet")
    sampled = set(splits.loc[splits["fold"] != "unused", "item_id"])
    assert 0 < len(sampled) < len(splits)
    with serving(tmp_path, 0.0) as server:
        without = ask(project, server.url)
        assert without.returncode == 1
        assert "The teacher has no key" in without.stderr.splitlines()[-1]

        estimated = ask(project, server.url, command=("estimate-teacher", "--env=test", "--json"))
        assert json.loads(estimated.stdout.splitlines()[-1])["items"] == len(sampled)
        assert not server.counted("asked")

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

    data = project / "data" / "03_primary" / "shapes"  # every answer, shared by all students
    asked = data / "tiny_vlm"  # what was asked for this student
    costs = json.loads((asked / "teacher_costs.json").read_text())
    assert costs["account"]["requests"] == n_answered
    assert costs["account"]["cost"] == pytest.approx(n_answered * (1000 * 2.5 + 10 * 10) / 1e6)
    assert costs["spent_so_far"] == costs["account"]
    transcripts = pd.read_parquet(asked / "teacher_transcripts.parquet")
    assert transcripts["status"].eq("ok").all()
    assert set(transcripts["item_id"]) == sampled  # what is in no fold is not asked about
    examples = pd.read_parquet(project / "data/04_feature/shapes/tiny_vlm/full/seed_0/examples.parquet")
    tasks = {f"{t}_{i}" for t in ("appearance", "attributes", "relations", "summary") for i in "12"}
    assert set(examples["task"]) == tasks | {"extract", "score", "rehearsal"}

    settings = project / "conf/test/parameters.yml"
    short = yaml.safe_load(settings.read_text()) | {
        "judging": {"protocols": ["levels"], "batch_size": 64, "baseline_items": 16, "attribution_items": 4}
    }
    settings.write_text(yaml.safe_dump(short))
    learned = ask(project, server.url, "sft.max_steps=2", command=("run", "--env=test", AFTER))
    assert learned.returncode == 0, learned.stderr
    (project / "dvc.yaml").write_text(dvc_yaml(project))
    report = (project / "data/08_reporting/shapes/tiny_vlm/full/seed_0/report.html").read_text()
    assert "Building the training set and training cost as much as asking the teacher about" in report
    assert "How errors compound along the chain" in report
    cards = [
        *project.glob("data/02_intermediate/**/data_card.json"),
        *project.glob("data/06_models/shapes/**/README.md"),
    ]
    assert len(cards) == 2

    credentials.unlink()
    outputs = [run.stdout + run.stderr for run in (without, broke, first, second, learned)]
    assert not any(PLANTED in output for output in outputs)
    files = [path for path in project.rglob("*") if path.is_file()]
    assert {data / "teacher_answers.sqlite", project / "dvc.yaml", *cards} <= set(files)
    assert not [path for path in files if PLANTED.encode() in path.read_bytes()]
