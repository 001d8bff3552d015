"""Small random changes of training images, which leave true what a prompt and its answers say about them. Ours.

iMatch (arXiv 2504.12018) changes the light at random; EvalMuse (arXiv 2412.18150) crops, flips and distorts. Neither a flip, which makes left
right, nor a crop, which removes objects, fits answers about the parts of an image. So what changes here is brightness,
contrast and, by a few pixels, the place.

Each image has :data:`VERSIONS` versions, the first being the image as it is, so that processed images can be kept. Which one an
example shows depends on its name and the seed alone, so that an interrupted training resumes with the same images. The
examples about one image show several of its versions; an example shows the same in every epoch.
"""

from __future__ import annotations

import hashlib

import numpy as np
from PIL import ImageEnhance
from PIL.Image import Image, fromarray

VERSIONS = 4
_LIGHT = 0.5  # brightness and contrast change by at most this fraction at strength 1
_SHIFT = 0.05  # of the width and the height, at strength 1


def version_of(example: str, seed: int) -> int:
    """Which version of its images the example of that name shows, 0 to VERSIONS - 1; all are equally likely.

    Example:
        >>> version_of("a", 0) == version_of("a", 0)
        True
    """
    return _drawn(seed, example) % VERSIONS


def augmented(image: Image, key: str, version: int, strength: float, seed: int) -> Image:
    """A version of an image, in its size.

    Args:
        image: RGB image.
        key: key of the image.
        version: number of the version, 0 for the image as it is.
        strength: 0 to 1; brightness and contrast change by up to half of it, and the place by up to a twentieth of it
            (as a fraction of the sides), all evenly drawn. What moves in from outside repeats the edge.
        seed: random seed.
    """
    if version == 0 or strength == 0:
        return image
    rng = np.random.default_rng(_drawn(seed, key, version))
    brightness, contrast, right, down = strength * rng.uniform(-1, 1, size=4)
    lit = ImageEnhance.Brightness(image).enhance(1 + _LIGHT * brightness)
    lit = ImageEnhance.Contrast(lit).enhance(1 + _LIGHT * contrast)
    x, y = round(_SHIFT * right * image.width), round(_SHIFT * down * image.height)
    sides = ((max(y, 0), max(-y, 0)), (max(x, 0), max(-x, 0)), (0, 0))
    padded = np.pad(np.asarray(lit), sides, mode="edge")
    top, left = max(-y, 0), max(-x, 0)
    return fromarray(padded[top : top + image.height, left : left + image.width])


def _drawn(*parts: object) -> int:
    """A number of 64 bits that depends on ``parts`` alone."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big")
