"""The embedded synthetic benchmark: made, not read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from t2i_eval_kedro.benchmarks.base import Benchmark, Dimension
from t2i_eval_kedro.benchmarks.files import DataIssues
from t2i_eval_kedro.shapes.make import VERSION, make_shapes

DIMENSIONS = (
    Dimension("overall", 0, 10, "how good the image is overall: its quality and its agreement with the prompt"),
    Dimension("appearance", 0, 10, "how clear and well drawn the image is, apart from the prompt"),
    Dimension("attributes", 0, 10, "whether the objects, colours, sizes and counts are those of the prompt"),
    Dimension("relations", 0, 10, "whether the objects stand to each other as the prompt says"),
)


STRUCTURE_NAME, STRUCTURE_SIDE = "shapes_structure", 256
STRUCTURE_DIMENSION = Dimension("structure", 0, 10, "how free the objects in the image are of structural flaws")


def read_structure(raw: Path, **settings: Any) -> Benchmark:
    """The same scenes with planted structural faults and their exact masks, at least `STRUCTURE_SIDE` pixels wide and high."""
    side = max(STRUCTURE_SIDE, int(settings.get("side", 0)))
    made = read(raw, **settings | {"structure": True, "side": side})
    made.name = STRUCTURE_NAME
    made.items = made.items.assign(benchmark=STRUCTURE_NAME)
    return made


def read(raw: Path, **settings: Any) -> Benchmark:
    """Make prompts, their images and their ratings (`shapes.make.ShapesSettings`); ``raw`` is not looked at."""
    made = make_shapes(**settings)
    return Benchmark(
        name="shapes",
        title=f"Shapes, version {VERSION} (synthetic: simulated generators and simulated raters)",
        licence="Apache-2.0",
        dimensions=(*DIMENSIONS, STRUCTURE_DIMENSION) if settings.get("structure") else DIMENSIONS,
        items=made.items,
        ratings=made.ratings,
        issues=DataIssues().frame(),
        elements=made.elements,
        element_ratings=made.element_ratings,
        preferences=made.preferences,
        synthetic=True,
        images=lambda: iter(made.images),
    )
