"""A local model in vLLM: continuous batches, and a cache of prefixes that encodes each image once for all its questions.

An optional extra (``pip install 't2i-eval-kedro[vllm]'``, on a machine with a GPU; vLLM brings a torch of its own). Requests are the texts
and the answers the figures that the ``transformers`` backend has.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.protocols.base import Answer, Request, Token
from t2i_eval_kedro.models.answers import candidate_sequences, next_tokens, sequence_log_probabilities
from t2i_eval_kedro.models.loading import check_adapter
from t2i_eval_kedro.models.processors import ImageSource, image_keys, render
from t2i_eval_kedro.schema import FAILED

_OUTSIDE = re.compile(
    r"\.(visual|vision_tower|vision_model|multi_modal_projector|connector|merger)\."
)  # of the text model

IMAGES_A_REQUEST = 2  # an image and its reference, or its rival


class VLLMBackend:
    """Answers with a model that vLLM runs, greedily; an adapter is applied as a LoRA request, unmerged."""

    def __init__(
        self,
        model: str,
        processor: Any,
        images: ImageSource,
        *,
        adapter: Path | None = None,
        dtype: str = "float32",
        revision: str | None = None,
        trust_remote_code: bool = False,
        batch_size: int = 64,
        **engine: Any,
    ) -> None:
        """Start the engine.

        Args:
            model: a folder or a hub name.
            processor: of the model, which writes the requests.
            images: where the images are.
            adapter: an adapter folder that peft reads.
            dtype: of the weights.
            revision: branch, tag or commit of a hub name.
            trust_remote_code: run code that the model's repository ships.
            batch_size: requests that are handed over, and whose answers are handed back, at once.
            engine: further arguments of ``vllm.LLM``, such as ``gpu_memory_utilization``.

        Raises:
            T2IEvalError: vLLM is not installed, the adapter has what vLLM cannot apply, or the model cannot be run.
        """
        lora: dict[str, Any] = {}
        if adapter is not None:
            check_adapter(adapter, model, revision=revision)
            lora = {"enable_lora": True, "max_lora_rank": _rank(adapter)}
        try:
            from vllm import LLM
            from vllm.lora.request import LoRARequest
        except ImportError as error:
            raise T2IEvalError(
                "Judging with vLLM needs the extra 'vllm': pip install 't2i-eval-kedro[vllm]', or set judging.backend=transformers."
            ) from error
        self._lora = None if adapter is None else LoRARequest("adapter", 1, str(adapter))
        try:
            self._llm = LLM(
                model=model,
                dtype=dtype,
                revision=revision,
                trust_remote_code=trust_remote_code,
                **{"enable_prefix_caching": True, "limit_mm_per_prompt": {"image": IMAGES_A_REQUEST}, **lora, **engine},
            )
        except (OSError, ValueError, TypeError, RuntimeError) as error:  # an argument that it does not know among them
            reason = str(error).strip().split("\n")[0]
            raise T2IEvalError(
                f"vLLM cannot run model '{model}': {reason}; set judging.backend=transformers."
            ) from error
        self._processor = processor
        self._images = images
        self._batch_size = batch_size

    def require_tokens(self, choices: Iterable[Sequence[str]]) -> None:
        """Check before anything is asked that no two choices are the same tokens; raises T2IEvalError."""
        for words in choices:
            candidate_sequences(self._processor, words)

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        """Answer in the order of ``requests``, in which the questions about one image follow each other.

        Raises:
            T2IEvalError: two choices are the same tokens of the model.
        """
        for start in range(0, len(requests), self._batch_size):
            yield from self._answers(start, requests[start : start + self._batch_size])

    def _answers(self, start: int, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        from vllm import SamplingParams

        asked: list[tuple[int, int]] = []  # position, and how many prompts it takes
        prompts: list[dict[str, Any]] = []
        params = []
        for i, request in enumerate(requests):
            try:
                pictures = [self._images.image(key) for key in image_keys(request.chat)]
            except (OSError, KeyError, ValueError, T2IEvalError) as error:  # one bad image costs its own requests alone
                yield start + i, Answer(f"the image cannot be read: {error}", status=FAILED)
                continue
            tokens = self._processor.tokenizer.encode(render(self._processor, request.chat), add_special_tokens=False)
            shown = {"multi_modal_data": {"image": pictures}} if pictures else {}
            if request.candidate_tokens:
                # One prompt for each beginning of a candidate; the engine computes what they share once.
                following = next_tokens(candidate_sequences(self._processor, request.candidate_tokens))
                prompts += [{"prompt_token_ids": [*tokens, *node]} | shown for node in following]
                params += [
                    SamplingParams(temperature=0, max_tokens=1, logprob_token_ids=ids) for ids in following.values()
                ]
                asked.append((i, len(following)))
            else:
                prompts.append({"prompt_token_ids": tokens} | shown)
                params.append(
                    SamplingParams(temperature=0, max_tokens=request.max_tokens, logprobs=request.top_logprobs or None)
                )
                asked.append((i, 1))
        outputs = iter(self._generated(prompts, params))
        for i, count in asked:
            yield start + i, self._answer(requests[i], [next(outputs) for _ in range(count)])

    def _generated(self, prompts: list[dict[str, Any]], params: list[Any]) -> list[Any]:
        """vLLM's outputs; where it refuses a batch (a request is too long), each on its own, and the refused as errors."""
        try:
            done: list[Any] = self._llm.generate(prompts, params, lora_request=self._lora, use_tqdm=False)
            return done
        except ValueError as error:
            if len(prompts) == 1:
                return [error]
            return [
                out for prompt, one in zip(prompts, params, strict=True) for out in self._generated([prompt], [one])
            ]

    def _answer(self, request: Request, outputs: list[Any]) -> Answer:
        refused = next((output for output in outputs if isinstance(output, ValueError)), None)
        if refused is not None:
            return Answer(f"the model failed: {str(refused).splitlines()[0]}", status=FAILED)
        completions = [output.outputs[0] for output in outputs]
        usage = {"prompt_tokens": len(outputs[0].prompt_token_ids), "completion_tokens": len(completions[0].token_ids)}
        if not request.candidate_tokens:
            return Answer(completions[0].text.strip(), usage=usage, tokens=self._tokens(request, completions[0]))
        import torch

        candidates = candidate_sequences(self._processor, request.candidate_tokens)
        size = 1 + max(token for sequences in candidates for ids in sequences for token in ids)
        logs = {}
        for (node, ids), one in zip(next_tokens(candidates).items(), completions, strict=True):
            logs[node] = torch.full((1, size), -math.inf)
            logs[node][0, ids] = torch.tensor([one.logprobs[0][token].logprob for token in ids])
        within = sequence_log_probabilities(candidates, logs)[0]
        shares = within.softmax(dim=0).tolist()
        return Answer(
            text=request.candidate_tokens[shares.index(max(shares))],
            probabilities=dict(zip(request.candidate_tokens, shares, strict=True)),
            out_of_vocabulary_mass=max(0.0, 1 - float(within.logsumexp(dim=0).exp())),
            usage=usage,
        )

    def _tokens(self, request: Request, completion: Any) -> tuple[Token, ...]:
        if not request.top_logprobs:
            return ()
        decode = self._processor.tokenizer.decode
        return tuple(
            Token(decode([token]), places[token].logprob, {decode([other]): p.logprob for other, p in places.items()})
            for token, places in zip(completion.token_ids, completion.logprobs, strict=True)
        )


def _rank(adapter: Path) -> int:
    """The rank that vLLM must hold room for.

    Raises:
        T2IEvalError: the adapter trains embeddings or the vision tower, which vLLM does not apply.
    """
    from safetensors import safe_open

    config = json.loads((adapter / "adapter_config.json").read_text())
    if config.get("trainable_token_indices"):
        raise T2IEvalError(
            f"The adapter '{adapter}' trained embeddings of tokens (sft.lora.score_tokens), which vLLM does not apply; train without "
            "them, or set judging.backend=transformers."
        )
    with safe_open(adapter / "adapter_model.safetensors", framework="pt") as file:
        outside = next((name for name in file.keys() if _OUTSIDE.search(name)), "")  # noqa: SIM118 (the file is no mapping)
    if outside:
        raise T2IEvalError(
            f"The adapter '{adapter}' trained more than the text model ('{outside}'; sft.lora.vision), and vLLM applies adapters to that "
            "alone; merge it into the model (kedro merge-adapter), or set judging.backend=transformers."
        )
    needed = int(config["r"])
    return next((rank for rank in (8, 16, 32, 64, 128, 256, 320, 512) if rank >= needed), needed)
