"""``kedro convert-fga``: rewrites the authors' checkpoint of FGA-BLIP2 as safetensors that this project loads."""

from __future__ import annotations

import json
from pathlib import Path

import click

from t2i_eval_kedro.cli.errors import readable_errors
from t2i_eval_kedro.errors import T2IEvalError


@click.command("convert-fga")
@click.argument("checkpoint", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="BLIP-2 configuration (JSON) of another shape than the released one: EVA-ViT-g at 364 pixels, 32 queries.",
)
@readable_errors
def convert_fga(checkpoint: Path, folder: Path, config: Path | None) -> None:
    """Convert CHECKPOINT, the authors' FGA-BLIP2, to a model in FOLDER. Only tensors are read, no code is run."""
    from transformers import Blip2Config  # torch and transformers are slow to import

    from t2i_eval_kedro.models.fga_blip2 import RELEASED_SHAPE, convert_checkpoint

    if folder.exists():
        raise T2IEvalError(f"'{folder}' exists already; name a new folder.")
    try:
        shape = RELEASED_SHAPE if config is None else json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise T2IEvalError(f"'{config}' cannot be read as JSON: {error}") from error
    convert_checkpoint(checkpoint, Blip2Config(**shape), folder)
    click.echo(f"The model is in {folder}.")
