"""``kedro push-adapter``: publishes an adapter on the Hugging Face hub."""

from __future__ import annotations

import json
from pathlib import Path

import click

from t2i_eval_kedro.cli.errors import readable_errors
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.training.publish import push_adapter


@click.command("push-adapter")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.argument("repo")
@click.option(
    "--summary",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The summary.json of the adapter's run: its agreement with people goes into the card.",
)
@click.option("--private", is_flag=True, help="Make the repository private where it is created.")
@click.option("--dry-run", is_flag=True, help="Say what would be uploaded; reach no network.")
@readable_errors
def push(folder: Path, repo: str, summary: Path | None, private: bool, dry_run: bool) -> None:
    """Upload the adapter in FOLDER to the model repository REPO (owner/name). The token is read from HF_TOKEN."""
    measured = None
    if summary is not None:
        try:
            measured = json.loads(summary.read_bytes())
        except (OSError, ValueError) as error:
            raise T2IEvalError(f"'{summary}' is no readable summary ({error}); run meta_evaluation first.") from error
    push_adapter(folder, repo, summary=measured, private=private, dry_run=dry_run, say=click.echo)
