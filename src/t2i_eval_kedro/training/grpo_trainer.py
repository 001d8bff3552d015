"""trl's ``GRPOTrainer``, told apart by what its steps take, with requests encoded once per group and supervised examples beside.

* Time: ``seconds/generation`` and ``seconds/reward`` are logged beside trl's ``step_time``.
* A request and its image are encoded once for all answers of its group, as a judge does it
  (:mod:`t2i_eval_kedro.judging.backends.prefixes`); trl encodes them for each answer. vLLM has a cache of its own for this.
* Rehearsal: the loss of supervised examples is added to that of the policy (InstructGPT's PPO-ptx, arXiv 2203.02155, equation 2).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch
from trl.models.utils import unwrap_model_for_generation
from trl.trainer.grpo_trainer import GRPOTrainer

from t2i_eval_kedro.judging.backends.transformers import TransformersBackend
from t2i_eval_kedro.judging.protocols.base import Request
from t2i_eval_kedro.models.processors import ImageSource
from t2i_eval_kedro.training.answer_loss import answer_loss
from t2i_eval_kedro.training.data import Encoder

logger = logging.getLogger(__name__)


class PolicyTrainer(GRPOTrainer):
    """The trainer; rows of its dataset have the column ``row``."""

    _requests: Sequence[Request] = ()
    _images: ImageSource | None = None
    _backend: TransformersBackend | None = None
    _encoder: Encoder | None = None
    _rows: Sequence[int] = ()

    def share_prefixes(self, requests: Sequence[Request], images: ImageSource) -> None:
        """Encode each of ``requests``, by its ``row``, once for all answers of its group, where the model allows."""
        if not (self.use_vllm or self.use_transformers_continuous_batching):
            self._requests, self._images = requests, images

    def rehearse(self, encoder: Encoder, weight: float, examples: int) -> None:
        """Add ``weight`` times the mean loss per token of so many ``examples`` to each step."""
        self._encoder, self._weight, self._examples = encoder, weight, examples
        self._chances = encoder.frequencies / encoder.frequencies.sum()

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self._rows = [row["row"] for row in inputs]
        return super()._generate_and_score_completions(inputs)

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        begun = time.perf_counter()
        rewards: torch.Tensor = super()._calculate_rewards(*args, **kwargs)
        self._metrics["train"]["seconds/reward"].append(time.perf_counter() - begun)
        return rewards

    def _generate_single_turn(self, prompt_ids: list[list[int]], *args: Any, **kwargs: Any) -> Any:
        begun = time.perf_counter()
        answers = self._shared(prompt_ids) if self._requests else None
        answered: Any = (answers, None)
        if answers is None:
            plain: Callable[..., Any] = super()._generate_single_turn
            answered = plain(prompt_ids, *args, **kwargs)
        self._metrics["train"]["seconds/generation"].append(time.perf_counter() - begun)
        return answered

    def _shared(self, prompt_ids: list[list[int]]) -> list[list[int]] | None:
        """Answers from one encoding per group; None, from then on, where the model or its processor does not allow that."""
        runs = [(row, len(list(members))) for row, members in groupby(self._rows)]
        requests, counts = [self._requests[row] for row, _ in runs], [count for _, count in runs]
        with unwrap_model_for_generation(
            self.model_wrapped,
            self.accelerator,
            generation_kwargs=self.generation_kwargs,
            gradient_checkpointing_kwargs=self.args.gradient_checkpointing_kwargs,  # type: ignore[arg-type]
        ) as model:
            training = model.training
            if self._backend is None:
                assert self._images is not None
                self._backend = TransformersBackend(
                    model, self.processing_class, self._images, batch_size=len(self._rows)
                )
            sampled = self._backend.sample(requests, counts, self.generation_config)
            model.train(training)
        if sampled is None or sampled.asked != prompt_ids:
            if sampled is not None:
                logger.warning(
                    "Requests are encoded for each answer, because they are tokenized otherwise for a judge."
                )
            self._requests = ()
            return None
        ended = torch.isin(sampled.answers, torch.tensor(self.eos_token_ids, device=sampled.answers.device))
        kept = ended.int().cumsum(dim=1) - ended.int() == 0  # up to the first end, and with it
        return [ids[mask].tolist() for ids, mask in zip(sampled.answers.cpu(), kept.cpu(), strict=True)]

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """The loss of the policy, and the weighted one of supervised examples."""
        loss: torch.Tensor = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if self._encoder is None or not model.training:
            return loss
        passes = self.current_gradient_accumulation_steps  # whose losses are added up
        share = self.accelerator.process_index * passes + self._step % passes
        every = self.accelerator.num_processes * passes
        rng = np.random.default_rng([self.args.seed, self.state.global_step])
        rows = rng.choice(
            len(self._encoder), min(max(self._examples, every), len(self._encoder)), replace=False, p=self._chances
        )
        chosen = np.array_split(rows, every)[share]
        if not len(chosen):
            return loss
        batch = self._encoder([{"row": int(row)} for row in chosen])
        summed, _, tokens = answer_loss(model, {name: value.to(loss.device) for name, value in batch.items()})
        mean = summed / tokens
        self._metrics["train"]["rehearsal_loss"].append(float(mean.detach()))
        return loss + self._weight * mean / passes
