"""``kedro run``, as Kedro has it, with readable errors."""

from __future__ import annotations

import copy
import warnings

import click
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.project import pipelines

from t2i_eval_kedro.cli.errors import readable_errors
from t2i_eval_kedro.cli.params import split_params
from t2i_eval_kedro.errors import T2IEvalError

RUNNER = "t2i_eval_kedro.pipelines.ingestion.runner.SkipUnchanged"

# The trainers of trl pass transformers arguments that it renames; nothing that a user of this project could act on.
warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


@readable_errors
def _run(**options: object) -> object:
    asked = [*options["pipelines"], *filter(None, [options["pipeline"]])]  # type: ignore[misc]
    unknown = [name for name in asked if name not in pipelines]
    if unknown:
        raise T2IEvalError(f"There is no pipeline '{unknown[0]}'; the pipelines are {', '.join(sorted(pipelines))}.")
    if str(options["runner"] or "").endswith("ParallelRunner"):
        raise T2IEvalError(
            "ParallelRunner cannot run these pipelines: their nodes hand on readers of images and models, which stay in one process. "
            "Leave --runner out or use ThreadRunner; launch.processes trains, and judging.ray_workers judges, in several processes."
        )
    assert kedro_run.callback is not None
    return kedro_run.callback(**options | {"runner": options["runner"] or RUNNER})


def _options() -> list[click.Parameter]:
    """Kedro's own options; ``--params`` reads lists, too."""
    options = [copy.copy(option) for option in kedro_run.params]
    for option in options:
        if option.name == "params":
            option.callback = split_params
    return options


run = click.Command("run", params=_options(), callback=_run, help=kedro_run.help)
