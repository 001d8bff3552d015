from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from plain_settings import settings_of
from random_model import Pictures

from t2i_eval_kedro.models.processors import load_processor
from t2i_eval_kedro.models.settings import ModelSettings
from t2i_eval_kedro.training.augment import VERSIONS, augmented, version_of
from t2i_eval_kedro.training.data import Encoder
from t2i_eval_kedro.training.settings import LoraSettings, SFTSettings
from t2i_eval_kedro.training.sft import train_sft


def noise(width: int = 40, height: int = 20) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(60, 190, (height, width, 3), dtype=np.uint8))


@given(strength=st.floats(0, 1), seed=st.integers(0, 2**31), version=st.integers(0, VERSIONS - 1))
def test_a_version_is_near_the_image_and_the_same_each_time(strength: float, seed: int, version: int) -> None:
    image = Image.new("RGB", (40, 20), (100, 100, 100))
    changed = augmented(image, "key", version, strength, seed)
    assert changed.size == image.size
    assert abs(np.asarray(changed).astype(float) - 100).max() <= 50 * strength + 1  # one colour has no contrast
    assert changed.tobytes() == augmented(image, "key", version, strength, seed).tobytes()
    if version == 0 or strength == 0:
        assert changed.tobytes() == image.tobytes()


@pytest.mark.parametrize("seed", range(20))
def test_an_object_moves_by_a_twentieth_of_the_sides_at_most_and_is_not_mirrored(seed: int) -> None:
    picture = np.full((100, 200, 3), 40, dtype=np.uint8)
    picture[60:70, 30:50] = 220  # on the left, below the middle
    changed = np.asarray(augmented(Image.fromarray(picture), "key", 1, 1.0, seed)).mean(axis=2)
    rows, columns = np.nonzero(changed > (changed.min() + changed.max()) / 2)
    assert len(rows) == 10 * 20  # all of it is still there
    assert abs(rows.mean() - 64.5) <= 5
    assert abs(columns.mean() - 39.5) <= 10


def test_versions_are_drawn_alike_and_differ() -> None:
    counts = Counter(version_of(str(n), seed=3) for n in range(4000))
    assert set(counts) == set(range(VERSIONS))
    assert min(counts.values()) > 880  # four standard deviations below 1000
    assert [version_of(str(n), 3) for n in range(50)] != [version_of(str(n), 4) for n in range(50)]
    assert len({augmented(noise(), "key", version, 0.5, 0).tobytes() for version in range(VERSIONS)}) == VERSIONS
    assert augmented(noise(), "a", 1, 0.5, 0).tobytes() != augmented(noise(), "b", 1, 0.5, 0).tobytes()


@pytest.mark.parametrize("cache_mb", [0, 64])
def test_training_images_alone_change_and_are_kept_by_version(base_model: Path, examples, cache_mb: int) -> None:
    import torch

    class Counted(Pictures):
        reads = 0

        def image(self, key: str) -> Image.Image:
            self.reads += 1
            return super().image(key)

    store = Counted({str(n): noise() for n in range(11)})
    processor = load_processor(base_model)
    plain = Encoder(examples, processor, store, cache_mb)
    changed = Encoder(examples, processor, store, cache_mb, augment=0.5, seed=1)
    for _ in range(2):  # once processed, once from what is kept
        for row in range(len(examples)):
            ours, theirs = (encoder([{"row": row}]) for encoder in (changed, plain))
            same = examples["fold"].iloc[row] != "train" or version_of(examples["example_id"].iloc[row], 1) == 0
            assert torch.equal(ours["pixel_values"], theirs["pixel_values"]) == same, row
            assert torch.equal(ours["input_ids"], theirs["input_ids"])
    versions = {(row.item_id, version_of(row.example_id, 1) * (row.fold == "train")) for row in examples.itertuples()}
    once = len(versions) + 11  # each version of an image, and in the plain encoder each image, is processed once
    assert (store.reads == once) == bool(cache_mb)


def test_a_run_that_was_cut_off_goes_on_with_the_same_images(base_model: Path, examples, tmp_path: Path) -> None:
    class CutOff(Pictures):
        left = 20

        def image(self, key: str) -> Image.Image:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            return super().image(key)

    model = settings_of(ModelSettings, model=str(base_model), device="cpu")
    settings = settings_of(
        SFTSettings,
        max_steps=8,
        batch_size=4,
        save_steps=1,
        eval_examples=0,
        image_cache_mb=0,
        augment=0.8,
        lora=settings_of(LoraSettings, r=2),
    )
    whole, cut, work = tmp_path / "whole", tmp_path / "cut", tmp_path / "work"
    images = {str(n): noise() for n in range(11)}
    train_sft(examples, Pictures(images), model, settings, whole)
    with pytest.raises(KeyboardInterrupt):
        train_sft(examples, CutOff(images), model, settings, cut, checkpoint_dir=work)
    assert list(work.glob("checkpoint-*"))
    train_sft(examples, Pictures(images), model, settings, cut, checkpoint_dir=work)
    plain = tmp_path / "plain"
    train_sft(examples, Pictures(images), model, settings.model_copy(update={"augment": 0.0}), plain)
    weights = [(folder / "adapter_model.safetensors").read_bytes() for folder in (whole, cut, plain)]
    assert weights[0] == weights[1] != weights[2]
