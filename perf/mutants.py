"""Mutation testing: how many small wrong changes of the code that decides figures does a test notice?

    T2I_EVAL_SHARED_DATA=... python -m perf.mutants [--sample 400] [--seed 0] [--out perf/results/mutants.jsonl] [--again]

A mutant is one module with one change (an operator, a comparison, a constant, a condition, an argument's default). It is killed when
one of the tests in the files that reach the changed line fails, or when those of a file take many times the processor time that they take without the change.
Which tests reach which line is measured first, with coverage.py; for lines that it cannot see (compiled by numba, or run on import)
all tests that cover the module are run. The sample is random and fixed by the seed; results are appended as they come, so a run that is
stopped goes on. ``--again`` asks the survivors anew, after tests were added.

The change is never written to the source: each mutant runs in a process of its own, forked after the libraries were imported, whose
importer compiles the changed module. Tests that start ``kedro`` as a process do not see it.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import functools
import gc
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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import numba
import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "t2i_eval_kedro"
STATISTICS = ("tests/statistics", "tests/agreement", "tests/cli/test_agreement.py")
COVERED: dict[str, tuple[str, ...]] = {
    "statistics": (*STATISTICS, "tests/cli/test_plan.py"),
    "agreement": (
        *STATISTICS, "tests/tables/test_reading.py", "tests/tables/test_cases.py", "tests/cli/test_check.py", "tests/cli/test_plan.py",
        "tests/judging/test_attribution.py", "tests/reporting/test_structure_page.py",
    ),
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
    "PIL.Image",
    "pydantic",
    "torch",
    "jinja2",
)
SLOWER = (
    5  # times the processor time of a file's tests without the change, and a minute; a busy machine kills no mutant
)
# No shrinking: that a test fails is all that counts. The same examples each time.
hypothesis.settings.register_profile(
    "mutants", deadline=None, database=None, derandomize=True,
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
)  # fmt: skip
# Without what collects garbage over all libraries after each run, which would take longer than most mutants live.
QUIET = [
    "-q", "-o", "addopts=", "-m", "not models", "--hypothesis-profile=mutants",
    *(word for plugin in ("cacheprovider", "xdist", "unraisableexception", "threadexception") for word in ("-p", f"no:{plugin}")),
]  # fmt: skip
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


class Reach:
    """A pytest plugin that notes the processor time of each test and, by coverage.py, the lines that it runs."""

    def __init__(self) -> None:
        import coverage

        self.coverage = coverage.Coverage(data_file=None, source_pkgs=["t2i_eval_kedro"], config_file=False)
        self.seconds: dict[str, float] = {}
        self.coverage.start()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.coverage.switch_context(item.nodeid)
        start = time.process_time()
        result = yield
        self.seconds[item.nodeid] = time.process_time() - start
        self.coverage.switch_context("")
        return result

    def lines(self) -> dict[str, dict[str, list[str]]]:
        """For each module (path below the package) and line, the tests that run it."""
        self.coverage.stop()
        data = self.coverage.get_data()
        return {
            str(Path(file).relative_to(PACKAGE)): {
                str(line): [test for test in tests if test] for line, tests in data.contexts_by_lineno(file).items()
            }
            for file in data.measured_files()
        }


def reach(out: Path, numba_cache: Path) -> dict[str, Any]:
    """The lines that each test runs, the seconds that it takes, and the libraries that were imported, kept beside the results.

    Raises:
        SystemExit: a test fails without any change.
    """
    kept = out.with_suffix(".reach.json")
    if not kept.exists():
        child = os.fork()
        if child == 0:
            numba.config.CACHE_DIR = str(numba_cache)
            plugin = Reach()
            status = pytest.main([*QUIET, *sorted({test for tests in COVERED.values() for test in tests})], [plugin])
            # A name that pytest cannot find again would count as a kill.
            status = status or pytest.main([*QUIET, "--collect-only", *plugin.seconds])
            libraries = [name for name in sys.modules if not name.startswith(("t2i_eval_kedro", "test", "_"))]
            kept.write_text(
                json.dumps({"lines": plugin.lines(), "seconds": plugin.seconds, "libraries": sorted(libraries)})
            )
            os._exit(int(status))
        _, status = os.waitpid(child, 0)
        if status:
            kept.unlink(missing_ok=True)
            raise SystemExit("A test fails without any change; see above.")
    known: dict[str, Any] = json.loads(kept.read_text())
    return known


@dataclass(frozen=True)
class Place:
    """Where a change is.

    Attributes:
        lines: lines of its module whose tests can notice it; empty where that is not known.
        compiled: whether numba compiles it.
    """

    lines: tuple[int, ...]
    compiled: bool


@functools.cache
def place_of(path: Path, index: int) -> Place:
    """The place of node ``index`` of the module at ``path``."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    target = next(node for i, node in enumerate(ast.walk(tree)) if i == index)
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    statement: ast.AST = target
    while not isinstance(statement, ast.stmt):
        statement = parents[statement]
    function: ast.AST | None = statement
    while function is not None and not isinstance(function, ast.FunctionDef):
        function = parents.get(function)
    if function is None:  # run on import
        return Place((), compiled="numba" in path.read_text(encoding="utf-8"))
    if any("jit" in ast.unparse(decorator) for decorator in function.decorator_list):
        return Place((), compiled=True)  # which lines run is not seen
    if function is statement:  # a default: whatever runs the function
        return Place(tuple(range(function.body[0].lineno, (function.end_lineno or 0) + 1)), compiled=False)
    body = getattr(statement, "body", None)
    last = body[0].lineno - 1 if isinstance(body, list) else statement.end_lineno or 0
    return Place(tuple(range(statement.lineno, max(last, statement.lineno) + 1)), compiled=False)


