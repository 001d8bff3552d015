"""What coarse labels cost, and whether the mask helps the score: one network trained on several kinds of labels, over seeds.

A cell is one variant with one seed. Its result is one table of images, from which every figure and interval is computed in the end, so that a study that
was cut off resumes with the cells that are missing.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field

from t2i_eval_kedro.agreement.regions import ImageRegions, combine, compare_image
from t2i_eval_kedro.agreement.structure import FIGURES
from t2i_eval_kedro.config import merge
from t2i_eval_kedro.datasets.atomic import atomic_file
from t2i_eval_kedro.datasets.image_store import ImageStore
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.models.settings import Settings
from t2i_eval_kedro.models.structure.settings import Architecture, StructureSettings
from t2i_eval_kedro.statistics.bootstrap import resample_counts
from t2i_eval_kedro.statistics.estimates import Json, bootstrap_estimate

_REGIONS = ImageRegions._fields


class StudySettings(Settings):
    """A study of one network.

    Attributes:
        architecture: the network.
        variants: variant -> what it changes in the settings ``structure``; the first is what the others are compared with.
        seeds: seeds of each variant.
        n_resamples: bootstrap resamples of the prompts.
        confidence: confidence level of the intervals.
    """

    architecture: Architecture
    variants: dict[str, dict[str, Any]] = Field(min_length=1)
    seeds: tuple[int, ...] = Field(min_length=1)
    n_resamples: int = Field(ge=50)
    confidence: float = Field(gt=0, lt=1)


def run_study(
    examples: pd.DataFrame,
    images: ImageStore,
    structure: Mapping[str, Any],
    study: StudySettings,
    folder: Path,
    report: Callable[[str], None],
) -> Json:
    """Run the cells that are missing in ``folder`` and measure all of them.

    Args:
        examples: the table of `structure_examples`.
        images: images and masks.
        structure: the settings ``structure``, as plain values.
        study: the study.
        folder: folder of the study's results.
        report: gets a line before each cell.

    Returns:
        ``variants``: variant -> stratum -> figure -> estimate, the mean over seeds; ``differences``: each variant minus the first.

    Raises:
        T2IEvalError: a variant changes a setting that there is not.
    """
    cells: dict[str, list[pd.DataFrame]] = {}
    for variant, changes in study.variants.items():
        try:
            settings = StructureSettings.model_validate(merge(structure, changes))
        except ValueError as error:
            raise T2IEvalError(f"Variant '{variant}' of the structure study is not valid: {error}") from error
        for seed in study.seeds:
            seeded = settings.model_copy(update={"seed": settings.seed + seed})
            cells.setdefault(variant, []).append(
                _cell(examples, images, study.architecture, seeded, folder / variant / f"seed_{seed}", report)
            )
    return measure_study(cells, study)


def _cell(
    examples: pd.DataFrame,
    images: ImageStore,
    architecture: Architecture,
    settings: StructureSettings,
    folder: Path,
    report: Callable[[str], None],
) -> pd.DataFrame:
    """The table of one cell: read where it was made from the same settings and data, else made."""
    from t2i_eval_kedro.training.structure.train import train_structure

    described = settings.model_dump(mode="json", exclude={"features", "threads", "save_steps", "logging_steps"})
    data = int(pd.util.hash_pandas_object(examples, index=False).sum())
    stamp = hashlib.sha256(json.dumps([architecture, described, data], sort_keys=True).encode()).hexdigest()
    table, mark = folder / "images.parquet", folder / "settings.sha256"
    if table.is_file() and mark.is_file() and mark.read_text(encoding="utf-8") == stamp:
        return pd.read_parquet(table)
    report(f"Training {architecture}, {folder.parent.name}, {folder.name}")
    model = folder / "model"
    shutil.rmtree(model, ignore_errors=True)
    train_structure(examples, images, architecture, settings, model, checkpoint_dir=folder / "checkpoints")
    rows = judge_images(model, examples, images, device=settings.device)
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(table) as path:
        rows.to_parquet(path)
    with atomic_file(mark) as path:
        path.write_text(stamp, encoding="utf-8")
    return rows


def judge_images(
    model: Path, examples: pd.DataFrame, images: ImageStore, batch_size: int = 32, device: str = "cpu"
) -> pd.DataFrame:
    """One row for each held-out image: what it adds to the region figures, both scores, its prompt, and whether its generator was trained on."""
    from t2i_eval_kedro.models.loading import device_of
    from t2i_eval_kedro.models.structure.model import load_structure
    from t2i_eval_kedro.training.structure.data import true_mask

    loaded = load_structure(model, device_of(device))
    trained_on = set(examples.loc[examples["fold"] == "train", "generator"])
    rows: list[Any] = list(examples[examples["fold"] == "test"].itertuples(index=False))
    out = []
    for start in range(0, len(rows), batch_size):
        batch = rows[start : start + batch_size]
        results = loaded.predict([images.image(row.image) for row in batch], [row.prompt for row in batch], batch_size)
        for row, result in zip(batch, results, strict=True):
            regions = compare_image(true_mask(images, row), result.mask.astype(np.uint8), "corrected")
            known = {"item_id": row.item_id, "prompt": row.prompt, "seen": row.generator in trained_on}
            out.append(known | regions._asdict() | {"score": row.score, "predicted_score": result.score})
    return pd.DataFrame(out)


def measure_study(cells: Mapping[str, list[pd.DataFrame]], study: StudySettings) -> Json:
    """Figures of each variant, the mean over seeds, with intervals that resample prompts and hold the seeds; and differences to the first variant."""
    first = next(iter(cells))
    rows = cells[first][0]
    strata = {"seen": rows["seen"].to_numpy(bool), "unseen": ~rows["seen"].to_numpy(bool)}
    variants: Json = {name: {} for name in cells}
    differences: list[Json] = []
    for stratum, kept in strata.items():
        if not kept.any():
            continue
        chosen = np.flatnonzero(kept)
        codes = np.unique(rows["prompt"].to_numpy()[chosen], return_inverse=True)[1]
        n_prompts = int(codes.max()) + 1
        counts = np.concatenate([np.ones((1, n_prompts), np.int64), resample_counts(n_prompts, study.n_resamples, 0)])
        values = {
            name: np.mean([_figures(table, chosen, codes, counts) for table in tables], axis=0)
            for name, tables in cells.items()
        }
        for name, resampled in values.items():
            variants[name][stratum] = {
                f: bootstrap_estimate(resampled[:, k], study.confidence, n_prompts) for k, f in enumerate(FIGURES)
            }
            if name != first:
                entry: Json = {"a": name, "b": first, "stratum": stratum}
                gap = resampled - values[first]
                differences.append(
                    entry
                    | {f: bootstrap_estimate(gap[:, k], study.confidence, n_prompts) for k, f in enumerate(FIGURES)}
                )
    return {"first": first, "seeds": list(study.seeds), "variants": variants, "differences": differences}


def _figures(
    table: pd.DataFrame, chosen: npt.NDArray[np.int64], codes: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """(resamples, figures) of one cell."""
    regions = [ImageRegions(*row) for row in table[list(_REGIONS)].itertuples(index=False)]
    scores, gold = (table[name].to_numpy(float) for name in ("predicted_score", "score"))
    out = []
    for drawn in counts:
        again = chosen[np.repeat(np.arange(len(chosen)), drawn[codes])]
        figures = combine([regions[k] for k in again], scores[again], gold[again], "corrected")
        out.append([np.nan if figures[name] is None else figures[name] for name in FIGURES])
    return np.array(out)
