"""Image files: what is stored, what is converted, what is excluded."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import pytest
from benchmark_helpers import picture
from PIL import Image

from t2i_eval_kedro.benchmarks.files import DataIssues
from t2i_eval_kedro.benchmarks.images import BadImage, ImageFiles, Limits, check_files, check_image, image_source
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
    assert check_image(picture(form=form)) is False


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA"])
def test_grey_palette_and_transparent_images_are_kept_as_they_are(mode: str) -> None:
    assert check_image(picture(0, mode=mode)) is False  # type: ignore[arg-type]


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
        (animated("GIF"), "neither PNG, JPEG nor WebP"),
        (picture(form="BMP"), "neither PNG, JPEG nor WebP"),
        (picture(form="TIFF"), "neither PNG, JPEG nor WebP"),
        (b"", "neither PNG, JPEG nor WebP"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "neither PNG, JPEG nor WebP"),
        (picture(size=(4, 40)), "at least 8"),
        (picture(0, mode="I;16"), "pixels of kind I;16"),  # type: ignore[arg-type]
    ],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_images_that_cannot_be_used_say_why(data: bytes, reason: str) -> None:
    with pytest.raises(BadImage, match=reason):
        check_image(data)


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
        ("gray16.png", "pixels of kind I;16"),
        ("lfs.png", "git lfs pull"),
        ("trunc.png", "truncated or damaged"),
        ("nothere.png", "no such file"),
    ],
)
def test_each_unreadable_file_has_its_true_reason(name: str, reason: str) -> None:
    with pytest.raises(BadImage, match=reason):
        ImageFiles(Path(__file__).parents[1] / "data" / "cases" / "images").read(name)
