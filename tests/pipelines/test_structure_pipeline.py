"""The pipeline structure from tables and images to a summary and a page, for one architecture."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner
from structure_models import little_benchmark, small_settings, write_backbones

from t2i_eval_kedro.benchmarks.splits import only_tested, split_by_prompt
from t2i_eval_kedro.config import load_config
from t2i_eval_kedro.datasets.adapter import StructureFolder, TrainingFolder
from t2i_eval_kedro.datasets.image_store import ImageStore, ImageStoreDataset
from t2i_eval_kedro.pipelines.meta_evaluation.nodes import MetaEvaluationSettings
from t2i_eval_kedro.pipelines.structure import create_pipeline
from t2i_eval_kedro.shapes.generators import HELD_OUT
from t2i_eval_kedro.training.settings import LaunchSettings

CONF = Path(__file__).parents[2] / "conf"


def test_one_architecture_from_tables_to_the_page(tmp_path: Path) -> None:
    parameters = load_config(CONF, "base", {"benchmark": "shapes_structure"}).resolved.parameters
    _, images, made = little_benchmark(tmp_path / "store", n_prompts=10)
    splits = only_tested(
        split_by_prompt(made.items, {"train": 0.4, "validation": 0.1, "test": 0.5}, 0), made.items, HELD_OUT
    )
    settings = small_settings(write_backbones(tmp_path / "backbones"), tmp_path, hybrid={"epochs": 2.0})
    given = {
        "items": made.items,
        "ratings": made.ratings,
        "splits": splits,
        "images": images,
        "data_card": {"name": "shapes_structure", "synthetic": True},
        "params:structure": settings,
        "params:launch": LaunchSettings(processes=1, machines=1, address=None, port=29500, accelerate=None),
        "params:seed": 1,
        "params:meta_evaluation": MetaEvaluationSettings.model_validate(
            parameters["meta_evaluation"] | {"n_resamples": 100}
        ),
        "parameters": parameters,
    }
    for other in ("rahf", "instances"):
        given |= {
            f"structure_{other}_predicted": pd.DataFrame(),
            f"structure_{other}_masks": ImageStore(None),
            f"structure_{other}_time": None,
        }
    kept = {
        "structure_hybrid_training": TrainingFolder(filepath=str(tmp_path / ".hybrid")),
        "structure_hybrid_model": StructureFolder(filepath=str(tmp_path / "hybrid")),
        "structure_hybrid_masks": ImageStoreDataset(filepath=str(tmp_path / "masks")),
    }
    made_here = ("structure_hybrid_predicted", "structure_hybrid_time", "structure_summary", "structure_report")
    catalog = DataCatalog(
        {name: MemoryDataset(value, copy_mode="assign") for name, value in given.items() if value is not None}
        | {name: MemoryDataset({}, copy_mode="assign") for name, value in given.items() if value is None}
        | {name: MemoryDataset(copy_mode="assign") for name in made_here}
        | kept
    )
    pipeline = create_pipeline()
    assert {tag for node in pipeline.nodes for tag in node.tags} == {"structure", "rahf", "hybrid", "instances"}
    SequentialRunner().run(pipeline.only_nodes_with_tags("hybrid"), catalog)
    summary = catalog.load("structure_summary")
    model = summary["models"]["hybrid"]
    strata = model["strata"]
    n_test = int((splits["fold"] == "test").sum())
    assert strata["seen"]["n"] + strata["unseen"]["n"] == strata["all"]["n"] == n_test
    assert strata["unseen"]["n"] == n_test / 4
    assert model["training"]["steps"] > 0
    assert model["images_per_second"] > 0
    assert summary["labels"] == "exact"
    assert len(catalog.load("structure_hybrid_masks")) == 2 * n_test
    assert "<h1>Where images are broken" in catalog.load("structure_report")
    assert (tmp_path / "hybrid" / "recipe.yml").is_file()
