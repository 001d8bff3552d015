"""Requests about one image as tokens: the prefix that they share, once, and the suffix of each.

The prefix is the image and whatever text all of the requests begin with. Several suffixes stand in one row behind their prefix,
each at the positions that it would have on its own and blind to the others (:func:`pack`, :func:`block_mask`), so that one
forward pass computes the prefix once and answers them all.
"""

from __future__ import annotations

import inspect
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from t2i_eval_kedro.judging.protocols.base import Request
from t2i_eval_kedro.models.processors import render

# A row holds suffixes of about this many characters at most, because attention over a row is computed whole. Ours.
ROW_CHARACTERS = 8192
_PAD = -1


class NotShareable(ValueError):
    """The tokens of these requests do not begin alike, so each has to be asked on its own."""


@dataclass(frozen=True)
class Shared:
    """The tokens of a group of requests.

    Attributes:
        prefix: each token field that the model takes (``input_ids`` and perhaps token types), P values each.
        suffixes: the tokens of each request after the prefix, at least one each.
    """

    prefix: Mapping[str, list[int]]
    suffixes: Sequence[list[int]]


@dataclass(frozen=True)
class Packed:
    """A batch of G rows of T tokens, one a group, padded on the right.

    Attributes:
        tokens: each token field, (G, T).
        positions: (G, T), or (3, G, T) for a model whose images have positions of their own.
        segments: (G, T), 0 in the prefix, 1, 2, ... in the suffixes, -1 in the padding.
        ends: row and column of the last token of each of N requests, (2, N).
    """

    tokens: Mapping[str, torch.Tensor]
    positions: torch.Tensor
    segments: torch.Tensor
    ends: torch.Tensor

    @property
    def single(self) -> bool:
        """Whether no row holds more than one request, so that plain causal attention is right."""
        return self.ends.shape[1] == self.segments.shape[0]


def group(requests: Sequence[Request], members: Sequence[int], limit: int) -> list[list[int]]:
    """``members`` (positions in ``requests``) by what stands up to the last image, in groups that fit a row.

    Requests without images are groups of their own: what they share is short.

    Args:
        requests: all requests.
        members: those to group.
        limit: the most requests a group.
    """
    groups: dict[Hashable, list[list[int]]] = {}
    room: dict[Hashable, int] = {}
    for i in members:
        key = _up_to_the_image(requests[i]) or i
        size = sum(len(message.text) for message in requests[i].messages)
        if key not in groups or room[key] < size or len(groups[key][-1]) == limit:
            groups.setdefault(key, []).append([])
            room[key] = ROW_CHARACTERS
        groups[key][-1].append(i)
        room[key] -= size
    return [members for parts in groups.values() for members in parts]


def _up_to_the_image(request: Request) -> Hashable:
    with_image = [n for n, message in enumerate(request.messages) if message.images]
    if not with_image:
        return None
    last = request.messages[with_image[-1]]
    return request.messages[: with_image[-1]], last.role, last.images


def tokenize(
    processor: Any, groups: Sequence[Sequence[Request]], pictures: Mapping[str, Any]
) -> tuple[list[Shared], dict[str, torch.Tensor]]:
    """The tokens of G groups, and the tensors of their images, each image once.

    Only the first request of a group goes through the image processor. The others are tokenized as text, and what stands
    in the place of the images is taken from the first.

    Args:
        processor: what ``load_processor`` returned.
        groups: requests that are the same up to their last image.
        pictures: their images by key.

    Raises:
        NotShareable: the tokens of a group do not begin alike, or the processor changes more than the image's place.
    """
    texts = [[render(processor, request.chat) for request in members] for members in groups]
    ids = iter(processor.tokenizer([text for group in texts for text in group], add_special_tokens=False)["input_ids"])
    plain = [[next(ids) for _ in group] for group in texts]
    images = [[pictures[key] for message in members[0].messages for key in message.images] for members in groups]
    if not any(images):
        return [_shared({"input_ids": group[0]}, group, placeholder=None) for group in plain], {}
    fields = processor(
        text=[group[0] for group in texts],
        images=images,
        padding=True,
        padding_side="right",
        add_special_tokens=False,  # the chat template has written them
        return_tensors="pt",
    )
    mask = fields.pop("attention_mask")
    tokens = {name: fields[name] for name in list(fields) if fields[name].shape == mask.shape}
    placeholder = getattr(processor, "image_token_id", None)
    if placeholder is None:
        raise NotShareable("its processor does not tell the token that stands for an image")
    shared = []
    for row, group in enumerate(plain):
        length = int(mask[row].sum())
        whole = {name: values[row, :length].tolist() for name, values in tokens.items()}
        shared.append(_shared(whole, group, placeholder))
    return shared, {name: value for name, value in fields.items() if name not in tokens}


