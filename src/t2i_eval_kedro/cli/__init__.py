"""The project's commands, next to Kedro's own: ``kedro run`` with readable errors, and what has no pipeline."""

from __future__ import annotations

import click

from t2i_eval_kedro.cli.ablations import ablations
from t2i_eval_kedro.cli.agreement import agreement, score_submission
from t2i_eval_kedro.cli.dvc_sync import dvc_sync
from t2i_eval_kedro.cli.estimate_teacher import estimate_teacher
from t2i_eval_kedro.cli.fetch import fetch
from t2i_eval_kedro.cli.judge import judge_images
from t2i_eval_kedro.cli.push_adapter import push
from t2i_eval_kedro.cli.run import run
from t2i_eval_kedro.cli.serve import serve_evaluator
from t2i_eval_kedro.cli.tiny_vlm import build_tiny_vlm


@click.group(name="t2i_eval_kedro")
def cli() -> None:
    """Train and measure judges of text-to-image images."""


for command in (
    run,
    ablations,
    judge_images,
    serve_evaluator,
    estimate_teacher,
    agreement,
    score_submission,
    fetch,
    build_tiny_vlm,
    dvc_sync,
    push,
):
    cli.add_command(command)
