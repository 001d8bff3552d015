"""Speed of supervised fine-tuning, beside trl's ``SFTTrainer`` as it comes.

Work: the default recipe's balanced examples of ``shapes`` for the embedded model, the same examples in the same order for all:

- ``this project``: :func:`t2i_eval_kedro.training.sft.train_sft`;
- ``trl, set for a CPU``: ``SFTTrainer`` with its own collator and loss, in fp32, without checkpointing, the same batch and adapter;
- ``trl's defaults``: ``SFTConfig()`` but for ``use_cpu``: batches of 8, bf16, checkpointing.

Each way trains once before it is timed, the ways take turns, and the fastest of several rounds is kept, as wall-clock and as
processor seconds of ``Trainer.train``. The loss of the last steps says whether they learn the same from the same examples.

``gpu`` is for a GPU: the shape of Qwen2.5-VL-7B with random weights, LoRA, 1,024 image and 350 text tokens an example, with the
settings of the student ``qwen2_5_vl_7b`` and with trl's defaults. Model FLOPs are 4 x parameters of the text model x tokens: forward,
and backward through frozen weights; what checkpointing computes again does not count. Without a GPU it runs a tiny shape, to show that
it runs, and no figure of that counts.

    python perf/sft.py [cpu|gpu]
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch

from t2i_eval_kedro.config import ExperimentConfigLoader
from t2i_eval_kedro.judging.backends.simulated import SimulatedBackend
from t2i_eval_kedro.judging.evaluators import JudgingSettings, judge_items
from t2i_eval_kedro.judging.protocols import Wording
from t2i_eval_kedro.models.loading import load_model
from t2i_eval_kedro.models.processors import load_processor, to_chat
from t2i_eval_kedro.models.settings import ModelSettings
from t2i_eval_kedro.schema import TRANSCRIPTS
from t2i_eval_kedro.settings import CONFIG_LOADER_ARGS
from t2i_eval_kedro.shapes.make import make_shapes
from t2i_eval_kedro.training import recipes
from t2i_eval_kedro.training.rebalancing import rebalance
from t2i_eval_kedro.training.settings import ExampleSettings, RebalancingSettings, SFTSettings
from t2i_eval_kedro.training.sft import lora_config, score_tokens, train_sft
from t2i_eval_kedro.training.trainers import expose_bias

ROOT = Path(__file__).parents[1]
TINY = ROOT / "data/06_models/tiny_vlm"
STEPS, ROUNDS = 60, 3
IMAGE_TOKENS, TEXT_TOKENS, PEAK = 1024, 350, 989e12

Result = dict[str, Any]


class Images:
    """Decoded images by key."""

    def __init__(self, files: list[tuple[str, bytes]]) -> None:
        from t2i_eval_kedro.datasets.image_store import decode

        self._images = {key: decode(data) for key, data in files}

    def image(self, key: str) -> Any:
        return self._images[key]


def parameters() -> Any:
    return ExperimentConfigLoader(str(ROOT / "conf"), "base", **CONFIG_LOADER_ARGS)["parameters"]


def work() -> tuple[pd.DataFrame, Images, SFTSettings]:
    """``STEPS`` batches of the default recipe's examples, their images, and the default settings for so many steps."""
    given = parameters()["judging"]
    judging = JudgingSettings.model_validate(given)
    wording = Wording.load(ROOT / "conf/base/prompts", judging.wording, judging.wordings[judging.wording])
    made = make_shapes(n_prompts=120)
    phrases = {name: name for name in ("overall", "appearance", "attributes", "relations")}
    said = judge_items(
        made.items,
        SimulatedBackend(made.items, wording, seed=0, error_rate=0.02, score_noise=0.3),
        wording,
        phrases,
        ["decomposed"],
        name="teacher",
    )
    splits = made.items[["item_id"]].assign(split_name="all", fold="train")
    tables = recipes.Sources(
        made.items,
        splits,
        made.ratings,
        made.elements,
        made.element_ratings,
        said.transcripts,
        TRANSCRIPTS.empty(),
        said.scores,
    )
    dials = ExampleSettings.model_validate(parameters()["examples"])
    examples = recipes.build_examples(tables, phrases, judging.options, wording, dials)
    even = RebalancingSettings.model_validate(parameters()["rebalancing"])
    balanced, _ = rebalance(examples, **even.model_dump())
    settings = SFTSettings.model_validate(parameters()["sft"]).model_copy(
        update={
            "max_steps": STEPS,
            "warmup_steps": 10,
            "eval_steps": 0,
            "eval_examples": 0,
            "save_steps": 0,
            "logging_steps": 10,
        }
    )
    drawn = balanced.sample(STEPS * settings.batch_size, random_state=0)
    return drawn, Images(made.images), settings


