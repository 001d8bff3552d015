"""Faults of the input and of the disk end in one sentence and status 1; everything else is a bug and keeps its traceback."""

from __future__ import annotations

import errno
import functools
import re
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

import click
from kedro.validation.exceptions import ParameterValidationError

from t2i_eval_kedro.errors import T2IEvalError

_STORAGE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}
"""No space, a quota or limit, no rights, read-only, or a file in the place of a folder: what a person can mend."""
P = ParamSpec("P")
R = TypeVar("R")


def readable_errors(command: Callable[P, R]) -> Callable[P, R]:
    """``command``, with every :class:`T2IEvalError` under an exception printed alone, and a full or protected disk named."""

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
                if isinstance(link, OSError) and link.errno in _STORAGE:
                    raise click.ClickException(_storage(link)) from None
            raise

    return wrapped


def _storage(error: OSError) -> str:
    """One sentence on a disk that cannot be written or read, with the file where it is known."""
    where = f" '{error.filename}'" if error.filename else ""
    return (
        f"The file system refused{where}: {str(error.strerror).lower()}. Free some space or correct its rights, and give the same "
        "command again: what is complete is kept, and nothing is half-written."
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and what it was raised from: Kedro wraps what a dataset raises."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _bad_parameter(report: str) -> str:
    """One sentence from Kedro's report of a parameter that its pydantic model refused (the first, where several are)."""
    match = re.search(
        r"Parameter '([^']+)'.*?validation errors? for \w+\n(?:(\S+)\n)?\s+(.+?) \[type=", report, re.DOTALL
    )
    if match is None:
        return " ".join(report.split())
    group, field, reason = match.groups()
    name = f"{group}.{field}" if field else group
    return f"Parameter '{name}' is not valid: {reason[0].lower()}{reason[1:]}; correct it in conf/ or in --params."
