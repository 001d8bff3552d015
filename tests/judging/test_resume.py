"""``kill -9`` at random moments: a run that goes on gives what an uninterrupted one gives, and nothing is answered twice."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from chat_server import serving
from kedro_project import ROOT

from t2i_eval_kedro.datasets.answer_store import AnswerStore

ITEMS = 10
MOST = ITEMS * (1 + 2 + 3 + 3 + 4 * 2)  # extraction, three questions, the summary of each that is scored, and the merge


def start(url: str, folder: Path) -> subprocess.Popen[bytes]:
    folder.mkdir(exist_ok=True)
    arguments = [sys.executable, "-m", "perf.teacher_client", url, str(folder), str(ITEMS)]
    return subprocess.Popen(arguments, cwd=ROOT, stderr=subprocess.DEVNULL)


@pytest.mark.slow
def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    with serving(tmp_path, 0.03) as server:
        assert start(server.url, tmp_path / "whole").wait(120) == 0
        whole = pd.read_parquet(tmp_path / "whole/transcripts.parquet")
        n_requests = len(whole)
        assert 0.8 * MOST < n_requests <= MOST

    (tmp_path / "again").mkdir()
    with serving(tmp_path / "again", 0.03) as server:
        draw, stored, kills = random.Random(0), 0, 0
        folder = tmp_path / "killed"
        folder.mkdir()
        store = AnswerStore(folder / "answers.sqlite")
        for _ in range(3):
            process = start(server.url, folder)
            more = draw.randint(5, 60)
            while len(store) < stored + more and process.poll() is None:
                time.sleep(0.002)
            process.kill()
            process.wait()
            kills += 1
            stored = len(store)
            assert 0 < stored < n_requests
        assert start(server.url, folder).wait(120) == 0
        asked, answered = server.counted("asked"), server.counted("answered")
    again = pd.read_parquet(folder / "transcripts.parquet")
    pd.testing.assert_frame_equal(again, whole)
    assert len(answered) == n_requests
    assert set(answered.values()) == {1}  # nothing was made, or paid for, twice
    assert sum(asked.values()) - n_requests <= kills * 8  # asked again is only what was in flight
