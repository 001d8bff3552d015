"""Images within limits of size, the same for training and judging."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

from t2i_eval_kedro.datasets.image_store import decode, image_size
from t2i_eval_kedro.errors import T2IEvalError

if TYPE_CHECKING:
    from PIL.Image import Image


class _Source(Protocol):
    def image(self, key: str) -> Image: ...


def size_of(images: _Source, key: str) -> tuple[int, int]:
    """Width and height of the image under ``key``, read from the head of its file where ``images`` has files."""
    if isinstance(images, LimitedImages):
        return images.size(key)
    read = getattr(images, "read", None)
    return images.image(key).size if read is None else image_size(read(key))


class LimitedImages:
    """An image source whose images have at least ``min_pixels`` and at most ``max_pixels``; sides keep their proportion."""

    def __init__(self, images: _Source, min_pixels: int | None, max_pixels: int | None) -> None:
        """Take the source; None for no limit."""
        self._images = images
        self._limits = (min_pixels or 0, max_pixels or math.inf)

    def image(self, key: str) -> Image:
        """The image stored under ``key``, resized (bicubic) where it is too small or too large.

        A JPEG that is much too large is decoded near the size that is needed, which takes a fraction of the time.

        Raises:
            T2IEvalError: the file under ``key`` cannot be decoded.
        """
        from PIL.Image import Resampling

        read = getattr(self._images, "read", None)
        size = self.size(key)
        try:
            picture = self._images.image(key) if read is None else decode(read(key), least=size)
        except OSError as error:
            raise T2IEvalError(f"The image '{key}' cannot be decoded: {error}.") from error
        return picture if size == picture.size else picture.resize(size, Resampling.BICUBIC, reducing_gap=3.0)

    def size(self, key: str) -> tuple[int, int]:
        """Width and height of :meth:`image`, without decoding it where the source has files."""
        return limited_size(*size_of(self._images, key), *self._limits)


def limited_size(width: int, height: int, least: float, most: float) -> tuple[int, int]:
    """The nearest size of the same proportion with ``least`` to ``most`` pixels.

    Example:
        >>> limited_size(2048, 1024, 0, 512 * 512), limited_size(10, 10, 400, 1000), limited_size(30, 20, 400, 1000)
        ((724, 362), (20, 20), (30, 20))
    """
    pixels = width * height
    if least <= pixels <= most:
        return width, height
    scale = math.sqrt((least if pixels < least else most) / pixels)
    edge = math.ceil if pixels < least else math.floor
    return max(1, edge(width * scale)), max(1, edge(height * scale))
