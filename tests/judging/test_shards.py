"""The engine over Ray Data on a local Ray: real actors, the embedded model, shards on disk."""

from __future__ import annotations

import json
import os
import signal
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from plain_settings import settings_of

from t2i_eval_kedro.datasets.answer_store import AnswerStore
from t2i_eval_kedro.datasets.image_store import ImageStore, write_image_store
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.backends.base import Backend
from t2i_eval_kedro.judging.engine import judge
from t2i_eval_kedro.judging.evaluators import JudgingSettings
from t2i_eval_kedro.judging.local_models import open_backend
from t2i_eval_kedro.judging.protocols import Answer, EvaluationItem, Levels, Request, Wording
from t2i_eval_kedro.judging.shards import BatchImages, actors_for, judge_shards, on_ray
from t2i_eval_kedro.models.processors import ImageSource as AnyImages
from t2i_eval_kedro.models.settings import ModelSettings
from t2i_eval_kedro.shapes.make import make_shapes

CONF = Path(__file__).parents[2] / "conf" / "base"
MODEL = settings_of(ModelSettings, model=str(Path(__file__).parents[2] / "data/06_models/tiny_vlm"), device="cpu")


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def settings(**changed: object) -> JudgingSettings:
    given = yaml.safe_load((CONF / "parameters_judging.yml").read_text())["judging"]
    return JudgingSettings.model_validate(given | changed)


def backend_of(batch_size: int) -> Callable[[AnyImages], Backend]:
    """A partial of a function of the package, which the actors can import; they cannot import this file."""
    return partial(open_backend, MODEL, None, judging=settings(batch_size=batch_size))


@pytest.mark.slow
def test_two_workers_give_the_tables_of_one_process(cluster: None, tmp_path: Path, compact: Wording) -> None:
    shapes = make_shapes(8)
    write_image_store(tmp_path / "store", shapes.images, shard_bytes=20_000)
    store = ImageStore(tmp_path / "store")
    assert len(store.shards()) > 2
    asked = [
        EvaluationItem(row.item_id, row.prompt, row.image, {"overall": "", "appearance": ""})
        for row in shapes.items.itertuples()
    ][::-1]
    free = judge(asked, Levels(compact), backend_of(16)(store), name="x")
    outside = [json.loads(usage)["out_of_vocabulary_mass"] for usage in free.transcripts["usage"]]
    limit = float(np.median(outside))  # untrained, the model gives the levels little, some images less than others
    alone = judge(asked, Levels(compact), backend_of(16)(store), name="x", max_out_of_vocabulary=limit)
    assert 0 < alone.scores["score"].isna().sum() < len(alone.scores)
    # Eight workers would take every processor, and two are what three processors leave room for.
    answers = str(tmp_path / "answers.sqlite")
    judging = settings(ray_workers=8, batch_size=7, answers=answers, max_out_of_vocabulary=limit)
    said = on_ray(MODEL, None, store, judging)(asked, Levels(compact), "x")
    # Scores run from 0 to 10, and other batches round otherwise: equal to 1e-5 of the scale.
    pd.testing.assert_frame_equal(said.scores, alone.scores, atol=1e-4, rtol=0)
    pd.testing.assert_frame_equal(said.transcripts.drop(columns="usage"), alone.transcripts.drop(columns="usage"))
    assert len(said.element_scores) == 0
    (kept,) = tmp_path.glob("answers_*.sqlite")
    assert len(AnswerStore(kept)) == len(asked) * 2


class Dying:
    """A judge whose process dies over its first batch, as where memory runs out, once for all processes."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        if not self._marker.exists():
            self._marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        for i, request in enumerate(requests):
            yield i, Answer(str(zlib.crc32(request.messages[0].text.encode()) % 10))


@pytest.mark.slow
def test_a_worker_that_dies_is_replaced_and_nothing_is_lost(cluster: None, tmp_path: Path, compact: Wording) -> None:
    import ray.cloudpickle

    shapes = make_shapes(4)
    write_image_store(tmp_path / "store", shapes.images, shard_bytes=20_000)
    asked = [EvaluationItem(row.item_id, row.prompt, row.image, {"overall": ""}) for row in shapes.items.itertuples()]
    marker = tmp_path / "died"
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the actors cannot import this file
    judged = judge_shards(
        asked,
        ImageStore(tmp_path / "store"),
        Levels(compact),
        lambda images: Dying(marker),
        name="x",
        workers=2,
        batch_size=7,
    )
    assert marker.exists()
    alone = judge(asked, Levels(compact), Dying(marker), name="x")
    pd.testing.assert_frame_equal(judged.scores, alone.scores)
    pd.testing.assert_frame_equal(judged.transcripts, alone.transcripts)


@pytest.mark.parametrize(
    ("cpus", "workers", "actors"),
    [(1, 1, (1, 0.5)), (1, 4, (1, 0.5)), (2, 2, (1, 1.0)), (3, 2, (2, 1.0)), (64, 8, (8, 1.0))],
)
def test_one_processor_is_left_to_whatever_reads(cpus: int, workers: int, actors: tuple[int, float]) -> None:
    assert actors_for(cpus, workers) == actors
    assert actors[0] * actors[1] < cpus


def test_an_image_that_is_not_in_the_store_is_named(tmp_path: Path, compact: Wording) -> None:
    write_image_store(tmp_path / "store", make_shapes(1).images)
    asked = [EvaluationItem("i", "p", "none.png", {"overall": ""})]
    with pytest.raises(T2IEvalError, match=r"no image 'none\.png'"):
        judge_shards(
            asked,
            ImageStore(tmp_path / "store"),
            Levels(compact),
            backend_of(1),
            name="x",
            workers=1,
        )


def test_a_batch_of_images_is_a_store() -> None:
    key, data = make_shapes(1).images[0]
    images = BatchImages({key: data})
    assert images.read(key) == data
    assert images.image(key).size == (64, 64)