def _shared(whole: Mapping[str, list[int]], plain: Sequence[list[int]], placeholder: int | None) -> Shared:
    """Split a group, given the token fields of its first request with images and the tokens of all without.

    Example:
        >>> _shared({"input_ids": [5, 9, 9, 6, 7, 1]}, [[5, 9, 6, 7, 1], [5, 9, 6, 8, 2, 1]], placeholder=9)
        Shared(prefix={'input_ids': [5, 9, 9, 6]}, suffixes=[[7, 1], [8, 2, 1]])
    """
    first = plain[0]
    after = 0 if placeholder is None else len(first) - first[::-1].index(placeholder) if placeholder in first else -1
    rest = len(first) - after
    for name, values in whole.items():
        if after < 0 or rest < 1 or values[-rest:] != (first[after:] if name == "input_ids" else [0] * rest):
            raise NotShareable("its processor changes the text behind an image")
    if any(ids[:after] != first[:after] for ids in plain):
        raise NotShareable("its requests about one image do not begin with the same tokens")
    suffixes = [ids[after:] for ids in plain]
    common = _common(suffixes)
    text = {name: first[after : after + common] if name == "input_ids" else [0] * common for name in whole}
    prefix = {name: values[: len(values) - rest] + text[name] for name, values in whole.items()}
    return Shared(prefix, [suffix[common:] for suffix in suffixes])


def _common(sequences: Sequence[list[int]]) -> int:
    """How many tokens all sequences begin with, leaving at least one to each.

    Example:
        >>> _common([[1, 2, 3], [1, 2, 4, 5]]), _common([[1, 2], [1, 2]]), _common([[7]])
        (2, 1, 0)
    """
    low, high = min(sequences), max(sequences)  # whatever these two share, all between them share too
    shortest = min(map(len, sequences)) - 1
    return next((n for n, (a, b) in enumerate(zip(low, high, strict=False)) if a != b or n == shortest), shortest)


@dataclass(frozen=True)
class Prefixes:
    """The prefixes of G groups as one batch.

    Attributes:
        tokens: each token field, (G, P).
        mask: (G, P), 1 where there is a token.
        positions: (G, P), or (3, G, P) for a model whose images have positions of their own.
        starts: the position of the first token of each group's suffixes.
    """

    tokens: Mapping[str, torch.Tensor]
    mask: torch.Tensor
    positions: torch.Tensor
    starts: Sequence[int]


