"""Evens out the scores that the student learns from."""

from __future__ import annotations

import pandas as pd

from t2i_eval_kedro.training.rebalancing import rebalance
from t2i_eval_kedro.training.settings import RebalancingSettings


def balance(examples: pd.DataFrame, settings: RebalancingSettings, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The examples to train on, and a table of how many there were in each score bin before and after."""
    return rebalance(
        examples,
        method=settings.method,
        seed=settings.seed + seed,
        repeats=settings.repeats,
        split_pairs=settings.split_pairs,
    )
