"""``kedro merge-adapter``: a base model with an adapter in its weights."""

from __future__ import annotations

from pathlib import Path

import click

from t2i_eval_kedro.cli.errors import readable_errors


@click.command("merge-adapter")
@click.argument("adapter", type=click.Path(path_type=Path, file_okay=False))
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@click.option("--model", required=True, metavar="MODEL", help="Base model: folder or hub name.")
@click.option("--revision", metavar="REVISION", help="Branch, tag or commit of a hub name.")
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    default="bfloat16",
    show_default=True,
    help="Precision of the merged weights.",
)
@click.option("--licence", default="unknown", show_default=True, help="Licence of the base model, for the card.")
@readable_errors
def merge(adapter: Path, out: Path, model: str, revision: str | None, dtype: str, licence: str) -> None:
    """Write MODEL with the adapter folder ADAPTER merged into it to the folder OUT."""
    from t2i_eval_kedro.models.merging import merge_adapter  # torch is slow to import

    merge_adapter(adapter, model, out, revision=revision, dtype=dtype, licence=licence)
    click.echo(f"The merged model is in {out}.")
