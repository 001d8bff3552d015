"""The canonical tables: what each is called, its key, its columns, and the check on load and save.

Every benchmark is read into these tables and every later step works on nothing else. A missing or unreadable value is a
null with a status; it is counted, never imputed and never dropped in silence.

| word | means |
|---|---|
| item | one image made for one prompt by one generator |
| rater | a person who scored items; a dimension is what they scored |
| element | one checkable part of a prompt, with its skill and its question |
| judge | who scores: a model with or without an adapter, a recorded metric |
| evaluator | a judge and the protocol by which it is asked; :func:`evaluator_id` is its one name |
| status | ``ok``, ``unparsed`` (an answer that holds no valid score), ``failed`` (no answer), ``not_applicable`` (nothing to score, or nothing recorded) |
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from t2i_eval_kedro.errors import T2IEvalError

Kind = Literal["string", "float", "int", "bool"]

SHAPES = ("shapes", "shapes_structure")
"""Values of ``benchmark`` that this project makes itself; they are synthetic."""

OK, UNPARSED, FAILED, NOT_APPLICABLE = "ok", "unparsed", "failed", "not_applicable"
STATUSES = (OK, UNPARSED, FAILED, NOT_APPLICABLE)

RENAMED_COLUMNS = {"pair_id": "question_id", "protocol": "prompt_version", "target": "soft_label"}
"""Old name -> new name of a column; tables with the old one are read for one release."""
RENAMED_STATUSES = {"missing": NOT_APPLICABLE}
"""Old -> new value of a column of statuses, read for one release."""

BASE, SFT, GRPO, TEACHER = "base", "sft", "grpo", "teacher"
JUDGES = (BASE, SFT, GRPO, TEACHER)
"""The judges of this project: the student untrained, after SFT and after GRPO, and its teacher. All others are recorded."""
GENERATOR_BASELINE, GRADIENT_BASELINE, LENGTH_BASELINE = BASELINES = (
    "baseline_generator",
    "baseline_pixel_gradient",
    "baseline_prompt_length",
)
"""Scores without a judge, to compare judges with; they have no protocol."""
_MAIN_PROTOCOL = {TEACHER: "decomposed"}
"""The protocol that the evaluator's name leaves out, where it is not ``levels``."""

_DTYPES: dict[str, str] = {"string": "str", "float": "float64", "int": "Int64", "bool": "boolean"}


@dataclass(frozen=True)
class Column:
    """One column: its kind, whether a null is allowed, the closed set of values where there is one.

    ``added``: tables of earlier releases do not have it; it is null there.
    """

    kind: Kind = "string"
    null: bool = False
    values: tuple[str, ...] = ()
    added: bool = False


