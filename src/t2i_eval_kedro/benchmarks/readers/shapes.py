"""The embedded synthetic benchmark: made, not read."""

from __future__ import annotations

from pathlib import Path

from t2i_eval_kedro.benchmarks.base import Benchmark, Dimension
from t2i_eval_kedro.benchmarks.files import DataIssues
from t2i_eval_kedro.shapes.make import make_shapes

DIMENSIONS = (
    Dimension("overall", 0, 10, "how good the image is overall: its quality and its agreement with the prompt"),
    Dimension("appearance", 0, 10, "how clear and well drawn the image is, apart from the prompt"),
    Dimension("attributes", 0, 10, "whether the objects, colours, sizes and counts are those of the prompt"),
    Dimension("relations", 0, 10, "whether the objects stand to each other as the prompt says"),
)


def read(raw: Path, *, n_prompts: int, seed: int) -> Benchmark:
    """Make ``n_prompts`` prompts, their images and their ratings; ``raw`` is not looked at."""
    made = make_shapes(n_prompts, seed)
    return Benchmark(
        name="shapes",
        title="Shapes (synthetic: simulated generators and simulated raters)",
        licence="Apache-2.0",
        dimensions=DIMENSIONS,
        items=made.items,
        ratings=made.ratings,
        issues=DataIssues().frame(),
        elements=made.elements,
        element_ratings=made.element_ratings,
        synthetic=True,
        images=lambda: iter(made.images),
    )
