"""What a reader makes of the raw files of one benchmark."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from t2i_eval_kedro import schema
from t2i_eval_kedro.answers import number as number  # readers take it from here
from t2i_eval_kedro.benchmarks.files import DataIssues, contained
from t2i_eval_kedro.benchmarks.images import check_files, image_source
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.tables.values import plain_line_breaks

Row = dict[str, object]


@dataclass(frozen=True)
class Dimension:
    """One thing that raters scored.

    Attributes:
        name: as in the ``dimension`` column.
        scale_min: lowest score a rater could give.
        scale_max: highest score a rater could give.
        description: short phrase that tells a judge what is asked ("how well the image matches the prompt").
        levels: the scores a rater could give, where not every number on the scale is one.
    """

    name: str
    scale_min: float
    scale_max: float
    description: str
    levels: tuple[float, ...] = ()


def no_images() -> Iterator[tuple[str, bytes]]:
    """The images of a benchmark that has none."""
    return iter(())


@dataclass
class Benchmark:
    """One benchmark in canonical form.

    ``scores`` and ``element_scores`` hold recorded metrics (``judge`` is the metric's name, ``dimension`` is ""
    where the metric is for none in particular), ``transcripts`` recorded answers of judges. ``images`` yields the
    images that passed the checks as (key, encoded image), each time it is called. ``excluded`` counts, by table, the rows of the raw files
    that are not used, whether they stand in the table as nulls or not at all, and ``first_excluded`` says where the first of them
    stands and why it is not used. ``issues`` says what is wrong with the raw files. ``unidentified_raters``: an identifier of a rater is a slot, not one person throughout.
    ``same_scale``: recorded scores that lie within the scale of the ratings are on it.
    """

    name: str
    title: str
    licence: str
    dimensions: tuple[Dimension, ...]
    items: pd.DataFrame
    ratings: pd.DataFrame
    issues: pd.DataFrame
    elements: pd.DataFrame = field(default_factory=schema.ELEMENTS.empty)
    element_ratings: pd.DataFrame = field(default_factory=schema.ELEMENT_RATINGS.empty)
    preferences: pd.DataFrame = field(default_factory=schema.PREFERENCES.empty)
    scores: pd.DataFrame = field(default_factory=schema.SCORES.empty)
    element_scores: pd.DataFrame = field(default_factory=schema.ELEMENT_SCORES.empty)
    transcripts: pd.DataFrame = field(default_factory=schema.TRANSCRIPTS.empty)
    synthetic: bool = False
    unidentified_raters: bool = False
    same_scale: bool = True
    excluded: dict[str, int] = field(default_factory=dict)
    first_excluded: dict[str, str] = field(default_factory=dict)
    images: Callable[[], Iterator[tuple[str, bytes]]] = no_images


TABLE_NAMES = (
    "items",
    "ratings",
    "elements",
    "element_ratings",
    "preferences",
    "scores",
    "element_scores",
    "transcripts",
)


class Builder:
    """Collects the rows of a benchmark while its reader walks through the raw files.

    A row whose key stood before is excluded and listed in ``issues``, so that one bad line never stops a reader.
    """

    def __init__(self, name: str, title: str, licence: str, dimensions: tuple[Dimension, ...]) -> None:
        """Start a benchmark without rows; see :class:`Benchmark`."""
        self.name, self.title, self.licence, self.dimensions = name, title, licence, dimensions
        self.issues = DataIssues()
        # Columns, not rows: a benchmark may have a million labels.
        self._columns: dict[str, dict[str, list[object]]] = {
            table: {column: [] for column in schema.TABLES[table].columns} for table in TABLE_NAMES
        }
        self._keys: dict[str, set[tuple[object, ...]]] = {table: set() for table in TABLE_NAMES}
        self._frames: dict[str, pd.DataFrame] = {}
        self.unidentified_raters = False
        self.same_scale = True
        self._image_of: dict[str, str] = {}
        self._reference_of: dict[str, str] = {}
        self._files: dict[str, Path] = {}
        self._prompt_ids: dict[str, str] = {}
        self.excluded: dict[str, int] = {}
        self.first_excluded: dict[str, str] = {}

    def add(self, table: str, where: object = "", **row: object) -> bool:
        """Add one row to ``table``; ``False`` where its key stood before and the row was excluded."""
        key = tuple(row.get(name) for name in schema.TABLES[table].key)
        if key in self._keys[table]:
            self.exclude(
                table,
                "duplicate_row",
                where or " ".join(map(str, key)),
                f"key of table '{table}' is duplicated: {', '.join(map(repr, key)):.120}",
                "row excluded",
            )
            return False
        self._keys[table].add(key)
        for column, values in self._columns[table].items():
            values.append(row.get(column))
        return True

    def put(self, table: str, frame: pd.DataFrame) -> None:
        """Make ``frame`` the whole of ``table``: for millions of rows whose keys their reader has checked."""
        columns = list(schema.TABLES[table].columns)
        self._frames[table] = frame.reindex(columns=columns)

    def exclude(self, table: str, kind: str, where: object, detail: str, action: str, count: int = 1) -> None:
        """Record an issue that costs ``count`` rows of ``table``, which :attr:`Benchmark.excluded` counts."""
        self.issues.add(kind, where, detail, action, count)
        self.excluded[table] = self.excluded.get(table, 0) + count
        self.first_excluded.setdefault(table, f"{where}: {detail}")

    def prompt_id(self, prompt: str) -> str:
        """An identifier for the text ``prompt``, for files that have none: "p0", "p1" and so on as texts are met."""
        return self._prompt_ids.setdefault(prompt, f"p{len(self._prompt_ids)}")

    def item(
        self,
        item_id: str,
        prompt_id: str,
        prompt: str,
        generator: str,
        where: object = "",
        attributes: Mapping[str, Any] | None = None,
    ) -> bool:
        """Add an item; one without prompt text is excluded."""
        if not prompt.strip() or not item_id or not generator:
            cells = {"item_id": item_id, "prompt": prompt.strip(), "generator": generator}
            empty = " and ".join(name for name, cell in cells.items() if not cell)
            detail = f"{empty} is empty (item {item_id!r:.60})"
            self.issues.add("incomplete_item", where or item_id, detail, "item excluded")
            return False
        if "\r" in prompt:
            self.issues.add(
                "prompt_line_breaks",
                where or item_id,
                "the prompt has line breaks of Windows (CR)",
                "read as plain ones (LF)",
            )
            prompt = plain_line_breaks(prompt)
        return self.add(
            "items",
            where,
            item_id=item_id,
            benchmark=self.name,
            prompt_id=prompt_id,
            prompt=prompt,
            generator=generator,
            image=None,
            attributes=json.dumps(attributes, ensure_ascii=False) if attributes else None,
        )

    def has(self, table: str, *key: object) -> bool:
        """Whether ``table`` has a row with ``key``."""
        return key in self._keys[table]

    def rows(self, table: str) -> list[Row]:
        """The rows of ``table`` so far."""
        columns = self._columns[table]
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]

    def image(self, item_id: str, root: Path, relative: str, key: str | None = None) -> None:
        """Say which file holds the image of an item.

        A file that is not there leaves the item without image (the checks report those); a path that leads out of
        ``root`` is noted here.
        """
        path = self._file(item_id, root, relative, "item kept without image")
        if path is not None:
            key = key or relative
            self._files[key] = path
            self._image_of[item_id] = key

    def reference(self, item_id: str, root: Path, relative: str) -> None:
        """Say which file holds the reference image of an item; one that is not there or cannot be read is left out, and noted."""
        path = self._file(item_id, root, relative, "item kept without reference image")
        if path is not None:
            self._files[relative] = path
            self._reference_of[item_id] = relative
        else:
            self.issues.add("no_reference", item_id, f"{relative!r:.120}", "item kept without reference image")

    def _file(self, item_id: str, root: Path, relative: str, action: str) -> Path | None:
        """The file at ``relative`` below ``root``; None where there is none, noted where its path leads out."""
        try:
            path = contained(root, relative)
        except ValueError as error:
            self.issues.add("bad_path", item_id, f"{relative!r:.120}: {error}", action)
            return None
        return path if path.is_file() else None

    def rating(
        self, item_id: str, rater_id: str, dimension: Dimension, raw: object, where: object, **more: object
    ) -> bool:
        """Add one rating; ``False`` where it could not be used.

        A value that is not a number, or is off the scale or between its levels, is kept as a null (``off_scale`` tells
        which), so that it is counted and nothing computes with it; the value itself stands in the table of data issues.
        """
        value = number(raw)
        off_scale = value is not None and not dimension.scale_min <= value <= dimension.scale_max
        problem = ""
        if value is None:
            problem = "unreadable_rating"
        elif off_scale or (dimension.levels and value not in dimension.levels):
            problem = "off_scale_rating" if off_scale else "off_level_rating"
        if problem:
            scale = f"{dimension.scale_min:g} to {dimension.scale_max:g}"
            detail = f"{dimension.name} of {item_id} by {rater_id}: {raw!r:.80} (scale {scale})"
            self.exclude("ratings", problem, where, detail, "rating excluded")
        added = self.add(
            "ratings",
            where,
            item_id=item_id,
            rater_id=rater_id,
            dimension=dimension.name,
            score=None if problem else value,
            scale_min=dimension.scale_min,
            scale_max=dimension.scale_max,
            off_scale=off_scale,
            **more,
        )
        return added and not problem

    def score(
        self,
        item_id: str,
        judge: str,
        raw: object,
        where: object,
        dimension: str = "",
        higher_is_better: bool = True,
        explanation: str | None = None,
        protocol: str | None = None,
    ) -> None:
        """Add one recorded score (run 0); one that is not a number is kept as a null with the status ``unparsed``."""
        value = number(raw)
        if value is None:
            self.exclude("scores", "unreadable_score", where, f"{judge} of {item_id}: {raw!r:.80}", "kept as null")
        status = schema.OK if value is not None else schema.UNPARSED
        self.score_row(where, item_id, judge, dimension, value, status, higher_is_better, explanation, protocol)

    def no_score(
        self, item_id: str, judge: str, where: object, dimension: str = "", protocol: str | None = None
    ) -> None:
        """Add a null for an item that a recorded metric has nothing on."""
        self.score_row(where, item_id, judge, dimension, None, schema.NOT_APPLICABLE, protocol=protocol)

    def score_row(
        self,
        where: object,
        item_id: str,
        judge: str,
        dimension: str,
        value: float | None,
        status: str,
        higher_is_better: bool = True,
        explanation: object = None,
        protocol: str | None = None,
    ) -> None:
        """Add one recorded score (run 0) that its reader has read; an ``explanation`` that is not a text is left out."""
        self.add(
            "scores",
            where,
            item_id=item_id,
            judge=judge,
            protocol=protocol,
            dimension=dimension,
            run=0,
            score=value,
            status=status,
            explanation=explanation if isinstance(explanation, str) else None,
            higher_is_better=higher_is_better,
        )

    def build(self, synthetic: bool = False, workers: int = 2) -> Benchmark:
        """Check the images and make the tables.

        Raises:
            T2IEvalError: no item is left.
        """
        items = self._columns["items"]
        if not self._keys["items"]:
            raise T2IEvalError(f"Benchmark '{self.name}' has no usable item; look at its raw files.")
        good, rewrite = check_files(self._files, self.issues, workers=workers)
        usable = set(good)
        keys = [self._image_of.get(str(item_id)) for item_id in items["item_id"]]
        items["image"] = [key if key in usable else None for key in keys]
        for place, item_id in enumerate(items["item_id"]):
            if (key := self._reference_of.get(str(item_id))) in usable:
                known = json.loads(str(items["attributes"][place] or "{}"))
                items["attributes"][place] = json.dumps(known | {schema.REFERENCE: key}, ensure_ascii=False)
        tables = {
            table: schema.TABLES[table].check(
                self._frames.pop(table) if table in self._frames else pd.DataFrame(self._columns[table])
            )
            for table in TABLE_NAMES
        }
        return Benchmark(
            name=self.name,
            title=self.title,
            licence=self.licence,
            dimensions=self.dimensions,
            issues=self.issues.frame(),
            synthetic=synthetic,
            unidentified_raters=self.unidentified_raters,
            same_scale=self.same_scale,
            excluded=self.excluded,
            first_excluded=self.first_excluded,
            images=image_source(self._files, good, rewrite),
            **tables,
        )
