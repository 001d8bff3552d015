"""A trained model of structural faults: images and prompts in; heat maps, masks and scores out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict

from t2i_eval_kedro.datasets.adapter import write_manifest
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.models.loading import fingerprint
from t2i_eval_kedro.models.structure.networks import Network, backbones, build_network, portable
from t2i_eval_kedro.models.structure.settings import (
    Architecture,
    HybridSettings,
    InstancesSettings,
    NetworkSettings,
    RahfSettings,
)

VERSION = 2  # raised whenever the same folder gives other masks or scores
CONFIG, WEIGHTS, LEARNED_FROM = "structure_config.json", "model.safetensors", "learned_from.json"
DIGITS = 16  # of a SHA-256 that names an image
_SETTINGS: dict[str, type[NetworkSettings]] = {
    "rahf": RahfSettings,
    "hybrid": HybridSettings,
    "instances": InstancesSettings,
}


@dataclass(frozen=True)
class StructureResult:
    """What a model says about one image.

    Attributes:
        score: structure of the image on the scale of the ratings that the model learned from; higher is better.
        heat: (height, width) of the image, 0 to 1: how likely each pixel belongs to a fault.
        mask: (height, width), true where the heat is above the model's threshold.
    """

    score: float
    heat: npt.NDArray[np.float32]
    mask: npt.NDArray[np.bool_]


class Calibration(BaseModel):
    """What is fitted on validation: the threshold of the mask, and the line from the network's score to 0 to 1."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    threshold: float
    slope: float
    offset: float


class StructureConfig(BaseModel):
    """The content of ``structure_config.json``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int
    architecture: Architecture
    settings: dict[str, Any]
    fingerprints: dict[str, str]
    dimension: str
    scale_min: float
    scale_max: float
    calibration: Calibration


class StructureModel:
    """A trained network with what was fitted on validation.

    Example:
        ::

            model = load_structure("data/06_models/shapes_structure/structure_tiny/full/seed_0/hybrid")
            result = model.predict([Image.open("a.png")], ["a man with a hat"])[0]
            result.score, result.mask
    """

    def __init__(self, network: Network, config: StructureConfig, tokenizer: Any, device: str = "cpu") -> None:
        """Take the parts; see `load_structure`."""
        self.network, self.config, self.tokenizer = network.to(device).eval(), config, tokenizer
        self.device = torch.device(device)

    @torch.inference_mode()
    def predict(
        self, images: Sequence[Image.Image], prompts: Sequence[str] | None = None, batch_size: int = 16
    ) -> list[StructureResult]:
        """Score and mask of each image.

        Args:
            images: images of any size; a mask has the size of its image.
            prompts: the prompt of each image; a network that reads no text needs none, another takes an empty text in its place.
            batch_size: images of a forward pass.
        """
        if prompts is not None and len(prompts) != len(images):
            raise T2IEvalError(f"There are {len(images)} images and {len(prompts)} prompts; give one for one.")
        results = []
        for start in range(0, len(images), batch_size):
            chosen = images[start : start + batch_size]
            texts = list(prompts[start : start + batch_size]) if prompts is not None else [""] * len(chosen)
            pixels = torch.from_numpy(np.stack([pixels_of(image, self.network.side) for image in chosen]))
            tokens = (
                tokenize(self.tokenizer, texts, self.config.settings.get("text_prefix", ""))
                if self.network.text
                else {}
            )
            moved = {name: value.to(self.device) for name, value in tokens.items()}
            out = self.network(to_unit(pixels.to(self.device)), **moved)
            heats = out["heat"].float().sigmoid().cpu().numpy()
            for image, heat, raw in zip(chosen, heats, out["score"].float().cpu().tolist(), strict=True):
                results.append(self._result(image, heat, raw))
        return results

    def _result(self, image: Image.Image, heat: npt.NDArray[np.float32], raw: float) -> StructureResult:
        calibration, config = self.config.calibration, self.config
        unit = min(max(calibration.slope * raw + calibration.offset, 0.0), 1.0)
        full = resize_heat(heat, image.width, image.height)
        score = config.scale_min + unit * (config.scale_max - config.scale_min)
        return StructureResult(round(score, 6), full, full >= calibration.threshold)


def load_structure(folder: str | Path, device: str = "cpu") -> StructureModel:
    """The model in ``folder``, as a training wrote it.

    Args:
        folder: folder of the model; its backbones are loaded from where its settings say, or from beside it.
        device: ``cpu`` or ``cuda``.

    Raises:
        T2IEvalError: the folder holds no such model, or a frozen backbone is not the one that it was trained with.
    """
    from safetensors.torch import load_file

    root = Path(folder)
    if not (root / CONFIG).is_file() or not (root / WEIGHTS).is_file():
        raise T2IEvalError(
            f"'{folder}' is not a model of structure ({CONFIG} or {WEIGHTS} is missing); give the folder of a trained one."
        )
    config = StructureConfig.model_validate_json((root / CONFIG).read_text(encoding="utf-8"))
    if config.version != VERSION:
        raise T2IEvalError(
            f"'{folder}' is of version {config.version}, this release reads version {VERSION}; train it again."
        )
    settings = portable(_SETTINGS[config.architecture].model_validate(config.settings), root)
    network = build_network(config.architecture, settings)
    for field, name in backbones(settings).items():
        if f"{field}." in network.frozen or (network.frozen and field == "text_image"):
            actual = fingerprint(name)
            if actual != config.fingerprints[field]:
                raise T2IEvalError(
                    f"The backbone '{name}' is not the one that '{folder}' was trained with; restore it or train again."
                )
    missing, unexpected = network.load_state_dict(load_file(root / WEIGHTS), strict=False)
    lacking = [name for name in missing if not name.startswith(network.frozen or ("\0",))]
    if lacking or unexpected:
        raise T2IEvalError(
            f"The weights in '{folder}' do not fit its settings ({(lacking + unexpected)[0]}); train it again."
        )
    tokenizer = load_tokenizer(settings) if network.text else None
    return StructureModel(network, config, tokenizer, device)


def save_structure(model: StructureModel, folder: Path) -> None:
    """Write what was trained, its configuration and the manifest into the existing ``folder``; frozen backbones stay where they are."""
    from safetensors.torch import save_file

    frozen = model.network.frozen or ("\0",)
    weights = {k: v.cpu().contiguous() for k, v in model.network.state_dict().items() if not k.startswith(frozen)}
    save_file(weights, folder / WEIGHTS)
    (folder / CONFIG).write_text(model.config.model_dump_json(indent=1) + "\n", encoding="utf-8")
    write_manifest(folder)


def write_learned_from(folder: Path, images: Iterable[bytes]) -> None:
    """Write which encoded images a network learned from into its ``folder``, by their SHA-256.

    Images of validation, on which three numbers are fitted (`Calibration`), do not count.
    """
    digests = sorted({sha256(data).hexdigest()[:DIGITS] for data in images})
    (folder / LEARNED_FROM).write_text(json.dumps(digests) + "\n", encoding="utf-8")


def learned_from(folder: Path) -> frozenset[str] | None:
    """The first `DIGITS` hexadecimal digits of the SHA-256 of each image that the network in ``folder`` learned from; None where nothing says so."""
    path = folder / LEARNED_FROM
    return frozenset(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def load_tokenizer(settings: NetworkSettings) -> Any:
    """The tokenizer of the text encoder, whose folder or hub name is ``text_image``."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(settings.text_image)  # type: ignore[attr-defined]


