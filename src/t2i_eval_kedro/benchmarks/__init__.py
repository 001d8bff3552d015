"""Public benchmarks of human ratings -> canonical tables; one reader a file.

:func:`read_benchmark` finds the reader by name; any other name is a folder of the user's own
(:mod:`t2i_eval_kedro.benchmarks.readers.user`).
"""

from __future__ import annotations

from t2i_eval_kedro.benchmarks.base import Benchmark, Dimension
from t2i_eval_kedro.benchmarks.registry import READERS, known_benchmarks, read_benchmark, register

__all__ = ["READERS", "Benchmark", "Dimension", "known_benchmarks", "read_benchmark", "register"]
