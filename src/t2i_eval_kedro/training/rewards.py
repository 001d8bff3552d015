"""Rewards of answers: plain functions of scores, targets and the scale.

Of one answer: ``linear``, ``gaussian``, ``binary`` (the control arm), ``pairwise`` (of two images), ``format``, ``length``. Of all answers of a
step together: ``rank``, ``diversity``, and a user's own by dotted path. A training takes a weighted sum of them (``grpo.rewards``).

The formulas are this project's own unless they name a source; those of T2I-Eval-R1 (arXiv 2505.17897) are not public in what we could
read. A continuous reward pays two different scores differently, so that a group of answers rarely ties and its advantages are
rarely all zero; the binary one is the control arm that shows what this buys.

No score (None) and a score off the scale earn nothing. A score is never clipped onto the scale first: it would be paid
as if the student had said the end of the scale. A reward of one image does not apply to an answer about two, and the other way round.
"""

from __future__ import annotations

import importlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from t2i_eval_kedro.errors import T2IEvalError


@dataclass(frozen=True)
class Answers:
    """All answers of a training step, as a reward sees them; where several processes train, those of its own, in whole groups.

    Attributes:
        scores: score of each answer; None where none on the scale could be read. Of an answer about two images, the score of the first
            minus that of the second, from ``low - high`` to ``high - low``.
        targets: people's mean score of each answer's image, on the same scale; of two images, the difference. Where people gave
            preferences alone, its sign is what they prefer.
        texts: the answers as they were written.
        group: number of answers to each request; they stand side by side, so the first ``group`` are of the first request.
        low: lowest score of the scale.
        high: highest score of the scale.
        compared: whether each answer is about two images; none is where this is empty.
        lengths: number of tokens of each answer; empty where they are not known.
        longest: number of tokens at which an answer is cut off; 0 for no limit.
    """

    scores: Sequence[float | None]
    targets: Sequence[float]
    texts: Sequence[str]
    group: int
    low: float = 0.0
    high: float = 10.0
    compared: Sequence[bool] = ()
    lengths: Sequence[int] = ()
    longest: int = 0

    def compares(self, answer: int) -> bool:
        """Whether the answer at this place is about two images."""
        return bool(self.compared) and self.compared[answer]

    def groups(self) -> list[slice]:
        """The place of each request's answers."""
        return [slice(start, start + self.group) for start in range(0, len(self.scores), self.group)]


Reward = Callable[[Answers], Sequence[float | None]]  # one number per answer; None where it does not apply


def on_scale(score: float | None, low: float = 0.0, high: float = 10.0) -> bool:
    """Whether ``score`` is a number from ``low`` to ``high``.

    Example:
        >>> on_scale(10), on_scale(10.5), on_scale(float("nan")), on_scale(None)
        (True, False, False, False)
    """
    return score is not None and low <= score <= high


def format_rewards(answers: Answers) -> list[float]:
    """1 for an answer from which a score on the scale could be read, or for two images the difference of two, else 0.

    Examples:
        >>> format_rewards(Answers([3, None, 11], [5] * 3, ["3", "?", "11"], group=3))
        [1.0, 0.0, 0.0]
    """
    width = answers.high - answers.low
    ends = [(-width, width) if answers.compares(i) else (answers.low, answers.high) for i in range(len(answers.scores))]
    return [float(on_scale(score, *end)) for score, end in zip(answers.scores, ends, strict=True)]


def linear_reward(score: float | None, target: float, low: float = 0.0, high: float = 10.0) -> float:
    """1 - abs(score - target) / (high - low): 1 at the target, 0 at the other end of the scale.

    Example:
        >>> linear_reward(7, 5), linear_reward(5, 5), linear_reward(11, 10)
        (0.8, 1.0, 0.0)
    """
    if score is None or not on_scale(score, low, high):
        return 0.0
    return 1.0 - abs(score - target) / (high - low)


