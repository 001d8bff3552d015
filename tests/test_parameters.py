"""The YAML files name every setting there is, so that each can be found and set on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from t2i_eval_kedro.config import ExperimentConfigLoader, refuse_unknown
from t2i_eval_kedro.judging.evaluators import JudgingSettings
from t2i_eval_kedro.models.settings import ModelSettings
from t2i_eval_kedro.pipelines.ingestion.nodes import IngestionSettings
from t2i_eval_kedro.pipelines.meta_evaluation.nodes import MetaEvaluationSettings
from t2i_eval_kedro.teacher.teachers import TeacherSettings
from t2i_eval_kedro.training.settings import (
    ExampleSettings,
    GRPOSettings,
    LaunchSettings,
    RebalancingSettings,
    SFTSettings,
)
from t2i_eval_kedro.training.trainers import per_process

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


@pytest.mark.parametrize("recipe", sorted(path.parent.name for path in CONF.glob("gpu/*/parameters.yml")))
def test_every_gpu_recipe_is_valid_and_has_the_settings_of_its_source(recipe: str) -> None:
    parameters = load(f"gpu/{recipe}")
    valid = {group: model.model_validate(parameters[group]) for group, model in GROUPS.items()}
    sft = valid["sft"]
    assert (sft.lora.r, sft.lora.alpha, sft.max_length, sft.epochs) == (128, 256, 4096, 1.0)
    assert sft.batch_size * sft.gradient_accumulation_steps == 128
    for processes in (1, 8, 16):
        per_process(sft.batch_size, sft.gradient_accumulation_steps, processes)
    assert not valid["model"].trust_remote_code
    refuse_unknown(yaml.safe_load((CONF / "gpu" / recipe / "parameters.yml").read_text()), load(), recipe)


def test_code_from_the_hub_is_run_at_one_commit_only() -> None:
    given = {"model": "openbmb/MiniCPM-V-2_6", "trust_remote_code": True}
    for revision in (None, "main"):
        with pytest.raises(ValueError, match=r"give its 40 digits as model\.revision"):
            ModelSettings(**given, revision=revision)
    ModelSettings(**given, revision="0" * 40)


def test_the_files_for_accelerate_are_files_that_it_reads() -> None:
    config_args = pytest.importorskip("accelerate.commands.config.config_args")
    for path in CONF.glob("gpu/accelerate/*.yml"):
        assert config_args.load_config_from_file(str(path)).distributed_type in ("FSDP", "DEEPSPEED")
