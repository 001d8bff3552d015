"""Faster vision towers that read all images as one packed sequence (Qwen2-VL, Qwen2.5-VL, Qwen3-VL and their kin).

Without FlashAttention, transformers asks such a tower for attention one image, or one window of an image, at a time: Qwen2.5-VL at
1,024 image tokens makes 64 calls per layer and image, each too small to keep a GPU busy. Here all segments of one length are one call of
PyTorch's scaled dot-product attention. The patch embedding, a convolution whose stride is its kernel, is computed as the matrix
product that it is. Both give the same numbers up to rounding. Ours.
"""

from __future__ import annotations

import inspect
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import AttentionInterface

PACKED = "packed_sdpa_as_flash"
"""Transformers hands the whole packed sequence only to implementations with ``flash`` in their name."""


def speed_up_vision(model: nn.Module) -> int:
    """Switch the packed vision towers of ``model`` to :func:`packed_attention`, in place.

    A tower that uses FlashAttention already is left as it is.

    Returns:
        The number of attention modules that were switched; 0 where no tower packs its images.
    """
    AttentionInterface.register(PACKED, packed_attention)
    switched = 0
    for module in model.modules():
        if type(module) is nn.Conv3d:
            module.__class__ = _PatchProduct  # a copy, a saved model and an adapter see the same weights
        config = getattr(module, "config", None)
        if not hasattr(module, "qkv") or "cu_seqlens" not in inspect.signature(module.forward).parameters:
            continue
        if config is not None and config._attn_implementation in ("sdpa", PACKED):
            config._attn_implementation = PACKED
            switched += 1
    return switched


def packed_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    *,
    cu_seq_lens_q: torch.Tensor,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention within each segment of a packed sequence.

    Args:
        module: the attention module; it has no part in the result.
        query: tensor of shape (1, heads, tokens, head size), as ``key`` and ``value``.
        attention_mask: must be None; a segment's tokens see each other and nothing else.
        scaling: factor of the dot products; None for 1 / sqrt(head size).
        dropout: probability of dropping an attention weight.
        cu_seq_lens_q: bounds of the segments, of shape (segments + 1,), from 0 to tokens.

    Returns:
        The attended values, of shape (1, tokens, heads, head size), and None in place of the weights.
    """
    bounds = cu_seq_lens_q.tolist()
    segments: dict[int, list[int]] = {}
    for start, end in pairwise(bounds):
        segments.setdefault(end - start, []).append(start)
    segments.pop(0, None)
    if len(segments) == 1:  # one length, so the segments lie in order
        ((length, starts),) = segments.items()
        return _attend(query, key, value, len(starts), length, scaling, dropout), None
    attended = torch.empty_like(query.transpose(1, 2))
    for length, starts in segments.items():
        first = torch.tensor(starts, device=query.device)
        rows = (first[:, None] + torch.arange(length, device=query.device)).flatten()
        part = _attend(query[:, :, rows], key[:, :, rows], value[:, :, rows], len(starts), length, scaling, dropout)
        attended = attended.index_copy(1, rows, part)
    return attended, None


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    count: int,
    length: int,
    scaling: float | None,
    dropout: float,
) -> torch.Tensor:
    """Attention within ``count`` segments of ``length`` tokens that lie one after the other."""

    def split(packed: torch.Tensor) -> torch.Tensor:  # (1, heads, tokens, size) -> (segments, heads, length, size)
        return packed[0].reshape(packed.shape[1], count, length, -1).transpose(0, 1)

    attended = functional.scaled_dot_product_attention(
        split(query), split(key), split(value), dropout_p=dropout, scale=scaling
    )
    return attended.transpose(1, 2).flatten(0, 1)[None]


class _PatchProduct(nn.Conv3d):
    """A convolution over single patches as a matrix product; weights and names are those of the convolution."""

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """The embedded patches, of shape (patches, channels, 1, 1, 1), from (patches, colours, frames, height, width)."""
        if tuple(patches.shape[2:]) != tuple(self.kernel_size):
            return super().forward(patches)
        embedded = functional.linear(patches.flatten(1), self.weight.flatten(1), self.bias)
        return embedded[..., None, None, None]
