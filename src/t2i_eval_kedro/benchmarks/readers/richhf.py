"""RichHF-18K (Liang et al., CVPR 2024): four scores and two heat maps of images from Pick-a-Pic v1, in TFRecord files.

``train.tfrecord``, ``dev.tfrecord`` and ``test.tfrecord`` hold, for each image, ``filename``, the scores ``artifact_score``,
``misalignment_score``, ``aesthetics_score`` and ``overall_score`` (the mean of three annotators, 0 to 1, higher is better), the heat maps
``artifact_map`` and ``misalignment_map`` (encoded grey images, 512 x 512, 0 to 255) and ``prompt_misalignment_label`` (a 0 or 1 for each
token of the prompt). The authors ship neither images nor prompts. Bring those of Pick-a-Pic in a form of ours: the images in ``images/``
under the name in ``filename``, or its last part; the prompts in ``prompts.csv`` with the columns filename and prompt, or each in a text
file beside its image.

The artifact map stands in the image store under `schema.mask_key`, as grey levels; the attribute ``mask`` of the items says so.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from t2i_eval_kedro.benchmarks.base import Benchmark, Builder, Dimension
from t2i_eval_kedro.benchmarks.files import contained, read_text
from t2i_eval_kedro.benchmarks.tfrecord import Feature, read_examples
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.schema import HEAT, mask_key

SPLITS = ("train", "dev", "test")
STRUCTURE = Dimension("structure", 0, 1, "how plausible the image is and how free of artifacts")
DIMENSIONS = {
    "artifact_score": STRUCTURE,
    "misalignment_score": Dimension("alignment", 0, 1, "how well the image matches the prompt"),
    "aesthetics_score": Dimension("aesthetics", 0, 1, "how pleasing the image is to look at"),
    "overall_score": Dimension("overall", 0, 1, "how good the image is overall"),
}
GENERATOR = "unknown"

Images = Callable[[], Iterator[tuple[str, bytes]]]


def read(raw: Path) -> Benchmark:
    """Read the TFRecord files that are there, and the images and prompts beside them.

    Raises:
        T2IEvalError: there is no such file, or one is damaged.
    """
    out = Builder(
        "richhf", "RichHF-18K", "see the authors' repository; images: Pick-a-Pic v1", tuple(DIMENSIONS.values())
    )
    files = [raw / f"{name}.tfrecord" for name in SPLITS if (raw / f"{name}.tfrecord").is_file()]
    if not files:
        raise T2IEvalError(
            f"There is no {', '.join(f'{name}.tfrecord' for name in SPLITS)} in {raw}; fetch the authors' files."
        )
    prompts = _prompts(raw)
    place_of: dict[str, tuple[Path, int]] = {}
    for file in files:
        for number, example in enumerate(read_examples(file)):
            where = f"{file.name}, record {number}"
            name = _text(example, "filename")
            prompt = prompts.get(name) or prompts.get(PurePosixPath(name).name) or _beside(raw, name)
            attributes = {
                "split": file.stem,
                "mask": HEAT,
                "prompt_misalignment_label": _text(example, "prompt_misalignment_label"),
            }
            if not out.item(name, out.prompt_id(prompt), prompt, GENERATOR, where, attributes):
                continue
            relative = next(
                (path for path in (f"images/{name}", f"images/{PurePosixPath(name).name}") if _is_file(raw, path)),
                f"images/{name}",
            )
            out.image(name, raw, relative, key=name)
            for field, dimension in DIMENSIONS.items():
                out.rating(name, "mean", dimension, next(iter(example.get(field, [])), None), where, n_raters=3)
            place_of[name] = (file, number)
    benchmark = out.build()
    benchmark.images = _with_heat_maps(benchmark.images, place_of, files)
    return benchmark


def heat_map(data: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The grey levels (height, width) of an encoded heat map."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("L"))


def _with_heat_maps(images: Images, place_of: dict[str, tuple[Path, int]], files: list[Path]) -> Images:
    """Each image of ``images``, followed by its artifact map; the files are read once more, one record at a time."""

    def both() -> Iterator[tuple[str, bytes]]:
        kept = set()
        for key, data in images():
            kept.add(key)
            yield key, data
        for file in files:
            for number, example in enumerate(read_examples(file)):
                name = _text(example, "filename")
                if name in kept and place_of[name] == (file, number):
                    stored = io.BytesIO()
                    Image.fromarray(heat_map(_blob(example, "artifact_map", f"{file.name}, record {number}"))).save(
                        stored, "PNG"
                    )
                    yield mask_key(name), stored.getvalue()

    return both


def _prompts(raw: Path) -> dict[str, str]:
    path = raw / "prompts.csv"
    if not path.is_file():
        return {}
    rows = csv.DictReader(io.StringIO(read_text(path)))
    if not {"filename", "prompt"} <= set(rows.fieldnames or ()):
        raise T2IEvalError(f"{path} needs the columns filename and prompt; it has {', '.join(rows.fieldnames or ())}.")
    return {row["filename"]: row["prompt"] or "" for row in rows}


def _beside(raw: Path, name: str) -> str:
    """The prompt in the text file beside an image, or "" where there is none."""
    for relative in dict.fromkeys((name, PurePosixPath(name).name)):
        text = f"images/{PurePosixPath(relative).with_suffix('.txt')}" if relative else ""
        if _is_file(raw, text):
            return read_text(raw / text).strip()
    return ""


def _is_file(raw: Path, relative: str) -> bool:
    try:
        return contained(raw, relative).is_file()
    except ValueError:
        return False


def _text(example: dict[str, Feature], name: str) -> str:
    value = next(iter(example.get(name, [])), b"")
    return value.decode(errors="replace") if isinstance(value, bytes) else ""


def _blob(example: dict[str, Feature], name: str, where: str) -> bytes:
    value = next(iter(example.get(name, [])), None)
    if not isinstance(value, bytes):
        raise T2IEvalError(f"The {where} has no {name}; fetch the file again.")
    return value
