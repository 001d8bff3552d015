"""The training loop of judges that predict numbers: AdamW, a linear warm-up and a cosine to zero."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd
import torch

WARM_UP = 0.06
"""Share of the steps in which the rate rises."""


def fit(
    groups: Sequence[tuple[Iterable[torch.nn.Parameter], float]],
    losses: Iterator[dict[str, torch.Tensor]],
    steps: int,
    *,
    weight_decay: float = 0.05,
    max_norm: float = 1.0,
    every: int = 10,
) -> pd.DataFrame:
    """Train for ``steps`` steps.

    Args:
        groups: parameters with the peak rate of each group.
        losses: terms of the loss of each step by name, computed when the step asks for them; their sum is minimised.
        steps: number of steps; ``losses`` gives as many.
        weight_decay: AdamW's, on matrices alone.
        max_norm: norm that gradients are clipped to.
        every: steps between two rows of the curve.

    Returns:
        The training curve: ``step``, ``loss`` and one column a term, each the mean since the row before.
    """
    listed = [([p for p in parameters if p.requires_grad], rate) for parameters, rate in groups]
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in parameters if (p.dim() > 1) == matrix], "lr": rate, "weight_decay": decay}
            for parameters, rate in listed
            for matrix, decay in ((True, weight_decay), (False, 0.0))
        ],
        betas=(0.9, 0.98),
    )
    warm_up = max(1, round(WARM_UP * steps))

    def factor(step: int) -> float:
        if step < warm_up:
            return (step + 1) / warm_up
        return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    trained = [p for parameters, _ in listed for p in parameters]
    rows: list[dict[str, float]] = []
    since: list[dict[str, float]] = []
    for step in range(1, steps + 1):
        terms = next(losses)
        loss = torch.stack(list(terms.values())).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(trained, max_norm)
        optimizer.step()
        schedule.step()
        since.append({"loss": float(loss.detach())} | {name: float(term.detach()) for name, term in terms.items()})
        if step % every == 0 or step == steps:
            rows.append({"step": step} | {name: float(np.mean([entry[name] for entry in since])) for name in since[0]})
            since = []
    return pd.DataFrame(rows)


def batches(count: int, size: int, epochs: float, seed: int) -> list[tuple[int, list[int]]]:
    """(number of the epoch, row numbers) of every step: each epoch goes through all ``count`` rows in an order of its own.

    The last batch of an epoch is filled up with rows of the next one, so that all are of equal size. Of a fractional last epoch
    the beginning is used.
    """
    rng = np.random.default_rng(seed)
    size = min(size, count)
    total = max(1, round(count * epochs / size))
    order: list[tuple[int, int]] = []
    epoch = 0
    while len(order) < total * size:
        order += [(epoch, int(row)) for row in rng.permutation(count)]
        epoch += 1
    parts = [order[start : start + size] for start in range(0, total * size, size)]
    return [(part[0][0], [row for _, row in part]) for part in parts]
