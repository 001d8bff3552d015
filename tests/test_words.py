"""The mechanical part of the project's language: help texts that are phrases, no coined names, one glossary."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import click
import pytest
from kedro_project import ROOT

from t2i_eval_kedro.cli import cli
from t2i_eval_kedro.cli.standalone import main

SOURCES = sorted((ROOT / "src" / "t2i_eval_kedro").rglob("*.py"))
BANNED = {"said", "found", "own", "wanted", "claimed", "really", "likeliest", "at_once", "labelled"}
"""Names that say nothing of what they hold: no module, class, function, parameter or attribute that others use has one."""


def public_names(path: Path) -> set[str]:
    """The names that a file offers: of itself, its classes, functions, their parameters and attributes, and its constants."""
    names = {path.stem}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
            if node.name.startswith("_") and node.name != "__init__":
                continue
            arguments = node.args
            names |= {one.arg for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
        elif isinstance(node, ast.ClassDef):
            names.add(node.name)
            names |= {
                one.target.id
                for one in node.body
                if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)
            }
    for node in tree.body:
        if isinstance(node, ast.Assign):
            names |= {one.id for one in node.targets if isinstance(one, ast.Name)}
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT / "src").as_posix())
def test_no_coined_name_is_public(path: Path) -> None:
    assert not {name.strip("_") for name in public_names(path)} & BANNED


def commands() -> list[tuple[str, click.Command]]:
    every = []
    for program, group in (("kedro", cli), ("t2i-eval", main)):
        context = click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            every.append((f"{program} {name}", command))
    return every


@pytest.mark.parametrize(
    ("name", "command"), [one for one in commands() if one[0] != "kedro run"], ids=lambda one: str(one)
)
def test_every_option_has_a_help_text_that_stands_alone(name: str, command: click.Command) -> None:
    assert command.help
    assert command.help[0].isupper()
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            text = parameter.help or ""
            assert text.endswith((".", ")")), f"{name} {parameter.name}: {text!r}"
            assert not re.match(r"(Of|By default|As for)\b", text), f"{name} {parameter.name}: {text!r}"
            assert len(text.split()) >= 3, f"{name} {parameter.name}: {text!r}"


def test_parameter_docs_start_with_a_noun() -> None:
    wrong = [
        f"{path.name}:{number}: {line.strip()}"
        for path in SOURCES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.match(r"\s{8}\w+: of\s", line)
    ]
    assert wrong == []


def test_there_is_one_glossary_and_it_defines_each_word_once() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    table = text.split("## Words", 1)[1].split("\n## ", 1)[0]
    words = re.findall(r"^\| ([^|]+?) \| [^|]{10,} \|$", table, re.MULTILINE)
    assert len(words) >= 12
    assert len(words) == len(set(words))
    assert not [
        path
        for path in ROOT.glob("docs/*.md")
        if "| word | means |" in path.read_text() and path.name != "architecture.md"
    ]
