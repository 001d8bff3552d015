"""From items, ratings and masks to what a model of structural faults learns: pixels, prompts, heat maps and scores."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from PIL import Image

from t2i_eval_kedro.benchmarks.readers.evalmuse_structure import marked_counts
from t2i_eval_kedro.datasets.image_store import ImageStore
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.models.structure.features import FeatureCache
from t2i_eval_kedro.models.structure.model import pixels_of, to_unit, tokenize
from t2i_eval_kedro.models.structure.networks import Network
from t2i_eval_kedro.schema import HEAT, mask_key
from t2i_eval_kedro.shapes.annotations import LabelKind, annotate

COLUMNS = (
    "item_id",
    "image",
    "prompt",
    "generator",
    "fold",
    "score",
    "scale_min",
    "scale_max",
    "mask",
    "annotators",
    "families",
)
TRUE_HEAT = 0.5  # of a heat map (RichHF): grey levels from which a pixel counts as faulty when regions are compared


def structure_examples(
    items: pd.DataFrame, ratings: pd.DataFrame, splits: pd.DataFrame, dimension: str
) -> pd.DataFrame:
    """One row for each item that has an image, a fold and a rating on ``dimension``, with the columns `COLUMNS`.

    ``score`` is the mean rating; ``mask`` is ``counts`` or ``heat``; ``annotators`` says of how many; ``families`` are the planted faults,
    joined by commas, where a synthetic benchmark knows them.

    Raises:
        T2IEvalError: nobody rated the dimension, or no item has an image.
    """
    rated = ratings[(ratings["dimension"] == dimension) & ratings["score"].notna()]
    if rated.empty:
        known = ", ".join(sorted(set(ratings["dimension"])))
        raise T2IEvalError(
            f"Nobody rated '{dimension}' (structure.dimension); the benchmark's dimensions are {known}. shapes_structure has it."
        )
    means = rated.groupby("item_id").agg(
        score=("score", "mean"), scale_min=("scale_min", "min"), scale_max=("scale_max", "max")
    )
    folds = splits.drop_duplicates("item_id").set_index("item_id")["fold"]
    rows = items[items["image"].notna() & items["item_id"].isin(means.index) & items["item_id"].isin(folds.index)]
    if rows.empty:
        raise T2IEvalError(
            "No rated item has an image, so there is nothing to learn from; ingest the benchmark with its images."
        )
    stated: list[dict[str, Any]] = [json.loads(text) if isinstance(text, str) else {} for text in rows["attributes"]]
    out = (
        rows[["item_id", "image", "prompt", "generator"]]
        .join(means, on="item_id")
        .assign(
            fold=rows["item_id"].map(folds),
            mask=[attributes.get("mask", "counts") for attributes in stated],
            annotators=[len(attributes.get("regions", [0])) for attributes in stated],
            families=[
                ",".join(sorted({flaw["family"] for flaw in attributes.get("flaws", [])})) for attributes in stated
            ],
        )
    )
    return out[list(COLUMNS)].reset_index(drop=True)


def in_half(prompts: pd.Series, half: Literal["first", "second"]) -> pd.Series:
    """Whether each of ``prompts`` is in that half of the different ones, in an order that does not depend on their texts' order."""
    ordered = sorted(set(prompts), key=lambda text: (zlib.crc32(text.encode()), text))
    return prompts.isin(ordered[::2] if half == "first" else ordered[1::2])


@dataclass(frozen=True)
class Labels:
    """How masks become targets.

    Attributes:
        kind: see `StructureSettings.labels`.
        overlap_levels: see `StructureSettings.overlap_levels`.
        seed: random seed of what simulated annotators do.
    """

    kind: LabelKind
    overlap_levels: Sequence[float]
    seed: int = 0

    @property
    def exact(self) -> Labels:
        """The same with the masks as they are."""
        return replace(self, kind="exact")

    def heat(self, stored: npt.NDArray[np.uint8], row: Any) -> npt.NDArray[np.float32]:
        """The target heat map (height, width), 0 to 1, of the stored mask of an example.

        Raises:
            T2IEvalError: coarse labels are asked for where the mask is not exact.
        """
        if row.mask == HEAT:
            self._only_exact(row)
            return (stored / np.float32(255)).astype(np.float32)
        counts, annotators = stored, int(row.annotators)
        if self.kind != "exact":
            if annotators != 1:
                self._only_exact(row)
            rng = np.random.default_rng([self.seed, zlib.crc32(str(row.item_id).encode())])
            drawn = annotate(stored > 0, self.kind, rng)
            counts, annotators = marked_counts(drawn, stored.shape[1], stored.shape[0]), len(drawn)
        levels = [0.0, 1.0] if annotators == 1 else [0.0, *self.overlap_levels]
        table: npt.NDArray[np.float32] = np.array([*levels, *[levels[-1]] * (256 - len(levels))], dtype=np.float32)
        return table[counts]

    def _only_exact(self, row: Any) -> None:
        if self.kind != "exact":
            raise T2IEvalError(
                f"Coarse labels ('{self.kind}') are drawn around exact masks, and that of '{row.item_id}' is not one; use structure.labels=exact."
            )


