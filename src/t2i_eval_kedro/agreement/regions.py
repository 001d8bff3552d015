"""NTIRE 2025, track 2: which regions of an image are flawed, compared region by region.

Three computations stand side by side (`STRUCTURE_MODES`): ``as_published`` repeats the organisers' script, ``one_to_one`` is the same
with each region matched to one region of the other side at most, and ``corrected`` mends everything that is wrong with it.

The released script finds regions with OpenCV's external contours. The same regions and areas come out of connected
components here: a region is an 8-connected component with its holes filled, and the area inside the polygon through its
border pixels' centres counts, over all 2 x 2 cells of pixels, 1 where all four are in the region and 1/2 where three
are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
from scipy import ndimage, optimize

from t2i_eval_kedro.agreement.challenge import figures_or_null
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

StructureMode = Literal["as_published", "one_to_one", "corrected"]
STRUCTURE_MODES: tuple[StructureMode, ...] = get_args(StructureMode)

Mask = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int32]
Labels = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Flaws:
    """One image: its quality score, and its mask ``(height, width)``, above 0 where the image is flawed.

    In a submission, a mask that is missing is None and a score that is missing NaN; only the corrected computation takes them.
    """

    score: float
    mask: Mask | None


def resize_mask(mask: Mask, height: int = SIDE, width: int = SIDE) -> Mask:
    """Bilinear resize as OpenCV does it for uint8: pixel centres aligned, edges repeated, in its fixed-point
    arithmetic.

    Weights are multiples of 1/2048, and each of the two rows is cut to a quarter of a grey level before they are added:
    on a mask of 0 and 1 that decides single pixels at the rim.
    """
    if mask.shape == (height, width):
        return mask
    left, right, share = _neighbours(mask.shape[1], width)
    grey = mask.astype(np.int32)
    across = (grey[:, left] * (2048 - share) + grey[:, right] * share) >> 4
    above, below, share = _neighbours(mask.shape[0], height)
    rows = (((2048 - share)[:, None] * across[above]) >> 16) + ((share[:, None] * across[below]) >> 16)
    return ((rows + 2) >> 2).astype(np.uint8)


def _neighbours(old: int, new: int) -> tuple[Indices, Indices, Indices]:
    """The two old positions that each new one lies between, and the second one's weight in units of 1/2048."""
    place = (np.arange(new) + 0.5) * (old / new) - 0.5
    low = np.floor(place).astype(np.int32)
    share = np.rint((place - low) * 2048).astype(np.int32)
    return np.clip(low, 0, old - 1), np.clip(low + 1, 0, old - 1), share


def regions(mask: Mask, min_area: float) -> list[npt.NDArray[np.bool_]]:
    """The filled regions of ``mask`` whose polygon is larger than ``min_area`` pixels."""
    labels = label_regions(mask, min_area)
    return [labels == k for k in range(1, int(labels.max(initial=0)) + 1)]


def label_regions(mask: Mask, min_area: float) -> Labels:
    """The regions of ``mask``, its holes filled, whose polygon is larger than ``min_area`` pixels.

    Returns:
        An array of the mask's shape: 1 to the number of regions within them, 0 outside.
    """
    out: Labels = np.zeros(mask.shape, np.int32)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return out
    place = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    # The background from which the rim can be reached is outside; any other is a hole.
    background, _ = ndimage.label(np.pad(mask[place] == 0, 1, constant_values=True))
    labels, _ = ndimage.label((background != background[0, 0])[1:-1, 1:-1], structure=np.ones((3, 3)))
    number = 0
    for k, crop in enumerate(ndimage.find_objects(labels), start=1):
        region = labels[crop] == k
        if polygon_area(region) > min_area:
            number += 1
            out[place][crop][region] = number
    return out


def polygon_area(region: npt.NDArray[np.bool_]) -> float:
    """Area of the polygon through the border pixels' centres of a region without holes."""
    pixels = region.astype(np.int8)
    cells = pixels[:-1, :-1] + pixels[1:, :-1] + pixels[:-1, 1:] + pixels[1:, 1:]
    return float((cells == 4).sum() + 0.5 * (cells == 3).sum())


class ImageRegions(NamedTuple):
    """What one image adds to the score: regions of each side, how many of each are matched, and the IoU of the masks."""

    predicted: int
    true: int
    hits: int
    detected: int
    iou: float


def compare_image(
    true_mask: Mask, predicted_mask: Mask | None, mode: StructureMode, area: float = PREDICTED_AREA
) -> ImageRegions:
    """Compare the regions of one image.

    Args:
        true_mask: mask of any size; other sizes than 512 x 512 are resized.
        predicted_mask: likewise; None where the submission has none, which is an empty mask.
        mode: see :func:`ntire_structure`.
        area: see :func:`ntire_structure`.
    """
    truth = resize_mask((true_mask > 0).astype(np.uint8))
    if predicted_mask is None:
        predicted_mask = np.zeros((SIDE, SIDE), np.uint8)
    predicted = resize_mask((predicted_mask > 0).astype(np.uint8))
    true_labels = label_regions(truth, area if mode == "corrected" else TRUE_AREA)
    predicted_labels = label_regions(predicted, area)
    table = iou_table(predicted_labels, true_labels)
    if mode == "as_published":
        hits, detected = int((table > MIN_IOU).any(axis=1).sum()), int((table > MIN_IOU).any(axis=0).sum())
    else:
        hits = detected = _one_to_one(table)
    added = 0.0 if mode == "corrected" else 1e-4
    together, either = float(np.sum(predicted & truth)), float(np.sum(predicted | truth))
    iou = (together + added) / (either + added) if either + added else 1.0
    return ImageRegions(table.shape[0], table.shape[1], hits, detected, iou)


