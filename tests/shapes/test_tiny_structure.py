"""The tiny backbones: labels say what the pictures show, cells are in their places, and what is written loads as real models do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer, Mask2FormerForUniversalSegmentation

from t2i_eval_kedro.shapes.render import RGB, Degradation, draw, place
from t2i_eval_kedro.shapes.scene import COLORS, sample_scene
from t2i_eval_kedro.shapes.tiny_structure import (
    CELL,
    PATCH_CELLS,
    PIXELS,
    BackboneRecipe,
    _by_cell,
    _caption,
    _cell_labels,
    _cells,
    build_backbones,
)


def test_labels_say_what_the_picture_shows() -> None:
    right = total = 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        objects = place(sample_scene(rng), rng)
        picture = np.asarray(draw(objects, Degradation(), PIXELS)).astype(int)
        shape, color = _cell_labels(objects)
        assert ((shape > 0) == (color > 0)).all()
        middles = picture[CELL // 2 :: CELL, CELL // 2 :: CELL]
        for number, name in enumerate(COLORS, start=1):
            shown = np.abs(middles - RGB[name]).sum(axis=-1) < 30
            right += int((shown & (color == number)).sum())
            total += int((shown | (color == number)).sum())
    assert right / total > 0.99


def test_cells_are_in_their_places() -> None:
    grid, k = 3, PATCH_CELLS
    where = torch.arange((grid * k) ** 2).reshape(grid * k, grid * k)
    tokens = where.reshape(grid, k, grid, k).permute(0, 2, 1, 3).reshape(1, grid * grid, k * k).float()
    assert torch.equal(_by_cell(tokens, grid)[0, ..., 0], where.float())
    picture = np.arange(64 * 64 * 3).reshape(64, 64, 3) % 251
    cells = _cells(picture.astype(np.uint8))
    assert (cells[3, 5].reshape(CELL, CELL, 3) == picture[3 * CELL : 4 * CELL, 5 * CELL : 6 * CELL]).all()


def test_a_caption_counts_what_is_there() -> None:
    rng = np.random.default_rng(3)
    objects = place(sample_scene(rng), rng)
    group = objects[0].group
    mine = [item for item in objects if item.group == group]
    assert _caption(mine).split()[1:3] == [group.size, group.color]
    assert _caption([]) == "no circle"


def test_what_is_built_loads_as_real_models_do(tmp_path: Path) -> None:
    measured = build_backbones(tmp_path / "out", BackboneRecipe(steps=2, scenes=1))
    assert set(measured) == {f"{name}_{what}" for name in ("vit", "cnn", "clip") for what in ("shape", "color")} | {
        "clip_caption"
    }
    for name, kind in (
        ("vit", AutoModel),
        ("cnn", AutoModel),
        ("clip", AutoModel),
        ("mask2former", Mask2FormerForUniversalSegmentation),
    ):
        assert kind.from_pretrained(tmp_path / "out" / name, use_safetensors=True) is not None
    segmenter = Mask2FormerForUniversalSegmentation.from_pretrained(tmp_path / "out" / "mask2former")
    cnn = AutoModel.from_pretrained(tmp_path / "out" / "cnn")
    torch.testing.assert_close(
        segmenter.model.pixel_level_module.encoder.embedder.embedder.convolution.weight,
        cnn.embedder.embedder.convolution.weight,
    )
    assert AutoTokenizer.from_pretrained(tmp_path / "out" / "clip")("two large red circles")["input_ids"]
    assert "| vit_shape |" in (tmp_path / "out" / "README.md").read_text()
    assert sum(path.stat().st_size for path in (tmp_path / "out").rglob("*") if path.is_file()) < 5_000_000
