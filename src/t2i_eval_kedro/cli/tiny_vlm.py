"""``kedro build-tiny-vlm``: makes the embedded model again."""

from __future__ import annotations

from pathlib import Path

import click

from t2i_eval_kedro.cli.errors import readable_errors


@click.command("build-tiny-vlm")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("data/06_models/tiny_vlm"),
    show_default=True,
    help="Folder that the model is written to.",
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Random seed for the weights and the pre-training scenes."
)
@readable_errors
def build_tiny_vlm(out: Path, seed: int) -> None:
    """Pre-train the embedded tiny vision-language model on generic questions over synthetic shapes."""
    from t2i_eval_kedro.shapes.pretrain import pretrain  # torch is slow to import

    pretrain(out, seed=seed)
    click.echo(f"The model is in {out}.")
