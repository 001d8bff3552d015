"""All benchmarks that were ingested, read when one is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from kedro.io import DatasetError

from t2i_eval_kedro import schema
from t2i_eval_kedro.datasets.image_store import ImageStoreDataset
from t2i_eval_kedro.datasets.ingested import IngestedBenchmarksDataset
from t2i_eval_kedro.errors import T2IEvalError


def test_a_benchmark_is_read_by_its_name_and_one_that_is_not_there_is_told(tmp_path: Path) -> None:
    items = schema.ITEMS.frame(
        [{"item_id": "i", "benchmark": "mine", "prompt_id": "p", "prompt": "a cat", "generator": "g", "image": "k"}]
    )
    (tmp_path / "mine").mkdir()
    items.to_parquet(tmp_path / "mine/items.parquet")
    ImageStoreDataset(filepath=str(tmp_path / "mine/images")).save([("k", b"bytes")])
    dataset = IngestedBenchmarksDataset(filepath=str(tmp_path))
    found = dataset.load()
    assert found.names() == ["mine"]
    assert found.table("mine", "items")["prompt"].tolist() == ["a cat"]
    assert found.images("mine").keys() == ["k"]
    for ask in (lambda: found.table("yours", "items"), lambda: found.images("../mine")):
        with pytest.raises(
            T2IEvalError, match=r"There is no ingested benchmark .*there are: mine.*--pipelines=ingestion"
        ):
            ask()
    with pytest.raises(T2IEvalError, match=r"ratings\.parquet is not there"):
        found.table("mine", "ratings")
    with pytest.raises(DatasetError, match="written by the pipeline ingestion"):
        dataset.save("anything")
