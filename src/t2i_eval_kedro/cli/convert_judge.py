"""``kedro convert-judge``: rewrites authors' checkpoints of published scores as safetensors that this project loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import click

from t2i_eval_kedro.cli.errors import readable_errors
from t2i_eval_kedro.errors import T2IEvalError


@click.command("convert-judge")
@click.argument("kind", type=click.Choice(["hps_v2", "image_reward"]))
@click.argument("checkpoint", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--shape",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Configuration (JSON) of another shape than the released network's.",
)
@readable_errors
def convert_judge(kind: Literal["hps_v2", "image_reward"], checkpoint: Path, folder: Path, shape: Path | None) -> None:
    """Convert CHECKPOINT, the authors' HPSv2 or ImageReward, to a network in FOLDER. Only tensors are read, no code is run."""
    from t2i_eval_kedro.models.image_text import convert  # torch is slow to import

    if folder.exists():
        raise T2IEvalError(f"'{folder}' exists already; name a new folder.")
    try:
        given = None if shape is None else json.loads(shape.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise T2IEvalError(f"'{shape}' cannot be read as JSON: {error}") from error
    convert(kind, checkpoint, folder, given)
    click.echo(f"The network is in {folder}.")
