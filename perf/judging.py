"""Speed of asking many questions about each image in the local backend, beside T2I-Eval's way.

Work: yes/no questions about random images, scored without generation, in fp32 on the CPU, by two LLaVA models: the embedded
tiny one, and one of 37 M parameters with random weights whose 256 image tokens outweigh a question. T2I-Eval's way is a loop over
the questions that encodes the image again for each. Everything is measured in one process, the ways in turn, and the fastest of
several rounds is kept, as wall-clock and as processor seconds; ``whole`` starts from the image file, ``model`` from tensors.

``one_pass`` is for a GPU: the shape of Qwen2.5-VL-7B with random weights in bfloat16 and 1,024 image tokens, images a second
and the price of 8 questions instead of 1. Without a GPU it runs a tiny shape, to show that it runs, and no figure of that counts.

    python perf/judging.py [questions|one_pass]
"""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image

from t2i_eval_kedro.datasets.image_store import decode
from t2i_eval_kedro.judging.backends.prefixes import Shared
from t2i_eval_kedro.judging.backends.transformers import TransformersBackend, _Batch, _Images
from t2i_eval_kedro.judging.protocols.base import Answer, ChatMessage, Request
from t2i_eval_kedro.models.loading import load_model
from t2i_eval_kedro.models.packed_vision import speed_up_vision
from t2i_eval_kedro.models.processors import encode, load_processor

TINY = Path(__file__).parents[1] / "data/06_models/tiny_vlm"
YES_NO = ("yes", "no")
QUESTIONS = tuple(
    f"is there a {color} circle {where} ?"
    for color in ("red", "blue", "green", "yellow")
    for where in ("above the square", "in the image")
)
WORK = {"tiny": 64, "prefix": 8}  # images
ROUNDS = {"tiny": 5, "prefix": 2}
BATCH = {"tiny": 128, "prefix": 32}
# The least time that 1,000 images of 1,024 tokens can take a 7B model at 788 TFLOP/s.
FLOOR_SECONDS_PER_1000 = 27.0

Result = dict[str, Any]


class Store:
    """Encoded random images in memory."""

    def __init__(self, n: int, side: int) -> None:
        rng = np.random.default_rng(0)
        self._files = []
        for _ in range(n):
            file = io.BytesIO()
            coarse = Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8))
            coarse.resize((side, side)).save(file, "PNG")
            self._files.append(file.getvalue())

    def image(self, key: str) -> Image.Image:
        return decode(self._files[int(key)])


def prefix_model() -> tuple[Any, Any]:
    """LLaVA of 37 M random parameters that reads an image as 256 tokens."""
    from transformers import LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor, SiglipImageProcessorPil

    tiny = load_processor(TINY)
    processor = LlavaProcessor(
        SiglipImageProcessorPil(size={"height": 256, "width": 256}),
        tiny.tokenizer,
        patch_size=16,
        vision_feature_select_strategy="full",
        num_additional_image_tokens=0,
        image_token="<image>",
        chat_template=tiny.chat_template,
    )
    config = LlavaConfig.from_pretrained(TINY)
    for name, value in {
        "image_size": 256,
        "hidden_size": 384,
        "num_hidden_layers": 6,
        "num_attention_heads": 6,
        "intermediate_size": 1536,
    }.items():
        setattr(config.vision_config, name, value)
    for name, value in {
        "hidden_size": 512,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
        "intermediate_size": 1408,
        "initializer_range": 0.02,
    }.items():
        setattr(config.text_config, name, value)
    config.text_config.layer_types = ["full_attention"] * 8
    config.image_seq_length = 256
    torch.manual_seed(0)
    return LlavaForConditionalGeneration(config).eval(), processor


def questions() -> Result:
    """Both models, and what bfloat16 does to the tiny one's answers."""
    result: Result = {"threads": torch.get_num_threads(), "questions an image": len(QUESTIONS)}
    for name in WORK:
        model, processor = (load_model(TINY, device="cpu"), load_processor(TINY)) if name == "tiny" else prefix_model()
        result[name] = compare(name, model, processor)
    result["tiny"]["bfloat16"] = bfloat16()
    return result


