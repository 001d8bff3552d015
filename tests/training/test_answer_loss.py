from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from plain_settings import settings_of
from trl.trainer.sft_config import SFTConfig

from t2i_eval_kedro.models.loading import load_model
from t2i_eval_kedro.models.processors import load_processor
from t2i_eval_kedro.models.settings import ModelSettings
from t2i_eval_kedro.schema import EXAMPLES
from t2i_eval_kedro.training.answer_loss import AnswerLossTrainer, answer_loss
from t2i_eval_kedro.training.data import IGNORED, Encoder
from t2i_eval_kedro.training.sampling import FrequencySampler, FrequencyTrainer
from t2i_eval_kedro.training.settings import LoraSettings, SFTSettings
from t2i_eval_kedro.training.sft import train_sft

BATCH = [{"row": 0}, {"row": 1}]
SHARES = {"3": 0.25, "4": 0.75}


def mean_cross_entropy(model: Any, batch: dict[str, torch.Tensor]) -> float:
    """Nats per answer token, from the definition: token by token, on the logits of a plain forward pass."""
    with torch.no_grad():
        logits = model(**{name: value for name, value in batch.items() if name != "labels"}).logits.double()
    nats = [
        float(logits[row, column - 1].logsumexp(0) - logits[row, column - 1, label])
        for row, labels in enumerate(batch["labels"].tolist())
        for column, label in enumerate(labels)
        if label != IGNORED
    ]
    return sum(nats) / len(nats)


def trainer_of(
    base_model: Path,
    examples: pd.DataFrame,
    pictures: Any,
    folder: Path,
    make: Callable[..., Any] = AnswerLossTrainer,
    **arguments: Any,
) -> tuple[Any, Encoder, Any]:
    """A trainer of four examples, whose answers differ in length."""
    processor, model = load_processor(base_model), load_model(base_model, device="cpu")
    encoder = Encoder(examples.iloc[[0, 1, 6, 21]], processor, pictures)
    trainer = make(
        model=model,
        args=SFTConfig(
            output_dir=str(folder),
            use_cpu=True,
            bf16=False,
            report_to="none",
            gradient_checkpointing=False,
            dataset_kwargs={"skip_prepare_dataset": True},
            **arguments,
        ),
        data_collator=encoder,
        train_dataset=encoder.dataset(range(4)),
        processing_class=processor,
    )
    return trainer, encoder, model


@pytest.mark.parametrize("steps_tokens", [None, 100])
def test_the_loss_and_its_gradient_are_those_of_the_answers_cross_entropy(
    base_model: Path, examples: pd.DataFrame, pictures: Any, tmp_path: Path, steps_tokens: int | None
) -> None:
    trainer, encoder, model = trainer_of(base_model, examples, pictures, tmp_path)
    batch = encoder([{"row": row} for row in range(4)])
    answers = int((batch["labels"] != IGNORED).sum())
    expected = mean_cross_entropy(model, batch) * (answers / steps_tokens if steps_tokens else 1)
    loss = trainer.compute_loss(model, dict(batch), num_items_in_batch=steps_tokens)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    weight = model.get_output_embeddings().weight
    slope, step = float(weight.grad.square().sum()), 1e-3
    with torch.no_grad():
        weight -= step * weight.grad
    moved = trainer.compute_loss(model, dict(batch), num_items_in_batch=steps_tokens)
    assert (loss - moved).item() == pytest.approx(step * slope, rel=0.05)  # what the gradient promises


def test_the_mean_over_examples_weighs_a_short_answer_like_a_long_one(
    base_model: Path, examples: pd.DataFrame, pictures: Any, tmp_path: Path
) -> None:
    trainer, encoder, model = trainer_of(
        base_model, examples, pictures, tmp_path, partial(AnswerLossTrainer, mean_over="examples")
    )
    alone = [encoder([{"row": row}]) for row in range(4)]
    lengths = [int((one["labels"] != IGNORED).sum()) for one in alone]
    assert len(set(lengths)) > 1
    expected = sum(mean_cross_entropy(model, one) for one in alone) / 4
    assert mean_cross_entropy(model, encoder([{"row": row} for row in range(4)])) != pytest.approx(expected, rel=0.01)
    batches = [encoder.in_parts([{"row": row} for row in rows]) for rows in ((0, 2, 3), (1,))]  # of unlike sizes
    taken, examples_of_step = trainer.get_batch_samples(iter(batches), 2, "cpu")
    assert examples_of_step == 4
    losses = [trainer.compute_loss(model, batch, num_items_in_batch=examples_of_step).item() for batch in taken]
    assert sum(losses) == pytest.approx(expected, rel=1e-5)
    whole = encoder([{"row": row} for row in range(4)])
    assert trainer.compute_loss(model, whole).item() == pytest.approx(expected, rel=1e-5)  # as a validation measures it


@pytest.fixture
def two(examples: pd.DataFrame) -> pd.DataFrame:
    """A score request with a soft label, and one without."""
    chosen = examples[examples["task"] == "score"].iloc[[3, 7]].reset_index(drop=True)
    return EXAMPLES.check(chosen.assign(soft_label=[json.dumps(SHARES), None]))


