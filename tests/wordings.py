"""The wordings of the configuration, for every test that asks a judge."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from t2i_eval_kedro.judging.protocols import Wording
from t2i_eval_kedro.judging.protocols.wording import WordingSettings

CONF = Path(__file__).parents[1] / "conf" / "base"


def read_wording(name: str) -> Wording:
    settings = yaml.safe_load((CONF / "parameters_judging.yml").read_text())["judging"]["wordings"]
    return Wording.load(CONF / "prompts", name, WordingSettings(**settings[name]))


@pytest.fixture(scope="session")
def load_wording() -> Callable[[str], Wording]:
    return read_wording


@pytest.fixture(scope="session", params=["compact", "full"])
def wording(request: pytest.FixtureRequest, load_wording: Callable[[str], Wording]) -> Wording:
    return load_wording(request.param)


@pytest.fixture(scope="session")
def compact(load_wording: Callable[[str], Wording]) -> Wording:
    return load_wording("compact")


@pytest.fixture(scope="session")
def full(load_wording: Callable[[str], Wording]) -> Wording:
    return load_wording("full")
