"""Simulated raters: each sees the truth through its own bias, gain and noise, and answers on the scale 0 to 10."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

SCALE_MIN, SCALE_MAX = 0.0, 10.0


@dataclass(frozen=True)
class Rater:
    """One simulated rater.

    A score is ``bias + 5 + gain (truth - 5) + noise``, rounded and clipped to 0..10; an element's label is flipped with
    probability ``flip``.

    Attributes:
        rater_id: as it stands in the ``rater_id`` column.
        bias, gain: by dimension; a dimension that is not named has bias 0 and gain 1.
        noise: standard deviation by dimension, 1 where none is named.
        flip: probability that an element is labelled wrongly.
        tie: two images whose scores, before rounding, differ by less are a tie to the rater.
    """

    rater_id: str
    bias: Mapping[str, float] = field(default_factory=dict)
    gain: Mapping[str, float] = field(default_factory=dict)
    noise: Mapping[str, float] = field(default_factory=dict)
    flip: float = 0.03
    tie: float = 1.0

    def score(self, dimension: str, truth: float, rng: np.random.Generator) -> float:
        """An integer score from 0 to 10 for a true score from 0 to 10."""
        return float(min(max(round(self._seen(dimension, truth, rng)), SCALE_MIN), SCALE_MAX))

    def label(self, holds: bool, rng: np.random.Generator) -> float:
        """1.0 where the rater says that the element holds, else 0.0."""
        return float(holds != (rng.random() < self.flip))

    def prefer(self, truth_a: float, truth_b: float, rng: np.random.Generator) -> str:
        """Which of two images is better overall, as the rater sees them anew: ``a``, ``b`` or ``tie``."""
        difference = self._seen("overall", truth_a, rng) - self._seen("overall", truth_b, rng)
        return "tie" if abs(difference) < self.tie else "a" if difference > 0 else "b"

    def _seen(self, dimension: str, truth: float, rng: np.random.Generator) -> float:
        noise = self.noise.get(dimension, 1.0) * float(rng.standard_normal())
        return 5 + self.bias.get(dimension, 0.0) + self.gain.get(dimension, 1.0) * (truth - 5) + noise


RATERS = (
    Rater("rater-mild", {"overall": 0.8, "appearance": 1.0}, {"overall": 0.85}, {"overall": 0.9}, 0.03),
    Rater(
        "rater-strict",
        {"overall": -0.9, "attributes": -0.6},
        {"overall": 1.1, "relations": 1.1},
        {"overall": 0.8},
        0.02,
    ),
    Rater("rater-rough", {"relations": 0.5}, {"appearance": 0.8}, {"overall": 1.4, "attributes": 1.5}, 0.06, 1.5),
)

_ALL = ("overall", "appearance", "attributes", "relations", "structure")


def _crowd() -> tuple[Rater, ...]:
    """Twelve raters whose bias, gain and noise are drawn, noisier than the three; the same ones each time."""
    rng = np.random.default_rng(12)
    return tuple(
        Rater(
            f"rater-crowd-{i + 1:02d}",
            dict.fromkeys(_ALL, round(float(rng.normal(0, 0.8)), 2)),
            dict.fromkeys(_ALL, round(float(rng.uniform(0.6, 1.2)), 2)),
            dict.fromkeys(_ALL, round(float(rng.uniform(1.0, 3.0)), 2)),
            round(float(rng.uniform(0.02, 0.15)), 3),
            round(float(rng.uniform(0.5, 2.0)), 2),
        )
        for i in range(12)
    )


#: Who rates. ``constant`` and ``reversed`` have two of the three and one who gives every image 7, or turns the scale round.
PANELS: dict[str, tuple[Rater, ...]] = {
    "three": RATERS,
    "crowd": _crowd(),
    "constant": (
        *RATERS[:2],
        Rater("rater-constant", dict.fromkeys(_ALL, 2.0), dict.fromkeys(_ALL, 0.0), dict.fromkeys(_ALL, 0.0)),
    ),
    "reversed": (*RATERS[:2], Rater("rater-reversed", {}, dict.fromkeys(_ALL, -1.0), {}, 0.97)),
}
