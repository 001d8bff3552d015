"""Imports run one way, from the floors above to those below."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "t2i_eval_kedro"
FLOORS = (
    {"errors", "schema"},
    {"answers", "datasets", "agreement", "shapes", "reporting", "provenance", "config"},
    {"benchmarks"},
    {"judging"},
    {"training"},
    {"pipelines"},
    {"pipeline_registry", "settings", "hooks", "cli"},
)
FLOOR = {name: height for height, names in enumerate(FLOORS) for name in names}
SLOW = {"torch", "transformers", "trl", "scipy", "numba", "seaborn", "matplotlib", "openai", "ray"}
MODULES = sorted(PACKAGE.rglob("*.py"))


def part(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", [m for m in MODULES if m.name != "__init__.py" or m.parent != PACKAGE], ids=str)
def test_imports_go_down(path: Path) -> None:
    here = part(path)
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            steps = name.split(".")
            if steps[0] == "t2i_eval_kedro" and len(steps) > 1 and steps[1] in FLOOR and steps[1] != here:
                assert FLOOR[steps[1]] <= FLOOR[here], f"{here} must not import {steps[1]}"


def test_every_part_has_a_floor() -> None:
    assert {part(path) for path in MODULES} - {"__init__"} == set(FLOOR)


def test_what_is_slow_to_import_waits_until_it_is_needed() -> None:
    code = "import sys, t2i_eval_kedro.cli, t2i_eval_kedro.pipeline_registry as r; r.register_pipelines(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not SLOW & set(done.stdout.split())
    assert {"pandas", "t2i_eval_kedro.pipelines.sft.nodes"} <= set(done.stdout.split())
