"""What an answer of a local model belongs to."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import t2i_eval_kedro


@pytest.mark.parametrize(
    "changed", ["judging/backends/transformers.py", "judging/backends/prefixes.py", "models/loading.py"]
)
def test_an_answer_does_not_outlive_a_change_of_the_code_that_asked(tmp_path: Path, changed: str) -> None:
    package = tmp_path / "t2i_eval_kedro"
    shutil.copytree(Path(t2i_eval_kedro.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))

    def code_hash() -> str:
        code = "from t2i_eval_kedro.judging.local_models import versioned_code; print(versioned_code('transformers'))"
        environment = os.environ | {"PYTHONPATH": str(tmp_path)}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    before = code_hash()
    assert len(before.split()[0]) == 64
    with (package / changed).open("a") as stream:
        stream.write("# a comment changes no answer\n")
    assert code_hash() == before
    with (package / changed).open("a") as stream:
        stream.write("CHANGED = 1\n")
    assert code_hash() != before