@dataclass(frozen=True)
class Table:
    """One canonical table: ``key`` is unique; columns stand in this order; others are refused."""

    name: str
    key: tuple[str, ...]
    columns: Mapping[str, Column] = field(default_factory=dict)

    def empty(self) -> pd.DataFrame:
        """The table without rows."""
        return self.check(pd.DataFrame({name: [] for name in self.columns}))

    def frame(self, rows: Iterable[Mapping[str, object]]) -> pd.DataFrame:
        """A checked table from ``rows``; a column that no row names is null (and refused where null is not allowed)."""
        return self.check(pd.DataFrame(list(rows), columns=list(self.columns)))

    def check(self, frame: pd.DataFrame) -> pd.DataFrame:
        """``frame`` with its columns in order and of the right type.

        Raises:
            T2IEvalError: a column is missing or unknown, a value has the wrong type or is outside the closed set, a
                null stands where none may, or two rows share a key.
        """
        frame = frame.rename(
            columns={
                old: new for old, new in RENAMED_COLUMNS.items() if new in self.columns and new not in frame.columns
            }
        )
        if "judge" in self.columns and "evaluator" in frame:  # tables of release 0.1 name evaluators alone
            parts = [split_evaluator_id(name) for name in frame["evaluator"]]
            frame = frame.drop(columns="evaluator").assign(
                judge=[judge for judge, _ in parts],
                protocol=pd.Series([protocol for _, protocol in parts], frame.index, dtype="str"),
            )
        added = [name for name, column in self.columns.items() if column.added and name not in frame.columns]
        frame = frame.assign(**dict.fromkeys(added))
        missing = [name for name in self.columns if name not in frame.columns]
        unknown = [str(name) for name in frame.columns if name not in self.columns]
        if missing or unknown:
            raise T2IEvalError(
                f"Table '{self.name}' has the wrong columns (missing: {', '.join(missing) or 'none'}; unknown: "
                f"{', '.join(unknown) or 'none'}); it needs {', '.join(self.columns)}."
            )
        out = pd.DataFrame(index=range(len(frame)))
        for name, column in self.columns.items():
            values = frame[name].reset_index(drop=True)
            out[name] = self._cast(values.replace(RENAMED_STATUSES) if column == _STATUS else values, name, column)
        duplicated = out.duplicated(list(self.key))
        if duplicated.any():
            first = tuple(out.loc[duplicated, list(self.key)].iloc[0])
            raise T2IEvalError(
                f"Table '{self.name}' has {int(duplicated.sum())} rows with a key that occurs before, the first "
                f"({', '.join(self.key)}) = {first}; keep one row for each key."
            )
        return out

    def _cast(self, values: pd.Series, name: str, column: Column) -> pd.Series:
        try:
            cast: pd.Series = values.astype(_DTYPES[column.kind])  # type: ignore[call-overload]
        except (TypeError, ValueError) as error:
            raise T2IEvalError(
                f"Column '{name}' of table '{self.name}' holds a value that is no {column.kind} ({error}); "
                "correct it or set it to null."
            ) from error
        if column.kind == "float" and np.isinf(cast.to_numpy(dtype=float)).any():
            raise T2IEvalError(
                f"Column '{name}' of table '{self.name}' holds an infinite value; correct it or set it to null."
            )
        if not column.null and cast.isna().any():
            raise T2IEvalError(
                f"Column '{name}' of table '{self.name}' has {int(cast.isna().sum())} nulls where none may be."
            )
        if column.values:
            bad = sorted(set(cast.dropna()) - set(column.values))
            if bad:
                raise T2IEvalError(
                    f"Column '{name}' of table '{self.name}' holds {bad[0]!r}; it may hold {', '.join(column.values)}."
                )
        return cast


_STRING, _STRING_NULL = Column(), Column(null=True)
_FLOAT, _FLOAT_NULL = Column("float"), Column("float", null=True)
_STATUS = Column(values=STATUSES)
_RUN = Column("int")  # number of the repetition; 0 for what was recorded once
_WHO = {"judge": _STRING, "protocol": _STRING_NULL}  # no protocol: a metric, or how the judge was asked is not recorded

ITEMS = Table(
    "items",
    ("item_id",),
    {
        "item_id": _STRING,
        "benchmark": _STRING,
        "prompt_id": _STRING,
        "prompt": _STRING,
        "generator": _STRING,
        "image": _STRING_NULL,  # key in the image store, or null where the benchmark ships no image
        "attributes": _STRING_NULL,  # a JSON object with what only this benchmark knows, and the REFERENCE where there is one
    },
)
REFERENCE = "reference_image"
"""The attribute of an item that names a reference image, by its key in the image store."""


def reference_of(attributes: object) -> str:
    """The key of the reference image that ``items.attributes`` names, or ""."""
    if not isinstance(attributes, str) or REFERENCE not in attributes:
        return ""
    named = json.loads(attributes).get(REFERENCE)
    return named if isinstance(named, str) else ""


def mask_key(image: str) -> str:
    """The key in the image store of the mask of structural faults that belongs to the image with key ``image``."""
    return f"masks/{image}.png"


COUNTS, HEAT = "counts", "heat"
"""What the pixels of a mask are, in the attribute ``mask`` of its item: how many annotators marked each (the default), or grey levels
of a heat map, 0 to 255."""


SPLITS = Table("splits", ("item_id", "split_name"), {"item_id": _STRING, "split_name": _STRING, "fold": _STRING})

RATINGS = Table(
    "ratings",
    ("item_id", "rater_id", "dimension"),
    {
        "item_id": _STRING,
        "rater_id": _STRING,
        "dimension": _STRING,
        "score": _FLOAT_NULL,
        "scale_min": _FLOAT,
        "scale_max": _FLOAT,
        "off_scale": Column("bool"),
        "std": _FLOAT_NULL,  # only where the source publishes means: one row with rater_id "mean"
        "n_raters": Column("int", null=True),
    },
)

