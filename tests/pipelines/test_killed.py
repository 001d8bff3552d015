"""``kill -9`` at random moments of ``kedro run``: the same command again ends in the same files, and no answer is bought twice.

By default two kills from raw files to the training set, behind a server that counts what it answers. ``T2I_EVAL_KILLS=12``
kills the whole graph, training included, so many times.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from chat_server import ChatServer, serving
from kedro_project import make_project

KILLS = int(os.environ.get("T2I_EVAL_KILLS", "2"))
WHOLE_GRAPH = "T2I_EVAL_KILLS" in os.environ
PIPELINES = () if WHOLE_GRAPH else ("--pipelines=ingestion,teacher_distillation,rebalancing",)
IN_FLIGHT = 8
SETTINGS = {
    "ingestion.shapes.n_prompts": 20 if WHOLE_GRAPH else 4,
    "ingestion.sample.prompts": 12 if WHOLE_GRAPH else 3,
    "ingestion.sample.dimensions.element_skills": 1.0,
    "judging.wording": "full",
    "teacher.kind": "openai",
    "teacher.extra_prompts": 0,
    "teacher.openai.in_flight": IN_FLIGHT,
    "teacher.openai.requests_per_minute": "null",
    "teacher.openai.tokens_per_minute": "null",
}
TIMES = ("seconds", "time", "started", "finished", "created", "date", "tokens_per_second", "memory")
SEED = int(os.environ.get("T2I_EVAL_KILL_SEED", "0"))


def start(project: Path, server: ChatServer) -> subprocess.Popen[bytes]:
    params = ",".join(f"{name}={value}" for name, value in (SETTINGS | {"teacher.openai.base_url": server.url}).items())
    return subprocess.Popen(
        [sys.executable, "-m", "kedro", "run", "--env=test", *PIPELINES, f"--params={params}"],
        cwd=project,
        env=os.environ | {"DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1", "OPENAI_API_KEY": "sk-none"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def finish(project: Path, server: ChatServer) -> None:
    with start(project, server) as process:
        said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said.decode()[-4000:]


def without_times(value: Any) -> Any:
    """``value`` without what two undisturbed runs differ in, too: times (of files, too), addresses, and what a single run had to buy."""
    if isinstance(value, dict):
        return {
            name: without_times(part)
            for name, part in value.items()
            if name not in ("account", "base_url", "speed", "state", "made", "raw_files")
            and not any(word in name for word in TIMES)
        }
    return [without_times(part) for part in value] if isinstance(value, list) else value


def outputs(project: Path) -> dict[str, Any]:
    """What a finished run leaves: the name of each file and its content, tables and JSON as they are read."""
    found: dict[str, Any] = {}
    for path in sorted((project / "data").rglob("*")):
        if not path.is_file() or path.is_relative_to(project / "data/06_models/tiny_vlm"):
            continue
        name = str(path.relative_to(project))
        if path.suffix == ".parquet":
            found[name] = pd.read_parquet(path).to_csv()
        elif path.suffix == ".json":
            found[name] = without_times(json.loads(path.read_text()))
        elif path.suffix in (".csv", ".safetensors", ".tar"):
            found[name] = path.read_bytes()
        else:
            found[name] = None  # an answer store, pages and pictures: that it is there
    return found


def progress(project: Path, n_answers: int) -> int:
    """How far a run is: files that are there or being written, and one step per fifteen answers."""
    # Not rglob, which stops where a folder that is being written is moved into place meanwhile.
    return sum(len(folders) + len(files) for _, folders, files in os.walk(project / "data")) + n_answers // 15


@pytest.mark.slow
def test_kill_9_at_random_moments_and_the_same_command_again(tmp_path: Path) -> None:
    draw = random.Random(SEED)
    (tmp_path / "undisturbed").mkdir()
    undisturbed = make_project(tmp_path / "undisturbed")
    (tmp_path / "killed").mkdir()
    killed = make_project(tmp_path / "killed")
    with serving(undisturbed, 0.01) as server:
        finish(undisturbed, server)
        needed = server.counted("answered")
    assert set(needed.values()) == {1}

    first, last = progress(undisturbed, 0) // 4, progress(undisturbed, needed.total())
    ends_of_parts = [first + (last - first) * part // KILLS for part in range(KILLS + 1)]
    targets = [draw.randrange(low, high) for low, high in pairwise(ends_of_parts)]  # one moment in each part of the run
    with serving(killed, 0.01) as server:
        ends = []
        for target in targets:
            with start(killed, server) as process:
                while process.poll() is None and progress(killed, server.counted("answered").total()) < target:
                    time.sleep(0.01)
                process.kill()
                process.communicate()
            ends.append((target, process.returncode, server.counted("answered").total()))
        finish(killed, server)
        asked, answered = server.counted("asked"), server.counted("answered")
    print(f"{last} steps, {needed.total()} answers; killed at step, status, answers so far: {ends}")
    assert answered == needed  # each answer was made, and paid for, once
    assert asked.total() - needed.total() <= KILLS * IN_FLIGHT  # asked again is only what was under way
    assert {status for _, status, _ in ends} == {-signal.SIGKILL}

    left, expected = outputs(killed), outputs(undisturbed)
    assert set(left) == set(expected)
    assert [name for name in expected if left[name] != expected[name]] == []
    shutil.rmtree(tmp_path)
