"""How well models of structural faults find them and score them: the challenge's figures with intervals, by what was seen in training,
by family and size of the fault.

Regions are compared one to one (mode ``corrected`` of :mod:`t2i_eval_kedro.agreement.regions`) unless a figure is named official. Intervals resample whole
prompts; differences between two models are of the same resamples.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from t2i_eval_kedro.agreement.regions import (
    MIN_IOU,
    SIDE,
    STRUCTURE_WEIGHTS,
    ImageRegions,
    Mask,
    combine,
    compare_image,
    iou_table,
    label_regions,
    resize_mask,
)
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.statistics.bootstrap import resample_counts
from t2i_eval_kedro.statistics.estimates import Json, bootstrap_estimate, round_or_none
from t2i_eval_kedro.statistics.heat_maps import heat_map_figures
from t2i_eval_kedro.statistics.sensitivity import weight_sweep

FIGURES = ("F1_Score", "GIoU", "SRCC", "PLCC", "Final_Score")
SIZES = (("small", 0.005), ("medium", 0.02), ("large", 1.0))
"""Fault sizes and the largest share of the picture of each; ours."""
SMALLEST = 150.0  # pixels of 512 x 512 of a region that counts, as in the official script's truth


@dataclass(frozen=True)
class JudgedImage:
    """What a model said about one image, and what is true.

    Attributes:
        item_id: the item.
        prompt: what intervals resample.
        seen: whether its generator has images in training, so that its families of faults do.
        families: the planted families of faults, where they are known.
        score: people's mean score.
        predicted_score: the model's.
        mask: true mask (height, width).
        predicted_mask: the model's, of the same size.
        heat: the model's heat map; None leaves the image out of the figures of heat maps.
    """

    item_id: str
    prompt: str
    seen: bool
    families: tuple[str, ...]
    score: float
    predicted_score: float
    mask: Mask
    predicted_mask: Mask
    heat: npt.NDArray[Any] | None = None


@dataclass
class _Compared:
    """The images of one model, compared."""

    images: list[JudgedImage] = field(default_factory=list)
    regions: list[ImageRegions] = field(default_factory=list)
    official: list[ImageRegions] = field(default_factory=list)


def summarise_structure(
    judged: Mapping[str, Iterable[JudgedImage]], n_resamples: int, confidence: float, seed: int
) -> Json:
    """The summary of several models on the same images.

    Args:
        judged: model -> its images.
        n_resamples: bootstrap resamples of the prompts.
        confidence: confidence level of the intervals.
        seed: random seed of the resamples.

    Returns:
        ``models``: model -> ``strata`` (``seen`` and ``unseen`` families, and ``all``: `FIGURES` with intervals, ``n``, ``n_prompts``), ``official``
        (the published script's figures over all images), ``heat_maps``, ``families`` and ``sizes`` (how many true faults were found);
        ``differences``: one entry a pair of models and stratum; ``weights``: which weights of the final score change the best model.

    Raises:
        T2IEvalError: there is no model, or the models judged different images.
    """
    compared = {name: _compare(images) for name, images in judged.items()}
    names = {name: [image.item_id for image in one.images] for name, one in compared.items()}
    if not compared or any(ids != next(iter(names.values())) for ids in names.values()):
        raise T2IEvalError(
            "The models of structure did not judge the same images; run the pipeline structure for all of them again."
        )
    first = next(iter(compared.values())).images
    strata = {
        "seen": np.array([image.seen for image in first]),
        "unseen": np.array([not image.seen for image in first]),
        "all": np.ones(len(first), bool),
    }
    strata = {
        name: rows for name, rows in strata.items() if rows.any() and (name != "all" or len(set(strata["seen"])) == 2)
    } or {"all": strata["all"]}
    models: Json = {name: {"strata": {}} | _details(one) for name, one in compared.items()}
    differences = []
    for stratum, rows in strata.items():
        resampled = {name: _resample(one, rows, n_resamples, seed) for name, one in compared.items()}
        n_prompts = len({image.prompt for image, kept in zip(first, rows, strict=True) if kept})
        for name, values in resampled.items():
            figures = {f: bootstrap_estimate(values[f], confidence, n_prompts) for f in FIGURES}
            models[name]["strata"][stratum] = {"n": int(rows.sum()), "n_prompts": n_prompts, "figures": figures}
        for a, b in combinations(resampled, 2):
            entry: Json = {"a": a, "b": b, "stratum": stratum}
            for f in FIGURES:
                entry[f] = bootstrap_estimate(resampled[a][f] - resampled[b][f], confidence, n_prompts)
            differences.append(entry)
    parts = tuple(STRUCTURE_WEIGHTS)
    stratum = next(iter(strata))
    entries = {
        name: [model["strata"][stratum]["figures"][part]["value"] for part in parts] for name, model in models.items()
    }
    complete = {name: values for name, values in entries.items() if None not in values}
    weights = weight_sweep(complete, parts, [STRUCTURE_WEIGHTS[part] for part in parts]) if complete else None
    return {"models": models, "differences": differences, "weights": weights and {"stratum": stratum} | weights}


def _compare(images: Iterable[JudgedImage]) -> _Compared:
    out = _Compared()
    for image in images:
        out.images.append(image)
        out.regions.append(compare_image(image.mask, image.predicted_mask, "corrected"))
        out.official.append(compare_image(image.mask, image.predicted_mask, "as_published"))
    return out


def _resample(
    one: _Compared, rows: npt.NDArray[np.bool_], n_resamples: int, seed: int
) -> dict[str, npt.NDArray[np.float64]]:
    """Each figure of the images in ``rows``, (1 + n_resamples,): as they are, then with prompts drawn again."""
    chosen = np.flatnonzero(rows)
    codes = np.unique([one.images[k].prompt for k in chosen], return_inverse=True)[1]
    counts = np.concatenate(
        [np.ones((1, codes.max() + 1), np.int64), resample_counts(int(codes.max()) + 1, n_resamples, seed)]
    )
    scores = np.array([one.images[k].predicted_score for k in chosen])
    gold = np.array([one.images[k].score for k in chosen])
    out: dict[str, list[float]] = {name: [] for name in FIGURES}
    for drawn in counts:
        again = np.repeat(np.arange(len(chosen)), drawn[codes])
        figures = combine([one.regions[chosen[k]] for k in again], scores[again], gold[again], "corrected")
        for name in FIGURES:
            out[name].append(np.nan if figures[name] is None else figures[name])
    return {name: np.array(values) for name, values in out.items()}


def _details(one: _Compared) -> Json:
    """Official figures, heat maps, and how many true faults were found by family and size."""
    scores, gold = (np.array([getattr(image, name) for image in one.images]) for name in ("predicted_score", "score"))
    try:
        official = combine(one.official, scores, gold, "as_published")
    except T2IEvalError as error:
        official = {"reason": str(error)}
    heat = [(image.mask > 0, image.heat) for image in one.images if image.heat is not None]
    families: dict[str, list[bool]] = {}
    sizes: dict[str, list[bool]] = {name: [] for name, _ in SIZES}
    for image in one.images:
        for share, hit in found_faults(image.mask, image.predicted_mask):
            sizes[next(name for name, most in SIZES if share <= most)].append(hit)
            if len(image.families) == 1:
                families.setdefault(image.families[0], []).append(hit)
    return {
        "official": {
            name: value if isinstance(value, str) else round_or_none(np.nan if value is None else value)
            for name, value in official.items()
        },
        "heat_maps": heat_map_figures(heat) if heat else None,
        "families": {
            name: {"n": len(hits), "found": round(float(np.mean(hits)), 6)} for name, hits in sorted(families.items())
        },
        "sizes": {
            name: {"n": len(hits), "found": round(float(np.mean(hits)), 6)} for name, hits in sizes.items() if hits
        },
        "false_alarms": {
            "n": sum(not image.mask.any() for image in one.images),
            "marked": sum(
                bool(r.predicted) for r, image in zip(one.regions, one.images, strict=True) if not image.mask.any()
            ),
        },
    }


def found_faults(mask: Mask, predicted: Mask) -> list[tuple[float, bool]]:
    """Each true fault's share of the picture, and whether a predicted region overlaps it by more than the challenge's IoU."""
    true = label_regions(resize_mask((mask > 0).astype(np.uint8)), SMALLEST)
    marked = label_regions(resize_mask((predicted > 0).astype(np.uint8)), SMALLEST)
    hit = np.asarray(iou_table(marked, true) > MIN_IOU).any(axis=0).reshape(-1)
    areas = np.bincount(true.ravel())[1:] / SIDE**2
    return [(float(area), bool(one)) for area, one in zip(areas, hit, strict=True)]


def pick_cases(images: Sequence[JudgedImage], n: int) -> dict[str, list[JudgedImage]]:
    """The ``n`` best hits (highest IoU of a faulty image), worst misses (lowest, the larger fault first) and false alarms of a model."""
    rows = []
    for image in images:
        a, b = image.mask > 0, image.predicted_mask > 0
        either = int((a | b).sum())
        rows.append((int((a & b).sum()) / either if either else 1.0, int(a.sum()), int(b.sum()), image))
    faulty = [row for row in rows if row[1]]
    sound = [row for row in rows if not row[1] and row[2]]
    return {
        "best hits": [row[3] for row in sorted(faulty, key=lambda row: (-row[0], row[3].item_id))[:n]],
        "worst misses": [row[3] for row in sorted(faulty, key=lambda row: (row[0], -row[1], row[3].item_id))[:n]],
        "false alarms": [row[3] for row in sorted(sound, key=lambda row: (-row[2], row[3].item_id))[:n]],
    }
