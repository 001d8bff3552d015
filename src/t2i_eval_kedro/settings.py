"""Kedro's project settings."""

from t2i_eval_kedro.config import LOADER_ARGS, ExperimentConfigLoader
from t2i_eval_kedro.hooks import AbleStudent, KnownBenchmark, TeacherKey

HOOKS = (KnownBenchmark(), AbleStudent(), TeacherKey())

CONFIG_LOADER_CLASS = ExperimentConfigLoader
CONFIG_LOADER_ARGS = LOADER_ARGS
