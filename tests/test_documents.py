"""README and docs: every command is one that the programs take, every link leads somewhere, and what is quick is run."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pandas as pd
import pytest
import yaml
from judge_server import served
from kedro_project import ROOT, make_project, run_program
from structure_models import write_random_model

from t2i_eval_kedro.cli import cli
from t2i_eval_kedro.cli.standalone import main
from t2i_eval_kedro.config import load_config
from t2i_eval_kedro.pipeline_registry import register_pipelines
from t2i_eval_kedro.schema import FAILED
from t2i_eval_kedro.shapes.make import make_shapes

DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
PLACES = sorted(ROOT.glob("src/t2i_eval_kedro/pipelines/*/README.md"))
KEDRO_S_OWN = {"viz", "ipython", "jupyter"}


def blocks(path: Path, language: str) -> list[str]:
    """The fenced blocks of ``path`` in ``language``."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)
    return [content for name, content in fenced if re.fullmatch(language, name)]


def commands(path: Path) -> Iterator[str]:
    """Every command line in the plain blocks of ``path``, without its comment, those joined by && apart."""
    for block in blocks(path, "(?:bash|sh)?"):
        for line in block.replace("\\\n", " ").splitlines():
            text = line.strip().removeprefix("$ ")
            for part in re.split(r"\s&&\s|\s\|\s", re.sub(r"\s#\s.*", "", text)):
                words = part.split()
                while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
                    words = words[1:]
                if words and words[0] in ("kedro", "t2i-eval", "make", "python", "dvc", "git", "pip"):
                    yield " ".join(words)


ALL = [
    pytest.param(path, command, id=f"{path.stem}: {command}")
    for path in [*DOCUMENTS, *PLACES]
    for command in commands(path)
]


def test_the_documents_have_commands() -> None:
    assert len(ALL) >= 40
    assert {"kedro", "t2i-eval", "make"} <= {param.values[1].split()[0] for param in ALL}


