"""A copy of the project to run in, and its programs as a person runs them."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).parents[1]
PROGRAMS = {"kedro": "kedro", "t2i-eval": "t2i_eval_kedro.cli.standalone"}
OFFLINE = {"DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}

# A run spends seconds on importing libraries, and the tests make many. So a process that has imported them and done nothing else is forked
# for each. The rest that comes before the work (Kedro's own modules and logging, the configuration) comes in the fork.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        "matplotlib.pyplot",
        "scipy.stats",
        "seaborn",
        "t2i_eval_kedro.judging.judge",
        "t2i_eval_kedro.training.grpo_trainer",
        "transformers.models.llava.modeling_llava",
    ]
)


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
    """``kedro ARGUMENTS`` in the folder ``project``."""
    return run_program("kedro", project, *arguments, COLUMNS="200")


def run_program(program: str, folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """``program ARGUMENTS`` in ``folder`` as a process of its own, forked from one that has imported the libraries.

    A process of its own from the start, with another seed for hashes, is ``python -m kedro`` by ``subprocess``.
    """
    given = os.environ | OFFLINE | environment
    with tempfile.TemporaryDirectory() as kept:
        printed = [Path(kept, name) for name in ("stdout", "stderr")]
        process = SERVER.Process(target=_run, args=(PROGRAMS[program], arguments, folder, given, *printed))
        with mock.patch.dict(os.environ, OFFLINE):  # the server is started with the first process
            process.start()
        process.join(600)
        if process.exitcode is None:
            process.kill()
            raise TimeoutError(f"{program} {' '.join(arguments)} took over 600 seconds: {printed[1].read_text()}")
        stdout, stderr = (path.read_text() for path in printed)
    return subprocess.CompletedProcess([program, *arguments], process.exitcode, stdout, stderr)


def _run(
    module: str, arguments: tuple[str, ...], folder: Path, environment: Mapping[str, str], stdout: Path, stderr: Path
) -> None:
    for number, path in ((1, stdout), (2, stderr)):
        with path.open("wb") as file:
            os.dup2(file.fileno(), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = [module, *arguments]
    # `python -m` has the folder it is started in first on its path, and not that of the tests.
    sys.path[:] = [str(folder), *(path for path in sys.path if Path(path) != Path(__file__).parent)]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)  # how it ends is the end of this process
    finally:
        atexit._run_exitfuncs()  # a fork of multiprocessing leaves them out
