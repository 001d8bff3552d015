"""Mutation testing: how many small wrong changes of the code that decides figures does a test notice?

    python -m perf.mutants [--sample 400] [--seed 0] [--out perf/results/mutants.jsonl] [--again]

A mutant is one module with one change (an operator, a comparison, a constant, a condition, an argument's default). It is killed when
one of the tests that cover its module fails, or they take four minutes of
processor time. The sample is random and fixed by the seed; results are appended as they
come, so a run that is stopped goes on. ``--again`` asks the survivors anew, after tests were added.

The change is never written to the source: each mutant runs in a process of its own, forked after the libraries were imported, whose
importer compiles the changed module. Tests that start ``kedro`` as a process do not see it.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import random
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "t2i_eval_kedro"
STATISTICS = ("tests/statistics", "tests/agreement", "tests/cli/test_agreement.py")
COVERED: dict[str, tuple[str, ...]] = {
    "statistics": STATISTICS,
    "agreement": ("tests/agreement", "tests/tables/test_reading.py", "tests/statistics", "tests/cli/test_agreement.py"),
    "answers.py": ("tests/test_answers.py", "tests/judging/protocols"),
    "judging/protocols/parsing.py": ("tests/judging/protocols",),
    "benchmarks/splits.py": ("tests/benchmarks/test_splits.py", "tests/benchmarks/test_checks.py"),
    "training/examples.py": ("tests/training/test_data.py", "tests/training/test_recipes.py", "tests/judging/backends/test_recorded.py"),
    "training/rebalancing.py": ("tests/training/test_rebalancing.py",),
    "training/rewards.py": ("tests/training/test_rewards.py", "tests/training/test_grpo.py"),
    "training/soft_labels.py": ("tests/training/test_soft_labels.py",),
}  # fmt: skip
PRELOADED = (
    "numpy",
    "pandas",
    "scipy.stats",
    "scipy.optimize",
    "numba",
    "hypothesis",
    "pytest",
    "PIL.Image",
    "pydantic",
    "torch",
    "jinja2",
)
LIMIT = 240  # seconds of processor time; a busy machine kills no mutant
SWAPS: dict[type, tuple[type, ...]] = {
    ast.Add: (ast.Sub,), ast.Sub: (ast.Add,), ast.Mult: (ast.Div,), ast.Div: (ast.Mult,), ast.FloorDiv: (ast.Div,), ast.Mod: (ast.Mult,),
    ast.Pow: (ast.Mult,), ast.BitAnd: (ast.BitOr,), ast.BitOr: (ast.BitAnd,), ast.And: (ast.Or,), ast.Or: (ast.And,),
    ast.Lt: (ast.LtE, ast.Gt), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.Lt), ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.In: (ast.NotIn,), ast.NotIn: (ast.In,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,),
}  # fmt: skip


def changes(node: ast.AST) -> Iterator[tuple[str, Any]]:
    """Each change of ``node`` as (what it is, a function that makes it in a copy of the node)."""
    if isinstance(node, ast.BinOp | ast.BoolOp | ast.AugAssign):
        for to in SWAPS.get(type(node.op), ()):
            yield f"{type(node.op).__name__} -> {to.__name__}", lambda n, to=to: setattr(n, "op", to())
    elif isinstance(node, ast.Compare):
        for i, op in enumerate(node.ops):
            for to in SWAPS.get(type(op), ()):
                yield f"{type(op).__name__} -> {to.__name__}", lambda n, i=i, to=to: n.ops.__setitem__(i, to())
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):  # True and False among them
        to = not node.value if isinstance(node.value, bool) else node.value + 1
        yield f"{node.value} -> {to}", lambda n: setattr(n, "value", to)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield "-x -> +x", lambda n: setattr(n, "op", ast.UAdd())
    elif isinstance(node, ast.If | ast.IfExp | ast.While) and not isinstance(node.test, ast.Compare | ast.BoolOp):
        yield "if x -> if not x", lambda n: setattr(n, "test", ast.UnaryOp(ast.Not(), n.test))


def mutants(path: Path) -> Iterator[tuple[str, Path, int, int]]:
    """Every mutant of the module at ``path``: its name, the module, the node and which of its changes; annotations stay."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    parts = [
        part for node in ast.walk(tree) for part in (getattr(node, "annotation", None), getattr(node, "returns", None))
    ]
    skipped = {id(inner) for part in parts if part for inner in ast.walk(part)}
    for index, node in enumerate(ast.walk(tree)):
        for number, (what, _) in enumerate(changes(node)):
            if id(node) not in skipped:
                where = f"{path.relative_to(PACKAGE)}:{getattr(node, 'lineno', 0)}:{getattr(node, 'col_offset', 0)}"
                yield f"{where} {what}  [{ast.unparse(node).splitlines()[0][:70]}]", path, index, number


