"""EvalMuse-Structure (NTIRE 2025, track 2): structure scores (1 to 5) and marked flaws of three annotators.

A region is a rectangle (type 1, two corners) or a polygon (type 2, its corners clockwise), in pixels of the image. The regions stand in the
attribute ``regions`` of an item, one list an annotator; an empty list says that the annotator saw no flaw. The image store holds, beside each
image, how many annotators marked each pixel, as an 8-bit grey PNG under `schema.mask_key`. How the organisers merge the annotators is not known.

What is odd about a region is counted in the data issues, one line a kind:

| kind | what is done |
|---|---|
| ``region_clipped`` | it reaches over the edge of the image: what lies inside counts |
| ``region_outside`` | it lies outside of the image: excluded |
| ``region_empty`` | it encloses no area: excluded |
| ``region_counterclockwise`` | a polygon against the format's direction: it is the same area |
| ``region_self_intersecting`` | a polygon whose outline crosses itself: all that it encloses counts |
| ``malformed_entry`` | it cannot be drawn: excluded, one line each |
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from t2i_eval_kedro.benchmarks.base import Benchmark, Builder, Dimension, number
from t2i_eval_kedro.benchmarks.files import contained, read_json, records
from t2i_eval_kedro.datasets.image_store import decode
from t2i_eval_kedro.schema import mask_key as mask_key

STRUCTURE = Dimension("structure", 1, 5, "how free the bodies and objects in the image are of structural flaws")
ANNOTATORS = 3
RECTANGLE, POLYGON = 1, 2
GENERATOR = "unknown"
FAR = 1e6  # pixels; no corner is farther from the image, so that Pillow's integers do not overflow
MAX_CORNERS = 2000  # of a polygon; every pair of its sides is compared
ACTIONS = {
    "region_clipped": ("regions reach over the edge of their image", "region kept, cut at the edge"),
    "region_outside": ("regions lie outside of their image", "region excluded"),
    "region_empty": ("regions enclose no area", "region excluded"),
    "region_counterclockwise": ("polygons run counterclockwise", "region kept"),
    "region_self_intersecting": ("polygons cross themselves", "region kept, with all that it encloses"),
}

Region = dict[str, Any]
Images = Callable[[], Iterator[tuple[str, bytes]]]


def read(raw: Path) -> Benchmark:
    """Read ``train_info.json`` and the images in ``images/`` or beside it."""
    out = Builder("evalmuse_structure", "EvalMuse-Structure", "see the authors' data card", (STRUCTURE,))
    file = raw / "train_info.json"
    folder = "images/" if (raw / "images").is_dir() else ""
    marked: dict[str, list[list[Region]]] = {}
    odd = OddRegions()
    required = {"prompt_en": str, "bbox_info": list}
    for where, name, row in records(read_json(file, out.issues), file, required, out.issues):
        if len(row["bbox_info"]) != ANNOTATORS:
            detail = f"{len(row['bbox_info'])} annotators where {ANNOTATORS} belong"
            out.issues.add("rater_count", where, detail, "kept")
        size = _size(raw, folder + name)
        regions = [_usable(listed, where, size, odd, out) for listed in row["bbox_info"]]
        prompt = row["prompt_en"]
        if out.item(name, out.prompt_id(prompt), prompt, GENERATOR, where, {"regions": regions}):
            out.image(name, raw, folder + name, key=name)
            out.rating(name, "mean", STRUCTURE, row.get("mos"), where, n_raters=len(regions))
            marked[name] = regions
    for kind, count in odd.counts.items():
        what, action = ACTIONS[kind]
        out.issues.add(kind, odd.first[kind], f"{count} {what}, the first in {odd.first[kind]}", action, count)
    benchmark = out.build()
    benchmark.images = _with_masks(benchmark.images, marked)
    return benchmark


def marked_counts(regions: Sequence[Sequence[Region]], width: int, height: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """How many annotators marked each pixel.

    Args:
        regions: regions of each annotator; those of one annotator count once where they overlap.
        width: width of the image in pixels.
        height: height of the image in pixels.

    Returns:
        Counts of shape (height, width), 0 to the number of annotators. Outlines belong to their region, and so does all that a
        polygon which crosses itself encloses; what lies outside of the image is cut off.
    """
    counts = np.zeros((height, width), np.uint8)
    for annotator in regions:
        layer = Image.new("1", (width, height))
        for region in annotator:
            corners = [tuple(min(max(point[axis], -FAR), FAR) for axis in "xy") for point in region["bbox"]]
            if region["bbox_type"] == RECTANGLE:
                (x0, y0), (x1, y1) = corners
                box = (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
                ImageDraw.Draw(layer).rectangle(box, fill=1)
            elif crosses_itself(np.array(corners, dtype=float)):
                layer.paste(1, mask=_enclosed(corners, width, height))
            else:
                ImageDraw.Draw(layer).polygon(corners, fill=1, outline=1)
        counts += np.asarray(layer, np.uint8)
    return counts


def signed_area(corners: npt.NDArray[np.float64]) -> float:
    """The area of a polygon in square pixels, positive where its corners (n, 2) run clockwise as seen (y points down)."""
    x, y = corners[:, 0], corners[:, 1]
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) / 2


def crosses_itself(corners: npt.NDArray[np.float64]) -> bool:
    """Whether two sides of the polygon with the ``corners`` (n, 2) cross; sides that only touch do not count."""
    start, end = corners, np.roll(corners, -1, axis=0)

    def side_of(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64], p: npt.NDArray[np.float64]) -> Any:
        return np.sign(
            (b[..., 0] - a[..., 0]) * (p[..., 1] - a[..., 1]) - (b[..., 1] - a[..., 1]) * (p[..., 0] - a[..., 0])
        )

    a, b, c, d = start[:, None], end[:, None], start[None], end[None]
    apart = side_of(a, b, c) * side_of(a, b, d) < 0
    return bool((apart & (side_of(c, d, a) * side_of(c, d, b) < 0)).any())


def _enclosed(corners: Sequence[tuple[float, float]], width: int, height: int) -> Image.Image:
    """All that the outline through ``corners`` encloses, as an image (1 bit) of this size."""
    from scipy import ndimage  # slow to import, and few polygons cross themselves

    # Drawn with room around the image, so that what is cut off still closes the outline.
    inside = [(min(max(x, -width), 2 * width), min(max(y, -height), 2 * height)) for x, y in corners]
    canvas = Image.new("1", (3 * width + 2, 3 * height + 2))
    shifted = [(x + width, y + height) for x, y in inside]
    ImageDraw.Draw(canvas).polygon(shifted, fill=1, outline=1)
    filled = ndimage.binary_fill_holes(np.asarray(canvas))
    return Image.fromarray(filled[height : 2 * height, width : 2 * width])


@dataclass
class OddRegions:
    """How many regions are odd, and where the first of each kind is."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, kind: str, where: str) -> None:
        """Count one region of the ``kind``, a name of `ACTIONS`."""
        self.counts[kind] += 1
        self.first.setdefault(kind, where)

    def keeps(self, region: Region, size: tuple[int, int] | None, where: str) -> bool:
        """Count what is odd about ``region``, and say whether it marks anything in an image of this ``size`` (None: not known)."""
        corners = np.array([(point["x"], point["y"]) for point in region["bbox"]], dtype=float)
        polygon = region["bbox_type"] == POLYGON
        low, high = corners.min(axis=0), corners.max(axis=0)
        crossing = polygon and crosses_itself(corners)
        area = signed_area(corners) if polygon else float(np.prod(high - low))
        if area == 0 and not crossing:
            self.add("region_empty", where)
            return False
        if size is not None:
            if (high < 0).any() or (low >= size).any():
                self.add("region_outside", where)
                return False
            if (low < 0).any() or (high > size).any():
                self.add("region_clipped", where)
        if crossing:
            self.add("region_self_intersecting", where)
        elif polygon and area < 0:
            self.add("region_counterclockwise", where)
        return True