def tests_for(path: Path, place: Place, covering: tuple[str, ...], known: dict[str, Any]) -> list[str]:
    """The tests that can notice a change at ``place``: the module's own file first, each group from the quickest."""
    seconds = known["seconds"]
    lines = known["lines"].get(str(path.relative_to(PACKAGE)), {})
    if place.lines:
        chosen = {test for line in place.lines for test in lines.get(str(line), [])}
    else:
        touching = {test for tests in lines.values() for test in tests}
        chosen = touching | {test for test in seconds if test.startswith(covering)}
    # What a shared fixture runs is noted under the first test that asks for it, so the others of a file are run too, after it.
    files = {test.partition("::")[0] for test in chosen}
    others = {test for test in seconds if test.partition("::")[0] in files} - chosen
    mirrored = f"/test_{path.stem}.py::"
    return sorted(chosen | others, key=lambda test: (mirrored not in test, test in others, seconds[test]))


def compiled_with(module: Path) -> list[str]:
    """The patterns of numba's cache that a change of ``module`` makes stale: its own and those of all that import it, whose
    compiled functions hold a copy of its."""
    stale, new = set(), {module}
    while new:
        stale |= new
        names = {".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in new}
        new = {path for path in PACKAGE.rglob("*.py") if any(_imports(path, name) for name in names)} - stale
    return [f"{path.stem}.*" for path in stale]


@functools.cache
def _imports(path: Path, name: str) -> bool:
    package, _, module = f"t2i_eval_kedro.{name}".rpartition(".")
    return any(
        (isinstance(node, ast.ImportFrom) and node.module == f"{package}.{module}")
        or (
            isinstance(node, ast.ImportFrom)
            and node.module == package
            and module in {alias.name for alias in node.names}
        )
        for node in ast.walk(_parsed(path))
    )


@functools.cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def killed(path: Path, source: str, tests: list[str], seconds: Mapping[str, float], numba_cache: Path) -> bool:
    """Whether the ``tests`` notice that the module at ``path`` has another ``source``.

    Args:
        path: the module that is changed.
        source: its text after the change.
        tests: names of tests, in the order in which they are run.
        seconds: test -> the processor time that it takes without a change.
        numba_cache: folder of compiled functions; none of it belongs to code that was changed.
    """
    child = os.fork()
    if child == 0:
        os.setsid()
        numba.config.CACHE_DIR = str(numba_cache)
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        name = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")
        sys.meta_path.insert(0, Importer(name, path, source))
        # Tests from one file at a time: to collect the others takes longer than most mutants live.
        by_file: dict[str, list[str]] = {}
        for test in tests:
            by_file.setdefault(test.split("::")[0], []).append(test)
        for group in by_file.values():
            # What never ends is ended by the system; numba compiles within the minute.
            limit = int(time.process_time() + 60 + SLOWER * sum(seconds[test] for test in group))
            resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
            if pytest.main(["-x", *QUIET, *group]):
                os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
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
    compiled = given.out.with_suffix(".numba")
    reached = reach(given.out, compiled)
    for library in reached["libraries"]:
        if not library.startswith("perf"):
            with contextlib.suppress(Exception):
                importlib.import_module(library)
    assert "t2i_eval_kedro" not in sys.modules, "what is imported before a mutant is made is not mutated"
    gc.freeze()
    sys.dont_write_bytecode = False  # compiled tests are read again by the next mutant
    for name, module, index, number in chosen:
        if name in known and (known[name] or not given.again):
            continue
        start = time.monotonic()
        place = place_of(module, index)
        tests = tests_for(module, place, tests_of[module], reached)
        with tempfile.TemporaryDirectory() as cache:
            if place.compiled:  # numba's cache goes by file, so it would run the code that was not changed
                shutil.copytree(
                    compiled, cache, ignore=shutil.ignore_patterns(*compiled_with(module)), dirs_exist_ok=True
                )
            numba_cache = Path(cache) if place.compiled else compiled
            known[name] = bool(tests) and killed(
                module, mutated(module, index, number), tests, reached["seconds"], numba_cache
            )
        entry = {"mutant": name, "killed": known[name], "tests": len(tests), "seconds": round(time.monotonic() - start)}
        with given.out.open("a") as file:
            file.write(json.dumps(entry) + "\n")
    verdicts = [known[name] for name, *_ in chosen]
    print(
        f"{sum(verdicts)} of {len(verdicts)} mutants killed ({sum(verdicts) / len(verdicts):.1%}), of {len(every)} that there are"
    )
    print(*(f"survived: {name}" for name, *_ in chosen if not known[name]), sep="\n")


if __name__ == "__main__":
    main()
