"""``kedro export-examples``: training data for other trainers."""

from __future__ import annotations

from pathlib import Path

import click

from t2i_eval_kedro.cli.errors import readable_errors
from t2i_eval_kedro.errors import T2IEvalError


@click.command("export-examples")
@click.argument("examples", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("images", type=click.Path(path_type=Path, file_okay=False))
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--format", "form", type=click.Choice(["ms-swift", "llama-factory"]), required=True, help="Trainer to write for."
)
@readable_errors
def export(examples: Path, images: Path, out: Path, form: str) -> None:
    """Write the table EXAMPLES (balanced_examples.parquet) and its images from the image store IMAGES to the folder OUT."""
    import pandas as pd

    from t2i_eval_kedro.datasets.image_store import ImageStore
    from t2i_eval_kedro.training.interchange import Form, export_examples

    if not examples.is_file():
        raise T2IEvalError(
            f"There is no table of examples '{examples}'; make it with kedro run --pipelines=teacher_distillation,rebalancing."
        )
    chosen: Form = "ms-swift" if form == "ms-swift" else "llama-factory"
    counts = export_examples(pd.read_parquet(examples), ImageStore(images), out, chosen)
    click.echo(f"{', '.join(f'{count} {fold}' for fold, count in counts.items())} conversations are in {out}.")