def ntire_structure(
    truth: Mapping[str, Flaws],
    submission: Mapping[str, Flaws],
    mode: StructureMode = "as_published",
    area: float = PREDICTED_AREA,
) -> Json:
    """NTIRE 2025, track 2: ``Final_Score = 0.7 F1 + 0.15 PLCC + 0.15 SRCC``.

    As published, predicted regions count above ``area`` pixels and true ones above 150, a region is hit when any region
    of the other side overlaps it with IoU above 0.1 (so one large region can hit many), and ``GIoU`` is the mean IoU of
    the masks with 1e-4 added above and below. One to one, regions are matched one to one (the largest number of pairs, then the
    largest total IoU), and nothing else is changed. Corrected, both sides share the one area limit as well, nothing is added to GIoU
    (1 where both masks are empty), an image that the submission lacks counts as an empty mask, and PLCC and SRCC are over the images
    of both.

    Args:
        truth: image name -> its flaws; the script expects 512 x 512 pixels, masks of other sizes are resized.
        submission: image name -> its flaws; masks of any size.
        mode: ``as_published``, ``one_to_one`` or ``corrected``.
        area: smallest predicted region; 0.0001 x 512 x 512 is the default of the published function, 0.0006 x 512 x 512
            that of its command line.

    Raises:
        T2IEvalError: an image is missing where the mode needs it, or a score is not a number.
    """
    if mode not in STRUCTURE_MODES:
        raise T2IEvalError(f"Unknown mode '{mode}'; choose {', '.join(STRUCTURE_MODES)}.")
    common = [name for name in truth if name in submission]
    if not common or (mode != "corrected" and len(common) < len(truth)):
        lacking = [name for name in truth if name not in submission]
        raise T2IEvalError(
            f"The submission lacks {len(lacking)} images, the first '{lacking[0] if lacking else 'any image'}', where the published "
            "script stops; add them (or use mode corrected)."
        )
    compared = []
    for name, flaws in truth.items():
        predicted = submission[name].mask if name in submission else None
        if flaws.mask is None or (predicted is None and mode != "corrected"):
            raise T2IEvalError(
                f"There is no mask of '{name}'; add it{' (or use mode corrected)' if flaws.mask is not None else ''}."
            )
        compared.append(compare_image(flaws.mask, predicted, mode, area))
    if mode == "corrected":
        common = [name for name in common if not np.isnan(submission[name].score)]
    gold = np.array([truth[name].score for name in common])
    scores = np.array([submission[name].score for name in common])
    return combine(compared, scores, gold, mode)


def combine(compared: Sequence[ImageRegions], scores: Floats, gold: Floats, mode: StructureMode) -> Json:
    """The challenge's figures from the images' regions and their quality scores, as :func:`ntire_structure` describes them.

    Args:
        compared: one entry an image.
        scores: (n,) predicted quality of the images that have one.
        gold: (n,) people's quality of the same images.
        mode: as the images were compared.

    Raises:
        T2IEvalError: a score is not a number, or (but for ``corrected``) a side has no region at all.
    """
    predicted, total, hits, detected = (sum(image[k] for image in compared) for k in range(4))
    precision = hits / predicted if predicted else float("nan")
    recall = detected / total if total else float("nan")
    if mode != "corrected":
        if not predicted or not total:
            side = "submission" if not predicted else "truth"
            raise T2IEvalError(
                f"The {side} has no region at all, where the published script divides by zero (use mode corrected)."
            )
        f1 = 2 * precision * recall / (precision + recall + 1e-10)
    else:
        # No true and no predicted region is right; F1 from counts is defined whenever either side has a region.
        f1 = (hits + detected) / (predicted + total) if predicted + total else 1.0
    if not (np.isfinite(gold).all() and np.isfinite(scores).all()):
        raise T2IEvalError("A quality score is not a finite number; correct it.")
    srcc, plcc = spearman(scores, gold), pearson_logistic(scores, gold)
    parts = {"F1_Score": f1, "PLCC": plcc, "SRCC": srcc}
    final = sum(weight * parts[name] for name, weight in STRUCTURE_WEIGHTS.items())
    figures = {"SRCC": srcc, "PLCC": plcc, "Precision": precision, "Recall": recall, "F1_Score": f1}
    figures |= {"GIoU": float(np.mean([image.iou for image in compared])), "Final_Score": final}
    return figures_or_null(figures, undefined(scores, gold) or "one side has no region at all")


def iou_table(a: Labels, b: Labels) -> Floats:
    """IoU of each region of ``a`` (rows) with each of ``b``; both are as `label_regions` gives them."""
    rows, columns = int(a.max(initial=0)) + 1, int(b.max(initial=0)) + 1
    shared = np.bincount((a * columns + b).ravel(), minlength=rows * columns).reshape(rows, columns)
    either = shared.sum(axis=1, keepdims=True) + shared.sum(axis=0, keepdims=True) - shared
    table: Floats = shared[1:, 1:] / np.maximum(either[1:, 1:], 1)
    return table


def _one_to_one(table: Floats) -> int:
    """The number of pairs of a matching that has as many pairs above the limit as can be."""
    allowed = table > MIN_IOU
    rows, columns = optimize.linear_sum_assignment(np.where(allowed, 1.0 + table / 1e3, 0.0), maximize=True)
    return int(allowed[rows, columns].sum())