def gaussian_reward(
    score: float | None, target: float, low: float = 0.0, high: float = 10.0, sigma: float = 0.2
) -> float:
    """exp(-(score - target)^2 / (2 s^2)) with s = ``sigma`` * (high - low): steepest at an error of s.

    Example:
        >>> round(gaussian_reward(7, 5), 4), gaussian_reward(5, 5), gaussian_reward(None, 5)
        (0.6065, 1.0, 0.0)
    """
    if score is None or not on_scale(score, low, high):
        return 0.0
    return math.exp(-(((score - target) / (sigma * (high - low))) ** 2) / 2)


def binary_reward(
    score: float | None, target: float, low: float = 0.0, high: float = 10.0, tolerance: float = 0.1
) -> float:
    """1 within ``tolerance`` * (high - low) of the target, else 0; the control arm.

    Example:
        >>> binary_reward(5.9, 5), binary_reward(7, 5)
        (1.0, 0.0)
    """
    return float(score is not None and on_scale(score, low, high) and abs(score - target) <= tolerance * (high - low))


def pairwise_reward(
    margin: float | None,
    target: float,
    low: float = 0.0,
    high: float = 10.0,
    *,
    slope: float = 1.0,
    tie: float = 0.5,
) -> float:
    """How well a difference of two scores goes with people's, 0 to 1; continuous, and the same with the two images exchanged.

    1 / (1 + exp(-slope y margin)) where people prefer one image, y being the sign of ``target`` (Bradley and Terry's probability of the right
    preference); exp(-(slope margin)^2) where they see a tie, abs(target) <= ``tie``. Ours.

    Example:
        >>> round(pairwise_reward(2, 5), 4), round(pairwise_reward(-2, 5), 4), pairwise_reward(0, 0.2), pairwise_reward(None, 5)
        (0.8808, 0.1192, 1.0, 0.0)
    """
    if margin is None or not on_scale(margin, low - high, high - low):
        return 0.0
    if abs(target) <= tie:
        return math.exp(-((slope * margin) ** 2))
    return 1 / (1 + math.exp(-slope * math.copysign(margin, margin * target)))


def length_rewards(answers: Answers, cache: float = 0.25) -> list[float]:
    """1 for an answer that leaves room, falling to 0 where it is cut off; nothing for an answer without a score.

    1 plus DAPO's soft overlong punishment (arXiv 2503.14476, equation 13): 1 up to ``(1 - cache)`` of the longest answer, then linear
    down to 0 at the longest. ``cache`` is ours. Without a limit, or where lengths are not known, every answer with a score earns 1.

    Examples:
        >>> length_rewards(Answers([5, 5, 5, None], [6] * 4, [""] * 4, group=4, lengths=[60, 90, 100, 3], longest=100))
        [1.0, 0.4, 0.0, 0.0]
    """
    lengths = answers.lengths or [0] * len(answers.scores)
    room = cache * answers.longest
    return [
        0.0 if score is None else min(1.0, max(0.0, round((answers.longest - length) / room, 9))) if room else 1.0
        for score, length in zip(answers.scores, lengths, strict=True)
    ]


