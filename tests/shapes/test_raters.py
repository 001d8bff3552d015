"""Simulated raters see the truth through what they are set to."""

from __future__ import annotations

import numpy as np
import pytest

from t2i_eval_kedro.shapes.raters import PANELS, RATERS, Rater


def test_a_rater_without_noise_gives_the_rounded_and_clipped_truth() -> None:
    rater = Rater("exact", {"overall": 3.0}, {}, {"overall": 0.0, "appearance": 0.0}, 0.0)
    rng = np.random.default_rng(0)
    assert rater.score("appearance", 6.4, rng) == 6.0
    assert rater.score("overall", 9.0, rng) == 10.0
    assert [rater.label(value, rng) for value in (True, False)] == [1.0, 0.0]


def test_a_preference_follows_the_difference_and_a_small_one_is_a_tie() -> None:
    rater = Rater("exact", noise={"overall": 0.0}, tie=1.0)
    rng = np.random.default_rng(0)
    assert [rater.prefer(a, b, rng) for a, b in ((7, 3), (3, 7), (5, 5.9), (5, 6))] == ["a", "b", "tie", "b"]


@pytest.mark.parametrize("name", sorted(PANELS))
def test_panels_have_distinct_raters(name: str) -> None:
    assert len({rater.rater_id for rater in PANELS[name]}) == len(PANELS[name])


def test_panels_are_what_they_are_called() -> None:
    rng = np.random.default_rng(1)
    truth = rng.uniform(0, 10, 300)
    constant, turned = PANELS["constant"][-1], PANELS["reversed"][-1]
    assert {constant.score("overall", value, rng) for value in truth} == {7.0}
    assert np.corrcoef(truth, [turned.score("overall", value, rng) for value in truth])[0, 1] < -0.8
    assert np.mean([turned.label(True, rng) for _ in range(200)]) < 0.1
    assert len(PANELS["crowd"]) == 12
    noise = {name: np.mean([rater.noise["overall"] for rater in PANELS[name]]) for name in ("three", "crowd")}
    assert noise["crowd"] > 1.3 * noise["three"]
    assert PANELS["three"] == RATERS
