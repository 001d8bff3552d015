"""The evaluators that commands outside a pipeline name: the base model, and the adapters trained in this project."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
from kedro.framework.cli.utils import _split_params
from kedro.framework.project import settings
from kedro.framework.session import KedroSession

from t2i_eval_kedro.benchmarks.readers.shapes import DIMENSIONS
from t2i_eval_kedro.config import Axes
from t2i_eval_kedro.datasets.adapter import CARD, MANIFEST, check_folder
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.evaluators import JudgingSettings, load_templates, phrases_of
from t2i_eval_kedro.judging.protocols import Wording
from t2i_eval_kedro.models.settings import ModelSettings

BASE = "base"
ADAPTERS = Path("data/06_models")
STAGES = ("grpo", "sft")
"""The adapters of one experiment, the last trained first."""

C = TypeVar("C", bound=Callable[..., object])


@dataclass(frozen=True)
class Project:
    """The parameters of the project, and what of its catalog a judge needs.

    Attributes:
        parameters: as the pipelines get them, checked.
        wording: the templates that judges are asked in.
        dimensions: what is scored: name -> phrase.
    """

    parameters: Mapping[str, Any]
    wording: Wording
    dimensions: Mapping[str, str]

    @property
    def model(self) -> ModelSettings:
        """The base model."""
        return self.parameters["model"]  # type: ignore[no-any-return]

    @property
    def judging(self) -> JudgingSettings:
        """How judges are asked."""
        return self.parameters["judging"]  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Evaluator:
    """A judge by its name: the base model, or an adapter of it; ``note`` says why, where nobody named it."""

    name: str
    adapter: Path | None
    note: str = ""


def project_options(command: C) -> C:
    """The options of ``kedro run`` that choose a configuration."""
    for option in (
        click.option("--params", "params", default="", callback=_split_params, help="Parameters, as for kedro run."),
        click.option("--env", "-e", help="Configuration environment, as for kedro run."),
    ):
        command = option(command)
    return command


def resolved_axes(env: str | None, params: Mapping[str, Any]) -> Axes:
    """The benchmark, student, variant and seed that ``env`` and ``params`` mean."""
    loader = settings.CONFIG_LOADER_CLASS("conf", env, dict(params), **settings.CONFIG_LOADER_ARGS)
    axes: Axes = loader.resolved.axes
    return axes


def find_evaluator(name: str | None, axes: Axes) -> Evaluator:
    """The evaluator ``name`` of the experiment ``axes``; where none is named, its last adapter: GRPO's, else SFT's.

    Args:
        name: ``base``, ``sft`` or ``grpo`` of the experiment; or whichever adapter it is: its folder, its path below
            ``data/06_models``, or an end of that path that only one adapter has.
        axes: the benchmark, student, variant and seed that the configuration resolves to.

    Raises:
        T2IEvalError: there is no such evaluator, several have that end, or its folder is not whole.
    """
    if name == BASE:
        return Evaluator(BASE, None)
    if name and (Path(name) / MANIFEST).is_file():
        check_folder(Path(name))
        return Evaluator(name, Path(name))
    folders = {
        card.parent.relative_to(ADAPTERS).as_posix(): card.parent
        for card in sorted(ADAPTERS.rglob(f"*/{CARD}"))
        if _is_adapter(card.parent)
    }
    known = ", ".join([BASE, *folders])
    if name is None or name in STAGES:
        stages = STAGES if name is None else (name,)
        trained = [f"{axes.folder}/{stage}" for stage in stages if f"{axes.folder}/{stage}" in folders]
        if not trained:
            raise T2IEvalError(
                f"There is no {name or 'trained'} adapter of {axes.folder}; there is {known}. Train it with kedro run, name "
                f"another with --evaluator or --params (benchmark, student, variant, seed), or judge with the untrained "
                "model by --evaluator base."
            )
        matches = trained[:1]
    else:
        matches = [path for path in folders if f"/{path}".endswith(f"/{name.strip('/')}")]
    if not matches:
        raise T2IEvalError(f"There is no evaluator '{name}'; there is {known}, or the folder of an adapter.")
    if len(matches) > 1:
        raise T2IEvalError(f"'{name}' could be each of {', '.join(matches)}; give more of the path.")
    check_folder(folders[matches[0]])
    note = "" if name else f"the last adapter of the resolved experiment, {matches[0]}, judges"
    return Evaluator(matches[0], folders[matches[0]], note)


def _is_adapter(folder: Path) -> bool:
    return (folder / MANIFEST).is_file() and (folder / "adapter_config.json").is_file()


def load_project(evaluator: Evaluator, env: str | None, params: Mapping[str, Any]) -> Project:
    """The configuration that ``evaluator`` was trained in (its benchmark, student, variant and seed), then ``params``.

    What is scored are the dimensions that people rated in its benchmark, or where that is not at hand those of shapes.
    """
    trained_for: Axes | None = None
    if evaluator.adapter is not None and evaluator.adapter.is_relative_to(ADAPTERS):
        trained_for = Axes.of_folder(evaluator.adapter.relative_to(ADAPTERS).parent)
    logging.getLogger("kedro").setLevel(logging.WARNING)
    with KedroSession.create(
        env=env, runtime_params=(asdict(trained_for) if trained_for else {}) | dict(params)
    ) as session:
        assert isinstance(session, KedroSession)
        context = session.load_context()
        parameters, catalog = context.params, context.catalog
        wording = parameters["judging"].load_wording(load_templates(catalog.load("prompts")))
        dimensions = {dimension.name: dimension.description for dimension in DIMENSIONS}
        if catalog.exists("data_card"):
            dimensions = phrases_of(catalog.load("data_card"))
    return Project(parameters, wording, dimensions)