def rank_rewards(answers: Answers) -> list[float | None]:
    """How well each score ranks its image against the other images of the step, 0 to 1.

    VisualQuality-R1's fidelity reward under Thurstone's model: an answer k about image i is above image z with probability
    ``p = Phi((s_ik - mean_z) / sqrt(var_i + var_z + 1e-6))``, means and variances being those of a group's scores, and earns
    ``sqrt(p g) + sqrt((1 - p)(1 - g))``, averaged over z, with g = 1, 1/2 or 0 as people put i above, level with or below z. Where that
    paper puts a random score in place of one that cannot be read, such an answer earns nothing here, and an image without any
    score is left out. Ours: the images are those of the step, whatever their prompts; of several processes that train, those of its own.

    Raises:
        T2IEvalError: fewer than two images, so that there is nothing to rank.

    Examples:
        >>> [round(reward, 3) for reward in rank_rewards(Answers([2, 2, 8, 8], [1, 1, 9, 9], ["2", "2", "8", "8"], group=2))]
        [1.0, 1.0, 1.0, 1.0]
    """
    groups = [group for group in answers.groups() if not answers.compares(group.start)]
    if not groups:
        return [None] * len(answers.scores)
    if len(groups) < 2:
        raise T2IEvalError("The reward 'rank' needs at least two images in a step; raise grpo.prompts_per_step.")
    scores = np.array([np.nan if score is None else score for score in answers.scores], dtype=float)
    targets = np.array([answers.targets[group.start] for group in groups], dtype=float)
    read = [scores[group][np.isfinite(scores[group])] for group in groups]
    mean = np.array([values.mean() if len(values) else np.nan for values in read])
    variance = np.array([values.var() if len(values) else np.nan for values in read])
    rewards = np.zeros(len(scores))
    for i, group in enumerate(groups):
        others = np.isfinite(mean) & (np.arange(len(groups)) != i)
        if not others.any() or not len(read[i]):
            continue
        above = np.sign(targets[i] - targets[others]) / 2 + 0.5
        distance = (scores[group, None] - mean[others]) / np.sqrt(variance[i] + variance[others] + 1e-6)
        chance = np.vectorize(_normal)(np.nan_to_num(distance))
        rewards[group] = (np.sqrt(chance * above) + np.sqrt((1 - chance) * (1 - above))).mean(axis=1)
    return [
        None if answers.compares(i) else float(reward) if np.isfinite(score) else 0.0
        for i, (reward, score) in enumerate(zip(rewards, scores, strict=True))
    ]


def _normal(value: float) -> float:
    """The standard normal distribution function."""
    return math.erfc(-value / math.sqrt(2)) / 2


def diversity_rewards(answers: Answers) -> list[float]:
    """1 / how many answers of the group gave the same score, so that a group earns its number of different scores. Ours.

    Examples:
        >>> diversity_rewards(Answers([5, 5, 7, None], [6] * 4, ["5", "5", "7", "?"], group=4))
        [0.5, 0.5, 1.0, 0.0]
    """
    rewards = []
    for group in answers.groups():
        scores = answers.scores[group]
        counts = Counter(scores)
        rewards += [0.0 if score is None else 1 / counts[score] for score in scores]
    return rewards


def rewards_of(
    weights: Mapping[str, float],
    *,
    sigma: float,
    tolerance: float,
    slope: float = 1.0,
    tie: float = 0.5,
    custom: Mapping[str, float] | None = None,
) -> dict[str, tuple[Reward, float]]:
    """The rewards with a weight other than 0: name -> function of a step's answers, weight.

    Args:
        weights: weight of each reward of this module, by its name.
        sigma: standard deviation of ``gaussian``, as a fraction of the scale.
        tolerance: error that ``binary`` still pays, as a fraction of the scale.
        slope: steepness of ``pairwise``, per point of the scale.
        tie: difference of people's scores that ``pairwise`` still takes for a tie.
        custom: weight of each reward of the user's, by its dotted path (``package.module.function``).

    Raises:
        T2IEvalError: there is no such reward, or none has a weight.
    """
    single: dict[str, Callable[..., float]] = {
        "linear": linear_reward,
        "gaussian": partial(gaussian_reward, sigma=sigma),
        "binary": partial(binary_reward, tolerance=tolerance),
    }
    known: dict[str, Reward] = {name: partial(_each, function, False) for name, function in single.items()}
    known |= {
        "pairwise": partial(_each, partial(pairwise_reward, slope=slope, tie=tie), True),
        "format": format_rewards,
        "rank": rank_rewards,
        "length": length_rewards,
        "diversity": diversity_rewards,
    }
    chosen: dict[str, tuple[Reward, float]] = {}
    for name, weight in weights.items():
        if name not in known:
            raise T2IEvalError(f"There is no reward '{name}'; the rewards are {', '.join(known)}.")
        chosen[name] = (partial(_checked, name, known[name]), weight)
    for path, weight in (custom or {}).items():
        chosen[path] = (partial(_checked, path, _imported(path)), weight)
    chosen = {name: entry for name, entry in chosen.items() if entry[1]}
    if not chosen:
        raise T2IEvalError("No reward has a weight; give grpo.rewards at least one, as in gaussian: 1.0.")
    return chosen


