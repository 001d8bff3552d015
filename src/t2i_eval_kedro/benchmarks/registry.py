"""Which reader reads which benchmark."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from t2i_eval_kedro.benchmarks.base import Benchmark
from t2i_eval_kedro.benchmarks.checks import check_benchmark
from t2i_eval_kedro.benchmarks.readers import (
    agiqa3k,
    avt_ai_images,
    dsg,
    evalalign,
    evalmuse,
    evalmuse_structure,
    genai_bench,
    imagereward,
    richhf,
    shapes,
    t2i_eval,
    tifa160,
    user,
    viescore_imagenhub,
)
from t2i_eval_kedro.errors import T2IEvalError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

LATER = ("hpd", "pickscore")  # public benchmarks whose reader is still to be written


@dataclass(frozen=True)
class Reader:
    """A reader; it is called with the folder of the raw files (which must exist if ``needs_files``) and its options."""

    read: Callable[..., Benchmark]
    needs_files: bool = True


READERS: dict[str, Reader] = {
    "shapes": Reader(shapes.read, needs_files=False),
    "shapes_structure": Reader(shapes.read_structure, needs_files=False),
    "tifa160": Reader(tifa160.read),
    "dsg": Reader(dsg.read),
    "viescore_imagenhub": Reader(viescore_imagenhub.read),
    "genai_bench": Reader(genai_bench.read),
    "agiqa3k": Reader(agiqa3k.read),
    "imagereward": Reader(imagereward.read),
    "avt_ai_images": Reader(avt_ai_images.read),
    "evalalign": Reader(evalalign.read),
    "evalmuse": Reader(evalmuse.read),
    "evalmuse_structure": Reader(evalmuse_structure.read),
    "richhf": Reader(richhf.read),
    "t2i_eval_bench": Reader(t2i_eval.read_bench),
    "t2i_eval_distill": Reader(t2i_eval.read_distill),
}


def register(name: str, read: Callable[..., Benchmark], needs_files: bool = True) -> None:
    """Make ``read(raw, **options)`` the reader of benchmark ``name``; without files, ``raw`` need not exist."""
    READERS[name] = Reader(read, needs_files)


def known_benchmarks() -> list[str]:
    """The names that have a reader of their own, sorted."""
    return sorted(READERS)


def require_benchmark(name: str, raw_root: Path) -> None:
    """Refuse a benchmark that has neither a reader nor a folder of CSV files in ``raw_root``.

    Raises:
        T2IEvalError: lists the benchmarks that there are.
    """
    raw = raw_root / name
    if name in READERS or (raw / "items.csv").is_file():
        return
    if name in LATER:
        raise T2IEvalError(f"Benchmark '{name}' has no reader yet; bring it as a folder of CSV files at {raw}.")
    raise T2IEvalError(
        f"There is no benchmark '{name}': the known ones are {', '.join(known_benchmarks())}, and {raw} does not contain items.csv."
    )


def read_benchmark(name: str, raw_root: Path, **options: Any) -> Benchmark:
    """Read benchmark ``name`` from ``raw_root/name`` and check it as a whole.

    Args:
        name: a name of :func:`known_benchmarks`, or a folder with the CSV files of
            :mod:`t2i_eval_kedro.benchmarks.readers.user`.
        raw_root: folder that holds a folder for each benchmark.
        options: passed to the reader.

    Raises:
        T2IEvalError: there is neither a reader nor a folder of this name, the files are not there, or they cannot be
            read.
    """
    if not _NAME.fullmatch(name):
        raise T2IEvalError(f"'{name}' cannot be a benchmark's name; use letters, digits, '.', '_' and '-'.")
    require_benchmark(name, raw_root)
    raw, reader = raw_root / name, READERS.get(name, Reader(user.read))
    if reader.needs_files and not raw.is_dir():
        raise T2IEvalError(f"The files of benchmark '{name}' are not at {raw}; fetch them or set the raw folder.")
    benchmark = reader.read(raw, **options)
    benchmark.issues = pd.concat([benchmark.issues, check_benchmark(benchmark)], ignore_index=True)
    return benchmark
