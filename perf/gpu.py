"""The shape of Qwen2.5-VL-7B with random weights through this project's own doors, on one GPU.

``sft`` trains an adapter in bfloat16 and on 4 bits by the recipe of ``qwen2_5_vl_7b``, and judges with each: seconds, and the most memory that
was taken, beside what ``kedro recipe`` estimates. ``grpo`` takes steps with groups of 8 answers of 300 tokens and says what of a step goes to
generation, reward and update, beside trl's own trainer on the model as transformers loads it. The tokenizer is a small one that splits as
Qwen's does. Without a GPU a tiny shape runs, to show that it runs, and no figure of that counts.

    python -m perf.gpu [sft] [grpo]
"""

from __future__ import annotations

import gc
import json
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

from perf.judging import qwen_config
from t2i_eval_kedro.judging.backends.transformers import TransformersBackend
from t2i_eval_kedro.judging.project import Project
from t2i_eval_kedro.judging.protocols.base import ChatMessage, Request
from t2i_eval_kedro.models.settings import ModelSettings
from t2i_eval_kedro.schema import EXAMPLES
from t2i_eval_kedro.steps import REASON
from t2i_eval_kedro.training.data import grpo_dataset
from t2i_eval_kedro.training.grpo import train_grpo
from t2i_eval_kedro.training.memory import shape_of, training_memory
from t2i_eval_kedro.training.settings import GRPOSettings, SFTSettings
from t2i_eval_kedro.training.sft import train_sft

ROOT = Path(__file__).parents[1]
THERE = torch.cuda.is_available()
SIDE = 896 if THERE else 32  # pixels of a side: 1,024 tokens of 28 pixels a side
SFT_STEPS, EXAMPLES_A_STEP = (4, 16) if THERE else (2, 4)
GROUP, PROMPTS, LENGTH, GRPO_STEPS = (8, 2, 300, 2) if THERE else (2, 2, 8, 2)
JUDGED = 16 if THERE else 4

Result = dict[str, Any]


class Pictures:
    """One random image for each name."""

    def image(self, key: str) -> Image.Image:
        coarse = np.random.default_rng(int(key)).integers(0, 255, (8, 8, 3), dtype=np.uint8)
        return Image.fromarray(coarse).resize((SIDE, SIDE))


def make_model(folder: Path) -> None:
    """Write the model, in bfloat16 and never whole in the processor's memory twice, and its processor."""
    import architectures
    import transformers

    config, processor = architectures.ARCHITECTURES["qwen2_5_vl"]()
    if THERE:
        shape = qwen_config(full=True)
        config.vision_config, config.text_config = shape.vision_config, shape.text_config
        size = {"shortest_edge": 28 * 28, "longest_edge": SIDE * SIDE}
        processor.image_processor = transformers.Qwen2VLImageProcessor(patch_size=14, merge_size=2, size=size)
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16 if THERE else torch.float32)
    with torch.device("cuda" if THERE else "cpu"):
        model = transformers.AutoModelForImageTextToText.from_config(config)
    torch.set_default_dtype(torch.float32)
    model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    model.generation_config.pad_token_id = processor.tokenizer.pad_token_id
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def examples(task: str, n: int) -> pd.DataFrame:
    """Requests of one image each with a few sentences, and their answers."""
    text = "is it red ? is it a red circle above two squares ? why ? " * (4 if THERE else 1)
    return EXAMPLES.frame(
        {
            "example_id": str(k),
            "item_id": str(k),
            "fold": "train",
            "task": task,
            "aspect": "overall",
            "messages": json.dumps([{"role": "user", "text": text, "images": [str(k)]}]),
            "completion": str(k % 10),
            "score": float(k % 10),
            "question_id": "",
            "weight": 1.0,
        }
        for k in range(n)
    )


def free() -> None:
    gc.collect()
    if THERE:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak() -> float | None:
    """The most memory that torch has reserved since :func:`free`, in GB."""
    return round(torch.cuda.max_memory_reserved() / 1e9, 1) if THERE else None


