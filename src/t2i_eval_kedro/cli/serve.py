"""``kedro serve-evaluator``: lets any OpenAI client ask a judge."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from t2i_eval_kedro.cli.errors import readable_errors
from t2i_eval_kedro.cli.evaluators import EVALUATOR_HELP, choose_judge, project_options, project_root
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.backends.base import Backend
from t2i_eval_kedro.judging.local_models import open_backend
from t2i_eval_kedro.judging.project import Project

if TYPE_CHECKING:
    from t2i_eval_kedro.serving.server import SentImages

SIMULATED = "simulated-teacher"


@click.command("serve-evaluator")
@click.option("--evaluator", metavar="NAME", help=EVALUATOR_HELP)
@click.option("--untrained", is_flag=True, help="Serve the model that --evaluator names although it has no adapter.")
@click.option(
    "--teacher", type=click.Choice(["simulated"]), help="Serve the simulated teacher of the benchmark shapes instead."
)
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on. There is no authentication."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Port to listen on; 0 for any free one.",
)
@project_options
@readable_errors
def serve_evaluator(
    evaluator: str | None,
    untrained: bool,
    teacher: str | None,
    host: str,
    port: int,
    env: str | None,
    params: Mapping[str, Any],
) -> None:
    """Serve a judge to OpenAI clients.

    \b
    GET  /v1/models
    POST /v1/chat/completions   images as data URLs; logprobs, top_logprobs, usage

    Answers are greedy. Requests that wait together are answered in one batch.
    """
    if evaluator and teacher:
        raise click.UsageError("Give either --evaluator or --teacher.")
    try:
        from t2i_eval_kedro.serving.server import listen, make_app, serve, url_of
    except ImportError as error:
        raise T2IEvalError("The server needs the extra 'serve': pip install 't2i-eval-kedro[serve]'.") from error
    make_backend: Callable[[SentImages], Backend]
    if teacher:
        name, project = SIMULATED, Project.open(project_root(), env, params)
        make_backend = partial(_simulated, project)
    else:
        chosen = choose_judge(evaluator, env, params, untrained=untrained)
        name, project = chosen.name, chosen.project
        make_backend = partial(open_backend, project.model, chosen.adapter, judging=project.judging)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with listen(host, port) as listening:
        app = make_app(name, make_backend, batch_size=project.judging.batch_size)
        click.echo(f"Serving '{name}' at {url_of(listening)}; stop it with Ctrl-C.")
        try:
            serve(app, listening)
        except KeyboardInterrupt:
            click.echo("Stopped.")


def _simulated(project: Project, images: SentImages) -> Backend:
    from t2i_eval_kedro.benchmarks.readers.shapes import read
    from t2i_eval_kedro.datasets.image_store import decode
    from t2i_eval_kedro.judging.backends.replayed import ReplayedBackend
    from t2i_eval_kedro.judging.backends.simulated import SimulatedBackend
    from t2i_eval_kedro.judging.evaluators import evaluation_items
    from t2i_eval_kedro.judging.evidence import evidence_source
    from t2i_eval_kedro.judging.protocols.registry import build, resolved
    from t2i_eval_kedro.judging.shards import BatchImages
    from t2i_eval_kedro.teacher.teachers import TeacherSettings

    settings = project.settings("teacher", TeacherSettings)
    made = dict(project.parameters["ingestion"]["shapes"])
    made.pop("held_out", None)  # how items are split, not how they are made
    shapes = read(Path(), **made)
    teacher = SimulatedBackend(
        shapes.items,
        project.wording,
        seed=settings.seed,
        error_rate=settings.error_rate,
        score_noise=settings.score_noise,
    )
    protocols = resolved(project.judging.protocols, project.parameters["examples"]["tasks"])
    encoded = BatchImages(dict(shapes.images()))
    items = evaluation_items(shapes.items, {dimension.name: dimension.description for dimension in shapes.dimensions})
    evidence = evidence_source(project.judging, encoded)
    return ReplayedBackend(
        teacher,
        items if evidence is None else evidence.add(items),
        {key: decode(data) for key, data in encoded.data.items()},
        [build(name, project.wording, project.judging.options) for name in protocols],
        images,
    )
