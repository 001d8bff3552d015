"""Examples as what a trainer reads: token ids with labels for supervised fine-tuning, chats for GRPO.

Many examples are about the same image, and processing it costs more than all else in a batch. So processed images are
kept, as far as memory allows.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd
from PIL import Image

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.models.answers import answer_form, answer_tokens
from t2i_eval_kedro.models.images import size_of
from t2i_eval_kedro.models.processors import ImageSource, image_keys, joined_axes, plain_text, render, to_chat
from t2i_eval_kedro.training.augment import augmented, version_of

if TYPE_CHECKING:
    import torch
    from datasets import Dataset

logger = logging.getLogger(__name__)

IGNORED = -100  # label of a token that the loss leaves out
_COUNTED_AT_ONCE = 1000
_HASHED_AT_ONCE = 5000
_PART_COST = 128  # another forward pass costs a small model as much time as about so many tokens


def data_hash(examples: pd.DataFrame) -> str:
    """SHA-256 of what a student is trained on: ids, folds, requests, answers, scores, weights and how often, in order."""
    columns = ["example_id", "fold", "messages", "completion", "score", "weight", "soft_label", "frequency"]
    digest = hashlib.sha256()
    for start in range(0, len(examples), _HASHED_AT_ONCE):  # as Python objects, a table takes several times its memory
        known = examples[columns].iloc[start : start + _HASHED_AT_ONCE].astype(object)
        for row in known.where(known.notna(), None).itertuples(index=False):
            digest.update(json.dumps(list(row), ensure_ascii=False).encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class _Pictures:
    """The images of a request as the processor returns them.

    ``expanded`` is what stands in the token fields (``input_ids``, ``mm_token_type_ids``, ...) for the placeholder of a
    single image; None where it cannot be told from the text around it. ``tensors`` are the pixels and what goes with
    them.
    """

    expanded: dict[str, list[int]] | None
    tensors: dict[str, torch.Tensor]


_Encoded: TypeAlias = "tuple[dict[str, list[int]], dict[str, torch.Tensor]]"  # token fields, tensors of the images


class Encoder:
    """Encodes examples and puts them into batches; the ``data_collator`` of supervised fine-tuning.

    An image is processed once and kept, with the tokens that stand for it; the texts around it are tokenized a batch at
    a time. Works for any processor whose tensors are one row a token (``input_ids``, ``token_type_ids``, ...) or join
    along one axis (pixels, grids, sizes). Where the images of a batch do not join, the processor pads them.
    """

    def __init__(
        self,
        examples: pd.DataFrame,
        processor: Any,
        images: ImageSource,
        cache_mb: int = 512,
        *,
        augment: float = 0.0,
        seed: int = 0,
    ) -> None:
        """Encode ``examples``.

        Args:
            examples: the table ``schema.EXAMPLES``.
            processor: from ``load_processor``.
            images: where the images of the requests are.
            cache_mb: memory for processed images, in MiB.
            augment: strength of the changes to the images of the fold ``train``, see
                :mod:`t2i_eval_kedro.training.augment`; other folds see them as they are.
            seed: of the changes.
        """
        self._messages: list[str] = list(examples["messages"])
        self._completions: list[str] = list(examples["completion"])
        self._names: list[str] = list(examples["example_id"])
        self._weights: list[float] = list(examples["weight"])
        self.weighted = any(weight != 1 for weight in self._weights)
        self._soft: list[dict[str, float]] = [
            json.loads(text) if isinstance(text, str) else {} for text in examples["soft_label"]
        ]
        self.soft = any(self._soft)
        self._tokens = level_tokens(processor, {level for soft in self._soft for level in soft}) if self.soft else {}
        self._frequencies: list[float] = list(examples["frequency"].fillna(1.0))
        self._augment, self._seed = augment, seed
        self._versions = [
            version_of(name, seed) if augment and fold == "train" else 0
            for name, fold in zip(self._names, examples["fold"], strict=True)
        ]
        self._processor = processor
        self._images = images
        self._cache = _Cache(cache_mb * 2**20)
        self._added: dict[tuple[tuple[int, int], ...], int] = {}  # tokens that images of these sizes add to a request

    def __len__(self) -> int:
        return len(self._completions)

    @property
    def draws(self) -> bool:
        """Whether some examples are drawn more often than others."""
        return any(frequency != 1 for frequency in self._frequencies)

    @property
    def frequencies(self) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """How often each example is drawn beside the others."""
        return np.array(self._frequencies)

    def dataset(self, rows: Sequence[int]) -> Dataset:
        """A dataset of references to ``rows``, with the length of each in characters to group batches by.

        ``frequency`` is there unless every example is drawn as often as any other.
        """
        from datasets import Dataset

        lengths = [len(self._messages[row]) + len(self._completions[row]) for row in rows]
        columns: dict[str, list[Any]] = {"row": list(rows), "length": lengths}
        if self.draws:
            columns["frequency"] = [self._frequencies[row] for row in rows]
        return Dataset.from_dict(columns)

    def rows_within(self, max_length: int | None, context: int | None) -> list[int]:
        """The examples of at most ``max_length`` tokens that the model can read whole; the others are counted and named in the log.

        Args:
            max_length: limit of the settings.
            context: the most tokens that the model reads. An example is tokenized for it only where its text alone is longer, in bytes,
                than a quarter of it, or it has more than two images: a token is at least a byte, and an image at most a quarter.

        No image is decoded (:meth:`lengths`).
        """
        limit = min((limit for limit in (max_length, context) if limit is not None), default=None)
        if limit is None:
            return list(range(len(self)))

        def may_exceed(row: int) -> bool:
            texts = self._messages[row] + self._completions[row]
            return max_length is not None or len(texts.encode()) > limit / 4 or texts.count('"images": ["') > 2

        counted = [row for row in range(len(self)) if may_exceed(row)]
        out = {row for row, length in zip(counted, self.lengths(counted), strict=True) if length > limit}
        if out:
            named = ", ".join(self._names[row] for row in sorted(out)[:3])
            logger.warning(
                "%d of %d examples are longer than %d tokens (%s) and are left out: %s%s",
                *(len(out), len(self), limit, "max_length" if limit == max_length else "what the model reads"),
                *(named, ", ..." if len(out) > 3 else ""),
            )
        return [row for row in range(len(self)) if row not in out]

    def lengths(self, rows: Sequence[int]) -> list[int]:
        """Tokens of each of ``rows``, their images among them.

        Texts are tokenized, but images are not decoded: how many tokens they are depends on their sizes, which stand at the head of their
        files, and is measured once for each size.
        """
        out = []
        for start in range(0, len(rows), _COUNTED_AT_ONCE):
            for messages, texts, prompt, rest in self._tokenized(rows[start : start + _COUNTED_AT_ONCE]):
                sizes = tuple(size_of(self._images, key) for key in image_keys(messages))
                out.append(len(prompt) + sum(map(len, rest)) + self._added_by(sizes, texts[0], len(prompt)))
        return out

    def _added_by(self, sizes: tuple[tuple[int, int], ...], text: str, plain: int) -> int:
        """How many tokens images of ``sizes`` add to the request ``text``, which is ``plain`` tokens without them."""
        if sizes and sizes not in self._added:
            blank = [[Image.new("RGB", size) for size in sizes]]
            fields = self._processor(text=[text], images=blank, add_special_tokens=False)
            self._added[sizes] = len(fields["input_ids"][0]) - plain
        return self._added.get(sizes, 0)

    def __call__(self, batch: Sequence[Mapping[str, int]]) -> dict[str, torch.Tensor]:
        """Left-padded ``input_ids``, ``attention_mask`` and ``labels`` of shape (B, T), and the images' tensors.

        Padded on the left, the answers of a batch end in the same column, and only the last few columns need scoring.
        ``weight`` of shape (B,) is there unless every example weighs the same. ``soft_ids`` (tokens) and ``soft_labels``
        (their probabilities) of shape (B, L) are there where an example has a soft label, for the first token of its answer;
        the probabilities of an example without one are zero.
        """
        rows = [item["row"] for item in batch]
        return self._padded(rows, self._encode(rows))

    def in_parts(self, batch: Sequence[Mapping[str, int]]) -> dict[str, Any]:
        """A batch whose long examples are padded apart from the short ones, where that saves enough.

        One long example among short ones would otherwise make most of the batch padding. The batch and its loss stay the
        same, which sorting the examples over batches would change.

        Returns:
            ``row``: the rows, of shape (B,), by which trainers tell the size of a batch; ``parts``: one or more batches as :meth:`__call__`
            returns them; ``labels``: those of all, as one row.
        """
        import torch

        rows = [item["row"] for item in batch]
        members = sorted(zip(rows, self._encode(rows), strict=True), key=lambda member: len(member[1][0]["input_ids"]))
        cuts = _cuts([len(tokens["input_ids"]) for _, (tokens, _) in members])
        parts = [
            self._padded([row for row, _ in members[start:end]], [encoded for _, encoded in members[start:end]])
            for start, end in itertools.pairwise(cuts)
        ]
        labels = torch.cat([part["labels"].flatten() for part in parts])
        return {"row": torch.tensor(rows), "parts": parts, "labels": labels}

    def _padded(self, rows: Sequence[int], encoded: Sequence[_Encoded]) -> dict[str, torch.Tensor]:
        import torch

        padding = {"input_ids": self._processor.tokenizer.pad_token_id, "labels": IGNORED}
        width = max(len(tokens["input_ids"]) for tokens, _ in encoded)
        names = dict.fromkeys(name for tokens, _ in encoded for name in tokens)
        out = {
            name: torch.tensor(
                [
                    [padding.get(name, 0)] * (width - len(tokens["input_ids"]))
                    + tokens.get(name, [0] * len(tokens["input_ids"]))
                    for tokens, _ in encoded
                ]
            )
            for name in names
        }
        if self.weighted:
            out["weight"] = torch.tensor([self._weights[row] for row in rows])
        if self.soft:
            out |= self._soft_labels(rows)
        pixels = [tensors for _, tensors in encoded if tensors]
        if not pixels:
            return out
        axes = {name: self._axes.get(name, 0) for name in pixels[0]}
        if not all(_joins([tensors[name] for tensors in pixels], axis) for name, axis in axes.items()):
            return out | self._padded_pixels(rows, set(axes))
        return out | {name: torch.cat([tensors[name] for tensors in pixels], dim=axis) for name, axis in axes.items()}

    @cached_property
    def _axes(self) -> dict[str, int]:
        return joined_axes(self._processor)

    def _soft_labels(self, rows: Sequence[int]) -> dict[str, torch.Tensor]:
        import torch

        width = max(map(len, self._soft))
        chosen = [self._soft[row] for row in rows]
        ids = [[self._tokens[level] for level in soft] + [0] * (width - len(soft)) for soft in chosen]
        probabilities = [[*soft.values()] + [0.0] * (width - len(soft)) for soft in chosen]
        return {"soft_ids": torch.tensor(ids), "soft_labels": torch.tensor(probabilities)}

    def _tokenized(
        self, rows: Sequence[int]
    ) -> list[tuple[list[dict[str, Any]], list[str], list[int], list[list[int]]]]:
        """Of each example the messages, the texts of :meth:`_texts`, and their tokens: of the first, and of each of the rest."""
        conversations = [json.loads(self._messages[row]) for row in rows]
        parts = [self._texts(row, messages) for row, messages in zip(rows, conversations, strict=True)]
        tokenizer = self._processor.tokenizer
        asked = iter(tokenizer([text for texts in parts for text in texts[::2]], add_special_tokens=False)["input_ids"])
        answered = iter(answer_tokens(self._processor, [text for texts in parts for text in texts[1::2]]))
        tokenized = []
        for messages, texts in zip(conversations, parts, strict=True):
            prompt, *rest = [next(answered if place % 2 else asked) for place, _ in enumerate(texts)]
            if tokenizer.eos_token_id not in rest[-1]:  # not every chat template ends a turn with it
                rest[-1] = [*rest[-1], tokenizer.eos_token_id]
            tokenized.append((messages, texts, prompt, rest))
        return tokenized

    def _encode(self, rows: Sequence[int]) -> list[_Encoded]:
        """The token fields of each example, and the tensors of its images."""
        encoded = []
        for row, (messages, texts, prompt, rest) in zip(rows, self._tokenized(rows), strict=True):
            request, pixels = self._with_images(row, texts[0], prompt, tuple(image_keys(messages)))
            length, more = len(request["input_ids"]), sum(map(len, rest))
            tokens = {name: values + [0] * more for name, values in request.items()}
            tokens["input_ids"] = request["input_ids"] + [token for part in rest for token in part]
            tokens["attention_mask"] = [1] * (length + more)
            learned = [part if place % 2 == 0 else [IGNORED] * len(part) for place, part in enumerate(rest)]
            tokens["labels"] = [IGNORED] * length + [label for part in learned for label in part]
            encoded.append((tokens, pixels))
        return encoded

    def _pictures(self, row: int, keys: Iterable[str]) -> list[Image.Image]:
        """The images of an example, in its version of them."""
        version = self._versions[row]
        return [augmented(self._images.image(key), key, version, self._augment, self._seed) for key in keys]

    def _with_images(self, row: int, text: str, ids: list[int], keys: tuple[str, ...]) -> _Encoded:
        """The token fields of a request whose placeholders stand for its images, and the images' tensors."""
        if not keys:
            return {"input_ids": ids}, {}
        name = (str(self._versions[row]), *keys)
        kept = self._cache.get(name)
        if kept is None or kept.expanded is None:
            images = [self._pictures(row, keys)]
            fields = self._processor(text=[text], images=images, add_special_tokens=False, return_tensors="pt")
            fields.pop("attention_mask")
            shape = tuple(fields["input_ids"].shape)
            tokens = {name: value[0].tolist() for name, value in fields.items() if tuple(value.shape) == shape}
            tensors = {name: value for name, value in fields.items() if name not in tokens}
            self._cache.put(name, _Pictures(_expanded(ids, tokens, self._placeholder), tensors))
            return tokens, tensors
        at = ids.index(self._placeholder)
        before, after = [0] * at, [0] * (len(ids) - at - 1)
        tokens = {name: before + values + after for name, values in kept.expanded.items()}
        tokens["input_ids"] = ids[:at] + kept.expanded["input_ids"] + ids[at + 1 :]
        return tokens, kept.tensors

    @property
    def _placeholder(self) -> int:
        """The token that stands for an image before its size is known; -1 where the processor does not tell."""
        return int(getattr(self._processor, "image_token_id", None) or -1)

    def _texts(self, row: int, messages: list[dict[str, Any]]) -> list[str]:
        """The conversation cut where an answer that is learned starts or ends: request, answer, request, ..., answer.

        Each request is the text that a judge is asked with. An answer has with it whatever ends its turn, but not what the template
        writes before it. The images are all in the first part.
        """
        chat = [*messages, {"role": "assistant", "text": self._completions[row], "learn": True}]
        learned = [place for place, message in enumerate(chat) if message.get("learn")]
        if any(image_keys(chat[learned[0] :])):
            raise T2IEvalError(f"Example '{self._names[row]}' shows an image after an answer that is learned.")
        form = answer_form(self._processor)
        texts: list[str] = []
        before = ""
        for place in learned:
            request = render(self._processor, chat[:place])
            if not request.startswith(before):
                raise T2IEvalError(
                    f"The chat template writes an earlier answer of example '{self._names[row]}' differently once the "
                    "conversation goes on, so several answers of one conversation cannot be learned together; leave out "
                    "examples.tasks=conversation, or use another model."
                )
            answer = plain_text(self._processor, chat[place]["text"]) + form.close
            texts += [request[len(before) :], answer]
            before = request + form.lead + answer
        return texts

    def _padded_pixels(self, rows: Sequence[int], names: set[str]) -> dict[str, torch.Tensor]:
        """The tensors ``names`` of the images of a batch, joined by the processor."""
        conversations = [json.loads(self._messages[row]) for row in rows]
        fields = self._processor(
            text=[render(self._processor, messages) for messages in conversations],
            images=[
                self._pictures(row, image_keys(messages)) for row, messages in zip(rows, conversations, strict=True)
            ],
            padding=True,
            padding_side="left",
            add_special_tokens=False,
            return_tensors="pt",
        )
        return {name: fields[name] for name in names}


