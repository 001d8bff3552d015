"""Supervised fine-tuning of a LoRA adapter with trl's ``SFTTrainer``; the loss is on the answers alone."""

from __future__ import annotations

import hashlib
import logging
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.models.adapters import save_adapter
from t2i_eval_kedro.models.answers import answer_tokens
from t2i_eval_kedro.models.loading import check_adapter, outside_text_model
from t2i_eval_kedro.models.processors import ImageSource
from t2i_eval_kedro.models.settings import ModelSettings
from t2i_eval_kedro.steps import DIRECT, REASONING, SCORE
from t2i_eval_kedro.training.checkpoints import Checkpoints, run_hash
from t2i_eval_kedro.training.data import Encoder, data_hash
from t2i_eval_kedro.training.rehearsal import with_files
from t2i_eval_kedro.training.settings import LoraSettings, SFTSettings
from t2i_eval_kedro.training.trainers import (
    common_arguments,
    expose_bias,
    gathered_weights,
    in_float32,
    memory_advice,
    on_one_gpu,
    per_process,
    takes_parts,
    train_from,
    trains_on_cpu,
    watch,
)

if TYPE_CHECKING:
    from peft import LoraConfig

logger = logging.getLogger(__name__)

TAGS = "<think> </think> <answer> </answer>"

CURVE = ("step", "loss", "token_accuracy", "validation_loss", "validation_token_accuracy", "learning_rate")


def train_sft(
    examples: pd.DataFrame,
    images: ImageSource,
    model: ModelSettings,
    settings: SFTSettings,
    out_dir: Path,
    *,
    checkpoint_dir: Path | None = None,
    data_note: str = "",
) -> pd.DataFrame:
    """Fine-tune an adapter on the fold ``train`` and write it to ``out_dir``.

    Args:
        examples: the table ``schema.EXAMPLES``; the fold ``validation`` gives the validation loss.
        images: where the images of the requests are.
        model: the base model.
        settings: settings of the training.
        out_dir: the adapter folder to write, see :mod:`t2i_eval_kedro.models.adapters`.
        checkpoint_dir: where checkpoints go if ``settings.save_steps`` asks for some. A run that finds those of the
            same settings, model and data resumes from the last; they are deleted when it is done.
        data_note: a sentence for the adapter's card on where the data comes from.

    Returns:
        The training curve: step, loss, token_accuracy, validation_loss, validation_token_accuracy, learning_rate.
        Losses are mean cross-entropies of the answers in nats, by token or by example (``settings.mean_over``). Its ``attrs`` have the
        ``steps`` and the ``seconds`` of the training, those of before an interruption among them.

    Raises:
        T2IEvalError: nothing to train on, a model that cannot be loaded, an adapter to start from that is not there or not of that model,
            settings that can have no effect, or a loss that is no number.
    """
    from accelerate import PartialState
    from transformers import EarlyStoppingCallback, PrinterCallback, set_seed
    from trl.trainer.sft_config import SFTConfig

    from t2i_eval_kedro.training.answer_loss import AnswerLossTrainer
    from t2i_eval_kedro.training.sampling import FrequencyTrainer

    if settings.patience is not None:  # the best validation is gone back to, from its checkpoint
        settings = settings.model_copy(update={"save_steps": settings.eval_steps})
    train = examples[examples["fold"] == "train"]
    if train.empty:
        raise T2IEvalError(
            "There are no training examples in the fold 'train'; make some with --pipelines=teacher_distillation,rebalancing, or check "
            "the splits and the teacher."
        )
    start = None if settings.start is None else Path(settings.start)
    if start is not None:
        check_adapter(start, model.model, revision=model.revision)
    start_weights = (
        "" if start is None else hashlib.sha256((start / "adapter_model.safetensors").read_bytes()).hexdigest()
    )
    processor, images = model.load_processor(), model.limit(with_files(images))
    validation = _sample(examples[examples["fold"] == "validation"], settings.eval_examples, settings.seed)
    encoder = Encoder(
        pd.concat([train, validation]),
        processor,
        images,
        settings.image_cache_mb,
        augment=settings.augment,
        seed=settings.seed,
    )
    state = PartialState()
    batch_size, passes = per_process(settings.batch_size, settings.gradient_accumulation_steps, state.num_processes)
    set_seed(settings.seed)
    workers = int(settings.trl.get("dataloader_num_workers", settings.loader_workers))
    if workers:  # threads of a tokenizer do not live on in processes that are forked
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    context = model.context_length()
    rows = encoder.rows_within(settings.max_length, context)
    train_rows = [row for row in rows if row < len(train)]
    validation_rows = [row for row in rows if row >= len(train)]
    if not train_rows:
        raise T2IEvalError(
            f"Every training example is longer than max_length={settings.max_length} tokens, or than the {context} that the model reads."
        )
    stops_early = settings.patience is not None
    if stops_early and not validation_rows:
        raise T2IEvalError(
            "sft.patience stops by the loss on validation prompts, and there is no validation example; give the benchmark a fold "
            "'validation' (ingestion.split), or set sft.patience=null."
        )
    if settings.group_by_length and encoder.draws:
        raise T2IEvalError(
            "sft.group_by_length=true and examples that are drawn by their frequency (rebalancing.method=weighted) exclude each other; set "
            "the one to false, or the other to another method."
        )
    hashed = data_hash(examples)
    checkpoints = Checkpoints(
        checkpoint_dir, run_hash("sft", model, settings, hashed, start_weights), settings.save_steps
    )
    with checkpoints as work:
        arguments = SFTConfig(
            **common_arguments(settings, model, work)
            | {
                "max_steps": settings.max_steps or -1,
                "num_train_epochs": settings.epochs or 1.0,
                "per_device_train_batch_size": batch_size,
                "per_device_eval_batch_size": batch_size,
                "gradient_accumulation_steps": passes,
                "train_sampling_strategy": "group_by_length" if settings.group_by_length else "random",
                "eval_strategy": "steps" if settings.eval_steps and validation_rows else "no",
                "eval_steps": settings.eval_steps or None,
                "load_best_model_at_end": stops_early,
                "metric_for_best_model": "eval_loss" if stops_early else None,
                "greater_is_better": False if stops_early else None,
                "restore_callback_states_from_checkpoint": stops_early,  # how often in a row it got no better
                "prediction_loss_only": True,
                "max_length": None,
                "dataset_kwargs": {"skip_prepare_dataset": True},
                "dataloader_num_workers": workers,
                "dataloader_persistent_workers": workers > 0,
            }
            | settings.trl
        )
        arguments = on_one_gpu(arguments)
        watching = watch("fine-tuning", checkpoint_dir)
        base = model.load(adapter=start, trainable=True)
        own_loss = trains_on_cpu(model) or encoder.weighted or encoder.soft or settings.mean_over == "examples"
        trainer_class = partial(AnswerLossTrainer, mean_over=settings.mean_over) if own_loss else FrequencyTrainer
        trainer = trainer_class(
            model=base,
            args=arguments,
            data_collator=encoder,
            train_dataset=encoder.dataset(train_rows),
            eval_dataset=encoder.dataset(validation_rows) if validation_rows else None,
            processing_class=processor,
            peft_config=lora_config(settings.lora, base, score_tokens(train, processor)) if start is None else None,
            callbacks=[
                watching,
                *([EarlyStoppingCallback(settings.patience)] if settings.patience else []),
            ],
        )
        if own_loss and takes_parts(trainer):
            trainer.data_collator = encoder.in_parts
        trainer.remove_callback(PrinterCallback)
        expose_bias(trainer.model)
        in_float32(trainer.model)
        with memory_advice("sft", "sft.batch_size (raise sft.gradient_accumulation_steps by as much)"):
            train_from(trainer, checkpoints.last())
        seconds, now = watching.seconds, watching.seconds - watching.before
        steps = trainer.state.global_step
        validated = {entry["step"] for entry in trainer.state.log_history if "eval_loss" in entry}
        if validation_rows and steps not in validated:
            trainer.evaluate()
    logger.info("Waited for examples %.1f%% of the time.", 100 * trainer.waited / now)
    seen = steps * settings.batch_size * settings.gradient_accumulation_steps
    logger.info("Fine-tuned %d steps in %.0f s (%.0f examples a second).", steps, seconds, seen / seconds)
    curve = _curve(trainer.state.log_history)
    curve.attrs |= {"steps": steps, "seconds": round(seconds, 1)}
    weights = gathered_weights(trainer)
    if not state.is_main_process:
        return curve
    save_adapter(
        trainer.accelerator.unwrap_model(trainer.model),
        out_dir,
        weights=weights,
        method="supervised fine-tuning",
        base=model,
        settings=settings.model_dump(mode="json", exclude={"start"})
        | {"start": start and start.name, "start_adapter_sha256": start_weights or None}
        | ({} if start is None else {"lora": None}),  # that of the adapter it went on from
        examples=train.iloc[train_rows],
        data_hash=hashed,
        curve=curve,
        data_note=data_note,
    )
    checkpoints.clear()
    return curve


