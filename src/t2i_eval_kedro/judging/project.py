"""Which judge is meant, and in which settings it is asked: the base model, or an adapter of this project.

The settings come from a Kedro project (its ``conf`` folder), or from the defaults that come with the package.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from t2i_eval_kedro.benchmarks.readers.shapes import DIMENSIONS
from t2i_eval_kedro.config import Axes, ExperimentConfigLoader, default_conf, load_config, merge
from t2i_eval_kedro.datasets.adapter import CARD, MANIFEST, check_folder
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.backends.base import Backend
from t2i_eval_kedro.judging.evaluators import JudgingSettings, phrases_of
from t2i_eval_kedro.judging.evidence import evidence_source
from t2i_eval_kedro.judging.familiarity import KnownWords, known_words, vocabulary_of
from t2i_eval_kedro.judging.judge import Elements, GivenImages, Judge, require_references
from t2i_eval_kedro.judging.local_models import cache_answers, open_backend
from t2i_eval_kedro.judging.protocols import Wording
from t2i_eval_kedro.judging.protocols.registry import build, candidate_tokens_of
from t2i_eval_kedro.models.settings import ModelSettings, portable_name

BASE = "base"
SIMILARITY = "similarity"
"""The protocol that has a model of its own (``judging.similarity``)."""
ADAPTERS = Path("data/06_models")
STAGES = ("grpo", "sft")
"""The adapters of one experiment, the last trained first."""

S = TypeVar("S", bound=BaseModel)


@dataclass(frozen=True)
class Project:
    """The resolved settings of one experiment.

    Attributes:
        root: folder that relative paths of the settings start from.
        config: the loader of its configuration.
        parameters: every parameter, as the pipelines get them, unchecked.
    """

    root: Path
    config: ExperimentConfigLoader
    parameters: Mapping[str, Any]

    @classmethod
    def open(cls, root: Path | None, env: str | None = None, params: Mapping[str, Any] | None = None) -> Project:
        """The project at ``root``; None for the defaults that come with the package.

        Args:
            root: folder of a Kedro project, or None.
            env: configuration environment; by default ``local`` of a project, and ``base`` of the package.
            params: parameters on top of all files, the axes among them.

        Raises:
            T2IEvalError: an unknown environment, axis or parameter.
        """
        if root is None:
            config = load_config(default_conf(), env or "base", params or {})
        else:
            config = load_config(root / "conf", env, params or {})
        return cls(root or Path(), config, config.resolved.parameters)

    def neutral(self, params: Mapping[str, Any]) -> Project:
        """The settings without any student's recipe, with ``params`` on top: for a model that has none."""
        return replace(self, parameters=merge(self.config.neutral, params))

    def student_of(self, model: str) -> str | None:
        """The student whose model is called ``model`` (a hub name, or the last part of a folder); None where there is none."""
        name = portable_name(model)
        for student, recipe in self.config.students.items():
            given = recipe.get("model") or {}
            if given.get("model") and name in (given.get("name"), portable_name(given["model"])):
                return student
        return None

    @property
    def axes(self) -> Axes:
        """Benchmark, student, variant and seed."""
        return self.config.resolved.axes

    def settings(self, group: str, model: type[S]) -> S:
        """The parameters ``group``, checked.

        Raises:
            T2IEvalError: a parameter has a value that it cannot have.
        """
        return validated(model, self.parameters[group], group)

    @cached_property
    def model(self) -> ModelSettings:
        """The base model."""
        return self.settings("model", ModelSettings)

    @cached_property
    def judging(self) -> JudgingSettings:
        """How judges are asked."""
        return self.settings("judging", JudgingSettings)

    @cached_property
    def wording(self) -> Wording:
        """The prompt templates that judges are asked with."""
        return self.judging.load_wording(self.templates)

    @property
    def templates(self) -> dict[str, str]:
        """The text of every prompt template, ``<wording>/<template>`` -> jinja source."""
        folder = Path(self.config.conf_source) / "base" / "prompts"
        return {
            path.relative_to(folder).with_suffix("").as_posix(): path.read_text(encoding="utf-8")
            for path in sorted(folder.rglob("*.jinja"))
        }

    @property
    def dimensions(self) -> dict[str, str]:
        """What people rated in the benchmark (name -> phrase); where its data card is not at hand, what they rate in shapes."""
        card = self.root / str(self.config["catalog"]["data_card"]["filepath"])
        if card.is_file():
            return phrases_of(json.loads(card.read_text(encoding="utf-8")))
        return {dimension.name: dimension.description for dimension in DIMENSIONS}


