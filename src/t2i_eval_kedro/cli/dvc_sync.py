"""``kedro dvc-sync``: writes ``dvc.yaml`` from the pipelines, the catalog and the parameters.

There is a stage a pipeline for the default run, and for each study of ``parameters_ablations.yml`` one that runs the pipeline
``ablation_run`` over a matrix of variants and seeds. What a stage depends on is read from the project itself: the files of its pipeline's free inputs, its
parameters, and the parts of the package
that its nodes and datasets import from (:mod:`t2i_eval_kedro.changes`). The axes are variables that DVC reads from Kedro's own parameters, so
``dvc exp run -S conf/base/parameters.yml:seed=1`` moves both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click
import yaml
from kedro.pipeline import Pipeline

from t2i_eval_kedro.changes import PACKAGE, rooms
from t2i_eval_kedro.cli.errors import readable_errors
from t2i_eval_kedro.config import AXES, ExperimentConfigLoader, catalog_entries
from t2i_eval_kedro.datasets.atomic import atomic_file
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.pipeline_registry import ABLATION_RUN, HEADS, STRUCTURE, register_pipelines
from t2i_eval_kedro.settings import CONFIG_LOADER_ARGS
from t2i_eval_kedro.studies import seeds_of

PARAMETERS = "conf/base/parameters.yml"
VARIANTS = "conf/base/parameters_ablations.yml"
MARKS = {axis: f"<{axis}>" for axis in AXES}
"""What stands for an axis in the catalog's paths: OmegaConf would take DVC's own ``${...}`` for its own."""
HEADER = """\
# Written by `kedro dvc-sync` from the pipelines, the catalog and the parameters; a test fails when they disagree. docs/dvc.md says
# how it is used. --env=base is fixed, because an uncommitted conf/local would change results unseen.
"""


@click.command("dvc-sync")
@click.option("--check", is_flag=True, help="Write nothing; fail if dvc.yaml is not what would be written.")
@readable_errors
def dvc_sync(check: bool) -> None:
    """Write dvc.yaml from the pipelines, the catalog and the parameters."""
    path = Path("dvc.yaml")
    current = dvc_yaml(Path())
    if path.is_file() and path.read_text(encoding="utf-8") == current:
        click.echo("dvc.yaml is up to date.")
    elif check:
        raise T2IEvalError(
            "dvc.yaml is not what the pipelines, the catalog and the parameters say; run `kedro dvc-sync`."
        )
    else:
        with atomic_file(path) as temporary:
            temporary.write_text(current, encoding="utf-8")
        click.echo("dvc.yaml is written.")


def dvc_yaml(root: Path) -> str:
    """The text of ``dvc.yaml`` for the project at ``root``."""
    pipelines = register_pipelines()
    parameters = _loader(root)["parameters"]
    datasets = {name for pipeline in pipelines.values() for name in pipeline.datasets()}
    catalog = catalog_entries(_loader(root).catalog_of(MARKS), sorted(datasets))
    stages: dict[str, Any] = {}

    def stage(name: str, axes: Mapping[str, str], overrides: list[str]) -> dict[str, Any]:
        return _stage(name, pipelines[name], axes, root, overrides, _files(catalog, axes), parameters["model"]["model"])

    for name in pipelines:
        if name not in ("__default__", ABLATION_RUN, HEADS, STRUCTURE):  # nothing of a reproduction needs the last two
            axes = {axis: f"${{{axis}}}" for axis in AXES}
            stages[name] = stage(name, axes, [f"variants.{axes['variant']}"])
    for study, settings in parameters.get("studies", {}).items():
        axes = {axis: f"${{{axis}}}" for axis in AXES}
        axes |= {"variant": f"{study}/${{item.variant}}", "seed": "${item.seed}"}
        overrides = ["variants.${item.variant}", f"studies.{study}.overrides"]
        for name, matrix in study_stages(study, settings).items():
            stages[name] = {"matrix": matrix} | stage(ABLATION_RUN, axes, overrides)
    made = {path for entry in stages.values() for path in _paths(entry["outs"] + entry.get("metrics", []))}
    for entry in stages.values():  # what no stage makes and git does not hold is an optional table that is not there
        entry["deps"] = [
            path for path in entry["deps"] if path in made or not path.startswith("data/0") or _kept(path, root)
        ]
    variables = [f"{PARAMETERS}:{','.join([*AXES, 'raw_root'])}"]
    return HEADER + yaml.safe_dump({"vars": variables, "stages": stages}, sort_keys=False, width=1000)


def study_stages(study: str, settings: Mapping[str, Any]) -> dict[str, dict[str, list[Any]]]:
    """The stages of a study's runs: name -> matrix of variants and seeds.

    A matrix has every seed for every variant, so the variants with fewer seeds have a stage of their own, such as ``ablation_seed_0``.
    """
    groups: dict[tuple[int, ...], list[str]] = {}
    for variant, seeds in seeds_of(settings).items():
        groups.setdefault(seeds, []).append(variant)
    return {
        study if seeds == tuple(settings["seeds"]) else f"{study}_seed_{'_'.join(map(str, seeds))}": {
            "variant": variants,
            "seed": list(seeds),
        }
        for seeds, variants in groups.items()
    }


def _loader(root: Path) -> ExperimentConfigLoader:
    arguments: dict[str, Any] = dict(CONFIG_LOADER_ARGS)
    return ExperimentConfigLoader(str(root / "conf"), "base", **arguments)


def _stage(
    name: str,
    pipeline: Pipeline,
    axes: Mapping[str, str],
    root: Path,
    overrides: list[str],
    catalog: Mapping[str, dict[str, Any]],
    model: str,
) -> dict[str, Any]:
    """One stage: ``axes`` are the values of the axes, ``overrides`` the keys that change its parameters."""
    kept = {dataset for dataset in pipeline.inputs() & set(catalog) if _note(catalog[dataset]) == "persist"}
    outs: list[Any] = [{_path(catalog[dataset]): {"persist": True}} for dataset in sorted(kept)]
    metrics: list[Any] = []
    for dataset in sorted(pipeline.all_outputs() & set(catalog)):
        path = _path(catalog[dataset])
        if _note(catalog[dataset]) == "metric":
            metrics.append({path: {"cache": False}})
        else:
            outs.append(path)
    used = [axis for axis in AXES if any(axes[axis] in path for path in _paths(outs + metrics))]
    reads = [_path(catalog[dataset]) for dataset in (pipeline.inputs() & set(catalog)) - kept]
    groups = {dataset.removeprefix("params:") for dataset in pipeline.inputs() if ":" in dataset} - {*AXES}
    groups -= {name for name in groups if name.split(".")[0] in groups - {name}}
    if {"model", "model.model"} & groups:
        reads += [model] if (root / model).is_dir() else []
    if "raw_root" in groups:
        reads.append("${raw_root}/${benchmark}")
    modules = {node.func.__module__ for node in pipeline.nodes}
    modules |= {f"{module.removesuffix('.nodes')}.pipeline" for module in modules if module.endswith(".nodes")}
    modules |= {catalog[dataset]["type"].rpartition(".")[0] for dataset in pipeline.datasets() & set(catalog)}
    settings = ",".join(f"{axis}={axes[axis]}" for axis in used)
    return {
        "cmd": f"kedro run --env=base --params={settings} --pipelines={name}",
        "deps": [*sorted(reads), *(f"src/{PACKAGE}/{room}" for room in rooms(modules))],
        # However many processes train, the adapter is the same.
        "params": _params(root, groups - {"raw_root", "launch"}, overrides if "variant" in used else [])
        + ([{f"conf/base/students/{axes['student']}.yml": None}] if "student" in used else []),
        "outs": outs,
    } | ({"metrics": metrics} if metrics else {})


def _files(catalog: Mapping[str, dict[str, Any]], axes: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The datasets of ``catalog`` that lie in a file or folder, with ``axes`` in place of ``MARKS`` in their paths."""
    entries = {}
    for name, entry in catalog.items():
        if _path(entry) and _note(entry) != "ignore":
            path = _path(entry)
            for axis, mark in MARKS.items():
                path = path.replace(mark, axes[axis])
            entries[name] = entry | {"filepath": path}
    return entries


def _note(entry: Mapping[str, Any]) -> str | None:
    """What the catalog says about a dataset for DVC: metric (kept by git), persist (added to in place) or ignore (not kept)."""
    note: str | None = entry.get("metadata", {}).get("dvc")
    return note


def _path(entry: Mapping[str, Any]) -> str:
    return str(entry.get("filepath") or entry.get("path") or "")


def _paths(entries: Iterable[str | Mapping[str, Any]]) -> list[str]:
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def _kept(path: str, root: Path) -> bool:
    return "${" not in path and (root / path).exists()


def _params(root: Path, groups: set[str], overrides: list[str]) -> list[dict[str, list[str]]]:
    """The parameter files of ``groups`` (dotted names), with the keys in them."""
    names = []
    for path in sorted((root / "conf" / "base").glob("parameters*.yml")):
        declared = set(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
        keys = sorted(name for name in groups if name.split(".")[0] in declared)
        relative = path.relative_to(root).as_posix()
        keys += overrides if relative == VARIANTS else []
        if keys:
            names.append({relative: keys})
    return names
