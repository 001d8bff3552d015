"""Draws a scene as a square image, perhaps blurred, hazy or grainy, and perhaps with objects that are badly made.

The picture is a 4 x 4 grid of cells; each object is centred in its own cell, a little off at random. All lengths are in
units of which a side has 64, whatever the number of pixels, so one scene has the same picture at every size. The pixels
are fixed by the placed objects, the degradation, the flaws and the side.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from t2i_eval_kedro.shapes.scene import CELLS, Group, Scene, region_cells

SIDE = 64  # units of a side, and pixels where nothing else is asked for
SIDES = (64, 256, 512)
CELL = SIDE // CELLS
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
MAX_BLUR = 3.0  # standard deviation in units at blur 1
MAX_HAZE = 0.8  # share of HAZE_RGB at haze 1
MAX_GRAIN = 90.0  # standard deviation of the grain at grain 1, of 255

#: What may be wrong with an object's structure; docs in `Flaw`.
FLAWS = ("torn", "merged", "warped", "extra")

Point = tuple[float, float]


@dataclass(frozen=True)
class Degradation:
    """How far the picture is spoiled: ``blur``, ``haze`` and ``grain``, each from 0 (none) to 1 (objects barely seen)."""

    blur: float = 0.0
    haze: float = 0.0
    grain: float = 0.0


@dataclass(frozen=True)
class Placed:
    """One object of a group: its grid ``cell`` (0 to 15, row by row) and its centre in units."""

    group: Group
    cell: int
    x: float
    y: float


@dataclass(frozen=True)
class Flaw:
    """One structural fault of one object.

    Attributes:
        family: ``torn`` (a gap runs through it), ``merged`` (grown together with the nearest object), ``warped`` (its
            outline is bent) or ``extra`` (it has a part too many).
        target: number of the object.
        strength: how bad it is, 0 to 1: width of the gap, the bridge or the part, or how far the outline is bent.
        angle: direction of the gap, the bend or the part, in radians.
    """

    family: str
    target: int
    strength: float
    angle: float


#: Severities of degradation from lowest to highest; they keep away from the bounds between the words for them
#: (`truth.clarity`), so that a word is right or wrong.
_SEVERITIES = ((0.12, 0.3), (0.4, 0.55), (0.65, 0.9))


def sample_severity(low: float, high: float, rng: np.random.Generator) -> float:
    """A severity between ``low`` and ``high`` that one word describes."""
    ranges = [(max(a, low), min(b, high)) for a, b in _SEVERITIES if max(a, low) < min(b, high)]
    a, b = ranges[int(rng.integers(len(ranges)))]
    return round(float(rng.uniform(a, b)), 3)


def place(scene: Scene, rng: np.random.Generator) -> list[Placed]:
    """Each object's cell and centre, in the scene's order."""
    out: list[Placed] = []
    for group in scene.groups:
        cells = region_cells(group.region)
        for k in rng.permutation(len(cells))[: group.count]:
            row, column = divmod(cells[int(k)], CELLS)
            dx, dy = rng.uniform(-JITTER, JITTER, 2)
            out.append(Placed(group, cells[int(k)], CELL * (column + 0.5) + float(dx), CELL * (row + 0.5) + float(dy)))
    return out


def draw(
    objects: Sequence[Placed],
    degradation: Degradation,
    side: int = SIDE,
    flaws: Sequence[Flaw] = (),
    grain_seed: Sequence[int] = (0,),
) -> Image.Image:
    """The picture of the placed objects (RGB, side x side); ``grain_seed`` fixes the grain, where there is any."""
    image = _sharp(objects, side, flaws)[0]
    if degradation.blur > 0:
        image = image.filter(ImageFilter.GaussianBlur(MAX_BLUR * degradation.blur * side / SIDE))
    if degradation.haze > 0:
        image = Image.blend(image, Image.new("RGB", image.size, HAZE_RGB), MAX_HAZE * degradation.haze)
    if degradation.grain > 0:
        rng = np.random.default_rng([*grain_seed, side])
        noise = rng.normal(0, MAX_GRAIN * degradation.grain, (side, side, 1))
        image = Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))
    return image


def flaw_mask(objects: Sequence[Placed], side: int, flaws: Sequence[Flaw]) -> np.ndarray:
    """Where the structure is wrong: (side, side) booleans, true where at least a quarter of a pixel belongs to a flaw.

    Of a torn object the gap is marked, of a warped one the object as it is, of the others what is too much.
    """
    return np.asarray(_sharp(objects, side, flaws)[1]) >= 64


def render(scene: Scene, degradation: Degradation, rng: np.random.Generator, side: int = SIDE) -> Image.Image:
    """Place the scene's objects at random within their regions and draw them (RGB, side x side)."""
    return draw(place(scene, rng), degradation, side)


