"""Is one judge better than another? Paired tests, and corrections for many pairs.

**Default**: a prompt-level (clustered) paired permutation test, two-sided, Monte Carlo: the judges' labels are exchanged at
random for whole prompts. The target of inference is new prompts, with the generators fixed. Under the null hypothesis the judges are exchangeable, so their scores are first put on one
scale (mid-ranks, or z-scores for Pearson's correlation). Statistics within prompts are not changed by a common scale;
there the two values of a prompt are exchanged.

**For comparison**: generator-level permutation (target: new generators), item-level permutation (PERM-BOTH: Deutsch, Dror
and Roth 2021, "A Statistical Analysis of Summarization Evaluation Metrics Using Resampling Methods"), the sign test
over prompts, and the tests of two dependent correlations of Williams and of Steiger, which take items as independent.

A Monte-Carlo p-value is ``(b + 1) / (B + 1)`` with ``b`` of ``B`` permutations at least as extreme as the observed difference
(Davison and Hinkley 1997, "Bootstrap Methods and their Application", section 4.2), two-sided; its standard error is
``sqrt(p (1 - p) / (B + 1))``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

from t2i_eval_kedro.statistics.kernels import Floats, Ints, RankSums, unit_scaled
from t2i_eval_kedro.statistics.pooled import integer_product
from t2i_eval_kedro.statistics.prompt_permutation import ExchangeTable, exchanged_sums

MIN_PROMPTS = 7
"""Fewest prompts for a p-value. A two-sided p of all exchanges of G prompts is a multiple of 2 / 2^G: with 5 prompts none is below
5%, with 6 a test at 5% rejects 3.1% of true hypotheses, with 7 it rejects 4.7%. Simulated (``perf/results/coverage.json``): 3.8% to 6.1%."""

MIN_PROMPTS_WITHIN = 15
"""Fewest prompts for a p-value of an average within prompts: with few images a prompt its values are so few that exchanges often tie
with what was observed, and the test rejects 1.1% of true hypotheses with 7 prompts, 2.3% with 10, 4.0% with 15 (the same simulation)."""


def one_scale(values: Floats, statistic: str) -> Floats:
    """Scores as mid-ranks, or as z-scores for Pearson's correlation, so that two judges' scores can be exchanged."""
    if statistic == "pearson":
        values = unit_scaled(values)
        deviation = values - values.mean()
        largest = np.abs(deviation).max(initial=0.0)
        if largest == 0:
            return np.zeros_like(values)
        deviation = deviation / largest  # first, so that squares neither vanish nor overflow
        return np.asarray(deviation / np.sqrt((deviation * deviation).mean()))
    return np.asarray(stats.rankdata(values), dtype=float)


def random_exchanges(groups: int, permutations: int, seed: int) -> npt.NDArray[np.int8]:
    """``(permutations, groups)`` of 0 and 1: whether the judges' labels are exchanged in a group, with probability one half.

    Where there are no more than ``permutations`` different exchanges, it is each of them once, but for the one that exchanges nothing:
    the p-value is then exact.
    """
    if 2**groups <= permutations + 1:
        every = np.arange(1, 2**groups)[:, None] >> np.arange(groups)
        return (every & 1).astype(np.int8)
    return np.random.default_rng(seed).integers(0, 2, size=(permutations, groups), dtype=np.int8)


class PairedPermutation:
    """Random exchanges of two judges' labels in groups of items, laid out once for any number of pairs of judges."""

    def __init__(self, table: npt.NDArray[np.integer]) -> None:
        """Lay out ``table``, ``(permutations, groups)`` of 0 and 1, as :func:`random_exchanges` makes it."""
        self.table = ExchangeTable.of(table)
        self.exhaustive = len(table) == 2 ** min(table.shape[1], 62) - 1
        self.signs = (1 - 2 * table.astype(np.int8)).astype(np.int8)

    def pooled(
        self,
        a: Floats,
        b: Floats,
        ratings: Floats,
        group: Ints,
        names: Sequence[str] = ("spearman", "kendall_b", "pearson"),
    ) -> dict[str, Floats]:
        """Differences of statistics over all items after the labels of whole groups were exchanged, ``(permutations,)`` each.

        Args:
            a: ``(n,)`` scores of the first judge.
            b: ``(n,)`` scores of the second.
            ratings: ``(n,)``.
            group: ``(n,)`` column of the table for each item.
            names: statistics, any of ``spearman``, ``kendall_b``, ``kendall_c``, ``pearson``, ``pairwise_accuracy``.
        """
        out: dict[str, Floats] = {}
        ranked = [name for name in names if name != "pearson"]
        if ranked:
            sides = exchanged_sums(one_scale(a, "rank"), one_scale(b, "rank"), ratings, group, self.table)
            for name in ranked:
                first, second = (_of_side(side, name) for side in sides)
                out[name] = first - second
        if "pearson" in names:
            out["pearson"] = self._pearson(one_scale(a, "pearson"), one_scale(b, "pearson"), ratings, group)
        return out

    def _pearson(self, a: Floats, b: Floats, ratings: Floats, group: Ints) -> Floats:
        """Differences of Pearson's correlation: sums by group, and one product with the signs."""
        y = one_scale(ratings, "pearson")
        moments = [np.column_stack([v, v * v, v * y]) for v in (a, b)]
        total, changes = moments[0] + moments[1], (moments[0] - moments[1]).T
        groups = self.signs.shape[1]
        change = np.column_stack([np.bincount(group, weights=column, minlength=groups) for column in changes])
        # Each side holds half of the total, and plus or minus half of what the signs make of the changes.
        half, moved = total.sum(axis=0) / 2, integer_product(self.signs, change) / 2
        n, correlations = len(y), []
        for side in (1, -1):
            s, square, product = (half + side * moved).T
            spread = square - s * s / n
            with np.errstate(divide="ignore", invalid="ignore"):
                r = np.where(spread > 1e-12 * n, product / np.sqrt(spread * n), np.nan)
            correlations.append(np.clip(r, -1, 1))
        return np.asarray(correlations[0] - correlations[1])

    def p_value(self, observed: float, null: Floats) -> tuple[float, float]:
        """:func:`p_value`, whose standard error is 0 where every exchange was visited."""
        p, error = p_value(observed, null)
        return p, 0.0 if self.exhaustive else error

    def grouped(self, a: Floats, b: Floats) -> Floats:
        """Differences of the mean over groups after the values of whole groups were exchanged, ``(permutations,)``.

        Args:
            a: ``(groups,)`` the first judge's statistic within each group; a group that either judge lacks is left out.
            b: ``(groups,)`` the second's.
        """
        gap = a - b
        kept = np.isfinite(gap)
        if not kept.any():
            return np.full(len(self.signs), np.nan)
        return np.asarray(integer_product(self.signs, np.where(kept, gap, 0.0)) / kept.sum())


