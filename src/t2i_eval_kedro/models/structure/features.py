"""Features of frozen networks, kept on disk by network and image, so that each is computed once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from t2i_eval_kedro.datasets.atomic import atomic_file


class FeatureCache:
    """A folder with one safetensors file for each image, in half precision.

    Args:
        folder: folder of all caches.
        network: what the features are of: hash of the weights and whatever else changes them.
    """

    def __init__(self, folder: Path, network: str) -> None:
        self.folder = folder / hashlib.sha256(network.encode()).hexdigest()[:24]

    def path(self, pixels: npt.NDArray[np.uint8]) -> Path:
        """The file of an image (height, width, 3)."""
        digest = hashlib.sha256(f"{pixels.shape}".encode() + pixels.tobytes()).hexdigest()
        return self.folder / digest[:2] / f"{digest}.safetensors"

    def read(self, pixels: npt.NDArray[np.uint8]) -> dict[str, Tensor] | None:
        """The features of an image, or None where they are not kept or the file is damaged."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(self.path(pixels))
        except (FileNotFoundError, SafetensorError):
            return None

    def write(self, pixels: npt.NDArray[np.uint8], features: Mapping[str, Tensor]) -> None:
        """Keep the features of an image."""
        from safetensors.torch import save_file

        with atomic_file(self.path(pixels)) as path:
            save_file({name: value.to(torch.float16).contiguous() for name, value in features.items()}, path)
