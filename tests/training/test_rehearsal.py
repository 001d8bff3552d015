from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.shapes.make import make_shapes
from t2i_eval_kedro.training.rehearsal import WithFiles, read_chats, rehearsal_examples


def test_drawn_questions_are_about_training_images_and_the_same_for_a_seed() -> None:
    items = make_shapes(3, 0).items
    folds = dict.fromkeys(items["item_id"], "train") | {items["item_id"].iloc[0]: "test"}
    made = rehearsal_examples(400, items, folds, seed=2)
    keys = [turn["images"] for text in made["messages"] for turn in json.loads(text)]
    shown = {key for images in keys for key in images}
    assert shown == set(items["image"].iloc[1:])
    assert 0.05 < np.mean([not images for images in keys]) < 0.25
    assert set(made["fold"]) == {"train"}
    assert rehearsal_examples(400, items, folds, seed=2).equals(made)
    assert not rehearsal_examples(400, items, folds, seed=3).equals(made)
    assert rehearsal_examples(1, items.assign(benchmark="other"), folds).empty


def test_both_forms_of_chat_json(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4), "red").save(tmp_path / "red.png")
    openai = {"messages": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Which?"}]}]}
    openai["messages"].append({"role": "assistant", "content": "Red."})
    openai["images"] = ["red.png"]  # type: ignore[assignment]
    llava = {
        "image": "red.png",
        "conversations": [
            {"from": "human", "value": "<image>\nWhat is it?"},
            {"from": "gpt", "value": "A square."},
            {"from": "human", "value": "Sure?"},
            {"from": "gpt", "value": "Yes."},
        ],
    }
    (tmp_path / "set.json").write_text(json.dumps([openai, llava]), encoding="utf-8")
    (tmp_path / "set.jsonl").write_text(json.dumps(openai) + "\n" + json.dumps(llava) + "\n", encoding="utf-8")
    chats = list(read_chats(tmp_path / "set.json"))
    assert chats == list(read_chats(tmp_path / "set.jsonl"))
    (first, red), (second, yes) = chats
    assert (first[0]["text"], red, len(second), second[0]["text"], yes) == (
        "Which?",
        "Red.",
        3,
        "What is it?",
        "Yes.",
    )
    (key,) = second[0]["images"]
    assert WithFiles(Unasked()).image(key).getpixel((0, 0)) == (255, 0, 0)


class Unasked:
    def image(self, key: str) -> Image.Image:
        raise AssertionError(key)


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    file = tmp_path / "set.json"
    with pytest.raises(T2IEvalError, match="cannot be read"):
        list(read_chats(file))
    file.write_text("[{}]", encoding="utf-8")
    with pytest.raises(T2IEvalError, match=r"Conversation 1 of .* does not end with a request and its answer"):
        list(read_chats(file))
    with pytest.raises(T2IEvalError, match=r"image 'none\.png'"):
        WithFiles(Unasked()).image("file:none.png")
