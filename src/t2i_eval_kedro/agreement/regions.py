"""NTIRE 2025, track 2: which regions of an image are flawed, compared region by region.

The released script finds regions with OpenCV's external contours. The same regions and areas come out of connected
components here: a region is an 8-connected component with its holes filled, and the area inside the polygon through its
border pixels' centres counts, over all 2 x 2 cells of pixels, 1 where all four are in the region and 1/2 where three
are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage, optimize

from t2i_eval_kedro.agreement.challenge import Mode, check_mode, figures_or_null
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.statistics.correlation import pearson_logistic, spearman, undefined
from t2i_eval_kedro.statistics.estimates import Json
from t2i_eval_kedro.statistics.kernels import Floats

SIDE = 512
MIN_IOU = 0.1
PREDICTED_AREA = 0.0006 * SIDE * SIDE
TRUE_AREA = 150.0
STRUCTURE_WEIGHTS = {"F1_Score": 0.7, "PLCC": 0.15, "SRCC": 0.15}
"""Weights of NTIRE 2025's structure track."""

Mask = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Flaws:
    """One image: its quality score, and its mask ``(height, width)``, above 0 where the image is flawed."""

    score: float
    mask: Mask


def resize_mask(mask: Mask, height: int = SIDE, width: int = SIDE) -> Mask:
    """Bilinear resize as OpenCV does it for uint8: pixel centres aligned, edges repeated, in its fixed-point
    arithmetic.

    Weights are multiples of 1/2048, and each of the two rows is cut to a quarter of a grey level before they are added:
    on a mask of 0 and 1 that decides single pixels at the rim.
    """
    if mask.shape == (height, width):
        return mask
    left, right, share = _neighbours(mask.shape[1], width)
    grey = mask.astype(np.int64)
    across = grey[:, left] * (2048 - share) + grey[:, right] * share
    above, below, share = _neighbours(mask.shape[0], height)
    rows = (((2048 - share)[:, None] * (across[above] >> 4)) >> 16) + ((share[:, None] * (across[below] >> 4)) >> 16)
    return ((rows + 2) >> 2).astype(np.uint8)


def _neighbours(old: int, new: int) -> tuple[Indices, Indices, Indices]:
    """The two old positions that each new one lies between, and the second one's weight in units of 1/2048."""
    place = (np.arange(new) + 0.5) * (old / new) - 0.5
    low = np.floor(place).astype(np.int64)
    share = np.rint((place - low) * 2048).astype(np.int64)
    return np.clip(low, 0, old - 1), np.clip(low + 1, 0, old - 1), share


def regions(mask: Mask, min_area: float) -> list[npt.NDArray[np.bool_]]:
    """The filled regions of ``mask`` whose polygon is larger than ``min_area`` pixels."""
    filled = ndimage.binary_fill_holes(mask > 0)
    labels, number = ndimage.label(filled, structure=np.ones((3, 3)))
    candidates = (labels == k for k in range(1, number + 1))
    return [region for region in candidates if polygon_area(region) > min_area]


def polygon_area(region: npt.NDArray[np.bool_]) -> float:
    """Area of the polygon through the border pixels' centres of a region without holes."""
    pixels = region.astype(np.int8)
    cells = pixels[:-1, :-1] + pixels[1:, :-1] + pixels[:-1, 1:] + pixels[1:, 1:]
    return float((cells == 4).sum() + 0.5 * (cells == 3).sum())


