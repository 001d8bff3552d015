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
    layers = {line.split(":")[0].strip(): line.partition("  # ")[2] for line in text.splitlines()}
    assert layers["method"] == "variant no_rebalancing"
    assert layers["epochs"] == "neutral, times 0.3214 (study ablation)"
    assert layers["r"] == "--params"
    assert list(settings["judging"]["wordings"]) == ["full"]


def test_a_table_has_all_students_in_all_variants() -> None:
    lines = printed("--table").splitlines()
    students = sorted(path.stem for path in (ROOT / "conf/base/students").glob("*.yml"))
    variants = yaml.safe_load((ROOT / "conf/base/parameters_ablations.yml").read_text())["variants"]
    assert [line.split()[:2] for line in lines[1:]] == [[s, v] for s in students for v in variants]
    assert len(printed("tiny_vlm", "short", "--table").splitlines()) == 2


def test_a_name_that_there_is_not_is_refused() -> None:
    for arguments, message in ((["nope"], "no student 'nope'"), (["tiny_vlm", "nope"], "no variant 'nope'")):
        done = CliRunner().invoke(recipe, arguments)
        assert done.exit_code == 1
        assert message in done.output
