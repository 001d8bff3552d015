"""Small pieces for tests of the structure models: tiny backbones with random weights, settings, and a little benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import torch
from kedro_project import ROOT

from t2i_eval_kedro.benchmarks import read_benchmark
from t2i_eval_kedro.benchmarks.splits import only_tested, split_by_prompt
from t2i_eval_kedro.config import load_config
from t2i_eval_kedro.datasets.image_store import ImageStore, write_image_store
from t2i_eval_kedro.models.loading import fingerprint
from t2i_eval_kedro.models.structure.model import VERSION, Calibration, StructureConfig, StructureModel, save_structure
from t2i_eval_kedro.models.structure.networks import backbones, build_network
from t2i_eval_kedro.models.structure.settings import StructureSettings
from t2i_eval_kedro.shapes.generators import HELD_OUT
from t2i_eval_kedro.shapes.tiny_structure import _Students
from t2i_eval_kedro.shapes.tiny_vlm import build_processor
from t2i_eval_kedro.training.structure.data import structure_examples


def write_backbones(folder: Path) -> Path:
    """The tiny backbones before any training."""
    torch.manual_seed(0)
    tokenizer = build_processor().tokenizer
    _Students(tokenizer).save(folder, tokenizer)
    return folder


def small_settings(backbones: Path, work: Path, **changes: Any) -> StructureSettings:
    """The settings of the tiny networks for pictures of 64 pixels; ``changes`` of a network are mappings."""
    values = load_config(ROOT / "conf", "base").resolved.parameters["structure"]
    names = {
        "rahf": {"text_image": "clip"},
        "hybrid": {"vit": "vit", "cnn": "cnn"},
        "instances": {"segmenter": "mask2former"},
    }
    for network, folders in names.items():
        values[network] |= {field: str(backbones / name) for field, name in folders.items()}
        values[network] |= {
            "image_size": 64,
            "heat_size": 16 if network == "rahf" else 32,
            "epochs": 1.0,
            "batch_size": 8,
            "gradient_accumulation_steps": 1,
        }
        values[network] |= changes.pop(network, {})
    return StructureSettings.model_validate(
        values | {"features": str(work / "features"), "save_steps": 0, "logging_steps": 1} | changes
    )


def write_random_model(root: Path) -> Path:
    """A ``hybrid`` whose weights are random: what it says is of no meaning, and always the same."""
    settings = small_settings(write_backbones(root / "backbones"), root).hybrid
    network = build_network("hybrid", settings)
    config = StructureConfig(
        version=VERSION,
        architecture="hybrid",
        settings=settings.model_dump(mode="json"),
        fingerprints={field: fingerprint(name) for field, name in backbones(settings).items()},
        dimension="structure",
        scale_min=0,
        scale_max=10,
        calibration=Calibration(threshold=0.045, slope=1.0, offset=0.5),
    )
    (root / "model").mkdir()
    save_structure(StructureModel(network, config, None), root / "model")
    return root / "model"


def little_benchmark(folder: Path, n_prompts: int = 6) -> tuple[pd.DataFrame, ImageStore, Any]:
    """Examples, images and the benchmark: shapes with structural faults at 64 pixels."""
    made = read_benchmark("shapes", Path(), n_prompts=n_prompts, structure=True)
    write_image_store(folder, made.images())
    splits = only_tested(
        split_by_prompt(made.items, {"train": 0.5, "validation": 0.2, "test": 0.3}, 0), made.items, HELD_OUT
    )
    return structure_examples(made.items, made.ratings, splits, "structure"), ImageStore(folder), made
