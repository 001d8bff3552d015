"""Submissions to the NTIRE 2025 text-to-image quality challenge as files: read, scored and compared.

Alignment files are JSON lists of ``{img_path, total_score, element_score}``. A structure side is a folder with ``scores.json``
(``{name: score}``) and one PNG mask per image, ``<name>.png``, in which a pixel that is not 0 is flawed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from t2i_eval_kedro.agreement import challenge, regions
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.statistics.sensitivity import weight_sweep

Track = Literal["alignment", "structure"]
TRACKS: tuple[Track, ...] = ("alignment", "structure")
MAX_MASK_PIXELS = 64_000_000


def score_submissions(track: Track, truth: Path, submissions: Sequence[Path], mode: challenge.Mode) -> dict[str, Any]:
    """The challenge's scores of ``submissions`` against ``truth``.

    Returns:
        For one submission its scores. For several, ``submissions`` (path -> scores) and ``weights``: who wins at which share of
        all weights of the final score, and the nearest weights to the official ones that change the winner.

    Raises:
        T2IEvalError: a file or folder cannot be read, or is a pickle.
    """
    scored: dict[str, dict[str, Any]] = {}
    for path in dict.fromkeys(submissions):
        if track == "alignment":
            scored[str(path)] = challenge.ntire_alignment(_entries(truth), _entries(path), mode)
        else:
            scored[str(path)] = regions.ntire_structure(_flaws(truth), _flaws(path), mode)
    weights = challenge.ALIGNMENT_WEIGHTS if track == "alignment" else regions.STRUCTURE_WEIGHTS
    first, *others = scored.values()
    return {"submissions": scored, "weights": _sweep(scored, weights)} if others else first


def _sweep(scored: Mapping[str, Mapping[str, Any]], weights: Mapping[str, float]) -> dict[str, Any]:
    """The sweep over weights; a submission with an undefined component takes no part and is named."""
    entries = {name: [scores[part] for part in weights] for name, scores in scored.items()}
    complete = {name: values for name, values in entries.items() if None not in values}
    left_out = [name for name in entries if name not in complete]
    if not complete:
        return {"left_out": left_out, "reason": "every submission has an undefined component"}
    return {**weight_sweep(complete, list(weights), list(weights.values())), "left_out": left_out}


def _refuse_pickle(path: Path) -> None:
    if path.suffix in (".pkl", ".pickle") or (path.is_file() and path.read_bytes()[:1] == b"\x80"):
        raise T2IEvalError(
            f"'{path}' is a pickle, which can run any program when it is read; convert it where you trust it: write "
            "scores.json with {name: score} and each pred_area as <name>.png into one folder."
        )


def _json(path: Path) -> Any:
    if not path.is_file():
        raise T2IEvalError(f"There is no file '{path}'.")
    _refuse_pickle(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise T2IEvalError(f"'{path}' is not valid JSON in UTF-8 ({error}).") from error


def _entries(path: Path) -> list[dict[str, Any]]:
    entries = _json(path)
    if not isinstance(entries, list) or not entries:
        raise T2IEvalError(
            f"'{path}' is not a JSON list of images; each needs img_path, total_score and element_score."
        )
    return entries


def _flaws(folder: Path) -> dict[str, regions.Flaws]:
    _refuse_pickle(folder)
    if not folder.is_dir():
        raise T2IEvalError(
            f"'{folder}' is not a folder; give one with scores.json and a mask <name>.png for each name in it."
        )
    scores = _json(folder / "scores.json")
    if not isinstance(scores, dict) or not scores:
        raise T2IEvalError(f"'{folder / 'scores.json'}' is not a JSON object {{name: score}}.")
    out = {}
    for name, score in scores.items():
        if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
            raise T2IEvalError(
                f"The score of '{name}' in '{folder / 'scores.json'}' is not a finite number: {score!r}."
            )
        out[name] = regions.Flaws(float(score), _mask(folder, name))
    return out


def _mask(folder: Path, name: str) -> regions.Mask:
    path = folder / f"{name}.png"
    if "\0" in name or not path.resolve().is_relative_to(folder.resolve()):
        raise T2IEvalError(f"The name {name!r} leads out of '{folder}'; rename the image.")
    if not path.is_file():
        raise T2IEvalError(f"There is no mask '{path}'; add it (all zeros where nothing is flawed) or remove '{name}'.")
    try:
        with Image.open(path, formats=["PNG"]) as image:
            if image.width * image.height > MAX_MASK_PIXELS:
                raise T2IEvalError(f"The mask '{path}' has {image.width} x {image.height} pixels, too many for a mask.")
            pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] = np.asarray(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise T2IEvalError(f"'{path}' is not a readable PNG ({error}).") from error
    flawed = pixels[..., :3].any(axis=-1) if pixels.ndim == 3 else pixels > 0
    return np.asarray(flawed, dtype=np.uint8)
