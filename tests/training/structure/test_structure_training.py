"""Training on a few pictures: it learns, resumes, keeps away from what is held out, and follows the labels that it is given."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from structure_models import little_benchmark, small_settings

from t2i_eval_kedro.datasets.adapter import check_folder
from t2i_eval_kedro.datasets.image_store import ImageStore
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.models.structure.model import describe, learned_from, load_structure
from t2i_eval_kedro.models.structure.networks import build_network
from t2i_eval_kedro.models.structure.settings import ARCHITECTURES, Architecture
from t2i_eval_kedro.training.launch import StructureJob, run
from t2i_eval_kedro.training.settings import LaunchSettings
from t2i_eval_kedro.training.structure.data import Labels, StructureData, in_half, structure_examples, true_mask
from t2i_eval_kedro.training.structure.train import calibrate, train_structure

LEVELS = (0.25, 0.5, 0.75)
ALONE = LaunchSettings(processes=1, machines=1, address=None, port=29500, accelerate=None)


@pytest.fixture(scope="module")
def little(tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, ImageStore, Any]:
    return little_benchmark(tmp_path_factory.mktemp("images") / "store")


def test_examples_have_the_mean_rating_and_the_planted_families(little) -> None:
    examples, _, made = little
    assert set(examples["fold"]) == {"train", "validation", "test", "unused"}
    ratings = made.ratings[made.ratings["dimension"] == "structure"].groupby("item_id")["score"].mean()
    assert examples.set_index("item_id")["score"].to_dict() == pytest.approx(ratings.to_dict())
    assert {"torn", "warped"} <= {name for text in examples["families"] for name in text.split(",")}
    with pytest.raises(T2IEvalError, match=r"Nobody rated 'beauty'.*structure"):
        structure_examples(made.items, made.ratings, pd.DataFrame({"item_id": [], "fold": []}), "beauty")


def test_targets_follow_the_labels_and_the_truth_stays_exact(little, tmp_path: Path, backbones: Path) -> None:
    examples, images, _ = little
    row = next(row for row in examples.itertuples(index=False) if true_mask(images, row).any())
    stored = true_mask(images, row)
    exact = Labels("exact", LEVELS)
    assert (exact.heat(stored, row) == stored).all()
    boxes, sloppy = Labels("boxes", LEVELS).heat(stored, row), Labels("sloppy", LEVELS, seed=3).heat(stored, row)
    assert (boxes >= stored * 1.0).all() or stored.sum() - (boxes * stored).sum() < 4  # specks are not seen
    assert boxes.sum() > stored.sum()
    assert set(np.unique(sloppy)) <= {0, *np.float32(LEVELS)}
    assert (Labels("sloppy", LEVELS, seed=3).heat(stored, row) == sloppy).all()
    three = row._replace(annotators=3)
    counts = np.array([[0, 1], [2, 3]], np.uint8)
    assert exact.heat(counts, three).tolist() == [[0, 0.25], [0.5, 0.75]]
    heat = exact.heat(np.array([[0, 255]], np.uint8), row._replace(mask="heat"))
    assert heat.tolist() == [[0, 1]]
    for other in (three, row._replace(mask="heat")):
        with pytest.raises(T2IEvalError, match="drawn around exact masks"):
            Labels("boxes", LEVELS).heat(counts, other)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_training_lowers_the_loss_and_writes_a_complete_model(
    architecture: Architecture, little, backbones: Path, tmp_path: Path
) -> None:
    examples, images, _ = little
    epochs = {"instances": 6.0}.get(architecture, 12.0)
    settings = small_settings(
        backbones, tmp_path, device="cpu", **{architecture: {"epochs": epochs, "losses": _losses(architecture)}}
    )
    folder, curve = run(
        StructureJob(architecture=architecture, settings=settings), examples, images, ALONE, tmp_path / "work"
    )
    assert list(curve.columns) == ["step", "loss", "learning_rate"]
    assert curve["loss"].tail(4).mean() < 0.9 * curve["loss"].head(4).mean()
    check_folder(folder, ("structure_config.json", "model.safetensors"))
    assert not (tmp_path / "work").exists()
    config = describe(folder)
    assert (config["scale_min"], config["scale_max"], config["dimension"]) == (0, 10, "structure")
    held_out = examples[examples["fold"] == "test"].head(3)
    results = load_structure(folder).predict([images.image(key) for key in held_out["image"]], list(held_out["prompt"]))
    assert all(0 <= result.score <= 10 for result in results)


def _losses(architecture: str) -> dict[str, float]:
    mask = 0.0 if architecture == "instances" else 1.0
    return {"mask_mse": mask, "mask_dice": mask, "mask_focal": mask, "score_mse": 0.0, "score_plcc": 1.0}


def test_the_held_out_fold_has_no_influence(little, backbones: Path, tmp_path: Path) -> None:
    examples, images, _ = little
    settings = small_settings(backbones, tmp_path, hybrid={"epochs": 2.0})
    changed = examples.copy()
    test = changed["fold"] == "test"
    changed.loc[test, "score"] = changed.loc[test, "score"].to_numpy()[::-1]
    changed.loc[test, "image"] = "not there"
    weights = []
    for name, rows in (("a", examples), ("b", changed)):
        train_structure(rows, images, "hybrid", settings, tmp_path / name)
        weights.append((tmp_path / name / "model.safetensors").read_bytes())
        assert describe(tmp_path / name)["calibration"] == describe(tmp_path / "a")["calibration"]
    assert weights[0] == weights[1]
    changed.loc[changed["fold"] == "validation", "fold"] = "unused"
    with pytest.raises(T2IEvalError, match="folds 'train' and 'validation'"):
        train_structure(changed, images, "hybrid", settings, tmp_path / "c")


def test_a_half_is_learned_from_alone_and_the_network_says_which_images_it_learned_from(
    little, backbones: Path, tmp_path: Path
) -> None:
    examples, images, _ = little
    train = examples[examples["fold"] == "train"]
    first, second = (in_half(train["prompt"], half) for half in ("first", "second"))
    assert (first ^ second).all()
    assert first.groupby(train["prompt"]).nunique().eq(1).all()
    assert abs(train.loc[first, "prompt"].nunique() - train.loc[second, "prompt"].nunique()) <= 1
    others = examples.copy()
    others.loc[train.index[second], ["score", "image"]] = [0.0, "not there"]
    settings = small_settings(backbones, tmp_path, hybrid={"epochs": 0.5}, half="first")
    train_structure(others, images, "hybrid", settings, tmp_path / "half")
    digests = {hashlib.sha256(images.read(key)).hexdigest()[:16] for key in train.loc[first, "image"]}
    assert learned_from(tmp_path / "half") == digests
    check_folder(tmp_path / "half", ("structure_config.json", "learned_from.json"))
    (tmp_path / "half" / "learned_from.json").unlink()
    assert learned_from(tmp_path / "half") is None


def test_features_are_computed_once(little, backbones: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    examples, images, _ = little
    settings = small_settings(backbones, tmp_path, hybrid={"epochs": 0.5}, flip=False)
    for name in ("a", "b"):
        with caplog.at_level("INFO"):
            train_structure(examples, images, "hybrid", settings, tmp_path / name)
    n = int(examples["fold"].isin(["train", "validation"]).sum())
    said = [record.getMessage() for record in caplog.records if "frozen features" in record.getMessage()]
    assert said == [f"Computed the frozen features of {k} images; others were kept." for k in (n, 0)]
    assert len(list((tmp_path / "features").rglob("*.safetensors"))) == n


def test_the_threshold_is_the_best_on_what_it_is_given(little, backbones: Path) -> None:
    examples, images, _ = little
    settings = small_settings(backbones, backbones)
    network = build_network("hybrid", settings.hybrid)
    data = StructureData(examples[examples["fold"] == "validation"], images, network, Labels("exact", LEVELS))
    targets = [data.target(row) for row in data.rows]
    # Right at .6 to .7: below, a false region of heat .5 counts; above, the true ones (.7) are lost.
    heats = [np.where(target >= 0.5, 0.7, 0.0).astype(np.float32) for target in targets]
    for heat in heats:
        heat[:6, 26:] = np.maximum(heat[:6, 26:], 0.5)
    raw = np.array([2 * row.score / 10 + 1 for row in data.rows])
    fitted = calibrate(data, heats, raw, [0.3, 0.6, 0.65, 0.8])
    assert fitted.threshold == 0.6
    assert (fitted.slope, fitted.offset) == pytest.approx((0.5, -0.5))
    nothing = calibrate(data, [np.zeros((32, 32), np.float32)] * len(targets), np.zeros(len(raw)), [0.3, 0.6])
    assert nothing.threshold == 0.6
    assert nothing.offset == pytest.approx(np.mean([row.score / 10 for row in data.rows]))


def test_an_interrupted_training_ends_in_the_same_weights(
    little, backbones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import TrainerCallback

    from t2i_eval_kedro.training.structure import train as module

    examples, images, _ = little
    settings = small_settings(backbones, tmp_path, hybrid={"epochs": 4.0}, save_steps=3, flip=False)
    train_structure(examples, images, "hybrid", settings, tmp_path / "whole", checkpoint_dir=tmp_path / "kept")
    assert not (tmp_path / "kept").exists()

    class Cut(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 5:
                raise KeyboardInterrupt

    monkeypatch.setattr(module, "_tell_share", lambda network: Cut())
    with pytest.raises(KeyboardInterrupt):
        train_structure(examples, images, "hybrid", settings, tmp_path / "cut", checkpoint_dir=tmp_path / "kept")
    monkeypatch.undo()
    train_structure(examples, images, "hybrid", settings, tmp_path / "resumed", checkpoint_dir=tmp_path / "kept")
    assert (tmp_path / "resumed/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()
