"""A training that is killed goes on from its last checkpoint when the same command is given again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kedro_project import run_kedro

CELL = Path("data/06_models/shapes/tiny_vlm/full/seed_0")
LONGER = "--params=sft.max_steps=40,sft.save_steps=4"
TRAIN = ("run", "--env=test", "--nodes=sft.train_sft", LONGER)


@pytest.mark.slow
def test_kill_9_and_the_same_command_again_give_the_same_bytes(project: Path) -> None:
    before = run_kedro(project, "run", "--env=test", "--to-nodes=sft.train_sft", LONGER)
    assert before.returncode == 0, before.stderr
    whole = shutil.move(project / CELL / "sft", project / "whole")
    assert not list((project / CELL).iterdir())  # a training leaves nothing but its adapter

    with subprocess.Popen(
        [sys.executable, "-m", "kedro", *TRAIN],
        cwd=project,
        env=os.environ | {"DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        deadline = time.monotonic() + 120
        while not list((project / CELL).glob(".sft/checkpoints/checkpoint-*/files.json")):  # written last
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert not (project / CELL / "sft").exists()

    again = run_kedro(project, *TRAIN)
    assert again.returncode == 0, again.stderr
    assert "Resuming from step" in again.stdout + again.stderr
    assert {path.name for path in (project / CELL).iterdir()} == {"sft"}
    for path in Path(whole).iterdir():
        assert path.read_bytes() == (project / CELL / "sft" / path.name).read_bytes(), path.name
