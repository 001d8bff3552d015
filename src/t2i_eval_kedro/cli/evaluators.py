"""The options that choose a judge, and the judge that they mean, in a Kedro project and outside of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from t2i_eval_kedro.api import ResolvedJudge, resolve_judge
from t2i_eval_kedro.cli.params import PARAMS_HELP, split_params
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.project import Project, evaluator_params, find_evaluator

EVALUATOR_HELP = (
    "In a Kedro project base (untrained), sft or grpo of the experiment that --params names, by default grpo, else sft; anywhere "
    "an adapter: its folder, its path below data/06_models, or its repository on the hub."
)

C = TypeVar("C", bound=Callable[..., object])


def project_options(command: C) -> C:
    """The options of ``kedro run`` that choose a configuration."""
    for option in (
        click.option("--params", "params", default="", callback=split_params, help=PARAMS_HELP),
        click.option("--env", "-e", help="Configuration environment, as for kedro run."),
    ):
        command = option(command)
    return command


def project_root() -> Path | None:
    """The working folder where it is a Kedro project with a configuration, else None."""
    return Path() if Path("pyproject.toml").is_file() and Path("conf/base").is_dir() else None


def choose_judge(name: str | None, env: str | None, params: Mapping[str, Any], *, untrained: bool) -> ResolvedJudge:
    """The judge that the options mean, not loaded yet.

    Raises:
        T2IEvalError: there is no such judge, or none is named outside of a project.
    """
    root = project_root()
    if root is None or untrained:
        if name is None:
            raise T2IEvalError("No judge is named; give the folder or hub name of a trained adapter with --evaluator.")
        if env is not None:
            raise T2IEvalError(
                "--env names the environment of a Kedro project, which --untrained and other folders do not read."
            )
        kept = (
            {"answers": None} if root is None else {}
        )  # no database in a folder that is not a project, unless --params names it
        return resolve_judge(name, untrained=untrained, params=params, root=root, judging=kept)
    evaluator = find_evaluator(name, Project.open(root, env, params).axes, root)
    if evaluator.note:
        click.echo(f"No evaluator is named: {evaluator.note}.", err=True)
    return ResolvedJudge(
        Project.open(root, env, evaluator_params(evaluator, params, root)), evaluator.adapter, evaluator.name
    )
