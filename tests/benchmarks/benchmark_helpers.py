"""What the tests of benchmarks share."""

from __future__ import annotations

import io

import pandas as pd
from PIL import Image

from t2i_eval_kedro.benchmarks import Benchmark


def picture(
    colour: str = "red", size: tuple[int, int] = (16, 12), form: str = "PNG", mode: str = "RGB", **options: object
) -> bytes:
    """An encoded picture of one colour."""
    out = io.BytesIO()
    Image.new(mode, size, colour).save(out, form, **options)  # type: ignore[arg-type]
    return out.getvalue()


def kinds(benchmark: Benchmark) -> dict[str, int]:
    """How many issues of each kind there are."""
    return {str(kind): int(n) for kind, n in benchmark.issues["kind"].value_counts().items()}


def mean_ratings(benchmark: Benchmark, dimension: str) -> pd.Series:
    """The mean rating of each item."""
    rows = benchmark.ratings[benchmark.ratings["dimension"] == dimension]
    return rows.groupby("item_id")["score"].mean()
