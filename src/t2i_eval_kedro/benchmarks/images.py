"""Checks of image files before they are stored: formats, size, wholeness.

Stored images are PNG, JPEG or WebP with one frame, upright, in a colour space every reader knows. An image that only
needs turning (EXIF orientation) or converting (another format, CMYK, 16 bits of grey) is written anew as PNG; any other keeps its bytes.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from t2i_eval_kedro.benchmarks.files import DataIssues
from t2i_eval_kedro.datasets.image_store import as_rgb, decode

FORMATS = ("PNG", "JPEG", "WEBP")
CONVERTED_FORMATS = ("GIF", "BMP", "TIFF", "AVIF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
_NAMES = "PNG, JPEG, WebP, GIF, BMP, TIFF or AVIF"
_ORIENTATION = 0x0112
_LFS_POINTER = b"version https://git-lfs"
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")


@dataclass(frozen=True)
class Limits:
    """What an image may be at most (and, for the side, at least)."""

    max_bytes: int = 64 * 2**20
    max_pixels: int = 50_000_000
    min_side: int = 8


LIMITS = Limits()


class BadImage(ValueError):
    """An image that cannot be used; the message is the reason."""


def check_image(data: bytes, limits: Limits = LIMITS) -> str:
    """Decode ``data`` whole and say why it must be written anew before it is stored; empty where it need not be.

    Raises:
        BadImage: the image is of no known format, damaged, too large or too small, more than one frame, or a kind of pixel
            that does not fit eight bits a channel.
    """
    return _decoded(data, limits)[0]


def _decoded(data: bytes, limits: Limits) -> tuple[str, Image.Image]:
    if len(data) > limits.max_bytes:
        raise BadImage(f"{len(data):,} bytes, more than {limits.max_bytes:,}")
    if data.startswith(_LFS_POINTER):
        raise BadImage("a pointer of Git LFS in the place of the image; run git lfs pull")
    try:
        with Image.open(io.BytesIO(data), formats=(*FORMATS, *CONVERTED_FORMATS)) as image:
            width, height = image.size
            if width * height > limits.max_pixels:
                raise BadImage(f"{width} x {height} pixels, more than {limits.max_pixels:,}")
            if min(width, height) < limits.min_side:
                raise BadImage(f"{width} x {height} pixels; a side must have at least {limits.min_side}")
            if getattr(image, "n_frames", 1) > 1:
                raise BadImage("animated or of several frames; which one the raters saw is not known")
            deep = image.mode.startswith("I;16")
            if image.mode not in (*_MODES, "CMYK") and not deep:
                raise BadImage(f"pixels of kind {image.mode}; eight bits a channel, or 16 of grey, are read")
            image.load()
            why = [
                image.format if image.format in CONVERTED_FORMATS else None,
                "CMYK" if image.mode == "CMYK" else None,
                "16 bits of grey, scaled to 8" if deep else None,
                "turned by EXIF" if image.getexif().get(_ORIENTATION, 1) != 1 else None,
            ]
            return ", ".join(filter(None, why)), image
    except UnidentifiedImageError as error:
        raise BadImage(f"not {_NAMES}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadImage("a decompression bomb") from error
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        if isinstance(error, BadImage):
            raise
        raise BadImage(f"truncated or damaged ({error})") from error


def upright_png(data: bytes) -> bytes:
    """``data`` as an upright RGB PNG."""
    out = io.BytesIO()
    decode(data).save(out, "PNG")
    return out.getvalue()


class ImageFiles:
    """Image files on disk, read like an image store: a key is the path of a file, relative to ``folder`` or absolute."""

    def __init__(self, folder: Path = Path(), limits: Limits = LIMITS) -> None:
        """Read below ``folder`` and refuse what is not within ``limits``."""
        self.folder = folder
        self.limits = limits

    def read(self, key: str) -> bytes:
        """The encoded image at ``key``, upright.

        Raises:
            BadImage: there is no such file, or it is no image that can be used (see :func:`check_image`).
        """
        path = self.folder / key
        try:
            if not path.is_file():  # a folder, or a device that never ends
                raise BadImage("there is no such file")
            if path.stat().st_size > self.limits.max_bytes:
                raise BadImage(f"{path.stat().st_size:,} bytes, more than {self.limits.max_bytes:,}")
            data = path.read_bytes()
        except (OSError, ValueError) as error:
            if isinstance(error, BadImage):
                raise
            raise BadImage(f"the file cannot be read ({getattr(error, 'strerror', None) or error})") from error
        return upright_png(data) if check_image(data, self.limits) else data

    def image(self, key: str) -> Image.Image:
        """The image at ``key`` as RGB; raises what :meth:`read` raises."""
        return decode(self.read(key))


def check_files(
    files: Mapping[str, Path], issues: DataIssues, limits: Limits = LIMITS, workers: int = 2
) -> tuple[list[str], frozenset[str]]:
    """Check every image file; bad ones are noted in ``issues`` as excluded.

    Args:
        files: image files by their key in the image store.
        issues: where bad and converted images are noted.
        limits: what an image may be.
        workers: threads (decoding does not hold the interpreter).

    Returns:
        The good keys in the order of ``files``, and those among them that must be written anew.
    """

    def check(path: Path) -> tuple[str, str, bytes]:
        """What is wrong, why it is converted, and a digest of the pixels."""
        try:
            why, image = _decoded(path.read_bytes(), limits)
            picture = as_rgb(ImageOps.exif_transpose(image))
            return "", why, hashlib.sha256(f"{picture.size}".encode() + picture.tobytes()).digest()
        except BadImage as error:
            return str(error), "", b""
        except OSError as error:
            return f"cannot be read ({error.strerror})", "", b""

    good: list[str] = []
    rewrite: set[str] = set()
    first: dict[bytes, tuple[str, Path]] = {}
    with ThreadPoolExecutor(workers) as pool:
        for (key, path), (wrong, why, digest) in zip(files.items(), pool.map(check, files.values()), strict=True):
            twin, twin_path = first.setdefault(digest, (key, path)) if digest else (key, path)
            if twin_path != path:
                issues.add("identical_image", key, f"the same picture as {twin}", "warning")
            if wrong:
                issues.add("bad_image", key, wrong, "image excluded")
                continue
            good.append(key)
            if why:
                rewrite.add(key)
                issues.add("converted_image", key, why, "stored as upright RGB PNG")
    return good, frozenset(rewrite)


def image_source(
    files: Mapping[str, Path], keys: Iterable[str], rewrite: frozenset[str]
) -> Callable[[], Iterator[tuple[str, bytes]]]:
    """A function that reads the images ``keys`` of ``files`` one after the other as (key, encoded image)."""
    chosen = [(key, files[key]) for key in keys]

    def images() -> Iterator[tuple[str, bytes]]:
        for key, path in chosen:
            data = path.read_bytes()
            yield key, upright_png(data) if key in rewrite else data

    return images