class StructureData:
    """A dataset of examples for torch: each is drawn, resized and, where a cache is given, joined by its features when it is asked for."""

    def __init__(
        self,
        examples: pd.DataFrame,
        images: ImageStore,
        network: Network,
        labels: Labels,
        cache: FeatureCache | None = None,
        flip: bool = False,
        seed: int = 0,
    ) -> None:
        """Take the examples and where their images are; with ``flip``, half of the images are mirrored, others each time."""
        self.rows = list(examples.itertuples(index=False))
        self.images, self.labels, self.cache, self.flip = images, labels, cache, flip
        self.side, self.heat_size = network.side, network.heat_size
        self._rng = np.random.default_rng([seed, 77])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row: Any = self.rows[index]
        return self.example(row, self.flip and bool(self._rng.random() < 0.5))

    def example(self, row: Any, mirrored: bool = False) -> dict[str, Any]:
        """Pixels, target and features of one example."""
        pixels = pixels_of(self.images.image(row.image), self.side)
        heat = self.target(row)
        if mirrored:
            pixels, heat = np.ascontiguousarray(pixels[:, ::-1]), np.ascontiguousarray(heat[:, ::-1])
        unit = (row.score - row.scale_min) / (row.scale_max - row.scale_min)
        out = {"pixels": pixels, "prompt": row.prompt, "heat": heat, "score": np.float32(unit)}
        if self.cache is not None:
            out["features"] = self.cache.read(pixels)
        return out

    def target(self, row: Any) -> npt.NDArray[np.float32]:
        """The target heat map at the network's size."""
        heat = self.labels.heat(stored_mask(self.images, row), row)
        if heat.shape == (self.heat_size, self.heat_size):
            return heat
        size = (self.heat_size, self.heat_size)
        return np.array(Image.fromarray(heat).resize(size, Image.Resampling.BOX), dtype=np.float32)


def stored_mask(images: ImageStore, row: Any) -> npt.NDArray[np.uint8]:
    """The mask of an example as it is stored, (height, width).

    Raises:
        T2IEvalError: the benchmark has none.
    """
    key = mask_key(row.image)
    if key not in images:
        raise T2IEvalError(
            f"The benchmark has no mask of '{row.image}'; choose one with masks, such as shapes_structure or evalmuse_structure."
        )
    return np.array(images.image(key).convert("L"), dtype=np.uint8)


def true_mask(images: ImageStore, row: Any) -> npt.NDArray[np.uint8]:
    """Where the image of an example is faulty: 1 where any annotator marked it, or where a heat map is at least `TRUE_HEAT`. Ours."""
    stored = stored_mask(images, row)
    return (stored >= 255 * TRUE_HEAT if row.mask == HEAT else stored > 0).astype(np.uint8)


class Collator:
    """Puts examples together as a network takes them."""

    def __init__(self, network: Network, tokenizer: Any, prefix: str) -> None:
        """Take the network, and the tokenizer of one that reads text."""
        self.network, self.tokenizer, self.prefix = network, tokenizer, prefix

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """A batch."""
        batch: dict[str, Any] = {
            "pixels": to_unit(torch.from_numpy(np.stack([example["pixels"] for example in examples]))),
            "heat": torch.from_numpy(np.stack([example["heat"] for example in examples])),
            "score": torch.from_numpy(np.stack([example["score"] for example in examples])),
        }
        if self.network.text:
            batch |= tokenize(self.tokenizer, [example["prompt"] for example in examples], self.prefix)
        kept = [example["features"] for example in examples if example.get("features")]
        if kept and len(kept) == len(examples):
            batch["features"] = {name: torch.stack([one[name] for one in kept]).float() for name in kept[0]}
        return batch


@torch.inference_mode()
def fill_cache(data: StructureData, network: Network, cache: FeatureCache, batch_size: int = 16) -> int:
    """Compute the features of the examples (mirrored ones too, where they are used) that are not kept yet; returns how many those were."""
    network.eval()
    device = next(network.parameters()).device
    waiting: list[npt.NDArray[np.uint8]] = []
    computed = 0

    def flush() -> None:
        nonlocal computed
        if waiting:
            features = network.frozen_features(to_unit(torch.from_numpy(np.stack(waiting)).to(device))) or {}
            for k, pixels in enumerate(waiting):
                cache.write(pixels, {name: value[k].cpu() for name, value in features.items()})
            computed += len(waiting)
            waiting.clear()

    row: Any
    for row in data.rows:
        plain = pixels_of(data.images.image(row.image), data.side)
        for pixels in [plain, np.ascontiguousarray(plain[:, ::-1])][: 1 + data.flip]:
            if not cache.path(pixels).is_file():
                waiting.append(pixels)
        if len(waiting) >= batch_size:
            flush()
    flush()
    return computed


def cache_of(network: Network, names: dict[str, str], folder: Path | None) -> FeatureCache | None:
    """Where the features of a network are kept; None where it keeps none, or no folder is given.

    Args:
        network: network whose frozen part gives the features.
        names: its backbones by the setting that names them.
        folder: folder of all caches.
    """
    from t2i_eval_kedro.models.loading import fingerprint

    if folder is None or not network.frozen:
        return None
    frozen = {field: fingerprint(name) for field, name in names.items()}
    return FeatureCache(folder, f"{type(network).__name__} {network.side} {sorted(frozen.items())}")
