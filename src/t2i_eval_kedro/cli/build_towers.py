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
@click.option("--only", type=click.Choice(["blip2", "clip"]), help="One network; both where this is not given.")
@click.option("--steps", type=click.IntRange(min=1), help="Steps of each network, in place of the recipes'.")
@click.option("--seed", type=int, default=0, show_default=True, help="Random seed for weights, pictures and captions.")
@readable_errors
def build_towers(folder: Path, only: str | None, steps: int | None, seed: int) -> None:
    """Pre-train a small BLIP-2 and a small CLIP on pictures of shapes and their captions, without any score, for kedro run --pipeline=heads."""
    from t2i_eval_kedro.training.heads.clip_towers import CLIP, ClipRecipe, pretrain_clip  # torch is slow to import
    from t2i_eval_kedro.training.heads.towers import BLIP2, TowerRecipe, pretrain_blip

    changed = {"seed": seed} if steps is None else {"seed": seed, "steps": steps}
    if only != "blip2":
        pretrain_clip(folder / CLIP, folder / "tiny_vlm", ClipRecipe(**changed))
        click.echo(f"The CLIP is in {folder / CLIP}.")
    if only != "clip":
        pretrain_blip(folder / BLIP2, folder / "tiny_vlm", TowerRecipe(**changed))
        click.echo(f"The BLIP-2 is in {folder / BLIP2}.")
