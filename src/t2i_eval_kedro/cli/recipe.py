"""``kedro recipe``: prints the settings that an experiment resolves to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from t2i_eval_kedro.cli.errors import readable_errors
from t2i_eval_kedro.cli.evaluators import project_options, project_root
from t2i_eval_kedro.config import as_yaml, default_conf, load_config, overview


@click.command("recipe")
@click.argument("student", required=False)
@click.argument("variant", required=False)
@click.option(
    "--gpu",
    type=float,
    metavar="GB",
    help="Memory of the GPU in GB; a warning says where the fine-tuning does not fit.",
)
@click.option("--table", "as_table", is_flag=True, help="Print the key settings of every student in every variant.")
@project_options
@readable_errors
def recipe(
    student: str | None,
    variant: str | None,
    gpu: float | None,
    as_table: bool,
    env: str | None,
    params: Mapping[str, Any],
) -> None:
    """Print the settings of STUDENT in VARIANT as YAML, each with the layer that it comes from, and the GPU memory they take.

    The memory is that of supervised fine-tuning, estimated. By default both are those of the parameters. A variant of a study is written STUDY/VARIANT.

    \b
    t2i-eval recipe qwen2_5_vl_7b no_rebalancing --gpu 24
    t2i-eval recipe --table
    """
    root = project_root()
    config = load_config(
        default_conf() if root is None else root / "conf", env or ("base" if root is None else None), params
    )
    chosen = {name: value for name, value in (("student", student), ("variant", variant)) if value is not None}
    if not as_table:
        from t2i_eval_kedro.training.memory import memory_notes

        resolved = config.resolve(**chosen)
        click.echo(as_yaml(resolved), nl=False)
        notes, warning = memory_notes(resolved.parameters, gpu)
        for line in notes:
            click.echo(f"# {line}")
        if warning is not None:
            click.echo(f"Warning: {warning}", err=True)
        return
    table = overview(config, **chosen)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
