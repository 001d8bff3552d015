from __future__ import annotations

import os
from pathlib import Path

import pytest
from kedro_project import make_project


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    folder = os.environ.get("T2I_EVAL_SHARED_DATA")
    if not folder:
        pytest.skip("T2I_EVAL_SHARED_DATA is not set: there is no real benchmark data to read")
    return Path(folder)
