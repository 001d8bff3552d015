"""Builds the tiny backbones of the models of structural faults, in the form in which transformers loads real ones.

``vit`` (DINOv2 with registers), ``cnn`` (ResNet), ``clip`` (CLIP) and ``mask2former`` (around the same ResNet) are folders. The first three are
pre-trained together on pictures of random scenes without any structural fault: each patch says the shape and colour of what it shows and paints it
without its degradation, and CLIP joins pictures and captions. No fault, score, rating or prompt of the benchmark is used.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn
from torch.nn import functional

from t2i_eval_kedro.datasets.atomic import atomic_folder
from t2i_eval_kedro.shapes.render import RADIUS, SIDE, Degradation, Placed, draw, outlines, place
from t2i_eval_kedro.shapes.scene import COLORS, NUMBERS, SHAPES, Group, noun, sample_scene
from t2i_eval_kedro.shapes.tiny_vlm import build_processor

PIXELS = 256  # of a side of a picture
CROP = 128  # pixels of a side that is learned from at a time; a cell of labels has 4
CELL, PATCH = PIXELS // SIDE, 16
PATCH_CELLS = PATCH // CELL
STREAM = 9_000_001  # of the scenes, apart from every other random stream
N_SHAPES, N_COLORS = len(SHAPES) + 1, len(COLORS) + 1


@dataclass(frozen=True)
class BackboneRecipe:
    """How the backbones are pre-trained: steps of ``scenes`` pictures, each cut into four, at a highest rate ``lr``."""

    steps: int = 1200
    scenes: int = 6
    lr: float = 2e-3
    seed: int = 0


def build_backbones(out: Path, recipe: BackboneRecipe | None = None) -> dict[str, float]:
    """Pre-train the backbones and write them below ``out``, whole or not at all.

    Returns:
        Accuracy of shapes and colours on fresh pictures, by backbone (``vit_shape``, ...), and of captions (``clip_caption``).
    """
    recipe = recipe or BackboneRecipe()
    torch.manual_seed(recipe.seed)
    processor = build_processor()
    tokenizer: Any = processor.tokenizer
    student = _Students(tokenizer)
    optimizer = torch.optim.AdamW(student.parameters(), lr=recipe.lr, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.lr, recipe.steps, pct_start=0.1)
    start = time.monotonic()
    for step in range(recipe.steps):
        loss = student.loss(_batch(recipe, step, tokenizer))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 49:
            print(
                f"step {step + 1} of {recipe.steps}: loss {loss.item():.3f}, {time.monotonic() - start:.0f} s",
                flush=True,
            )
    measured = student.measure([_batch(recipe, -1 - k, tokenizer) for k in range(8)])
    with atomic_folder(out) as folder:
        student.save(folder, tokenizer)
        (folder / "README.md").write_text(_card(recipe, measured), encoding="utf-8")
        (folder / "pretraining.json").write_text(
            json.dumps({"recipe": asdict(recipe), "measured": measured}, indent=1) + "\n"
        )
    return measured


def configurations(tokenizer: Any) -> dict[str, Any]:
    """The configuration of each tiny backbone; CLIP's texts are those of ``tokenizer``."""
    from transformers import (
        CLIPConfig,
        CLIPTextConfig,
        CLIPVisionConfig,
        Dinov2WithRegistersConfig,
        Mask2FormerConfig,
        ResNetConfig,
    )

    cnn = ResNetConfig(embedding_size=16, hidden_sizes=[16, 32, 64, 96], depths=[1, 1, 1, 1], layer_type="basic")
    vision = CLIPVisionConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=PIXELS,
        patch_size=PATCH,
        projection_dim=32,
    )
    text = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=77,
        projection_dim=32, bos_token_id=None, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    make_config: Any = ResNetConfig
    segmenter: Any = Mask2FormerConfig
    stages = make_config(
        embedding_size=16, hidden_sizes=[16, 32, 64, 96], depths=[1, 1, 1, 1], layer_type="basic",
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    return {
        "vit": Dinov2WithRegistersConfig(
            hidden_size=64, num_hidden_layers=4, num_attention_heads=4, mlp_ratio=2, image_size=PIXELS, patch_size=PATCH, num_register_tokens=2
        ),
        "cnn": cnn,
        "clip": CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=32),
        "mask2former": segmenter(
            backbone_config=stages, feature_size=32, mask_feature_size=32, hidden_dim=32, encoder_feedforward_dim=64, encoder_layers=1,
            decoder_layers=3, num_attention_heads=2, dim_feedforward=64, num_queries=8, train_num_points=768, num_labels=1, no_object_weight=0.2,
        ),
    }  # fmt: skip


