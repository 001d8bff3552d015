"""Trains a network of structural faults, and fits its threshold and the line of its score on validation."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from t2i_eval_kedro.agreement.regions import compare_image
from t2i_eval_kedro.datasets.image_store import ImageStore
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.models.loading import fingerprint
from t2i_eval_kedro.models.structure.settings import Architecture, StructureSettings
from t2i_eval_kedro.training.checkpoints import Checkpoints
from t2i_eval_kedro.training.trainers import per_process, train_from, watch

logger = logging.getLogger(__name__)

CURVE = ("step", "loss", "learning_rate")
VALIDATION_IMAGES = 400  # at most; the first ones, for the threshold and the line of the score


def train_structure(
    examples: pd.DataFrame,
    images: ImageStore,
    architecture: Architecture,
    settings: StructureSettings,
    out_dir: Path,
    *,
    checkpoint_dir: Path | None = None,
) -> pd.DataFrame:
    """Train one network on the fold ``train`` and write it to ``out_dir``; the fold ``test`` is not looked at.

    Args:
        examples: the table of :func:`t2i_eval_kedro.training.structure.data.structure_examples`.
        images: images and masks.
        architecture: which network.
        settings: settings of the training.
        out_dir: folder to write, see :func:`t2i_eval_kedro.models.structure.model.save_structure`.
        checkpoint_dir: where checkpoints go; a run that finds those of the same settings and data resumes from the last.

    Returns:
        The training curve, with the columns `CURVE`.

    Raises:
        T2IEvalError: nothing to train on or to validate with, a backbone that cannot be loaded, or a loss that is no number.
    """
    import torch
    from accelerate import PartialState
    from transformers import PrinterCallback, Trainer, TrainingArguments, set_seed

    from t2i_eval_kedro.models.structure.model import StructureModel, load_tokenizer, save_structure, write_learned_from
    from t2i_eval_kedro.models.structure.networks import backbones, build_network
    from t2i_eval_kedro.training.structure.data import Collator, Labels, StructureData, cache_of, fill_cache, in_half

    train, validation = (examples[examples["fold"] == fold] for fold in ("train", "validation"))
    if settings.half is not None:
        train = train[in_half(train["prompt"], settings.half)]
    if train.empty or validation.empty:
        raise T2IEvalError(
            "A model of structure needs images in the folds 'train' and 'validation'; change ingestion.split."
        )
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    chosen = settings.network(architecture)
    state = PartialState()
    batch_size, passes = per_process(chosen.batch_size, chosen.gradient_accumulation_steps, state.num_processes)
    set_seed(settings.seed)
    network = build_network(architecture, chosen)
    on_cpu = settings.device == "cpu" or not torch.cuda.is_available()
    network.to("cpu" if on_cpu else state.device)
    labels = Labels(settings.labels, settings.overlap_levels)
    cache = cache_of(network, backbones(chosen), Path(settings.features))
    shared: dict[str, Any] = {
        "images": images,
        "network": network,
        "labels": labels,
        "cache": cache,
        "seed": settings.seed,
    }
    data = StructureData(train, flip=settings.flip, **shared)
    checks = StructureData(validation.head(VALIDATION_IMAGES), **shared)
    if cache is not None:
        with state.main_process_first():
            computed = fill_cache(data, network, cache) + fill_cache(checks, network, cache)
        logger.info("Computed the frozen features of %d images; others were kept.", computed)
    tokenizer = load_tokenizer(chosen) if network.text else None
    collator = Collator(network, tokenizer, getattr(chosen, "text_prefix", ""))
    checkpoints = Checkpoints(checkpoint_dir, _run_hash(examples, architecture, settings), settings.save_steps)
    with checkpoints as work:
        trainer = Trainer(
            model=network,
            args=TrainingArguments(
                output_dir=str(work),
                use_cpu=on_cpu,
                bf16=settings.precision == "bfloat16" and not on_cpu,
                fp16=settings.precision == "float16" and not on_cpu,
                learning_rate=chosen.learning_rate,
                weight_decay=chosen.weight_decay,
                lr_scheduler_type="cosine",
                warmup_steps=settings.warmup_steps,
                num_train_epochs=chosen.epochs,
                per_device_train_batch_size=batch_size,
                gradient_accumulation_steps=passes,
                dataloader_drop_last=len(data) >= batch_size,
                logging_steps=settings.logging_steps,
                logging_nan_inf_filter=False,
                save_strategy="steps" if settings.save_steps else "no",
                save_steps=settings.save_steps or 500,
                save_total_limit=2,
                seed=settings.seed,
                remove_unused_columns=False,
                label_names=["heat", "score"],
                dataloader_pin_memory=not on_cpu,
                ddp_find_unused_parameters=True,
                report_to="none",
                disable_tqdm=True,
            ),
            train_dataset=data,
            data_collator=collator,
            callbacks=[watch(f"training {architecture}", checkpoint_dir), _tell_share(network)],
        )
        trainer.remove_callback(PrinterCallback)
        start = time.monotonic()
        train_from(trainer, checkpoints.last())
        seconds = time.monotonic() - start
    logger.info("Trained %s %d steps in %.0f s.", architecture, trainer.state.global_step, seconds)
    curve = _curve(trainer.state.log_history)
    if not state.is_main_process:
        return curve
    trained: Any = trainer.accelerator.unwrap_model(trainer.model)
    heats, raw = predict_examples(trained, checks, collator)
    calibration = calibrate(checks, heats, raw, settings.thresholds)
    first = train.iloc[0]
    from t2i_eval_kedro.models.structure.model import VERSION, StructureConfig

    config = StructureConfig(
        version=VERSION,
        architecture=architecture,
        settings=chosen.model_dump(mode="json"),
        fingerprints={field: fingerprint(name) for field, name in backbones(chosen).items()},
        dimension=settings.dimension,
        scale_min=float(first["scale_min"]),
        scale_max=float(first["scale_max"]),
        calibration=calibration,
    )
    out_dir.mkdir(parents=True, exist_ok=True)
    write_learned_from(out_dir, (images.read(key) for key in train["image"]))
    save_structure(StructureModel(trained, config, tokenizer), out_dir)
    checkpoints.clear()
    return curve


def predict_examples(
    network: Any, data: Any, collator: Any, batch_size: int = 16
) -> tuple[list[npt.NDArray[np.float32]], npt.NDArray[np.float64]]:
    """The heat map (at the network's size, 0 to 1) and the raw score of each example."""
    import torch

    network.eval()
    device = next(network.parameters()).device
    heats: list[npt.NDArray[np.float32]] = []
    scores: list[float] = []
    with torch.inference_mode():
        for start in range(0, len(data), batch_size):
            batch = collator([data.example(row) for row in data.rows[start : start + batch_size]])
            for target in ("heat", "score"):
                batch.pop(target)
            moved = {name: _to(value, device) for name, value in batch.items()}
            out = network(**moved)
            heats += list(out["heat"].float().sigmoid().cpu().numpy())
            scores += out["score"].float().cpu().tolist()
    return heats, np.array(scores)


def calibrate(
    data: Any, heats: Sequence[npt.NDArray[np.float32]], raw: npt.NDArray[np.float64], thresholds: Sequence[float]
) -> Any:
    """The threshold with the best region F1 (one to one) on the examples of ``data``, and the least-squares line of the score.

    The targets are those that the network learns, so that coarse labels are not corrected by exact masks that nobody would have.
    Where no threshold gives a right region, the highest is taken.
    """
    from t2i_eval_kedro.models.structure.model import Calibration

    targets = [data.target(row) for row in data.rows]
    best, best_f1 = max(thresholds), 0.0
    lowest = min(data.labels.overlap_levels)
    for threshold in sorted(thresholds):
        counted = [
            compare_image(
                (true >= min(lowest, 0.5)).astype(np.uint8), (heat >= threshold).astype(np.uint8), "corrected"
            )
            for true, heat in zip(targets, heats, strict=True)
        ]
        either = sum(one.predicted + one.true for one in counted)
        f1 = sum(one.hits + one.detected for one in counted) / either if either else 1.0
        if f1 > best_f1:
            best, best_f1 = threshold, f1
    true_scores = np.array([(row.score - row.scale_min) / (row.scale_max - row.scale_min) for row in data.rows])
    slope, offset = np.polyfit(raw, true_scores, 1) if np.ptp(raw) > 1e-9 else (0.0, true_scores.mean())
    logger.info("On validation, threshold %g gives a region F1 of %.3f.", best, best_f1)
    return Calibration(threshold=float(best), slope=float(slope), offset=float(offset))


def _to(value: Any, device: Any) -> Any:
    return {name: one.to(device) for name, one in value.items()} if isinstance(value, dict) else value.to(device)


def _tell_share(network: Any) -> Any:
    """A callback that tells the network which share of the training is over."""
    from transformers import TrainerCallback

    class Share(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            network.set_training_share(state.global_step / max(state.max_steps, 1))

    return Share()


def _run_hash(examples: pd.DataFrame, architecture: Architecture, settings: StructureSettings) -> str:
    """What two trainings that give the same model have in common."""
    others = {"save_steps", "logging_steps", "features", "rahf", "hybrid", "instances"}
    described = {
        "architecture": architecture,
        "settings": settings.model_dump(mode="json", exclude=others),
        "network": settings.network(architecture).model_dump(mode="json"),
        "data": int(pd.util.hash_pandas_object(examples, index=False).sum()),
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def _curve(history: list[dict[str, Any]]) -> pd.DataFrame:
    rows = [{name: entry[name] for name in CURVE} for entry in history if "loss" in entry and "learning_rate" in entry]
    return pd.DataFrame(rows, columns=list(CURVE))
