"""The page of the models of structural faults: their figures, and their best hits and worst misses beside the truth."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from t2i_eval_kedro.agreement.structure import FIGURES, JudgedImage
from t2i_eval_kedro.reporting import pages
from t2i_eval_kedro.reporting.ablations import cell

TITLES = {
    "F1_Score": "Region F1",
    "GIoU": "Mask IoU",
    "SRCC": "Spearman",
    "PLCC": "Pearson (logistic)",
    "Final_Score": "Final",
}
STRATA = {"seen": "Families of faults seen in training", "unseen": "Unseen families", "all": "All held-out images"}
SIDE = 192  # pixels of a picture on the page
TRUE_RGB, PREDICTED_RGB = (0, 150, 60), (220, 30, 90)

Cases = Mapping[str, Mapping[str, Sequence[tuple[JudgedImage, Image.Image]]]]


def build_structure_report(summary: Mapping[str, Any], cases: Cases) -> str:
    """The page as one HTML string, without scripts and without anything to fetch.

    Args:
        summary: as :func:`t2i_eval_kedro.agreement.structure.summarise_structure` gives it, with ``benchmark``, ``synthetic``, ``dimension``, ``labels``
            and ``confidence``.
        cases: model -> group ("best hits", ...) -> images with their pictures.
    """
    templates = pages.environment()
    templates.filters["cell"] = cell
    strata = list(next(iter(summary["models"].values()))["strata"])
    shown = {
        name: {group: [_case(image, picture) for image, picture in chosen] for group, chosen in groups.items()}
        for name, groups in cases.items()
    }
    return templates.get_template("structure.html.jinja").render(
        summary=summary,
        strata=[(name, STRATA[name]) for name in strata],
        figures=[(name, TITLES[name]) for name in FIGURES],
        cases=shown,
    )


def overlay(
    picture: Image.Image, mask: npt.NDArray[Any], color: tuple[int, int, int] = PREDICTED_RGB, strength: float = 0.45
) -> Image.Image:
    """The picture with what ``mask`` (height, width) marks tinted in ``color`` and outlined."""
    marked = np.asarray(mask) > 0
    pixels = np.array(picture.convert("RGB"), dtype=float)
    tinted = (1 - strength) * pixels + strength * np.array(color)
    inner = marked.copy()
    for axis in (0, 1):
        for step in (1, -1):
            inner &= np.roll(marked, step, axis)
    pixels = np.where(marked[..., None], tinted, pixels)
    pixels = np.where((marked & ~inner)[..., None], np.array(color, dtype=float), pixels)
    return Image.fromarray(pixels.astype(np.uint8))


def _case(image: JudgedImage, picture: Image.Image) -> dict[str, Any]:
    return {
        "item_id": image.item_id,
        "families": ", ".join(image.families) or ("none" if not image.mask.any() else "not known"),
        "share": round(100 * float((image.mask > 0).mean()), 2),
        "score": image.score,
        "predicted_score": image.predicted_score,
        "pictures": [
            ("image", _embed(picture)),
            ("truth", _embed(overlay(picture, image.mask, TRUE_RGB))),
            ("model", _embed(overlay(picture, image.predicted_mask))),
        ],
    }


def _embed(picture: Image.Image) -> str:
    small = picture.copy()
    small.thumbnail((SIDE, SIDE))
    out = io.BytesIO()
    small.convert("RGB").save(out, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()
