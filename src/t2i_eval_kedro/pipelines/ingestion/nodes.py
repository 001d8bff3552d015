"""From the raw files of one benchmark to the canonical tables, its splits and its data card."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from t2i_eval_kedro.benchmarks import read_benchmark
from t2i_eval_kedro.benchmarks.base import Benchmark
from t2i_eval_kedro.benchmarks.card import data_card
from t2i_eval_kedro.benchmarks.checks import check_splits, set_aside
from t2i_eval_kedro.benchmarks.splits import leave_generators_out, split_by_prompt
from t2i_eval_kedro.errors import T2IEvalError

IMAGE_FAULTS = ("bad_image", "bad_path")


class ShapesSettings(BaseModel):
    """Size and seed of the embedded synthetic benchmark; its data do not depend on the seed of an experiment."""

    model_config = ConfigDict(extra="forbid")

    n_prompts: int = Field(ge=1)
    seed: int = Field(ge=0)


class SplitSettings(BaseModel):
    """Shares of the prompts in each fold, the seed that assigns them, and generators that are only tested on (``leave_out``)."""

    model_config = ConfigDict(extra="forbid")

    train: float = Field(ge=0, le=1)
    validation: float = Field(ge=0, le=1)
    test: float = Field(gt=0, le=1)
    seed: int = Field(ge=0)
    leave_out: list[str] = Field(default_factory=list)

    @property
    def shares(self) -> dict[str, float]:
        """Fold -> share of the prompts."""
        return {"train": self.train, "validation": self.validation, "test": self.test}


class IngestionSettings(BaseModel):
    """How a benchmark is read.

    Attributes:
        split: of the prompts into folds.
        shapes: the embedded benchmark.
        max_bad_images: images that cannot be read and are set aside before the run stops.
        max_bad_ratings: share of ratings that are off the scale or unreadable before the run stops.
        strict: end with an error, once everything is written, where anything at all was set aside.
    """

    model_config = ConfigDict(extra="forbid")

    split: SplitSettings
    shapes: ShapesSettings
    max_bad_images: int = Field(ge=0)
    max_bad_ratings: float = Field(ge=0, le=1)
    strict: bool


def read(benchmark: str, raw_root: str, settings: IngestionSettings) -> dict[str, Any]:
    """Read ``<raw_root>/<benchmark>/`` (``shapes`` is made instead) into tables, images, faults and the benchmark's description."""
    options = settings.shapes.model_dump() if benchmark == "shapes" else {}
    read = read_benchmark(benchmark, Path(raw_root), **options)
    _stop_if_too_bad(read, settings)
    return {
        "items": read.items,
        "ratings": read.ratings,
        "elements": read.elements,
        "element_ratings": read.element_ratings,
        "preferences": read.preferences,
        "recorded_scores": read.scores,
        "recorded_element_scores": read.element_scores,
        "recorded_transcripts": read.transcripts,
        "images": read.images(),
        "description": read,
    }


def split(items: pd.DataFrame, settings: IngestionSettings) -> pd.DataFrame:
    """Folds by prompt, or by prompt and generator where some are left out.

    A benchmark with images for less than half of its items can train nothing and is all test.
    """
    shares, seed = settings.split.shares, settings.split.seed
    if settings.split.leave_out:
        return leave_generators_out(items, settings.split.leave_out, shares, seed)
    if items["image"].notna().mean() < 0.5:
        return split_by_prompt(items, {"test": 1.0}, seed)
    return split_by_prompt(items, shares, seed)


def describe(description: Benchmark, splits: pd.DataFrame) -> tuple[dict[str, Any], pd.DataFrame]:
    """The data card, and everything that is wrong with the raw files and the splits."""
    faults = pd.concat([description.faults, check_splits(description.items, splits)], ignore_index=True)
    return data_card(replace(description, faults=faults), splits), faults


def refuse_if_strict(faults: pd.DataFrame, card: dict[str, Any], settings: IngestionSettings) -> None:
    """End with an error where the user asked for it and something was set aside; the tables are written by then."""
    gone = set_aside(faults) if len(faults) else 0
    if settings.strict and gone:
        raise T2IEvalError(
            f"{gone} items, rows or ratings of benchmark '{card['name']}' were set aside; they are listed in faults.csv "
            "beside its tables, which are written without them."
        )


def _stop_if_too_bad(read: Benchmark, settings: IngestionSettings) -> None:
    bad_images = read.faults[read.faults["kind"].isin(IMAGE_FAULTS)]
    if len(bad_images) > settings.max_bad_images:
        first = bad_images.iloc[0]
        raise T2IEvalError(
            f"{len(bad_images)} images of benchmark '{read.name}' cannot be used, the first {first['where']}: "
            f"{first['detail']}; repair them, or set them aside with ingestion.max_bad_images={len(bad_images)}."
        )
    bad_ratings = int(read.ratings["score"].isna().sum())
    if bad_ratings > settings.max_bad_ratings * len(read.ratings):
        raise T2IEvalError(
            f"{bad_ratings} of {len(read.ratings)} ratings of benchmark '{read.name}' are off the scale or unreadable; "
            f"correct them, or raise ingestion.max_bad_ratings above {bad_ratings / len(read.ratings):.3f}."
        )
