from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest
from kedro_project import make_project

pytest_plugins = ["random_model", "wordings"]  # fixtures that several parts share

# A machine that is busy with something else is no failure, and a test fails by a change of the code, not by the examples that it happened
# to draw; --hypothesis-profile=default draws others.
hypothesis.settings.register_profile("project", deadline=None, derandomize=True)
hypothesis.settings.load_profile("project")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path)


@pytest.fixture(scope="session")
def excerpts() -> Path:
    """Excerpts of real benchmarks, one folder each, laid out as the whole files are."""
    return Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    folder = os.environ.get("T2I_EVAL_SHARED_DATA")
    if not folder:
        pytest.skip("T2I_EVAL_SHARED_DATA is not set: there is no real benchmark data to read")
    return Path(folder)
