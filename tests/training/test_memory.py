"""The estimate of memory, held against what a small model really keeps in a step of training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model
from plain_settings import settings_of
from random_model import build_model

from t2i_eval_kedro.models.loading import load_model
from t2i_eval_kedro.training.memory import KNOWN, ModelShape, shape_of, training_memory
from t2i_eval_kedro.training.settings import LoraSettings
from t2i_eval_kedro.training.sft import lora_config
from t2i_eval_kedro.training.trainers import in_float32

RANK, EXAMPLES, TOKENS = 4, 3, 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_model(tmp_path_factory.mktemp("model"), width=64)


@pytest.fixture
def shape(folder: Path) -> ModelShape:
    known = shape_of(str(folder))
    assert known is not None
    return known


def adapted(folder: Path, *, dtype: str = "float32", checkpointing: bool = False) -> Any:
    """The model with an adapter on its text model, as a training has it."""
    base = load_model(folder, device="cpu", dtype=dtype, trainable=True)
    lora = settings_of(LoraSettings, r=RANK, target_modules="all-linear", vision=False, score_tokens=False)
    model = get_peft_model(base, lora_config(lora, base, []))
    in_float32(model)
    model.train()
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    return model


def kept_bytes(model: Any, decoder: Any) -> int:
    """Bytes that a forward pass of the text model keeps for its backward pass, the weights apart."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return tensor

    ids = torch.randint(20, 200, (EXAMPLES, TOKENS))
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=decoder.dtype == torch.bfloat16),
    ):
        decoder(input_ids=ids, use_cache=False)
    return sum(storage.nbytes() for storage in kept.values())


def test_weights_adapter_gradient_and_optimiser_are_those_of_a_real_step(folder: Path, shape: ModelShape) -> None:
    estimated = training_memory(shape, rank=RANK, examples=1, tokens=8, dtype="float32")
    model = adapted(folder)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    assert sum(parameter.nbytes for parameter in frozen) == estimated.weights
    assert sum(parameter.nbytes for parameter in trained) == estimated.adapter
    optimizer = torch.optim.AdamW(trained)
    decoder = model.get_base_model().get_decoder()
    decoder(input_ids=torch.arange(20, 28)[None]).last_hidden_state.sum().backward()
    optimizer.step()
    assert sum(parameter.grad.nbytes for parameter in trained) == estimated.gradients
    moments = [state[name] for state in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
    assert sum(moment.nbytes for moment in moments) == estimated.optimiser


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_activations_are_those_that_a_forward_pass_keeps(
    folder: Path, shape: ModelShape, dtype: str, checkpointing: bool
) -> None:
    estimated = training_memory(
        shape, rank=RANK, examples=EXAMPLES, tokens=TOKENS, dtype=dtype, checkpointing=checkpointing
    ).activations
    model = adapted(folder, dtype=dtype, checkpointing=checkpointing)
    kept = kept_bytes(model, model.get_base_model().get_decoder())
    if checkpointing:  # the layer that is computed again comes on top, in the backward pass
        size = 4 if dtype == "float32" else 2
        estimated -= size * EXAMPLES * TOKENS * shape.layer_activations(RANK, mixed=size == 2)
    assert kept == pytest.approx(estimated, rel=0.1)


def test_the_known_shape_is_that_of_the_architecture() -> None:
    from perf.judging import qwen

    model, known = qwen(True, "meta", torch.bfloat16, packed=False), KNOWN["Qwen/Qwen2.5-VL-7B-Instruct"]
    assert known.parameters == sum(parameter.numel() for parameter in model.parameters())
    linear = [module for module in model.get_decoder().modules() if isinstance(module, torch.nn.Linear)]
    assert known.linear_parameters == sum(module.weight.numel() for module in linear)
    assert known.adapter_parameters(8) == sum(8 * (module.in_features + module.out_features) for module in linear)
