"""The judge behind a server as a process of its own, for any test that asks one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import openai
from kedro_project import OFFLINE, make_project


@contextmanager
def served(folder: Path, *arguments: str) -> Iterator[openai.OpenAI]:
    """A client of a server that runs while the block does."""
    process = subprocess.Popen(
        [sys.executable, "-m", "kedro", "serve-evaluator", "--env=test", "--port=0", *arguments],
        cwd=make_project(folder),
        env=os.environ | OFFLINE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        assert said.startswith("Serving '"), said
        url = said.split(" at ")[1].split(";")[0]
        with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
            yield client
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0
    finally:
        process.kill()
        process.wait()
