"""Which weights of a composite score change the winner?"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from t2i_eval_kedro.errors import T2IEvalError


def simplex(parts: int, steps: int) -> list[tuple[float, ...]]:
    """All weights that are whole multiples of ``1 / steps`` and sum to 1, in lexicographic order."""
    cuts = itertools.combinations(range(steps + parts - 1), parts - 1)
    return [
        tuple((b - a - 1) / steps for a, b in itertools.pairwise((-1, *cut, steps + parts - 1)))  # stars and bars
        for cut in cuts
    ]


def weight_sweep(
    entries: Mapping[str, Sequence[float]], names: Sequence[str], reference: Sequence[float], steps: int = 20
) -> dict[str, Any]:
    """Sweep the weights of a composite score and see who wins.

    Args:
        entries: name -> its component figures, in the order of ``names``.
        names: names of the components, such as ``("SRCC", "PLCC", "ACC")``.
        reference: official weights, such as NTIRE 2025's ``(0.25, 0.25, 0.5)``.
        steps: number of steps; weights are multiples of ``1 / steps``.

    Returns:
        ``reference``: weights, scores and winners at the official weights; ``winners``: name -> fraction of all weights at
        which it wins (a shared win counts for each); ``nearest_change``: the weights nearest to the official ones
        (largest single change, then the sum of changes) at which another entry wins, or None.

    Raises:
        T2IEvalError: no entry, or an entry with a wrong number of components or an undefined one.
    """
    if not entries:
        raise T2IEvalError("A sweep over weights needs at least one entry.")
    for name, values in entries.items():
        if len(values) != len(names) or not np.isfinite(values).all():
            raise T2IEvalError(
                f"Entry '{name}' needs {len(names)} finite figures ({', '.join(names)}), not {list(values)}."
            )
    labels = list(entries)
    table = np.array([entries[name] for name in labels], dtype=float)
    grid = np.array(simplex(len(names), steps))
    wins = _winners(grid @ table.T)
    official = np.asarray(reference, dtype=float)
    scores = table @ official
    best = _winners(scores[None, :])[0]
    changed = np.flatnonzero((wins & ~best).any(axis=1) & ~(wins & best).any(axis=1))
    nearest = None
    if len(changed):
        move = np.abs(grid[changed] - official)
        at = changed[np.lexsort((move.sum(axis=1).round(12), move.max(axis=1).round(12)))[0]]
        nearest = {
            "weights": dict(zip(names, grid[at].tolist(), strict=True)),
            "winners": [name for name, won in zip(labels, wins[at], strict=True) if won],
        }
    return {
        "reference": {
            "weights": dict(zip(names, official.tolist(), strict=True)),
            "scores": dict(zip(labels, scores.tolist(), strict=True)),
            "winners": [name for name, won in zip(labels, best, strict=True) if won],
        },
        "winners": dict(zip(labels, wins.mean(axis=0).tolist(), strict=True)),
        "nearest_change": nearest,
    }


def _winners(scores: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.asarray(scores >= scores.max(axis=1, keepdims=True) - 1e-12)
