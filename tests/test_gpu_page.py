"""docs/gpu.md from top to bottom with a tiny model of Qwen2.5-VL's architecture in place of the 7B one."""

from __future__ import annotations

import importlib.util
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from kedro.framework.startup import bootstrap_project
from kedro_project import ROOT, make_project
from PIL import Image
from test_documents import blocks, commands

from t2i_eval_kedro.cli import cli

PAGE = ROOT / "docs/gpu.md"
SMALL = {  # what makes the recipe fit a processor; all else is the recipe's
    "model": {"dtype": "float32", "model_init_kwargs": {}},
    "judging": {"protocols": ["levels"], "batch_size": 8, "baseline_protocols": ["dsg"], "baseline_items": 4},
    "sft": {"max_steps": 2, "batch_size": 2, "gradient_accumulation_steps": 2, "eval_steps": 0, "loader_workers": 2},
    "grpo": {"max_steps": 1, "prompts_per_step": 2, "generations": 2, "batch_size": 4},
    "meta_evaluation": {"n_resamples": 100},
}


def architectures() -> object:
    """The module of the tests of architectures, which lies in another folder of tests."""
    name = "architectures"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ROOT / "tests/judging/backends/architectures.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project with the page's files: images and ratings of one's own, and its settings, which name a tiny model."""
    made = architectures()
    folder = make_project(tmp_path)
    with made.images_only():  # type: ignore[attr-defined]
        model = made.save("qwen2_5_vl", folder / "Qwen2.5-VL-tiny")  # type: ignore[attr-defined]
        mine = folder / "data/01_raw/mine"
        mine.mkdir(parents=True)
        rng = np.random.default_rng(0)
        items, ratings = [], []
        for prompt in range(10):
            for generator in "ab":
                name = f"{prompt}{generator}.png"
                Image.fromarray(rng.integers(0, 255, (64, 48, 3), dtype=np.uint8)).save(mine / name)
                items.append((name, f"p{prompt}", f"a picture of thing {prompt}", generator, name))
                ratings += [(name, rater, "overall", int(rng.integers(1, 6))) for rater in "12"]
        columns = ["item_id", "prompt_id", "prompt", "generator", "image"]
        pd.DataFrame(items, columns=columns).to_csv(mine / "items.csv", index=False)
        rated = pd.DataFrame(ratings, columns=["item_id", "rater_id", "dimension", "score"])
        rated.assign(scale_min=1, scale_max=5).to_csv(mine / "ratings.csv", index=False)
        (example,) = blocks(PAGE, "yaml")
        local = yaml.safe_load(example.replace("40 hexadecimal digits of the commit on the hub", "null"))
        for group, values in SMALL.items():
            local.setdefault(group, {}).update(values)
        local["model"]["model"] = str(model)
        (folder / "conf/local").mkdir(exist_ok=True)
        (folder / "conf/local/parameters.yml").write_text(yaml.safe_dump(local))
        monkeypatch.chdir(folder)
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        bootstrap_project(folder)
        try:
            yield folder
        finally:
            bootstrap_project(ROOT)


@pytest.mark.models
def test_every_command_of_the_page_runs_on_a_tiny_model_of_its_architecture(machine: Path) -> None:
    """Left out are: pip and git; eight processes, which test_launch.py starts as two, sharing the model or not; 4 bits, which need wider
    layers (test_quantize.py); vLLM; and what to try on a GPU."""
    run = 0
    for command in commands(PAGE):
        program, *words = shlex.split(command.replace("$ADAPTER", adapter(machine)))
        if program != "kedro" or any(
            word in command for word in ("processes=8", "max_steps=20", "quantize=4bit", "vllm")
        ):
            continue
        words = [str(machine / "Qwen2.5-VL-tiny") if "/Qwen2.5-VL" in word else word for word in words]
        cli.main(words, standalone_mode=False)
        run += 1
    assert run >= 6
    report = machine / "data/08_reporting/mine/qwen2_5_vl_7b/full/seed_0/report.html"
    assert "qwen2_5_vl_7b" in report.read_text()
    assert (machine / "merged/model.safetensors").is_file()
    assert {path.name for path in (machine / "out").iterdir()} >= {"dataset_info.json", "train.json"}


def adapter(machine: Path) -> str:
    return str(machine / "data/06_models/mine/qwen2_5_vl_7b/full/seed_0/sft")
