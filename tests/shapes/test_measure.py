"""Measuring: an answer counts exactly where greedy decoding writes it, and the embedded model is as good as its card says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from t2i_eval_kedro.shapes.build import build
from t2i_eval_kedro.shapes.measure import TARGETS, accuracies, benchmark_questions, right_answers, target
from t2i_eval_kedro.shapes.pretrain import Phase, Recipe
from t2i_eval_kedro.shapes.prompts import sample_prompts
from t2i_eval_kedro.shapes.questions import Pair

CHECKPOINT = Path(__file__).parents[2] / "data" / "06_models" / "tiny_vlm"
FEW = Recipe(tower_steps=2, tower_batch=4, phases=(Phase(2, 2e-3, 1e-3),))


@pytest.fixture(scope="module")
def loaded() -> tuple[Any, Any]:
    return AutoModelForImageTextToText.from_pretrained(CHECKPOINT, dtype=torch.float32), AutoProcessor.from_pretrained(
        CHECKPOINT
    )


def test_right_answers_are_those_that_greedy_decoding_writes(loaded: tuple[Any, Any]) -> None:
    model, processor = loaded
    asked = benchmark_questions(3, seed=8)[::4]
    right = right_answers(model, processor.tokenizer, asked)
    written = []
    for _, pictures, pair in asked:
        content = [*[{"type": "image"}] * len(pictures), {"type": "text", "text": pair.question}]
        text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        images = [Image.fromarray(one.pixels) for one in pictures]
        inputs = processor(text=text, images=images or None, return_tensors="pt")
        made = model.generate(**inputs, do_sample=False, max_new_tokens=80)[0, inputs["input_ids"].shape[1] :]
        written.append(processor.decode(made, skip_special_tokens=True) == pair.answer)
    assert right == written
    assert {kind for kind, _, _ in benchmark_questions(20, seed=8)} >= set(TARGETS) - {"elements", "yes_no", "match"}


def test_yes_and_no_count_alike_however_often_each_is_right() -> None:
    asked = [(f"match {answer}", [], Pair("", answer)) for answer in ("yes", "yes", "yes", "no")]
    found = accuracies([*asked, ("parts", [], Pair("", ""))], [True, True, True, False, True])
    assert found["match"] == (0.5, 4)
    assert found["match yes"] == (1.0, 3)
    assert found["parts"] == (1.0, 1)
    assert target("element spatial no") == TARGETS["elements"]
    assert target("caption") is None


def test_fresh_prompts_are_none_of_the_benchmark() -> None:
    benchmark = {prompt.core for prompt in sample_prompts(1000, 0)}
    fresh = benchmark_questions(30)
    assert benchmark != {prompt.core for prompt in sample_prompts(1000, 1_000_003)}
    assert len(fresh) > 1000


def test_a_rebuild_gives_the_same_bytes_and_leaves_no_state_behind(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "same")]
    found = [build(folder, FEW, workers=0, check=2) for folder in folders]
    one, same = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders)
    assert one == same
    assert found[0] == found[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "same"]
    card = one["README.md"].decode()
    assert all(f"| {kind} |" in card for kind in found[0])


def test_the_embedded_model_sees_what_its_card_says(loaded: tuple[Any, Any]) -> None:
    model, processor = loaded
    asked = benchmark_questions(25, seed=31)
    found = accuracies(asked, right_answers(model, processor.tokenizer, asked))
    assert sum(path.stat().st_size for path in CHECKPOINT.iterdir()) < 5_000_000
    for kind, least in {
        "element color": 0.95,
        "element counting": 0.93,
        "element object": 0.95,
        "clarity": 0.8,
    }.items():
        assert found[kind].share > least
    card = (CHECKPOINT / "README.md").read_text()
    stated = {
        row.split(" | ")[0].strip("| "): float(row.split(" | ")[2])
        for row in card.splitlines()
        if row.startswith("| element")
    }
    assert stated["element color"] > 0.97
