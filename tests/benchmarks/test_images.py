"""Image files: what is stored, what is converted, what is excluded."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from benchmark_helpers import picture
from PIL import Image

from t2i_eval_kedro.benchmarks.files import DataIssues
from t2i_eval_kedro.benchmarks.images import (
    CONVERTED_FORMATS,
    BadImage,
    ImageFiles,
    Limits,
    check_files,
    check_image,
    image_source,
    upright_png,
)
from t2i_eval_kedro.datasets.image_store import decode


def bomb(side: int) -> bytes:
    """A PNG of a few bytes that claims ``side`` x ``side`` pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def animated(form: str) -> bytes:
    out = io.BytesIO()
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    frames[0].save(out, form, save_all=True, append_images=frames[1:])
    return out.getvalue()


def turned(orientation: int) -> bytes:
    """A JPEG, left half red, that is to be turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.new("RGB", (32, 16), "blue")
    image.paste("red", (0, 0, 16, 16))
    out = io.BytesIO()
    image.save(out, "JPEG", exif=exif, quality=95)
    return out.getvalue()


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_ordinary_images_are_kept_as_they_are(form: str) -> None:
    assert check_image(picture(form=form)) == ""


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA"])
def test_grey_palette_and_transparent_images_are_kept_as_they_are(mode: str) -> None:
    assert check_image(picture(0, mode=mode)) == ""  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (bomb(60_000), "bomb|pixels, more than"),
        (bomb(8_000), "pixels, more than"),
        (bomb(100), "truncated or damaged"),
        (picture(size=(64, 64), form="JPEG")[:-200], "truncated or damaged"),
        (picture(size=(64, 64))[:-60], "truncated or damaged"),
        (picture(size=(64, 64), form="WEBP")[:-5], "truncated or damaged|neither"),
        (animated("PNG"), "animated"),
        (animated("WEBP"), "animated"),
        (animated("GIF"), "animated"),
        (b"", "not PNG, JPEG, WebP, GIF, BMP, TIFF or AVIF"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not PNG, JPEG"),
        (picture(size=(4, 40)), "at least 8"),
        (picture(0, form="TIFF", mode="F"), "pixels of kind F"),  # type: ignore[arg-type]
    ],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_images_that_cannot_be_used_say_why(data: bytes, reason: str) -> None:
    with pytest.raises(BadImage, match=reason):
        check_image(data)


@pytest.mark.parametrize("form", CONVERTED_FORMATS)
def test_other_formats_are_stored_as_png_with_the_same_pixels(form: str) -> None:
    data = picture("red", form=form)
    assert check_image(data) == form
    again = decode(upright_png(data))
    assert again.size == decode(data).size
    assert sum(abs(a - b) for a, b in zip(again.getpixel((5, 5)), (255, 0, 0), strict=True)) < 12  # type: ignore[arg-type]


def test_grey_of_16_bits_is_scaled_and_not_cut() -> None:
    ramp = np.linspace(0, 65535, 16 * 16).astype(np.uint16).reshape(16, 16)
    out = io.BytesIO()
    Image.fromarray(ramp).save(out, "PNG")
    assert check_image(out.getvalue()) == "16 bits of grey, scaled to 8"
    seen = np.asarray(decode(upright_png(out.getvalue())))[..., 0]
    assert np.array_equal(seen, np.round(ramp / 257).astype(np.uint8))


def test_one_picture_in_two_files_and_formats_is_named(tmp_path: Path) -> None:
    files = {form: tmp_path / form for form in ("PNG", "BMP", "other")}
    for form, path in files.items():
        path.write_bytes(picture("blue" if form == "other" else "red", form="PNG" if form == "other" else form))
    issues = DataIssues()
    check_files(files, issues)
    assert [row[1:3] for row in issues.rows if row[0] == "identical_image"] == [("BMP", "the same picture as PNG")]


def test_a_file_larger_than_the_limit_is_not_decoded() -> None:
    with pytest.raises(BadImage, match="bytes, more than 50"):
        check_image(picture(), Limits(max_bytes=50))


def test_bad_images_are_set_aside_and_turned_or_cmyk_ones_converted(tmp_path: Path) -> None:
    contents = {
        "good": picture(),
        "cmyk": picture("red", form="JPEG", mode="CMYK"),
        "turned": turned(6),
        "upright": turned(1),
        "bad": picture()[:20],
    }
    files = {}
    for key, data in contents.items():
        files[key] = tmp_path / key
        files[key].write_bytes(data)
    files["gone"] = tmp_path / "gone"
    issues = DataIssues()
    good, rewrite = check_files(files, issues)
    assert good == ["good", "cmyk", "turned", "upright"]
    assert sorted((row[0], row[1]) for row in issues.rows) == [
        ("bad_image", "bad"),
        ("bad_image", "gone"),
        ("converted_image", "cmyk"),
        ("converted_image", "turned"),
    ]
    source = image_source(files, good, rewrite)
    stored = dict(source())
    assert dict(source()) == stored  # it can be read again
    assert stored["good"] == contents["good"]
    assert stored["upright"] == contents["upright"]
    for key in ("cmyk", "turned"):
        with Image.open(io.BytesIO(stored[key])) as image:
            assert (image.format, image.mode) == ("PNG", "RGB")
            assert image.getexif().get(0x0112, 1) == 1
    upright = decode(stored["turned"])
    assert upright.size == (16, 32)
    top, bottom = upright.getpixel((8, 4)), upright.getpixel((8, 28))
    assert top[0] > 200 > 50 > bottom[0]  # type: ignore[index]


def test_image_files_are_read_by_path_with_the_same_checks(tmp_path: Path) -> None:
    files = ImageFiles(tmp_path, Limits(max_bytes=10_000))
    (tmp_path / "good.png").write_bytes(picture())
    (tmp_path / "turned.jpg").write_bytes(turned(6))
    assert files.read("good.png") == picture()
    assert files.image("good.png").mode == "RGB"
    assert files.read("turned.jpg").startswith(b"\x89PNG")
    damaged = {"bomb.png": bomb(20_000), "cut.png": picture()[:50], "big.png": bytes(10_001), "text.png": b"text"}
    for name, data in damaged.items():
        (tmp_path / name).write_bytes(data)
    for name in (*damaged, "none.png", ".", "/dev/zero", "a\0b"):
        with pytest.raises(BadImage):
            files.read(name)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("lfs.png", "git lfs pull"),
        ("trunc.png", "truncated or damaged"),
        ("nothere.png", "no such file"),
    ],
)
def test_each_unreadable_file_has_its_true_reason(name: str, reason: str) -> None:
    with pytest.raises(BadImage, match=reason):
        ImageFiles(Path(__file__).parents[1] / "data" / "cases" / "images").read(name)
