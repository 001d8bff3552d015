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
@click.option(
    "--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="Where it is trained."
)
@click.option(
    "--workers", type=click.IntRange(min=0), default=1, show_default=True, help="Processes that draw batches."
)
@readable_errors
def build_tiny_vlm(out: Path, seed: int, device: str, workers: int) -> None:
    """Pre-train the embedded tiny vision-language model on generic questions over synthetic shapes.

    A run that was cut off goes on where it last saved its state, every 200 steps.
    """
    from t2i_eval_kedro.shapes.build import build  # torch is slow to import
    from t2i_eval_kedro.shapes.pretrain import Recipe

    build(out, Recipe(seed=seed), device=device, workers=workers)
    click.echo(f"The model is in {out}.")
