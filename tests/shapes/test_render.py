"""Pictures show what is in them, at every size, and masks mark what is wrong with objects."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2i_eval_kedro.shapes.render import (
    BACKGROUND,
    FLAWS,
    RGB,
    SIDES,
    Degradation,
    Flaw,
    draw,
    flaw_mask,
    place,
    render,
    sample_flaws,
    sample_severity,
)
from t2i_eval_kedro.shapes.scene import COLORS, SHAPES, SIZES, Group, Scene, sample_scene

_SCENE = Scene((Group("square", "blue", "large", 1, 0), Group("circle", "red", "large", 2, 3)))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("color", COLORS)
@pytest.mark.parametrize("side", SIDES)
def test_each_object_is_drawn_in_its_colour_at_its_place(shape: str, color: str, side: int) -> None:
    objects = place(Scene((Group(shape, color, "large", 2, 3),)), np.random.default_rng(5))
    pixels = np.asarray(draw(objects, Degradation(), side))
    assert pixels.shape == (side, side, 3)
    assert len({o.cell for o in objects}) == 2
    scale = side / 64
    for o in objects:
        shift = 0.75 * 7 if shape == "ring" else 0.0  # a ring is empty in the middle
        assert tuple(pixels[int(o.y * scale), int((o.x + shift) * scale)]) == RGB[color]
        if shape == "ring":
            assert tuple(pixels[int(o.y * scale), int(o.x * scale)]) == BACKGROUND
    assert (pixels[:, : int(30 * scale)] == BACKGROUND).all()
    assert (pixels[: int(30 * scale)] == BACKGROUND).all()


@pytest.mark.parametrize("side", [256, 512])
@pytest.mark.parametrize("degradation", [Degradation(), Degradation(0.5, 0.3)])
def test_a_picture_is_the_same_at_every_size(side: int, degradation: Degradation) -> None:
    objects = place(_SCENE, np.random.default_rng(1))
    small = np.asarray(draw(objects, degradation, 64)).astype(float)
    factor = side // 64
    large = np.asarray(draw(objects, degradation, side)).astype(float)
    reduced = large.reshape(64, factor, 64, factor, 3).mean(axis=(1, 3))
    assert np.abs(small - reduced).mean() < 1.0


def test_size_blur_haze_and_grain_change_the_picture_as_they_should() -> None:
    def ink(size: str, degradation: Degradation) -> np.ndarray:
        image = render(Scene((Group("square", "blue", size, 1, 0),)), degradation, np.random.default_rng(1))
        return np.asarray(image).astype(float)

    areas = [(ink(size, Degradation()) != BACKGROUND).any(axis=2).sum() for size in SIZES]
    assert areas[1] > 2 * areas[0]
    sharp, blurry, hazy, grainy = (
        ink("large", d) for d in (Degradation(), Degradation(blur=0.8), Degradation(haze=0.8), Degradation(grain=0.8))
    )
    assert np.abs(np.diff(blurry, axis=1)).max() < 0.5 * np.abs(np.diff(sharp, axis=1)).max()
    assert np.ptp(hazy) < 0.5 * np.ptp(sharp)
    assert sharp[40:, 40:].std() == 0 < 10 < grainy[40:, 40:].std()


@given(st.integers(0, 2**32), st.sampled_from(FLAWS), st.sampled_from((64, 256)))
def test_a_mask_marks_just_what_a_flaw_changes(seed: int, family: str, side: int) -> None:
    rng = np.random.default_rng(seed)
    objects = place(sample_scene(rng), rng)
    flaw = Flaw(family, int(rng.integers(len(objects))), float(rng.uniform(0.3, 1)), float(rng.uniform(0, 6.28)))
    sound, faulty = (np.asarray(draw(objects, Degradation(), side, flaws)).astype(int) for flaws in ((), (flaw,)))
    mask = flaw_mask(objects, side, (flaw,))
    assert mask.shape == (side, side)
    assert 0 < mask.mean() < 0.3
    changed = np.abs(sound - faulty).sum(axis=2)
    grown = np.zeros_like(mask)
    reach = 8 * side // 64 if family == "warped" else 1
    padded = np.pad(mask, reach)
    for dy in range(2 * reach + 1):
        for dx in range(2 * reach + 1):
            grown |= padded[dy : dy + side, dx : dx + side]
    contrast = np.abs(np.array(BACKGROUND) - list(RGB.values())).sum(axis=1).max()
    assert (
        changed[~grown].max(initial=0) <= 0.26 * contrast
    )  # apart from the mask, less than a quarter of a pixel changes
    if family in ("torn", "extra"):
        assert (changed[mask] > 0).mean() > 0.9  # and what is marked is changed


def test_no_flaw_leaves_an_empty_mask_and_flaws_come_as_often_as_asked() -> None:
    rng = np.random.default_rng(2)
    objects = place(_SCENE, rng)
    assert not flaw_mask(objects, 64, ()).any()
    drawn = [sample_flaws(objects, 0.6, FLAWS, rng) for _ in range(500)]
    assert 0.5 < np.mean([len(flaws) > 0 for flaws in drawn]) < 0.7
    assert {flaw.family for flaws in drawn for flaw in flaws} == set(FLAWS)
    assert all(len({flaw.target for flaw in flaws}) == len(flaws) <= 3 for flaws in drawn)
    assert {flaw.family for _ in range(20) for flaw in sample_flaws(objects, 1.0, ("torn",), rng)} == {"torn"}


@given(st.integers(0, 2**32))
def test_a_severity_stays_in_its_range(seed: int) -> None:
    assert 0.12 <= sample_severity(0.1, 0.4, np.random.default_rng(seed)) <= 0.4
    assert 0.4 <= sample_severity(0.4, 0.9, np.random.default_rng(seed)) <= 0.9
