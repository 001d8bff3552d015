"""A benchmark of the user's own: a folder of CSV files.

| file | columns |
|---|---|
| ``items.csv`` | item_id, prompt_id, prompt, generator, image (path inside the folder, may be empty) |
| ``ratings.csv`` | item_id, rater_id, dimension, score, scale_min, scale_max |
| ``dimensions.csv`` (optional) | dimension, description: the phrase a judge is asked with |
| ``scores.csv`` (optional) | item_id, evaluator, dimension, score; higher_is_better (true or false) where it is there |
| ``preferences.csv`` (optional) | prompt_id, item_a, item_b, rater_id, label (a, b or tie) |
| ``elements.csv`` (optional) | prompt_id, element_id, text, skill; question, expected, parents where they are there |
| ``element_ratings.csv`` (optional) | item_id, element_id, rater_id, label |

Any other column of ``items.csv`` becomes an attribute of the item, several values separated by ";": ``skills`` for agreement by
skill, any (such as a style, or the cluster of an embedding) for sampling.
"""

from __future__ import annotations

from pathlib import Path

from t2i_eval_kedro.benchmarks.base import Benchmark, Builder, Dimension, number
from t2i_eval_kedro.benchmarks.files import read_table

ITEM_COLUMNS = ("item_id", "prompt_id", "prompt", "generator", "image")
_TRUTH = {"true": True, "false": False, "1": True, "0": False, "": True}


def read(raw: Path) -> Benchmark:
    """Read the folder ``raw``; its name is the benchmark's."""
    out = Builder(raw.name, raw.name, "not stated", ())
    for row in read_table(raw / "items.csv", ITEM_COLUMNS, out.issues, key="item_id"):
        tags = {
            name: [value.strip() for value in cell.split(";") if value.strip()]
            for name, cell in row.items()
            if name not in (*ITEM_COLUMNS, "#")
        }
        prompt_id = row["prompt_id"] or row["prompt"]
        added = out.item(row["item_id"], prompt_id, row["prompt"], row["generator"], row["#"], tags)
        if added and row["image"]:
            out.image(row["item_id"], raw, row["image"])
    _read_ratings(raw, out)
    _read_scores(raw, out)
    _read_preferences(raw, out)
    _read_elements(raw, out)
    return out.build()


def _known(out: Builder, where: str, *item_ids: str) -> bool:
    """Whether all ``item_ids`` are items; notes the row at ``where`` as left out where one is not."""
    for item_id in item_ids:
        if not out.has("items", item_id):
            out.issues.add("not_joined", where, f"item {item_id!r:.80} is not in items.csv", "row excluded")
            return False
    return True


def _read_ratings(raw: Path, out: Builder) -> None:
    described = raw / "dimensions.csv"
    phrases = {
        row["dimension"]: row["description"]
        for row in (read_table(described, ("dimension", "description"), out.issues) if described.is_file() else [])
    }
    dimensions: dict[str, Dimension] = {}
    columns = ("item_id", "rater_id", "dimension", "score", "scale_min", "scale_max")
    for row in read_table(raw / "ratings.csv", columns, out.issues, key="item_id"):
        name, low, high = row["dimension"], number(row["scale_min"]), number(row["scale_max"])
        if not _known(out, row["#"], row["item_id"]):
            continue
        if not name or not row["rater_id"] or low is None or high is None or low >= high:
            out.issues.add("unreadable_cell", row["#"], "rater, dimension or scale cannot be read", "rating excluded")
            continue
        dimension = dimensions.setdefault(
            name, Dimension(name, low, high, phrases.get(name, f"the {name} of the image"))
        )
        if (low, high) != (dimension.scale_min, dimension.scale_max):
            before = f"{dimension.scale_min:g} to {dimension.scale_max:g}"
            detail = f"{name} is rated from {low:g} to {high:g} here and from {before} before"
            out.issues.add("scale_conflict", row["#"], detail, "rating excluded")
            continue
        out.rating(row["item_id"], row["rater_id"], dimension, row["score"], row["#"])
    out.dimensions = tuple(dimensions.values())


def _read_scores(raw: Path, out: Builder) -> None:
    path = raw / "scores.csv"
    if not path.is_file():
        return
    for row in read_table(path, ("item_id", "evaluator", "dimension", "score"), out.issues, key="item_id"):
        higher = _TRUTH.get(row.get("higher_is_better", "").strip().lower())
        if higher is None or not row["evaluator"]:
            out.issues.add(
                "unreadable_cell",
                row["#"],
                "evaluator is empty or higher_is_better is neither true nor false",
                "score excluded",
            )
        elif _known(out, row["#"], row["item_id"]):
            out.score(row["item_id"], row["evaluator"], row["score"], row["#"], row["dimension"], higher)


def _read_preferences(raw: Path, out: Builder) -> None:
    path = raw / "preferences.csv"
    if not path.is_file():
        return
    columns = ("prompt_id", "item_a", "item_b", "rater_id", "label")
    for row in read_table(path, columns, out.issues, key="item_a"):
        if row["label"] not in ("a", "b", "tie") or row["item_a"] == row["item_b"]:
            out.issues.add(
                "unreadable_cell",
                row["#"],
                f"label {row['label']!r:.40} of {row['item_a']} and {row['item_b']}",
                "row excluded",
            )
        elif _known(out, row["#"], row["item_a"], row["item_b"]):
            out.add("preferences", row["#"], **{name: row[name] for name in columns})


def _read_elements(raw: Path, out: Builder) -> None:
    path = raw / "elements.csv"
    if path.is_file():
        for row in read_table(path, ("prompt_id", "element_id", "text", "skill"), out.issues, key="element_id"):
            optional = {name: row.get(name) or None for name in ("question", "expected", "parents")}
            required = {name: row[name] for name in ("prompt_id", "element_id", "text", "skill")}
            out.add("elements", row["#"], **required, **optional)
    path = raw / "element_ratings.csv"
    if path.is_file():
        for row in read_table(path, ("item_id", "element_id", "rater_id", "label"), out.issues, key="item_id"):
            label = number(row["label"])
            if label is None or not 0 <= label <= 1:
                out.issues.add(
                    "unreadable_cell", row["#"], f"label {row['label']!r:.40} is no number from 0 to 1", "kept as null"
                )
                label = None
            if _known(out, row["#"], row["item_id"]):
                keys = {name: row[name] for name in ("item_id", "element_id", "rater_id")}
                out.add("element_ratings", row["#"], **keys, label=label)