def compare(name: str, model: Any, processor: Any) -> Result:
    store = Store(WORK[name], model.config.vision_config.image_size)
    all_asked = [ask(item, text) for item in range(WORK[name]) for text in QUESTIONS]
    one_asked = [ask(item, QUESTIONS[0]) for item in range(WORK[name])]
    ours = TransformersBackend(model, processor, store, batch_size=BATCH[name])
    pairs = TransformersBackend(model, processor, store, batch_size=32, share_prefixes=False)
    # Eight questions and one are batched alike: the same number of images at once.
    single = TransformersBackend(model, processor, store, batch_size=BATCH[name] // len(QUESTIONS))
    inputs = [encode(processor, [request.chat], store) for request in all_asked]
    ready = {backend: prepared(backend, asked) for backend, asked in ((ours, all_asked), (single, one_asked))}
    seconds = fastest(
        ROUNDS[name],
        {
            "one at a time, whole": lambda: [
                loop(model, encode(processor, [asked.chat], store)) for asked in all_asked
            ],
            "one at a time, model": lambda: [loop(model, each) for each in inputs],
            "pairs in batches of 32, whole": lambda: dict(pairs.answer(all_asked)),
            "shared prefix, whole": lambda: dict(ours.answer(all_asked)),
            "shared prefix, model": lambda: [ours._answers(batch) for batch in ready[ours]],
            "shared prefix, 1 question, whole": lambda: dict(single.answer(one_asked)),
            "shared prefix, 1 question, model": lambda: [single._answers(batch) for batch in ready[single]],
        },
    )
    if not ours._sharing:
        raise SystemExit("The backend did not share prefixes.")
    one_row_each = torch.cat([loop(model, each) for each in inputs])
    with torch.inference_mode():
        packed = torch.cat([ours._first_logits(batch)[0] for batch in ready[ours]])
    order = [i for batch in ready[ours] for i in batch.members]
    result = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "images": WORK[name],
        "seconds": seconds,
        "times faster than one at a time": ratios(seconds, "one at a time, {}", "shared prefix, {}"),
        "cost of 8 questions over 1": ratios(seconds, "shared prefix, {}", "shared prefix, 1 question, {}"),
        "largest difference of a logit": float((packed - one_row_each[order]).abs().max()),
    }
    for key in list(result)[3:]:
        print(f"{name:7s} {key}: {result[key]}", flush=True)
    return result


def ask(item: int, text: str) -> Request:
    return Request(str(item), text, "question", "", (ChatMessage("user", text, (str(item),)),), 1, YES_NO)


@torch.inference_mode()
def loop(model: Any, inputs: Any) -> torch.Tensor:
    """The logits of one question's answer, (1, vocabulary)."""
    return model(**inputs, logits_to_keep=1, use_cache=False).logits[:, -1]


def prepared(backend: TransformersBackend, asked: Sequence[Request]) -> list[_Batch]:
    """The batches of ``backend`` as tensors, after its check of the model."""
    dict(backend.answer(asked))
    return [batch for groups in backend._batches(asked) for batch in backend._prepare(asked, groups)[1]]


