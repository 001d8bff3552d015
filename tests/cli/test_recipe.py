"""``kedro recipe`` on the project's own configuration."""

from __future__ import annotations

import pytest
import yaml
from click.testing import CliRunner
from kedro_project import ROOT

from t2i_eval_kedro.cli.recipe import recipe


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def printed(*arguments: str) -> str:
    done = CliRunner().invoke(recipe, ["--env=base", *arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_settings_are_printed_with_their_layers() -> None:
    text = printed("qwen2_5_vl_7b", "ablation/no_rebalancing", "--params=sft.lora.r=8")
    settings = yaml.safe_load(text)
    assert settings["student"] == "qwen2_5_vl_7b"
    assert (settings["rebalancing"]["method"], settings["sft"]["lora"]["r"]) == ("none", 8)
    layers = {
        line.split(":")[0].strip(): line.partition("  # ")[2] for line in reversed(text.splitlines())
    }  # sft stands before heads
    assert layers["method"] == "variant no_rebalancing"
    assert layers["epochs"] == "neutral, times 1.75 (study ablation)"
    assert layers["r"] == "--params"
    assert list(settings["judging"]["wordings"]) == ["full"]


def test_a_table_has_all_students_in_all_variants() -> None:
    lines = printed("--table").splitlines()
    students = sorted(path.stem for path in (ROOT / "conf/base/students").glob("*.yml"))
    variants = yaml.safe_load((ROOT / "conf/base/parameters_ablations.yml").read_text())["variants"]
    assert [line.split()[:2] for line in lines[1:]] == [[s, v] for s in students for v in variants]
    short = printed("tiny_vlm", "short", "--table").splitlines()
    assert len(short) == 2
    assert short[1].endswith("judging.protocols=[levels], sft.max_steps=150")


def test_a_name_that_there_is_not_is_refused() -> None:
    for arguments, message in ((["nope"], "no student 'nope'"), (["tiny_vlm", "nope"], "no variant 'nope'")):
        done = CliRunner().invoke(recipe, arguments)
        assert done.exit_code == 1
        assert message in done.output


def test_the_memory_of_a_gpu_is_estimated_and_a_small_gpu_is_warned_of() -> None:
    def needed(*options: str) -> tuple[float, str]:
        done = CliRunner().invoke(recipe, ["--env=base", "qwen2_5_vl_7b", *options])
        assert done.exit_code == 0, done.output
        line = next(line for line in done.stdout.splitlines() if line.startswith("# GPU memory"))
        return float(line.rpartition(": ")[2].removesuffix(" GB")), done.stderr

    size, said = needed("--gpu=24")
    assert 22 < size < 32  # 16.6 of weights, 5.2 of the adapter
    assert "more than the 24 GB" in said
    assert "model.quantize=4bit" in said
    assert needed("--gpu=80") == (size, "")
    assert needed()[1] == ""
    assert needed("--params=model.quantize=4bit")[0] < size - 8
    assert needed("--params=sft.lora.r=8")[0] <= size - 3  # of 5.2 GB, three quarters
    assert needed("--params=sft.max_length=16384")[0] > size + 8
    assert needed("--params=launch.processes=128")[0] < size  # one example on each


def test_every_student_has_an_estimate() -> None:
    for path in (ROOT / "conf/base/students").glob("*.yml"):
        assert "GB" in printed(path.stem).rpartition("# GPU memory")[2], path.stem
