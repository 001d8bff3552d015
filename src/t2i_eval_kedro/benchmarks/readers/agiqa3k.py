"""AGIQA-3K: 2,982 images, mean opinion scores of quality and alignment (0 to 5) with their standard deviations.

Li et al., "AGIQA-3K: An Open Database for AI-Generated Image Quality Assessment", IEEE TCSVT 2024. The ratings of
single raters are not published: each row has the rater "mean". A generator is a model with its setting, as in the
file names.
"""

from __future__ import annotations

import re
from pathlib import Path

from t2i_eval_kedro.benchmarks.base import Benchmark, Builder, Dimension, number
from t2i_eval_kedro.benchmarks.files import read_table

QUALITY = Dimension("quality", 0, 5, "how good the image looks, whatever was asked for")
ALIGNMENT = Dimension("alignment", 0, 5, "how well the image matches the prompt")
COLUMNS = {QUALITY: ("mos_quality", "std_quality"), ALIGNMENT: ("mos_align", "std_align")}
_NAME = re.compile(r"(?P<generator>(?P<model>[^_]+)_(?P<setting>[^_]+))_(?P<prompt>\d+)\.\w+")


def read(raw: Path) -> Benchmark:
    """Read ``data.csv`` and, where they are there, the images beside it or in ``images/``."""
    out = Builder("agiqa3k", "AGIQA-3K", "MIT", (QUALITY, ALIGNMENT))
    columns = ("name", "prompt", "adj1", "adj2", "style", *(name for pair in COLUMNS.values() for name in pair))
    folder = "images/" if (raw / "images").is_dir() else ""
    for row in read_table(raw / "data.csv", columns, out.issues, key="name"):
        name, where = row["name"], row["#"]
        parts = _NAME.fullmatch(name)
        if parts is None:
            out.issues.add(
                "unreadable_cell", where, f"name {name!r:.80} does not tell generator and prompt", "item excluded"
            )
            continue
        details = {"model": parts["model"], "setting": parts["setting"]}
        details |= {column: row[column] for column in ("adj1", "adj2", "style") if row[column]}
        if not out.item(name, parts["prompt"], row["prompt"], parts["generator"], where, details):
            continue
        out.image(name, raw, folder + name, key=name)
        for dimension, (mean, std) in COLUMNS.items():
            deviation = number(row[std])
            if deviation is None or deviation < 0:
                out.issues.add("unreadable_cell", where, f"{std} is {row[std]!r:.40}", "kept as null")
                deviation = None
            out.rating(name, "mean", dimension, row[mean], where, std=deviation)
    return out.build()
