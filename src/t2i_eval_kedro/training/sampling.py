"""trl's ``SFTTrainer`` with examples that are drawn as often as each should be, in place of copies of them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler
from trl.trainer.sft_trainer import SFTTrainer


class FrequencySampler(Sampler[int]):
    """Draws positions in proportion to ``frequencies``; an epoch is as long as their sum.

    In an epoch a position comes as often as its frequency says, rounded down or up: its copies are spread evenly over a random order
    of all positions (systematic sampling), so that one with a frequency of 1 is never left out for another to come twice.
    """

    def __init__(self, frequencies: Sequence[float], seed: int) -> None:
        self._frequencies = torch.tensor(frequencies, dtype=torch.float64)
        self._seed = seed
        self._epoch = 0

    def __len__(self) -> int:
        return max(1, round(float(self._frequencies.sum())))

    def __iter__(self) -> Iterator[int]:
        # A generator for each epoch, so that an interrupted run draws what it would have drawn; of both numbers, so that the second epoch of
        # one seed is not the first of the next.
        (mixed,) = np.random.SeedSequence([self._seed, self._epoch]).generate_state(1)
        generator = torch.Generator().manual_seed(int(mixed))
        order = torch.randperm(len(self._frequencies), generator=generator)
        ends = self._frequencies[order].cumsum(0)
        at = (torch.arange(len(self)) + torch.rand(1, generator=generator, dtype=torch.float64)) / len(self) * ends[-1]
        drawn = order[torch.searchsorted(ends, at, right=True).clamp(max=len(order) - 1)]
        yield from drawn[torch.randperm(len(drawn), generator=generator)].tolist()

    def set_epoch(self, epoch: int) -> None:
        """Draw others than in the epoch before; the trainer calls this."""
        self._epoch = epoch


class FrequencyTrainer(SFTTrainer):
    """Draws by the column ``frequency`` of the training set, where it has one, and measures how long it waits for batches.

    Attributes:
        waited: seconds that the training has waited for batches so far, the first of each epoch left out, for which processes start.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take the arguments of trl's trainer."""
        super().__init__(*args, **kwargs)
        # The loss divides by what the whole optimiser step holds, and hands that to no model. Models that take no such number (Qwen's) would
        # have it left out, and each micro-batch weigh alike.
        self.model_accepts_loss_kwargs = True
        self.waited = 0.0
        self._loading: Any = None

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> Any:
        """The batches of one optimiser step, as the trainer takes them."""
        start = time.monotonic()
        batches = super().get_batch_samples(epoch_iterator, num_batches, device)
        if epoch_iterator is self._loading:
            self.waited += time.monotonic() - start
        self._loading = epoch_iterator
        return batches

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int] | None:
        dataset: Any = self.train_dataset if train_dataset is None else train_dataset
        if "frequency" not in dataset.column_names:
            sampler: Sampler[int] | None = super()._get_train_sampler(train_dataset)
            return sampler
        return FrequencySampler(dataset["frequency"], self.args.seed)
