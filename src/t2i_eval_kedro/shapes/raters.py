"""Simulated raters: each sees the truth through its own bias, gain and noise, and answers on the scale 0 to 10."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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
    """

    rater_id: str
    bias: Mapping[str, float]
    gain: Mapping[str, float]
    noise: Mapping[str, float]
    flip: float

    def score(self, dimension: str, truth: float, rng: np.random.Generator) -> float:
        """An integer score from 0 to 10 for a true score from 0 to 10."""
        noise = self.noise.get(dimension, 1.0) * float(rng.standard_normal())
        seen = 5 + self.bias.get(dimension, 0.0) + self.gain.get(dimension, 1.0) * (truth - 5) + noise
        return float(min(max(round(seen), SCALE_MIN), SCALE_MAX))

    def label(self, holds: bool, rng: np.random.Generator) -> float:
        """1.0 where the rater says that the element holds, else 0.0."""
        return float(holds != (rng.random() < self.flip))


RATERS = (
    Rater("rater-mild", {"overall": 0.8, "appearance": 1.0}, {"overall": 0.85}, {"overall": 0.9}, 0.03),
    Rater(
        "rater-strict",
        {"overall": -0.9, "attributes": -0.6},
        {"overall": 1.1, "relations": 1.1},
        {"overall": 0.8},
        0.02,
    ),
    Rater("rater-rough", {"relations": 0.5}, {"appearance": 0.8}, {"overall": 1.4, "attributes": 1.5}, 0.06),
)
