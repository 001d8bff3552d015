"""Which column of a file is which of ours: by its name, and where there is none by its content. A guess that a person confirms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.tables.delimited import read_text_table
from t2i_eval_kedro.tables.settings import TableMapping
from t2i_eval_kedro.tables.values import parse_numbers

NAMES: dict[str, tuple[str, ...]] = {
    "item_id": ("item_id", "item", "image_id", "image", "img", "img_path", "image_path", "image_key", "file", "filename", "file_name", "uid", "id", "path"),
    "prompt_id": ("prompt_id", "prompt", "text_id", "text", "caption_id", "caption", "prompt_text"),
    "generator": ("generator", "t2i_model", "system", "gen_model", "method", "model"),
    "rater_id": ("rater_id", "rater", "worker_id", "worker", "annotator_id", "annotator", "user_id", "user", "participant", "subject"),
    "dimension": ("dimension", "aspect", "criterion", "category", "attribute"),
    "score": ("score", "rating", "value", "stars", "answer", "grade", "mos", "likert"),
    "evaluator": ("evaluator", "metric", "judge", "scorer", "evaluator_id", "model"),
    "item_a": ("item_a", "image_a", "left", "image_left", "image_1", "img_a", "first"),
    "item_b": ("item_b", "image_b", "right", "image_right", "image_2", "img_b", "second"),
    "label": ("label", "preference", "choice", "winner", "preferred", "answer"),
    "skill": ("skill", "skills", "tag", "tags"),
    "strength": ("strength", "intensity", "margin", "degree"),
    "run": ("run", "seed", "trial", "repeat"),
}  # fmt: skip
NEEDED = {
    "ratings": ("item_id", "prompt_id", "generator", "rater_id", "dimension", "score"),
    "scores": ("item_id", "evaluator", "score"),
    "preferences": ("prompt_id", "item_a", "item_b", "rater_id", "label"),
}
OPTIONAL = {"ratings": ("skill",), "scores": ("dimension", "run"), "preferences": ("strength",)}
MAY_BE_ABSENT = {"prompt_id", "generator", "rater_id", "dimension"}


def guess_mapping(path: Path, kind: str) -> TableMapping:
    """The mapping of the columns of the file at ``path``, which holds ``kind`` (ratings, scores or preferences).

    Columns that hold numbers and are none of ours are taken as one rater's ratings, or one judge's scores, each, where the file has
    no column of scores.

    Raises:
        T2IEvalError: no column can be the identifier of an item, or none holds numbers or labels.
    """
    frame = read_text_table(path, kind, (), every_column=True).frame
    header = list(frame.columns)
    plain = {column.casefold().replace(" ", "_").replace("-", "_"): column for column in reversed(header)}
    used: dict[str, str] = {}
    for ours in (*NEEDED[kind], *OPTIONAL[kind]):
        column = next((plain[name] for name in NAMES[ours] if name in plain and plain[name] not in used.values()), None)
        if column is not None:
            used[ours] = column
    numeric = [
        column
        for column in header
        if column and column not in used.values() and np.isfinite(parse_numbers(frame[column]).values).mean() > 0.5
    ]
    wide: list[str] = []
    if kind != "preferences" and "score" not in used:
        wide = numeric
    absent = [
        ours for ours in NEEDED[kind] if ours not in used and not (wide and ours in ("rater_id", "evaluator", "score"))
    ]
    lost = [ours for ours in absent if ours not in MAY_BE_ABSENT]
    if lost:
        raise T2IEvalError(
            f"No column of '{path}' can be '{lost[0]}' of the {kind}: it has {', '.join(header[:20]) or 'none'}. Name it in t2i_eval.yml."
        )
    if wide:
        used.pop("rater_id" if kind == "ratings" else "evaluator", None)
    columns: dict[str, str | None] = {ours: column for ours, column in used.items() if ours != column}
    columns |= dict.fromkeys(absent)
    return TableMapping(file=path, columns=columns, wide=wide)


def described(mapping: TableMapping, kind: str) -> Sequence[str]:
    """What the mapping says, one line a column."""
    lines = []
    for ours in NEEDED[kind]:
        column = mapping.columns.get(ours, ours)
        if mapping.wide and ours in ("rater_id", "evaluator", "score"):
            continue
        lines.append(f"  {ours}: " + (f"column '{column}'" if column is not None else "none"))
    if mapping.wide:
        who = "rater" if kind == "ratings" else "evaluator"
        lines.append(f"  one column per {who}: {', '.join(mapping.wide)}")
    lines += [f"  {ours}: column '{column}'" for ours, column in mapping.columns.items() if ours in OPTIONAL[kind]]
    return lines
