"""Faults of the input end in one sentence and status 1; everything else is a bug and keeps its traceback."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

import click
from kedro.validation.exceptions import ParameterValidationError

from t2i_eval_kedro.errors import T2IEvalError

P = ParamSpec("P")
R = TypeVar("R")


def readable_errors(command: Callable[P, R]) -> Callable[P, R]:
    """``command``, with every :class:`T2IEvalError` under an exception printed alone."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except Exception as error:
            for link in _chain(error):
                if isinstance(link, T2IEvalError):
                    raise click.ClickException(str(link)) from None
                if isinstance(link, ParameterValidationError):
                    raise click.ClickException(_bad_parameter(str(link))) from None
            raise

    return wrapped


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and what it was raised from: Kedro wraps what a dataset raises."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _bad_parameter(report: str) -> str:
    """One sentence from Kedro's report of a parameter that its pydantic model refused (the first, where several are)."""
    found = re.search(
        r"Parameter '([^']+)'.*?validation errors? for \w+\n(?:(\S+)\n)?\s+(.+?) \[type=", report, re.DOTALL
    )
    if found is None:
        return " ".join(report.split())
    group, field, reason = found.groups()
    name = f"{group}.{field}" if field else group
    return f"Parameter '{name}' is not valid: {reason[0].lower()}{reason[1:]}; correct it in conf/ or in --params."
