"""Losses of judges that predict a number: what each compares, and with which formula.

All take predictions and people's mean scores of a batch, on 0 to 1, of shape (n,), and return a scalar.

| name | formula | source |
|---|---|---|
| ``mse`` | mean (p - y)^2 | |
| ``plcc`` | (1 - Pearson's r) / 2 over the batch | common in image quality; the first place of NTIRE 2025's structure track |
| ``rank`` | mean over pairs y_a > y_b of log(1 + exp(-(p_a - p_b) / t)) | RankNet (Burges et al., 2005); t = 0.1 (ours) |
| ``fidelity`` | mean over pairs of 1 - sqrt(P P*) - sqrt((1 - P)(1 - P*)) | Tsai et al., 2007; with Thurstone's P as in DeQA-Score |

Losses over pairs and the correlation do not fix the scale: a judge that is trained with these alone ranks, and is not calibrated.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.nn import functional as F

from t2i_eval_kedro.errors import T2IEvalError

NAMES = ("mse", "plcc", "rank", "fidelity")
TEMPERATURE = 0.1
PREDICTED_STD = 0.1
"""Standard deviation of a prediction in ``fidelity``, as a fraction of the scale. DeQA-Score fixes it too, at a value of its own."""
_LEAST = 1e-6


def regression_losses(
    weights: Mapping[str, float], predicted: torch.Tensor, target: torch.Tensor, spread: torch.Tensor
) -> dict[str, torch.Tensor]:
    """The weighted terms of the loss by name.

    Args:
        weights: weight of each loss of :data:`NAMES`; those at 0 are left out.
        predicted: scores, 0 to 1, of shape (n,).
        target: people's mean scores, 0 to 1, of shape (n,).
        spread: standard deviation of people's scores of each item, on 0 to 1, 0 where unknown; of shape (n,).

    Raises:
        T2IEvalError: there is no such loss.
    """
    unknown = [name for name in weights if name not in NAMES]
    if unknown:
        raise T2IEvalError(f"There is no loss '{unknown[0]}' (heads.*.losses); the losses are {', '.join(NAMES)}.")
    functions = {
        "mse": lambda: F.mse_loss(predicted, target),
        "plcc": lambda: plcc_loss(predicted, target),
        "rank": lambda: rank_loss(predicted, target),
        "fidelity": lambda: fidelity_loss(predicted, target, spread),
    }
    return {name: weight * functions[name]() for name, weight in weights.items() if weight}


def plcc_loss(predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """(1 - r) / 2, 0 to 1; one half where either side is constant."""
    a, b = predicted - predicted.mean(), target - target.mean()
    size = (a.square().sum() * b.square().sum()).clamp(min=_LEAST**2).sqrt()
    return (1 - (a * b).sum() / size) / 2


def rank_loss(predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Logistic loss of the pairs that people order; 0 where they order none."""
    better = target[:, None] > target[None, :]
    gaps = (predicted[:, None] - predicted[None, :])[better]
    return F.softplus(-gaps / TEMPERATURE).mean() if len(gaps) else predicted.sum() * 0


def fidelity_loss(predicted: torch.Tensor, target: torch.Tensor, spread: torch.Tensor) -> torch.Tensor:
    """Thurstone's fidelity over all pairs, 0 to 1.

    P = Phi((p_a - p_b) / (sqrt(2) :data:`PREDICTED_STD`)); P* likewise from people's means and spreads, and 0, 1/2 or 1 where both
    spreads are 0.
    """
    first, second = torch.triu_indices(len(predicted), len(predicted), offset=1)
    if not len(first):
        return predicted.sum() * 0
    gap = predicted[first] - predicted[second]
    predicted_order = _phi(gap / (2**0.5 * PREDICTED_STD)).clamp(_LEAST, 1 - _LEAST)
    wanted_gap = target[first] - target[second]
    deviation = (spread[first].square() + spread[second].square()).sqrt()
    people_order = torch.where(
        deviation > 0, _phi(wanted_gap / deviation.clamp(min=_LEAST)), (wanted_gap.sign() + 1) / 2
    )
    both, neither = predicted_order * people_order, (1 - predicted_order) * (1 - people_order)
    return (1 - both.clamp(min=_LEAST**2).sqrt() - neither.clamp(min=_LEAST**2).sqrt()).mean()  # sqrt has no slope at 0


def _phi(values: torch.Tensor) -> torch.Tensor:
    """The standard normal distribution function."""
    probabilities: torch.Tensor = torch.special.ndtr(values)
    return probabilities
