"""What can be set of the student's model, and the base class of all settings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from t2i_eval_kedro.models.images import LimitedImages
from t2i_eval_kedro.models.loading import context_length, load_config, load_model
from t2i_eval_kedro.models.processors import ImageSource, load_processor

_INIT_KWARGS = {"attn_implementation", "device_map", "low_cpu_mem_usage", "max_memory", "offload_folder", "variant"}
_COMMIT = re.compile(r"[0-9a-f]{40}")


class Settings(BaseModel):
    """Settings that Kedro reads from ``params:``: frozen, and a name that is not declared is refused.

    No field has a default: the values stand in ``conf/base``, and nowhere else.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelSettings(Settings):
    """The student before training.

    Attributes:
        model: folder or hub name of a model behind ``AutoModelForImageTextToText``.
        name: what an adapter calls its base model; where none is given, a hub name or the last part of a path.
        revision: branch, tag or commit of a hub name.
        dtype: precision of the base model's weights; of the sums, where ``quantize`` stores the weights in fewer bits.
        quantize: ``4bit`` stores the linear layers of the text model in 4 bits (QLoRA, Dettmers et al., 2023, arXiv 2305.14314:
            NF4, double quantisation), for training and judging alike; needs the extra ``quantize``.
        device: ``auto`` (a GPU where there is one) or ``cpu``.
        min_pixels: smallest number of pixels of an image that the processor is given; smaller ones are enlarged.
        max_pixels: largest number of pixels of an image that the processor is given; larger ones are reduced, in training and judging
            alike. None for no limit but the processor's own.
        model_init_kwargs: further arguments of ``from_pretrained``: ``attn_implementation``, ``device_map``, ``max_memory``, ...
        threads: number of torch's threads on the CPU, for training and judging; null for torch's own choice. A small model is slower with more
            than one wherever another process has a core.
        trust_remote_code: run code that the model's repository ships; from the hub, at one commit that you have read.
        thinking: for a model that thinks before it answers: ``closed`` ends each request with an empty block of thoughts, so that the
            answer comes at once; ``generated`` lets a judge think first, by every protocol, and reads its answer behind that. Examples are
            learned with the block closed.
        thinking_tokens: the most tokens of thoughts; where they are used up, the block is closed and the answer is asked for.
        licence: licence of the base model, for the adapter's card.
    """

    model: str
    name: str | None
    revision: str | None
    dtype: Literal["float32", "bfloat16", "float16"]
    quantize: Literal["4bit"] | None
    device: Literal["auto", "cpu"]
    min_pixels: int | None = Field(ge=1)
    max_pixels: int | None = Field(ge=1)
    model_init_kwargs: dict[str, Any]
    threads: int | None = Field(ge=1)
    trust_remote_code: bool
    thinking: Literal["closed", "generated"]
    thinking_tokens: int = Field(ge=1)
    licence: str

    @model_validator(mode="after")
    def _pinned(self) -> ModelSettings:
        if self.trust_remote_code and not Path(self.model).is_dir() and not _COMMIT.fullmatch(self.revision or ""):
            raise ValueError("code from the hub is run at one commit only; give its 40 digits as model.revision")
        return self

    @model_validator(mode="after")
    def _known(self) -> ModelSettings:
        unknown = sorted(set(self.model_init_kwargs) - _INIT_KWARGS)
        if unknown:
            raise ValueError(
                f"model_init_kwargs does not take '{unknown[0]}'; it takes {', '.join(sorted(_INIT_KWARGS))}, and the other "
                "settings of the model stand beside it"
            )
        if self.min_pixels and self.max_pixels and self.min_pixels > self.max_pixels:
            raise ValueError(f"min_pixels={self.min_pixels} is above max_pixels={self.max_pixels}")
        return self

    def limit(self, images: ImageSource) -> ImageSource:
        """``images``, each within ``min_pixels`` and ``max_pixels``."""
        return (
            images
            if self.min_pixels is None and self.max_pixels is None
            else LimitedImages(images, self.min_pixels, self.max_pixels)
        )

    def load(self, *, adapter: Path | None = None, trainable: bool = False, merge: bool = False) -> Any:
        """The model, see :func:`t2i_eval_kedro.models.loading.load_model`; from then on torch has ``threads`` threads."""
        if self.threads is not None:
            import torch

            torch.set_num_threads(self.threads)
        return load_model(
            self.model,
            adapter=adapter,
            dtype=self.dtype,
            quantize=self.quantize,
            device=self.device,
            revision=self.revision,
            trust_remote_code=self.trust_remote_code,
            trainable=trainable,
            merge=merge,
            options=self.model_init_kwargs,
        )

    def context_length(self) -> int | None:
        """The most tokens that the model reads at once, by its configuration; None where that states none."""
        return context_length(load_config(self.model, revision=self.revision, trust_remote_code=self.trust_remote_code))

    def load_processor(self) -> Any:
        """Its processor, see :func:`t2i_eval_kedro.models.processors.load_processor`."""
        return load_processor(
            self.model, revision=self.revision, trust_remote_code=self.trust_remote_code, thinking=self.thinking
        )


class ScorerSettings(Settings):
    """One published image-text score (:mod:`t2i_eval_kedro.models.image_text`).

    Attributes:
        kind: which formula.
        model: folder or hub name of the network.
        processor: folder or hub name of tokenizer and image processor; null for the model's own.
        revision: branch, tag or commit of a hub name.
        text: what the network reads, with ``{prompt}`` in place of the prompt.
        answer: answer whose probability counts, for ``vqa_score``.
        batch_size: images at once.
    """

    kind: Literal["clip_score", "pick_score", "hps_v2", "blip2_score", "image_reward", "vqa_score"]
    model: str
    processor: str | None
    revision: str | None
    text: str
    answer: str
    batch_size: int = Field(ge=1)


def portable_name(model: str, name: str | None = None) -> str:
    """What an adapter calls its base model: ``name``, or the hub name, or the last part of a path; no path of this machine.

    Example:
        >>> portable_name("data/06_models/tiny_vlm")
        'tiny_vlm'
        >>> portable_name("Qwen/Qwen2.5-VL-7B-Instruct")
        'Qwen/Qwen2.5-VL-7B-Instruct'
    """
    if name:
        return name
    path = Path(model)
    return path.name if path.is_dir() or len(path.parts) > 2 or path.is_absolute() else model
