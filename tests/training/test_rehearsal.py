from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from t2i_eval_kedro.datasets.image_store import ImageStore, write_image_store
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.models.images import LimitedImages, size_of
from t2i_eval_kedro.shapes.make import make_shapes
from t2i_eval_kedro.training.rehearsal import WithFiles, read_chats, rehearsal_examples, with_files


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


def test_files_of_a_store_have_their_size_read_and_are_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image_store(tmp_path / "store", [])
    Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:-200])
    (tmp_path / "none.jpg").write_bytes(b"no image")
    both = with_files(ImageStore(tmp_path / "store"))
    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "load", None)
        assert size_of(both, f"file:{tmp_path}/a.jpg") == (40, 20)
        assert LimitedImages(both, None, 200).size(f"file:{tmp_path}/a.jpg") == (20, 10)
    assert LimitedImages(both, None, 200).image(f"file:{tmp_path}/a.jpg").size == (20, 10)
    with pytest.raises(T2IEvalError, match=r"none\.jpg' of a rehearsed example cannot be read"):
        size_of(both, f"file:{tmp_path}/none.jpg")
    with pytest.raises(T2IEvalError, match=r"cut\.jpg"):
        LimitedImages(both, None, 200).image(f"file:{tmp_path}/cut.jpg")
    with pytest.raises(T2IEvalError, match="does not contain the image 'b'"):
        size_of(both, "b")


def one(tmp_path: Path, chat: Any) -> list[dict[str, Any]]:
    """The messages of an instruction set of one conversation, beside the images a.png, b.png and c.png."""
    for name in ("a.png", "b.png", "c.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    (tmp_path / "set.json").write_text(json.dumps([chat]), encoding="utf-8")
    ((messages, _),) = read_chats(tmp_path / "set.json")
    return messages


def asked(*contents: Any, **beside: Any) -> dict[str, Any]:
    """A conversation with ``contents`` of its requests, each answered by yes."""
    turns = [{"role": role, "content": text} for c in contents for role, text in (("user", c), ("assistant", "Yes."))]
    return {"messages": turns, **beside}


@pytest.mark.parametrize(
    ("chat", "shown"),
    [
        (asked([{"type": "image", "image": "a.png"}, {"type": "text", "text": "Red?"}]), [["a.png"]]),
        (asked([{"type": "image", "path": "b.png"}, {"type": "text", "text": "<image>"}]), [["b.png"]]),
        (
            asked([{"type": "image", "url": "b.png"}, {"type": "image", "image": {"path": "a.png"}}]),
            [["b.png", "a.png"]],
        ),
        (asked([{"type": "image_url", "image_url": {"url": "a.png"}, "text": None}]), [["a.png"]]),
        (asked("One?", [{"type": "image", "image": "a.png"}]), [[], ["a.png"]]),
        (asked("Red?", images=[{"path": "a.png", "bytes": None}]), [["a.png"]]),
        (asked("Red?", image={"path": "a.png"}), [["a.png"]]),
        (
            asked("<image><image>Which?", "<image>And?", images=["c.png", "a.png", "b.png"]),
            [["c.png", "a.png"], ["b.png"]],
        ),
        (asked([{"type": "image"}, {"type": "image", "path": "b.png"}], images=["a.png"]), [["a.png", "b.png"]]),
        (asked("Which?", "And?", images=["a.png", "b.png"]), [["a.png", "b.png"], []]),
        (asked("Red?", images=None), [[]]),
    ],
)
def test_images_stand_in_the_request_that_names_them(tmp_path: Path, chat: Any, shown: list[list[str]]) -> None:
    requests = [turn for turn in one(tmp_path, chat) if turn["role"] == "user"]
    assert [turn["images"] for turn in requests] == [
        [f"file:{(tmp_path / name).resolve()}" for name in names] for names in shown
    ]
    assert not any("<image>" in turn["text"] or "None" in turn["text"] for turn in requests)


@pytest.mark.parametrize(
    ("chat", "what"),
    [
        (asked(None), "turn 1, has the content None; expected text"),
        (asked(["Red?"]), r"turn 1, has the content \['Red\?'\]"),
        (asked([{"type": "video", "video": "a.mp4"}]), "turn 1, has a part of type 'video'"),
        ({"messages": ["Red?", "Yes."]}, "turn 1, is 'Red\\?'; expected a mapping"),
        ({"messages": "Red?"}, "does not end with a request and its answer"),
        ("Red?", "does not end with a request and its answer"),
        (asked("<image>Red?"), r"says for 1 images .* names 0 in 'images'"),
        (asked("<image>Red?", images=["a.png", "b.png"]), r"says for 1 images .* names 2 in 'images'"),
        (asked([{"type": "image", "path": "a.png"}], images=["a.png"]), r"says for 0 images .* names 1 in 'images'"),
        (asked([{"type": "image"}]), r"says for 1 images .* names 0 in 'images'"),
        (
            {"messages": [{"role": "user", "content": "Red?"}, {"role": "assistant", "content": " "}]},
            "ends with an answer that is empty",
        ),
        (asked("Red?", images=["none.png"]), "has the image 'none.png', which is no file"),
        (asked([{"type": "image", "image": "none.png"}]), "has the image 'none.png', which is no file"),
        (
            asked("Red?", images=["https://example.com/a.png"]),
            "has the image 'https://example.com/a.png', which is no file",
        ),
        (asked([{"type": "image", "url": "data:image/png;base64,AAAA"}]), "has the image 'data:.*, which is no file"),
        (asked("Red?", images=[{"bytes": "AAAA"}]), "has the image None, which is no file"),
        (asked("Red?", images=5), "has the image 5, which is no file"),
    ],
)
def test_a_conversation_that_cannot_be_learned_is_refused_by_its_number(tmp_path: Path, chat: Any, what: str) -> None:
    with pytest.raises(T2IEvalError, match=f"Conversation 1 of .*{what}"):
        one(tmp_path, chat)


def test_lines_of_json_end_where_the_file_says(tmp_path: Path) -> None:
    file, chat = tmp_path / "set.jsonl", asked("One\u2028two\x85?")
    line = json.dumps(chat, ensure_ascii=False)
    file.write_text(f"\n{line}\n  \n{line}\n", encoding="utf-8")
    assert [messages[0]["text"] for messages, _ in read_chats(file)] == ["One\u2028two\x85?"] * 2
    file.write_text(f"{line}\n\n \n{{'a'}}\n", encoding="utf-8")
    with pytest.raises(T2IEvalError, match=r"cannot be read: line 4, column 2: Expecting"):
        list(read_chats(file))
    file.write_text('[\n{"messages": 1},\n{]', encoding="utf-8")
    with pytest.raises(T2IEvalError, match=r"cannot be read: line 3, column 2: Expecting"):
        list(read_chats(file))


@pytest.mark.parametrize("text", ["", " \n", "[]"])
def test_a_set_without_a_conversation_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "set.json").write_text(text, encoding="utf-8")
    with pytest.raises(T2IEvalError, match="holds no conversation"):
        list(read_chats(tmp_path / "set.json"))
