"""Whether something must be computed again: what changed in its code and in its files.

There is one answer for all who ask. Ingestion is skipped where :func:`code_hash`, its parameters and :func:`files_state` are those of the last
one; the answers of a local model are kept under the :func:`code_hash` of what asks it; and the stages of ``dvc.yaml`` depend on the
:func:`rooms` that their code is in. All three follow the same imports (:func:`source_files`).
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import os
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import TypedDict

PACKAGE = __package__
DOORS = (f"{PACKAGE}.api",)
"""Modules that gather names for users: what lies below them imports them for a caller's sake and runs nothing of them."""
DATA_SUFFIXES = (".csv", ".css", ".jinja")
"""Files beside modules that count as code: tables and templates."""


class FilesState(TypedDict):
    """How many files there are, and a digest of their names, sizes and modification times."""

    files: int
    sha256: str


def source_files(modules: Iterable[str]) -> list[Path]:
    """The files of ``modules`` and of all modules of this package that they import, sorted.

    Imports inside functions count. A package of which only a module is imported does not count itself: its ``__init__`` gathers names
    for those who use all of it. Tables and templates count with the modules beside them.
    """
    reached: set[Path] = set()
    waiting = [module for module in modules if module.split(".")[0] == PACKAGE]
    while waiting:
        file = _file(waiting.pop())
        if file not in reached:
            reached.add(file)
            waiting += _imports(file)
    for folder in {file.parent for file in reached} - {_file(PACKAGE).parent}:
        reached |= {path for path in folder.rglob("*") if path.suffix in DATA_SUFFIXES}
    return sorted(reached)


@lru_cache
def code_hash(modules: tuple[str, ...]) -> str:
    """The SHA-256 of what ``modules`` and all that they import do; comments, docstrings and layout do not count."""
    package = _file(PACKAGE).parent
    digest = hashlib.sha256()
    for path in source_files(modules):
        text = path.read_text(encoding="utf-8")
        content = ast.dump(_without_docstrings(ast.parse(text))) if path.suffix == ".py" else text
        digest.update(f"{path.relative_to(package).as_posix()}\0{content}\0".encode())
    return digest.hexdigest()


def rooms(modules: Iterable[str]) -> list[str]:
    """The parts of the package that hold the code of ``modules`` and of all that they import, relative to its folder.

    A part is a folder or module at the top of the package, or one pipeline.
    """
    package = _file(PACKAGE).parent
    imported = set()
    for path in source_files(modules):
        parts = path.relative_to(package).parts
        imported.add("/".join(parts[:2] if parts[0] == "pipelines" else parts[:1]))
    return sorted(imported)


def files_state(paths: Iterable[Path]) -> FilesState:
    """The state of all files at and below ``paths``; one that was changed with its size and time kept is not noticed."""
    lines = []
    for path in paths:
        below = [Path(folder) / name for folder, _, names in os.walk(path) for name in names]
        for file in below if path.is_dir() else [path]:
            try:
                state = file.stat()
            except OSError:  # not there, or a link that leads nowhere
                continue
            lines.append(f"{file}\0{state.st_size}\0{state.st_mtime_ns}\n")
    return {"files": len(lines), "sha256": hashlib.sha256("".join(sorted(lines)).encode(errors="replace")).hexdigest()}


def _file(module: str) -> Path:
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin)


@cache
def _imports(file: Path) -> tuple[str, ...]:
    """The modules of this package that a source file imports; the package itself and its doors are left out."""
    return tuple(name for name in _named(ast.parse(file.read_text(encoding="utf-8"))) if name not in (PACKAGE, *DOORS))


def _named(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == PACKAGE)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == PACKAGE:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from [name for name in names if _is_module(name)] or [node.module]


def _is_module(name: str) -> bool:
    parent, _, last = name.rpartition(".")
    folder = _file(parent)
    return folder.name == "__init__.py" and (
        (folder.parent / f"{last}.py").is_file() or (folder.parent / last / "__init__.py").is_file()
    )


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and body:
            node.body = [
                part
                for part in body
                if not (
                    isinstance(part, ast.Expr)
                    and isinstance(part.value, ast.Constant)
                    and isinstance(part.value.value, str)
                )
            ]
    return tree
