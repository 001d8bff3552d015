"""Plans of a study from a pilot: what the raters' and judges' tables say about the assumptions, and the plan as text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from t2i_eval_kedro.agreement.human_agreement import rating_table
from t2i_eval_kedro.agreement.rated_items import build
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.statistics import correlation
from t2i_eval_kedro.statistics.planning import (
    Assumptions,
    StudyDesign,
    StudyPrecision,
    VarianceComponents,
    variance_components,
)
from t2i_eval_kedro.statistics.reliability import spearman_brown


@dataclass(frozen=True)
class Pilot:
    """What a pilot says.

    Attributes:
        dimension: the dimension that it is about.
        design: size of the pilot: prompts, images per prompt and ratings per image (rounded means).
        components: where the variance of its ratings comes from.
        assumptions: assumptions for a plan; the difference is that of the two best judges.
        judges: those judges, the better one first; empty where the pilot has no usable scores.
    """

    dimension: str
    design: StudyDesign
    components: VarianceComponents
    assumptions: Assumptions
    judges: tuple[str, ...]


def read_pilot(
    items: pd.DataFrame,
    ratings: pd.DataFrame,
    scores: pd.DataFrame,
    dimension: str | None = None,
    difference: float | None = None,
) -> Pilot:
    """The assumptions that the canonical tables of a pilot support.

    Args:
        items: canonical table.
        ratings: canonical table of people's ratings.
        scores: canonical table of judges' scores.
        dimension: which dimension; by default the one with the most ratings.
        difference: difference between judges to plan for; by default that of the two best judges of the pilot.

    Raises:
        T2IEvalError: the dimension is not rated, the raters do not agree, or the pilot has no judge.
    """
    samples = build(items, ratings, scores)
    if not samples:
        raise T2IEvalError("The pilot has no ratings; give ratings and scores of the same items.")
    chosen = dimension or max(samples, key=lambda name: len(samples[name].gold))
    if chosen not in samples:
        raise T2IEvalError(f"The pilot has no ratings of '{chosen}'; it rates {', '.join(sorted(samples))}.")
    sample = samples[chosen]
    table = rating_table(ratings, sample)
    components = variance_components(table, sample.prompt)
    if components.reliability <= 0:
        raise T2IEvalError(
            "The raters of the pilot do not agree, so nothing can be planned from it; state the assumptions."
        )
    number = np.isfinite(table).sum(axis=1)
    ceiling = float(np.sqrt(spearman_brown(np.array([components.reliability]), len(number) / (1 / number).sum()))[0])
    values: dict[str, float] = {}
    for name, judged in sample.scores.items():
        kept = np.isfinite(judged)
        value = correlation.pearson(judged[kept], sample.gold[kept])
        if np.isfinite(value):
            values[name] = float(np.clip(value / ceiling, -1, 1))
    if not values:
        raise T2IEvalError("The pilot has no judge whose agreement is defined; state the assumptions.")
    best = sorted(values, key=lambda name: -values[name])[:2]
    if difference is None:
        difference = values[best[0]] - values[best[1]] if len(best) > 1 else 0.1
    prompts = sample.prompts
    return Pilot(
        chosen,
        StudyDesign(prompts, max(1, round(len(number) / prompts)), max(1, round(float(number.mean())))),
        components,
        Assumptions(components.reliability, values[best[0]], difference, components.prompt_fraction),
        tuple(best),
    )


def plan_table(plans: Mapping[str, tuple[StudyDesign, StudyPrecision]]) -> pd.DataFrame:
    """One row per plan: its size and what it can be expected to show; a dash where there are too few prompts."""

    def shown(value: float) -> str:
        return f"{value:.3f}" if np.isfinite(value) else "–"

    return pd.DataFrame(
        {
            "plan": name,
            "prompts": design.prompts,
            "images per prompt": design.images,
            "raters": design.raters,
            "ratings": design.prompts * design.images * design.raters,
            "noise ceiling": shown(precision.noise_ceiling),
            "agreement": shown(precision.agreement),
            "width of its interval": shown(precision.interval_width),
            "width of the difference's": shown(precision.difference_width),
            "power": shown(precision.power),
        }
        for name, (design, precision) in plans.items()
    )