def _each(
    function: Callable[[float | None, float, float, float], float], compared: bool, answers: Answers
) -> list[float | None]:
    """``function`` of each answer alone; None for those about another number of images (two where ``compared``)."""
    return [
        function(score, target, answers.low, answers.high) if answers.compares(i) == compared else None
        for i, (score, target) in enumerate(zip(answers.scores, answers.targets, strict=True))
    ]


def _imported(path: str) -> Reward:
    """The function at the dotted ``path``."""
    module, _, name = path.rpartition(".")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise T2IEvalError(
            f"The reward '{path}' cannot be imported ({error}); expected package.module.function."
        ) from error
    if not callable(function):
        raise T2IEvalError(f"The reward '{path}' is not a function of a step's answers.")
    return function  # type: ignore[no-any-return]


def _checked(name: str, reward: Reward, answers: Answers) -> list[float | None]:
    """``reward`` of ``answers``, one finite number or None per answer.

    Raises:
        T2IEvalError: the reward raises, returns another number of values, or a value that is not a finite number.
    """
    try:
        values = list(reward(answers))
    except T2IEvalError:
        raise
    except Exception as error:  # a user's own function may raise anything
        raise T2IEvalError(f"The reward '{name}' failed: {type(error).__name__}: {error}") from error
    if len(values) != len(answers.scores):
        raise T2IEvalError(
            f"The reward '{name}' returned {len(values)} values for {len(answers.scores)} answers; expected one each."
        )
    for at, value in enumerate(values):
        if value is not None and not (isinstance(value, int | float | np.number) and math.isfinite(value)):
            raise T2IEvalError(
                f"The reward '{name}' gave {value!r} for the answer {answers.texts[at]!r}; expected a finite number or None."
            )
    return [None if value is None else float(value) for value in values]


def total(rewards: Mapping[str, tuple[Reward, float]], answers: Answers) -> list[float]:
    """The weighted sum of ``rewards`` for each answer; what does not apply adds nothing."""
    sums = np.zeros(len(answers.scores))
    for reward, weight in rewards.values():
        sums += [weight * (value or 0.0) for value in reward(answers)]
    return sums.tolist()


def best_constant_reward(
    targets: Iterable[float],
    rewards: Mapping[str, tuple[Reward, float]],
    *,
    group: int = 1,
    low: float = 0.0,
    high: float = 10.0,
    compared: bool = False,
) -> tuple[float, float]:
    """The largest mean reward that one and the same score for every image can earn, and that score.

    A judge whose reward is no higher than this need not have looked at the image. Searched over 101 evenly spaced scores, on at
    most 256 of the targets, evenly spaced in their order.

    Args:
        targets: the scores to reach, at least one.
        rewards: as :func:`rewards_of` gives them.
        group: number of answers to each request.
        low: lowest score of the scale.
        high: highest score of the scale.
        compared: whether the targets are differences of two images; the constant is then one, too.

    Examples:
        >>> best_constant_reward([3, 8, 8, 8], rewards_of({"linear": 1.0}, sigma=0.2, tolerance=0.1))
        (0.875, 8.0)
    """
    ordered = np.sort(np.asarray(list(targets), dtype=float))
    kept = ordered[np.unique(np.linspace(0, len(ordered) - 1, min(len(ordered), 256)).round().astype(int))]
    repeated = np.repeat(kept, group).tolist()
    n = len(repeated)
    candidates = np.linspace(low - high if compared else low, high - low if compared else high, 101).tolist()
    means = [
        float(
            np.mean(
                total(
                    rewards,
                    Answers(
                        [score] * n, repeated, [f"{score:g}"] * n, group, low, high, [True] * n if compared else ()
                    ),
                )
            )
        )
        for score in candidates
    ]
    best = int(np.argmax(means))
    return means[best], candidates[best]
