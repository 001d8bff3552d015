"""``kedro ablations``: sets the variants of a study beside each other."""

from __future__ import annotations

from pathlib import Path

import click

from t2i_eval_kedro.cli.errors import readable_errors
from t2i_eval_kedro.datasets.atomic import require_writable
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.studies import Study, measure, notes, run_missing, write


@click.command("ablations")
@click.option(
    "--study", "name", default="ablation", show_default=True, help="Study of conf/base/parameters_ablations.yml."
)
@click.option("--benchmark", help="Benchmark to measure on. By default that of the parameters.")
@click.option("--student", help="Student to train. By default that of the parameters.")
@click.option("--env", default="base", show_default=True, help="Configuration environment of the runs.")
@click.option(
    "--jobs",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Number of missing runs to train at a time; 0 trains none.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to write to. Default: the report folder of the study.",
)
@readable_errors
def ablations(name: str, benchmark: str | None, student: str | None, env: str, jobs: int, out: Path | None) -> None:
    """Compare the variants of a study over prompts and seeds; writes ablations.json and ablations.html."""
    study = Study.load(name, benchmark, student, env)
    require_writable(out or study.folder)
    for note in notes(study, jobs):
        click.echo(note, err=True)
    failed = run_missing(study, jobs, click.echo) if jobs else []
    try:
        result = measure(study)
    except T2IEvalError as error:
        raise T2IEvalError("\n".join([str(error), *failed])) from error
    page = write(result, out or study.folder)
    for claim in result["claims"]:
        interval = "no interval" if claim["low"] is None else f"[{claim['low']:+.3f}, {claim['high']:+.3f}]"
        click.echo(
            f"{claim['verdict']:5s} {claim['a']} - {claim['b']}: {claim['difference']:+.3f} {interval}  {claim['text']}"
        )
    click.echo(f"The table is in {page}.")
    if failed:
        raise T2IEvalError(
            "\n".join(
                [
                    "Some runs failed and the table is of those that are complete; mend the cause and give the command again.",
                    *failed,
                ]
            )
        )
