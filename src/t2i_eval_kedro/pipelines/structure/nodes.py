"""Learns where images are broken, says so about the held-out ones, and measures how right that is."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from PIL import Image

from t2i_eval_kedro.datasets.image_store import ImageStore, decode
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.models.adapters import keep_recipe
from t2i_eval_kedro.models.structure.settings import ARCHITECTURES, Architecture, StructureSettings
from t2i_eval_kedro.pipelines.meta_evaluation.nodes import MetaEvaluationSettings
from t2i_eval_kedro.provenance import recipe
from t2i_eval_kedro.training.launch import StructureJob, run
from t2i_eval_kedro.training.settings import LaunchSettings

if TYPE_CHECKING:
    from t2i_eval_kedro.agreement.structure import JudgedImage

logger = logging.getLogger(__name__)

PREDICTED = ("item_id", "score", "seconds")
BATCH, CASES = 16, 6


def prepare(
    items: pd.DataFrame, ratings: pd.DataFrame, splits: pd.DataFrame, settings: StructureSettings
) -> pd.DataFrame:
    """What there is to learn from; see `training.structure.data.structure_examples`."""
    from t2i_eval_kedro.training.structure.data import structure_examples  # torch is slow to import

    return structure_examples(items, ratings, splits, settings.dimension)


def train(
    architecture: Architecture,
    examples: pd.DataFrame,
    images: ImageStore,
    settings: StructureSettings,
    launch: LaunchSettings,
    seed: int,
    folder: Path,
    parameters: Mapping[str, Any],
) -> tuple[Path, pd.DataFrame, dict[str, float]]:
    """The trained model's folder (moved into place by its dataset), the training curve, and what the training took."""
    start = time.monotonic()
    job = StructureJob(architecture=architecture, settings=settings.model_copy(update={"seed": settings.seed + seed}))
    model, curve = run(job, examples, images, launch, folder)
    keep_recipe(model, recipe(parameters))
    took = {
        "seconds": round(time.monotonic() - start, 1),
        "steps": int(curve["step"].max()) if len(curve) else 0,
        "images": int((examples["fold"] == "train").sum()),
    }
    return model, curve, took


def predict(
    model: Path, examples: pd.DataFrame, images: ImageStore, settings: StructureSettings
) -> tuple[pd.DataFrame, Iterator[tuple[str, bytes]]]:
    """Scores of the held-out images, and their masks (``mask/<image>``) and heat maps (``heat/<image>``), 0 to 255.

    ``seconds`` is what an image took, the mean of its batch, reading and writing left out.
    """
    import torch

    from t2i_eval_kedro.models.loading import device_of
    from t2i_eval_kedro.models.structure.model import load_structure

    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    loaded = load_structure(model, device_of(settings.device))
    rows = list(examples[examples["fold"] == "test"].itertuples(index=False))
    scored: list[tuple[object, float, float]] = []
    masks: list[tuple[str, bytes]] = []
    for start in range(0, len(rows), BATCH):
        batch: list[Any] = rows[start : start + BATCH]
        pictures = [images.image(row.image) for row in batch]
        before = time.perf_counter()
        results = loaded.predict(pictures, [row.prompt for row in batch])
        each = (time.perf_counter() - before) / len(batch)
        for row, result in zip(batch, results, strict=True):
            scored.append((row.item_id, result.score, round(each, 6)))
            masks.append((f"mask/{row.image}", _png(255 * result.mask.astype(np.uint8))))
            masks.append((f"heat/{row.image}", _png(np.rint(255 * result.heat).astype(np.uint8))))
    return pd.DataFrame(scored, columns=list(PREDICTED)), iter(masks)


def measure(
    examples: pd.DataFrame,
    images: ImageStore,
    card: Mapping[str, Any],
    settings: StructureSettings,
    meta: MetaEvaluationSettings,
    **predicted: Any,
) -> tuple[dict[str, Any], str]:
    """The summary of the models that have predicted, and the report.

    Args:
        examples: what was learned from and what was held out.
        images: images and true masks.
        card: data card of the benchmark.
        settings: settings of the training.
        meta: how many resamples, and the confidence level.
        predicted: ``<architecture>_predicted`` and ``<architecture>_masks`` of each model, empty where it has not predicted; and ``<architecture>_time``.

    Raises:
        T2IEvalError: no model has predicted.
    """
    from t2i_eval_kedro.agreement.structure import pick_cases, summarise_structure  # scipy is slow to import
    from t2i_eval_kedro.reporting.structure import build_structure_report  # and so is matplotlib

    judged: dict[str, list[JudgedImage]] = {
        name: judged_images(examples, images, predicted[f"{name}_predicted"], predicted[f"{name}_masks"])
        for name in ARCHITECTURES
        if len(predicted[f"{name}_predicted"])
    }
    if not judged:
        raise T2IEvalError("No model of structure has judged the held-out images; run kedro run --pipelines=structure.")
    summary = {
        "benchmark": card["name"],
        "synthetic": card["synthetic"],
        "dimension": settings.dimension,
        "labels": settings.labels,
        "confidence": meta.confidence,
        "n_resamples": min(meta.n_resamples, 200),
    } | summarise_structure(judged, min(meta.n_resamples, 200), meta.confidence, meta.seed)
    for name in judged:
        table = predicted[f"{name}_predicted"]
        summary["models"][name]["images_per_second"] = round(1 / float(table["seconds"].mean()), 1)
        summary["models"][name]["training"] = predicted[f"{name}_time"] or None
    cases: dict[str, dict[str, Any]] = {
        name: {
            group: [(image, images.image(_image_of(examples, image.item_id))) for image in chosen]
            for group, chosen in pick_cases(of_model, CASES).items()
        }
        for name, of_model in judged.items()
    }
    return summary, build_structure_report(summary, cases)


def judged_images(
    examples: pd.DataFrame, images: ImageStore, predicted: pd.DataFrame, masks: ImageStore
) -> list[JudgedImage]:
    """The images that a model judged, with the truth, in the order of the examples.

    Raises:
        T2IEvalError: the model has not judged an image that is held out.
    """
    from t2i_eval_kedro.agreement.structure import JudgedImage
    from t2i_eval_kedro.training.structure.data import true_mask

    scores = dict(zip(predicted["item_id"], predicted["score"], strict=True))
    trained_on = set(examples.loc[examples["fold"] == "train", "generator"])
    out = []
    row: Any
    for row in examples[examples["fold"] == "test"].itertuples(index=False):
        if row.item_id not in scores:
            raise T2IEvalError(f"There is no prediction for '{row.item_id}'; run the pipeline structure again.")
        mask, heat = (np.asarray(decode(masks.read(f"{kind}/{row.image}")).convert("L")) for kind in ("mask", "heat"))
        out.append(
            JudgedImage(
                item_id=row.item_id,
                prompt=row.prompt,
                seen=row.generator in trained_on,
                families=tuple(name for name in row.families.split(",") if name),
                score=float(row.score),
                predicted_score=float(scores[row.item_id]),
                mask=true_mask(images, row),
                predicted_mask=(mask > 127).astype(np.uint8),
                heat=heat / 255,
            )
        )
    return out


def _image_of(examples: pd.DataFrame, item_id: str) -> str:
    return str(examples.loc[examples["item_id"] == item_id, "image"].iloc[0])


def _png(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()