def tokenize(tokenizer: Any, prompts: Sequence[str], prefix: str) -> dict[str, torch.Tensor]:
    """``input_ids`` and ``attention_mask`` (batch, tokens) of the prompts behind ``prefix``, cut to 77 tokens as CLIP does."""
    encoded = tokenizer(
        [prefix + prompt for prompt in prompts], padding=True, truncation=True, max_length=77, return_tensors="pt"
    )
    return {name: encoded[name] for name in ("input_ids", "attention_mask")}


def pixels_of(image: Image.Image, side: int) -> npt.NDArray[np.uint8]:
    """The image as (side, side, 3), resized to a square where it is of another size."""
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    if rgb.size != (side, side):
        rgb = rgb.resize((side, side), Image.Resampling.BILINEAR, reducing_gap=3.0)
    return np.array(rgb, dtype=np.uint8)


def to_unit(pixels: torch.Tensor) -> torch.Tensor:
    """Pixels (batch, height, width, 3) of bytes as (batch, 3, height, width) from 0 to 1."""
    return pixels.permute(0, 3, 1, 2).float().div(255).contiguous()


def resize_heat(heat: npt.NDArray[np.float32], width: int, height: int) -> npt.NDArray[np.float32]:
    """A heat map resized (bilinear) to an image's size."""
    if heat.shape == (height, width):
        return heat
    resized = Image.fromarray(heat.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized, dtype=np.float32)


def describe(folder: Path) -> dict[str, Any]:
    """The configuration of the model in ``folder`` in plain JSON types."""
    content: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    return content
