"""``kedro build-towers``: pre-trains the small networks that judges of the embedded benchmark begin from."""

from __future__ import annotations

from pathlib import Path

import click

from t2i_eval_kedro.cli.errors import readable_errors


@click.command("build-towers")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("data/06_models"),
    show_default=True,
    help="Folder that the networks are written to, each in a folder of its own; the tiny model is read from there.",
)
@click.option("--steps", type=click.IntRange(min=1), help="Steps of the BLIP-2, in place of the recipe's.")
@click.option("--seed", type=int, default=0, show_default=True, help="Random seed for weights, pictures and captions.")
@readable_errors
def build_towers(folder: Path, steps: int | None, seed: int) -> None:
    """Pre-train a small BLIP-2 on pictures of shapes and their captions, without any score, for kedro run --pipeline=heads."""
    from t2i_eval_kedro.training.heads.towers import BLIP2, TowerRecipe, pretrain_blip  # torch is slow to import

    recipe = TowerRecipe(seed=seed) if steps is None else TowerRecipe(seed=seed, steps=steps)
    pretrain_blip(folder / BLIP2, folder / "tiny_vlm", recipe)
    click.echo(f"The network is in {folder / BLIP2}.")
