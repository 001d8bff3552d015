"""How much memory of a GPU supervised fine-tuning takes, estimated from the shape of the model and the settings.

What is counted is what a training keeps: the weights, the adapter with its gradient and Adam's two moments, the inputs of the layers,
and the activations of the one layer whose backward pass runs (of every layer without gradient checkpointing). Ours; tests hold it
against what a small model really keeps.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from t2i_eval_kedro.models.loading import model_folder
from t2i_eval_kedro.models.settings import ModelSettings
from t2i_eval_kedro.training.settings import LaunchSettings, SFTSettings
from t2i_eval_kedro.training.trainers import per_process

GB = 1e9
CARDS = (16, 24, 40, 48, 80, 141)
"""Memory of the GPUs that are in use, in GB."""
RESERVE = 2 * GB
"""What CUDA, its libraries and the allocator's gaps take. Ours."""
UNKNOWN_LENGTH = 1024
"""Tokens of an example where ``sft.max_length`` sets no limit."""
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_NF4 = 0.516  # bytes per weight: 4 bits, and 0.127 bits for the scales (QLoRA, arXiv 2305.14314, section 3)


@dataclass(frozen=True)
class ModelShape:
    """What of a model decides how much memory it takes; all but ``parameters`` describes its text model.

    Attributes:
        parameters: number of parameters of the whole model, the vision tower among them.
        layers: number of layers.
        width: width of the hidden states.
        heads: attention heads.
        key_value_heads: heads of keys and values.
        head_width: width of a head.
        feed_forward: width inside the feed-forward blocks, which have a gate.
        vocabulary: number of tokens.
    """

    parameters: int
    layers: int
    width: int
    heads: int
    key_value_heads: int
    head_width: int
    feed_forward: int
    vocabulary: int

    @property
    def attention(self) -> int:
        """Width of all queries together."""
        return self.heads * self.head_width

    @property
    def keys(self) -> int:
        """Width of all keys together."""
        return self.key_value_heads * self.head_width

    @property
    def linear_parameters(self) -> int:
        """Weights of the linear maps of all layers, which ``model.quantize`` stores in 4 bits."""
        attention = self.width * (2 * self.attention + 2 * self.keys)
        return self.layers * (attention + 3 * self.width * self.feed_forward)

    def adapter_parameters(self, rank: int) -> int:
        """Parameters of LoRA of ``rank`` on every linear map of the text model: rank times the widths in and out of each."""
        attention = 4 * self.width + 2 * self.attention + 2 * self.keys
        return rank * self.layers * (attention + 3 * (self.width + self.feed_forward))

    def layer_activations(self, rank: int, *, mixed: bool) -> int:
        """Numbers that a layer with LoRA of ``rank`` keeps per token for its backward pass.

        The frozen maps keep nothing. Kept are: what the two norms take (in 32 bits) and give, queries, keys, values and what attention
        gives, the feed-forward block's gate, its activation, the other factor and the product, and LoRA's inner results. In
        ``mixed`` precision, each of LoRA's seven maps also keeps a copy of its input in 16 bits.
        """
        inner = 2 * self.attention + 2 * self.keys + 4 * self.feed_forward + 7 * rank
        return inner + (9 * self.width + self.attention if mixed else 4 * self.width)


_QWEN2_5_7B = {"layers": 28, "width": 3584, "heads": 28, "key_value_heads": 4, "head_width": 128, "feed_forward": 18944}
KNOWN = {
    "Qwen/Qwen2.5-VL-7B-Instruct": ModelShape(8_292_166_656, **_QWEN2_5_7B, vocabulary=152_064),
    "Qwen/Qwen2.5-VL-3B-Instruct": ModelShape(3_750_000_000, 36, 2048, 16, 2, 128, 11008, 151_936),
    "Qwen/Qwen3-VL-4B-Instruct": ModelShape(4_440_000_000, 36, 2560, 32, 8, 128, 9728, 151_936),
    "Qwen/Qwen3-VL-8B-Instruct": ModelShape(8_770_000_000, 36, 4096, 32, 8, 128, 12288, 151_936),
    "OpenGVLab/InternVL3-8B-hf": ModelShape(7_940_000_000, **_QWEN2_5_7B, vocabulary=151_674),
    "llava-hf/llava-onevision-qwen2-7b-ov-hf": ModelShape(8_030_000_000, **_QWEN2_5_7B, vocabulary=152_128),
    "openbmb/MiniCPM-V-2_6": ModelShape(8_100_000_000, **_QWEN2_5_7B, vocabulary=151_666),
    "llava-hf/llava-v1.6-vicuna-13b-hf": ModelShape(13_350_000_000, 40, 5120, 40, 40, 128, 13824, 32_064),
    "HuggingFaceTB/SmolVLM2-2.2B-Instruct": ModelShape(2_250_000_000, 24, 2048, 32, 32, 64, 8192, 49_280),
}
"""Shapes of the students' models on the hub, so that nothing is downloaded for an estimate; all counts but the first are rounded."""


