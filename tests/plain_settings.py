"""Small settings for tests: what a class needs besides the values that a test is about. No recipe: those are in ``conf/``."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel

S = TypeVar("S", bound=BaseModel)

LORA = {"r": 16, "alpha": 32, "dropout": 0.0, "target_modules": "all-linear", "vision": True, "score_tokens": False}
OPTIMISATION = {
    "weight_decay": 0.0,
    "warmup_steps": 0,
    "max_grad_norm": 1.0,
    "gradient_checkpointing": False,
    "logging_steps": 10,
    "save_steps": 0,
    "checkpoints_kept": 2,
    "seed": 0,
    "trl": {},
}
PLAIN: dict[str, dict[str, Any]] = {
    "ModelSettings": {
        "name": None,
        "revision": None,
        "dtype": "float32",
        "quantize": None,
        "device": "auto",
        "min_pixels": None,
        "max_pixels": None,
        "model_init_kwargs": {},
        "threads": None,
        "trust_remote_code": False,
        "thinking": "closed",
        "thinking_tokens": 32,
        "licence": "unknown",
    },
    "LaunchSettings": {"processes": 1, "machines": 1, "address": None, "port": 29500, "accelerate": None},
    "LoraSettings": LORA,
    "SFTSettings": OPTIMISATION
    | {
        "learning_rate": 3e-3,
        "schedule": "cosine",
        "max_steps": None,
        "epochs": None,
        "batch_size": 32,
        "gradient_accumulation_steps": 1,
        "group_by_length": False,
        "eval_steps": 0,
        "eval_examples": 256,
        "patience": None,
        "mean_over": "tokens",
        "augment": 0.0,
        "image_cache_mb": 512,
        "loader_workers": 0,
        "max_length": None,
        "start": None,
        "lora": LORA,
    },
    "GRPOSettings": OPTIMISATION
    | {
        "start": "sft",
        "tasks": ("score",),
        "targets": "scores",
        "rehearsal_weight": 0.0,
        "rehearsal_examples": 8,
        "slope": 1.0,
        "tie": 0.5,
        "share_prefixes": True,
        "eval_steps": 0,
        "eval_examples": 32,
        "patience": None,
        "max_drop": 0.1,
        "min_distinct": 0.0,
        "learning_rate": 5e-4,
        "schedule": "constant",
        "max_steps": 90,
        "prompts_per_step": 32,
        "generations": 8,
        "batch_size": 256,
        "temperature": 1.0,
        "max_completion_length": 8,
        "beta": 0.0,
        "scale_rewards": "group",
        "loss_type": "dapo",
        "rewards": {"gaussian": 1.0},
        "own_rewards": {},
        "sigma": 0.2,
        "tolerance": 0.1,
    },
    "ExampleSettings": {
        "tasks": ("subtasks", "score"),
        "scores": "auto",
        "soft": None,
        "second_round": None,
        "variance_weight": False,
        "perturbation": 0.0,
        "text_only": True,
        "rehearsal": 0,
        "prompt_fraction": 1.0,
        "leave_out": (),
        "seed": 0,
    },
    "RebalancingSettings": {
        "method": "official",
        "shares": {},
        "evenness": 1.0,
        "max_frequency": 1000.0,
        "repeats": {},
        "split_pairs": False,
        "seed": 0,
    },
    "SimilaritySettings": {"processor": None, "prefix": "", "revision": None, "device": "auto", "batch_size": 32},
}


def settings_of(kind: type[S], **given: Any) -> S:
    """Settings of the class ``kind`` with the values that are ``given``."""
    return kind.model_validate(PLAIN[kind.__name__] | given)
