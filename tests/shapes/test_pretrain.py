"""Pre-training: what it feeds the model is what a chat would feed it, and a rebuild gives the same bytes."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from t2i_eval_kedro.shapes.make import DEFAULT_PROMPTS, sample_scenes
from t2i_eval_kedro.shapes.pretrain import ROW, measure, pack, patch_labels, pictures, pretrain, sample_questions
from t2i_eval_kedro.shapes.render import draw
from t2i_eval_kedro.shapes.scene import COLORS, SHAPES, SIZES, prompt_text
from t2i_eval_kedro.shapes.tiny_vlm import build_model, build_processor

CHECKPOINT = Path(__file__).parents[2] / "data" / "06_models" / "tiny_vlm"
_FEW = {"tower_steps": 2, "steps": 2, "numeral_steps": 2, "batch": 4, "threads": 1, "check": 2}


@pytest.fixture(scope="module")
def processor() -> Any:
    return build_processor()


def _chat(processor: Any, question: str, answer: str) -> str:
    user = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}
    text: str = processor.apply_chat_template([user, {"role": "assistant", "content": answer}])
    return text


def test_a_packed_row_gives_each_question_the_logits_of_a_chat_of_its_own(processor: Any) -> None:
    model = build_model(processor.tokenizer).eval()
    picture, rng = next(pictures([5]))
    pairs = sample_questions(picture, 4, rng)
    rows = pack(processor.tokenizer, [pairs], ROW)
    labels = rows.pop("labels")[0]
    image = draw(picture.objects, picture.degradation)
    with torch.inference_mode():
        packed = model(**rows, pixel_values=torch.from_numpy(picture.pixels[None])).logits[0]
        alone, answers = [], []
        for question, answer in pairs:
            inputs = processor(text=_chat(processor, question, answer), images=image, return_tensors="pt")
            n = len(processor.tokenizer.encode(answer)) + 1
            alone.append(model(**inputs).logits[0, -n - 1 : -1])
            answers += inputs["input_ids"][0, -n:].tolist()
    asked = torch.nonzero(labels != -100)[:, 0]
    assert labels[asked].tolist() == answers
    torch.testing.assert_close(packed[asked - 1], torch.cat(alone), atol=1e-4, rtol=1e-4)


def test_pixels_are_those_of_the_processor(processor: Any) -> None:
    for picture, _ in islice(pictures([6]), 5):
        image = draw(picture.objects, picture.degradation)
        pixels = processor.image_processor(image, return_tensors="np")["pixel_values"][0]
        np.testing.assert_allclose(picture.pixels, pixels, atol=1e-5)


def test_questions_that_do_not_fit_a_row_are_left_out(processor: Any) -> None:
    picture, rng = next(pictures([7]))
    pairs = sample_questions(picture, 40, rng)
    rows = pack(processor.tokenizer, [pairs], ROW)
    assert rows["input_ids"].shape[1] <= ROW
    assert int((rows["labels"] == processor.tokenizer.eos_token_id).sum()) < 40


def test_patch_labels_name_the_object_in_its_cell() -> None:
    for picture, _ in islice(pictures([8]), 20):
        labels = patch_labels(picture)
        assert (labels[:, 0] > 0).sum() == sum(group.count for group in picture.scene.groups)
        for item in picture.objects:
            shape, color, size, count, lower, right, *_ = labels[item.cell]
            group = item.group
            assert (SHAPES[shape - 1], COLORS[color - 1], SIZES[size - 1]) == (group.shape, group.color, group.size)
            assert (count, 2 * lower + right) == (group.count, group.quadrant)
            assert item.cell == int(item.y // 16) * 4 + int(item.x // 16)


def test_no_question_or_answer_quotes_a_forbidden_prompt() -> None:
    forbidden = frozenset(prompt_text(scene) for scene in sample_scenes(DEFAULT_PROMPTS, 0))

    def quoted(hidden: frozenset[str]) -> int:
        texts = [
            text
            for picture, rng in islice(pictures([9], 1), 150)
            for question, answer in sample_questions(picture, 10, rng, hidden)
            for text in (question.removesuffix(" , what is wrong ?"), answer)
        ]
        return len(forbidden.intersection(texts))

    assert quoted(frozenset()) > 0
    assert quoted(forbidden) == 0


def test_pictures_keep_to_the_largest_number_of_groups() -> None:
    assert {len(picture.scene.groups) for picture, _ in islice(pictures([11], 2), 60)} == {1, 2}


def test_no_question_or_answer_holds_a_digit() -> None:
    for picture, rng in islice(pictures([10]), 100):
        for question, answer in sample_questions(picture, 10, rng):
            assert not any(character.isdigit() for character in question + answer)
            assert not {"rate", "score", "scores"} & set(f"{question} {answer}".split())


def test_rebuild_gives_the_same_bytes_and_another_seed_other_weights(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "same", "other")]
    accuracy = [pretrain(folder, seed=seed, **_FEW) for folder, seed in zip(folders, (0, 0, 1), strict=True)]
    one, same, other = ({p.name: p.read_bytes() for p in folder.iterdir()} for folder in folders)
    assert one == same
    assert accuracy[0] == accuracy[1]
    assert one["model.safetensors"] != other["model.safetensors"]
    assert one["tokenizer.json"] == other["tokenizer.json"]
    assert "README.md" in one


@pytest.mark.skipif(not CHECKPOINT.is_dir(), reason="the tiny model has not been built in data/06_models/tiny_vlm")
def test_the_checkpoint_sees_what_its_card_says() -> None:
    model = AutoModelForImageTextToText.from_pretrained(CHECKPOINT)
    accuracy = measure(model, AutoProcessor.from_pretrained(CHECKPOINT), pictures([0, 14]), 60)
    assert accuracy["color"] > 0.85
    assert accuracy["count"] > 0.7
    assert accuracy["yes_no"] > 0.7
