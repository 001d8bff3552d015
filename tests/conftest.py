from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

Run = Callable[..., subprocess.CompletedProcess[str]]


def make_project(folder: Path) -> Path:
    """A copy of the project to run in: its configuration and its model, none of its results."""
    for name in ("pyproject.toml", "conf"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name)
        else:
            shutil.copy(source, folder / name)
    (folder / "src").mkdir()  # Kedro wants one; the package itself is installed
    (folder / "data" / "06_models").mkdir(parents=True)
    (folder / "data" / "06_models" / "tiny_vlm").symlink_to(ROOT / "data" / "06_models" / "tiny_vlm")
    return folder


def run_kedro(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", "kedro", *arguments],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    folder = os.environ.get("T2I_EVAL_SHARED_DATA")
    if not folder:
        pytest.skip("T2I_EVAL_SHARED_DATA is not set: there is no real benchmark data to read")
    return Path(folder)
