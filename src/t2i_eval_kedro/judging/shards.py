"""The same engine beyond one machine: Ray Data streams the shards of an image store past actors that each hold the judge.

An optional extra (``pip install 't2i-eval-kedro[ray]'``). The shards must lie where every machine reads them. Each actor judges
one batch of items after the other, so a request that items share (the extraction of a prompt) is asked once a batch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from socket import gethostname
from typing import Any
from urllib.parse import unquote

import pandas as pd
from PIL.Image import Image

from t2i_eval_kedro import schema
from t2i_eval_kedro.datasets.image_store import ImageStore, decode
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.backends.base import Backend
from t2i_eval_kedro.judging.engine import Judgement, judge
from t2i_eval_kedro.judging.evaluators import Elsewhere, JudgingSettings
from t2i_eval_kedro.judging.local_models import cache_answers, open_backend
from t2i_eval_kedro.judging.protocols import EvaluationItem, Protocol
from t2i_eval_kedro.models import loading
from t2i_eval_kedro.models.settings import ModelSettings

_TABLES = {"scores": schema.SCORES, "transcripts": schema.TRANSCRIPTS, "element_scores": schema.ELEMENT_SCORES}


@dataclass
class BatchImages:
    """The encoded images of one batch by their key, as an image store."""

    data: dict[str, bytes] = field(default_factory=dict)

    def read(self, key: str) -> bytes:
        """The encoded image; raises KeyError."""
        return self.data[key]

    def image(self, key: str) -> Image:
        """The image as RGB; raises KeyError."""
        return decode(self.data[key])


def on_ray(model: ModelSettings, adapter: Path | None, images: ImageStore, judging: JudgingSettings) -> Elsewhere:
    """What lets actors judge, each with a model of its own, as ``judging.ray_workers`` says.

    Actors of other machines find everything by absolute paths, so the machines share a file system. The answers of each machine are
    in a file of its own, because SQLite's is not safe between machines.
    """
    path = loading.model_folder(model.model)
    make_backend = partial(
        _on_actor,
        model=model if path is None else model.model_copy(update={"model": str(path.resolve())}),
        adapter=adapter and adapter.resolve(),
        judging=judging.model_copy(
            update={"answers": judging.answers and str(Path(judging.answers).resolve()), "ray_workers": 0}
        ),
    )

    def judge_elsewhere(items: Sequence[EvaluationItem], protocol: Protocol, judge: str) -> Judgement:
        return judge_shards(
            items,
            images,
            protocol,
            make_backend,
            name=judge,
            workers=judging.ray_workers,
            batch_size=judging.batch_size,
            max_out_of_vocabulary=judging.max_out_of_vocabulary,
        )

    return judge_elsewhere


def _on_actor(images: BatchImages, *, model: ModelSettings, adapter: Path | None, judging: JudgingSettings) -> Backend:
    """The backend of one actor, on the machine where it is."""
    if judging.answers is not None:
        answers = Path(judging.answers)
        judging = judging.model_copy(update={"answers": str(answers.with_stem(f"{answers.stem}_{gethostname()}"))})
    return cache_answers(open_backend(model, adapter, images, judging), model, adapter, images, judging)


def judge_shards(
    items: Sequence[EvaluationItem],
    store: ImageStore,
    protocol: Protocol,
    make_backend: Callable[[BatchImages], Backend],
    *,
    name: str,
    workers: int,
    batch_size: int = 128,
    run: int = 0,
    max_out_of_vocabulary: float = 1.0,
) -> Judgement:
    """Let ``workers`` actors judge ``items``; the tables are those of :func:`~t2i_eval_kedro.judging.engine.judge`.

    Ray joins the cluster that ``RAY_ADDRESS`` names, or starts on this machine. Where the cluster has GPUs, an actor takes one.

    Args:
        items: what is judged, each with an image in ``store``.
        store: the image store whose shards are streamed.
        protocol: how the judge is asked.
        make_backend: makes an actor's backend; it travels to the actors, so it is a function of a module or a partial of one.
        name: the judge's name, which the scores carry.
        workers: actors at most; one processor of the cluster is left to whatever reads the shards, without which
            Ray Data waits for ever.
        batch_size: items that an actor judges at once.
        run: number of the repetition.
        max_out_of_vocabulary: see :func:`t2i_eval_kedro.judging.engine.judge`.

    Raises:
        T2IEvalError: Ray is not installed, or ``store`` lacks an image.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise T2IEvalError("Judging with Ray needs the extra 'ray': pip install 't2i-eval-kedro[ray]'.") from error
    shown = [item.item_id for item in items if item.reference]
    if shown:
        raise T2IEvalError(
            f"Item '{shown[0]}' has a reference image, which actors on Ray are not given; judge with judging.ray_workers=0."
        )
    missing = [item.image for item in items if item.image not in store]
    if missing:
        raise T2IEvalError(f"The image store holds no image '{missing[0]}'; ingest the benchmark again.")
    if not items:
        return judge([], protocol, make_backend(BatchImages()), name=name, run=run)
    if not ray.is_initialized():
        ray.init()
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    actors, cpus = actors_for(int(resources.get("CPU", 1)), workers)
    judged = ray.data.read_webdataset([str(path) for path in store.shards()], decoder=None).map_batches(
        _Actor,
        fn_constructor_args=(make_backend, protocol, list(items), name, run, max_out_of_vocabulary),
        batch_size=batch_size,
        batch_format="pandas",
        compute=ray.data.ActorPoolStrategy(size=actors),
        num_cpus=cpus,
        num_gpus=1 if resources.get("GPU") else 0,
    )
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in _TABLES}
    for part in judged.iter_rows():
        rows[part["table"]] += json.loads(part["rows"])
    place = {item.item_id: number for number, item in enumerate(items)}
    return Judgement(**{name: _ordered(table.frame(rows[name]), place) for name, table in _TABLES.items()})