ELEMENTS = Table(
    "elements",
    ("prompt_id", "element_id"),
    {
        "prompt_id": _STRING,
        "element_id": _STRING,
        "text": _STRING,
        "skill": _STRING,
        "question": _STRING_NULL,
        "expected": _STRING_NULL,  # the answer that means "satisfied"
        "parents": _STRING_NULL,  # element ids, comma-separated
    },
)

ELEMENT_POSITIONS = Table(
    "element_positions",
    ("prompt_id", "element_id"),
    {
        "prompt_id": _STRING,
        "element_id": _STRING,
        "start": Column("int", null=True),  # characters of the first place in the prompt; null where it is in none
        "end": Column("int", null=True),
        "places": Column("int"),
    },
)

ELEMENT_RATINGS = Table(
    "element_ratings",
    ("item_id", "element_id", "rater_id"),
    {"item_id": _STRING, "element_id": _STRING, "rater_id": _STRING, "label": _FLOAT_NULL},
)

PREFERENCES = Table(
    "preferences",
    ("prompt_id", "item_a", "item_b", "rater_id"),
    {
        "prompt_id": _STRING,
        "item_a": _STRING,
        "item_b": _STRING,
        "rater_id": _STRING,
        "label": Column(values=("a", "b", "tie")),
        "strength": Column("float", null=True, added=True),  # how strong the preference is, in the source's own units
    },
)

SCORES = Table(
    "scores",
    ("item_id", "judge", "protocol", "dimension", "run"),
    {
        "item_id": _STRING,
        **_WHO,
        "dimension": _STRING,
        "run": _RUN,
        "score": _FLOAT_NULL,
        "status": _STATUS,
        "explanation": _STRING_NULL,
        "higher_is_better": Column("bool"),
    },
)

ELEMENT_SCORES = Table(
    "element_scores",
    ("item_id", "element_id", "judge", "protocol", "run"),
    {
        "item_id": _STRING,
        "element_id": _STRING,
        **_WHO,
        "run": _RUN,
        "score": _FLOAT_NULL,
        "status": _STATUS,
    },
)

PREFERENCE_SCORES = Table(
    "preference_scores",
    ("prompt_id", "item_a", "item_b", "judge", "protocol", "run"),
    {
        "prompt_id": _STRING,
        "item_a": _STRING,
        "item_b": _STRING,
        **_WHO,
        "run": _RUN,
        "label": Column(null=True, values=("a", "b", "tie")),
        "margin": _FLOAT_NULL,
        "probability": _FLOAT_NULL,  # that a is better, 0 to 1
        "consistent": _FLOAT_NULL,  # 1 where both orders of the images give the same label, 0 where not; null: one order alone
        "status": _STATUS,
    },
)

TRANSCRIPTS = Table(
    "transcripts",
    ("item_id", "judge", "protocol", "run", "step"),
    {
        "item_id": _STRING,
        **_WHO,
        "run": _RUN,
        "step": _STRING,
        "task": _STRING,
        "aspect": _STRING,  # aspect or dimension that the request is about, or ""
        "question_id": _STRING,  # joins the requests of one question
        "messages": _STRING,  # JSON list of {role, text, images}; images by their key in the image store
        "answer": _STRING_NULL,
        "status": _STATUS,
        "usage": _STRING_NULL,  # JSON object
        "prompt_version": _STRING,  # protocol and wording, each with its version
    },
)

EXAMPLES = Table(
    "examples",
    ("example_id",),
    {
        "example_id": _STRING,
        "item_id": _STRING,
        "fold": _STRING,
        "task": _STRING,
        "aspect": _STRING,  # dimension that the example is about, or "" where it is about none
        "messages": _STRING,  # JSON list of {role, text, images}: the request, as the protocol writes it
        "completion": _STRING,  # what the student learns to answer; the loss is on this alone
        "score": _FLOAT_NULL,  # the score that the completion states, on the wording's scale, or null
        "question_id": _STRING,  # joins the explanation and the score of one question
        "weight": _FLOAT,  # of the example's loss
        "soft_label": _STRING_NULL,  # JSON object level -> probability: a soft label in place of the completion's level
        "frequency": _FLOAT_NULL,  # how often it is drawn beside the others; null: once an epoch, as every other
        "prompt_version": _STRING_NULL,  # protocol and wording of the request, each with its version
    },
)

