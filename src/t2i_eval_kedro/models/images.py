"""Images within limits of size, the same for training and judging."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from PIL.Image import Image


class _Source(Protocol):
    def image(self, key: str) -> Image: ...


class LimitedImages:
    """An image source whose images have at least ``min_pixels`` and at most ``max_pixels``; sides keep their proportion."""

    def __init__(self, images: _Source, min_pixels: int | None, max_pixels: int | None) -> None:
        """Take the source; None for no limit."""
        self._images = images
        self._limits = (min_pixels or 0, max_pixels or math.inf)

    def image(self, key: str) -> Image:
        """The image stored under ``key``, resized (bicubic) where it is too small or too large."""
        from PIL.Image import Resampling

        picture = self._images.image(key)
        size = limited_size(*picture.size, *self._limits)
        return picture if size == picture.size else picture.resize(size, Resampling.BICUBIC, reducing_gap=3.0)


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
