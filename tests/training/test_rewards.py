from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from t2i_eval_kedro.training.grpo import reward_of
from t2i_eval_kedro.training.rewards import best_constant_reward, gaussian_reward, linear_reward
from t2i_eval_kedro.training.settings import GRPOSettings

SCORE = st.floats(0, 10)
KINDS = ("gaussian", "linear", "binary")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("score", [None, -0.1, 10.1, math.nan, math.inf])
def test_no_score_and_a_score_off_the_scale_earn_nothing(kind: str, score: float | None) -> None:
    assert reward_of(GRPOSettings(reward=kind, format_weight=0.5))(score, 10.0) == 0


@pytest.mark.parametrize("kind", KINDS)
@given(score=SCORE, target=SCORE)
def test_rewards_lie_between_0_and_1_and_are_largest_at_the_target(kind: str, score: float, target: float) -> None:
    reward = reward_of(GRPOSettings(reward=kind))
    assert 0 <= reward(score, target) <= reward(target, target) == 1


@given(score=SCORE, target=SCORE, sigma=st.floats(0.05, 1), tolerance=st.floats(0, 1))
def test_each_reward_is_its_formula(score: float, target: float, sigma: float, tolerance: float) -> None:
    error = abs(Fraction(score) - Fraction(target)) / 10
    settings = GRPOSettings(sigma=sigma, tolerance=tolerance)

    def paid(kind: str) -> float:
        return reward_of(settings.model_copy(update={"reward": kind}))(score, target)

    assert paid("linear") == pytest.approx(float(1 - error))
    assert paid("gaussian") == pytest.approx(norm.pdf(float(error), scale=sigma) / norm.pdf(0, scale=sigma), abs=1e-9)
    if abs(error - Fraction(tolerance)) > 1e-9:  # nearer, rounding decides
        assert paid("binary") == (error < Fraction(tolerance))


@pytest.mark.parametrize("kind", KINDS)
@given(score=SCORE, target=SCORE)
def test_too_high_earns_what_too_low_by_as_much_earns(kind: str, score: float, target: float) -> None:
    reward = reward_of(GRPOSettings(reward=kind))
    if kind == "binary" and abs(abs(score - target) - 1) < 1e-9:
        return  # at the edge of the tolerance, rounding decides
    assert reward(score, target) == pytest.approx(reward(target, score))
    assert reward(score, target) == pytest.approx(reward(10 - score, 10 - target))


@pytest.mark.parametrize("kind", KINDS)
@given(targets=st.lists(SCORE, min_size=1, max_size=6))
def test_no_constant_earns_more_than_the_best(kind: str, targets: list[float]) -> None:
    reward = reward_of(GRPOSettings(reward=kind))
    value, best = best_constant_reward(targets, reward)
    assert value == pytest.approx(sum(reward(best, target) for target in targets) / len(targets))
    for score in (0.0, 5.0, 10.0, round(sum(targets) / len(targets), 2)):
        assert sum(reward(score, target) for target in targets) / len(targets) <= value + 1e-9


@given(target=SCORE, near=SCORE, far=SCORE)
def test_continuous_rewards_fall_with_the_error(target: float, near: float, far: float) -> None:
    if abs(near - target) + 1e-6 >= abs(far - target):
        return
    assert linear_reward(near, target) > linear_reward(far, target)
    if abs(far - target) > 1e-3:  # closer than that, both round to 1
        assert gaussian_reward(near, target) > gaussian_reward(far, target)


def test_another_scale_gives_the_same_reward() -> None:
    for kind in KINDS:
        reward = GRPOSettings(reward=kind)
        assert reward_of(reward, (1, 5))(4, 3) == pytest.approx(reward_of(reward, (0, 10))(7.5, 5))


def test_format_is_paid_on_top() -> None:
    assert reward_of(GRPOSettings(reward="linear", format_weight=0.2))(5, 5) == pytest.approx(1.2)


@given(st.lists(SCORE, min_size=1, max_size=30))
def test_the_best_constant_linear_reward_is_that_of_the_median(targets: list[float]) -> None:
    value, _ = best_constant_reward(targets, linear_reward)
    median = sorted(targets)[len(targets) // 2]
    expected = sum(linear_reward(median, target) for target in targets) / len(targets)
    assert value <= expected + 1e-9
    assert value == pytest.approx(expected, abs=0.0006)  # half a step of the search


def test_the_best_constant_binary_reward_is_the_fullest_window() -> None:
    value, score = best_constant_reward([1, 1.5, 2, 9], reward_of(GRPOSettings(reward="binary")))
    assert value == 0.75
    assert 1 <= score <= 2
