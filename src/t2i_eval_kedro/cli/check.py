"""``kedro check``: what is understood of a benchmark's folder or of tables, before anything is measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from t2i_eval_kedro.agreement.check import check_folder_tables, check_tables, issue_lines
from t2i_eval_kedro.cli.errors import readable_errors
from t2i_eval_kedro.cli.reading import reading_options, reading_settings
from t2i_eval_kedro.datasets.atomic import atomic_file, require_writable
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.tables.settings import MAPPING_FILE


@click.command("check")
@click.argument("folder", required=False, type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--ratings", type=click.Path(path_type=Path), help="CSV file of people's ratings.")
@click.option("--scores", type=click.Path(path_type=Path), help="CSV file of evaluators' scores.")
@click.option("--preferences", type=click.Path(path_type=Path), help="CSV file of people's preferences.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"Mapping to write. Default: {MAPPING_FILE} beside the tables, where there is none yet.",
)
@reading_options
@readable_errors
def check(
    folder: Path | None,
    ratings: Path | None,
    scores: Path | None,
    preferences: Path | None,
    out: Path | None,
    **reading: Any,
) -> None:
    """Say what is understood of FOLDER (a benchmark with items.csv, or tables), or of the tables given, and write a mapping.

    Ends with status 1 where the tables cannot be measured as they are; the sentence names the option that settles it.
    """
    if folder is not None and (folder / "items.csv").is_file():
        from t2i_eval_kedro.benchmarks import read_benchmark  # Kedro and Pillow are slow to import
        from t2i_eval_kedro.benchmarks.checks import refuse_bad_rows

        made = read_benchmark(folder.resolve().name, folder.resolve().parent)
        sizes = {"items": made.items, "ratings": made.ratings, "preferences": made.preferences, "scores": made.scores}
        click.echo("\n".join(f"{name.capitalize()}: {len(table)}" for name, table in sizes.items()))
        for dimension in made.dimensions:
            click.echo(f"Scale of '{dimension.name}': {dimension.scale_min:g} to {dimension.scale_max:g}")
        click.echo("\n".join(issue_lines(made.issues)) or "Nothing to report.")
        refuse_bad_rows(made, reading_settings(reading).max_unreadable)
        return
    if folder is not None:
        result = check_folder_tables(folder)
        ratings, scores, preferences = (given or result[kind] for given, kind in ((ratings, "ratings"), (scores, "scores"), (preferences, "preferences")))  # fmt: skip
    first = ratings or preferences
    if first is None:
        raise T2IEvalError("There is nothing to check; give a folder, --ratings or --preferences.")
    if out is not None:
        require_writable(out)
    checked = check_tables(ratings, scores, preferences, reading_settings(reading))
    click.echo("\n".join(checked.lines))
    path = out or first.parent / MAPPING_FILE
    if out is not None or not path.exists():
        with atomic_file(path) as temporary:
            temporary.write_text(checked.mapping(path.parent), encoding="utf-8")
        use = f"`t2i-eval agreement --mapping {path}` measures the tables so"
        click.echo(f"Written: {path}; {use}." if checked.problem is None else f"Written: {path}; it is not enough yet.")
    if checked.problem is not None:
        raise T2IEvalError(checked.problem)