def lora_config(lora: LoraSettings, base: Any, tokens: list[int]) -> LoraConfig:
    """The peft configuration of an adapter of ``base``.

    ``tokens`` are those whose embeddings are trained if ``lora.score_tokens`` says so. Without ``lora.vision`` everything
    outside the text model is left as it is.
    """
    from peft import LoraConfig

    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules if isinstance(lora.target_modules, str) else list(lora.target_modules),
        exclude_modules=None if lora.vision else outside_text_model(base),
        trainable_token_indices=tokens if lora.score_tokens and tokens else None,
        task_type="CAUSAL_LM",
    )


def score_tokens(examples: pd.DataFrame, processor: Any) -> list[int]:
    """The tokens of the levels that examples are answered with, those of one token: the answers to direct score requests.

    An answer to the request for everything at once begins with one. Where answers reason, the tokens of their tags are among them: the
    tiny model's pre-training never wrote them, and no low-rank update would make them likely.
    """
    words = set(examples.loc[examples["task"] == SCORE, "completion"])
    words |= {text.split()[0] for text in examples.loc[examples["task"] == DIRECT, "completion"]}
    ids = answer_tokens(processor, sorted(words))
    trained = {tokens[0] for tokens in ids if len(tokens) == 1}
    if examples["task"].isin(REASONING).any():
        trained |= set(processor.tokenizer.encode(TAGS, add_special_tokens=False))
    return sorted(trained)


def _sample(examples: pd.DataFrame, size: int, seed: int) -> pd.DataFrame:
    """At most ``size`` of the examples, drawn with ``seed``, in their order."""
    if len(examples) <= size:
        return examples
    return examples.iloc[np.sort(np.random.default_rng(seed).choice(len(examples), size, replace=False))]


def _curve(history: list[dict[str, Any]]) -> pd.DataFrame:
    names = {
        "loss": "loss",
        "mean_token_accuracy": "token_accuracy",
        "eval_loss": "validation_loss",
        "eval_mean_token_accuracy": "validation_token_accuracy",
        "learning_rate": "learning_rate",
    }
    rows: dict[int, dict[str, Any]] = {}
    for entry in history:
        row = {column: entry[name] for name, column in names.items() if name in entry}
        if row:
            rows.setdefault(entry["step"], {"step": entry["step"]}).update(row)
    return pd.DataFrame([rows[step] for step in sorted(rows)], columns=list(CURVE))
