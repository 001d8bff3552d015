"""RichHF-18K, from files made in the authors' layout."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from benchmark_helpers import kinds, picture
from PIL import Image
from test_tfrecord import example, write_tfrecord

from t2i_eval_kedro.benchmarks import read_benchmark
from t2i_eval_kedro.datasets.image_store import ImageStore, write_image_store
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.schema import HEAT, mask_key


def grey(level: int) -> bytes:
    out = io.BytesIO()
    Image.new("L", (512, 512), level).save(out, "JPEG")
    return out.getvalue()


def record(name: str, level: int, artifact: float, **more: list) -> bytes:
    features = {
        "filename": [name.encode()],
        "artifact_score": [artifact],
        "misalignment_score": [0.5],
        "aesthetics_score": [0.25],
        "overall_score": [1.0],
        "artifact_map": [grey(level)],
        "misalignment_map": [grey(0)],
        "prompt_misalignment_label": [b"1 1 0"],
    }
    return example(**features | more)


def test_scores_prompts_and_heat_maps_are_joined_by_file_name(tmp_path: Path) -> None:
    folder = tmp_path / "richhf"
    write_tfrecord(
        folder / "train.tfrecord", [record("a/1.png", 40, 0.75), record("a/2.png", 90, 1.5), record("3.png", 0, 0.0)]
    )
    write_tfrecord(folder / "test.tfrecord", [record("a/4.png", 200, 0.0)])
    (folder / "images").mkdir()
    for name in ("1", "2", "4"):
        (folder / "images" / f"{name}.png").write_bytes(picture())
    (folder / "prompts.csv").write_text("filename,prompt\na/1.png,a cat\n2.png,a dog\n")
    (folder / "images" / "4.txt").write_text("a man, a hat\n")
    made = read_benchmark("richhf", tmp_path)
    assert made.items.set_index("item_id")["prompt"].to_dict() == {
        "a/1.png": "a cat",
        "a/2.png": "a dog",
        "a/4.png": "a man, a hat",
    }
    assert [json.loads(text)["split"] for text in made.items["attributes"]] == ["train", "train", "test"]
    assert all(json.loads(text)["mask"] == HEAT for text in made.items["attributes"])
    ratings = made.ratings.pivot(index="item_id", columns="dimension", values="score")
    assert ratings.loc["a/1.png"].to_dict() == {"structure": 0.75, "alignment": 0.5, "aesthetics": 0.25, "overall": 1.0}
    assert np.isnan(ratings.loc["a/2.png", "structure"])
    assert (kinds(made)["incomplete_item"], kinds(made)["off_scale_rating"]) == (1, 1)
    write_image_store(tmp_path / "store", made.images())
    store = ImageStore(tmp_path / "store")
    assert len(store) == 6
    for name, level in (("a/1.png", 40), ("a/2.png", 90), ("a/4.png", 200)):
        heat = np.asarray(store.image(mask_key(name)).convert("L")).astype(int)
        assert heat.shape == (512, 512)
        assert abs(heat - level).max() <= 1


def test_missing_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "richhf").mkdir()
    with pytest.raises(T2IEvalError, match=r"train\.tfrecord, dev\.tfrecord, test\.tfrecord"):
        read_benchmark("richhf", tmp_path)
    write_tfrecord(tmp_path / "richhf" / "dev.tfrecord", [record("1.png", 0, 0.5)])
    (tmp_path / "richhf" / "prompts.csv").write_text("name,text\n")
    with pytest.raises(T2IEvalError, match="columns filename and prompt"):
        read_benchmark("richhf", tmp_path)
