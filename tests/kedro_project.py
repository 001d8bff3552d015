"""A copy of the project to run in, and ``kedro`` as a person runs it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


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
