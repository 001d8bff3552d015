"""Kedro's project settings."""

from t2i_eval_kedro.config import ExperimentConfigLoader
from t2i_eval_kedro.hooks import KnownBenchmark, TeacherKey

HOOKS = (KnownBenchmark(), TeacherKey())

CONFIG_LOADER_CLASS = ExperimentConfigLoader
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    # An environment states what differs, not the whole tree of a group of parameters.
    "merge_strategy": {"parameters": "soft"},
}