def _of_side(sums: RankSums, name: str) -> Floats:
    if name == "pairwise_accuracy":
        return sums.pairwise_accuracy(np.zeros_like(sums.n))
    return np.asarray(getattr(sums, name)())


def p_value(observed: float, null: Floats) -> tuple[float, float]:
    """Two-sided Monte-Carlo p-value of ``observed`` among the permuted values ``null``, and its standard error.

    An undefined value counts as extreme, so that it can only make the test more cautious.
    """
    # A permutation that repeats the observed arrangement must count, whatever its rounding.
    extreme = int(np.count_nonzero(~(np.abs(null) < abs(observed) - 1e-12)))
    p = (extreme + 1) / (len(null) + 1)
    return p, float(np.sqrt(p * (1 - p) / (len(null) + 1)))


def sign_test(a: Floats, b: Floats) -> float:
    """Two-sided sign test over groups: in how many is the first judge's value the higher? Ties are left out."""
    gap = (a - b)[np.isfinite(a - b)]
    wins, losses = int((gap > 0).sum()), int((gap < 0).sum())
    return float(stats.binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def williams(r_ay: float, r_by: float, r_ab: float, n: int) -> float:
    """Two-sided p-value of Williams' test that two correlations with the same variable are equal.

    Williams (1959); Steiger (1980), "Tests for Comparing Elements of a Correlation Matrix", equation 7. NaN where
    undefined.

    Args:
        r_ay: correlation of the first judge with the ratings.
        r_by: correlation of the second.
        r_ab: correlation of the judges.
        n: number of items, taken as independent.
    """
    if n <= 3 or not np.isfinite([r_ay, r_by, r_ab]).all() or abs(r_ab) >= 1:
        return float("nan")
    determinant = 1 - r_ay**2 - r_by**2 - r_ab**2 + 2 * r_ay * r_by * r_ab
    mean = (r_ay + r_by) / 2
    bottom = 2 * determinant * (n - 1) / (n - 3) + mean**2 * (1 - r_ab) ** 3
    if bottom <= 0:
        return float("nan")
    t = (r_ay - r_by) * np.sqrt((n - 1) * (1 + r_ab) / bottom)
    return float(2 * stats.t.sf(abs(t), n - 3))


def steiger(r_ay: float, r_by: float, r_ab: float, n: int) -> float:
    """Two-sided p-value of Steiger's Z for the same question as :func:`williams` (Steiger 1980, equation 14).

    NaN where undefined.
    """
    if n <= 3 or not np.isfinite([r_ay, r_by, r_ab]).all() or max(abs(r_ay), abs(r_by), abs(r_ab)) >= 1:
        return float("nan")
    mean = (r_ay + r_by) / 2
    covariance = r_ab * (1 - 2 * mean**2) - 0.5 * mean**2 * (1 - 2 * mean**2 - r_ab**2)
    correlated = covariance / (1 - mean**2) ** 2
    if correlated >= 1:
        return float("nan")
    z = (np.arctanh(r_ay) - np.arctanh(r_by)) * np.sqrt((n - 3) / (2 - 2 * correlated))
    return float(2 * stats.norm.sf(abs(z)))


def holm(p: Sequence[float]) -> list[float]:
    """Holm (1979) step-down adjusted p-values; they control the family-wise error rate."""
    from statsmodels.stats.multitest import multipletests  # slow to import

    return [float(value) for value in multipletests(p, method="holm")[1]] if len(p) else []


def benjamini_hochberg(p: Sequence[float]) -> list[float]:
    """Benjamini and Hochberg (1995) adjusted p-values; they control the false discovery rate."""
    return [float(value) for value in stats.false_discovery_control(np.asarray(p, dtype=float))] if len(p) else []


def rank_clusters(
    values: Mapping[str, float], p: Mapping[tuple[str, str], float], alpha: float = 0.05
) -> dict[str, int]:
    """Ranks of judges that share a rank until one is significantly worse than a judge of that rank.

    From the best down: a judge opens the next rank when it differs significantly from any judge of the current one, as
    in the WMT metrics tasks.

    Args:
        values: judge -> its statistic.
        p: pair of judges (either order) -> adjusted p-value; a pair that is not there is not significant.
        alpha: level of significance.
    """
    ranks: dict[str, int] = {}
    current: list[str] = []
    rank = 0
    for name in sorted(values, key=lambda judge: (-values[judge], judge)):
        differs = any(p.get((name, other), p.get((other, name), 1.0)) < alpha for other in current)
        if not current or differs:
            rank, current = rank + 1, []
        current.append(name)
        ranks[name] = rank
    return ranks
