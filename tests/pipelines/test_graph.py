"""The graph folds by namespace, judges are one pipeline, and each README says what the nodes are."""

from __future__ import annotations

import re

import pytest
from kedro.framework.project import pipelines
from kedro.framework.startup import bootstrap_project
from kedro_project import ROOT

from t2i_eval_kedro.pipelines.naming import by_name

bootstrap_project(ROOT)
FOLDER = ROOT / "src/t2i_eval_kedro/pipelines"
NAMES = sorted(set(pipelines) - {"__default__", "ablation_run"})


def test_every_node_is_in_the_namespace_of_its_pipeline_or_of_its_judge() -> None:
    for name in NAMES:
        spaces = {node.namespace for node in pipelines[name].nodes}
        assert spaces == ({"base", "sft"} if name == "sft" else {name})


def test_all_judges_are_asked_and_diagnosed_by_the_same_nodes() -> None:
    judging = [node for node in pipelines["__default__"].nodes if "judging" in node.tags]
    judges = ("base", "sft", "grpo")
    names = {f"{judge}.{verb}_{judge}" for judge in judges for verb in ("judge", "attribute", "compare_pairs")}
    assert {node.name for node in judging} == {*names, "base.choose_base_protocol"}
    assert len({node.func for node in judging}) == 4
    for node in judging:
        adapters = [name for name in node.inputs if name.endswith("_adapter")]
        assert adapters == ([] if node.namespace == "base" else [f"{node.namespace}_adapter"])
        if ".judge_" in node.name:
            assert node.outputs == [f"{node.namespace}_{name}" for name in ("scores", "transcripts", "element_scores")]
            assert ("base_protocol" in node.inputs) == (node.namespace == "base")


@pytest.mark.parametrize("name", NAMES)
def test_the_readme_of_a_pipeline_names_its_nodes(name: str) -> None:
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|.*\|.*\|$", (FOLDER / name / "README.md").read_text(), re.MULTILINE)
    told = {node for row in rows for node in re.findall(r"`(\w+)`", row)}
    assert {node.name.partition(".")[2] for node in pipelines[name].nodes} <= told


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*/README.md")), ids=lambda path: path.parent.name)
def test_links_of_a_readme_lead_somewhere(path) -> None:
    for link in re.findall(r"\]\(([^):#]+)\)", path.read_text()):
        assert (path.parent / link).exists(), link


def test_inputs_go_to_the_arguments_of_their_names() -> None:
    assert by_name("items", "params:model", "params:model.path", card="data_card") == {
        "items": "items",
        "model": "params:model",
        "path": "params:model.path",
        "card": "data_card",
    }
