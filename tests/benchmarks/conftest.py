"""Folders of raw files: real ones where the environment names them, small made ones otherwise."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from t2i_eval_kedro.benchmarks import Benchmark, read_benchmark

VARIABLE = "T2I_EVAL_SHARED_DATA"


@pytest.fixture(scope="session")
def real() -> Callable[[str], Benchmark]:
    """Reads a benchmark from its real files, once a session; skips where there are none."""
    root = os.environ.get(VARIABLE)
    read: dict[str, Benchmark] = {}

    def reader(name: str) -> Benchmark:
        if root is None:
            pytest.skip(f"{VARIABLE} is not set: the real files are not here")
        if name not in read:
            read[name] = read_benchmark(name, Path(root))
        return read[name]

    return reader
