"""``kedro structure-study``: what coarse labels cost a model of structure, over seeds; resumes where it was cut off."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from t2i_eval_kedro.cli.errors import readable_errors
from t2i_eval_kedro.cli.evaluators import project_options
from t2i_eval_kedro.config import catalog_entries
from t2i_eval_kedro.datasets.atomic import atomic_file
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.project import Project, validated
from t2i_eval_kedro.provenance import commit

_DATASETS = ("items", "ratings", "splits", "images", "structure_summary")


@click.command("structure-study")
@project_options
@readable_errors
def structure_study(env: str | None, params: Mapping[str, Any]) -> None:
    """Train a model of structure on each kind of labels, with each seed, and compare them on exact masks.

    What is in parameters_structure.yml under structure_study is run; cells that are done are not run again.

    \b
    kedro run --pipelines=ingestion --params=benchmark=shapes_structure
    kedro structure-study --params=benchmark=shapes_structure
    """
    import pandas as pd

    from t2i_eval_kedro.datasets.image_store import ImageStore
    from t2i_eval_kedro.training.structure.data import structure_examples
    from t2i_eval_kedro.training.structure.study import StudySettings, run_study

    project = Project.open(Path(), env, params)
    study = validated(StudySettings, project.parameters["structure_study"], "structure_study")
    entries = catalog_entries(project.config.catalog_of(vars(project.axes)), _DATASETS)
    files = {name: Path(entry["filepath"]) for name, entry in entries.items()}
    if not files["items"].is_file():
        raise T2IEvalError(
            f"There is no '{files['items']}'; run kedro run --pipelines=ingestion --params=benchmark={project.axes.benchmark} first."
        )
    tables = {name: pd.read_parquet(files[name]) for name in ("items", "ratings", "splits")}
    examples = structure_examples(**tables, dimension=project.parameters["structure"]["dimension"])
    folder = files["structure_summary"].parent / "structure_study"
    result = run_study(
        examples, ImageStore(files["images"]), project.parameters["structure"], study, folder, click.echo
    )
    result |= {"benchmark": project.axes.benchmark, "architecture": study.architecture, "commit": commit()}
    with atomic_file(folder / "structure_study.json") as path:
        path.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    click.echo(_table(result))
    click.echo(f"Written: {folder / 'structure_study.json'}")


def _table(result: Mapping[str, Any]) -> str:
    """The figures of every variant as text."""
    import pandas as pd

    rows = []
    for name, strata in result["variants"].items():
        for stratum, figures in strata.items():
            rows.append(
                {"labels": name, "families": stratum} | {figure: _cell(entry) for figure, entry in figures.items()}
            )
    return pd.DataFrame(rows).to_string(index=False)


def _cell(entry: Mapping[str, Any]) -> str:
    if entry["value"] is None:
        return "-"
    return f"{entry['value']:.3f}" + (f" [{entry['low']:.3f}, {entry['high']:.3f}]" if entry["low"] is not None else "")
