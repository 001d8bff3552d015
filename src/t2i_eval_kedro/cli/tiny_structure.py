"""``kedro build-tiny-structure``: makes the tiny backbones of the structure models again."""

from __future__ import annotations

from pathlib import Path

import click

from t2i_eval_kedro.cli.errors import readable_errors


@click.command("build-tiny-structure")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("data/06_models/tiny_structure"),
    show_default=True,
    help="Folder that the backbones are written to.",
)
@click.option(
    "--steps", type=click.IntRange(min=1), help="Steps of 24 cuts of pictures. By default those of the recipe."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Random seed for the weights and the scenes.")
@readable_errors
def build_tiny_structure(out: Path, steps: int | None, seed: int) -> None:
    """Pre-train the tiny backbones of the structure models on synthetic shapes without any fault (six minutes of one core)."""
    import torch

    from t2i_eval_kedro.shapes.tiny_structure import BackboneRecipe, build_backbones  # torch is slow to import

    torch.set_num_threads(1)
    recipe = BackboneRecipe(seed=seed) if steps is None else BackboneRecipe(steps=steps, seed=seed)
    for name, value in build_backbones(out, recipe).items():
        click.echo(f"{name}: {value:.3f}")
    click.echo(f"The backbones are in {out}.")
