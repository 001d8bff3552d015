"""Losses of heat maps and scores."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from t2i_eval_kedro.models.structure.settings import LossSettings

GAMMA, ALPHA = 2.0, 0.75


def network_loss(heat: Tensor, score: Tensor, true_heat: Tensor, true_score: Tensor, weights: LossSettings) -> Tensor:
    """The weighted sum of the losses whose weight is not 0.

    Args:
        heat: (batch, height, width) logits.
        score: (batch,) predicted, unbounded.
        true_heat: (batch, height, width), 0 to 1.
        true_score: (batch,), 0 to 1; an image whose score is NaN has no loss of its score.
        weights: weights of the losses.
    """
    heat, score = heat.float(), score.float()
    total = heat.new_zeros(())
    if weights.mask_mse:
        total = total + weights.mask_mse * functional.mse_loss(heat.sigmoid(), true_heat)
    if weights.mask_dice:
        total = total + weights.mask_dice * dice_loss(heat, true_heat)
    if weights.mask_focal:
        total = total + weights.mask_focal * focal_loss(heat, true_heat)
    rated = torch.isfinite(true_score)
    if weights.score_mse and bool(rated.any()):
        total = total + weights.score_mse * functional.mse_loss(score[rated], true_score[rated])
    if weights.score_plcc:
        total = total + weights.score_plcc * plcc_loss(score[rated], true_score[rated])
    return total


def plcc_loss(predicted: Tensor, true: Tensor) -> Tensor:
    """(1 - Pearson's r) / 2 of a batch; 0, without a gradient, where the true values are all equal or there are fewer than two."""
    if len(true) < 2 or float(true.std()) < 1e-6:
        return predicted.sum() * 0.0
    a, b = predicted - predicted.mean(), true - true.mean()
    r = (a * b).sum() / (a.norm() * b.norm()).clamp(min=1e-6)
    loss: Tensor = (1 - r) / 2
    return loss


def dice_loss(logits: Tensor, true: Tensor) -> Tensor:
    """1 - Dice coefficient, the mean over images; a pixel is added above and below, so that a sound image has one too."""
    probability = logits.sigmoid().flatten(1)
    target = true.flatten(1)
    overlap = 2 * (probability * target).sum(1) + 1
    return (1 - overlap / (probability.sum(1) + target.sum(1) + 1)).mean()


def focal_loss(logits: Tensor, true: Tensor, gamma: float = GAMMA, alpha: float = ALPHA) -> Tensor:
    """Focal loss (Lin et al., 2017) of each pixel, summed over the batch and divided by its heat, plus one pixel.

    The division stands for RetinaNet's by its anchors; a soft target is interpolated between the two classes. Both are ours.
    """
    loss = functional.binary_cross_entropy_with_logits(logits, true, reduction="none")
    probability = logits.sigmoid()
    wrong = probability * (1 - true) + (1 - probability) * true
    weight = alpha * true + (1 - alpha) * (1 - true)
    total: Tensor = (weight * wrong**gamma * loss).sum() / (true.sum() + 1)
    return total
