"""``kedro estimate-teacher``: what a teacher behind a server would cost; nothing is sent."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

import click
from kedro.framework.session import KedroSession

from t2i_eval_kedro.benchmarks.splits import in_use, training_items
from t2i_eval_kedro.cli.errors import readable_errors
from t2i_eval_kedro.cli.evaluators import project_options
from t2i_eval_kedro.judging.attribution import Truth, choose_items
from t2i_eval_kedro.judging.evaluators import in_fold, load_templates, phrases_of
from t2i_eval_kedro.teacher.estimate import estimate, sentence
from t2i_eval_kedro.teacher.teachers import Material


@click.command("estimate-teacher")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@project_options
@readable_errors
def estimate_teacher(as_json: bool, params: Mapping[str, Any], env: str | None) -> None:
    """Say what asking the teacher of teacher.openai about all items would cost. Nothing is sent.

    Answers that the store holds already cost nothing. The benchmark must have been ingested.
    """
    logging.getLogger("kedro").setLevel(logging.WARNING)
    with KedroSession.create(env=env, runtime_params=dict(params)) as session:
        assert isinstance(session, KedroSession)
        context = session.load_context()
        load, teacher, judging = context.catalog.load, context.params["teacher"], context.params["judging"]
        items, splits = load("items"), load("splits")
        material = Material(
            in_use(items, splits),
            load("images"),
            load("recorded_transcripts"),
            load("teacher_answers"),
            None,
            training=training_items(splits),
            all_items=items,
        )
        wording = judging.load_wording(load_templates(load("prompts")))
        again = choose_items(in_fold(items, splits, judging.fold), load("elements"), teacher.attribution_items)
        truth = Truth.of(again, load("elements"), load("element_ratings"), load("ratings"))
        estimated = estimate(teacher, material, wording, phrases_of(load("data_card")), (again, truth))
        material.answers.close()
    click.echo(json.dumps(estimated.as_dict()) if as_json else sentence(estimated, teacher.prices))
