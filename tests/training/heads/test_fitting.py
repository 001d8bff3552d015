from __future__ import annotations

from collections import Counter

import pytest
import torch

from t2i_eval_kedro.training.heads.fitting import batches, fit


def test_it_goes_to_the_minimum_and_tells_each_term() -> None:
    value = torch.nn.Parameter(torch.tensor([4.0, -3.0]))

    def losses():
        while True:
            yield {"near": (value - 1).square().sum(), "small": 0.0 * value.sum()}

    curve = fit([([value], 0.1)], losses(), 200, every=50)
    assert value.tolist() == pytest.approx([1.0, 1.0], abs=0.05)
    assert list(curve.columns) == ["step", "loss", "near", "small"]
    assert curve["step"].tolist() == [50, 100, 150, 200]
    assert curve["near"].is_monotonic_decreasing


def test_each_group_has_its_own_rate_and_frozen_parameters_stay() -> None:
    fast, slow, frozen = (torch.nn.Parameter(torch.ones(1)) for _ in range(3))
    frozen.requires_grad_(False)

    def losses():
        while True:
            yield {"sum": (fast + slow + frozen).sum()}

    fit([([fast, frozen], 0.1), ([slow], 0.001)], losses(), 5)
    assert frozen.item() == 1
    assert (1 - fast.item()) == pytest.approx(100 * (1 - slow.item()), rel=0.01)


def test_every_row_is_seen_once_an_epoch_in_another_order() -> None:
    plan = batches(10, 4, 2, seed=0)
    assert [len(rows) for _, rows in plan] == [4] * 5
    rows = [row for _, some in plan for row in some]
    assert Counter(rows) == dict.fromkeys(range(10), 2)
    assert rows[:10] != rows[10:]
    assert [epoch for epoch, _ in plan] == [0, 0, 0, 1, 1]
    assert batches(10, 4, 2, seed=0) == plan != batches(10, 4, 2, seed=1)
    assert len(batches(10, 4, 0.5, seed=0)) == 1
    assert [len(rows) for _, rows in batches(3, 8, 2, seed=0)] == [3, 3]