def test_a_soft_label_costs_its_divergence_and_the_rest_stays(
    base_model: Path, two: pd.DataFrame, pictures: Any
) -> None:
    model, processor = load_model(base_model, device="cpu"), load_processor(base_model)

    def loss(examples: pd.DataFrame) -> float:
        return float(answer_loss(model, Encoder(examples, processor, pictures)(BATCH))[0])

    batch = Encoder(two.assign(soft_label=None), processor, pictures)(BATCH)
    fields = {name: value for name, value in batch.items() if name != "labels"}
    first = int((batch["labels"][0] != IGNORED).int().argmax())
    log_model = model(**fields).logits[0, first - 1].log_softmax(-1)
    tokens = [processor.tokenizer.encode(level, add_special_tokens=False)[0] for level in SHARES]
    shares = torch.tensor(list(SHARES.values()))
    divergence = (shares * (shares.log() - log_model[tokens])).sum().item()
    hard = -float(log_model[batch["labels"][0, first]])
    assert loss(two) == pytest.approx(loss(two.assign(soft_label=None)) - hard + divergence, rel=1e-5)


def test_a_soft_label_with_one_level_is_the_hard_one(base_model: Path, two: pd.DataFrame, pictures: Any) -> None:
    model, processor = load_model(base_model, device="cpu"), load_processor(base_model)
    certain = two.assign(soft_label=[json.dumps({completion: 1.0}) for completion in two["completion"]])
    losses = [
        float(answer_loss(model, Encoder(examples, processor, pictures)(BATCH))[0])
        for examples in (certain, two.assign(soft_label=None))
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_every_answer_of_a_conversation_is_learned(base_model: Path, examples: pd.DataFrame, pictures: Any) -> None:
    processor = load_processor(base_model)
    chat = [
        {"role": "user", "text": "Score it.", "images": ["5"]},
        {"role": "assistant", "text": "5", "images": [], "learn": True},
        {"role": "user", "text": "Sure?", "images": []},
        {"role": "assistant", "text": "quoted", "images": []},
        {"role": "user", "text": "Why?", "images": []},
    ]
    one = examples.iloc[[0]].assign(messages=json.dumps(chat), completion="It is 5.").reset_index(drop=True)
    batch = Encoder(one, processor, pictures)([{"row": 0}])
    labels, tokens = batch["labels"][0], batch["input_ids"][0]
    learned = labels[labels != IGNORED]
    assert processor.tokenizer.decode(learned) == "5<|end|>It is 5.<|end|>"
    assert (tokens[labels != IGNORED] == learned).all()
    text = processor.tokenizer.decode(tokens).replace("<image>", "")
    assert text == (
        "<|user|>Score it.<|assistant|>5<|end|><|user|>Sure?<|assistant|>quoted<|end|><|user|>Why?<|assistant|>It is 5.<|end|>"
    )


def test_draws_follow_the_frequencies_and_the_epoch() -> None:
    sampler = FrequencySampler([3.0, 1.0, 0.0] * 200, seed=5)
    drawn = list(sampler)
    assert len(drawn) == len(sampler) == 800
    shares = torch.bincount(torch.tensor(drawn) % 3, minlength=3) / 800
    assert shares.tolist() == pytest.approx([0.75, 0.25, 0], abs=0.06)
    assert list(sampler) == drawn
    sampler.set_epoch(1)
    assert list(sampler) != drawn
    assert list(sampler) != list(FrequencySampler([3.0, 1.0, 0.0] * 200, seed=6))


def test_a_training_draws_only_what_has_a_frequency(
    base_model: Path, examples: pd.DataFrame, pictures: Any, tmp_path: Path
) -> None:
    """Examples of frequency 0 have images that are not there, so drawing one would fail."""
    absent = examples["item_id"] == "10"
    messages = examples["messages"].where(~absent, examples["messages"].str.replace('"10"', '"none"'))
    frequency = (~absent).astype(float).where(examples["fold"] == "train")
    drawn = EXAMPLES.check(examples.assign(messages=messages, frequency=frequency))
    settings = settings_of(
        SFTSettings, max_steps=6, batch_size=16, eval_examples=0, lora=settings_of(LoraSettings, r=2, alpha=4)
    )
    curve = train_sft(
        drawn, pictures, settings_of(ModelSettings, model=str(base_model), device="cpu"), settings, tmp_path / "a"
    )
    assert curve["step"].max() == 6


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(partial(AnswerLossTrainer, mean_over="tokens"), id="tokens"),
        pytest.param(partial(AnswerLossTrainer, mean_over="examples"), id="examples"),
        pytest.param(FrequencyTrainer, id="trl"),
    ],
)
def test_one_step_is_the_same_in_one_batch_and_in_four_for_a_class_such_as_qwen_s(
    base_model: Path,
    examples: pd.DataFrame,
    pictures: Any,
    tmp_path: Path,
    make: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("transformers.LlavaForConditionalGeneration.accepts_loss_kwargs", False, raising=False)
    found = []
    for batch_size in (4, 1):
        trainer, _, _ = trainer_of(
            base_model,
            examples,
            pictures,
            tmp_path,
            make,
            remove_unused_columns=False,
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=4 // batch_size,
            max_steps=1,
            logging_steps=1,
            save_strategy="no",
        )
        trainer.train()
        found.append([trainer.state.log_history[0][name] for name in ("loss", "grad_norm")])
    assert found[1] == pytest.approx(found[0], rel=1e-3)
