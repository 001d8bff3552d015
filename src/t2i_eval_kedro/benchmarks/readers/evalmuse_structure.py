"""EvalMuse-Structure (NTIRE 2025, track 2): structure scores (1 to 5) and marked flaws of three annotators.

A region is a rectangle (type 1, two corners) or a polygon (type 2), in pixels of the image. The regions stand in the
attribute ``regions`` of an item, one list an annotator. The image store holds, beside each image, how many
annotators marked each pixel, as an 8-bit grey PNG under `schema.mask_key`. How the organisers merge the annotators is
not known.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from t2i_eval_kedro.benchmarks.base import Benchmark, Builder, Dimension, number
from t2i_eval_kedro.benchmarks.files import read_json, records
from t2i_eval_kedro.datasets.image_store import decode
from t2i_eval_kedro.schema import mask_key as mask_key

STRUCTURE = Dimension("structure", 1, 5, "how free the bodies and objects in the image are of structural flaws")
ANNOTATORS = 3
RECTANGLE, POLYGON = 1, 2
GENERATOR = "unknown"

Region = dict[str, Any]
Images = Callable[[], Iterator[tuple[str, bytes]]]


def read(raw: Path) -> Benchmark:
    """Read ``train_info.json`` and the images in ``images/`` or beside it."""
    out = Builder("evalmuse_structure", "EvalMuse-Structure", "see the authors' data card", (STRUCTURE,))
    file = raw / "train_info.json"
    folder = "images/" if (raw / "images").is_dir() else ""
    marked: dict[str, list[list[Region]]] = {}
    required = {"prompt_en": str, "bbox_info": list}
    for where, name, row in records(read_json(file, out.issues), file, required, out.issues):
        if len(row["bbox_info"]) != ANNOTATORS:
            detail = f"{len(row['bbox_info'])} annotators where {ANNOTATORS} belong"
            out.issues.add("rater_count", where, detail, "kept")
        regions = [_usable(listed, where, out) for listed in row["bbox_info"]]
        prompt = row["prompt_en"]
        if out.item(name, out.prompt_id(prompt), prompt, GENERATOR, where, {"regions": regions}):
            out.image(name, raw, folder + name, key=name)
            out.rating(name, "mean", STRUCTURE, row.get("mos"), where, n_raters=len(regions))
            marked[name] = regions
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
        Counts of shape (height, width), 0 to the number of annotators. Outlines belong to their region; what lies
        outside of the image is cut off.
    """
    counts = np.zeros((height, width), np.uint8)
    for annotator in regions:
        layer = Image.new("1", (width, height))
        draw = ImageDraw.Draw(layer)
        for region in annotator:
            corners = [(point["x"], point["y"]) for point in region["bbox"]]
            if region["bbox_type"] == RECTANGLE:
                (x0, y0), (x1, y1) = corners
                draw.rectangle((min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)), fill=1)
            else:
                draw.polygon(corners, fill=1, outline=1)
        counts += np.asarray(layer, np.uint8)
    return counts


def _usable(listed: object, where: str, out: Builder) -> list[Region]:
    """The regions of one annotator that can be drawn; the others are noted."""
    regions: list[Region] = []
    for region in listed if isinstance(listed, list) else []:
        kind = region.get("bbox_type") if isinstance(region, dict) else None
        points = region.get("bbox") if isinstance(region, dict) else None
        corners = [
            {axis: number(point.get(axis)) for axis in "xy"}
            for point in (points if isinstance(points, list) else [])
            if isinstance(point, dict)
        ]
        enough = len(corners) == 2 if kind == RECTANGLE else kind == POLYGON and len(corners) >= 3
        if enough and all(value is not None for corner in corners for value in corner.values()):
            regions.append({"bbox_type": kind, "bbox": corners})
        else:
            out.issues.add("malformed_entry", where, f"region {region!r:.80} cannot be drawn", "region excluded")
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
