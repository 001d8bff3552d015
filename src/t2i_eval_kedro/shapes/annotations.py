"""What simulated annotators draw around the structural faults of a picture, from its exact mask.

The regions have EvalMuse-Structure's form (``bbox_type`` 1: rectangle, 2: polygon), one list an annotator, so that they become masks by
the same code as those of people. All rules are ours; a mask that was drawn from them costs what coarse labels cost, no more.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Region = dict[str, Any]
LabelKind = Literal["exact", "polygons", "boxes", "sloppy"]

ANNOTATORS = 3
MARGIN = 0.02  # of the picture's side: how far around a fault a polygon is drawn
MISSED = 0.15  # probability that a sloppy annotator leaves a fault out
INVENTED = 0.1  # probability that one marks a place where nothing is wrong
SHIFT = 0.15  # standard deviation of each side of a sloppy box, as a share of the box's size
LOOSENESS = 0.1  # how much a sloppy box is too large on each side, likewise
SMALLEST = 4  # pixels of a component that anyone sees


def annotate(mask: npt.NDArray[np.bool_], kind: LabelKind, rng: np.random.Generator) -> list[list[Region]]:
    """The regions that annotators of the ``kind`` draw.

    Args:
        mask: (height, width), true where the structure is wrong.
        kind: ``polygons`` (one annotator; the convex hull of each fault, `MARGIN` around it), ``boxes`` (one annotator; the exact
            bounding box) or ``sloppy`` (three annotators who miss, invent, shift and enlarge boxes).
        rng: source of what sloppy annotators do.

    Raises:
        ValueError: ``kind`` is ``exact``, which nobody draws, or unknown.
    """
    parts = _components(mask)
    if kind == "polygons":
        return [[_polygon(part, MARGIN * max(mask.shape)) for part in parts]]
    boxes = [_bounds(part) for part in parts]
    if kind == "boxes":
        return [[_rectangle(box) for box in boxes]]
    if kind == "sloppy":
        return [_sloppy(boxes, mask.shape, rng) for _ in range(ANNOTATORS)]
    raise ValueError(f"nobody draws '{kind}' labels; choose polygons, boxes or sloppy")


def _components(mask: npt.NDArray[np.bool_]) -> list[npt.NDArray[np.int64]]:
    """The pixels (n, 2) as (x, y) of each component of ``mask`` that is large enough to be seen."""
    from scipy import ndimage

    labels, number = ndimage.label(mask, structure=np.ones((3, 3)))
    parts = []
    for k, place in enumerate(ndimage.find_objects(labels), start=1):
        rows, columns = np.nonzero(labels[place] == k)
        if len(rows) >= SMALLEST:
            parts.append(np.stack([columns + place[1].start, rows + place[0].start], axis=1))
    assert len(parts) <= number
    return parts


def _bounds(part: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Left, top, right and bottom pixel of a component."""
    return np.concatenate([part.min(axis=0), part.max(axis=0)]).astype(float)


def _rectangle(box: npt.NDArray[np.float64]) -> Region:
    left, top, right, bottom = (round(float(value), 1) for value in box)
    return {"bbox_type": 1, "bbox": [{"x": left, "y": top}, {"x": right, "y": bottom}]}


def _polygon(part: npt.NDArray[np.int64], margin: float) -> Region:
    """The convex hull of a component's pixels, each grown to an octagon of the radius ``margin``."""
    from scipy.spatial import ConvexHull

    turns = np.arange(8) * np.pi / 4
    octagon = margin * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    points = (part[:, None] + octagon).reshape(-1, 2)
    corners = points[ConvexHull(points).vertices]  # counterclockwise with y up, so clockwise as seen
    return {"bbox_type": 2, "bbox": [{"x": round(float(x), 1), "y": round(float(y), 1)} for x, y in corners]}


def _sloppy(boxes: list[npt.NDArray[np.float64]], shape: tuple[int, ...], rng: np.random.Generator) -> list[Region]:
    """What one sloppy annotator draws."""
    height, width = shape[:2]
    drawn = []
    for box in boxes:
        size = np.tile(box[2:] - box[:2] + 1, 2)
        moved = box + size * (SHIFT * rng.normal(size=4) + LOOSENESS * np.array([-1, -1, 1, 1]))
        missed = rng.random() < MISSED
        if not missed and moved[2] > moved[0] and moved[3] > moved[1]:
            drawn.append(_rectangle(moved))
    if rng.random() < INVENTED:
        extent = rng.uniform(0.08, 0.25, 2) * (width, height)
        corner = rng.uniform(0, 1, 2) * ((width, height) - extent)
        drawn.append(_rectangle(np.concatenate([corner, corner + extent])))
    return drawn
