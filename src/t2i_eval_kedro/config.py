"""Resolves the configuration of one experiment: its axes, and the settings that each layer adds.

The axes are ``benchmark``, ``student``, ``variant`` and ``seed``. They are resolved here and nowhere else, from ``conf/base``, the
environment (``conf/local`` unless ``--env`` names another) and the command line, and every path, parameter and title follows them.

The settings come in layers, each over the one before it:

1. neutral: ``conf/base/parameters*.yml``, which suit a real model of 2 to 8 billion parameters;
2. student: ``students/<student>.yml``, what one model needs;
3. variant: one factor changed, relative to the recipe (``variants`` of ``parameters_ablations.yml``);
4. study: what all variants of a comparison share (``studies``), for ``variant=<study>/<variant>``;
5. environment: ``conf/<env>/parameters*.yml``;
6. command line: ``--params``.
"""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import yaml
from kedro.config import MissingConfigException, OmegaConfigLoader
from kedro.io import CatalogConfigResolver

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.provenance import recipe

AXES = ("benchmark", "student", "variant", "seed")
LOADER_ARGS: dict[str, Any] = {
    "base_env": "base",
    "default_run_env": "local",
    # An environment states what differs, not the whole tree of a group of parameters.
    "merge_strategy": {"parameters": "soft"},
}
NEUTRAL, COMMAND_LINE = "neutral", "--params"
ALTERNATIVES = ((("sft", "max_steps"), ("sft", "epochs")),)
"""Settings of which a recipe has one: a layer that gives one of them unsets the other."""
SHARES: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("sft", "steps_share"): ("max_steps", "epochs"),
    ("sft", "batch_share"): ("gradient_accumulation_steps", "batch_size"),
}
"""A share -> what it multiplies of the layers below the one that gives it: the first of these that is a number above 1, else the last that is
a number. The share is gone from the resolved settings."""
KEY_SETTINGS = (
    "model.model",
    "model.dtype",
    "judging.wording",
    "sft.max_steps",
    "sft.epochs",
    "sft.batch_size",
    "sft.gradient_accumulation_steps",
    "sft.learning_rate",
    "sft.lora.r",
)
"""The columns of an overview of recipes."""
_FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Axes:
    """Which experiment it is.

    Attributes:
        benchmark: name of a reader, or of a folder of raw files.
        student: name of a recipe in ``students/``.
        variant: name in ``variants``, or ``<study>/<variant>``.
        seed: seed of rebalancing and training, 0 or more.
    """

    benchmark: str
    student: str
    variant: str
    seed: int

    @property
    def folder(self) -> str:
        """The folder of the experiment below each layer of ``data/``, as the catalog writes it."""
        return f"{self.benchmark}/{self.student}/{self.variant}/seed_{self.seed}"

    @classmethod
    def of_folder(cls, folder: PurePath) -> Axes | None:
        """The axes that ``folder`` (relative to a layer of ``data/``) was written for; None if it is no such folder."""
        parts = folder.parts
        if len(parts) not in (4, 5) or not re.fullmatch(r"seed_\d+", parts[-1]):
            return None
        return cls(parts[0], parts[1], "/".join(parts[2:-1]), int(parts[-1].removeprefix("seed_")))


class Layer(NamedTuple):
    """One layer of settings and what it is called."""

    name: str
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Resolved:
    """The settings of one experiment.

    Attributes:
        axes: which experiment it is.
        parameters: every parameter, the axes among them, as Kedro hands them to the nodes.
        layers: dotted name of a parameter -> the layer that its value comes from.
    """

    axes: Axes
    parameters: dict[str, Any]
    layers: dict[str, str]


