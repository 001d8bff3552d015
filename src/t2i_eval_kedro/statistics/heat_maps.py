"""Figures of saliency research for heat maps: KLD, CC, SIM, NSS and AUC-Judd, as RichHF-18K's paper reports them (Liang et al., CVPR 2024).

They are defined where the true map is not empty; on empty ones the paper reports the mean squared error alone. What the sources leave open and
we decided: the pixels of at least half of a map's maximum are what is fixated; a predicted map that is the same everywhere tells nothing,
so it counts as the uniform distribution (CC and NSS 0, AUC .5); AUC is the exact area, a tie counts one half.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from t2i_eval_kedro.statistics.estimates import Json

Map = npt.NDArray[np.float64]

EPSILON = float(np.finfo(float).eps)  # as the MIT saliency benchmark's code has it
FIXATED = 0.5
NAMES = ("kld", "cc", "sim", "nss", "auc_judd")


def heat_map_figures(pairs: Iterable[tuple[npt.ArrayLike, npt.ArrayLike]]) -> Json:
    """The figures of many predicted maps, each the mean over images.

    Args:
        pairs: (true, predicted) map, each (height, width), 0 to 1.

    Returns:
        ``n``, ``n_empty`` (true maps without any heat), ``n_constant`` (predicted maps that are the same everywhere, of the others), ``mse``
        over all images, ``mse_empty`` over the empty ones, and `NAMES` over the others; null where there is none.
    """
    errors: list[float] = []
    errors_empty: list[float] = []
    rows: list[dict[str, float]] = []
    n_constant = 0
    for true, predicted in pairs:
        a, b = np.asarray(true, dtype=float), np.asarray(predicted, dtype=float)
        errors.append(float(np.mean((a - b) ** 2)))
        if not a.any():
            errors_empty.append(errors[-1])
            continue
        n_constant += bool(np.ptp(b) == 0)
        rows.append(map_figures(a, b))
    out: Json = {"n": len(errors), "n_empty": len(errors_empty), "n_constant": n_constant}
    out |= {"mse": _mean(errors), "mse_empty": _mean(errors_empty)}
    return out | {name: _mean([row[name] for row in rows]) for name in NAMES}


def map_figures(true: Map, predicted: Map) -> dict[str, float]:
    """KLD, CC, SIM, NSS and AUC-Judd of one predicted map against a true one that is not empty.

    Raises:
        ValueError: the maps differ in shape, hold what is no finite number of 0 or more, or the true one is empty.
    """
    if true.shape != predicted.shape:
        raise ValueError(f"a true map of {true.shape} and a predicted one of {predicted.shape} pixels")
    if not (np.isfinite(true).all() and np.isfinite(predicted).all() and true.min() >= 0 and predicted.min() >= 0):
        raise ValueError("a map holds a negative value or one that is not a number")
    if not true.any():
        raise ValueError("the true map is empty")
    constant = np.ptp(predicted) == 0
    p = true / true.sum()
    q = np.full(true.shape, 1 / true.size) if constant else predicted / predicted.sum()
    fixated = true >= FIXATED * true.max()
    return {
        "kld": float(np.sum(p * np.log(EPSILON + p / (EPSILON + q)))),
        "cc": 0.0 if constant or np.ptp(true) == 0 else float(np.corrcoef(true.ravel(), predicted.ravel())[0, 1]),
        "sim": float(np.minimum(p, q).sum()),
        "nss": 0.0 if constant else float(((predicted - predicted.mean()) / predicted.std())[fixated].mean()),
        "auc_judd": _auc(predicted[fixated], predicted[~fixated]),
    }


def _auc(positive: npt.NDArray[Any], negative: npt.NDArray[Any]) -> float:
    """The probability that a fixated pixel is hotter than another, a tie counting one half; .5 where all pixels are fixated."""
    if not len(negative):
        return 0.5
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, "left") + np.searchsorted(ordered, positive, "right")
    return float(below.mean() / (2 * len(negative)))


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None
