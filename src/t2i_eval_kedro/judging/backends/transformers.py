"""A local vision-language model of the transformers library, with or without an adapter.

Each image is encoded once: requests about it share a prefix (:mod:`~t2i_eval_kedro.judging.backends.prefixes`). Where the
answer is a distribution over choices, all of them are read from one packed row; where it is generated, each goes on from a
copy of the prefix's cache. Whether a model can be asked so is checked when it first is, against asking it plainly.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, groupby
from threading import Lock
from typing import Any, TypeVar

import torch

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.backends.prefixes import (
    NotShareable,
    Shared,
    block_mask,
    group,
    pack,
    pad_left,
    prefixes,
    tokenize,
)
from t2i_eval_kedro.judging.backends.top_logprobs import TopLogprobsProcessor
from t2i_eval_kedro.judging.protocols.base import Answer, Request
from t2i_eval_kedro.models.answers import candidate_sequences, inner_nodes, sequence_log_probabilities
from t2i_eval_kedro.models.loading import context_length
from t2i_eval_kedro.models.processors import ImageSource, encode, image_keys, open_thoughts
from t2i_eval_kedro.schema import FAILED

log = logging.getLogger(__name__)

_In = TypeVar("_In")
_Out = TypeVar("_Out")

# How far the logits of the first answer token may be from plain asking: the root mean square of the change, as a share of their standard
# deviation. Rounding alone, as the model's kernels round in another batch, may move them further, so so many times that is allowed, too.
# With the tiny model in bfloat16, rounding gives 0.01 to 0.02 and wrong positions 0.06 to 0.3. Ours.
_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.03, torch.float16: 0.01}
_TIMES_ROUNDING = 2.0


@dataclass(frozen=True)
class _Images:
    """Decoded images, as an image store."""

    pictures: Mapping[str, Any]

    def image(self, key: str) -> Any:
        return self.pictures[key]


@dataclass(frozen=True)
class _Batch:
    """N requests of one kind that are answered together.

    Attributes:
        members: their positions among what was asked.
        requests: the requests themselves.
        images: their images.
        inputs: N left-padded rows; where prefixes are shared, the tensors of the images alone.
        shared: the tokens by group, or None where each request is asked plainly.
    """

    members: list[int]
    requests: list[Request]
    images: _Images
    inputs: Mapping[str, torch.Tensor]
    shared: list[Shared] | None

    @property
    def scored(self) -> bool:
        """Whether distributions over choices are wanted, and no text."""
        return bool(self.requests[0].candidate_tokens)

    def lengths(self) -> list[int]:
        """Tokens of each request."""
        if self.shared is not None:
            return _lengths(self.shared)
        return [int(n) for n in self.inputs["attention_mask"].sum(dim=1)]

    def followed_by(self, tokens: Sequence[int]) -> _Batch:
        """The same requests, each with ``tokens`` behind it."""
        if self.shared is not None:
            shared = [
                replace(group, suffixes=[[*suffix, *tokens] for suffix in group.suffixes]) for group in self.shared
            ]
            return replace(self, shared=shared)
        rows = self.inputs["input_ids"]
        more = {
            "input_ids": torch.tensor([list(tokens)] * len(rows)),
            "attention_mask": torch.ones(len(rows), len(tokens)),
        }
        longer = {
            name: torch.cat([value, more.get(name, torch.zeros(len(rows), len(tokens))).to(value.dtype)], dim=1)
            for name, value in self.inputs.items()
            if value.shape == rows.shape  # a field of tokens: ids, mask, types
        }
        return replace(self, inputs={**self.inputs, **longer})


@dataclass(frozen=True)
class Sampled:
    """Drawn answers.

    Attributes:
        asked: the tokens of the request of each answer.
        answers: the tokens of the answers, (N, T), filled up behind their ends.
    """

    asked: list[list[int]]
    answers: torch.Tensor


class TransformersBackend:
    """Answers by greedy decoding; requests with choices by the distribution over them in one forward pass."""

    def __init__(
        self,
        model: Any,
        processor: Any,
        images: ImageSource,
        *,
        batch_size: int,
        share_prefixes: bool = True,
        thinking_tokens: int = 1024,
    ) -> None:
        """Take a loaded model and its processor.

        Args:
            model: from ``load_model``.
            processor: from ``load_processor``.
            images: where images are read from.
            batch_size: requests that are answered at once.
            share_prefixes: encode an image once for all requests about it, where the model allows; not where it thinks before it answers.
            thinking_tokens: the most tokens of thoughts, where the processor lets the model think first.
        """
        self.model = model.eval()
        self.processor = processor
        self.images = images
        self.batch_size = batch_size
        self._whole = model.get_base_model() if hasattr(model, "peft_config") else model
        self._context = context_length(self._whole.config)
        self._thoughts = open_thoughts(processor)
        self._thinking_tokens = thinking_tokens
        self._sharing = share_prefixes and self._thoughts is None
        self._checked: set[str] = set()
        self._processing = Lock()  # a tokenizer serves one thread at a time

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        """Answer in batches of requests of one kind (same number of images; scored, or of the same answer length).

        Within a kind, long requests go first: padding stays small, and memory runs out at the start or not at all. While
        the model answers one batch, a thread prepares the next.

        Raises:
            T2IEvalError: two choices are the same tokens of the model.
        """
        for choices in {request.candidate_tokens for request in requests if request.candidate_tokens}:
            candidate_sequences(self.processor, choices)
        with ThreadPoolExecutor(max_workers=1) as reader:
            for failed, batches in _ahead(reader, partial(self._prepare, requests), self._batches(requests)):
                yield from failed
                for batch in batches:
                    yield from zip(batch.members, self._answers_apart(batch), strict=True)

    def _batches(self, requests: Sequence[Request]) -> Iterator[list[list[int]]]:
        """Batches of groups of positions in ``requests``."""

        def kind(i: int) -> tuple[int, int, int]:
            request = requests[i]
            n_images = len(image_keys(request.chat))
            return (
                (n_images, 0, 0) if request.candidate_tokens else (n_images, request.max_tokens, request.top_logprobs)
            )

        sizes = [sum(len(message.text) for message in request.messages) for request in requests]
        for _, members in groupby(sorted(range(len(requests)), key=kind), key=kind):
            groups = group(requests, list(members), self.batch_size)
            batch: list[list[int]] = []
            for rows in sorted(groups, key=lambda one: -sum(sizes[i] for i in one)):
                if batch and sum(map(len, batch)) + len(rows) > self.batch_size:
                    yield batch
                    batch = []
                batch.append(rows)
            yield batch

    def _prepare(
        self, requests: Sequence[Request], groups: list[list[int]]
    ) -> tuple[list[tuple[int, Answer]], list[_Batch]]:
        """What cannot be asked, and the rest as tensors: one batch, unless the processor refuses one of the images."""
        failed = []
        pictures: dict[str, Any] = {}
        readable = []
        for members in groups:
            try:
                pictures |= {key: self.images.image(key) for key in image_keys(requests[members[0]].chat)}
                readable.append(members)
            except (OSError, KeyError, ValueError, T2IEvalError) as error:  # one bad image costs its own requests alone
                failed += [(i, Answer(f"the image cannot be read: {error}", status=FAILED)) for i in members]
        if not readable:
            return failed, []
        images = _Images(pictures)
        try:
            too_long, batches = self._within_context(requests, readable, images)
            return failed + too_long, batches
        except (
            ValueError,
            TypeError,
            IndexError,
            RuntimeError,
            ZeroDivisionError,
        ):  # such as an image of one pixel's width
            batches = []
            for members in readable:
                try:
                    too_long, fitting = self._within_context(requests, [members], images)
                    failed += too_long
                    batches += fitting
                except (ValueError, TypeError, IndexError, RuntimeError, ZeroDivisionError) as error:
                    failed += [(i, Answer(f"the image cannot be processed: {error}", status=FAILED)) for i in members]
            return failed, batches

    def _within_context(
        self, requests: Sequence[Request], groups: list[list[int]], images: _Images
    ) -> tuple[list[tuple[int, Answer]], list[_Batch]]:
        """The requests that leave room for an answer, as a batch; the others would be answered from a part of what they say."""
        batch = self._encode(requests, groups, images)
        lengths = batch.lengths()
        too_long = {
            i: n
            for i, n in zip(batch.members, lengths, strict=True)
            if self._context is not None and n >= self._context
        }
        if not too_long:
            return [], [batch]
        failed = [
            (i, Answer(f"the request has {n} tokens, and the model reads {self._context} at most", status=FAILED))
            for i, n in too_long.items()
        ]
        kept = [[i for i in members if i not in too_long] for members in groups]
        fitting = [members for members in kept if members]
        return failed, [self._encode(requests, fitting, images)] if fitting else []

    def _encode(self, requests: Sequence[Request], groups: list[list[int]], images: _Images) -> _Batch:
        members = [i for group in groups for i in group]
        asked = [requests[i] for i in members]
        with self._processing:
            # Generating from one row a prefix would only compute it apart from the rest.
            if self._sharing and (asked[0].candidate_tokens or any(len(group) > 1 for group in groups)):
                try:
                    by_group = [[requests[i] for i in group] for group in groups]
                    shared, inputs = tokenize(self.processor, by_group, images.pictures)
                    return _Batch(members, asked, images, inputs, shared)
                except NotShareable as reason:
                    self._stop_sharing(str(reason))
            inputs = encode(self.processor, [request.chat for request in asked], images)
        return _Batch(members, asked, images, inputs, None)

    def _stop_sharing(self, reason: str) -> None:
        if self._sharing:
            self._sharing = False
            log.warning("Every question is asked with its image encoded again, because %s.", reason)

    def _answers_apart(self, batch: _Batch) -> list[Answer]:
        """Answers to a batch, and where the model fails over it to its halves, so that one request fails alone."""
        try:
            return self._answers(batch)
        except (RuntimeError, ValueError, IndexError) as error:  # such as memory that is used up
            reason = str(error).split("\n")[0] or type(error).__name__
        if len(batch.members) == 1:
            return [Answer(f"the model failed: {reason}", status=FAILED)]
        half = len(batch.members) // 2
        parts = [range(half), range(half, len(batch.members))]
        halves = [self._encode(batch.requests, [[i] for i in part], batch.images) for part in parts]
        return [answer for part in halves for answer in self._answers_apart(part)]

    @torch.inference_mode()
    def _answers(self, batch: _Batch) -> list[Answer]:
        if self._thoughts is not None:
            batch, lengths = self._after_thoughts(batch, *self._thoughts)
            given = self._answers_to(batch)
            return [
                replace(answer, usage={**answer.usage, "thought_tokens": length})
                for answer, length in zip(given, lengths, strict=True)
            ]
        if batch.shared is not None and not self._may_share(batch, batch.shared):
            batch = self._plain(batch)
        return self._answers_to(batch)

    def _after_thoughts(self, batch: _Batch, closing: str, end: int) -> tuple[_Batch, list[int]]:
        """The same requests with what the model thinks about each behind it, the block of thoughts closed; and the tokens of thoughts.

        Thoughts that are not at an end after the tokens that they may have are cut there.
        """
        conversations = [request.chat for request in batch.requests]
        with self._processing:
            asked = encode(self.processor, conversations, batch.images, thoughts=[""] * len(conversations))
        config = self.model.generation_config
        stops = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
        out = self.model.generate(
            **self._on_device(asked),
            do_sample=False,
            repetition_penalty=1.0,
            max_new_tokens=self._thinking_tokens,
            eos_token_id=[end, *(stop for stop in stops if stop is not None)],
            pad_token_id=self.processor.tokenizer.pad_token_id,
        )
        rows = out[:, asked["input_ids"].shape[1] :].tolist()
        over = {end, self.processor.tokenizer.pad_token_id, *stops}
        thoughts = [row[: next((n for n, token in enumerate(row) if token in over), len(row))] for row in rows]
        with self._processing:
            decoded = self.processor.batch_decode(thoughts, skip_special_tokens=True)
            texts = [text.rstrip() + closing for text in decoded]
            inputs = encode(self.processor, conversations, batch.images, thoughts=texts)
        return _Batch(batch.members, batch.requests, batch.images, inputs, None), [len(row) for row in thoughts]

    def _answers_to(self, batch: _Batch) -> list[Answer]:
        """Answers to a batch that can be asked as it is."""
        if batch.scored:
            logits, n_tokens = self._first_logits(batch)
            return self._distributions(batch, logits.float(), n_tokens)
        n_top = batch.requests[0].top_logprobs
        top_tokens = TopLogprobsProcessor(n_top) if n_top else None
        generated, _, n_tokens = self._generate(batch, batch.requests[0].max_tokens, top_tokens)
        with self._processing:
            decoded = self.processor.batch_decode(generated, skip_special_tokens=True)
        return [
            Answer(
                text=text.strip(),
                usage={"prompt_tokens": n, "completion_tokens": m},
                tokens=top_tokens.tokens(row, ids[:m], self.processor.tokenizer) if top_tokens else (),
            )
            for row, (text, ids, n, m) in enumerate(
                zip(decoded, generated.tolist(), n_tokens, self._answer_lengths(generated), strict=True)
            )
        ]

    def _answer_lengths(self, generated: torch.Tensor) -> list[int]:
        """The number of tokens in each row before the one that ends it; an answer of ``max_tokens`` was cut off."""
        ends = self.model.generation_config.eos_token_id
        ends = [*(ends if isinstance(ends, list) else [ends]), self.processor.tokenizer.pad_token_id]
        ended = torch.isin(generated, torch.tensor([end for end in ends if end is not None], device=generated.device))
        return (~ended).cumprod(dim=1).sum(dim=1).tolist()

    def _distributions(self, batch: _Batch, logits: torch.Tensor, n_tokens: list[int]) -> list[Answer]:
        """An answer for each of N requests from the logits of its first token, (N, vocabulary).

        Candidates of several tokens are read behind each of their beginnings, in a forward pass for each.
        """
        total = logits.logsumexp(dim=1, keepdim=True)
        sets = {
            request.candidate_tokens: candidate_sequences(self.processor, request.candidate_tokens)
            for request in batch.requests
        }
        following = {
            node: self._first_logits(batch.followed_by(node))[0].float().log_softmax(dim=1)
            for node in sorted({node for candidates in sets.values() for node in inner_nodes(candidates) if node})
        }
        answers: dict[int, Answer] = {}
        for choices, candidates in sets.items():
            rows = [row for row, request in enumerate(batch.requests) if request.candidate_tokens == choices]
            if all(len(sequences) == len(sequences[0]) == 1 for sequences in candidates):
                within = logits[rows][:, [ids[0] for (ids,) in candidates]]
                distributions = within.softmax(dim=1).tolist()
                inside = (within.logsumexp(dim=1, keepdim=True) - total[rows]).exp()[:, 0].tolist()
            else:
                after = {node: following[node][rows] for node in inner_nodes(candidates) if node}
                within = sequence_log_probabilities(candidates, {(): (logits - total)[rows], **after})
                distributions = within.softmax(dim=1).tolist()
                inside = within.logsumexp(dim=1).exp().tolist()
            for row, distribution, mass in zip(rows, distributions, inside, strict=True):
                answers[row] = Answer(
                    text=choices[distribution.index(max(distribution))],
                    probabilities=dict(zip(choices, distribution, strict=True)),
                    out_of_vocabulary_mass=max(0.0, 1 - mass),
                    usage={"prompt_tokens": n_tokens[row], "completion_tokens": 1},
                )
        return [answers[row] for row in range(len(batch.requests))]

    def _first_logits(self, batch: _Batch) -> tuple[torch.Tensor, list[int]]:
        """The logits of each request's first answer token, (N, vocabulary), and the length of each request."""
        if batch.shared is None:
            _, logits, n_tokens = self._generate(batch, 1)
            return logits, n_tokens
        core, pad = self._whole.base_model, self.processor.tokenizer.pad_token_id
        packed = pack(batch.shared, prefixes(core, batch.shared, batch.inputs, pad=pad), pad=pad)
        segments = packed.segments.to(self.model.device)
        hidden = core(
            **self._on_device(packed.tokens),
            **self._on_device(batch.inputs),
            # The padding stands behind everything that is read, so causal attention never sees it.
            attention_mask=torch.ones_like(segments) if packed.single else block_mask(segments, self.model.dtype),
            position_ids=packed.positions.to(self.model.device),
            use_cache=False,
        ).last_hidden_state
        row, column = packed.ends.to(hidden.device)
        return self._whole.get_output_embeddings()(hidden[row, column]), _lengths(batch.shared)

    def _generate(
        self, batch: _Batch, max_tokens: int, top_tokens: TopLogprobsProcessor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
        """The tokens of each answer, (N, up to ``max_tokens``), the logits of the first, and the length of each request."""
        if batch.shared is None:
            inputs, cache = self._on_device(batch.inputs), None
        else:
            inputs, cache = self._cached(batch, batch.shared)
        out = self.model.generate(
            **inputs,
            past_key_values=cache,
            do_sample=False,
            repetition_penalty=1.0,  # a penalty that a model comes with would fall on the levels that a request names
            logits_processor=[top_tokens] if top_tokens else None,
            max_new_tokens=self._room(batch, max_tokens),
            output_logits=max_tokens == 1,
            return_dict_in_generate=True,
        )
        answers = out.sequences[:, inputs["input_ids"].shape[1] :]
        return answers, out.logits[0] if out.logits else answers, inputs["attention_mask"].sum(dim=1).tolist()

    def _room(self, batch: _Batch, max_tokens: int) -> int:
        """``max_tokens``, or what the model's context leaves behind the longest request."""
        return max_tokens if self._context is None else max(1, min(max_tokens, self._context - max(batch.lengths())))

    @torch.no_grad()
    def sample(self, requests: Sequence[Request], counts: Sequence[int], generation: Any) -> Sampled | None:
        """Several drawn answers to each request, which encode it and its image once.

        Args:
            requests: different requests, of one number of images.
            counts: how many answers each gets.
            generation: configuration of the drawing, for ``model.generate``.

        Returns:
            None where the model does not allow its requests to be shared.

        Raises:
            T2IEvalError, OSError: an image cannot be read.
        """
        if not self._sharing:
            return None
        copies = [request for request, count in zip(requests, counts, strict=True) for _ in range(count)]
        ends = list(accumulate(counts))
        groups = [list(range(end - count, end)) for end, count in zip(ends, counts, strict=True)]
        pictures = {key: self.images.image(key) for request in requests for key in image_keys(request.chat)}
        batch = self._encode(copies, groups, _Images(pictures))
        if batch.shared is None or not self._may_share(batch, batch.shared):
            return None
        asked = [[*group.prefix["input_ids"], *suffix] for group in batch.shared for suffix in group.suffixes]
        inputs, cache = self._cached(batch, batch.shared)
        sequences = self.model.generate(**inputs, past_key_values=cache, generation_config=generation)
        return Sampled(asked, sequences[:, inputs["input_ids"].shape[1] :])

    def _cached(self, batch: _Batch, shared: list[Shared]) -> tuple[dict[str, torch.Tensor], Any]:
        """N left-padded rows of text, whose prefixes are in the cache that comes with them."""
        from transformers import DynamicCache

        core, pad = self._whole.base_model, self.processor.tokenizer.pad_token_id
        heads = prefixes(core, shared, batch.inputs, pad=pad, left=True)
        cache = DynamicCache(config=self._whole.config.get_text_config())
        core(
            **self._on_device(heads.tokens),
            **self._on_device(batch.inputs),
            attention_mask=heads.mask.to(self.model.device),
            position_ids=heads.positions.to(self.model.device),
            past_key_values=cache,
            use_cache=True,
        )
        rows = torch.tensor([place for place, group in enumerate(shared) for _ in group.suffixes])
        cache.batch_select_indices(rows.to(self.model.device))
        if (
            heads.positions.dim() == 3
        ):  # generate() reads how far text positions lag behind the count of tokens from here
            core.rope_deltas = (torch.tensor(heads.starts) - heads.mask.sum(dim=1))[rows, None].to(self.model.device)
        ids, mask = pad_left([suffix for group in shared for suffix in group.suffixes], pad)
        inputs = {
            "input_ids": torch.cat([heads.tokens["input_ids"][rows], ids], dim=1),
            "attention_mask": torch.cat([heads.mask[rows], mask], dim=1),
        }
        return self._on_device(inputs), cache

    def _may_share(self, batch: _Batch, shared: list[Shared]) -> bool:
        """Whether this model answers from a shared prefix as it does plainly; tried once for each way of sharing."""
        most = max(len(group.suffixes) for group in shared)
        way = "generated" if not batch.scored else "packed" if most > 1 else "alone"
        if self._sharing and way not in self._checked:
            self._checked.add(way)
            if reason := self._unsuited() or self._differs(batch, shared):
                self._stop_sharing(reason)
        return self._sharing

    def _unsuited(self) -> str:
        config = self._whole.config.get_text_config()
        layers = set(getattr(config, "layer_types", None) or ["full_attention"])
        if self._whole.config.is_encoder_decoder or layers != {"full_attention"}:
            return "its text model has layers other than full causal attention"
        if not hasattr(config, "layer_types") and getattr(config, "sliding_window", None):
            return "its text model attends to a sliding window"
        if self._whole.config._attn_implementation not in ("sdpa", "eager"):
            return f"its attention '{self._whole.config._attn_implementation}' takes no mask of blocks"
        return ""

    def _differs(self, batch: _Batch, shared: list[Shared]) -> str:
        """Why the first two requests of the largest group get other logits plainly than shared; empty where they do not."""
        sizes = [len(group.suffixes) for group in shared]
        largest = sizes.index(max(sizes))
        start = sum(sizes[:largest])
        few = list(range(start, start + min(2, sizes[largest])))
        ours = self._encode(batch.requests, [few], batch.images)
        expected, _ = self._first_logits(self._plain(ours))
        try:
            logits = self._first_logits(ours)[0] if batch.scored else self._generate(ours, 1)[1]
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # the code of any architecture may not take what it is given here
            return f"its code does not take it ({type(error).__name__}: {error})"
        difference = _change(logits, expected)
        if difference <= _TOLERANCE[self.model.dtype]:
            return ""
        beside = [place for place in range(len(batch.requests)) if place != start][:1]
        other = [batch.requests[place] for place in (few[:1] if len(few) > 1 else few + beside)]
        rounding = _change(self._first_logits(self._plain(replace(batch, requests=other)))[0][:1], expected[:1])
        if difference <= _TIMES_ROUNDING * rounding:
            return ""
        return f"its logits change by {difference:.2g} standard deviations otherwise, and by {rounding:.2g} in another batch"

    def _plain(self, batch: _Batch) -> _Batch:
        """The same requests, each with its image."""
        with self._processing:
            inputs = encode(self.processor, [request.chat for request in batch.requests], batch.images)
        return _Batch(batch.members, batch.requests, batch.images, inputs, None)

    def _on_device(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """``tensors`` where the model is, and numbers of images in its precision."""
        return {
            name: value.to(self.model.device, self.model.dtype if value.is_floating_point() else None)
            for name, value in tensors.items()
        }

    def require_tokens(self, choices: Iterable[Sequence[str]]) -> None:
        """Check before anything is asked what :meth:`answer` would refuse; raises T2IEvalError."""
        for words in choices:
            candidate_sequences(self.processor, words)


def _change(logits: torch.Tensor, expected: torch.Tensor) -> float:
    """The root mean square of what changed, as a share of the standard deviation of ``expected``."""
    changed = (logits.float() - expected.float()).square().mean().sqrt()
    return float(changed) / max(float(expected.float().std()), 1e-6)


def _lengths(shared: Sequence[Shared]) -> list[int]:
    return [len(group.prefix["input_ids"]) + len(suffix) for group in shared for suffix in group.suffixes]


def _ahead(
    worker: ThreadPoolExecutor, function: Callable[[_In], _Out], items: Iterable[_In], depth: int = 2
) -> Iterator[_Out]:
    """``function`` of each item, in order, computed by ``worker`` up to ``depth`` items ahead.

    Example:
        >>> with ThreadPoolExecutor(1) as worker:
        ...     list(_ahead(worker, abs, [-3, 4, -5]))
        [3, 4, 5]
    """
    waiting: deque[Future[_Out]] = deque()
    try:
        for item in items:
            waiting.append(worker.submit(function, item))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