def _size(raw: Path, relative: str) -> tuple[int, int] | None:
    """Width and height of the upright image in a file, or None where it cannot be read (`Builder` says why)."""
    try:
        with Image.open(contained(raw, relative)) as image:
            turned = image.getexif().get(0x0112, 1) >= 5
            return image.size[::-1] if turned else image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _usable(listed: object, where: str, size: tuple[int, int] | None, odd: OddRegions, out: Builder) -> list[Region]:
    """The regions of one annotator that mark something; the others are counted."""
    regions: list[Region] = []
    for region in listed if isinstance(listed, list) else []:
        kind = region.get("bbox_type") if isinstance(region, dict) else None
        points = region.get("bbox") if isinstance(region, dict) else None
        corners = [
            {axis: number(point.get(axis)) for axis in "xy"}
            for point in (points if isinstance(points, list) else [])
            if isinstance(point, dict)
        ]
        enough = len(corners) == 2 if kind == RECTANGLE else kind == POLYGON and 3 <= len(corners) <= MAX_CORNERS
        if not enough or any(value is None for corner in corners for value in corner.values()):
            out.issues.add("malformed_entry", where, f"region {region!r:.80} cannot be drawn", "region excluded")
        elif odd.keeps(whole := {"bbox_type": kind, "bbox": corners}, size, where):
            regions.append(whole)
    if not isinstance(listed, list):
        out.issues.add(
            "malformed_entry", where, f"an annotator's regions are {listed!r:.80}, not a list", "kept as no region"
        )
    return regions


def _with_masks(images: Images, marked: dict[str, list[list[Region]]]) -> Images:
    """Follow each image of ``images`` with its mask."""

    def both() -> Iterator[tuple[str, bytes]]:
        for key, data in images():
            yield key, data
            counts = marked_counts(marked[key], *decode(data).size)
            out = io.BytesIO()
            Image.fromarray(counts).save(out, "PNG")
            yield mask_key(key), out.getvalue()

    return both
