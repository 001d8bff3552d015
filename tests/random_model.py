"""A vision-language model of random weights, small enough to train for some steps in a second, and examples for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from t2i_eval_kedro.schema import EXAMPLES

TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% if message['role'] == 'assistant' %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
LEVELS = tuple(str(level) for level in range(11))


class Pictures:
    """An image store in memory."""

    def __init__(self, images: Mapping[str, Image.Image]) -> None:
        self.images = dict(images)

    def image(self, key: str) -> Image.Image:
        return self.images[key]


def build_model(folder: Path, seed: int = 0, width: int = 32) -> Path:
    """Save a LLaVA of random weights, with its processor, to ``folder``; its text model is ``width`` wide."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import (
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
        Qwen2Config,
        SiglipImageProcessorPil,
        SiglipVisionConfig,
    )

    special = ["<pad>", "<|end|>", "<image>", "<|user|>", "<|assistant|>", "<|system|>"]
    words = [*special, *LEVELS, *sorted(set(pre_tokenizers.ByteLevel.alphabet()) - set(LEVELS))]
    core = Tokenizer(models.BPE(vocab={word: n for n, word in enumerate(words)}, merges=[("1", "0")]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="<|end|>", additional_special_tokens=special[2:]
    )
    processor = LlavaProcessor(
        image_processor=SiglipImageProcessorPil(size={"height": 32, "width": 32}),
        tokenizer=tokenizer,
        patch_size=16,
        vision_feature_select_strategy="full",
        chat_template=TEMPLATE,
        num_additional_image_tokens=0,
    )
    torch.manual_seed(seed)
    model = LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=SiglipVisionConfig(
                image_size=32,
                patch_size=16,
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=1,
                num_attention_heads=2,
                vision_use_head=False,
            ),
            text_config=Qwen2Config(
                vocab_size=len(words),
                hidden_size=width,
                intermediate_size=2 * width,
                num_hidden_layers=2,
                num_attention_heads=2,
                num_key_value_heads=2,
                tie_word_embeddings=True,
                initializer_range=0.3 * (32 / width) ** 0.5,  # a flat random head would need long to learn anything
                bos_token_id=None,
                eos_token_id=1,
                pad_token_id=0,
            ),
            image_token_index=2,
            vision_feature_layer=-1,
            vision_feature_select_strategy="full",
        )
    )
    model.generation_config.eos_token_id = 1
    model.generation_config.pad_token_id = 0
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def base_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_model(tmp_path_factory.mktemp("model") / "tiny-llava")


def make_pictures() -> Pictures:
    """Eleven images whose brightness is their score."""
    return Pictures({str(n): Image.new("RGB", (32, 32), (n * 25, n * 25, n * 25)) for n in range(11)})


@pytest.fixture(scope="session")
def pictures() -> Pictures:
    return make_pictures()


@pytest.fixture(scope="session")
def examples() -> pd.DataFrame:
    """Score requests over the pictures and explanations in two turns; 4 copies to train on, 1 to validate on."""
    rows = []
    for copy in range(5):
        for n in range(11):
            ask = [{"role": "user", "text": "Score the image.", "images": [str(n)]}]
            chat = [*ask, {"role": "assistant", "text": str(n), "images": []}, {"role": "user", "text": "Why?"}]
            for task, messages, completion in (("score", ask, str(n)), ("appearance_1", chat, f"It is {n} of 10.")):
                rows.append(
                    {
                        "example_id": f"{task}-{n}-{copy}",
                        "item_id": str(n),
                        "fold": "validation" if copy == 4 else "train",
                        "task": task,
                        "aspect": "overall",
                        "messages": json.dumps(messages),
                        "completion": completion,
                        "score": float(n) if task == "score" else None,
                        "question_id": "",
                        "weight": 1.0,
                    }
                )
    return EXAMPLES.frame(rows)


@pytest.fixture(scope="session")
def grey() -> np.ndarray:
    """The brightness of each picture, by score."""
    return np.arange(11) * 25
