"""How long a fine-tuning waits for its examples, with 0, 1 and 2 loader workers.

Work: 40 steps of .2 s, as a GPU may take for one, each on 4 examples about images of their own: JPEG files of 1,024 x 1,024, decoded within the
602,112 pixels of docs/gpu.md and put through Qwen2.5-VL's image processor, whatever the embedded model needs less. The step itself is
the embedded model's, on a CPU, and what is left of .2 s is slept. Training and workers share this machine's processors.

    python -m perf waiting
"""

from __future__ import annotations

import io
import logging
import os
import re
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
from PIL import Image

from perf.sft import TINY, parameters
from t2i_eval_kedro.datasets.image_store import ImageStore, write_image_store
from t2i_eval_kedro.models.images import LimitedImages
from t2i_eval_kedro.models.settings import ModelSettings
from t2i_eval_kedro.schema import EXAMPLES
from t2i_eval_kedro.training.answer_loss import AnswerLossTrainer
from t2i_eval_kedro.training.settings import SFTSettings
from t2i_eval_kedro.training.sft import train_sft

STEPS, BATCH, SECONDS, SIDE, MAX_PIXELS = 40, 4, 0.2, 1024, 602_112


def photograph(rng: np.random.Generator) -> bytes:
    """A JPEG file with detail at every scale, as a photograph has."""
    pixels = sum(
        np.asarray(
            Image.fromarray(rng.integers(0, 255, (2**k, 2**k, 3), dtype=np.uint8)).resize((SIDE, SIDE)), np.float32
        )
        for k in range(2, 10)
    )
    out = io.BytesIO()
    Image.fromarray((np.asarray(pixels) / 8).astype(np.uint8)).save(out, format="JPEG", quality=92)
    return out.getvalue()


class Processed:
    """Images as Qwen2.5-VL would be given them, and what the embedded model reads in their place."""

    def __init__(self, store: ImageStore) -> None:
        from transformers import Qwen2VLImageProcessorPil

        self._images = LimitedImages(store, None, MAX_PIXELS)
        self._processor = Qwen2VLImageProcessorPil()

    def image(self, key: str) -> Image.Image:
        picture = self._images.image(key)
        assert len(self._processor(picture)["pixel_values"]) > 2000  # patches
        return picture.resize((64, 64))


def waited(examples: pd.DataFrame, store: ImageStore, workers: int) -> float:
    """Share of the time of a training that went by waiting for examples."""
    given = parameters()
    length = {"max_steps": STEPS, "epochs": None, "batch_size": BATCH, "gradient_accumulation_steps": 1}
    kept = {"eval_examples": 0, "eval_steps": 0, "save_steps": 0, "patience": None, "image_cache_mb": 0}
    settings = SFTSettings.model_validate(given["sft"] | length | kept | {"loader_workers": workers, "augment": 0.0})
    model = ModelSettings.model_validate(given["model"] | {"model": str(TINY), "device": "cpu", "threads": 1})
    compute = AnswerLossTrainer.training_step

    def step(self: AnswerLossTrainer, *args: Any, **kwargs: Any) -> Any:
        until = time.monotonic() + SECONDS
        loss = compute(self, *args, **kwargs)
        time.sleep(max(0.0, until - time.monotonic()))
        return loss

    told: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("t2i_eval_kedro.training.sft")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with mock.patch.object(AnswerLossTrainer, "training_step", step), TemporaryDirectory() as folder:
            train_sft(examples, Processed(store), model, settings, Path(folder) / "a")
    finally:
        logger.removeHandler(handler)
    (share,) = (match[1] for text in told if (match := re.match(r"Waited for examples ([\d.]+)%", text)))
    return round(float(share) / 100, 4)


def main() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    load = round(os.getloadavg()[0], 1)
    with TemporaryDirectory() as folder:
        names = [f"{n}.jpg" for n in range(STEPS * BATCH)]
        write_image_store(Path(folder), [(name, photograph(rng)) for name in names])
        rows = [
            {
                "example_id": name, "item_id": name, "fold": "train", "task": "score", "aspect": "overall", "question_id": "", "weight": 1.0,
                "messages": f'[{{"role": "user", "text": "score overall", "images": ["{name}"]}}]', "completion": str(n % 10),
            }
            for n, name in enumerate(names)
        ]  # fmt: skip
        examples, store = EXAMPLES.frame(rows), ImageStore(Path(folder))
        shares = {str(workers): waited(examples, store, workers) for workers in (0, 1, 2)}
    for workers, share in shares.items():
        print(f"{workers} workers: waited {share:.1%} of the time", flush=True)
    return {
        "steps": STEPS,
        "examples a step": BATCH,
        "seconds a step": SECONDS,
        "pixels of an image": [SIDE, SIDE],
        "max_pixels": MAX_PIXELS,
        "cores": os.cpu_count(),
        "other processes that wanted a core, on average": load,
        "share of the time that is waited, by loader workers": shares,
    }
