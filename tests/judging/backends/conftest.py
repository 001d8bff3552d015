"""With ``T2I_EVAL_MODELS_TABLE=PATH``, what the tests of architectures found is written there as a table."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_OUTCOMES: dict[tuple[str, str], bool] = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[Any]:
    report = yield
    name = getattr(item, "callspec", None) and item.callspec.params.get("name")  # type: ignore[attr-defined]
    if name and (report.when == "call" or report.failed):
        key = (item.originalname, name)  # type: ignore[attr-defined]
        _OUTCOMES[key] = _OUTCOMES.get(key, True) and report.passed
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    path = os.environ.get("T2I_EVAL_MODELS_TABLE")
    if path and _OUTCOMES:
        import models_table
        import test_architectures

        models_table.write(Path(path), _OUTCOMES, test_architectures.PLAIN, test_architectures.NO_GRPO)