@pytest.mark.parametrize(("path", "command"), ALL)
def test_a_documented_command_is_one_that_there_is(path: Path, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    program, *words = shlex.split(command.replace("[--private] [--dry-run]", "--dry-run").replace("...", "WORD"))
    words = [word for word in words if word not in ("&", "&&")]
    if program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert {word for word in words if "=" not in word} <= set(targets)
    elif program == "python":
        if words[0] == "-m":
            module = ROOT / words[1].replace(".", "/")
            assert module.exists() or module.with_suffix(".py").exists() or words[1] in ("pytest", "perf", "venv")
        else:
            assert (ROOT / words[0]).is_file()
    elif program in ("kedro", "t2i-eval") and words and words[0] not in KEDRO_S_OWN:
        group: click.Group = cli if program == "kedro" else main
        command_found = group.get_command(click.Context(group), words[0])
        assert command_found is not None, f"there is no command {program} {words[0]}"
        context = command_found.make_context(words[0], words[1:])
        if "params" in context.params:
            resolves(words[0], context.params)


def resolves(name: str, options: dict[str, object]) -> None:
    """The parameters and pipelines of a command are ones that there are."""
    env = options.get("env")
    resolved = load_config(ROOT / "conf", str(env) if env else "base", options["params"]).resolved  # type: ignore[arg-type]
    assert resolved.parameters["benchmark"]
    if name == "run":
        pipelines = options.get("pipelines") or ()
        assert set(pipelines) <= set(register_pipelines())  # type: ignore[call-overload]


@pytest.mark.parametrize("path", [*DOCUMENTS, *PLACES], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(path: Path) -> None:
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    links = [
        link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if not link.startswith(("http", "#"))
    ]
    assert not [link for link in links if not (path.parent / link).exists()]


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= 900


def test_every_page_of_the_documents_is_named_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text()
    assert not [path.name for path in (ROOT / "docs").glob("*.md") if f"docs/{path.name}" not in text]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the files that the documents speak of."""
    folder = make_project(tmp_path_factory.mktemp("desk"))
    shapes = make_shapes(2)
    (folder / "cube.png").write_bytes(shapes.images[0][1])
    prompt = shapes.items["prompt"][0]
    pd.DataFrame({"prompt": [prompt] * 2, "image": ["cube.png"] * 2}).to_csv(folder / "images.csv", index=False)
    for name, (_, image) in zip(("a.png", "b.png"), shapes.images, strict=False):
        (folder / name).write_bytes(image)
    pairs = pd.DataFrame({"prompt": [prompt] * 2, "image": ["a.png"] * 2, "image_b": ["b.png"] * 2})
    pairs.to_csv(folder / "pairs.csv", index=False)
    rng = np.random.default_rng(0)
    rows = [
        (f"{p}{g}", f"p{p}", g, r, "overall", int(rng.integers(1, 6))) for p in range(12) for g in "abc" for r in "12"
    ]
    ratings = pd.DataFrame(rows, columns=["item_id", "prompt_id", "generator", "rater_id", "dimension", "score"])
    ratings.to_csv(folder / "ratings.csv", index=False)
    scores = ratings.groupby("item_id", as_index=False)["score"].mean().assign(evaluator="mean")
    scores.to_csv(folder / "rated.csv", index=False)
    (folder / "images").mkdir()
    shutil.copy(folder / "a.png", folder / "images")
    model = write_random_model(tmp_path_factory.mktemp("structure"))
    for place in ("DIR", "data/06_models/shapes_structure/tiny_vlm/full/seed_0"):
        shutil.copytree(model, folder / place / "structure_hybrid")
    return folder


@pytest.fixture(autouse=True)
def rated_scores(request: pytest.FixtureRequest) -> None:
    """``scores.csv`` of the desk is that of the rated images again, not what an earlier command wrote of others."""
    if "desk" in request.fixturenames:
        desk = request.getfixturevalue("desk")
        shutil.copy(desk / "rated.csv", desk / "scores.csv")


@pytest.mark.parametrize("name", ["README.md", "docs/python.md"])
def test_the_python_in_the_documents_runs(desk: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk)
    found: dict[str, object] = {}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for block in blocks(ROOT / name, "python"):
            exec(block, found)
    assert callable(found["agreement"])
    assert "overall" in printed.getvalue() or "toprule" in printed.getvalue()


QUICK = [
    param
    for param in ALL
    if re.match(r"(t2i-eval|kedro) (agreement|recipe|report|judge)\b", str(param.values[1]))
    and param.values[0].parent != ROOT / "x"
]


@pytest.mark.parametrize(("path", "command"), QUICK)
def test_a_quick_command_does_what_it_says(desk: Path, path: Path, command: str, tmp_path: Path) -> None:
    words = shlex.split(command)
    if "ADAPTER" in words:  # no adapter is trained here
        words = [{"ADAPTER": "data/06_models/tiny_vlm"}.get(word, word) for word in words] + ["--untrained"]
    if "pairwise" in words:  # an untrained model does not answer in that form
        words[words.index("pairwise")] = "levels"
    if words[:2] == ["kedro", "judge"] and not {"--evaluator", "--structure"} & set(words):
        words += ["--evaluator", "base"]
    if words[:2] == ["t2i-eval", "report"] and not (desk / "DIR" / "agreement.json").exists():
        run_program("t2i-eval", desk, "agreement", "--ratings", "ratings.csv", "--scores", "scores.csv", "--out", "DIR")
    with server_of(words, tmp_path) as words:
        done = run_program(words[0], desk, *words[1:], COLUMNS="160")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    if "recipe" in words and "--table" not in words:
        assert yaml.safe_load(done.stdout)["student"]
    if "--base-url" in words:
        assert not pd.read_csv(desk / "scores.csv")["status"].eq(FAILED).any()


@contextlib.contextmanager
def server_of(words: list[str], folder: Path) -> Iterator[list[str]]:
    """``words`` about a server that is there while the block runs, where they are about one."""
    if "--base-url" not in words:
        yield words
        return
    with served(folder, "--evaluator=base") as client:
        there = {"http://127.0.0.1:8000/v1": str(client.base_url), "MODEL": client.models.list().data[0].id}
        assert set(there) <= set(words)
        yield [there.get(word, word) for word in words]
