"""``kedro judge --structure``: scores, masks and overlays of a folder of images."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image

from t2i_eval_kedro.agreement.regions import PREDICTED_AREA, label_regions, resize_mask
from t2i_eval_kedro.cli.evaluators import project_root
from t2i_eval_kedro.config import catalog_entries
from t2i_eval_kedro.datasets.atomic import atomic_folder
from t2i_eval_kedro.datasets.image_store import decode
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.files import read_prompts_and_images
from t2i_eval_kedro.judging.project import Project
from t2i_eval_kedro.models.structure.settings import ARCHITECTURES
from t2i_eval_kedro.reporting.tables import count_of

ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
COLUMNS = ("image", "score", "marked", "regions", "error")
TABLE, MASKS, OVERLAYS = RESULT = ("scores.csv", "masks", "overlays")
PREFERRED = ("hybrid", "rahf", "instances")
BATCH = 16


@dataclass(frozen=True)
class _Picture:
    """One image to judge: its name in the output, its file and its prompt."""

    name: str
    path: Path
    prompt: str


def judge_structure(
    pictures: Path,
    out: Path,
    model: Path | None,
    prompt: str | None,
    table: Path | None,
    env: str | None,
    params: Mapping[str, Any],
) -> None:
    """Write ``scores.csv``, ``masks/<image>.png`` and ``overlays/<image>.png`` into the folder ``out``.

    An image that cannot be read has an empty score and the reason under ``error``, and no mask; the others are not touched by it.

    Args:
        pictures: folder of images, or one image.
        out: folder, written whole or not at all, in place of an earlier result.
        model: folder of a trained model; None for that of the experiment.
        prompt: prompt of every image, for a network that reads it.
        table: CSV with the columns prompt and image, whose rows are judged and whose paths start from ``pictures`` where that is a folder.
        env: configuration environment.
        params: parameters of the experiment.

    Raises:
        T2IEvalError: there is no image or no model, or ``out`` is no place for the result (see :func:`check_out`).
    """
    from t2i_eval_kedro.api import load_structure
    from t2i_eval_kedro.reporting.structure import overlay

    chosen = list_pictures(pictures, prompt, table)
    whole = pictures if table is None and pictures.is_dir() else None
    check_out(out, whole, [pictures, *filter(None, (table, model)), *(picture.path for picture in chosen)])
    loaded = load_structure(model if model is not None else experiment_model(env, params))
    rows: list[dict[str, object]] = []
    with atomic_folder(out) as folder:
        for kind in (MASKS, OVERLAYS):
            (folder / kind).mkdir()
        for start in range(0, len(chosen), BATCH):
            readable: list[tuple[_Picture, Image.Image]] = []
            for picture in chosen[start : start + BATCH]:
                try:
                    readable.append((picture, decode(picture.path.read_bytes())))
                except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
                    rows.append({"image": picture.name, "error": f"not a readable image ({error})"})
            results = (
                loaded.predict([image for _, image in readable], [picture.prompt for picture, _ in readable])
                if readable
                else []
            )
            for (picture, image), result in zip(readable, results, strict=True):
                mask = result.mask.astype(np.uint8)
                n_regions = int(label_regions(resize_mask(mask), PREDICTED_AREA).max())
                for kind, drawn in ((MASKS, Image.fromarray(255 * mask)), (OVERLAYS, overlay(image, mask))):
                    target = folder / kind / f"{picture.name}.png"
                    target.parent.mkdir(parents=True, exist_ok=True)
                    drawn.save(target)
                rows.append(
                    {
                        "image": picture.name,
                        "score": result.score,
                        "marked": round(float(mask.mean()), 6),
                        "regions": n_regions,
                        "error": "",
                    }
                )
        order = {picture.name: k for k, picture in enumerate(chosen)}
        with (folder / TABLE).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, restval="")
            writer.writeheader()
            writer.writerows(sorted(rows, key=lambda row: order[str(row["image"])]))
    bad = sum(bool(row["error"]) for row in rows)
    config = loaded.config
    click.echo(
        f"Scores ({config.scale_min:g} to {config.scale_max:g}), masks and overlays of {count_of(len(rows) - bad, 'image')} are in {out}."
    )
    if bad:
        click.echo(f"{bad} of {len(rows)} images could not be read; the column error of scores.csv says why.")
    if bad == len(rows):
        raise T2IEvalError("None of the images could be read.")


def check_out(out: Path, whole: Path | None, inputs: Iterable[Path]) -> None:
    """Check, before anything is judged, that the folder ``out`` can be replaced: it is new, empty or an earlier result.

    Raises:
        T2IEvalError: it has other content, holds one of ``inputs``, or is in ``whole``, a folder of which every image is judged.
    """
    place = out.resolve()
    for path in inputs:
        if path.resolve().is_relative_to(place):
            raise T2IEvalError(
                f"'{out}' would be replaced, and '{path}' is read from it; choose another folder for --out."
            )
    if whole is not None and place.is_relative_to(whole.resolve()):
        raise T2IEvalError(
            f"'{out}' is in '{whole}', and its masks would be judged as images next time; choose a folder elsewhere for --out."
        )
    if out.exists() and (not out.is_dir() or {path.name for path in out.iterdir()} not in (set(), set(RESULT))):
        raise T2IEvalError(
            f"'{out}' is no empty folder and no earlier result ({', '.join(RESULT)} alone); choose another folder for --out."
        )


def list_pictures(pictures: Path, prompt: str | None, table: Path | None) -> list[_Picture]:
    """The images to judge, named by their path below the folder.

    Raises:
        T2IEvalError: there is none, a path leads out of the folder, or an image is listed twice.
    """
    if not pictures.exists():
        raise T2IEvalError(f"There is no file or folder '{pictures}' (--structure).")
    if table is not None:
        rows, notes = read_prompts_and_images(table)
        for note in notes:
            click.echo(note, err=True)
        root = pictures if pictures.is_dir() else pictures.parent
        named = [
            _Picture(str(row["image"]), root / str(row["image"]), str(row["prompt"])) for row in rows.to_dict("records")
        ]
    elif pictures.is_dir():
        files = sorted(path for path in pictures.rglob("*") if path.is_file() and path.suffix.lower() in ENDINGS)
        named = [_Picture(path.relative_to(pictures).as_posix(), path, prompt or "") for path in files]
    else:
        named = [_Picture(pictures.name, pictures, prompt or "")]
    if not named:
        raise T2IEvalError(f"'{pictures}' contains no image ({', '.join(ENDINGS)}).")
    seen: set[str] = set()
    for one in named:
        if one.name in seen:
            raise T2IEvalError(f"'{one.name}' is listed twice in '{table}'; keep one row an image.")
        seen.add(one.name)
        if ".." in Path(one.name).parts or Path(one.name).is_absolute():
            raise T2IEvalError(f"The image '{one.name}' leads out of '{pictures}'; give paths below it.")
    return named


def experiment_model(env: str | None, params: Mapping[str, Any]) -> Path:
    """The folder of the experiment's model of structure: the first of `PREFERRED` that is there.

    Raises:
        T2IEvalError: there is no project here, or no such model.
    """
    root = project_root()
    if root is None:
        raise T2IEvalError("No model is named; give the folder of a trained model of structure with --model.")
    project = Project.open(root, env, params)
    names = [f"structure_{name}_model" for name in PREFERRED]
    entries = catalog_entries(project.config.catalog_of(vars(project.axes)), names)
    folders = [Path(entries[name]["filepath"]) for name in names]
    for folder in folders:
        if folder.is_dir():
            return folder
    assert set(PREFERRED) == set(ARCHITECTURES)
    raise T2IEvalError(
        f"There is no trained model of structure, such as '{folders[0]}'; run kedro run --pipelines=structure, or give --model."
    )
