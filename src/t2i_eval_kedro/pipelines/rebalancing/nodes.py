"""Evens out the scores that the student learns from."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pandas as pd

from t2i_eval_kedro.judging.evaluators import JudgingSettings, load_templates
from t2i_eval_kedro.judging.protocols.registry import PROTOCOLS, build
from t2i_eval_kedro.training.examples import require_protocols
from t2i_eval_kedro.training.rebalancing import rebalance
from t2i_eval_kedro.training.settings import RebalancingSettings


def balance(
    examples: pd.DataFrame,
    prompts: Mapping[str, Callable[[], str]],
    judging: JudgingSettings,
    settings: RebalancingSettings,
    seed: int,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The examples to train on, and a table of how many there were in each score bin before and after.

    They must be written in the words that the student will be asked with.
    """
    wording = judging.load_wording(load_templates(prompts))
    labels = {build(name, wording, judging.options).label for name in PROTOCOLS}
    seeded = settings.model_copy(update={"seed": settings.seed + seed})
    return rebalance(require_protocols(examples, labels), **seeded.model_dump())