def ntire_structure(
    truth: Mapping[str, Flaws],
    submission: Mapping[str, Flaws],
    mode: Mode = "as_published",
    area: float = PREDICTED_AREA,
) -> Json:
    """NTIRE 2025, track 2: ``Final_Score = 0.7 F1 + 0.15 PLCC + 0.15 SRCC``.

    As published, predicted regions count above ``area`` pixels and true ones above 150, a region is hit when any region
    of the other side overlaps it with IoU above 0.1 (so one large region can hit many), and ``GIoU`` is the mean IoU of
    the masks with 1e-4 added above and below. Corrected, both sides share the one area limit, regions are matched one
    to one (the largest number of pairs, then the largest total IoU), nothing is added to GIoU (1 where both masks are
    empty), an image that the submission lacks counts as an empty mask, and PLCC and SRCC are over the images of both.

    Args:
        truth: image name -> its flaws; masks are 512 x 512 pixels.
        submission: image name -> its flaws; masks of any size.
        mode: ``as_published`` or ``corrected``.
        area: smallest predicted region; 0.0001 x 512 x 512 is the default of the published function, 0.0006 x 512 x 512
            that of its command line.

    Raises:
        T2IEvalError: an image is missing where the mode needs it, or a true mask has another size.
    """
    check_mode(mode)
    common = [name for name in truth if name in submission]
    if not common or (mode == "as_published" and len(common) < len(truth)):
        lacking = next((name for name in truth if name not in submission), "any image")
        raise T2IEvalError(
            f"The submission lacks '{lacking}', where the published script stops; add it (or use mode corrected)."
        )
    hits = predicted = detected = total = 0
    overlaps = []
    for name, flaws in truth.items():
        if flaws.mask.shape != (SIDE, SIDE):
            raise T2IEvalError(
                f"The true mask of '{name}' is {flaws.mask.shape}, not {SIDE} x {SIDE} pixels; resize it."
            )
        predicted_mask = np.zeros((SIDE, SIDE), np.uint8)
        if name in submission:
            predicted_mask = resize_mask((submission[name].mask > 0).astype(np.uint8))
        true_regions, predicted_regions = (
            regions(flaws.mask, TRUE_AREA if mode == "as_published" else area),
            regions(predicted_mask, area),
        )
        table = np.array([[_iou(a, b) for b in true_regions] for a in predicted_regions]).reshape(
            len(predicted_regions), len(true_regions)
        )
        if mode == "as_published":
            hits += int((table > MIN_IOU).any(axis=1).sum())
            detected += int((table > MIN_IOU).any(axis=0).sum())
        else:
            pairs = _one_to_one(table)
            hits, detected = hits + pairs, detected + pairs
        predicted, total = predicted + len(predicted_regions), total + len(true_regions)
        overlaps.append(_mask_iou(predicted_mask > 0, flaws.mask > 0, 1e-4 if mode == "as_published" else 0.0))
    precision = hits / predicted if predicted else float("nan")
    recall = detected / total if total else float("nan")
    if mode == "as_published":
        if not predicted or not total:
            side = "submission" if not predicted else "truth"
            raise T2IEvalError(
                f"The {side} has no region at all, where the published script divides by zero (use mode corrected)."
            )
        f1 = 2 * precision * recall / (precision + recall + 1e-10)
    else:
        # No true and no predicted region is right; F1 from counts is defined whenever either side has a region.
        f1 = (hits + detected) / (predicted + total) if predicted + total else 1.0
    gold = np.array([truth[name].score for name in common])
    scores = np.array([submission[name].score for name in common])
    if not (np.isfinite(gold).all() and np.isfinite(scores).all()):
        raise T2IEvalError("A quality score is not a finite number; correct it.")
    srcc, plcc = spearman(scores, gold), pearson_logistic(scores, gold)
    parts = {"F1_Score": f1, "PLCC": plcc, "SRCC": srcc}
    final = sum(weight * parts[name] for name, weight in STRUCTURE_WEIGHTS.items())
    figures = {"SRCC": srcc, "PLCC": plcc, "Precision": precision, "Recall": recall, "F1_Score": f1}
    figures |= {"GIoU": float(np.mean(overlaps)), "Final_Score": final}
    return figures_or_null(figures, undefined(scores, gold) or "one side has no region at all")


def _iou(a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_]) -> float:
    return float((a & b).sum() / (a | b).sum())


def _mask_iou(a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_], added: float) -> float:
    together, either = float((a & b).sum()), float((a | b).sum())
    return (together + added) / (either + added) if either + added else 1.0


def _one_to_one(table: Floats) -> int:
    """Number of pairs of a matching that has as many pairs above the limit as can be."""
    allowed = table > MIN_IOU
    rows, columns = optimize.linear_sum_assignment(np.where(allowed, 1.0 + table / 1e3, 0.0), maximize=True)
    return int(allowed[rows, columns].sum())