def fastest(rounds: int, ways: dict[str, Callable[[], object]]) -> dict[str, dict[str, float]]:
    """Wall-clock and processor seconds of each way, the least of several rounds."""
    seconds = {name: {"wall": np.inf, "processor": np.inf} for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            wall, processor = time.perf_counter(), time.process_time()
            way()
            spent = {"wall": time.perf_counter() - wall, "processor": time.process_time() - processor}
            seconds[name] = {kind: round(min(spent[kind], seconds[name][kind]), 4) for kind in spent}
    return seconds


def ratios(seconds: dict[str, dict[str, float]], over: str, under: str) -> dict[str, dict[str, float]]:
    return {
        part: {
            kind: round(value / seconds[under.format(part)][kind], 2)
            for kind, value in seconds[over.format(part)].items()
        }
        for part in ("whole", "model")
    }


def bfloat16() -> Result:
    """Answers of the tiny model in bfloat16, from packed rows and one at a time, beside those in float32."""
    store, processor = Store(WORK["tiny"], 64), load_processor(TINY)
    asked = [ask(item, text) for item in range(WORK["tiny"]) for text in QUESTIONS]

    def answers(dtype: str, **settings: Any) -> dict[int, Answer]:
        return dict(
            TransformersBackend(load_model(TINY, dtype=dtype, device="cpu"), processor, store, **settings).answer(asked)
        )

    exact = answers("float32", batch_size=128)
    result: Result = {"answers": len(asked)}
    for name, settings in {
        "shared prefix": {"batch_size": 128},
        "shared prefix, other batches": {"batch_size": 40},
        "one at a time": {"batch_size": 1, "share_prefixes": False},
    }.items():
        given = answers("bfloat16", **settings)
        moved = [abs(given[i].probabilities["yes"] - exact[i].probabilities["yes"]) for i in exact]
        result[name] = {
            "answers that change": sum(given[i].text != exact[i].text for i in exact),
            "largest change of P(yes)": round(max(moved), 4),
            "mean change of P(yes)": round(float(np.mean(moved)), 5),
        }
    print(f"tiny    bfloat16: {result}", flush=True)
    return result


def one_pass() -> Result:
    """Images a second of one pass a question, and of eight questions on one prefix, with packed vision and without."""
    result = {
        name: _one_pass(packed) for name, packed in {"packed vision": True, "as transformers loads it": False}.items()
    }
    fast, plain = (each["images a second"] for each in result.values())
    return result | {"times faster": round(fast / plain, 2)}


def _one_pass(packed: bool) -> Result:
    gpu = torch.cuda.is_available()
    device, dtype = ("cuda", torch.bfloat16) if gpu else ("cpu", torch.float32)
    side, images, rows = (64, 64, 8) if gpu else (8, 8, 4)  # patches a side; four make a token
    model = qwen(gpu, device, dtype, packed)
    tokens = side * side // 4
    backend = TransformersBackend(
        model, SimpleNamespace(tokenizer=SimpleNamespace(pad_token_id=0)), Store(0, 0), batch_size=rows
    )
    rng = np.random.default_rng(0)

    def text(n: int) -> list[int]:
        return rng.integers(10, 500, n).tolist()

    def batch(questions: int) -> _Batch:
        prefix = [*text(20), 1, *[2] * tokens, 3, *text(30)]  # 1 and 3 begin and end an image of tokens 2
        types = [int(token == 2) for token in prefix]
        shared = [
            Shared({"input_ids": prefix, "mm_token_type_ids": types}, [text(25) for _ in range(questions)])
            for _ in range(rows)
        ]
        pixels = torch.from_numpy(rng.normal(size=(rows * side * side, 3 * 2 * 14 * 14))).float()
        grid = torch.tensor([[1, side, side]] * rows)
        return _Batch([], [], _Images({}), {"pixel_values": pixels, "image_grid_thw": grid}, shared)

    def seconds(questions: int) -> float:
        batches = [batch(questions) for _ in range(images // rows)]
        best = np.inf
        for _ in range(4):  # the first warms up
            if gpu:
                torch.cuda.synchronize()
            start = time.perf_counter()
            with torch.inference_mode():
                for each in batches:
                    backend._first_logits(each)[0].float().sum().item()
            best = min(best, time.perf_counter() - start)
        return best / images

    one, eight = seconds(1), seconds(8)
    result: Result = {
        "device": torch.cuda.get_device_name() if gpu else "cpu, tiny shape: shows that it runs, no figure counts",
        "parameters": sum(p.numel() for p in model.parameters()),
        "image tokens": tokens,
        "images a second": round(1 / one, 2),
        "cost of 8 questions over 1": round(eight / one, 2),
    }
    if gpu:
        result["seconds for 1,000 images"] = round(1000 * one, 1)
        result["share of the floor"] = round(FLOOR_SECONDS_PER_1000 / (1000 * one), 3)
    print(f"one pass, {packed=}: {result}", flush=True)
    return result


def qwen_config(full: bool) -> Any:
    """Configuration of Qwen2.5-VL, of the shape of 7B or tiny; its image tokens are 1, 2 and 3."""
    from transformers import Qwen2_5_VLConfig

    vision = (
        {"hidden_size": 1280, "out_hidden_size": 3584}
        if full
        else {
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 4,
            "out_hidden_size": 64,
            "fullatt_block_indexes": [1],
        }
    )
    shape = (152064, 3584, 18944, 28, 28, 4) if full else (512, 64, 128, 2, 4, 2)
    names = (
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
    )
    head = shape[1] // shape[4]
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [head // 8, head * 3 // 16, head * 3 // 16]}
    return Qwen2_5_VLConfig(
        vision_config=vision,
        text_config=dict(zip(names, shape, strict=True))
        | {
            "rope_parameters": rope,
            "layer_types": ["full_attention"] * shape[3],
            "bos_token_id": None,
            "eos_token_id": None,
            "pad_token_id": 0,
        },
        image_token_id=2,
        video_token_id=4,
        vision_start_token_id=1,
        vision_end_token_id=3,
    )


def qwen(full: bool, device: str, dtype: torch.dtype, packed: bool = True) -> Any:
    """Qwen2.5-VL with random weights, of the shape of 7B or tiny; ``packed`` as this project loads it."""
    from transformers import Qwen2_5_VLForConditionalGeneration

    config = qwen_config(full)
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = Qwen2_5_VLForConditionalGeneration(config).eval()
        if packed:
            speed_up_vision(model)
        return model
    finally:
        torch.set_default_dtype(before)


def main() -> Result:
    return {"questions": questions(), "one pass": one_pass()}


if __name__ == "__main__":
    print(
        json.dumps({"questions": questions, "one_pass": one_pass}[sys.argv[1]](), indent=1) if sys.argv[1:] else main()
    )