def sample_flaws(
    objects: Sequence[Placed], probability: float, families: Sequence[str], rng: np.random.Generator
) -> tuple[Flaw, ...]:
    """Flaws of a picture: none with probability 1 - ``probability``, else one to three, each of an object of its own."""
    if rng.random() >= probability:
        return ()
    n = min(len(objects), 1 + int(rng.choice(3, p=(0.5, 0.3, 0.2))))
    return tuple(
        Flaw(
            families[int(rng.integers(len(families)))],
            int(target),
            round(float(rng.uniform(0.3, 1.0)), 3),
            round(float(rng.uniform(0, 2 * math.pi)), 4),
        )
        for target in rng.permutation(len(objects))[:n]
    )


def png_bytes(image: Image.Image) -> bytes:
    """The image as a PNG file; the same pixels give the same bytes under one version of Pillow."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _sharp(objects: Sequence[Placed], side: int, flaws: Sequence[Flaw]) -> tuple[Image.Image, Image.Image]:
    """The picture without degradation, and how much of each pixel belongs to a flaw (0 to 255)."""
    factor = max(1, 4 * SIDE // side)  # drawn larger and averaged down, which gives smooth edges
    pixels = side * factor
    unit = pixels / SIDE
    big = Image.new("RGB", (pixels, pixels), BACKGROUND)
    pen = ImageDraw.Draw(big)
    marked = Image.new("L", (pixels, pixels))
    flaw_of = {flaw.target: flaw for flaw in flaws}

    def polygons(item: Placed, flaw: Flaw | None) -> list[list[Point]]:
        radius = RADIUS[item.group.size]
        return [
            [((item.x + radius * u) * unit, (item.y + radius * v) * unit) for u, v in corners]
            for corners in outlines(item.group.shape, flaw)
        ]

    for item in objects:
        _fill(pen, polygons(item, None), RGB[item.group.color])
    for number, flaw in sorted(flaw_of.items()):
        item = objects[number]
        inside = _stencil(pixels, polygons(item, None))
        if flaw.family == "warped":
            bent = polygons(item, flaw)
            pen_mask = _stencil(pixels, bent)
            big.paste(BACKGROUND, mask=inside)
            big.paste(RGB[item.group.color], mask=pen_mask)
            change = pen_mask
        elif flaw.family == "torn":
            change = ImageChops.multiply(inside, _stencil(pixels, [_band(item, flaw, unit)]))
            big.paste(BACKGROUND, mask=change)
        else:
            part = _bridge(item, objects, flaw, unit) if flaw.family == "merged" and len(objects) > 1 else None
            stencil = _stencil(pixels, [part or _limb(item, flaw, unit)])
            for other in objects:
                stencil = ImageChops.subtract(stencil, _stencil(pixels, polygons(other, None)))
            change = stencil
            big.paste(RGB[item.group.color], mask=change)
        marked = ImageChops.lighter(marked, change)
    return big.reduce(factor), marked.reduce(factor)


def _fill(pen: ImageDraw.ImageDraw, polygons: list[list[Point]], color: tuple[int, int, int]) -> None:
    """Fill the first polygon; the others are holes in it."""
    pen.polygon(polygons[0], fill=color)
    for hole in polygons[1:]:
        pen.polygon(hole, fill=BACKGROUND)


def _stencil(pixels: int, polygons: list[list[Point]]) -> Image.Image:
    stencil = Image.new("L", (pixels, pixels))
    pen = ImageDraw.Draw(stencil)
    pen.polygon(polygons[0], fill=255)
    for hole in polygons[1:]:
        pen.polygon(hole, fill=0)
    return stencil


def _strip(x: float, y: float, angle: float, start: float, end: float, width: float, unit: float) -> list[Point]:
    """A rectangle from ``start`` to ``end`` along ``angle`` as seen from (x, y), ``width`` wide; in drawn pixels."""
    u, v = math.cos(angle), math.sin(angle)
    w = width / 2
    corners = [(start, -w), (end, -w), (end, w), (start, w)]
    return [((x + a * u - b * v) * unit, (y + a * v + b * u) * unit) for a, b in corners]


def _band(item: Placed, flaw: Flaw, unit: float) -> list[Point]:
    radius = RADIUS[item.group.size]
    return _strip(item.x, item.y, flaw.angle, -2 * radius, 2 * radius, (0.3 + 0.5 * flaw.strength) * radius, unit)


def _limb(item: Placed, flaw: Flaw, unit: float) -> list[Point]:
    radius = RADIUS[item.group.size]
    width = (0.35 + 0.35 * flaw.strength) * radius
    return _strip(item.x, item.y, flaw.angle, 0.5 * radius, (1.3 + 0.7 * flaw.strength) * radius, width, unit)


def _bridge(item: Placed, objects: Sequence[Placed], flaw: Flaw, unit: float) -> list[Point]:
    others = [other for other in objects if other is not item]
    near = min(others, key=lambda other: math.hypot(other.x - item.x, other.y - item.y))
    angle = math.atan2(near.y - item.y, near.x - item.x)
    length = math.hypot(near.x - item.x, near.y - item.y)
    thinner = min(RADIUS[item.group.size], RADIUS[near.group.size])
    return _strip(item.x, item.y, angle, 0.0, length, (0.7 + 0.6 * flaw.strength) * thinner, unit)


def outlines(shape: str, flaw: Flaw | None = None) -> list[list[Point]]:
    """The corners of a shape of radius 1 around the origin, y downwards, then those of a hole in it; bent by ``flaw``."""
    outlines = [_star(32, 1.0, 1.0), _star(32, 0.5, 0.5)] if shape == "ring" else [_outline(shape)]
    if flaw is None or flaw.family != "warped":
        return outlines
    return [[_bend(point, flaw) for point in _dense(corners)] for corners in outlines]


def _dense(corners: list[Point]) -> list[Point]:
    """The outline with points between its corners."""
    return [
        (a[0] + t * (b[0] - a[0]) / 8, a[1] + t * (b[1] - a[1]) / 8)
        for a, b in zip(corners, [*corners[1:], corners[0]], strict=True)
        for t in range(8)
    ]


def _bend(point: Point, flaw: Flaw) -> Point:
    along = point[0] * math.cos(flaw.angle) + point[1] * math.sin(flaw.angle)
    shift = (0.25 + 0.35 * flaw.strength) * math.sin(4 * along)
    return point[0] - shift * math.sin(flaw.angle), point[1] + shift * math.cos(flaw.angle)


def _outline(shape: str) -> list[Point]:
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


def _star(tips: int, outer: float, inner: float) -> list[Point]:
    corners = []
    for k in range(2 * tips):
        radius = outer if k % 2 == 0 else inner
        angle = math.pi * k / tips - math.pi / 2
        corners.append((radius * math.cos(angle), radius * math.sin(angle)))
    return corners
