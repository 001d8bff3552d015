"""The YAML files name every setting there is, so that each can be found and set on the command line."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from plain_settings import settings_of
from pydantic import BaseModel

from t2i_eval_kedro.config import ExperimentConfigLoader
from t2i_eval_kedro.judging.evaluators import JudgingSettings
from t2i_eval_kedro.models.settings import ModelSettings
from t2i_eval_kedro.models.structure.settings import StructureSettings
from t2i_eval_kedro.pipelines.heads.nodes import HeadsSettings
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
from t2i_eval_kedro.training.structure.study import StudySettings
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
    "heads": HeadsSettings,
    "structure": StructureSettings,
    "structure_study": StudySettings,
}


@cache
def loader(env: str) -> ExperimentConfigLoader:
    return ExperimentConfigLoader(str(CONF), env, base_env="base", merge_strategy={"parameters": "soft"})


def load(env: str = "base", **axes: object) -> dict[str, Any]:
    return loader(env).resolve(**axes).parameters


STUDENTS = sorted(path.stem for path in (CONF / "base" / "students").glob("*.yml"))
VARIANTS = [*load()["variants"], *(f"ablation/{name}" for name in load()["variants"])]


def validate(parameters: dict[str, Any]) -> dict[str, Any]:
    return {group: model.model_validate(parameters[group]) for group, model in GROUPS.items()}


def classes(kind: Any) -> list[type[BaseModel]]:
    """The settings classes in a type annotation."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [kind]
    return [found for part in get_args(kind) for found in classes(part)]


def check_places(kind: type[BaseModel], values: dict[str, Any], path: str) -> None:
    """A setting has its value in the YAML, and then no default in the class; or, in a group that is empty there, in the class."""
    if not values:
        assert not any(field.is_required() for field in kind.model_fields.values()), path
        return
    assert set(values) == set(kind.model_fields), path
    for name, field in kind.model_fields.items():
        assert field.is_required(), f"{path}.{name} has a default in {kind.__name__} and a value in conf/base"
        for nested in classes(field.annotation):
            entries = values[name]
            if get_origin(field.annotation) is dict:
                for key, entry in entries.items():
                    check_optional_places(nested, entry, f"{path}.{name}.{key}")
            else:
                check_places(nested, entries, f"{path}.{name}")


def check_optional_places(kind: type[BaseModel], values: dict[str, Any], path: str) -> None:
    """An entry under a name of the user's choice may leave out what the class has a default for."""
    required = {name for name, field in kind.model_fields.items() if field.is_required()}
    assert required <= set(values) <= set(kind.model_fields), path


@pytest.mark.parametrize("group", GROUPS)
def test_every_setting_is_named_in_the_yaml_and_has_its_default_there_alone(group: str) -> None:
    check_places(GROUPS[group], loader("base").resolve(student="qwen2_5_vl_7b").parameters[group], group)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("student", STUDENTS)
def test_every_student_has_a_sane_recipe_in_every_variant(student: str, variant: str) -> None:
    valid, full = validate(load(student=student, variant=variant)), validate(load(student=student))
    sft, grpo, name = valid["sft"], valid["grpo"], variant.rpartition("/")[2]
    assert valid["model"] == full["model"]
    assert valid["launch"] == full["launch"]
    assert valid["ingestion"] == full["ingestion"]
    assert (valid["teacher"] == full["teacher"]) == (name != "own_findings")
    assert (sft.lora, sft.learning_rate) == (full["sft"].lora, full["sft"].learning_rate)
    assert grpo == full["grpo"].model_copy(update={"tasks": ("reason",)} if name == "reasoning" else {})
    assert (sft.max_steps is None) == (full["sft"].max_steps is None)
    assert ("steps" in student_kind(full)) == (sft.max_steps is not None)
    # The student's length, times the share of the variant and that of the study.
    share = (0.1875 if name == "short" else 1) * (1.75 if variant.startswith("ablation/") else 1)
    if sft.max_steps is not None:
        assert sft.warmup_steps < sft.max_steps
        assert sft.max_steps == round(share * full["sft"].max_steps)
    else:
        assert 0 < sft.warmup_steps < 0.1
        assert sft.epochs == pytest.approx(share * full["sft"].epochs)
    if (
        variant not in ("full", "paper", "reasoning") and "/" not in variant
    ):  # one factor: exactly one group differs, or training and judging of one task
        changed = {group for group in GROUPS if valid[group] != full[group]}
        if name == "no_rehearsal" and not full["examples"].rehearsal:
            changed = {"examples"}  # a real student rehearses the instruction set that its user names, at first none
        assert changed in (
            {"examples"},
            {"rebalancing"},
            {"heads"},
            {"judging"},
            {"sft"},
            {"teacher"},
            {"examples", "judging"},
            {"sft", "judging"},
            {"examples", "sft"},
        )


