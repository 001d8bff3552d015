"""Draws a scene as a 64 x 64 image, perhaps blurred or hazy.

The picture is a 4 x 4 grid of 16-pixel cells; a quadrant has 2 x 2 of them. Each object is centred in its own cell, at
most `JITTER` pixels off. The pixels are fixed by the scene, the degradation and the random generator.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from t2i_eval_kedro.shapes.scene import Group, Scene

SIDE = 64
CELL = 16
JITTER = 1.5
RADIUS = {"small": 4.0, "large": 7.0}
RGB = {
    "red": (220, 40, 40),
    "green": (40, 160, 60),
    "blue": (50, 80, 220),
    "yellow": (235, 200, 30),
    "purple": (150, 50, 170),
}
BACKGROUND = (244, 244, 244)
HAZE_RGB = (200, 200, 200)
MAX_BLUR = 3.0  # standard deviation in pixels at blur 1
MAX_HAZE = 0.8  # share of HAZE_RGB at haze 1

_SCALE = 4  # drawn larger and averaged down, which gives smooth edges


@dataclass(frozen=True)
class Degradation:
    """How far the picture is spoiled: ``blur`` and ``haze``, each from 0 (none) to 1 (objects barely seen)."""

    blur: float = 0.0
    haze: float = 0.0


@dataclass(frozen=True)
class Placed:
    """One object of a group: its grid ``cell`` (0 to 15, row by row) and its centre in pixels."""

    group: Group
    cell: int
    x: float
    y: float


def place(scene: Scene, rng: np.random.Generator) -> list[Placed]:
    """Each object's cell and centre, in the scene's order."""
    out: list[Placed] = []
    for group in scene.groups:
        top, left = 2 * (group.quadrant // 2), 2 * (group.quadrant % 2)
        for k in rng.permutation(4)[: group.count]:
            row, column = top + int(k) // 2, left + int(k) % 2
            dx, dy = rng.uniform(-JITTER, JITTER, 2)
            out.append(
                Placed(group, 4 * row + column, CELL * (column + 0.5) + float(dx), CELL * (row + 0.5) + float(dy))
            )
    return out


def draw(objects: list[Placed], degradation: Degradation) -> Image.Image:
    """The picture of the placed objects (RGB, 64 x 64)."""
    big = Image.new("RGB", (SIDE * _SCALE, SIDE * _SCALE), BACKGROUND)
    pen = ImageDraw.Draw(big)
    for item in objects:
        radius = RADIUS[item.group.size]
        corners = _outline(item.group.shape)
        points = [((item.x + radius * u) * _SCALE, (item.y + radius * v) * _SCALE) for u, v in corners]
        pen.polygon(points, fill=RGB[item.group.color])
    image = big.reduce(_SCALE)
    if degradation.blur > 0:
        image = image.filter(ImageFilter.GaussianBlur(MAX_BLUR * degradation.blur))
    if degradation.haze > 0:
        image = Image.blend(image, Image.new("RGB", image.size, HAZE_RGB), MAX_HAZE * degradation.haze)
    return image


def render(scene: Scene, degradation: Degradation, rng: np.random.Generator) -> Image.Image:
    """Place the scene's objects at random within their quadrants and draw them (RGB, 64 x 64)."""
    return draw(place(scene, rng), degradation)


def png_bytes(image: Image.Image) -> bytes:
    """The image as a PNG file; the same pixels give the same bytes under one version of Pillow."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _outline(shape: str) -> list[tuple[float, float]]:
    """The corners of a shape of radius 1 around the origin, y downwards."""
    if shape == "circle":
        return _star(32, 1.0, 1.0)
    if shape == "square":
        return [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)]
    if shape == "triangle":
        return [(0.0, -1.0), (1.0, 0.85), (-1.0, 0.85)]
    if shape == "star":
        return _star(5, 1.1, 0.42)
    arm = 0.32
    return [
        (-arm, -1), (arm, -1), (arm, -arm), (1, -arm), (1, arm), (arm, arm),
        (arm, 1), (-arm, 1), (-arm, arm), (-1, arm), (-1, -arm), (-arm, -arm),
    ]  # fmt: skip


def _star(tips: int, outer: float, inner: float) -> list[tuple[float, float]]:
    corners = []
    for k in range(2 * tips):
        radius = outer if k % 2 == 0 else inner
        angle = math.pi * k / tips - math.pi / 2
        corners.append((radius * math.cos(angle), radius * math.sin(angle)))
    return corners
