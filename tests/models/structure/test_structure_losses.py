"""Losses of heat maps and scores, against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from t2i_eval_kedro.models.structure.losses import dice_loss, focal_loss, network_loss, plcc_loss
from t2i_eval_kedro.models.structure.settings import LossSettings

NONE = {"mask_mse": 0.0, "mask_dice": 0.0, "mask_focal": 0.0, "score_mse": 0.0, "score_plcc": 0.0}


def weights(**given: float) -> LossSettings:
    return LossSettings(**NONE | given)


def test_plcc_is_half_of_one_minus_r_whatever_the_scale() -> None:
    true = torch.tensor([0.1, 0.5, 0.9])
    assert plcc_loss(3 * true - 7, true).item() == pytest.approx(0, abs=1e-6)
    assert plcc_loss(-true, true).item() == pytest.approx(1, abs=1e-6)
    uneven = torch.tensor([1.0, 2.0, 4.0])
    assert plcc_loss(uneven, true).item() == pytest.approx((1 - 0.9819805) / 2, abs=1e-5)
    flat = torch.tensor([1.0, 2.0], requires_grad=True)
    plcc_loss(flat, torch.tensor([0.5, 0.5])).backward()
    assert flat.grad is not None
    assert not flat.grad.any()


def test_dice_of_a_right_a_wrong_and_a_sound_picture() -> None:
    true = torch.zeros(3, 2, 2)
    true[:2, 0, 0] = 1
    logits = torch.full((3, 2, 2), -30.0)
    logits[0, 0, 0] = 30
    logits[1, 1, 1] = 30
    # right: 1 - 3/3; wrong: 1 - 1/3; nothing where nothing is: 1 - 1/1
    assert dice_loss(logits, true).item() == pytest.approx((0 + 2 / 3 + 0) / 3, abs=1e-5)


def test_focal_of_one_uncertain_pixel() -> None:
    logits, true = torch.full((1, 1, 1), 0.0), torch.ones(1, 1, 1)
    assert focal_loss(logits, true).item() == pytest.approx(0.75 * 0.25 * math.log(2) / 2)
    assert focal_loss(logits, 1 - true).item() == pytest.approx(0.25 * 0.25 * math.log(2))


def test_the_loss_is_the_weighted_sum_and_an_image_without_a_rating_has_no_score_loss() -> None:
    heat, true_heat = torch.zeros(3, 4, 4), torch.zeros(3, 4, 4)
    score, true_score = torch.tensor([0.2, 0.4, 9.0]), torch.tensor([0.4, 0.4, math.nan])
    assert network_loss(heat, score, true_heat, true_score, weights(score_mse=2.0)).item() == pytest.approx(
        2 * 0.04 / 2
    )
    assert network_loss(heat, score, true_heat, true_score, weights(mask_mse=3.0)).item() == pytest.approx(0.75)
    both = network_loss(heat, score, true_heat, true_score, weights(mask_mse=3.0, score_mse=2.0))
    assert both.item() == pytest.approx(0.75 + 0.04)
    nobody = torch.full((3,), math.nan)
    assert network_loss(heat, score, true_heat, nobody, weights(score_mse=1.0, score_plcc=1.0)).item() == 0
