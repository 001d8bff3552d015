"""Images within limits of pixels: the size is known without decoding, and a large JPEG is not decoded whole."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

from t2i_eval_kedro.datasets.image_store import decode
from t2i_eval_kedro.models.images import LimitedImages, size_of

SIDES = {"large.jpg": (1600, 1200), "small.png": (20, 10), "fine.png": (100, 80), "turned.jpg": (800, 400)}


class Files:
    """Encoded images; the last one lies on its side, which its EXIF orientation says."""

    def __init__(self) -> None:
        self.data = {}
        for name, (width, height) in SIDES.items():
            ramp = np.linspace(0, 255, width)[None, :, None] * np.ones((height, 1, 3))
            out, exif = io.BytesIO(), Image.Exif()
            exif[0x0112] = 6 if name == "turned.jpg" else 1
            form = "JPEG" if name.endswith("jpg") else "PNG"
            Image.fromarray(ramp.astype(np.uint8)).save(out, form, exif=exif)
            self.data[name] = out.getvalue()

    def read(self, key: str) -> bytes:
        return self.data[key]

    def image(self, key: str) -> Image.Image:
        return decode(self.data[key])


@pytest.mark.parametrize("name", SIDES)
def test_the_size_is_that_of_the_image_with_limits_and_without(name: str) -> None:
    files = Files()
    limited = LimitedImages(files, 1000, 40_000)
    picture = limited.image(name)
    assert limited.size(name) == picture.size == size_of(limited, name)
    assert 1000 <= picture.width * picture.height <= 40_000
    assert (
        size_of(files, name) == files.image(name).size == (SIDES[name][::-1] if name == "turned.jpg" else SIDES[name])
    )


def test_a_large_jpeg_is_decoded_near_the_size_that_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    load = JpegImagePlugin.JpegImageFile.load

    def watched(self: JpegImagePlugin.JpegImageFile) -> object:
        decoded.append(self.size)
        return load(self)

    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "load", watched)
    files = Files()
    picture = LimitedImages(files, None, 40_000).image("large.jpg")
    assert picture.size == (230, 173)
    assert set(decoded) == {(400, 300)}  # a quarter of its sides, and no smaller than what is needed
    whole = files.image("large.jpg").resize(picture.size, Image.Resampling.BICUBIC)
    assert np.abs(np.asarray(picture, int) - np.asarray(whole, int)).max() <= 3