@contextmanager
def stopwatch() -> Iterator[dict[str, float]]:
    """The seconds of every ``Trainer.train`` inside, without loading a model and encoding what is known before."""
    from transformers import Trainer

    took: dict[str, float] = {}
    train = Trainer.train

    def timed(self: Any, *args: Any, **kwargs: Any) -> Any:
        wall, processor = time.perf_counter(), time.process_time()
        done = train(self, *args, **kwargs)
        took.update(wall=time.perf_counter() - wall, processor=time.process_time() - processor)
        return done

    Trainer.train = timed  # type: ignore[method-assign]
    try:
        yield took
    finally:
        Trainer.train = train  # type: ignore[method-assign]


def ours(examples: pd.DataFrame, images: Images, settings: SFTSettings) -> tuple[float, int]:
    """The loss of the last steps, and the examples that were trained on."""
    with TemporaryDirectory() as folder:
        curve = train_sft(
            examples,
            images,
            ModelSettings.model_validate(parameters()["model"] | {"model": str(TINY), "device": "cpu"}),
            settings,
            Path(folder) / "a",
        )
    return float(curve["loss"].dropna().iloc[-1]), STEPS * settings.batch_size


def plain_trl(
    examples: pd.DataFrame, images: Images, settings: SFTSettings, arguments: dict[str, Any]
) -> tuple[float, int]:
    """The same by ``SFTTrainer`` alone."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    processor = load_processor(TINY)
    base = load_model(TINY, device="cpu", trainable=True)
    rows = []
    for row in examples.itertuples():
        messages = json.loads(str(row.messages))
        keys = [key for message in messages for key in message.get("images") or ()]
        answer = [{"role": "assistant", "text": str(row.completion)}]
        rows.append(
            {"prompt": to_chat(messages), "completion": to_chat(answer), "images": [images.image(key) for key in keys]}
        )
    with TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=base,
            args=SFTConfig(
                output_dir=folder, use_cpu=True, max_steps=STEPS, max_length=None, report_to="none", disable_tqdm=True,
                logging_steps=10, save_strategy="no", seed=settings.seed, **arguments,
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=processor,
            peft_config=lora_config(settings.lora, base, score_tokens(examples, processor)),
        )  # fmt: skip
        expose_bias(trainer.model)
        trainer.train()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        return float(losses[-1]), STEPS * trainer.args.per_device_train_batch_size


def cpu() -> Result:
    """Examples a second by each way."""
    examples, images, settings = work()
    for_a_cpu = {
        "per_device_train_batch_size": settings.batch_size,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": settings.schedule,
        "warmup_steps": settings.warmup_steps,
        "max_grad_norm": settings.max_grad_norm,
        "bf16": False,
        "gradient_checkpointing": False,
        "dataloader_pin_memory": False,
    }
    ways: dict[str, Callable[[], tuple[float, int]]] = {
        "this project": lambda: ours(examples, images, settings),
        "trl, set for a CPU": lambda: plain_trl(examples, images, settings, for_a_cpu),
        "trl's defaults": lambda: plain_trl(examples, images, settings, {}),
    }
    result: Result = {"threads": torch.get_num_threads(), "steps": STEPS, "ways": {}}
    for turn in range(ROUNDS + 1):  # the first warms up
        for name, train in ways.items():
            with stopwatch() as took:
                loss, seen = train()
            speed = {f"examples a second, {kind}": round(seen / seconds, 1) for kind, seconds in took.items()}
            print(f"{name}: {speed}", flush=True)
            kept = result["ways"].setdefault(name, {"loss of the last 10 steps": round(loss, 4)})
            if turn:
                kept.update({key: max(value, kept.get(key, 0.0)) for key, value in speed.items()})
    first, *others = result["ways"]
    result["times faster than"] = {
        other: {
            kind: round(result["ways"][first][key] / result["ways"][other][key], 2)
            for kind in ("wall", "processor")
            if (key := f"examples a second, {kind}")
        }
        for other in others
    }
    print(result["times faster than"], flush=True)
    return result


def gpu() -> Result:
    """Samples a second and model FLOP utilisation of the 7B shape."""
    from perf.judging import qwen

    there = torch.cuda.is_available()
    loader = ExperimentConfigLoader(str(ROOT / "conf"), "base", {"student": "qwen2_5_vl_7b"}, **CONFIG_LOADER_ARGS)
    settings = SFTSettings.model_validate(loader["parameters"]["sft"])
    side = 64 if there else 8  # patches a side; four make a token
    image, text, steps = (IMAGE_TOKENS, TEXT_TOKENS, 5) if there else (side * side // 4, 20, 2)
    result: Result = {
        "device": torch.cuda.get_device_name() if there else "cpu, tiny shape: shows that it runs, no figure counts",
        "image tokens": image,
        "text tokens": text,
        "ways": {},
    }
    ways = {
        "this project's recipe": {
            "per_device_train_batch_size": settings.batch_size,
            "gradient_accumulation_steps": 4,
            "gradient_checkpointing": settings.gradient_checkpointing,
            "bf16": there,
        },
        "trl's defaults": {} if there else {"bf16": False},
    }
    for name, arguments in ways.items():
        ours = name == next(iter(ways))
        model = qwen(there, "cuda" if there else "cpu", torch.bfloat16 if there else torch.float32, packed=ours).train()
        read = sum(p.numel() for p in model.get_decoder().parameters()) + model.get_output_embeddings().weight.numel()
        seconds, samples = train_shape(model, settings, arguments, side, image, text, steps)
        flops = 4 * read * (image + text) * samples
        result["ways"][name] = {
            "samples a second": round(samples / seconds, 2),
            "model FLOP utilisation": round(flops / seconds / PEAK, 3) if there else None,
        }
        print(name, result["ways"][name], flush=True)
        del model
        torch.cuda.empty_cache()
    return result


def train_shape(
    model: Any, settings: SFTSettings, arguments: dict[str, Any], side: int, image: int, text: int, steps: int
) -> tuple[float, int]:
    """Seconds and samples of ``steps`` optimiser steps on random examples, after one that warms up."""
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    rng = np.random.default_rng(0)

    def collate(rows: list[Any]) -> dict[str, torch.Tensor]:
        ids = rng.integers(10, 500, (len(rows), image + text))
        ids[:, 9], ids[:, 10 : 10 + image], ids[:, 10 + image] = 1, 2, 3
        ids = torch.from_numpy(ids)
        labels = torch.where(torch.arange(ids.shape[1]) >= ids.shape[1] - 20, ids, -100)
        return {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "labels": labels,
            "mm_token_type_ids": (ids == 2).long(),
            "pixel_values": torch.from_numpy(rng.normal(size=(len(rows) * side * side, 3 * 2 * 14 * 14))).float(),
            "image_grid_thw": torch.tensor([[1, side, side]] * len(rows)),
        }

    class Clock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.times = [*getattr(self, "times", []), time.perf_counter()]

    clock = Clock()
    with TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=model,
            args=SFTConfig(
                output_dir=folder, use_cpu=not torch.cuda.is_available(), max_steps=steps + 1, max_length=None, report_to="none",
                disable_tqdm=True, save_strategy="no", remove_unused_columns=False,
                dataset_kwargs={"skip_prepare_dataset": True}, **arguments,
            ),
            data_collator=collate,
            train_dataset=Dataset.from_dict({"row": range(4096)}),
            processing_class=load_processor(TINY),
            peft_config=lora_config(settings.lora, model, []),
            callbacks=[clock],
        )  # fmt: skip
        trainer.train()
        batch = trainer.args.per_device_train_batch_size * trainer.args.gradient_accumulation_steps
    return clock.times[-1] - clock.times[0], steps * batch


def main() -> Result:
    return {"cpu": cpu()} | ({"gpu": gpu()} if torch.cuda.is_available() else {})


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    {"cpu": cpu, "gpu": gpu}[sys.argv[1] if len(sys.argv) > 1 else "cpu"]()