class ExperimentConfigLoader(OmegaConfigLoader):
    """Kedro's loader, with the axes resolved, the layers of settings applied, and unknown names refused."""

    def __getitem__(self, key: str) -> dict[str, Any]:
        """The configuration ``key``; the catalog's ``${runtime_params:...}`` are the resolved axes.

        Raises:
            T2IEvalError: an axis with a value that there is not, or a parameter that no file of conf/base declares.
        """
        if key == "parameters" and key not in self:
            return copy.deepcopy(self.resolved.parameters)
        if key == "catalog" and key not in self:
            return self.catalog_of(asdict(self.resolved.axes))
        return super().__getitem__(key)

    @cached_property
    def resolved(self) -> Resolved:
        """The axes, and the parameters with the layer of each."""
        return self.resolve()

    def resolve(self, **axes: object) -> Resolved:
        """The parameters of another experiment than the one that is configured: ``axes`` on top of the command line.

        Raises:
            T2IEvalError: an axis with a value that there is not, or a parameter that no file of conf/base declares.
        """
        neutral, environment = self.neutral, self.environment
        given = copy.deepcopy(self.runtime_params or {}) | axes
        chosen = self._axes(neutral, environment, given)
        declared = merge(neutral, {name: environment[name] for name in ("variants", "studies") if name in environment})
        refuse_unknown(environment, declared, f"conf/{self._env}")
        refuse_unknown(given, declared, COMMAND_LINE)
        layers = [
            Layer(NEUTRAL, neutral),
            Layer(f"student {chosen.student}", self.students[chosen.student]),
            *variant_layers(chosen.variant, merge(merge(neutral, environment), given)),
        ]
        for layer in layers[1:]:
            refuse_axes(layer)
            refuse_unknown(layer.settings, declared, layer.name)
        layers += [Layer(f"conf/{self._env}", environment), Layer(COMMAND_LINE, given)]
        parameters, origins = apply_layers(layers)
        return Resolved(chosen, parameters | asdict(chosen), origins)

    @cached_property
    def students(self) -> dict[str, dict[str, Any]]:
        """Every student's recipe by its name, from ``students/*.yml`` of conf/base and the environment."""
        names = {}
        for env in dict.fromkeys((self.base_env, self._env)):
            for path in sorted((Path(self.conf_source) / env / "students").glob("*.yml")):
                try:
                    recipe = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
                except (yaml.YAMLError, UnicodeDecodeError) as error:
                    raise T2IEvalError(f"The recipe '{path}' is not valid YAML: {error}.") from error
                if not isinstance(recipe, dict):
                    raise T2IEvalError(f"The recipe '{path}' is not a mapping of parameters.")
                names[path.stem] = recipe
        return names

    def catalog_of(self, axes: Mapping[str, object]) -> dict[str, Any]:
        """The catalog with ``axes`` in its paths, whatever experiment this is."""
        env = self._env if (Path(self.conf_source) / self._env).is_dir() else self.base_env
        catalog: dict[str, Any] = self._plain(env, (self.runtime_params or {}) | dict(axes))["catalog"]
        return catalog

    @property
    def _env(self) -> str:
        return self.env or self.default_run_env or self.base_env

    def _plain(self, env: str | None, runtime_params: Mapping[str, Any] | None = None) -> OmegaConfigLoader:
        """Kedro's own loader of the same files, of conf/base and ``env``."""
        return OmegaConfigLoader(
            self.conf_source,
            env,
            dict(runtime_params or {}),
            base_env=self.base_env,
            default_run_env=self.default_run_env,
            merge_strategy=self.merge_strategy,
        )

    @cached_property
    def neutral(self) -> dict[str, Any]:
        """The parameters of conf/base."""
        return dict(self._plain(self.base_env)["parameters"])

    @cached_property
    def environment(self) -> dict[str, Any]:
        """The parameters of the environment alone."""
        if self._env == self.base_env:
            return {}
        folder = Path(self.conf_source) / self._env
        if not folder.is_dir():
            if self.env is None:  # nobody asked for the default environment
                return {}
            known = sorted(path.name for path in folder.parent.iterdir() if path.is_dir())
            raise T2IEvalError(f"There is no environment '{self._env}' (--env); there are {', '.join(known)}.")
        alone = OmegaConfigLoader(self.conf_source, base_env=self._env, default_run_env=self._env)
        try:
            return dict(alone["parameters"])
        except MissingConfigException:
            return {}

    def _axes(self, *layers: Mapping[str, Any]) -> Axes:
        """The axes, each from the last of ``layers`` that gives it.

        Raises:
            T2IEvalError: there is no such student, variant or study, or a value that no benchmark or seed can have.
        """
        values = {name: value for layer in layers for name, value in layer.items() if name in AXES}
        merged: Mapping[str, Any] = {}
        for layer in layers:
            merged = merge(merged, layer)
        benchmark, student, variant, seed = (values.get(name) for name in AXES)
        if isinstance(benchmark, bool) or not isinstance(benchmark, str | int):
            raise T2IEvalError(f"'{benchmark}' cannot be a benchmark's name; give a name, as in benchmark=shapes.")
        if not _FOLDER_NAME.fullmatch(str(benchmark)):
            raise T2IEvalError(f"'{benchmark}' cannot be a benchmark's name; use letters, digits, '.', '_' and '-'.")
        students = self.students
        if student not in students:
            raise T2IEvalError(f"There is no student '{student}'; the students are {', '.join(students)}.")
        variant_layers(str(variant), merged)
        if isinstance(seed, str) and seed.isdecimal():
            seed = int(seed)
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**31:
            raise T2IEvalError(f"'{seed}' is not a seed; give a whole number from 0 to {2**31 - 1}, as in seed=1.")
        return Axes(str(benchmark), str(student), str(variant), seed)


