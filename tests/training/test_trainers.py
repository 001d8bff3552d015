"""What every training has around it: one GPU for one process, and advice where memory runs out."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from plain_settings import settings_of
from transformers import TrainingArguments

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.models.loading import load_model
from t2i_eval_kedro.models.settings import ModelSettings
from t2i_eval_kedro.training.answer_loss import AnswerLossTrainer
from t2i_eval_kedro.training.settings import LoraSettings, SFTSettings
from t2i_eval_kedro.training.sft import lora_config, train_sft
from t2i_eval_kedro.training.trainers import on_one_gpu, takes_parts


def test_a_single_process_takes_one_of_eight_gpus(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    arguments = TrainingArguments(str(tmp_path), use_cpu=True, per_device_train_batch_size=2)
    arguments._n_gpu = 8  # what transformers counts where eight are visible
    assert arguments.train_batch_size == 16
    with caplog.at_level(logging.INFO):
        assert on_one_gpu(arguments) is arguments
    assert (arguments.n_gpu, arguments.train_batch_size) == (1, 2)
    assert "Training on one of 8 GPUs; launch.processes=8 takes them all." in caplog.text


def test_where_memory_runs_out_the_settings_to_lower_are_named(
    base_model: Path, examples, pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nGPU 0 has 3 MiB free.")

    monkeypatch.setattr(AnswerLossTrainer, "training_step", full)
    with pytest.raises(T2IEvalError) as failure:
        train_sft(
            examples,
            pictures,
            settings_of(ModelSettings, model=str(base_model), device="cpu"),
            settings_of(SFTSettings, max_steps=1, eval_examples=0),
            tmp_path / "adapter",
        )
    told = str(failure.value)
    assert told.startswith("The GPU's memory is used up (CUDA out of memory. Tried to allocate 2 GiB.).")
    places = [told.index(name) for name in ("model.max_pixels", "sft.batch_size", "model.quantize=4bit")]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("processes", "sharded", "vision", "taken"),
    [(1, False, True, True), (2, False, False, True), (2, False, True, False), (2, True, False, False)],
)
def test_a_batch_is_cut_into_parts_where_every_process_can_do_it(
    base_model: Path, processes: int, sharded: bool, vision: bool, taken: bool
) -> None:
    from peft import get_peft_model

    base = load_model(base_model, trainable=True)
    model = get_peft_model(base, lora_config(settings_of(LoraSettings, r=4, alpha=8, vision=vision), base, []))
    trainer = SimpleNamespace(
        accelerator=SimpleNamespace(num_processes=processes),
        is_fsdp_enabled=sharded,
        is_deepspeed_enabled=False,
        model=model,
    )
    assert takes_parts(trainer) is taken