class _Students(nn.Module):
    """The backbones with the heads that they are pre-trained with."""

    def __init__(self, tokenizer: Any) -> None:
        from transformers import CLIPModel, Dinov2WithRegistersModel, ResNetModel

        super().__init__()
        self.configurations = configurations(tokenizer)
        self.vit = Dinov2WithRegistersModel(self.configurations["vit"])
        self.cnn = ResNetModel(self.configurations["cnn"])
        self.clip = CLIPModel(self.configurations["clip"])
        per_cell = N_SHAPES + N_COLORS + 3 * CELL**2
        self.vit_head = nn.Linear(64, per_cell * PATCH_CELLS**2)
        self.clip_head = nn.Linear(64, per_cell * PATCH_CELLS**2)
        self.cnn_heads = nn.ModuleList(nn.Conv2d(c, per_cell, 1) for c in (16, 32, 64, 96))

    def predict(self, pixels: Tensor) -> dict[str, Tensor]:
        """What each backbone says about each cell: (batch, cells, cells, values)."""
        cells = CROP // CELL
        grid = CROP // PATCH
        vit = self.vit_head(self.vit(pixel_values=pixels).last_hidden_state[:, -(grid**2) :])
        clip = self.clip_head(
            self.clip.vision_model(pixel_values=pixels, interpolate_pos_encoding=True).last_hidden_state[
                :, -(grid**2) :
            ]
        )
        stages = self.cnn(pixel_values=pixels, output_hidden_states=True).hidden_states[-4:]
        cnn = sum(
            functional.interpolate(head(stage), (cells, cells), mode="bilinear")
            for head, stage in zip(self.cnn_heads, stages, strict=True)
        )
        assert isinstance(cnn, Tensor)
        return {"vit": _by_cell(vit, grid), "clip": _by_cell(clip, grid), "cnn": cnn.permute(0, 2, 3, 1)}

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        total = torch.zeros(())
        for logits in self.predict(batch["pixels"]).values():
            shape, color, paint = torch.split(logits, [N_SHAPES, N_COLORS, 3 * CELL**2], dim=-1)
            total = total + functional.cross_entropy(shape.flatten(0, 2), batch["shape"].flatten())
            total = total + functional.cross_entropy(color.flatten(0, 2), batch["color"].flatten())
            total = total + 5 * functional.mse_loss(paint, batch["paint"])
        logits = self._similarity(batch)
        same = torch.arange(len(logits))
        return total + 0.25 * (functional.cross_entropy(logits, same) + functional.cross_entropy(logits.T, same))

    def _similarity(self, batch: dict[str, Tensor]) -> Tensor:
        out = self.clip(
            pixel_values=batch["pixels"],
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            interpolate_pos_encoding=True,
        )
        logits: Tensor = out.logits_per_image
        return logits

    @torch.inference_mode()
    def measure(self, batches: list[dict[str, Tensor]]) -> dict[str, float]:
        """Accuracies over cells that show an object, and of the caption among those of a batch."""
        self.eval()
        right: dict[str, list[float]] = {}
        for batch in batches:
            shown = batch["shape"] > 0
            for name, logits in self.predict(batch["pixels"]).items():
                shape, color, _ = torch.split(logits, [N_SHAPES, N_COLORS, 3 * CELL**2], dim=-1)
                right.setdefault(f"{name}_shape", []).append(
                    (shape.argmax(-1) == batch["shape"])[shown].float().mean().item()
                )
                right.setdefault(f"{name}_color", []).append(
                    (color.argmax(-1) == batch["color"])[shown].float().mean().item()
                )
            best = self._similarity(batch).argmax(-1)
            right.setdefault("clip_caption", []).append((best == torch.arange(len(best))).float().mean().item())
        return {name: round(float(np.mean(values)), 3) for name, values in right.items()}

    def save(self, folder: Path, tokenizer: Any) -> None:
        from transformers import Mask2FormerForUniversalSegmentation

        segmenter = Mask2FormerForUniversalSegmentation(self.configurations["mask2former"])
        segmenter.model.pixel_level_module.encoder.load_state_dict(
            {name: value for name, value in self.cnn.state_dict().items() if not name.startswith("pooler.")}
        )
        models: dict[str, Any] = {"vit": self.vit, "cnn": self.cnn, "clip": self.clip, "mask2former": segmenter}
        for name, model in models.items():
            model.to(torch.float16).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / "clip")


def _by_cell(logits: Tensor, grid: int) -> Tensor:
    """(batch, patches, cells of a patch x values) as (batch, rows of cells, columns of cells, values)."""
    k = PATCH_CELLS
    cells = logits.reshape(len(logits), grid, grid, k, k, -1).transpose(2, 3)
    return cells.reshape(len(logits), grid * k, grid * k, -1)


