"""A local vision-language model of the transformers library, with or without an adapter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import torch

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.models import ImageStore, encode, image_keys, render
from t2i_eval_kedro.judging.protocols.base import Answer, Request
from t2i_eval_kedro.schema import FAILED


class TransformersBackend:
    """Answers by greedy decoding; requests with choices by the distribution over them in one forward pass."""

    def __init__(self, model: Any, processor: Any, images: ImageStore, *, batch_size: int) -> None:
        """Take a loaded model and its processor, and the store that images are read from."""
        self.model = model.eval()
        self.processor = processor
        self.images = images
        self.batch_size = batch_size

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        """Answer in batches of requests of one kind (same number of images, same choices, same answer length).

        Within a kind, long requests go first: padding stays small, and memory runs out at the start or not at all.
        """
        texts = [render(self.processor, request.chat) for request in requests]

        def kind(i: int) -> tuple[int, int, tuple[str, ...]]:
            return len(image_keys(requests[i].chat)), requests[i].max_tokens, requests[i].choices

        order = sorted(range(len(requests)), key=lambda i: (kind(i), -len(texts[i]), i))
        for _, group in groupby(order, key=kind):
            members = list(group)
            for start in range(0, len(members), self.batch_size):
                yield from self._batch(members[start : start + self.batch_size], requests)

    def _batch(self, members: list[int], requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        readable = []
        for i in members:
            try:
                for key in image_keys(requests[i].chat):
                    self.images.image(key)
                readable.append(i)
            except (OSError, KeyError, ValueError, T2IEvalError) as error:  # one bad image costs that request alone
                yield i, Answer(f"the image cannot be read: {error}", status=FAILED)
        if not readable:
            return
        inputs = encode(self.processor, [requests[i].chat for i in readable], self.images).to(self.model.device)
        if "pixel_values" in inputs:
            inputs["pixel_values"] = inputs["pixel_values"].to(self.model.dtype)
        yield from zip(readable, self._answers(inputs, requests[readable[0]]), strict=True)

    @torch.inference_mode()
    def _answers(self, inputs: Any, example: Request) -> list[Answer]:
        """Answers to a batch whose requests are of the kind of ``example``."""
        n_prompt = inputs["input_ids"].shape[1]
        n_tokens = inputs["attention_mask"].sum(dim=1).tolist()
        # generate() rather than a plain forward pass, because it alone places left-padded rows rightly for every
        # architecture.
        out = self.model.generate(
            **inputs,
            do_sample=False,
            max_new_tokens=1 if example.choices else example.max_tokens,
            output_logits=bool(example.choices),
            return_dict_in_generate=True,
        )
        if example.choices:
            ids = torch.tensor(self.level_ids(example.choices), device=self.model.device)
            probabilities = out.logits[0].float().softmax(dim=-1)
            within = probabilities[:, ids]
            inside = within.sum(dim=1, keepdim=True)
            shares = (out.logits[0].float()[:, ids]).softmax(dim=-1)
            return [
                Answer(
                    text=example.choices[int(row.argmax())],
                    probabilities=dict(zip(example.choices, row.tolist(), strict=True)),
                    outside=1 - float(mass),
                    usage={"prompt_tokens": int(n), "completion_tokens": 1},
                )
                for row, mass, n in zip(shares, inside, n_tokens, strict=True)
            ]
        generated = out.sequences[:, n_prompt:]
        decoded = self.processor.batch_decode(generated, skip_special_tokens=True)
        lengths = (generated != self.processor.tokenizer.pad_token_id).sum(dim=1).tolist()
        return [
            Answer(text=text.strip(), usage={"prompt_tokens": int(n), "completion_tokens": int(m)})
            for text, n, m in zip(decoded, n_tokens, lengths, strict=True)
        ]

    def level_ids(self, choices: Sequence[str]) -> list[int]:
        """The token of each choice.

        Raises:
            T2IEvalError: a choice is more than one token of this model, so one forward pass cannot score it.
        """
        ids = [self.processor.tokenizer.encode(choice, add_special_tokens=False) for choice in choices]
        split = [choice for choice, tokens in zip(choices, ids, strict=True) if len(tokens) != 1]
        if split:
            raise T2IEvalError(
                f"The level '{split[0]}' is {len(ids[choices.index(split[0])])} tokens of this model, not one; "
                "choose a wording whose levels are single tokens (judging.wording)."
            )
        return [tokens[0] for tokens in ids]
