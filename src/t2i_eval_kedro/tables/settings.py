"""What a user may say about the tables that are read: on the command line, in Python, or in ``t2i_eval.yml``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from t2i_eval_kedro.errors import T2IEvalError

MAPPING_FILE = "t2i_eval.yml"
Repeated = Literal["exclude", "mean", "first", "last", "people"]
IdRule = Literal["stem", "case", "zeros", "number", "unicode"]


class TableMapping(BaseModel):
    """Where one table is and what its columns are called.

    Attributes:
        file: CSV file, relative to the mapping's folder.
        columns: our column -> the file's column; null where the file has none (``generator``, ``rater_id``, ``dimension``, ``prompt_id``).
        wide: columns that each hold one rater's ratings, or one judge's scores, in place of a row each.
    """

    model_config = ConfigDict(extra="forbid")

    file: Path | None = None
    columns: dict[str, str | None] = Field(default_factory=dict)
    wide: list[str] = Field(default_factory=list)


class ReadingSettings(BaseModel):
    """How tables are read; every default leaves values as they are.

    Attributes:
        ratings: the table of ratings.
        scores: the table of judges' scores.
        preferences: the table of people's preferences.
        pairwise_scores: the table of judges' own verdicts on pairs.
        scale: lowest and highest possible rating; ratings outside are excluded and counted.
        rater_scales: rater -> the value of the lowest and of the highest rating on the scale this rater used; mapped linearly onto
            ``scale``. The first may be above the second: a reversed rater.
        missing_codes: numbers in the place of ratings that mean "no rating"; in the place of a judge's scores where they stand apart from all
            its others.
        ratings_lower_is_better: whether low ratings mean good images, as ranks do; None: not said.
        lower_is_better: judges whose low scores mean good images.
        same_scale: judges' scores are declared to be on the scale of the ratings, so that an RMSE means something.
        id_rules: repairs of identifiers before they are joined, in order: ``unicode`` (compatibility forms, no invisible characters),
            ``stem`` (no folder, no file extension), ``case`` (letter case is ignored, in dimensions too), ``number`` (7.0 is 7),
            ``zeros`` (no leading zeros).
        repeated: what becomes of several values of one key: ``exclude`` (counted; equal ones once), ``mean``, ``first``, ``last``,
            or, for ratings, ``people`` (an identifier stands for several people).
        labels: label of a preference -> ``a``, ``b`` or ``tie``.
        decimal: the decimal sign, where the numbers do not show it.
        max_unreadable: fraction of the cells present that may be unreadable before reading stops.
    """

    model_config = ConfigDict(extra="forbid")

    ratings: TableMapping = Field(default_factory=TableMapping)
    scores: TableMapping = Field(default_factory=TableMapping)
    preferences: TableMapping = Field(default_factory=TableMapping)
    pairwise_scores: TableMapping = Field(default_factory=TableMapping)
    scale: tuple[float, float] | None = None
    rater_scales: dict[str, tuple[float, float]] = Field(default_factory=dict)
    missing_codes: tuple[float, ...] = ()
    ratings_lower_is_better: bool | None = None
    lower_is_better: tuple[str, ...] = ()
    same_scale: bool = False
    id_rules: tuple[IdRule, ...] = ()
    repeated: Repeated = "exclude"
    labels: dict[str, Literal["a", "b", "tie"]] = Field(default_factory=dict)
    decimal: Literal[".", ","] | None = None
    max_unreadable: float = Field(default=0.05, ge=0, le=1)

    @field_validator("scale")
    @classmethod
    def _rising(cls, scale: tuple[float, float] | None) -> tuple[float, float] | None:
        if scale is not None and not (scale[0] < scale[1] and math.isfinite(scale[1] - scale[0])):
            raise ValueError("a scale is two finite numbers, the lowest rating first")
        return scale

    @field_validator("rater_scales")
    @classmethod
    def _finite(cls, scales: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        for rater, (first, last) in scales.items():
            if first == last or not math.isfinite(last - first):
                raise ValueError(f"the scale of rater '{rater}' is not two different finite numbers")
        return scales


def read_mapping(path: Path) -> ReadingSettings:
    """The settings in ``path`` (``t2i_eval.yml``), with files relative to its folder.

    Raises:
        T2IEvalError: there is no such file, or it says what is not known.
    """
    try:
        settings = ReadingSettings.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except OSError as error:
        raise T2IEvalError(
            f"The mapping '{path}' cannot be read ({error.strerror}); `t2i-eval check` writes one."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise T2IEvalError(f"The mapping '{path}' is not valid YAML ({' '.join(str(error).split())}).") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise T2IEvalError(f"The mapping '{path}' is not valid: '{where}': {first['msg']}.") from error
    for table in (settings.ratings, settings.scores, settings.preferences, settings.pairwise_scores):
        if table.file is not None:
            table.file = path.parent / table.file
    return settings
