"""What a judge said about two images of one prompt: it prints as a table and becomes a frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from t2i_eval_kedro.judging.protocols.reasoning import Preference
from t2i_eval_kedro.reporting.verdicts import print_comparison
from t2i_eval_kedro.schema import FAILED, OK, UNPARSED, evaluator_id

OVERALL = "overall"
COMPARISON_COLUMNS = (
    "evaluator",
    "judge",
    "protocol",
    "run",
    "dimension",
    "preference",
    "probability",
    "margin",
    "consistent",
    "status",
    "explanation",
)
"""What a table of comparisons has beside the columns of its input."""


@dataclass(frozen=True, repr=False)
class Comparison:
    """Which of two images of one prompt is better.

    Attributes:
        prompt: the text that both images were generated from.
        image_a: the first image.
        image_b: the second image.
        judge: name of the judge.
        protocol: name of the protocol by which the judge was asked.
        prompt_version: protocol and wording with the version of each.
        tie: largest difference of scores, 0 to 10, that is called a tie.
        preferences: dimension -> preference.
    """

    prompt: str
    image_a: str
    image_b: str
    judge: str
    protocol: str
    prompt_version: str
    tie: float
    preferences: Mapping[str, Preference]

    @property
    def evaluator(self) -> str:
        """The evaluator's name, made from judge and protocol."""
        return evaluator_id(self.judge, self.protocol)

    @property
    def preference(self) -> Preference:
        """The overall preference, or that of the first dimension."""
        return self.preferences.get(OVERALL) or next(iter(self.preferences.values()))

    @property
    def label(self) -> str | None:
        """``a``, ``b`` or ``tie``; None where there is no preference."""
        return self.preference.label

    @property
    def probability(self) -> float | None:
        """The probability that the first image is better, 0 to 1."""
        return self.preference.probability

    @property
    def status(self) -> str:
        """``ok`` where every dimension has a preference or does not apply, else the reason of the first that has none."""
        statuses = {one.status for one in self.preferences.values()}
        return next(
            (status for status in (FAILED, UNPARSED) if status in statuses), OK if OK in statuses else min(statuses)
        )

    def rows(self) -> list[dict[str, object]]:
        """One row per dimension, with :data:`COMPARISON_COLUMNS` but the run."""
        return [
            {
                "evaluator": self.evaluator,
                "judge": self.judge,
                "protocol": self.protocol,
                "dimension": name,
                "preference": one.label,
                "probability": one.probability,
                "margin": one.margin,
                "consistent": one.consistent,
                "status": one.status,
                "explanation": " | ".join(one.explanations) or None,
            }
            for name, one in self.preferences.items()
        ]

    def as_dict(self) -> dict[str, object]:
        """The comparison in plain JSON types."""
        hidden = ("evaluator", "judge", "protocol")
        return {
            "prompt": self.prompt,
            "image_a": self.image_a,
            "image_b": self.image_b,
            "evaluator": self.evaluator,
            "judge": self.judge,
            "protocol": self.protocol,
            "prompt_version": self.prompt_version,
            "tie": self.tie,
            "status": self.status,
            "preferences": [{k: v for k, v in row.items() if k not in hidden} for row in self.rows()],
        }

    def __repr__(self) -> str:
        """Print the comparison as a table."""
        return print_comparison(self.as_dict())


class Comparisons(Sequence[Comparison]):
    """The comparisons of several pairs, in the order in which they were given."""

    def __init__(self, comparisons: Sequence[Comparison], source: pd.DataFrame, run: int = 0) -> None:
        """Take ``comparisons``; ``source`` has a row for each, whose columns :meth:`frame` keeps."""
        self._comparisons, self._source, self._run = tuple(comparisons), source, run

    def __len__(self) -> int:
        """Count the pairs."""
        return len(self._comparisons)

    def __getitem__(self, index: int) -> Comparison:  # type: ignore[override]
        """One comparison."""
        return self._comparisons[index]

    @property
    def consistency(self) -> float | None:
        """The fraction of overall preferences on which both orders agree; None where none was asked in both orders."""
        asked = [one.preference.consistent for one in self if one.preference.consistent is not None]
        return sum(asked) / len(asked) if asked else None

    def frame(self) -> pd.DataFrame:
        """One row per pair and dimension: the columns of the input, then :data:`COMPARISON_COLUMNS`."""
        given = self._source.to_dict("records")
        rows = [
            {
                **{f"input_{name}" if name in COMPARISON_COLUMNS else str(name): v for name, v in source.items()},
                "run": self._run,
                **row,
            }
            for source, one in zip(given, self, strict=True)
            for row in one.rows()
        ]
        kept = [f"input_{name}" if name in COMPARISON_COLUMNS else str(name) for name in self._source.columns]
        return pd.DataFrame(rows, columns=[*kept, *COMPARISON_COLUMNS])
