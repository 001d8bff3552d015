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
BANNED = {
    "said",
    "found",
    "own",
    "wanted",
    "claimed",
    "really",
    "likeliest",
    "at_once",
    "labelled",
    "subject",
    "subjects",
}
"""Names that say nothing of what they hold: no module, class, function, parameter, attribute or variable has one."""


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT / "src").as_posix())
def test_no_name_is_coined(path: Path) -> None:
    names = {path.stem}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for field in ("id", "arg", "attr", "name"):  # of a name, a parameter, an attribute, a class or function
            names.add(str(getattr(node, field, "")))
    assert not {name.strip("_") for name in names} & BANNED


ONE_PLACE = {
    "schema.py": {"ok", "unparsed", "failed", "not_applicable"},
    "steps.py": {"extract", "explain", "merge", "conversation", "yes_no_negative", "summary_1", "summary_2"},
}
"""Statuses, steps and tasks by the module that defines them; nothing else spells them."""
SPELLED_ELSEWHERE = {
    ("judging/backends/batch.py", "failed"),  # a state of OpenAI's batches
    ("reporting/figures.py", "unparsed"),  # a column of the training curve
    ("agreement/rationales.py", "failed"),  # a word of judges
    ("benchmarks/readers/evalalign.py", "not_applicable"),  # a kind of data issue
    ("training/settings.py", "conversation"),  # values of the setting examples.tasks
    ("training/recipes.py", "conversation"),
    ("summary_keys.py", "not_applicable"),  # keys of two releases
}


def test_a_status_a_step_and_a_task_are_spelled_in_one_place() -> None:
    package = ROOT / "src" / "t2i_eval_kedro"
    doubled = []
    for path in SOURCES:
        name = path.relative_to(package).as_posix()
        words = set().union(*(these for file, these in ONE_PLACE.items() if file != name))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and node.value in words and (name, node.value) not in SPELLED_ELSEWHERE:
                doubled.append(f"{name}:{node.lineno} {node.value!r}")
    assert doubled == []


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
