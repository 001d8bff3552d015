"""The built wheel, installed in an empty folder away from the source, measures and judges."""

from __future__ import annotations

import email
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from kedro_project import ROOT

from t2i_eval_kedro.shapes.make import make_shapes

BLOCKED = ("torch", "transformers", "peft", "trl", "accelerate", "datasets", "openai")
HIDE = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hidden())
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("source") / "project"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src", source / "src", symlinks=True, ignore=ignore)
    shutil.copytree(ROOT / "conf", source / "conf")
    (source / "conf" / "local").mkdir(exist_ok=True)
    (source / "conf" / "local" / "credentials.yml").write_text("teacher: {api_key: secret}\n")
    out = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(out),
        ".",
    ]
    subprocess.run(command, cwd=source, check=True)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel installed, and nothing of the libraries that run a model."""
    folder = tmp_path_factory.mktemp("site")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), str(wheel)]
    subprocess.run(install, check=True)
    return folder


def t2i_eval(site: Path, cwd: Path, *arguments: str, without: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """The installed command; ``without`` are libraries that cannot be imported."""
    hidden = cwd / "hidden"
    hidden.mkdir(exist_ok=True)
    (hidden / "sitecustomize.py").write_text(HIDE.format(names=without))
    environment = os.environ | {"PYTHONPATH": f"{hidden}{os.pathsep}{site}", "HF_HUB_OFFLINE": "1", "COLUMNS": "160"}
    command = [sys.executable, str(site / "bin" / "t2i-eval"), *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_the_wheel_holds_prompts_and_defaults_and_no_secret(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "t2i_eval_kedro/py.typed" in names
    prompts = {
        path.relative_to(ROOT / "conf").as_posix() for path in (ROOT / "conf" / "base" / "prompts").rglob("*.jinja")
    }
    assert prompts
    assert {f"t2i_eval_kedro/conf/{name}" for name in prompts} <= names
    assert "t2i_eval_kedro/conf/base/students/tiny_vlm.yml" in names
    assert "t2i_eval_kedro/reporting/templates/report.css" in names
    assert not [name for name in names if "credentials" in name or "conf/local" in name]


def test_numbers_alone_need_no_torch(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
    plain = [line for line in metadata.get_all("Requires-Dist") or [] if "extra ==" not in line]
    assert plain
    assert not [line for line in plain if line.split(">")[0] in BLOCKED]


def test_agreement_is_measured_in_an_empty_folder_without_what_runs_models(site: Path, tmp_path: Path) -> None:
    rows = [
        (f"{p}{g}", f"p{p}", g, r, "overall", (p + k) % 5) for p in range(10) for k, g in enumerate("abc") for r in "12"
    ]
    ratings = pd.DataFrame(rows, columns=["item_id", "prompt_id", "generator", "rater_id", "dimension", "score"])
    ratings.to_csv(tmp_path / "ratings.csv", index=False)
    scores = ratings.drop_duplicates("item_id").assign(evaluator="copy")[["item_id", "evaluator", "score"]]
    scores.to_csv(tmp_path / "scores.csv", index=False)
    arguments = ("agreement", "--ratings", "ratings.csv", "--scores", "scores.csv", "--out", "out")
    done = t2i_eval(site, tmp_path, *arguments, without=BLOCKED)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    summary = json.loads((tmp_path / "out" / "agreement.json").read_text())
    assert summary["evaluators"]["copy"]["overall"]["spearman"]["value"] == 1
    done = t2i_eval(site, tmp_path, "report", "out/agreement.json", without=BLOCKED)
    assert done.returncode == 0, done.stderr
    assert "copy" in (tmp_path / "out" / "report.html").read_text()


def test_an_image_is_judged_with_the_model_of_a_clone(site: Path, tmp_path: Path) -> None:
    shapes = make_shapes(1)
    (tmp_path / "a.png").write_bytes(shapes.images[0][1])
    model = ROOT / "data" / "06_models" / "tiny_vlm"
    asked = ("judge", "--prompt", shapes.items["prompt"][0], "--image", "a.png", "--json")
    refused = t2i_eval(site, tmp_path, *asked, "--evaluator", str(model))
    assert refused.returncode == 1
    assert "has not learned to judge" in refused.stderr
    done = t2i_eval(site, tmp_path, *asked, "--evaluator", str(model), "--untrained")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # no warning that a person could not act on
    verdict = json.loads(done.stdout)
    assert verdict["status"] == "ok"
    assert verdict["prompt_version"].endswith("/compact@2")


def test_help_and_recipe_work_outside_of_a_project(site: Path, tmp_path: Path) -> None:
    listed = t2i_eval(site, tmp_path, "--help", without=BLOCKED)
    assert {"judge", "agreement", "serve", "report", "recipe"} <= set(listed.stdout.split())
    done = t2i_eval(site, tmp_path, "recipe", "qwen2_5_vl_7b", "no_rebalancing", without=BLOCKED)
    assert done.returncode == 0, done.stderr
    assert "method: none" in done.stdout
    needs = t2i_eval(site, tmp_path, "judge", "--prompt=x", "--image=none.png", "--evaluator=x")
    assert "'none.png' cannot be judged: there is no such file" in needs.stderr
