from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.training.rewards import (
    Answers,
    best_constant_reward,
    binary_reward,
    diversity_rewards,
    gaussian_reward,
    length_rewards,
    linear_reward,
    pairwise_reward,
    rank_rewards,
    rewards_of,
    total,
)

SCORE = st.floats(0, 10)
ANY_SCORE = st.none() | st.sampled_from([0.0, 2.0, 5.0, 7.5, 10.0]) | SCORE
KINDS = ("gaussian", "linear", "binary")


def paid(
    kind: str,
    score: float | None,
    target: float,
    scale: tuple[float, float] = (0.0, 10.0),
    sigma: float = 0.2,
    tolerance: float = 0.1,
    **more: float,
) -> float:
    """What one answer earns by the reward ``kind`` and ``more``."""
    chosen = rewards_of({kind: 1.0} | more, sigma=sigma, tolerance=tolerance)
    (value,) = total(chosen, Answers([score], [target], [str(score)], 1, *scale))
    return value


def weighted(**weights: float):
    return rewards_of(weights, sigma=0.2, tolerance=0.1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("score", [None, -0.1, 10.1, math.nan, math.inf])
def test_no_score_and_a_score_off_the_scale_earn_nothing(kind: str, score: float | None) -> None:
    assert paid(kind, score, 10.0, format=0.5) == 0


@pytest.mark.parametrize("kind", KINDS)
@given(score=SCORE, target=SCORE)
def test_rewards_lie_between_0_and_1_and_are_largest_at_the_target(kind: str, score: float, target: float) -> None:
    assert 0 <= paid(kind, score, target) <= paid(kind, target, target) == 1


@given(score=SCORE, target=SCORE, sigma=st.floats(0.05, 1), tolerance=st.floats(0, 1))
def test_each_reward_is_its_formula(score: float, target: float, sigma: float, tolerance: float) -> None:
    error = abs(Fraction(score) - Fraction(target)) / 10
    dials = {"sigma": sigma, "tolerance": tolerance}
    assert paid("linear", score, target, **dials) == pytest.approx(float(1 - error))
    assert paid("gaussian", score, target, **dials) == pytest.approx(
        norm.pdf(float(error), scale=sigma) / norm.pdf(0, scale=sigma), abs=1e-9
    )
    if abs(error - Fraction(tolerance)) > 1e-9:  # nearer, rounding decides
        assert paid("binary", score, target, **dials) == (error < Fraction(tolerance))


@pytest.mark.parametrize("kind", KINDS)
@given(score=SCORE, target=SCORE)
def test_too_high_earns_what_too_low_by_as_much_earns(kind: str, score: float, target: float) -> None:
    if kind == "binary" and abs(abs(score - target) - 1) < 1e-9:
        return  # at the edge of the tolerance, rounding decides
    assert paid(kind, score, target) == pytest.approx(paid(kind, target, score))
    assert paid(kind, score, target) == pytest.approx(paid(kind, 10 - score, 10 - target))


@pytest.mark.parametrize("kind", [*KINDS, "rank", "diversity"])
@given(targets=st.lists(SCORE, min_size=2, max_size=6))
def test_no_constant_earns_more_than_the_best(kind: str, targets: list[float]) -> None:
    chosen = weighted(**{kind: 1.0})

    def earned(score: float) -> float:
        repeated = np.repeat(targets, 2).tolist()
        return float(np.mean(total(chosen, Answers([score] * len(repeated), repeated, ["?"] * len(repeated), 2))))

    value, best = best_constant_reward(targets, chosen, group=2)
    assert value == pytest.approx(earned(best))
    for score in (0.0, 5.0, 10.0, round(sum(targets) / len(targets), 1)):
        assert earned(score) <= value + 1e-9


@given(target=SCORE, near=SCORE, far=SCORE)
def test_continuous_rewards_fall_with_the_error(target: float, near: float, far: float) -> None:
    if abs(near - target) + 1e-6 >= abs(far - target):
        return
    assert linear_reward(near, target) > linear_reward(far, target)
    if abs(far - target) > 1e-3:  # closer than that, both round to 1
        assert gaussian_reward(near, target) > gaussian_reward(far, target)


def test_another_scale_gives_the_same_reward() -> None:
    for kind in KINDS:
        assert paid(kind, 4, 3, (1, 5)) == pytest.approx(paid(kind, 7.5, 5))


def test_format_is_paid_on_top() -> None:
    assert paid("linear", 5, 5, format=0.2) == pytest.approx(1.2)


@given(st.lists(SCORE, min_size=1, max_size=30))
def test_the_best_constant_linear_reward_is_that_of_the_median(targets: list[float]) -> None:
    value, _ = best_constant_reward(targets, weighted(linear=1.0))
    median = sorted(targets)[len(targets) // 2]
    expected = sum(linear_reward(median, target) for target in targets) / len(targets)
    assert value <= expected + 1e-9
    assert value == pytest.approx(expected, abs=0.006)  # half a step of the search


def test_the_best_constant_binary_reward_is_the_fullest_window() -> None:
    value, score = best_constant_reward([1, 1.5, 2, 9], weighted(binary=1.0))
    assert value == 0.75
    assert 1 <= score <= 2


def test_the_best_constant_of_many_targets_is_searched_on_some_of_them() -> None:
    targets = np.random.default_rng(0).uniform(0, 10, 5000)
    value, score = best_constant_reward(targets, weighted(linear=1.0))
    assert score == pytest.approx(np.median(targets), abs=0.2)
    assert value == pytest.approx(np.mean(1 - abs(targets - score) / 10), abs=0.01)


@st.composite
def steps(draw: st.DrawFn) -> Answers:
    """Two to four images with three answers each."""
    images = draw(st.integers(2, 4))
    scores = draw(st.lists(ANY_SCORE, min_size=3 * images, max_size=3 * images))
    targets = draw(st.lists(st.sampled_from([1.0, 4.0, 4.0, 9.0]), min_size=images, max_size=images))
    return Answers(scores, np.repeat(targets, 3).tolist(), [str(score) for score in scores], 3)


@given(steps())
def test_rank_is_the_published_fidelity(answers: Answers) -> None:
    """Computed again from the formula, answer by answer, with scipy's normal distribution."""
    read = [[s for s in answers.scores[3 * i : 3 * i + 3] if s is not None] for i in range(len(answers.scores) // 3)]
    for k, reward in enumerate(rank_rewards(answers)):
        i, score = k // 3, answers.scores[k]
        parts = []
        for z in range(len(read)):
            if z == i or not read[z] or score is None:
                continue
            spread = np.var(read[i]) + np.var(read[z]) + 1e-6
            p = norm.cdf((score - np.mean(read[z])) / spread**0.5)
            g = {1: 1.0, 0: 0.5, -1: 0.0}[int(np.sign(answers.targets[3 * i] - answers.targets[3 * z]))]
            parts.append((p * g) ** 0.5 + ((1 - p) * (1 - g)) ** 0.5)
        assert reward == pytest.approx(np.mean(parts) if parts else 0.0, abs=1e-7)
        assert 0 <= reward <= 1 + 1e-9


def test_rank_pays_the_right_order_and_not_its_reverse() -> None:
    targets, right, wrong = [1.0, 1.0, 9.0, 9.0], [2.0, 3.0, 7.0, 8.0], [8.0, 7.0, 3.0, 2.0]
    good, bad = (rank_rewards(Answers(scores, targets, [""] * 4, 2)) for scores in (right, wrong))
    assert min(good) > 0.95
    assert max(bad) < 0.35
    assert rank_rewards(Answers([5.0] * 4, targets, [""] * 4, 2)) == pytest.approx([0.5**0.5] * 4)


@given(steps())
def test_rank_does_not_depend_on_the_order_of_the_images(answers: Answers) -> None:
    order = np.arange(len(answers.scores)).reshape(-1, 3)[::-1].ravel()
    turned = Answers([answers.scores[i] for i in order], [answers.targets[i] for i in order], [""] * len(order), 3)
    assert np.array(rank_rewards(answers))[order] == pytest.approx(rank_rewards(turned))


def test_one_image_cannot_be_ranked() -> None:
    with pytest.raises(T2IEvalError, match="at least two images"):
        rank_rewards(Answers([1.0, 2.0], [5.0, 5.0], ["1", "2"], 2))


@given(steps())
def test_diversity_pays_a_group_its_number_of_different_scores(answers: Answers) -> None:
    paid_out = diversity_rewards(answers)
    assert all(0 <= value <= 1 for value in paid_out)
    for group in answers.groups():
        assert sum(paid_out[group]) == pytest.approx(len(set(answers.scores[group]) - {None}))


@given(steps(), st.floats(0, 3), st.floats(0, 3))
def test_the_sum_is_weighted(answers: Answers, one: float, other: float) -> None:
    if not one and not other:
        return
    expected = [one * a + other * b for a, b in zip(rank_rewards(answers), diversity_rewards(answers), strict=True)]
    assert total(weighted(rank=one, diversity=other), answers) == pytest.approx(expected)


def halves(answers: Answers) -> list[float | None]:
    """A user's own reward: .5 for a short answer, and no say in a long one."""
    return [0.5 if len(text) < 3 else None for text in answers.texts]


def shouts(answers: Answers) -> list[float]:
    raise ZeroDivisionError("no scores")


def short(answers: Answers) -> list[float]:
    return [1.0]


def undefined(answers: Answers) -> list[float]:
    return [math.nan] * len(answers.scores)


def test_a_reward_of_one_s_own_is_found_by_its_path() -> None:
    chosen = rewards_of({"linear": 0.0}, sigma=0.2, tolerance=0.1, custom={f"{__name__}.halves": 2.0})
    assert list(chosen) == [f"{__name__}.halves"]
    assert total(chosen, Answers([1.0, None], [1.0, 1.0], ["1", "a long one"], 2)) == [1.0, 0.0]


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ("shouts", "failed: ZeroDivisionError: no scores"),
        ("short", "returned 1 values for 2 answers"),
        ("undefined", "gave nan for the answer '1'; expected a finite number or None"),
    ],
)
def test_what_is_wrong_with_a_reward_of_one_s_own_is_said(own: str, message: str) -> None:
    chosen = rewards_of({}, sigma=0.2, tolerance=0.1, custom={f"{__name__}.{own}": 1.0})
    with pytest.raises(T2IEvalError, match=message):
        total(chosen, Answers([1.0, 2.0], [1.0, 1.0], ["1", "2"], 2))


@pytest.mark.parametrize(
    ("weights", "own", "message"),
    [
        ({"gausian": 1.0}, {}, "There is no reward 'gausian'; the rewards are linear, gaussian"),
        ({"linear": 0.0}, {}, "No reward has a weight"),
        ({}, {"nowhere.reward": 1.0}, r"'nowhere.reward' cannot be imported .*; expected package.module.function"),
        ({}, {"math.pi": 1.0}, "'math.pi' is not a function"),
    ],
)
def test_a_reward_that_there_is_not_is_refused(weights: dict, own: dict, message: str) -> None:
    with pytest.raises(T2IEvalError, match=message):
        rewards_of(weights, sigma=0.2, tolerance=0.1, custom=own)


@pytest.mark.parametrize("tolerance", [0.05, 0.1, 0.3])
def test_the_binary_reward_ends_at_its_tolerance(tolerance: float) -> None:
    for off, earned in ((0.999, 1), (1.001, 0)):
        assert paid("binary", 5 + 10 * off * tolerance, 5, tolerance=tolerance) == earned
        assert paid("binary", 5 - 10 * off * tolerance, 5, tolerance=tolerance) == earned


MARGIN = st.floats(-10, 10)
PREFERENCE = st.sampled_from([-7.0, -0.6, -0.5, 0.0, 0.2, 0.5, 0.6, 4.0])


@given(margin=MARGIN, target=PREFERENCE)
def test_the_pairwise_reward_is_bounded_and_symmetric_under_an_exchange_of_the_images(
    margin: float, target: float
) -> None:
    value = pairwise_reward(margin, target)
    assert 0 <= value <= 1
    assert value == pytest.approx(pairwise_reward(-margin, -target))


@given(near=MARGIN, far=MARGIN, target=PREFERENCE)
def test_the_pairwise_reward_is_larger_the_more_the_margin_goes_with_people(
    near: float, far: float, target: float
) -> None:
    tie = abs(target) <= 0.5
    better = (lambda margin: -abs(margin)) if tie else (lambda margin: margin * math.copysign(1, target))
    if better(near) > better(far) + 1e-3 and (not tie or abs(near) < 5):  # beyond that, both round to 0
        assert pairwise_reward(near, target) > pairwise_reward(far, target)


@given(margin=MARGIN, target=PREFERENCE, slope=st.floats(0.2, 3))
def test_the_pairwise_reward_is_its_formula(margin: float, target: float, slope: float) -> None:
    value = pairwise_reward(margin, target, slope=slope)
    if abs(target) <= 0.5:
        assert value == pytest.approx(math.exp(-((slope * margin) ** 2)))
    else:
        assert value == pytest.approx(1 / (1 + math.exp(-slope * margin * np.sign(target))))


@pytest.mark.parametrize("margin", [None, 10.1, -10.1, math.nan, math.inf])
def test_no_margin_earns_nothing(margin: float | None) -> None:
    assert pairwise_reward(margin, 5) == pairwise_reward(margin, 0) == 0


def test_even_scores_are_worth_half_and_a_tie_all() -> None:
    assert pairwise_reward(0, 5) == pairwise_reward(0, -5) == 0.5
    assert pairwise_reward(0, 0.5) == 1
    assert pairwise_reward(0, 0.5, tie=0.4) == 0.5


def test_a_reward_of_one_image_does_not_apply_to_two_and_the_other_way_round() -> None:
    answers = Answers([5.0, 3.0], [5.0, 4.0], ["", ""], 1, compared=[False, True])
    for kind in KINDS:
        (reward, _) = weighted(**{kind: 1.0})[kind]
        assert reward(answers)[1] is None
        assert reward(answers)[0] == 1
    (reward, _) = weighted(pairwise=1.0)["pairwise"]
    assert reward(answers) == [None, pytest.approx(1 / (1 + math.exp(-3)))]
    (reward, _) = weighted(format=1.0)["format"]
    assert reward(answers) == [1, 1]
    mixed = Answers([2.0, 3.0, 8.0, 9.0], [1.0, 4.0, 9.0, -4.0], [""] * 4, 1, compared=[False, True, False, True])
    alone = Answers([2.0, 8.0], [1.0, 9.0], [""] * 2, 1)
    assert [value for value in rank_rewards(mixed) if value is not None] == rank_rewards(alone)
    assert rank_rewards(mixed)[1] is None


@given(
    lengths=st.lists(st.integers(0, 120), min_size=2, max_size=6),
    longest=st.integers(1, 100),
    scores=st.lists(ANY_SCORE, min_size=6, max_size=6),
)
def test_the_length_reward_is_bounded_falls_and_needs_a_score(
    lengths: list[int], longest: int, scores: list[float | None]
) -> None:
    n = len(lengths)
    answers = Answers(scores[:n], [5.0] * n, [""] * n, n, lengths=lengths, longest=longest)
    values = length_rewards(answers)
    for value, length, score in zip(values, lengths, scores, strict=False):
        overlong = min(0.0, (0.75 * longest - length) / (0.25 * longest))  # DAPO, equation 13
        assert value == pytest.approx(0 if score is None else 1 + max(-1.0, overlong))


def test_without_a_limit_every_answer_with_a_score_has_the_whole_length_reward() -> None:
    assert length_rewards(Answers([5, None, 7], [5.0] * 3, [""] * 3, 3, lengths=[10, 20, 30], longest=0)) == [1, 0, 1]


def test_the_best_constant_of_pairs_is_a_difference() -> None:
    chosen = weighted(pairwise=1.0)
    value, margin = best_constant_reward([5, 5, 5, -5], chosen, compared=True)
    assert 0.7 < value < 0.75
    assert margin == 10
    value, margin = best_constant_reward([5, -5, 0], chosen, compared=True)
    assert (value, margin) == (pytest.approx(2 / 3), 0)


def test_the_binary_reward_is_of_a_scale_to_ten_unless_told_otherwise() -> None:
    assert [binary_reward(score, 5.0) for score in (5.99, 6.01, 3.99)] == [1, 0, 0]
