"""The evaluators that commands outside a pipeline name: the base model, and the adapters trained in this project."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
from kedro.framework.cli.utils import _split_params
from kedro.framework.session import KedroSession

from t2i_eval_kedro.benchmarks.readers.shapes import DIMENSIONS
from t2i_eval_kedro.datasets.adapter import CARD, MANIFEST, check_folder
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.evaluators import JudgingSettings, load_templates, phrases_of
from t2i_eval_kedro.judging.protocols import Wording
from t2i_eval_kedro.models.settings import ModelSettings

BASE = "base"
ADAPTERS = Path("data/06_models")
_CELL = ("benchmark", "variant", "seed")

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


def find_evaluator(name: str | None) -> Evaluator:
    """The evaluator ``name``, or where none is named the last trained adapter, or where none is trained the base model.

    Args:
        name: ``base``, an adapter folder, its path below ``data/06_models``, or the end of that path (``sft``), which
            stands for the newest such adapter.

    Raises:
        T2IEvalError: there is no such evaluator, or its folder is not whole.
    """
    if name == BASE:
        return Evaluator(BASE, None)
    if name and (Path(name) / MANIFEST).is_file():
        check_folder(Path(name))
        return Evaluator(name, Path(name))
    # The card is the part of a folder that says when the adapter was trained; the newest comes first.
    trained = sorted(ADAPTERS.rglob(f"*/{CARD}"), key=lambda card: (card.stat().st_mtime, card), reverse=True)
    folders = {
        card.parent.relative_to(ADAPTERS).as_posix(): card.parent for card in trained if _is_adapter(card.parent)
    }
    wanted = next((known for known in folders if name is None or f"/{known}".endswith(f"/{name.strip('/')}")), None)
    if wanted is not None:
        check_folder(folders[wanted])
        return Evaluator(wanted, folders[wanted], "" if name else f"the last trained adapter, {wanted}, judges")
    if name is None:
        return Evaluator(BASE, None, "no adapter is trained yet, so the base model judges, which never learned to")
    known = ", ".join([BASE, *sorted(folders)])
    raise T2IEvalError(f"There is no evaluator '{name}'; there is {known}, or the folder of an adapter.")


def _is_adapter(folder: Path) -> bool:
    return (folder / MANIFEST).is_file() and (folder / "adapter_config.json").is_file()


def load_project(evaluator: Evaluator, env: str | None, params: Mapping[str, Any]) -> Project:
    """The configuration that ``evaluator`` was trained in: its benchmark, variant and seed, then ``params``.

    What is scored are the dimensions that people rated in its benchmark, or where that is not at hand those of shapes.
    """
    cell = {}
    if evaluator.adapter is not None and evaluator.adapter.is_relative_to(ADAPTERS):
        parts = evaluator.adapter.relative_to(ADAPTERS).parts
        if len(parts) == len(_CELL) + 1 and parts[2].startswith("seed_"):
            cell = {"benchmark": parts[0], "variant": parts[1], "seed": int(parts[2].removeprefix("seed_"))}
    logging.getLogger("kedro").setLevel(logging.WARNING)
    with KedroSession.create(env=env, runtime_params=cell | dict(params)) as session:
        assert isinstance(session, KedroSession)
        context = session.load_context()
        parameters, catalog = context.params, context.catalog
        wording = parameters["judging"].load_wording(load_templates(catalog.load("prompts")))
        dimensions = {dimension.name: dimension.description for dimension in DIMENSIONS}
        if catalog.exists("data_card"):
            dimensions = phrases_of(catalog.load("data_card"))
    return Project(parameters, wording, dimensions)
