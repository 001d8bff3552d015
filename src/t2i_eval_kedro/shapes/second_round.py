"""A second round of rating where raters were far apart, simulated.

Source: EvalMuse-40K (arXiv 2412.18150): items on which annotators' scores lay 1 or more apart, on a scale from 1 to 5, were annotated
again. How the rounds were combined is not public. Ours: the distance is a share of the scale, the same raters look once
more, and what they say then takes the place of what they said.
"""

from __future__ import annotations

import json
from zlib import crc32

import numpy as np
import pandas as pd

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.schema import RATINGS
from t2i_eval_kedro.shapes.raters import PANELS

DISPUTED = 0.25
"""Distance between two raters from which an item is disputed, as a share of the scale: 1 of 1 to 5."""
_AGAIN = 6  # first word of the random streams; those of the first round are in `make`


def disputed(ratings: pd.DataFrame, threshold: float = DISPUTED) -> pd.Series:
    """Whether each row of the canonical table ``ratings`` is of an item and dimension whose raters lie ``threshold`` apart or more."""
    groups = ratings.groupby(["item_id", "dimension"])["score"]
    apart = groups.transform("max") - groups.transform("min")
    return apart >= threshold * (ratings["scale_max"] - ratings["scale_min"]) - 1e-9


def second_round(
    items: pd.DataFrame, ratings: pd.DataFrame, threshold: float = DISPUTED, seed: int = 0
) -> pd.DataFrame:
    """``ratings`` with the disputed ones given anew by the same simulated raters.

    Args:
        items: canonical table of a synthetic benchmark, whose attributes hold the truth that its raters see.
        ratings: canonical table of the first round.
        threshold: see :func:`disputed`.
        seed: random seed of the second look.

    Raises:
        T2IEvalError: a rater is none of the simulated ones, or an item holds no truth.
    """
    raters = {rater.rater_id: rater for panel in PANELS.values() for rater in panel}
    unknown = sorted(set(ratings["rater_id"]) - set(raters))
    if unknown:
        raise T2IEvalError(
            f"Rater '{unknown[0]}' is not simulated, so nobody can be asked again; set examples.second_round to null, and put the "
            "ratings of a second round of your own into ratings.csv in place of the first."
        )
    again = disputed(ratings, threshold)
    asked = ratings[again].merge(items[["item_id", "attributes"]], on="item_id", how="left", validate="many_to_one")
    if asked["attributes"].isna().any():
        raise T2IEvalError("An item without truth cannot be rated again (examples.second_round); only shapes can.")
    once = asked.drop_duplicates("item_id")
    truth = {item: json.loads(text)["truth"] for item, text in zip(once["item_id"], once["attributes"], strict=True)}
    scores = [
        raters[rater].score(
            dimension,
            truth[item][dimension],
            np.random.default_rng([seed, _AGAIN, crc32(f"{item}:{rater}:{dimension}".encode())]),
        )
        for item, rater, dimension in zip(asked["item_id"], asked["rater_id"], asked["dimension"], strict=True)
    ]
    out = ratings.copy()
    out.loc[again, "score"] = scores
    return RATINGS.check(out)
