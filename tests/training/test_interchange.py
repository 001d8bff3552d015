from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from t2i_eval_kedro.cli.export_examples import export
from t2i_eval_kedro.datasets.image_store import ImageStore, write_image_store
from t2i_eval_kedro.schema import EXAMPLES
from t2i_eval_kedro.training.interchange import export_examples


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    out = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(out, format="JPEG")
    write_image_store(tmp_path / "store", [("a/1", out.getvalue())])
    return ImageStore(tmp_path / "store")


def make(messages: list[dict], completion: str, **more: object):
    row = {
        "example_id": "e",
        "item_id": "i",
        "fold": "train",
        "task": "score",
        "aspect": "",
        "question_id": "",
        "weight": 1.0,
    }
    return EXAMPLES.frame([row | {"messages": json.dumps(messages), "completion": completion} | more])


ASK = {"role": "user", "text": "a <image> of it?", "images": ["a/1"]}
CHAT = [
    ASK,
    {"role": "assistant", "text": "5", "images": [], "learn": True},
    {"role": "user", "text": "Sure?", "images": []},
    {"role": "assistant", "text": "quoted", "images": []},
    {"role": "user", "text": "Why?", "images": []},
]


def test_ms_swift_learns_what_this_project_learns(store: ImageStore, tmp_path: Path) -> None:
    assert export_examples(make(CHAT, "Because."), store, tmp_path / "out", "ms-swift") == {"train": 1}
    (line,) = (tmp_path / "out" / "train.jsonl").read_text().splitlines()
    written = json.loads(line)
    assert [message["content"] for message in written["messages"]] == [
        *("<image>a < image> of it?", "5", "Sure?", "quoted", "Why?", "Because.")
    ]
    assert [message["content"] for message in written["messages"] if message.get("loss") is False] == ["quoted"]
    (image,) = written["images"]
    assert (tmp_path / "out" / image).resolve().is_relative_to((tmp_path / "out").resolve())
    assert (tmp_path / "out" / image).read_bytes() == store.read("a/1")


def test_llama_factory_learns_the_last_answer_of_each_conversation(store: ImageStore, tmp_path: Path) -> None:
    assert export_examples(make(CHAT, "Because."), store, tmp_path / "out", "llama-factory") == {"train": 2}
    about = json.loads((tmp_path / "out" / "dataset_info.json").read_text())["t2i_eval_train"]
    written = json.loads((tmp_path / "out" / about["file_name"]).read_text())
    assert [conversation["messages"][-1]["content"] for conversation in written] == ["5", "Because."]
    for conversation in written:
        text = "".join(message["content"] for message in conversation["messages"])
        assert text.count("<image>") == len(conversation["images"]) == 1
        assert {message["role"] for message in conversation["messages"]} <= {"user", "assistant"}
    assert about["columns"] == {"messages": "messages", "images": "images"}


def test_a_rehearsed_image_is_copied_from_its_own_file(store: ImageStore, tmp_path: Path) -> None:
    Image.new("RGB", (5, 5), "blue").save(tmp_path / "mine.png")
    rehearsed = make([ASK | {"images": [f"file:{tmp_path / 'mine.png'}"]}], "Blue.")
    export_examples(rehearsed, store, tmp_path / "out", "ms-swift")
    (image,) = json.loads((tmp_path / "out" / "train.jsonl").read_text())["images"]
    assert (tmp_path / "out" / image).read_bytes() == (tmp_path / "mine.png").read_bytes()


def test_what_has_no_place_in_the_form_is_counted(store: ImageStore, tmp_path: Path, caplog) -> None:
    examples = make([ASK], "5", soft_label='{"5": 1.0}')
    export_examples(examples, store, tmp_path / "out", "ms-swift")
    assert "1 of 1 examples have a soft label, weight or frequency" in caplog.text


def test_the_command_says_what_it_wrote(store: ImageStore, tmp_path: Path) -> None:
    make([ASK], "5").to_parquet(tmp_path / "examples.parquet")
    words = [str(tmp_path / "examples.parquet"), str(store.folder), str(tmp_path / "out"), "--format", "ms-swift"]
    result = CliRunner().invoke(export, words)
    assert result.exit_code == 0, result.output
    assert "1 train conversations" in result.output
