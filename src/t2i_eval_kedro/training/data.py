"""Examples as what a trainer reads: token ids with labels for supervised fine-tuning, chats for GRPO.

Image processing and chat templates cost a small model more time than its forward pass, and the same example is drawn
many times. So each example is encoded once and its processed images are kept, as far as memory allows.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.models import ImageStore, image_keys, render, to_chat

if TYPE_CHECKING:
    import torch
    from datasets import Dataset

IGNORED = -100  # label of a token that the loss leaves out


def data_hash(examples: pd.DataFrame) -> str:
    """SHA-256 of what a student is trained on: ids, folds, requests, answers and weights, in order."""
    columns = ["example_id", "fold", "messages", "completion", "weight"]
    digest = hashlib.sha256()
    for row in examples[columns].itertuples(index=False):
        digest.update(json.dumps(list(row), ensure_ascii=False).encode())
    return digest.hexdigest()


class Encoder:
    """Encodes examples and puts them into batches; the ``data_collator`` of supervised fine-tuning.

    Works for any processor whose tensors are one row a token (``input_ids``, ``token_type_ids``, ...) or join along the
    first axis (pixels, grids, sizes). Where the images of a batch do not join, the processor pads them itself.
    """

    def __init__(self, examples: pd.DataFrame, processor: Any, images: ImageStore, cache_mb: int = 512) -> None:
        self._messages: list[list[dict[str, Any]]] = [json.loads(text) for text in examples["messages"]]
        self._completions: list[str] = list(examples["completion"])
        self._names: list[str] = list(examples["example_id"])
        self._weights: list[float] = list(examples["weight"])
        self.weighted = any(weight != 1 for weight in self._weights)
        self._processor = processor
        self._images = images
        self._tokens: dict[tuple[str, str], dict[str, list[int]]] = {}
        self._pixels = _Cache(cache_mb * 2**20)

    def __len__(self) -> int:
        return len(self._completions)

    def dataset(self, rows: Sequence[int]) -> Dataset:
        """A dataset of references to ``rows``, with the length of each in characters to group batches by."""
        from datasets import Dataset

        lengths = [
            sum(len(message["text"]) for message in self._messages[row]) + len(self._completions[row]) for row in rows
        ]
        return Dataset.from_dict({"row": list(rows), "length": lengths})

    def length(self, row: int) -> int:
        """Tokens of an example, its images among them."""
        return len(self._encode(row)[0]["input_ids"])

    def __call__(self, batch: Sequence[Mapping[str, int]]) -> dict[str, torch.Tensor]:
        """Left-padded ``input_ids``, ``attention_mask`` and ``labels`` of shape (B, T), and the images' tensors.

        Padded on the left, the answers of a batch end in the same column, and only the last few columns need scoring.
        ``weight`` of shape (B,) is there unless every example weighs the same.
        """
        import torch

        rows = [item["row"] for item in batch]
        encoded = [self._encode(row) for row in rows]
        padding = {"input_ids": self._processor.tokenizer.pad_token_id, "labels": IGNORED}
        width = max(len(tokens["input_ids"]) for tokens, _ in encoded)
        out = {
            name: torch.tensor(
                [[padding.get(name, 0)] * (width - len(tokens[name])) + tokens[name] for tokens, _ in encoded]
            )
            for name in encoded[0][0]
        }
        if self.weighted:
            out["weight"] = torch.tensor([self._weights[row] for row in rows])
        pixels = [fields for _, fields in encoded if fields]
        if pixels and not all(_joins([fields[name] for fields in pixels]) for name in pixels[0]):
            return out | self._processed(rows, set(pixels[0]))
        return out | {name: torch.cat([fields[name] for fields in pixels]) for name in (pixels[0] if pixels else ())}

    def _encode(self, row: int) -> tuple[dict[str, list[int]], dict[str, torch.Tensor]]:
        """The token fields of an example, and the tensors of its images."""
        messages, completion = self._messages[row], self._completions[row]
        keys = tuple(image_keys(messages))
        name = (json.dumps(messages), completion)
        tokens, pixels = self._tokens.get(name), self._pixels.get(keys)
        if tokens is None or pixels is None:
            tokens, pixels = self._process(row, keys)
            self._tokens[name] = tokens
            self._pixels.put(keys, pixels)
        return tokens, pixels

    def _process(self, row: int, keys: Sequence[str]) -> tuple[dict[str, list[int]], dict[str, torch.Tensor]]:
        prompt, completion = self._texts(row)
        pictures = [self._images.image(key) for key in keys]
        fields = self._processor(
            text=[prompt], images=[pictures] if pictures else None, add_special_tokens=False, return_tensors="pt"
        )
        tokenizer = self._processor.tokenizer
        answer = tokenizer(completion, add_special_tokens=False)["input_ids"]
        if tokenizer.eos_token_id not in answer:  # not every chat template ends a turn with it
            answer = [*answer, tokenizer.eos_token_id]
        prompt_ids = fields.pop("input_ids")[0].tolist()
        fields.pop("attention_mask")
        tokens = {
            "input_ids": prompt_ids + answer,
            "attention_mask": [1] * (len(prompt_ids) + len(answer)),
            "labels": [IGNORED] * len(prompt_ids) + answer,
        }
        pixels = {}
        for name, value in fields.items():
            if tuple(value.shape) == (1, len(prompt_ids)):
                tokens[name] = value[0].tolist() + [0] * len(answer)
            else:
                pixels[name] = value
        return tokens, pixels

    def _texts(self, row: int) -> tuple[str, str]:
        """The request up to where the answer starts, and the answer with whatever ends the turn."""
        messages = self._messages[row]
        prompt = render(self._processor, messages)
        answer = {"role": "assistant", "text": self._completions[row]}
        whole = render(self._processor, [*messages, answer], add_generation_prompt=False)
        if not whole.startswith(prompt):
            raise T2IEvalError(
                f"The chat template writes the request of example '{self._names[row]}' differently once it is "
                "answered, so a student would be asked with other text than it was trained on; use another model."
            )
        return prompt, whole[len(prompt) :]

    def _processed(self, rows: Sequence[int], names: set[str]) -> dict[str, torch.Tensor]:
        """The tensors ``names`` of the images of a batch, joined by the processor."""
        conversations = [self._messages[row] for row in rows]
        fields = self._processor(
            text=[render(self._processor, messages) for messages in conversations],
            images=[[self._images.image(key) for key in image_keys(messages)] for messages in conversations],
            padding=True,
            padding_side="left",
            add_special_tokens=False,
            return_tensors="pt",
        )
        return {name: fields[name] for name in names}


class _Cache:
    """The most recently used values that fit into ``capacity`` bytes."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._size = 0
        self._values: OrderedDict[tuple[str, ...], dict[str, torch.Tensor]] = OrderedDict()

    def get(self, key: tuple[str, ...]) -> dict[str, torch.Tensor] | None:
        if key not in self._values:
            return None
        self._values.move_to_end(key)
        return self._values[key]

    def put(self, key: tuple[str, ...], value: dict[str, torch.Tensor]) -> None:
        self._size += _bytes(value) - _bytes(self._values.pop(key, {}))
        self._values[key] = value
        while self._size > self._capacity and len(self._values) > 1:
            self._size -= _bytes(self._values.popitem(last=False)[1])


def _bytes(value: Mapping[str, torch.Tensor]) -> int:
    return sum(tensor.nbytes for tensor in value.values())


def _joins(tensors: Sequence[torch.Tensor]) -> bool:
    return len({tuple(tensor.shape[1:]) for tensor in tensors}) == 1


def grpo_dataset(examples: pd.DataFrame, images: ImageStore) -> Dataset:
    """The requests of ``examples`` as trl's ``GRPOTrainer`` reads them, with the score to reach as ``target``.

    Images are read when a row is drawn, so that memory holds one batch of them.
    """
    from datasets import Dataset

    def row(batch: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        conversations = [json.loads(text) for text in batch["messages"]]
        return {
            "prompt": [to_chat(messages) for messages in conversations],
            "images": [[images.image(key) for key in image_keys(messages)] for messages in conversations],
            "target": batch["target"],
        }

    columns = {"messages": list(examples["messages"]), "target": [float(score) for score in examples["score"]]}
    return Dataset.from_dict(columns).with_transform(row)