def validated(model: type[S], values: Mapping[str, Any], group: str) -> S:
    """``values`` as ``model``; a value that it refuses is a T2IEvalError that names the parameter."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join([group, *map(str, first["loc"])])
        reason = f"{first['msg'][0].lower()}{first['msg'][1:]}"
        raise T2IEvalError(f"Parameter '{name}' is not valid: {reason}; correct it in conf/ or in --params.") from error


@dataclass(frozen=True)
class Evaluator:
    """A judge by its name: the base model, or an adapter of it; ``note`` says why, where nobody named it."""

    name: str
    adapter: Path | None
    note: str = ""


def find_evaluator(name: str | None, axes: Axes, root: Path = Path()) -> Evaluator:
    """The evaluator ``name`` of the experiment ``axes``; where none is named, its last adapter: GRPO's, else SFT's.

    Args:
        name: ``base``, ``sft`` or ``grpo`` of the experiment; or whichever adapter it is: its folder (also one that another tool wrote), its
            path below ``data/06_models``, or an end of that path that only one adapter has.
        axes: the benchmark, student, variant and seed that the configuration resolves to.
        root: the project's folder.

    Raises:
        T2IEvalError: there is no such evaluator, several have that end, or its folder is incomplete.
    """
    if name == BASE:
        return Evaluator(BASE, None)
    folder = Path(name or "")
    if name and any((folder / file).is_file() for file in (MANIFEST, "settings.json", "adapter_config.json")):
        if (folder / MANIFEST).is_file() or (folder / "settings.json").is_file():  # other tools write neither
            check_folder(folder)
        return Evaluator(name, folder)
    adapters = root / ADAPTERS
    folders = {
        card.parent.relative_to(adapters).as_posix(): card.parent
        for card in sorted(adapters.rglob(f"*/{CARD}"))
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


def axes_of(adapter: Path, root: Path = Path()) -> Axes | None:
    """The experiment that ``adapter`` belongs to, by its place below ``root``; None where it lies elsewhere."""
    folder = (root / ADAPTERS).resolve()
    resolved = adapter.resolve()
    return Axes.of_folder(resolved.relative_to(folder).parent) if resolved.is_relative_to(folder) else None


def evaluator_params(evaluator: Evaluator, params: Mapping[str, Any], root: Path = Path()) -> dict[str, Any]:
    """The axes that ``evaluator`` was trained with, then ``params``."""
    axes = None if evaluator.adapter is None else axes_of(evaluator.adapter, root)
    return (asdict(axes) if axes else {}) | dict(params)


def open_judge(
    project: Project,
    adapter: Path | None,
    *,
    name: str,
    protocol: str,
    images: GivenImages | None = None,
    dimensions: Mapping[str, str] | None = None,
    elements: Elements | None = None,
    keep_answers: bool = False,
    references: bool = False,
) -> Judge:
    """Load the model of ``project``, with ``adapter`` on it where one is given, as a judge.

    Args:
        project: the settings.
        adapter: folder of an adapter.
        name: name of the judge, as results carry it.
        protocol: name of a protocol.
        images: where images are read; by default relative to the working folder.
        dimensions: what is scored (name -> phrase); by default what people rated in the project's benchmark.
        elements: the parts of each prompt, where they are known.
        keep_answers: whether every answer is written to disk as it comes (``judging.answers``), so that an interrupted run resumes.
        references: whether reference images will be shown, which only some protocols look at.

    Raises:
        T2IEvalError: the protocol looks at no reference image, or the model cannot be loaded, does not fit the adapter, or cannot tell two levels apart.
    """
    images = images or GivenImages()
    judging, wording = project.judging, project.wording
    asked = build(protocol, wording, judging.options)
    if references:
        require_references(asked)
    evidence = evidence_source(
        judging, images, keep=keep_answers
    )  # a folder that is not there is refused before a model is loaded
    backend: Backend
    familiar: KnownWords | None = None
    if protocol == SIMILARITY:
        from t2i_eval_kedro.judging.backends.similarity import SimilarityBackend  # torch is slow to import

        name = judging.similarity.model
        backend = SimilarityBackend(judging.similarity, images)
    else:
        local = open_backend(project.model, adapter, images, judging)
        model = portable_name(project.model.model, project.model.name)
        familiar = known_words(model, adapter, vocabulary_of(local))
        local.require_tokens(candidate_tokens_of([protocol], wording, judging.options))
        backend = cache_answers(local, project.model, adapter, images, judging) if keep_answers else local
    return Judge(
        name=name,
        protocol=asked,
        backend=backend,
        images=images,
        dimensions=project.dimensions if dimensions is None else dimensions,
        batch_size=judging.batch_size,
        elements=elements or {},
        rule=judging.options.pair_rule,
        familiar=familiar,
        max_out_of_vocabulary=judging.max_out_of_vocabulary,
        evidence=evidence,
    )
