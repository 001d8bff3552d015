"""Kedro's project settings."""

from t2i_eval_kedro.config import LOADER_ARGS, ExperimentConfigLoader
from t2i_eval_kedro.hooks import AbleStudent, KnownBenchmark, KnownEvidence, TeacherKey

HOOKS = (KnownBenchmark(), KnownEvidence(), AbleStudent(), TeacherKey())

CONFIG_LOADER_CLASS = ExperimentConfigLoader
CONFIG_LOADER_ARGS = LOADER_ARGS
