"""Folders of masks and scores, as submissions to NTIRE 2025's structure track and their truth are brought.

A folder holds ``scores.json`` (``{name: score}``) or ``scores.csv`` (a column of names and a column ``score``) and a mask for each name: a PNG or an
array without objects (``.npy``), called like the image with the ending added or in place of its own, in the folder itself or in ``masks/``. Masks may have any size
and any values: true and false, 0 and 1, 0 and 255, or numbers; what is above 0 is flawed, as in the organisers' script.

What is missing, extra or unreadable is named and counted. A mask is joined to its image by name alone, never by its place in a list, so that one bad
file does not shift the others.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from t2i_eval_kedro.agreement.regions import Flaws, Mask
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.statistics.estimates import Json

MAX_MASK_PIXELS = 64_000_000
NAME_COLUMNS = ("name", "image", "filename", "item_id", "img_path")
ENDINGS = (".png", ".npy")
SHOWN = 5  # names of each kind of problem that are printed


@dataclass
class MaskFolder:
    """What a folder of masks and scores holds.

    Attributes:
        folder: the folder.
        flaws: image name -> score and mask; the mask is None where it is missing or cannot be read.
        problems: kind -> what is wrong, one text for each file or name: ``missing_mask``, ``unreadable_mask``, ``bad_score``, ``extra_mask``.
        sizes: "width x height" -> number of masks.
        values: kind of values ("0 and 1", "0 and 255", "true and false", "several levels", "decimal numbers") -> number of masks.
        n_empty: masks without any flaw.
    """

    folder: Path
    flaws: dict[str, Flaws] = field(default_factory=dict)
    problems: dict[str, list[str]] = field(default_factory=dict)
    sizes: Counter[str] = field(default_factory=Counter)
    values: Counter[str] = field(default_factory=Counter)
    n_empty: int = 0

    def note(self, kind: str, text: str) -> None:
        """Add a problem."""
        self.problems.setdefault(kind, []).append(text)

    def describe(self, names: Iterable[str] | None = None) -> Json:
        """What was read, in counts; and, where the truth's ``names`` are given, which images are missing or extra."""
        out: Json = {
            "images": len(self.flaws),
            "sizes": dict(self.sizes),
            "values": dict(self.values),
            "no_flaw": self.n_empty,
        }
        problems = dict(self.problems)
        if names is not None:
            expected = set(names)
            problems["missing_image"] = sorted(expected - set(self.flaws))
            problems["extra_image"] = sorted(set(self.flaws) - expected)
        listed = {kind: texts for kind, texts in problems.items() if texts}
        return out | {"problems": {kind: {"n": len(texts), "first": texts[:SHOWN]} for kind, texts in listed.items()}}

    def require_complete(self, advice: str) -> None:
        """Refuse a folder in which a mask or a score is missing or unreadable.

        Raises:
            T2IEvalError: names the number and the first of each kind.
        """
        serious = {kind: texts for kind, texts in self.problems.items() if kind != "extra_mask"}
        if serious:
            counts = ", ".join(f"{len(texts)} {kind.replace('_', ' ')}" for kind, texts in serious.items())
            first = next(iter(serious.values()))[0]
            raise T2IEvalError(f"'{self.folder}' has {counts}, the first: {first}; {advice}.")


def read_mask_folder(folder: Path) -> MaskFolder:
    """Read the scores and masks in ``folder``.

    Raises:
        T2IEvalError: the folder or its scores are missing or unreadable as a whole, a name occurs twice or leads out of the folder, or
            two images would share a mask.
    """
    refuse_pickle(folder)
    if not folder.is_dir():
        raise T2IEvalError(
            f"'{folder}' is not a folder; give one with scores.json or scores.csv and a mask <name>.png for each name in it."
        )
    out = MaskFolder(folder)
    used: dict[Path, str] = {}
    for name, raw in _scores(folder):
        if name in out.flaws:
            raise T2IEvalError(f"The scores of '{folder}' list '{name}' twice; keep one score an image.")
        score = _number(raw)
        if score is None:
            out.note("bad_score", f"the score of '{name}' is not a finite number: {raw!r:.60}")
            score = math.nan
        path = _find(folder, name)
        mask: Mask | None = None
        if path is None:
            out.note(
                "missing_mask",
                f"There is no mask '{folder / name}.png'; add it (all zeros where nothing is flawed) or remove '{name}'",
            )
        elif path in used:
            raise T2IEvalError(
                f"'{used[path]}' and '{name}' would share the mask '{path}'; name masks after the whole file name, as in {name}.png."
            )
        else:
            used[path] = name
            mask = _read(path, out)
        out.flaws[name] = Flaws(score, mask)
    if not out.flaws:
        raise T2IEvalError(f"The scores of '{folder}' are empty.")
    for place in (folder, folder / "masks"):
        for path in sorted(place.iterdir()) if place.is_dir() else []:
            if path.suffix in ENDINGS and path not in used:
                out.note("extra_mask", f"'{path.name}' belongs to no image in the scores")
    return out