def actors_for(cpus: int, workers: int) -> tuple[int, float]:
    """Actors, and processors for each of them, such that of ``cpus`` one is left, or half of the only one."""
    return (min(workers, cpus - 1), 1.0) if cpus > 1 else (1, 0.5)


def _ordered(table: pd.DataFrame, place: Mapping[str, int]) -> pd.DataFrame:
    """``table`` in the order of its items, whatever the order in which actors were done; rows of an item stay as they are."""
    return table.sort_values("item_id", key=lambda ids: ids.map(place), kind="stable", ignore_index=True)


class _Actor:
    """Holds one backend and judges the items whose images come by."""

    def __init__(
        self,
        make_backend: Callable[[BatchImages], Backend],
        protocol: Protocol,
        items: Sequence[EvaluationItem],
        name: str,
        run: int,
        max_out_of_vocabulary: float,
    ) -> None:
        self._images = BatchImages()
        self._backend = make_backend(self._images)
        self._protocol, self._name, self._run = protocol, name, run
        self._limit = max_out_of_vocabulary
        self._items: dict[str, list[EvaluationItem]] = {}
        for item in items:
            self._items.setdefault(item.image, []).append(item)

    def __call__(self, batch: pd.DataFrame) -> pd.DataFrame:
        """The tables of one batch of samples, each as JSON."""
        self._images.data = {unquote(row["__key__"]): _encoded(row) for row in _rows(batch)}
        asked = [item for key in self._images.data for item in self._items.get(key, [])]
        judgement = judge(
            asked, self._protocol, self._backend, name=self._name, run=self._run, max_out_of_vocabulary=self._limit
        )
        tables = {name: getattr(judgement, name).astype(object) for name in _TABLES}
        return pd.DataFrame(
            [
                {"table": name, "rows": json.dumps(_rows(table.where(table.notna(), None)))}
                for name, table in tables.items()
            ]
        )


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return frame.to_dict("records")  # type: ignore[return-value]


def _encoded(sample: Mapping[str, Any]) -> bytes:
    """The image of a sample, whose column is named after its kind of file."""
    return next(value for name, value in sample.items() if not name.startswith("__") and isinstance(value, bytes))