def level_tokens(processor: Any, levels: Iterable[str]) -> dict[str, int]:
    """The token by which each of ``levels`` is answered.

    Raises:
        T2IEvalError: a level is answered with more than one token, so that a soft label, which is learned at one place, cannot teach it.
    """
    names = sorted(levels)
    tokens = dict(zip(names, answer_tokens(processor, names), strict=True))
    for level, ids in tokens.items():
        if len(ids) != 1:
            raise T2IEvalError(
                f"Soft labels need levels of one token, and the level '{level}' is {len(ids)} tokens of this model; set "
                "examples.soft=null, or choose other levels (judging.options.answer_vocabulary, judging.wording)."
            )
    return {level: ids[0] for level, ids in tokens.items()}


def _expanded(ids: list[int], tokens: Mapping[str, list[int]], placeholder: int) -> dict[str, list[int]] | None:
    """What replaced the only placeholder of ``ids`` in each token field; None where that is not the only change.

    Example:
        >>> _expanded([5, 9, 6], {"input_ids": [5, 9, 9, 9, 6], "types": [0, 1, 1, 1, 0]}, placeholder=9)
        {'input_ids': [9, 9, 9], 'types': [1, 1, 1]}
    """
    if ids.count(placeholder) != 1:
        return None
    start = ids.index(placeholder)
    end = len(tokens["input_ids"]) - (len(ids) - start - 1)
    for name, values in tokens.items():
        text = ids if name == "input_ids" else [0] * len(ids)
        if values[:start] != text[:start] or values[end:] != text[start + 1 :]:
            return None
    return {name: values[start:end] for name, values in tokens.items()}