def default_conf() -> Path:
    """The folder of the defaults that come with the package; it has the environment ``base`` alone in an installed wheel."""
    return Path(__file__).parent / "conf"


def load_config(
    conf_source: Path, env: str | None = None, params: Mapping[str, Any] | None = None
) -> ExperimentConfigLoader:
    """The configuration in the folder ``conf_source``, of the environment ``env``, with ``params`` on top."""
    return ExperimentConfigLoader(str(conf_source), env, dict(params or {}), **LOADER_ARGS)


def catalog_entries(catalog: Mapping[str, Any], datasets: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The entry of each of ``datasets`` that ``catalog`` describes, those of a dataset factory with the name filled in."""
    in_memory = {"{default}": {"type": "MemoryDataset"}}
    resolver = CatalogConfigResolver(dict(catalog), default_runtime_patterns=in_memory)
    return {
        name: resolver.resolve_pattern(name)
        for name in datasets
        if name in catalog or resolver.match_dataset_pattern(name)
    }


def variant_layers(name: str, declared: Mapping[str, Any]) -> list[Layer]:
    """The layers of the variant ``name``, or ``<study>/<variant>``, as ``declared`` defines them.

    Raises:
        T2IEvalError: an unknown study or variant.
    """
    study, _, variant = name.rpartition("/")
    variants, studies = declared["variants"], declared.get("studies", {})
    if variant not in variants:
        raise T2IEvalError(f"There is no variant '{variant}'; the variants are {', '.join(variants)}.")
    if study and study not in studies:
        raise T2IEvalError(f"There is no study '{study}'; the studies are {', '.join(studies)}.")
    layers = [Layer(f"variant {variant}", variants[variant] or {})]
    return [*layers, Layer(f"study {study}", studies[study].get("overrides") or {})] if study else layers


def apply_layers(layers: Iterable[Layer]) -> tuple[dict[str, Any], dict[str, str]]:
    """The settings of ``layers``, each over those before it, and which layer each value comes from (by its dotted name).

    Raises:
        T2IEvalError: a share of the steps that is not a positive number.
    """
    settings: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer in layers:
        added = _without_alternatives(layer.settings)
        settings = merge(settings, added)
        groups = {group for name in origins for group in _groups(name)}
        for name in _leaves(added):
            for group in _groups(name):  # a value that is now a group
                origins.pop(group, None)
            if name in groups:  # a group that is now a value
                origins = {known: of for known, of in origins.items() if not known.startswith(f"{name}.")}
            origins[name] = layer.name
        _apply_share(settings, origins, layer.name)
    return settings, origins


def _without_alternatives(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """``settings``, with null for each alternative of a setting that they give."""
    for pair in ALTERNATIVES:
        for (group, name), (_, other) in (pair, pair[::-1]):
            section = settings.get(group)
            if isinstance(section, Mapping) and section.get(name) is not None and other not in section:
                settings = merge(settings, {group: {other: None}})
    return settings


def _apply_share(settings: dict[str, Any], origins: dict[str, str], layer: str) -> None:
    """Multiply what the shares that the layer ``layer`` gave are of, and take them out."""
    for (group, name), wholes in SHARES.items():
        section = settings.get(group)
        if not isinstance(section, Mapping) or name not in section:
            continue
        share = section[name]
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < float("inf"):
            raise T2IEvalError(f"'{share}' ({group}.{name}, {layer}) is not a share; give a number above 0.")
        changed = {key: value for key, value in section.items() if key != name}
        numbers = [key for key in wholes if isinstance(changed.get(key), int | float)]
        for key in [key for key in numbers if changed[key] > 1][:1] or numbers[-1:] if share != 1 else ():
            changed[key] = changed[key] * share if key == "epochs" else max(1, round(changed[key] * share))
            origins[f"{group}.{key}"] = f"{origins[f'{group}.{key}']}, times {share:g} ({layer})"
        settings[group] = changed
        origins.pop(f"{group}.{name}", None)


def _leaves(settings: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The dotted names of all values in ``settings``; an empty mapping is a value."""
    names = []
    for name, value in settings.items():
        nested = isinstance(value, Mapping) and value
        names += _leaves(value, f"{prefix}{name}.") if nested else [f"{prefix}{name}"]
    return names


def _groups(name: str) -> Iterator[str]:
    """The dotted names of the groups that the value ``name`` is in, the outermost first."""
    return accumulate(name.split(".")[:-1], "{}.{}".format)


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with the values of ``over``; mappings are merged, everything else is replaced."""
    merged = dict(base)
    for name, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
        merged[name] = merge(merged[name], value) if both else value
    return merged


def refuse_axes(layer: Layer) -> None:
    """Refuse a student, variant or study that sets an axis, or defines variants or studies.

    Raises:
        T2IEvalError: names the parameter and the layer.
    """
    for name in (*AXES, "variants", "studies"):
        if name in layer.settings:
            raise T2IEvalError(
                f"The {layer.name} sets '{name}', which only parameters*.yml, an environment and --params can set."
            )


def refuse_unknown(given: Mapping[str, Any], declared: Mapping[str, Any], where: str, prefix: str = "") -> None:
    """Refuse a name in ``given`` that ``declared`` does not have; an empty mapping in ``declared`` takes any name.

    Raises:
        T2IEvalError: names the parameter and the nearest declared ones.
    """
    for name, value in given.items():
        if name not in declared:
            near = difflib.get_close_matches(str(name), [str(key) for key in declared], n=3, cutoff=0.5)
            names = ", ".join(f"{prefix}{key}" for key in (near or declared))
            raise T2IEvalError(f"There is no parameter '{prefix}{name}' ({where}); did you mean {names}?")
        if isinstance(value, Mapping) and isinstance(declared[name], Mapping) and declared[name]:
            refuse_unknown(value, declared[name], where, f"{prefix}{name}.")


def overview(config: ExperimentConfigLoader, student: str | None = None, variant: str | None = None) -> list[list[str]]:
    """A header, and a row of :data:`KEY_SETTINGS` for every student (or ``student``) in every variant (or ``variant``)."""
    table = [["student", "variant", *KEY_SETTINGS, "changed by the variant"]]
    for name in [student] if student else config.students:
        for other in [variant] if variant else config.resolved.parameters["variants"]:
            resolved = config.resolve(student=name, variant=other)
            values = [_look_up(resolved.parameters, path) for path in KEY_SETTINGS]
            layer = variant_layers(other, resolved.parameters)[0].name
            changed = sorted(path for path, origin in resolved.layers.items() if layer in origin)
            listed = ", ".join(f"{path}={_look_up(resolved.parameters, path)}" for path in changed)
            table.append([name, other, *values, listed or "-"])
    return table


def _look_up(settings: Mapping[str, Any], path: str) -> str:
    value: Any = settings
    for name in path.split("."):
        value = value[name]
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("...\n").strip()
    return "-" if value is None else str(text)


def as_yaml(resolved: Resolved) -> str:
    """The recipe of an experiment as YAML, each value with the layer that it comes from as a comment."""
    lines = list(_yaml_lines(recipe(resolved.parameters), resolved.layers))
    width = min(56, max(len(text) for text, layer in lines if layer))
    return "".join(f"{text:{width}}  # {layer}\n" if layer else f"{text}\n" for text, layer in lines)


def _yaml_lines(settings: Mapping[str, Any], layers: Mapping[str, str], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Each line of the YAML of ``settings``, with the layer of its value."""
    for name, value in settings.items():
        path, key = f"{prefix}{name}", "  " * prefix.count(".") + str(name)
        if isinstance(value, Mapping) and value:
            yield f"{key}:", ""
            yield from _yaml_lines(value, layers, f"{path}.")
        else:
            text = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
            yield f"{key}: {text.removesuffix('...' + chr(10)).strip()}", layers[path]