def student_kind(valid: dict[str, Any]) -> str:
    """The embedded model trains for a number of steps, a real one for epochs."""
    return "steps" if valid["model"].model.startswith("data/") else "epochs"


@pytest.mark.parametrize("student", [name for name in STUDENTS if name != "tiny_vlm"])
def test_a_real_student_inherits_nothing_of_the_embedded_model(student: str) -> None:
    valid = validate(load(student=student))
    model, sft, grpo = valid["model"], valid["sft"], valid["grpo"]
    assert model.model.count("/") == 1  # a hub name
    assert model.dtype == "bfloat16"
    assert model.licence != "unknown"
    assert not model.trust_remote_code
    assert 1e-4 <= sft.learning_rate <= 2e-4
    assert grpo.learning_rate <= 1e-5
    assert sft.batch_size * sft.gradient_accumulation_steps == 128
    for processes in (1, 8, 16):
        if sft.batch_size * sft.gradient_accumulation_steps >= processes:
            per_process(sft.batch_size, sft.gradient_accumulation_steps, processes)
    assert sft.gradient_checkpointing
    assert grpo.gradient_checkpointing
    assert sft.max_length is not None
    assert sft.lora.alpha == 2 * sft.lora.r
    assert not sft.lora.score_tokens
    assert valid["judging"].wording == "full"
    assert valid["rebalancing"].repeats == {}


@pytest.mark.parametrize("student", ["qwen2_5_vl_7b", "llava_next_13b", "minicpm_v_2_6"])
def test_the_neutral_settings_are_those_of_t2i_eval(student: str) -> None:
    sft = validate(load(student=student))["sft"]
    assert (sft.lora.r, sft.lora.alpha, sft.max_length, sft.epochs, sft.learning_rate) == (128, 256, 4096, 1.0, 1e-4)


def test_the_recipe_of_the_embedded_model() -> None:
    valid = validate(load())
    assert (valid["sft"].max_steps, valid["sft"].batch_size, valid["sft"].learning_rate) == (800, 32, 3e-3)
    assert (valid["grpo"].max_steps, valid["grpo"].learning_rate, valid["grpo"].rehearsal_weight) == (40, 5e-5, 1.0)
    assert (valid["judging"].wording, valid["model"].dtype) == ("compact", "float32")
    assert validate(load(variant="short"))["sft"].max_steps == 150
    assert validate(load(variant="ablation/levels"))["sft"].max_steps == 1400


def test_a_study_has_the_variants_that_it_compares_and_their_equal_steps() -> None:
    for name, study in load()["studies"].items():
        assert study["variants"][0] == "full"
        for student in STUDENTS:
            settings = [load(student=student, variant=f"{name}/{variant}")["sft"] for variant in study["variants"]]
            free = {"mean_over", "batch_size", "gradient_accumulation_steps"}
            assert len({str({key: value for key, value in sft.items() if key not in free}) for sft in settings}) == 1
            sizes = {
                variant: sft["batch_size"] * sft["gradient_accumulation_steps"]
                for variant, sft in zip(study["variants"], settings, strict=True)
            }
            shorter = {"no_subtasks": 0.16}  # a conversation has that many more answers
            for variant, size in sizes.items():
                assert size == pytest.approx(sizes["full"] * shorter.get(variant, 1), rel=0.05)


@pytest.mark.parametrize("student", STUDENTS)
def test_the_test_environment_is_valid_and_short_for_every_student(student: str) -> None:
    for variant in VARIANTS:
        sft = validate(load("test", student=student, variant=variant))["sft"]
        assert (sft.max_steps, sft.epochs) == (8, None)


def test_code_from_the_hub_is_run_at_one_commit_only() -> None:
    given = {"model": "openbmb/MiniCPM-V-2_6", "trust_remote_code": True}
    for revision in (None, "main"):
        with pytest.raises(ValueError, match=r"give its 40 digits as model\.revision"):
            settings_of(ModelSettings, **given, revision=revision)
    settings_of(ModelSettings, **given, revision="0" * 40)


def test_the_files_for_accelerate_are_files_that_it_reads() -> None:
    config_args = pytest.importorskip("accelerate.commands.config.config_args")
    for path in CONF.glob("gpu/accelerate/*.yml"):
        assert config_args.load_config_from_file(str(path)).distributed_type in ("FSDP", "DEEPSPEED")