def _cuts(lengths: Sequence[int]) -> list[int]:
    """Where to cut the ascending ``lengths`` into parts that are padded each to its own longest, for the least time.

    Example:
        >>> _cuts([30] * 31 + [200]), _cuts([30] * 31 + [32]), _cuts([30] * 30 + [500, 900])
        ([0, 31, 32], [0, 32], [0, 30, 31, 32])
    """
    best: list[tuple[int, list[int]]] = [(0, [0])]  # of the first n lengths: cost in tokens, and where they are cut
    for n, longest in enumerate(lengths, start=1):
        cost, cuts = min((best[k][0] + (n - k) * longest + _PART_COST, best[k][1]) for k in range(n))
        best.append((cost, [*cuts, n]))
    return best[-1][1]


class _Cache:
    """The most recently used values that fit into ``capacity`` bytes."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._size = 0
        self._values: OrderedDict[tuple[str, ...], _Pictures] = OrderedDict()

    def get(self, key: tuple[str, ...]) -> _Pictures | None:
        if key not in self._values:
            return None
        self._values.move_to_end(key)
        return self._values[key]

    def put(self, key: tuple[str, ...], value: _Pictures) -> None:
        if key in self._values:
            self._size -= _bytes(self._values.pop(key))
        self._size += _bytes(value)
        self._values[key] = value
        while self._size > self._capacity and len(self._values) > 1:
            self._size -= _bytes(self._values.popitem(last=False)[1])


def _bytes(pictures: _Pictures) -> int:
    return sum(tensor.nbytes for tensor in pictures.tensors.values())


def _joins(tensors: Sequence[torch.Tensor], axis: int) -> bool:
    return len({(*tensor.shape[:axis], *tensor.shape[axis + 1 :]) for tensor in tensors}) == 1


def grpo_dataset(examples: pd.DataFrame, images: ImageSource, processor: Any) -> Dataset:
    """The requests of ``examples`` as trl's ``GRPOTrainer`` reads them, with the score to reach as ``target_score``, the ``task``, and the ``row``.

    Text that spells a special token of the model is made plain, as for a judge.

    Images are read when a row is drawn, so that memory holds one batch of them.
    """
    from datasets import Dataset

    def row(batch: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        conversations = [json.loads(text) for text in batch["messages"]]
        return {
            "prompt": [
                to_chat([{**m, "text": plain_text(processor, m["text"])} for m in messages])
                for messages in conversations
            ],
            "images": [[images.image(key) for key in image_keys(messages)] for messages in conversations],
            **{name: batch[name] for name in ("target_score", "task", "row")},
        }

    columns = {
        "messages": list(examples["messages"]),
        "target_score": [float(score) for score in examples["score"]],
        "task": list(examples["task"]),
        "row": list(range(len(examples))),
    }
    return Dataset.from_dict(columns).with_transform(row)
