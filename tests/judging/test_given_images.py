"""Images in memory are those that the same files are; what is no picture is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.judge import GivenImages

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 2**8, (20, 30), dtype=np.uint8)
COLOURS = RNG.integers(0, 2**8, (20, 30, 4), dtype=np.uint8)


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


@pytest.mark.parametrize(
    ("picture", "name", "options"),
    [
        (RNG.integers(0, 2**16, (20, 30), dtype=np.uint16), "deep.png", {}),
        (COLOURS[..., :3], "turned.jpg", {"exif": turned()}),
        (COLOURS[..., :3], "turned.png", {"exif": turned()}),
        (COLOURS, "transparent.png", {}),
        (COLOURS[..., :2], "transparent_grey.png", {}),
        (GREY, "key.png", {"transparency": 7}),
    ],
)
def test_an_opened_file_is_the_picture_that_its_path_is(
    tmp_path: Path, picture: np.ndarray, name: str, options: dict[str, object]
) -> None:
    Image.fromarray(picture).save(tmp_path / name, **options)
    images = GivenImages(tmp_path)
    expected = np.asarray(images.image(name))
    with Image.open(tmp_path / name) as opened:
        np.testing.assert_array_equal(np.asarray(images.image(images.add(opened))), expected)
    np.testing.assert_array_equal(np.asarray(images.image(images.add((tmp_path / name).read_bytes()))), expected)


def test_an_array_is_grey_or_has_colours() -> None:
    images = GivenImages()
    grey = np.repeat(GREY[..., None], 3, axis=2)
    white = Image.new("RGBA", (30, 20), "white")
    for array, expected in (
        (GREY, grey),
        (GREY[..., None], grey),
        (COLOURS[..., :3], COLOURS[..., :3]),
        (COLOURS, np.asarray(Image.alpha_composite(white, Image.fromarray(COLOURS)))[..., :3]),
    ):
        np.testing.assert_array_equal(np.asarray(images.image(images.add(array))), expected)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((3, 32, 32), np.uint8), r"array of uint8 and shape \(3, 32, 32\); give uint8 and \(H, W\)"),
        (np.zeros((1, 32, 32, 3), np.uint8), r"shape \(1, 32, 32, 3\); give"),
        (np.zeros((32, 32, 2), np.uint8), r"shape \(32, 32, 2\); give"),
        (np.zeros(32, np.uint8), r"shape \(32,\); give"),
        (np.zeros((0, 32, 3), np.uint8), r"shape \(0, 32, 3\); give"),
        (np.zeros((32, 32, 3), np.float32), "array of float32"),
        (np.zeros((32, 32), np.uint16), "array of uint16"),
        (Image.new("F", (32, 32)), "pixels of kind F; give eight bits"),
        (Image.new("I", (32, 32)), "pixels of kind I; give eight bits"),
    ],
)
def test_what_is_no_picture_is_named(image: np.ndarray | Image.Image, message: str) -> None:
    with pytest.raises(T2IEvalError, match=message):
        GivenImages().add(image)
