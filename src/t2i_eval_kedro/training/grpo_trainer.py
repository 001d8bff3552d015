"""trl's ``GRPOTrainer``, told apart by what its steps take, with less computed twice and supervised examples beside.

* Time: ``seconds/generation`` and ``seconds/reward`` are logged beside trl's ``step_time``.
* A request and its image are encoded once for all answers of its group, as a judge does it
  (:mod:`t2i_eval_kedro.judging.backends.prefixes`); trl encodes them for each answer. vLLM has a cache of its own for this.
* Answers to one request that read the same have the same probability, so it is computed once; scores of one token often do.
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
from trl.trainer.utils import split_pixel_values_by_grid, unsplit_pixel_values_by_grid

from t2i_eval_kedro.judging.backends.transformers import TransformersBackend
from t2i_eval_kedro.judging.protocols.base import Request
from t2i_eval_kedro.models.processors import ImageSource
from t2i_eval_kedro.training.answer_loss import answer_loss
from t2i_eval_kedro.training.data import Encoder
from t2i_eval_kedro.training.trainers import takes_parts

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
        scored: dict[str, Any] = super()._generate_and_score_completions(inputs)
        return scored | {"row": torch.tensor(self._rows)}  # trl shuffles and splits it with the answers

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

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, logits_to_keep: int, **options: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """As trl's, of each different answer to a request once; with dropout, answers that are the same share what is dropped."""
        plain: Callable[..., Any] = super()._get_per_token_logps_and_entropies
        different, place = _different(self._rows, input_ids)
        if len(different) == len(input_ids) or options.get("compute_aux_loss"):  # which is a mean over all answers
            return plain(model, input_ids, attention_mask, logits_to_keep, **options)  # type: ignore[no-any-return]
        images = {name: options.pop(name) for name in list(options) if isinstance(options[name], torch.Tensor | list)}
        chosen = _of_rows(different, images)
        logps, entropies, aux_loss = plain(
            model, input_ids[different], attention_mask[different], logits_to_keep, **options, **chosen
        )
        return logps[place], None if entropies is None else entropies[place], aux_loss

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """The loss of the policy, and the weighted one of supervised examples."""
        self._rows = inputs["row"].tolist()
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
        batch = [{"row": int(row)} for row in chosen]
        parts = self._encoder.in_parts(batch)["parts"] if takes_parts(self) else [self._encoder(batch)]
        results = [answer_loss(model, {name: value.to(loss.device) for name, value in part.items()}) for part in parts]
        mean = torch.stack([summed for summed, _, _ in results]).sum() / sum(int(tokens) for _, _, tokens in results)
        self._metrics["train"]["rehearsal_loss"].append(float(mean.detach()))
        return loss + self._weight * mean / passes


def _different(rows: Sequence[int], input_ids: torch.Tensor) -> tuple[list[int], list[int]]:
    """The first of each different answer to the request of ``rows``, and for each answer its place among those.

    Example:
        >>> _different([7, 7, 8], torch.tensor([[1, 2], [1, 2], [1, 2]]))
        ([0, 2], [0, 0, 1])
    """
    seen: dict[Any, int] = {}
    place = [seen.setdefault((row, *ids), len(seen)) for row, ids in zip(rows, input_ids.tolist(), strict=True)]
    return [place.index(number) for number in range(len(seen))], place


def _of_rows(rows: list[int], images: dict[str, Any]) -> dict[str, Any]:
    """What trl hands on beside the tokens of a batch, of ``rows`` alone."""
    apart = split_pixel_values_by_grid(images)
    chosen = {
        name: [value[row] for row in rows] if isinstance(value, list) else value[rows] for name, value in apart.items()
    }
    return unsplit_pixel_values_by_grid(chosen)
