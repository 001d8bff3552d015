"""Where a result comes from: the commit, the versions and the settings that made it."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

PACKAGES = ("t2i-eval-kedro", "kedro", "torch", "transformers", "peft", "trl", "pandas", "scipy", "numpy")
RECIPE_ORDER = ("benchmark", "student", "variant", "seed", "model", "judging", "examples", "rebalancing", "sft", "grpo")
"""What a recipe begins with; the rest follows."""
NOT_IN_RECIPE = ("variants", "studies", "raw_root", "launch")
MACHINE = (("judging", "answers"), ("judging", "ray_workers"), ("teacher", "openai", "base_url"))
"""Settings of a machine, which move no result: where answers are kept, how many processes judge, where the teacher is."""


def commit() -> str:
    """The commit of the working tree, marked where files other than results differ from it; ``unknown`` outside git."""
    try:
        head = _git("describe", "--always", "--abbrev=10")
        # A run writes its own metrics, which git tracks, before its report asks where it comes from.
        changed = _git("diff", "--name-only", "HEAD", "--", ":(top)", ":(top,exclude)data/08_reporting")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head}-dirty" if changed else head


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()


def provenance(model: str) -> dict[str, object]:
    """Commit, model, Python and package versions (read from metadata, so that nothing heavy is imported)."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {"commit": commit(), "model": model, "python": platform.python_version(), "versions": versions}


def recipe(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The part of ``parameters`` that decides a result, as JSON types: what an adapter or a summary keeps.

    Left out are definitions of variants and studies, wordings that are not chosen, and what may differ from machine to machine.
    """
    # The rest goes by name: the order in which Kedro merges its files changes from run to run.
    names = [name for name in RECIPE_ORDER if name in parameters] + sorted(set(parameters) - set(RECIPE_ORDER))
    plain = {name: _as_json(parameters[name]) for name in names if name not in NOT_IN_RECIPE}
    for *groups, name in MACHINE:
        section = plain
        for group in groups:
            section = section.get(group, {})
        section.pop(name, None)
    judging = plain.get("judging", {})
    if "wordings" in judging:
        judging["wordings"] = {name: text for name, text in judging["wordings"].items() if name == judging["wording"]}
    return plain


def differing(one: Mapping[str, Any], other: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The dotted names of the settings in which two recipes differ; one that is not there is as one that is null."""
    names = []
    for name in {**one, **other}:
        a, b = one.get(name), other.get(name)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            names += differing(a, b, f"{prefix}{name}.")
        elif a != b:
            names.append(f"{prefix}{name}")
    return names


def _as_json(value: Any) -> Any:
    """``value`` without objects: settings that were checked are dumped, tuples are lists, everything is a copy."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {name: _as_json(item) for name, item in value.items()}
    return [_as_json(item) for item in value] if isinstance(value, list | tuple) else value