def sft(model: ModelSettings, settings: SFTSettings, folder: Path) -> Result:
    """Seconds of a step and of a judgement, and memory, in bfloat16 and on 4 bits."""
    shape = shape_of(model.model)
    assert shape is not None
    tokens = (SIDE // 28) ** 2 + 350
    rows = examples("score", SFT_STEPS * EXAMPLES_A_STEP)
    asked = [
        Request(str(k), "q", "task", "", (ChatMessage("user", "is it red ?", (str(k),)),), 4, tuple("0123456789"))
        for k in range(JUDGED)
    ]
    result: Result = {}
    for name, quantize in {"bfloat16": None, "4 bits": "4bit"}.items():
        if quantize and not THERE:
            continue  # a tiny shape has no layer that is wide enough
        chosen = model.model_copy(update={"quantize": quantize})
        free()
        begun = time.perf_counter()
        curve = train_sft(rows, Pictures(), chosen, settings, folder / f"adapter_{quantize}")
        result[name] = {
            "seconds, loading and saving included": round(time.perf_counter() - begun, 1),
            "peak memory, GB": peak(),
            "estimated memory, GB": round(
                training_memory(
                    shape, rank=settings.lora.r, examples=settings.batch_size, tokens=tokens, dtype=model.dtype, quantize=bool(quantize)
                ).total / 1e9, 1,
            ),
            "losses": [round(float(loss), 3) for loss in curve["loss"].dropna()],
        }  # fmt: skip
        free()
        judge = TransformersBackend(
            chosen.load(adapter=folder / f"adapter_{quantize}"), chosen.load_processor(), Pictures(), batch_size=8
        )
        dict(judge.answer(asked[: JUDGED // 2]))  # warms up
        begun = time.perf_counter()
        answered = dict(judge.answer(asked))
        result[name] |= {
            "images judged a second, from decoded images": round(JUDGED / (time.perf_counter() - begun), 2),
            "judged": sum(answer.text != "" for answer in answered.values()),
            "peak memory of judging, GB": peak(),
        }
        print(name, result[name], flush=True)
        del judge
    return result


def grpo(model: ModelSettings, settings: GRPOSettings, lora: Any, folder: Path) -> Result:
    """What a step takes, by this project and by trl's own trainer."""
    rows = examples(REASON, 4 * PROMPTS)
    free()
    result: Result = {"answers a step": GROUP * PROMPTS, "tokens of an answer": LENGTH}
    curve = train_grpo(
        rows, Pictures(), model, lora, settings, {REASON: lambda text: float(len(text) % 10)}, folder / "grpo"
    )
    result["this project"] = {"seconds a step": curve.attrs["seconds_per_step"], "peak memory, GB": peak()}
    print(result["this project"], flush=True)
    free()
    result["trl's own"] = {
        "seconds a step": round(plain_trl(rows, model, settings, lora, folder / "trl"), 1),
        "peak memory, GB": peak(),
    }
    print(result["trl's own"], flush=True)
    return result


def plain_trl(rows: pd.DataFrame, model: ModelSettings, settings: GRPOSettings, lora: Any, folder: Path) -> float:
    """Seconds of a step of trl's trainer with the same settings, as trl itself times it."""
    from transformers import AutoModelForImageTextToText
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer

    from t2i_eval_kedro.models.processors import processor_for_trl
    from t2i_eval_kedro.training.sft import lora_config

    plain = AutoModelForImageTextToText.from_pretrained(
        model.model, dtype=torch.bfloat16 if THERE else torch.float32, device_map="cuda" if THERE else "cpu"
    )
    processor = processor_for_trl(model.load_processor())
    trainer = GRPOTrainer(
        model=plain,
        reward_funcs=lambda completions, **_: [float(len(completion[0]["content"]) % 10) for completion in completions],
        args=GRPOConfig(
            output_dir=str(folder), use_cpu=not THERE, bf16=THERE, max_steps=settings.max_steps, num_generations=settings.generations,
            per_device_train_batch_size=settings.batch_size,
            gradient_accumulation_steps=settings.prompts_per_step * settings.generations // settings.batch_size,
            max_completion_length=settings.max_completion_length, beta=settings.beta, gradient_checkpointing=settings.gradient_checkpointing,
            learning_rate=settings.learning_rate, report_to="none", disable_tqdm=True, logging_steps=1, save_strategy="no",
        ),
        train_dataset=grpo_dataset(rows, Pictures(), processor),
        processing_class=processor,
        peft_config=lora_config(lora, plain, []),
    )  # fmt: skip
    trainer.train()
    return float(np.mean([entry["step_time"] for entry in trainer.state.log_history if "step_time" in entry]))


def main(parts: list[str]) -> Result:
    """Make the model, run the parts, and return what they measured."""
    sys.path.insert(0, str(ROOT / "tests/judging/backends"))
    from architectures import images_only

    given = Project.open(ROOT, "base", {"student": "qwen2_5_vl_7b"})
    with images_only(), TemporaryDirectory(dir="/dev/shm" if THERE else None) as name:
        folder = Path(name)
        begun = time.perf_counter()
        make_model(folder / "model")
        free()
        print(f"made in {time.perf_counter() - begun:.0f} s", flush=True)
        changed: dict[str, Any] = {"model": str(folder / "model"), "name": "random"} | (
            {} if THERE else {"dtype": "float32"}
        )
        model = given.settings("model", ModelSettings).model_copy(update=changed)
        recipe = given.settings("sft", SFTSettings)
        short = {
            "max_steps": SFT_STEPS,
            "epochs": None,
            "logging_steps": 1,
            "eval_steps": 0,
            "save_steps": 0,
            "loader_workers": 0,
        }
        short |= {"gradient_accumulation_steps": EXAMPLES_A_STEP // recipe.batch_size}
        steps = {
            "max_steps": GRPO_STEPS, "prompts_per_step": PROMPTS, "generations": GROUP, "batch_size": GROUP, "max_completion_length": LENGTH,
            "eval_steps": 0, "save_steps": 0, "logging_steps": 1, "tasks": (REASON,),
        }  # fmt: skip
        result: Result = {"device": torch.cuda.get_device_name() if THERE else "cpu, tiny shape: no figure counts"}
        if "sft" in parts:
            result["sft"] = sft(model, recipe.model_copy(update=short), folder)
        if "grpo" in parts:
            settings = given.settings("grpo", GRPOSettings).model_copy(update=steps)
            result["grpo"] = grpo(model, settings, recipe.lora, folder)
    return result


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:] or ["sft", "grpo"]), indent=1))
