"""The tiny model's folder: tokenizer, chat template, save, load, generate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from t2i_eval_kedro.shapes.prompts import elements, prompt_text, sample_prompts
from t2i_eval_kedro.shapes.tiny_vlm import (
    IMAGE_TOKENS,
    LEVELS,
    WORDS,
    build_model,
    build_processor,
    build_tokenizer,
    save,
)

_QUESTION = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "is there a circle ?"}]}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny"
    processor = build_processor()
    save(build_model(processor.tokenizer), processor, path)
    return path


@pytest.fixture(scope="module")
def processor(folder: Path) -> Any:
    return AutoProcessor.from_pretrained(folder)


@pytest.mark.parametrize("word", [*WORDS, *LEVELS])
def test_each_word_and_level_is_one_token_wherever_it_stands(processor: Any, word: str) -> None:
    def encode(text: str) -> list[int]:
        return list(processor.tokenizer.encode(text, add_special_tokens=False))

    assert len(encode(word)) == 1
    assert encode(f"yes {word}") == encode("yes") + encode(word)
    assert processor.tokenizer.decode(encode(word)) == word


def test_a_level_is_the_whole_assistant_answer(processor: Any) -> None:
    for level in LEVELS:
        chat = [*_QUESTION, {"role": "assistant", "content": level}]
        asked = processor.tokenizer.encode(processor.apply_chat_template(_QUESTION, add_generation_prompt=True))
        whole = processor.tokenizer.encode(processor.apply_chat_template(chat))
        assert whole[: len(asked)] == asked
        assert processor.tokenizer.convert_ids_to_tokens(whole[len(asked) :]) == [f"Ġ{level}", "<end>"]


def test_prompts_and_questions_are_made_of_single_tokens(processor: Any) -> None:
    for prompt in sample_prompts(50, seed=4):
        for text in [prompt_text(prompt), *(element.question for element in elements(prompt))]:
            words = text.replace(",", " ,").replace(".", " .").split()
            assert len(processor.tokenizer.encode(text)) == len(words)


@settings(deadline=None)
@given(st.text().filter(lambda text: not text.startswith(" ") and not any(f"<{w}>" in text for w in ("pad", "end"))))
def test_any_text_survives_encoding(text: str) -> None:
    encoded = _TOKENIZER.encode(text, add_special_tokens=False)
    assert _TOKENIZER.decode(encoded) == text


_TOKENIZER = build_tokenizer()


def test_chat_template_writes_every_role_and_both_kinds_of_content(processor: Any) -> None:
    chat = [
        {"role": "system", "content": "rate"},
        *_QUESTION,
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "why ?"},
    ]
    assert processor.apply_chat_template(chat, add_generation_prompt=True) == (
        "<system>rate<end><user><image>is there a circle ?<end><assistant>yes<end><user>why ?<end><assistant>"
    )
    with pytest.raises(Exception, match="Unknown role: tool"):
        processor.apply_chat_template([{"role": "tool", "content": "x"}])


def test_assistant_mask_covers_the_answers_and_their_ends(processor: Any) -> None:
    image = Image.new("RGB", (64, 64))
    chat = [
        {"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": "is it clear ?"}]},
        {"role": "assistant", "content": "it is hazy"},
        {"role": "user", "content": "rate overall"},
        {"role": "assistant", "content": "10"},
    ]
    out = processor.apply_chat_template(
        chat, tokenize=True, return_dict=True, return_assistant_tokens_mask=True, return_tensors="pt"
    )
    masked = out["input_ids"][0][torch.as_tensor(np.array(out["assistant_masks"]))[0].bool()]
    tokens = processor.tokenizer.convert_ids_to_tokens(masked)
    assert tokens == ["Ġit", "Ġis", "Ġhazy", "<end>", "Ġ10", "<end>"]


def test_saved_folder_loads_and_generates(folder: Path, processor: Any) -> None:
    model = AutoModelForImageTextToText.from_pretrained(folder)
    assert model.dtype == torch.float32
    assert sum(p.numel() for p in model.parameters()) < 1_500_000
    assert (folder / "model.safetensors").stat().st_size <= 6_000_000  # in 32 bits; the embedded model is stored in 16
    assert model.generation_config.eos_token_id == processor.tokenizer.convert_tokens_to_ids("<end>")
    assert model.generation_config.pad_token_id == processor.tokenizer.pad_token_id
    images = [Image.new("RGB", size, color) for size, color in (((64, 64), "red"), ((200, 100), "blue"))]
    texts = [processor.apply_chat_template(_QUESTION, add_generation_prompt=True)] * 2
    inputs = processor(text=texts, images=images, padding=True, return_tensors="pt")
    assert inputs["pixel_values"].shape == (2, 3, 64, 64)
    assert (inputs["input_ids"] == model.config.image_token_id).sum(dim=1).tolist() == [IMAGE_TOKENS] * 2
    out = model.generate(**inputs, do_sample=False, max_new_tokens=3)
    assert out.shape[0] == 2
    text_only = processor(text=["<user>list questions : a star<end><assistant>"], return_tensors="pt")
    assert model.generate(**text_only, do_sample=False, max_new_tokens=3).shape[0] == 1


def test_model_is_fixed_by_its_seed() -> None:
    one, same, other = (build_model(_TOKENIZER, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_tokenizer_is_the_same_on_every_build() -> None:
    assert build_tokenizer().backend_tokenizer.to_str() == _TOKENIZER.backend_tokenizer.to_str()