def mutated(path: Path, index: int, number: int) -> str:
    """The source of one mutant."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    node = next(node for i, node in enumerate(ast.walk(tree)) if i == index)
    list(changes(node))[number][1](node)
    return ast.unparse(ast.fix_missing_locations(tree))


class Importer(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives module ``name`` the source ``source``."""

    def __init__(self, name: str, path: Path, source: str) -> None:
        self.name, self.path, self.source = name, path, source

    def find_spec(self, name: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name != self.name:
            return None
        package = [str(self.path.parent)] if self.path.name == "__init__.py" else None
        return importlib.util.spec_from_file_location(name, self.path, loader=self, submodule_search_locations=package)

    def exec_module(self, module: Any) -> None:
        exec(compile(self.source, str(self.path), "exec"), module.__dict__)


def killed(path: Path, source: str, tests: tuple[str, ...]) -> bool:
    """Whether the ``tests`` notice that the module at ``path`` has another ``source``."""
    # Numba keys its cache by file, and would run the code that was not changed.
    cache = tempfile.mkdtemp() if "numba" in source else None
    child = os.fork()
    if child == 0:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CPU, (LIMIT, LIMIT))
        if cache:
            import numba

            numba.config.CACHE_DIR = cache
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        name = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")
        sys.meta_path.insert(0, Importer(name, path, source))
        import pytest

        mirrored = [str(file) for file in (ROOT / "tests").rglob(f"test_{path.stem}.py")]
        quiet = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
        # The mirrored tests first: to collect all the others takes longer than most of these mutants live.
        os._exit(int((mirrored and pytest.main([*quiet, *mirrored])) or pytest.main([*quiet, *tests])))
    _, status = os.waitpid(child, 0)
    if cache:
        shutil.rmtree(cache, ignore_errors=True)
    return status != 0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m perf.mutants")
    parser.add_argument("--sample", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "perf" / "results" / "mutants.jsonl")
    parser.add_argument("--again", action="store_true", help="Run the mutants that survived once more.")
    given = parser.parse_args()
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    for name in PRELOADED:
        importlib.import_module(name)
    tests_of = {
        module: tests
        for part, tests in COVERED.items()
        for module in (sorted((PACKAGE / part).glob("*.py")) if (PACKAGE / part).is_dir() else [PACKAGE / part])
    }
    every = [mutant for module in tests_of for mutant in mutants(module)]
    chosen = random.Random(given.seed).sample(every, min(given.sample, len(every)))
    lines = given.out.read_text().splitlines() if given.out.exists() else []
    known = {entry["mutant"]: entry["killed"] for entry in map(json.loads, lines)}
    for name, module, *place in chosen:
        if name in known and (known[name] or not given.again):
            continue
        start = time.monotonic()
        known[name] = killed(module, mutated(module, *place), tests_of[module])
        with given.out.open("a") as file:
            file.write(
                json.dumps({"mutant": name, "killed": known[name], "seconds": round(time.monotonic() - start)}) + "\n"
            )
    verdicts = [known[name] for name, *_ in chosen]
    print(
        f"{sum(verdicts)} of {len(verdicts)} mutants killed ({sum(verdicts) / len(verdicts):.1%}), of {len(every)} that there are"
    )
    print(*(f"survived: {name}" for name, *_ in chosen if not known[name]), sep="\n")


if __name__ == "__main__":
    main()
