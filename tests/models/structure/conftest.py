from __future__ import annotations

from pathlib import Path

import pytest
from structure_models import write_backbones


@pytest.fixture(scope="package")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_backbones(tmp_path_factory.mktemp("backbones"))
