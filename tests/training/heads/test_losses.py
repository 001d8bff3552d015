from __future__ import annotations

import math

import pytest
import torch

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.training.heads.losses import (
    NAMES,
    PREDICTED_STD,
    TEMPERATURE,
    fidelity_loss,
    plcc_loss,
    rank_loss,
    regression_losses,
)

ZERO = torch.zeros(3)


def phi(x: float) -> float:
    return (1 + math.erf(x / 2**0.5)) / 2


def test_correlation_by_hand() -> None:
    y = torch.tensor([0.1, 0.4, 0.7])
    assert plcc_loss(2 * y + 1, y).item() == pytest.approx(0, abs=1e-6)
    assert plcc_loss(-y, y).item() == pytest.approx(1, abs=1e-6)
    assert plcc_loss(torch.ones(3), y).item() == pytest.approx(0.5, abs=1e-3)


def test_ranks_by_hand() -> None:
    said, wanted = torch.tensor([0.2, 0.3, 0.1]), torch.tensor([0.9, 0.5, 0.5])
    pairs = [math.log1p(math.exp(0.1 / TEMPERATURE)), math.log1p(math.exp(-0.1 / TEMPERATURE))]
    assert rank_loss(said, wanted).item() == pytest.approx(
        sum(pairs) / 2, rel=1e-5
    )  # of the tied pair nothing is learned
    assert rank_loss(said, torch.ones(3)).item() == 0


def test_fidelity_by_hand() -> None:
    said, wanted = torch.tensor([0.5, 0.4]), torch.tensor([0.8, 0.5])
    p = phi(0.1 / (2**0.5 * PREDICTED_STD))
    assert fidelity_loss(said, wanted, torch.zeros(2)).item() == pytest.approx(1 - p**0.5, rel=1e-4)
    spread = torch.tensor([0.1, 0.2])
    q = phi(0.3 / (0.01 + 0.04) ** 0.5)
    expected = 1 - (p * q) ** 0.5 - ((1 - p) * (1 - q)) ** 0.5
    assert fidelity_loss(said, wanted, spread).item() == pytest.approx(expected, rel=1e-4)
    tied = fidelity_loss(said, torch.tensor([0.5, 0.5]), torch.zeros(2)).item()
    assert tied == pytest.approx(1 - (p / 2) ** 0.5 - ((1 - p) / 2) ** 0.5, rel=1e-4)
    assert fidelity_loss(said[:1], wanted[:1], spread[:1]).item() == 0


@pytest.mark.parametrize("name", NAMES)
def test_each_loss_is_least_where_the_order_is_right(name: str) -> None:
    wanted = torch.tensor([0.1, 0.5, 0.9])
    right, wrong = (regression_losses({name: 1.0}, x, wanted, ZERO)[name] for x in (wanted, wanted.flip(0)))
    assert right < wrong
    said = torch.tensor([0.3, 0.2, 0.6], requires_grad=True)
    regression_losses({name: 1.0}, said, wanted, ZERO)[name].backward()
    assert torch.isfinite(said.grad).all()
    assert said.grad.abs().sum() > 0


def test_weights_multiply_and_those_at_0_are_left_out() -> None:
    said, wanted = torch.tensor([0.1, 0.2]), torch.tensor([0.3, 0.2])
    terms = regression_losses({"mse": 3.0, "plcc": 0.0}, said, wanted, torch.zeros(2))
    assert {name: term.item() for name, term in terms.items()} == {"mse": pytest.approx(0.06)}
    with pytest.raises(T2IEvalError, match="no loss 'mae'"):
        regression_losses({"mae": 1.0}, said, wanted, torch.zeros(2))
