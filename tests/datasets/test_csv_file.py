"""Tables for people as CSV: what is saved is what is loaded."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from kedro.io import DatasetError

from t2i_eval_kedro.datasets.files import CsvFile


def test_a_bin_named_n_a_stays_a_text_and_an_empty_cell_is_a_null(tmp_path: Path) -> None:
    file = CsvFile(filepath=str(tmp_path / "table.csv"))
    file.save(pd.DataFrame({"bin": ["9-10", "N/A", "null", None], "share": [0.1, 1 / 3, 1e-300, float("nan")]}))
    loaded = file.load()
    assert loaded["bin"].iloc[:3].tolist() == ["9-10", "N/A", "null"]
    assert loaded["bin"].isna().tolist() == [False, False, False, True]
    assert loaded["share"].iloc[:3].tolist() == [0.1, 1 / 3, 1e-300]  # to the last bit


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    assert CsvFile(filepath=str(tmp_path / "none.csv"), optional=True).load().empty
    with pytest.raises(DatasetError, match="run `kedro run --pipelines=sft` first"):
        CsvFile(filepath=str(tmp_path / "none.csv"), made_by="sft").load()
