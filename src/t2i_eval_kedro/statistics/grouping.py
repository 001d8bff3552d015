"""Statistics within groups of items (a prompt's images, a generator's, a skill's) and their averages.

Groups that are too small are suppressed, groups in which the statistic is not defined are left out of the average, and
both are counted. The average is the plain mean over groups; the Fisher mean is ``tanh(mean(arctanh(r)))`` and exists
only where no group has ``|r| = 1``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from t2i_eval_kedro.statistics.kernels import Counts, Floats, Ints, RankSums
from t2i_eval_kedro.statistics.pooled import Weights, integer_product, pooled_statistics

GROUPED_STATISTICS = ("spearman", "kendall_b", "pearson", "pairwise_accuracy")
"""The statistics that are computed within groups."""

MAX_VISITED = 2000
"""Most items of a group whose pairs are visited one by one."""

MIN_GROUP = 3
"""Default number of items below which a group is suppressed."""


@dataclass(frozen=True)
class Groups:
    """Groups of items by name; an item may be in several groups or in none.

    Attributes:
        names: ``(G,)``.
        members: ``G`` arrays of item positions.
    """

    names: tuple[str, ...]
    members: tuple[Ints, ...]

    @staticmethod
    def by_code(codes: Ints, names: Iterable[str] | None = None) -> Groups:
        """One group a code; negative codes are in no group."""
        labels = tuple(names) if names is not None else tuple(map(str, range(int(codes.max(initial=-1)) + 1)))
        order = np.argsort(codes, kind="stable")
        edges = np.searchsorted(codes[order], np.arange(len(labels) + 1))
        return Groups(labels, tuple(order[edges[g] : edges[g + 1]] for g in range(len(labels))))

    @staticmethod
    def by_labels(labels: Iterable[Iterable[str]]) -> Groups:
        """One group a label; ``labels`` has the labels of every item, of which there may be none or several."""
        positions: dict[str, list[int]] = {}
        for position, names in enumerate(labels):
            for name in set(names):
                positions.setdefault(name, []).append(position)
        chosen = tuple(sorted(positions))
        return Groups(chosen, tuple(np.array(positions[name], dtype=np.int64) for name in chosen))


@dataclass(frozen=True)
class Average:
    """An average of a statistic over groups.

    Attributes:
        mean: plain mean over the groups in which the statistic is defined.
        fisher: Fisher mean; NaN where a group has |r| = 1, and for accuracies.
        groups: groups averaged.
        suppressed: groups with fewer items than allowed.
        undefined: groups, large enough, in which the statistic is not defined.
    """

    mean: float
    fisher: float
    groups: int
    suppressed: int
    undefined: int


def statistics_within_groups(x: Floats, y: Floats, groups: Groups) -> dict[str, Floats]:
    """Each of :data:`GROUPED_STATISTICS` within each group, ``(G,)``; NaN where undefined.

    Every pair of items of a small group is visited once; large groups are sorted instead.
    """
    large = [g for g, m in enumerate(groups.members) if len(m) > MAX_VISITED]
    if large:
        small = tuple(m[:0] if len(m) > MAX_VISITED else m for m in groups.members)
        out = statistics_within_groups(x, y, Groups(groups.names, small))
        one = Weights(np.ones((1, 1), dtype=np.int64))
        for g in large:
            m = groups.members[g]
            values = pooled_statistics(x[m], y[m], np.zeros(len(m), dtype=np.int64), one, GROUPED_STATISTICS)
            for name, by_group in out.items():
                by_group[g] = values[name][0]
        return out
    sizes = np.array([len(m) for m in groups.members], dtype=np.int64)
    starts = np.r_[0, np.cumsum(sizes)]
    order = np.concatenate(groups.members) if len(groups.members) else np.zeros(0, dtype=np.int64)
    sums = np.zeros((10, len(sizes)))
    moments = np.zeros(len(sizes))
    _pairs(np.ascontiguousarray(x[order]), np.ascontiguousarray(y[order]), starts, sums, moments)
    ranks = RankSums(*sums)
    return {
        "spearman": ranks.spearman(),
        "kendall_b": ranks.kendall_b(),
        "pearson": moments,
        "pairwise_accuracy": ranks.pairwise_accuracy(np.zeros(len(sizes))),
    }


def average(values: Floats, sizes: Ints, statistic: str, min_group: int = MIN_GROUP) -> Average:
    """Average ``(G,)`` values of groups of ``sizes`` items."""
    large = sizes >= min_group
    defined = large & np.isfinite(values)
    chosen = values[defined]
    mean = float(chosen.mean()) if len(chosen) else float("nan")
    correlation = statistic != "pairwise_accuracy"
    fisher = fisher_mean(chosen) if correlation else float("nan")
    return Average(mean, fisher, int(defined.sum()), int((~large).sum()), int((large & ~defined).sum()))


def fisher_mean(values: Floats) -> float:
    """``tanh(mean(arctanh(r)))``; NaN where a value is 1 or -1, whose arctanh is infinite, or where there is none."""
    if len(values) == 0 or np.any(np.abs(values) >= 1 - 1e-12):
        return float("nan")
    return float(np.tanh(np.arctanh(values).mean()))


def resampled_average(values: Floats, usable: npt.NDArray[np.bool_], counts: Counts) -> Floats:
    """Plain mean over groups, each group counted ``counts`` times, ``(resamples,)``; for groups that are resampled whole.

    Args:
        values: ``(G,)`` statistic within each group.
        usable: ``(G,)`` groups that are large enough.
        counts: ``(resamples, G)`` times that each group was drawn.
    """
    defined = usable & np.isfinite(values)
    columns = np.column_stack([np.where(defined, values, 0.0), defined.astype(float)])
    total, number = integer_product(counts, columns).T
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(total / number)


def resampled_within_groups(
    x: Floats, y: Floats, row: Ints, groups: Groups, weights: Weights, names: tuple[str, ...] = GROUPED_STATISTICS
) -> dict[str, Floats]:
    """Statistics within every group under every weighting, each ``(weightings, G)``; for groups that resamples cut across."""
    columns = [pooled_statistics(x[m], y[m], row[m], weights, names) for m in groups.members]
    empty = np.zeros((weights.n_weightings, 0))
    return {name: np.column_stack([c[name] for c in columns]) if columns else empty for name in names}


@numba.njit(cache=True)
def _pairs(x, y, starts, sums, moments):  # type: ignore[no-untyped-def]
    for g in range(len(starts) - 1):
        begin, end = starts[g], starts[g + 1]
        n = end - begin
        tied_x = tied_y = tied_xy = discordant = 0
        values_x = values_y = n
        cross = square_x = square_y = 0
        for i in range(begin, end):
            rank_x = rank_y = 0
            again_x = again_y = False
            for j in range(begin, end):
                if j == i:
                    continue
                dx = (x[i] > x[j]) - (x[i] < x[j])
                dy = (y[i] > y[j]) - (y[i] < y[j])
                rank_x += dx
                rank_y += dy
                if j < i:
                    if dx == 0:
                        tied_x += 1
                        again_x = True
                    if dy == 0:
                        tied_y += 1
                        again_y = True
                    if dx == 0 and dy == 0:
                        tied_xy += 1
                    if dx * dy < 0:
                        discordant += 1
            values_x -= again_x
            values_y -= again_y
            cross += rank_x * rank_y
            square_x += rank_x * rank_x
            square_y += rank_y * rank_y
        sums[0, g], sums[1, g], sums[2, g], sums[3, g], sums[4, g] = n, tied_x, tied_y, tied_xy, discordant
        sums[5, g], sums[6, g], sums[7, g], sums[8, g], sums[9, g] = values_x, values_y, cross, square_x, square_y
        moments[g] = np.nan
        if values_x > 1 and values_y > 1:
            mean_x, mean_y = x[begin:end].mean(), y[begin:end].mean()
            top_x, top_y = np.abs(x[begin:end] - mean_x).max(), np.abs(y[begin:end] - mean_y).max()
            xy = xx = yy = 0.0
            for i in range(begin, end):
                u, v = (x[i] - mean_x) / top_x, (y[i] - mean_y) / top_y
                xy += u * v
                xx += u * u
                yy += v * v
            moments[g] = min(1.0, max(-1.0, xy / np.sqrt(xx * yy)))
