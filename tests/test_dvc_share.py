"""A team-mate's clone: what one ran and pushed, the other pulls, and nothing is run again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from kedro_project import ROOT

RUN = "ablation@full-0"
SMALL = {
    "parameters_ingestion.yml": ("ingestion", {"shapes": {"n_prompts": 12}}),
    "parameters_meta_evaluation.yml": ("meta_evaluation", {"n_resamples": 100}),
}


def repository(folder: Path) -> Path:
    """A repository of the project with settings so small that a run of the study takes seconds, as if committed by a team."""
    for name in ("pyproject.toml", "dvc.yaml", ".gitignore", ".dvcignore"):
        if (ROOT / name).is_file():
            (folder / name).write_bytes((ROOT / name).read_bytes())
    for name in ("conf", "src", "data/01_raw/shapes", "data/06_models/tiny_vlm"):
        ignored = shutil.ignore_patterns("__pycache__", "local", "*.egg-info")
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=ignored)
    for name, (group, smaller) in SMALL.items():
        change(folder / "conf/base" / name, {group: smaller})
    change(folder / "conf/base/students/tiny_vlm.yml", {"sft": {"max_steps": 6, "warmup_steps": 0, "batch_size": 4}})
    for words in (["git", "init", "-q"], ["dvc", "init", "-q"], ["dvc", "remote", "add", "-d", "team", "../remote"]):
        run(folder, *words)
    commit(folder)
    return folder


def change(path: Path, smaller: dict) -> None:
    """The settings in the file at ``path``, with ``smaller`` in them."""

    def merged(old: dict, new: dict) -> dict:
        return old | {k: merged(old[k], v) if isinstance(v, dict) and k in old else v for k, v in new.items()}

    path.write_text(yaml.safe_dump(merged(yaml.safe_load(path.read_text()), smaller), sort_keys=False))


def run(folder: Path, program: str, *words: str) -> str:
    """What ``program`` prints in ``folder``, with the package of that folder."""
    command = [sys.executable, "-m", "dvc"] if program == "dvc" else [program]
    environment = os.environ | {
        "PYTHONPATH": str(folder / "src"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        **{f"GIT_{who}_{what}": "t@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }
    done = subprocess.run([*command, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def commit(folder: Path) -> None:
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-qm", "x")


@pytest.mark.slow
def test_a_second_clone_pulls_and_runs_nothing(tmp_path: Path) -> None:
    pytest.importorskip("dvc.repo")
    (tmp_path / "first").mkdir()
    first = repository(tmp_path / "first")
    ran = run(first, "dvc", "repro", RUN)
    assert f"Running stage '{RUN}'" in ran
    commit(first)
    run(first, "dvc", "push", "-q", "--with-deps", RUN)

    run(tmp_path, "git", "clone", "-q", "first", "second")
    second = tmp_path / "second"
    run(second, "dvc", "pull", "-q", "--with-deps", RUN)
    nothing = run(second, "dvc", "repro", RUN)
    assert "Running stage" not in nothing
    assert "up to date" in nothing
    scores = "data/07_model_output/shapes/tiny_vlm/ablation/full/seed_0/sft_scores.parquet"
    assert (second / scores).read_bytes() == (first / scores).read_bytes()
    # It would be seen if something had changed.
    change(second / "conf/base/parameters_rebalancing.yml", {"rebalancing": {"seed": 1}})
    assert "Running stage" in run(second, "dvc", "repro", "--dry", RUN)
