"""The YAML files name every setting there is, so that each can be found and set on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from t2i_eval_kedro.config import ExperimentConfigLoader
from t2i_eval_kedro.judging.evaluators import JudgingSettings
from t2i_eval_kedro.judging.teachers import TeacherSettings
from t2i_eval_kedro.pipelines.ingestion.nodes import IngestionSettings
from t2i_eval_kedro.pipelines.meta_evaluation.nodes import MetaEvaluationSettings
from t2i_eval_kedro.training.settings import (
    ExampleSettings,
    GRPOSettings,
    LaunchSettings,
    ModelSettings,
    RebalancingSettings,
    SFTSettings,
)

CONF = Path(__file__).parents[1] / "conf"
GROUPS: dict[str, type[BaseModel]] = {
    "model": ModelSettings,
    "launch": LaunchSettings,
    "ingestion": IngestionSettings,
    "judging": JudgingSettings,
    "teacher": TeacherSettings,
    "examples": ExampleSettings,
    "rebalancing": RebalancingSettings,
    "sft": SFTSettings,
    "grpo": GRPOSettings,
    "meta_evaluation": MetaEvaluationSettings,
}


def load(env: str = "base", **runtime: Any) -> dict[str, Any]:
    return ExperimentConfigLoader(str(CONF), env, runtime, base_env="base", merge_strategy={"parameters": "soft"})[
        "parameters"
    ]


@pytest.mark.parametrize("group", GROUPS)
def test_every_setting_is_named_and_valid(group: str) -> None:
    declared = load()[group]
    assert set(declared) == set(GROUPS[group].model_fields)
    GROUPS[group].model_validate(declared)


@pytest.mark.parametrize("variant", [*load()["variants"], *(f"ablation/{name}" for name in load()["variants"])])
def test_every_variant_is_valid(variant: str) -> None:
    parameters = load(variant=variant)
    for group, model in GROUPS.items():
        model.model_validate(parameters[group])


def test_a_study_has_the_variants_that_it_compares_and_their_equal_steps() -> None:
    for name, study in load()["studies"].items():
        assert study["variants"][0] == "full"
        assert len({str(load(variant=f"{name}/{variant}")["sft"]) for variant in study["variants"]}) == 1


def test_the_test_environment_is_valid() -> None:
    parameters = load("test")
    for group, model in GROUPS.items():
        model.model_validate(parameters[group])
