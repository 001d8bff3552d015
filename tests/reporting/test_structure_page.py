"""The page of the structure models: figures as in the summary, pictures beside the truth, nothing to fetch."""

from __future__ import annotations

import re

import numpy as np
import pytest
from pages import outside
from PIL import Image

from t2i_eval_kedro.agreement.structure import JudgedImage, pick_cases, summarise_structure
from t2i_eval_kedro.reporting.structure import PREDICTED_RGB, build_structure_report, overlay


def test_an_overlay_tints_what_is_marked_and_nothing_else() -> None:
    picture = Image.new("RGB", (20, 10), (100, 100, 100))
    mask = np.zeros((10, 20), bool)
    mask[2:7, 3:9] = True
    pixels = np.asarray(overlay(picture, mask, strength=0.5))
    assert (pixels[~mask] == 100).all()
    assert tuple(pixels[2, 3]) == PREDICTED_RGB  # the outline
    assert pixels[4, 5].tolist() == [(100 + value) // 2 for value in PREDICTED_RGB]


@pytest.fixture(scope="module")
def page() -> str:
    rng = np.random.default_rng(0)
    judged = []
    for k in range(12):
        mask = np.zeros((64, 64), np.uint8)
        if k % 4:
            mask[10:30, 10:30] = 1
        judged.append(
            JudgedImage(
                f"<item> {k}",
                f"p{k}",
                True,
                ("torn",) if k % 4 else (),
                k,
                k + rng.normal(),
                mask,
                np.roll(mask, k, 0) if k % 3 else 1 - mask,
            )
        )
    summary = summarise_structure({"hybrid": judged}, 100, 0.95, 0) | {
        "benchmark": "shapes_structure", "synthetic": True, "labels": "boxes", "confidence": 0.95, "dimension": "structure",
    }  # fmt: skip
    cases = {
        "hybrid": {g: [(i, Image.new("RGB", (64, 64))) for i in chosen] for g, chosen in pick_cases(judged, 2).items()}
    }
    return build_structure_report(summary, cases)


def test_the_page_has_the_figures_and_three_pictures_a_case(page: str) -> None:
    assert "All images, masks and ratings behind these figures are synthetic" in page
    assert "labels: boxes" in page
    n_cases = page.count("<figcaption>")
    assert n_cases == 5  # one sound picture alone is marked
    for label in ("image", "truth", "model"):
        assert len(re.findall(rf'alt="[^"]*: {label}"', page)) == n_cases
    assert "&lt;item&gt; 0" in page
    assert "<item>" not in page
    assert "<script" not in page


def test_the_page_fetches_nothing(page: str) -> None:
    assert outside(page) == []