def prefixes(
    model: Any, shared: Sequence[Shared], pixels: Mapping[str, torch.Tensor], *, pad: int, left: bool = False
) -> Prefixes:
    """The prefixes of ``shared``, and where each of their tokens stands.

    A model with ``get_rope_index`` (Qwen2-VL and its kin) gives the tokens of an image a place in time, height and width, and the
    text behind it goes on after the largest of them. For others, positions count tokens.

    Args:
        model: the model without its output layer.
        shared: G groups.
        pixels: the tensors of their images.
        pad: the token that fills rows up; no token of an image.
        left: fill up on the left instead of the right.
    """
    rows = {name: [group.prefix[name] for group in shared] for name in shared[0].prefix}
    tokens = {name: _padded(group, pad if name == "input_ids" else 0, left=left) for name, group in rows.items()}
    lengths = [len(ids) for ids in rows["input_ids"]]
    mask = _padded([[1] * length for length in lengths], 0, left=left)
    if not pixels or not hasattr(model, "get_rope_index"):
        return Prefixes(tokens, mask, (mask.cumsum(dim=1) - 1).clamp(min=0), lengths)
    known = inspect.signature(model.get_rope_index).parameters
    fields = {name: value for name, value in (*tokens.items(), *pixels.items()) if name in known}
    positions, _ = model.get_rope_index(**fields, attention_mask=mask)
    return Prefixes(tokens, mask, positions, (positions.amax(dim=(0, 2)) + 1).tolist())


def pad_left(rows: Sequence[list[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ragged rows filled up with ``pad`` on the left, and their mask, 1 where there is a token.

    Example:
        >>> pad_left([[5, 6], [7]], pad=0)
        (tensor([[5, 6],
                [0, 7]]), tensor([[1, 1],
                [0, 1]]))
    """
    return _padded(rows, pad, left=True), _padded([[1] * len(row) for row in rows], 0, left=True)


def _padded(rows: Sequence[list[int]], fill: int, *, left: bool) -> torch.Tensor:
    width = max(map(len, rows))
    pads = [[fill] * (width - len(row)) for row in rows]
    both = zip(pads, rows, strict=True) if left else zip(rows, pads, strict=True)
    return torch.tensor([first + second for first, second in both], dtype=torch.long)


def pack(shared: Sequence[Shared], heads: Prefixes, *, pad: int) -> Packed:
    """One row a group: its prefix, then its suffixes one behind the other.

    Args:
        shared: G groups.
        heads: their prefixes, padded on the right.
        pad: the token that fills rows up; no token of an image.
    """
    width = max(len(group.prefix["input_ids"]) + sum(map(len, group.suffixes)) for group in shared)
    tokens = {
        name: np.full((len(shared), width), pad if name == "input_ids" else 0, dtype=np.int64)
        for name in shared[0].prefix
    }
    place = np.tile(np.arange(width), (*heads.positions.shape[:-2], len(shared), 1))
    segments = np.full((len(shared), width), _PAD, dtype=np.int64)
    rows, columns = [], []
    for row, group in enumerate(shared):
        at = len(group.prefix["input_ids"])
        for name, values in group.prefix.items():
            tokens[name][row, :at] = values
        place[..., row, :at] = heads.positions[..., row, :at].numpy()
        segments[row, :at] = 0
        for number, suffix in enumerate(group.suffixes, start=1):
            end = at + len(suffix)
            tokens["input_ids"][row, at:end] = suffix
            place[..., row, at:end] = np.arange(heads.starts[row], heads.starts[row] + len(suffix))
            segments[row, at:end] = number
            at = end
            rows.append(row)
            columns.append(end - 1)
    return Packed(
        {name: torch.from_numpy(values) for name, values in tokens.items()},
        torch.from_numpy(place),
        torch.from_numpy(segments),
        torch.tensor([rows, columns]),
    )


def block_mask(segments: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """What each token of a packed row may attend to: itself and, before it, the prefix and its own suffix.

    Args:
        segments: (G, T) of :class:`Packed`.
        dtype: precision of the model.

    Returns:
        (G, 1, T, T), to be added to the attention scores: 0 where allowed, the lowest number where not.
    """
    query, key = segments[:, :, None], segments[:, None, :]
    allowed = ((key == 0) | (key == query)).tril()
    return torch.zeros(allowed.shape, dtype=dtype, device=segments.device).masked_fill_(
        ~allowed, torch.finfo(dtype).min
    )[:, None]
