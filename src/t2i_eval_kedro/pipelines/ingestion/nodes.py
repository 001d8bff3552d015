"""From the raw files of one benchmark to the canonical tables, its splits and its data card."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from t2i_eval_kedro.benchmarks import read_benchmark
from t2i_eval_kedro.benchmarks.base import Benchmark
from t2i_eval_kedro.benchmarks.card import data_card
from t2i_eval_kedro.benchmarks.checks import check_splits, count_excluded, refuse_bad_rows
from t2i_eval_kedro.benchmarks.splits import (
    leave_generators_out,
    only_tested,
    prompt_groups,
    split_by_prompt,
    with_unused,
)
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.schema import SHAPES

IMAGE_ISSUES = ("bad_image", "bad_path")


class ShapesSettings(BaseModel):
    """The embedded synthetic benchmark (`shapes.make.ShapesSettings`); its data do not depend on the seed of an experiment.

    Attributes:
        n_prompts: prompts; 1,000 for the benchmark proper, of which a smaller one has the first.
        seed: random seed of everything.
        generators: 8 or 24.
        raters: ``three``, ``crowd``, ``constant`` or ``reversed``.
        side: pixels of a side, 64, 256 or 512.
        structure: plant structural faults, with masks and a score of their own.
        held_out: generators that are only tested on, beside the others.
    """

    model_config = ConfigDict(extra="forbid")

    n_prompts: int = Field(ge=1)
    seed: int = Field(ge=0)
    generators: int
    raters: str
    side: int
    structure: bool
    held_out: list[str]


class SplitSettings(BaseModel):
    """Shares of the prompts in each fold, the seed that assigns them, and generators that are only tested on (``leave_out``)."""

    model_config = ConfigDict(extra="forbid")

    train: float = Field(ge=0, le=1)
    validation: float = Field(ge=0, le=1)
    test: float = Field(gt=0, le=1)
    seed: int = Field(ge=0)
    leave_out: list[str]

    @property
    def shares(self) -> dict[str, float]:
        """Fold -> share of the prompts."""
        return {"train": self.train, "validation": self.validation, "test": self.test}


class SampleSettings(BaseModel):
    """Balanced sampling of prompts; off while ``prompts`` is null.

    Attributes:
        prompts: how many are chosen; what is not chosen has the fold ``unused``.
        dimensions: what is evened out, with its weight: names of item attributes, or ``element_skills``.
        seed: decides between samples that are equally even.
        time_limit: seconds for the solver.
        gap: relative gap at which the solver may stop.
    """

    model_config = ConfigDict(extra="forbid")

    prompts: int | None = Field(ge=1)
    dimensions: dict[str, float]
    seed: int = Field(ge=0)
    time_limit: float = Field(ge=0)
    gap: float = Field(ge=0, lt=1)


class IngestionSettings(BaseModel):
    """How a benchmark is read.

    Attributes:
        sample: balanced sample of the prompts, before they are split.
        split: shares of the prompts into folds.
        shapes: the embedded benchmark.
        max_bad_images: images that cannot be read and are excluded before the run stops.
        max_bad_ratings: fraction of the rows of ratings, scores or preferences that cannot be used before the run stops.
        strict: end with an error, once everything is written, where anything at all was excluded.
        force: ingest again where nothing has changed since the last time.
    """

    model_config = ConfigDict(extra="forbid")

    sample: SampleSettings
    split: SplitSettings
    shapes: ShapesSettings
    max_bad_images: int = Field(ge=0)
    max_bad_ratings: float = Field(ge=0, le=1)
    strict: bool
    force: bool


def read(benchmark: str, raw_root: str, settings: IngestionSettings) -> dict[str, Any]:
    """Read ``<raw_root>/<benchmark>/`` (``shapes`` is made instead) into tables, images, issues and the benchmark's description."""
    options = settings.shapes.model_dump(exclude={"held_out"}) if benchmark in SHAPES else {}
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


def sample(items: pd.DataFrame, elements: pd.DataFrame, settings: IngestionSettings) -> dict[str, Any]:
    """A balanced sample of the prompts and how even it is; empty where none is asked for."""
    asked = settings.sample
    if asked.prompts is None:
        return {}
    from t2i_eval_kedro.benchmarks.sampling import balanced_sample, prompt_categories  # scipy is slow to import

    groups = prompt_groups(items)
    categories = prompt_categories(items, elements, groups, asked.dimensions)
    chosen = balanced_sample(categories, asked.prompts, asked.dimensions, asked.seed, asked.time_limit, asked.gap)
    return {"prompts": len(chosen.chosen), "of": len(categories), **asdict(chosen)}


def split(items: pd.DataFrame, prompt_sample: dict[str, Any], settings: IngestionSettings) -> pd.DataFrame:
    """Folds by prompt, or by prompt and generator where some are left out; prompts outside the sample are unused.

    A benchmark with images for less than half of its items can train nothing and is all test.
    """
    shares, seed = settings.split.shares, settings.split.seed
    kept = prompt_groups(items).isin(prompt_sample["chosen"]) if prompt_sample else pd.Series(True, items.index)
    used = items[kept]
    if settings.split.leave_out:
        splits = leave_generators_out(used, settings.split.leave_out, shares, seed)
    elif used["image"].notna().mean() < 0.5:
        splits = split_by_prompt(used, {"test": 1.0}, seed)
    else:
        splits = split_by_prompt(used, shares, seed)
        if items["benchmark"].isin(SHAPES).all():
            splits = only_tested(splits, used, settings.shapes.held_out)
    return with_unused(splits, items.loc[~kept, "item_id"])


def describe(
    description: Benchmark, splits: pd.DataFrame, element_positions: pd.DataFrame, prompt_sample: dict[str, Any]
) -> tuple[dict[str, Any], pd.DataFrame]:
    """The data card, and everything that is wrong with the raw files and the splits."""
    issues = pd.concat([description.issues, check_splits(description.items, splits)], ignore_index=True)
    about_sample = {name: value for name, value in prompt_sample.items() if name != "chosen"}
    return data_card(replace(description, issues=issues), splits, element_positions, about_sample), issues


def refuse_if_strict(issues: pd.DataFrame, card: dict[str, Any], settings: IngestionSettings) -> None:
    """End with an error where the user asked for it and something was excluded; the tables are written by then."""
    gone = count_excluded(issues) if len(issues) else 0
    if settings.strict and gone:
        raise T2IEvalError(
            f"{gone} items, rows or ratings of benchmark '{card['name']}' were excluded; they are listed in data_issues.csv "
            "beside its tables, which are written without them."
        )


def _stop_if_too_bad(read: Benchmark, settings: IngestionSettings) -> None:
    bad_images = read.issues[read.issues["kind"].isin(IMAGE_ISSUES)]
    if len(bad_images) > settings.max_bad_images:
        first = bad_images.iloc[0]
        raise T2IEvalError(
            f"{len(bad_images)} images of benchmark '{read.name}' cannot be used, the first {first['where']}: "
            f"{first['detail']}; repair them, or exclude them with ingestion.max_bad_images={len(bad_images)}."
        )
    refuse_bad_rows(read, settings.max_bad_ratings)