def _batch(recipe: BackboneRecipe, step: int, tokenizer: Any) -> dict[str, Tensor]:
    """Pictures cut into four, with the labels of their cells and captions of what lies in each."""
    pixels, shapes, colors, paints, captions = [], [], [], [], []
    rng = np.random.default_rng([recipe.seed, STREAM, abs(step), int(step < 0)])
    for _ in range(recipe.scenes):
        objects = place(sample_scene(rng), rng)
        clean = np.asarray(draw(objects, Degradation(), PIXELS), dtype=np.uint8)
        spoiled = draw(
            objects, _degradation(rng), PIXELS, grain_seed=[recipe.seed, STREAM, abs(step), int(rng.integers(2**31))]
        )
        seen = np.asarray(spoiled, dtype=np.uint8)
        shape, color = _cell_labels(objects)
        turns = int(rng.integers(4))
        for top in (0, CROP):
            for left in (0, CROP):
                cut, cells = (
                    np.s_[top : top + CROP, left : left + CROP],
                    np.s_[top // CELL : (top + CROP) // CELL, left // CELL : (left + CROP) // CELL],
                )
                pixels.append(np.rot90(seen[cut], turns))
                shapes.append(np.rot90(shape[cells], turns))
                colors.append(np.rot90(color[cells], turns))
                paints.append(_cells(np.rot90(clean[cut], turns)))
                captions.append(
                    _caption(
                        [
                            item
                            for item in objects
                            if top <= item.y * CELL < top + CROP and left <= item.x * CELL < left + CROP
                        ]
                    )
                )
    # CLIP reads a text off its end-of-text token.
    encoded = tokenizer(
        [caption + tokenizer.eos_token for caption in captions],
        padding=True,
        truncation=True,
        max_length=77,
        return_tensors="pt",
    )
    mean, std = (
        torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1),
        torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1),
    )
    values = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255
    return {
        "pixels": (values - mean) / std,
        "shape": torch.from_numpy(np.stack(shapes)).long(),
        "color": torch.from_numpy(np.stack(colors)).long(),
        "paint": torch.from_numpy(np.stack(paints)).float() / 255 - 0.5,
        "input_ids": encoded["input_ids"],
        "attention_mask": encoded["attention_mask"],
    }


def _degradation(rng: np.random.Generator) -> Degradation:
    """A picture is clear in half of the cases, else blurred, hazy or both; never grainy, which is a held-out fault."""
    strength = [float(rng.uniform(0.1, 0.9)) if rng.random() < 0.3 else 0.0 for _ in range(2)]
    return Degradation(blur=strength[0], haze=strength[1])


def _cell_labels(objects: list[Placed]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Shape and colour (0: none) of what each cell shows, (64, 64) each."""
    shape, color = Image.new("L", (PIXELS, PIXELS)), Image.new("L", (PIXELS, PIXELS))
    for item in objects:
        radius = RADIUS[item.group.size]
        for number, corners in enumerate(outlines(item.group.shape)):
            points = [((item.x + radius * u) * CELL, (item.y + radius * v) * CELL) for u, v in corners]
            kind, hue = (0, 0) if number else (1 + SHAPES.index(item.group.shape), 1 + COLORS.index(item.group.color))
            ImageDraw.Draw(shape).polygon(points, fill=kind)
            ImageDraw.Draw(color).polygon(points, fill=hue)
    middle = np.s_[
        CELL // 2 :: CELL, CELL // 2 :: CELL
    ]  # drawn as the picture is, and read where each cell has its middle
    return np.array(shape, dtype=np.uint8)[middle], np.array(color, dtype=np.uint8)[middle]


def _cells(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """(side, side, 3) as (cells, cells, pixels of a cell x 3)."""
    n = len(picture) // CELL
    return picture.reshape(n, CELL, n, CELL, 3).transpose(0, 2, 1, 3, 4).reshape(n, n, -1)


def _caption(objects: list[Placed]) -> str:
    counted: dict[Group, int] = {}
    for item in objects:
        counted[item.group] = counted.get(item.group, 0) + 1
    parts = []
    for group, count in counted.items():
        shown = Group(group.shape, group.color, group.size, count, group.region)
        parts.append(f"{NUMBERS[count - 1]} {group.size} {group.color} {noun(shown)}")
    return " and ".join(parts) or "no circle"


def _card(recipe: BackboneRecipe, measured: dict[str, float]) -> str:
    rows = "\n".join(f"| {name} | {value:.3f} |" for name, value in measured.items())
    return f"""# tiny_structure

Tiny backbones for tests and demonstrations of the structure models of `t2i_eval_kedro`: `vit` (DINOv2 with registers), `cnn` (ResNet), `clip`
(CLIP) and `mask2former` (around the same ResNet, its other weights random). They know pictures of coloured shapes and nothing else. Weights are stored in 16 bits.

**Data.** Synthetic: random scenes of the `shapes` benchmark at {PIXELS} pixels, some blurred or hazy, cut into four; none has a structural fault
or grain. Each patch learned the shape and colour that it shows and to paint it without its degradation; CLIP also learned captions.

**Training.** `kedro build-tiny-structure`, seed {recipe.seed}: {recipe.steps} steps of {4 * recipe.scenes} cuts, rate {recipe.lr:g}.

Accuracy on fresh pictures (cells that show an object; captions among {4 * recipe.scenes}):

| what | accuracy |
|---|---|
{rows}

Licence: Apache-2.0.
"""
