"""How many prompts, images and raters does a study need? Expected interval widths, power, and what more of each buys.

Model (ours). The quality of an image has variance 1, of which ``prompt_fraction`` lies between prompts. A rating is the quality plus
noise, so that one rating has the reliability r and the mean of k ratings ``k r / (1 + (k - 1) r)``. A judge's score correlates with the
quality as assumed; its error lies between prompts by the same fraction, and errors of two judges are independent. What the study would
report is computed from simulated data with the intervals and the test that agreement uses.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.statistics.bootstrap import percentile_interval, resample_counts, with_sample
from t2i_eval_kedro.statistics.correlation import STATISTIC_FUNCTIONS
from t2i_eval_kedro.statistics.kernels import Floats, Ints
from t2i_eval_kedro.statistics.pooled import Weights, pooled_statistics
from t2i_eval_kedro.statistics.reliability import spearman_brown
from t2i_eval_kedro.statistics.significance import MIN_PROMPTS, PairedPermutation, p_value, random_exchanges

RESAMPLES, PERMUTATIONS = 200, 199


@dataclass(frozen=True)
class StudyDesign:
    """The size of a study.

    Attributes:
        prompts: number of prompts.
        images: number of images per prompt.
        raters: number of ratings per image.
    """

    prompts: int
    images: int
    raters: int

    def __post_init__(self) -> None:
        """Refuse a size that is not a positive number."""
        for name, value in vars(self).items():
            if value < 1:
                raise T2IEvalError(f"The number of {name} is {value}; a study needs at least 1.")
        if self.prompts * self.images < 2:
            raise T2IEvalError("A study needs at least 2 images; give more prompts or more images per prompt.")


@dataclass(frozen=True)
class Assumptions:
    """What is assumed of raters and judges, from a pilot or from other studies.

    Attributes:
        reliability: reliability of one rating, ICC(1), above 0 and at most 1.
        correlation: Pearson correlation of the better judge with the quality (with an unlimited number of raters).
        difference: by how much the other judge's correlation is lower, 0 or more.
        prompt_fraction: fraction of the variance of quality that lies between prompts, 0 to 1.
    """

    reliability: float
    correlation: float
    difference: float = 0.1
    prompt_fraction: float = 0.3

    def __post_init__(self) -> None:
        """Refuse assumptions that no data can have."""
        for name, low, high in (
            ("reliability", 1e-6, 1.0),
            ("correlation", -1.0, 1.0),
            ("difference", 0.0, 2.0),
            ("prompt_fraction", 0.0, 1.0),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise T2IEvalError(f"The assumed {name.replace('_', ' ')} is {value}; it must be {low:g} to {high:g}.")
        if self.correlation - self.difference < -1:
            raise T2IEvalError("The other judge's correlation would be below -1; assume a smaller difference.")


@dataclass(frozen=True)
class StudyPrecision:
    """What a study of one design can be expected to show.

    Attributes:
        agreement: mean of the statistic of the better judge with people's mean rating.
        interval_width: mean width of its interval over prompts; NaN below the least number of prompts.
        difference_width: mean width of the interval of the difference between the judges.
        power: fraction of simulated studies in which the difference has p <= alpha; NaN below the least number of prompts.
        noise_ceiling: root of the reliability of people's mean rating.
    """

    agreement: float
    interval_width: float
    difference_width: float
    power: float
    noise_ceiling: float


@dataclass(frozen=True)
class VarianceComponents:
    """A small generalisability study: where the variance of single ratings comes from (each 0 or more).

    Attributes:
        prompt: between prompts.
        image: between images of a prompt.
        rating: between ratings of an image (raters and error together).
    """

    prompt: float
    image: float
    rating: float

    @property
    def reliability(self) -> float:
        """Reliability of one rating: (prompt + image) / total."""
        return (self.prompt + self.image) / (self.prompt + self.image + self.rating)

    @property
    def prompt_fraction(self) -> float:
        """Fraction of the variance of quality that lies between prompts; 0 where there is none."""
        quality = self.prompt + self.image
        return self.prompt / quality if quality > 0 else 0.0


def variance_components(table: Floats, prompt: Ints) -> VarianceComponents:
    """Variance components of ratings within images within prompts, by the analysis of variance; negative ones are 0.

    Nested random effects with unequal numbers (Searle, Casella and McCulloch 1992, section 3.6, applied at both levels).

    Args:
        table: ``(images, raters)`` ratings, NaN where missing.
        prompt: ``(images,)`` index of the prompt.

    Raises:
        T2IEvalError: fewer than two prompts, no prompt with two images, or no image with two ratings.
    """
    number = np.isfinite(table).sum(axis=1)
    table, prompt, number = table[number > 0], prompt[number > 0], number[number > 0]
    _, code, images = np.unique(prompt, return_inverse=True, return_counts=True)
    n_ratings, n_images, n_prompts = int(number.sum()), len(table), len(images)
    if n_prompts < 2 or n_images == n_prompts or n_ratings == n_images:
        raise T2IEvalError(
            f"A pilot of {n_prompts} prompts, {n_images} images and {n_ratings} ratings does not separate prompts, images and "
            "raters; it needs two prompts, two images of a prompt and two ratings of an image."
        )
    means = np.nanmean(table, axis=1)
    by_prompt = np.bincount(code, weights=number * means) / np.bincount(code, weights=number)
    per_prompt, grand = np.bincount(code, weights=number), float((number * means).sum() / n_ratings)
    within = float(np.nansum((table - means[:, None]) ** 2)) / (n_ratings - n_images)
    between_images = float((number * (means - by_prompt[code]) ** 2).sum()) / (n_images - n_prompts)
    between_prompts = float((per_prompt * (by_prompt - grand) ** 2).sum()) / (n_prompts - 1)
    squares = np.bincount(code, weights=number.astype(float) ** 2)
    per_image = (n_ratings - (squares / per_prompt).sum()) / (n_images - n_prompts)
    image = max((between_images - within) / per_image, 0.0)
    of_image = ((squares / per_prompt).sum() - (number.astype(float) ** 2).sum() / n_ratings) / (n_prompts - 1)
    of_prompt = (n_ratings - (per_prompt**2).sum() / n_ratings) / (n_prompts - 1)
    between = max((between_prompts - within - of_image * image) / of_prompt, 0.0)
    return VarianceComponents(between, image, within)


def expected_precision(
    design: StudyDesign,
    assumptions: Assumptions,
    *,
    statistic: str = "spearman",
    confidence: float = 0.95,
    alpha: float = 0.05,
    simulations: int = 200,
    seed: int = 0,
) -> StudyPrecision:
    """Simulate studies of ``design`` and average what they report.

    Args:
        design: the size of the study.
        assumptions: what is assumed of raters and judges.
        statistic: ``spearman``, ``kendall_b`` or ``pearson``.
        confidence: confidence level of the intervals.
        alpha: level of the test between the judges.
        simulations: number of simulated studies; the standard error of a power p is ``sqrt(p (1 - p) / simulations)``.
        seed: random seed.
    """
    function = STATISTIC_FUNCTIONS[statistic]
    prompt = np.repeat(np.arange(design.prompts), design.images)
    values: list[float] = []
    widths: list[float] = []
    gaps: list[float] = []
    rejected = 0
    for k in range(simulations):
        rng = np.random.default_rng([seed, k])
        first, second, people = _study(design, assumptions, prompt, rng)
        weights = Weights(with_sample(resample_counts(design.prompts, RESAMPLES, k)))
        one, other = (pooled_statistics(v, people, prompt, weights, (statistic,))[statistic] for v in (first, second))
        values.append(one[0])
        for width, resampled in ((widths, one), (gaps, one - other)):
            low, high = percentile_interval(resampled[1:], confidence, design.prompts)
            width.append(high - low)
        if design.prompts >= MIN_PROMPTS:
            permutation = PairedPermutation(random_exchanges(design.prompts, PERMUTATIONS, k))
            null = permutation.pooled(first, second, people, prompt, (statistic,))[statistic]
            rejected += p_value(function(first, people) - function(second, people), null)[0] <= alpha + 1e-12
    ceiling = np.sqrt(spearman_brown(np.array([assumptions.reliability]), design.raters))[0]
    return StudyPrecision(
        agreement=_mean(values),
        interval_width=_mean(widths),
        difference_width=_mean(gaps),
        power=rejected / simulations if design.prompts >= MIN_PROMPTS else float("nan"),
        noise_ceiling=float(ceiling),
    )


def larger_designs(design: StudyDesign) -> dict[str, StudyDesign]:
    """``design``, and it with one more rater, one more image per prompt, or a tenth more prompts."""
    return {
        "as planned": design,
        "one more rater": replace(design, raters=design.raters + 1),
        "one more image per prompt": replace(design, images=design.images + 1),
        "a tenth more prompts": replace(design, prompts=design.prompts + max(1, round(design.prompts / 10))),
    }


def _mean(values: list[float]) -> float:
    defined = np.array(values)[np.isfinite(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def _study(
    design: StudyDesign, assumptions: Assumptions, prompt: Ints, rng: np.random.Generator
) -> tuple[Floats, Floats, Floats]:
    """Scores of two judges and people's mean ratings in one simulated study."""

    def effect() -> Floats:
        """Variance 1, of which the assumed fraction lies between prompts."""
        share = assumptions.prompt_fraction
        between = rng.normal(size=design.prompts)[prompt]
        return np.asarray(np.sqrt(share) * between + np.sqrt(1 - share) * rng.normal(size=len(prompt)))

    quality = effect()
    noise = np.sqrt((1 - assumptions.reliability) / assumptions.reliability / design.raters)
    people = quality + noise * rng.normal(size=len(prompt))
    correlations = (assumptions.correlation, assumptions.correlation - assumptions.difference)
    first, second = (r * quality + np.sqrt(1 - r * r) * effect() for r in correlations)
    return first, second, people
