"""Writes the report that a person reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from t2i_eval_kedro import schema
from t2i_eval_kedro.benchmarks.splits import TRAINING_FOLDS
from t2i_eval_kedro.datasets.image_store import ImageStore
from t2i_eval_kedro.judging.costs import break_even
from t2i_eval_kedro.judging.evaluators import in_fold
from t2i_eval_kedro.provenance import provenance
from t2i_eval_kedro.reporting.inputs import ReportInputs
from t2i_eval_kedro.schema import SHAPES
from t2i_eval_kedro.teacher.teachers import TeacherSettings

_STEP = "seconds_per_step_"


def write_report(
    summary: Mapping[str, Any],
    diagnostics: Mapping[str, Any],
    card: Mapping[str, Any],
    items: pd.DataFrame,
    splits: pd.DataFrame,
    ratings: pd.DataFrame,
    scores: pd.DataFrame,
    images: ImageStore,
    sft_curve: pd.DataFrame,
    grpo_curve: pd.DataFrame,
    rebalancing: pd.DataFrame,
    sft_time: Mapping[str, float],
    grpo_time: Mapping[str, float],
    costs: Mapping[str, Any],
    checks: Mapping[str, Any],
    teacher: TeacherSettings,
    model: str,
    **transcripts: pd.DataFrame,
) -> str:
    """One self-contained HTML page."""
    from t2i_eval_kedro.reporting.report import build_report  # seaborn is slow to import

    held_out = in_fold(items, splits, summary["fold"])
    ids = set(held_out["item_id"])
    trained = len(sft_curve) > 0
    learned = in_fold(items, splits, *TRAINING_FOLDS)["image"].notna().sum()
    taken = [time["seconds"] for time in (sft_time, grpo_time) if time]
    return build_report(
        ReportInputs(
            summary=summary,
            diagnostics=diagnostics,
            card=card,
            items=held_out,
            ratings=schema.RATINGS.check(ratings[ratings["item_id"].isin(ids)]),
            scores=schema.SCORES.check(scores[scores["item_id"].isin(ids)]),
            transcripts=schema.TRANSCRIPTS.check(
                pd.concat([table[table["item_id"].isin(ids)] for table in transcripts.values()], ignore_index=True)
            ),
            image=images.read if len(images) else None,
            sft_curve=sft_curve if trained else None,
            grpo_curve=grpo_curve if len(grpo_curve) else None,
            grpo_seconds={
                name.removeprefix(_STEP): seconds for name, seconds in grpo_time.items() if name.startswith(_STEP)
            },
            rebalancing=rebalancing if len(rebalancing) else None,
            provenance=provenance(model) | ({"teacher": costs["teacher"]} if costs else {}),
            teacher={
                "costs": costs,
                "checks": checks,
                "break_even": break_even(costs, int(learned), sum(taken) if taken else None, teacher.prices),
            },
            commands=commands(summary, trained),
        )
    )


def commands(summary: Mapping[str, Any], trained: bool) -> list[str]:
    """What makes this report again; the folder of raw files is written as ``DIR``, for it differs from machine to machine."""
    names = [
        name for name in ("benchmark", "student", "variant", "seed") if name in summary
    ]  # older ones have no student
    axes = ",".join(f"{name}={summary[name]}" for name in names)
    raw = "" if summary["benchmark"] in SHAPES else ",raw_root=DIR"
    some = "" if trained else " --pipelines=ingestion,meta_evaluation,reporting"
    return ["make install", f".venv/bin/kedro run{some} --params={axes}{raw}"]
