"""``kedro fetch-benchmark``: downloads the files of a benchmark that lives on the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

import click

from t2i_eval_kedro.benchmarks.fetch import fetch_benchmark
from t2i_eval_kedro.cli.errors import readable_errors


@click.command("fetch-benchmark")
@click.argument("name")
@click.option(
    "--raw-root",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("data/01_raw"),
    show_default=True,
    help="Folder that holds a folder for each benchmark.",
)
@click.option("--revision", help="Commit, tag or branch; by default the commit of the last fetch, at first the newest.")
@click.option("--images", is_flag=True, help="Fetch the images too (EvalMuse: about 50 GB) and unpack tar archives.")
@readable_errors
def fetch(name: str, raw_root: Path, revision: str | None, images: bool) -> None:
    """Fetch the files of benchmark NAME from the Hugging Face hub, pinned to a commit and checked."""
    paths = fetch_benchmark(name, raw_root, revision, images, click.echo)
    click.echo(f"{len(paths)} files of {name} are in {raw_root / name}, checked.")