def shape_of(model: str) -> ModelShape | None:
    """The shape of a model; None for one on the hub that is not among :data:`KNOWN`, or whose text model is of another kind.

    Args:
        model: folder or hub name.

    Raises:
        T2IEvalError: it is a path without a model in it.
    """
    folder = model_folder(model)
    if folder is None:
        return KNOWN.get(model)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    text = config.get("text_config") or config
    try:
        width, heads = text["hidden_size"], text["num_attention_heads"]
        return ModelShape(
            parameters=sum(_stored(path) for path in folder.glob("*.safetensors")),
            layers=text["num_hidden_layers"],
            width=width,
            heads=heads,
            key_value_heads=text.get("num_key_value_heads") or heads,
            head_width=text.get("head_dim") or width // heads,
            feed_forward=text["intermediate_size"],
            vocabulary=text["vocab_size"],
        )
    except KeyError:
        return None


def _stored(path: Path) -> int:
    """Number of weights in a safetensors file, from its header alone."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes on one GPU, by what takes them.

    Attributes:
        weights: the base model, in its precision or in 4 bits.
        adapter: the adapter's weights, in 32 bits.
        gradients: their gradient.
        optimiser: Adam's two moments.
        activations: what the forward pass keeps for the backward pass.
        reserve: :data:`RESERVE`.
    """

    weights: float
    adapter: float
    gradients: float
    optimiser: float
    activations: float
    reserve: float = RESERVE

    @property
    def total(self) -> float:
        """All of it."""
        return float(sum(getattr(self, field.name) for field in fields(self)))


def training_memory(
    shape: ModelShape,
    *,
    rank: int,
    examples: int,
    tokens: int,
    dtype: str = "bfloat16",
    quantize: bool = False,
    checkpointing: bool = True,
) -> TrainingMemory:
    """The memory of one GPU that trains LoRA of ``rank`` on the text model with AdamW.

    Args:
        shape: the model.
        rank: rank of the adapter.
        examples: examples in one forward pass on this GPU.
        tokens: tokens of an example, images included.
        dtype: precision of weights and activations.
        quantize: whether the linear maps of the text model are stored in 4 bits.
        checkpointing: whether activations are computed again in the backward pass.
    """
    size = _BYTES[dtype]
    stored = shape.linear_parameters if quantize else 0
    adapter = 4.0 * shape.adapter_parameters(rank)
    layers = 1 if checkpointing else shape.layers
    per_token = layers * shape.layer_activations(rank, mixed=size == 2)
    if checkpointing:  # the input of each layer, and in 32 bits of the norm behind the last
        per_token += (shape.layers + 4 // size) * shape.width
    return TrainingMemory(
        weights=size * (shape.parameters - stored) + _NF4 * stored,
        adapter=adapter,
        gradients=adapter,
        optimiser=2 * adapter,
        activations=float(size * examples * tokens * per_token),
    )


def memory_notes(parameters: Mapping[str, Any], gpu: float | None = None) -> tuple[list[str], str | None]:
    """Lines that say how much memory the experiment's fine-tuning takes, and a warning where a GPU has not as much.

    Args:
        parameters: every parameter of the experiment, as the pipelines get them.
        gpu: memory of a GPU in GB, where one is meant.

    Raises:
        T2IEvalError: a setting has a value that it cannot have, or there is no such model.
    """
    model, settings = ModelSettings(**parameters["model"]), SFTSettings(**parameters["sft"])
    shape = shape_of(model.model)
    if shape is None:
        return [f"GPU memory: not estimated, because the shape of '{model.model}' is not known here."], None
    if settings.lora.target_modules != "all-linear" or settings.lora.vision:
        return [
            "GPU memory: not estimated, because the adapter is not on the linear maps of the text model alone."
        ], None
    examples, _ = per_process(
        settings.batch_size, settings.gradient_accumulation_steps, LaunchSettings(**parameters["launch"]).total
    )
    tokens = settings.max_length or UNKNOWN_LENGTH

    def needed(quantize: bool, examples: int = examples) -> TrainingMemory:
        return training_memory(
            shape,
            rank=settings.lora.r,
            examples=examples,
            tokens=tokens,
            dtype=model.dtype,
            quantize=quantize,
            checkpointing=settings.gradient_checkpointing,
        )

    memory = needed(bool(model.quantize))
    parts = ", ".join(f"{field.name} {_gb(getattr(memory, field.name))}" for field in fields(memory))
    many = "example" if examples == 1 else "examples"
    length = f"{tokens:,} tokens" + ("" if settings.max_length else " (sft.max_length sets no limit)")
    fitting = [card for card in CARDS if card * GB >= memory.total]
    lines = [
        f"GPU memory of supervised fine-tuning, estimated for {examples} {many} of {length} at a time: {_gb(memory.total)}",
        f"  {parts}; the adapter has {shape.adapter_parameters(settings.lora.r):.3g} parameters",
        f"  Fits a GPU of {fitting[0]} GB." if fitting else f"  No GPU of {CARDS[-1]} GB or less holds it.",
    ]
    if gpu is None or memory.total <= gpu * GB:
        return lines, None
    advice = []
    if examples > 1:
        advice.append(
            f"sft.batch_size=1 with more sft.gradient_accumulation_steps ({_gb(needed(bool(model.quantize), 1).total)})"
        )
    if not model.quantize:
        advice.append(f"model.quantize=4bit ({_gb(needed(True).total)})")
    advice.append("a smaller sft.max_length or sft.lora.r")
    return lines, (
        f"The fine-tuning needs about {_gb(memory.total)}, more than the {gpu:g} GB of the GPU. Less takes {'; '.join(advice)}."
    )


def _gb(size: float) -> str:
    return f"{size / GB:.2g} GB" if size < 10 * GB else f"{size / GB:.0f} GB"