ATTRIBUTION = Table(
    "attribution",
    ("item_id", "judge", "stage"),
    {
        "item_id": _STRING,
        "judge": _STRING,
        "stage": _STRING,  # of the decomposed chain, that was made true; none for the judge's own chain
        "replaced": Column("int"),  # answers that were replaced by the truth
        "score": _FLOAT_NULL,  # final score of the chain, 0 to 10
        "status": _STATUS,
    },
)

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        ITEMS,
        SPLITS,
        RATINGS,
        ELEMENTS,
        ELEMENT_POSITIONS,
        ELEMENT_RATINGS,
        PREFERENCES,
        SCORES,
        ELEMENT_SCORES,
        PREFERENCE_SCORES,
        TRANSCRIPTS,
        EXAMPLES,
        ATTRIBUTION,
    )
}


def is_among(ids: pd.Series, known: pd.Series) -> npt.NDArray[np.bool_]:
    """``(n,)`` whether each of ``ids`` is one of ``known``; columns of text, compared without making Python objects."""
    among = pc.is_in(pa.array(ids, pa.large_string()), value_set=pa.array(known, pa.large_string()).unique())
    return np.asarray(among.to_numpy(zero_copy_only=False), dtype=bool)


def evaluator_id(judge: str, protocol: str | None) -> str:
    """The one name of an evaluator: ``judge``, or ``<judge>_<protocol>`` where the protocol is not the judge's main one.

    The main protocol is ``levels``, a teacher's ``decomposed``; recorded metrics have none.
    """
    return judge if protocol in (None, _MAIN_PROTOCOL.get(judge, "levels")) else f"{judge}_{protocol}"


def split_evaluator_id(name: str) -> tuple[str, str | None]:
    """Judge and protocol of an evaluator's name, for files of release 0.1, which hold the name alone."""
    judge, _, protocol = name.partition("_")
    return (judge, protocol or _MAIN_PROTOCOL.get(judge, "levels")) if judge in JUDGES else (name, None)


def evaluators(table: pd.DataFrame) -> dict[str, tuple[str, str | None]]:
    """The evaluators of ``table``, sorted by name: name -> judge and protocol.

    Raises:
        T2IEvalError: two evaluators have one name.
    """
    out: dict[str, tuple[str, str | None]] = {}
    for judge, protocol in table[["judge", "protocol"]].drop_duplicates().itertuples(index=False, name=None):
        who = str(judge), None if pd.isna(protocol) else str(protocol)
        name = evaluator_id(*who)
        if name in out:
            raise T2IEvalError(
                f"Two evaluators are called '{name}': judge and protocol {out[name]} and {who}; rename the recorded judge."
            )
        out[name] = who
    return dict(sorted(out.items()))


def evaluator_names(table: pd.DataFrame) -> pd.Series:
    """The evaluator's name for each row of ``table``; see :func:`evaluator_id`."""
    names = {who: name for name, who in evaluators(table).items()}
    codes = table.groupby(["judge", "protocol"], sort=False, dropna=False).ngroup().to_numpy()
    first = table[["judge", "protocol"]].iloc[np.unique(codes, return_index=True)[1]]
    of_code = [
        names[str(judge), None if pd.isna(protocol) else str(protocol)]
        for judge, protocol in first.itertuples(index=False, name=None)
    ]
    named = pd.array(of_code, dtype="str").take(codes)
    return pd.Series(named, index=table.index, name="evaluator", dtype="str")


def evaluators_of(summary: Mapping[str, Any]) -> dict[str, tuple[str, str | None]]:
    """The evaluators of a ``summary.json``: name -> judge and protocol."""
    named = summary.get("judges") or {}  # summaries of release 0.1 name evaluators alone
    return {
        name: (named[name]["judge"], named[name]["protocol"]) if name in named else split_evaluator_id(name)
        for name in summary.get("evaluators", {})
    }