def refuse_pickle(path: Path) -> None:
    """Refuse a pickle.

    Raises:
        T2IEvalError: ``path`` is one.
    """
    if path.suffix in (".pkl", ".pickle") or (path.is_file() and path.read_bytes()[:1] == b"\x80"):
        raise T2IEvalError(
            f"'{path}' is a pickle, which can run any program when it is read; convert it where you trust it: write "
            "scores.json with {name: score} and each pred_area as <name>.png into one folder."
        )


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        T2IEvalError: it is not there, a pickle, or not JSON.
    """
    if not path.is_file():
        raise T2IEvalError(f"There is no file '{path}'.")
    refuse_pickle(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise T2IEvalError(f"'{path}' is not valid JSON in UTF-8 ({error}).") from error


def _scores(folder: Path) -> list[tuple[str, object]]:
    table = folder / "scores.csv"
    if not table.is_file():
        scores = read_json(folder / "scores.json")
        if not isinstance(scores, dict):
            raise T2IEvalError(f"'{folder / 'scores.json'}' is not a JSON object {{name: score}}.")
        return list(scores.items())
    if (folder / "scores.json").is_file():
        raise T2IEvalError(f"'{folder}' has scores.csv and scores.json; keep one of them.")
    try:
        rows = csv.DictReader(io.StringIO(table.read_text(encoding="utf-8-sig")))
        columns = list(rows.fieldnames or ())
        named = [column for column in NAME_COLUMNS if column in columns]
        if not named or "score" not in columns:
            raise T2IEvalError(
                f"'{table}' needs a column score and one of {', '.join(NAME_COLUMNS)}; it has {', '.join(columns)}."
            )
        return [(row[named[0]] or "", row["score"]) for row in rows]
    except (UnicodeDecodeError, csv.Error) as error:
        raise T2IEvalError(f"'{table}' is not a CSV file in UTF-8 ({error}).") from error


def _number(raw: object) -> float | None:
    if isinstance(raw, bool) or not isinstance(raw, int | float | str):
        return None
    try:
        value = float(raw)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _find(folder: Path, name: str) -> Path | None:
    """The mask of the image ``name``: the whole name comes before the name without its own ending."""
    if not name or "\0" in name or not (folder / f"{name}.png").resolve().is_relative_to(folder.resolve()):
        raise T2IEvalError(f"The name {name!r} leads out of '{folder}'; rename the image.")
    bare = PurePosixPath(name)
    for stem in dict.fromkeys((name, str(bare.with_suffix("")) if bare.name else name)):
        for place in (folder, folder / "masks"):
            for ending in ENDINGS:
                path = place / f"{stem}{ending}"
                if path.is_file() and path.resolve().is_relative_to(folder.resolve()):
                    return path
    return None


def _read(path: Path, out: MaskFolder) -> Mask | None:
    """The mask in a file, 1 where it is flawed; None, and a problem, where it cannot be read."""
    try:
        pixels = _array(path)
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        kind = "PNG" if path.suffix == ".png" else "array"
        out.note("unreadable_mask", f"'{path}' is not a readable {kind} ({error})")
        return None
    out.sizes[f"{pixels.shape[1]} x {pixels.shape[0]}"] += 1
    out.values[_kind_of_values(pixels)] += 1
    mask: Mask = (pixels > 0).astype(np.uint8)
    out.n_empty += not mask.any()
    return mask


def _array(path: Path) -> npt.NDArray[Any]:
    """The values (height, width) in a file.

    Raises:
        ValueError: they are no mask.
    """
    if path.suffix == ".npy":
        pixels = np.load(path, allow_pickle=False, mmap_mode="r")
        if pixels.size > MAX_MASK_PIXELS:
            raise ValueError(f"{pixels.size} values are too many for a mask")
        pixels = np.asarray(pixels)
        if pixels.ndim == 3 and 1 in (pixels.shape[0], pixels.shape[-1]):
            pixels = pixels[0] if pixels.shape[0] == 1 else pixels[..., 0]
    else:
        with Image.open(path, formats=["PNG"]) as image:
            if image.width * image.height > MAX_MASK_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels are too many for a mask")
            pixels = np.asarray(image)
        if pixels.ndim == 3:  # colours: a pixel that is not black
            pixels = pixels[..., :1] if pixels.shape[-1] == 2 else pixels[..., :3]
            pixels = pixels.max(axis=-1)
    if pixels.ndim != 2 or not pixels.size or pixels.dtype.kind not in "buif":
        raise ValueError(f"an array of {pixels.shape} {pixels.dtype} is no mask")
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise ValueError("it holds values that are not numbers")
    values: npt.NDArray[Any] = pixels
    return values


def _kind_of_values(pixels: npt.NDArray[Any]) -> str:
    if pixels.dtype.kind == "b":
        return "true and false"
    top = pixels.max()
    if not ((pixels == 0) | (pixels == top)).all() or pixels.min() < 0:
        return "decimal numbers" if pixels.dtype.kind == "f" else "several levels"
    return "0 and 255" if top == 255 else "0 and 1" if top in (0, 1) else "several levels"
