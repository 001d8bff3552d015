"""The batches of an architecture whose images become several tiles each, and differ in number."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from random_model import Pictures

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.models.processors import load_processor, to_chat
from t2i_eval_kedro.schema import EXAMPLES
from t2i_eval_kedro.training.data import Encoder

TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<end_of_utterance>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture(scope="module")
def tiled(base_model: Path) -> Any:
    """Idefics3's processor: an image is cut into tiles, each with tokens of its own around it."""
    from transformers import Idefics3Processor
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    tokenizer = load_processor(base_model).tokenizer
    tiles = Idefics3ImageProcessorPil(size={"longest_edge": 64}, max_image_size={"longest_edge": 32})
    processor = Idefics3Processor(tiles, tokenizer, image_seq_len=4, chat_template=TEMPLATE)
    processor.tokenizer.eos_token = "<end_of_utterance>"
    return processor


def make_examples(requests: list[tuple[list[str], str, str]]):
    rows = [
        {
            "example_id": str(place),
            "item_id": "i",
            "fold": "train",
            "task": "score",
            "aspect": "",
            "messages": json.dumps([{"role": "user", "text": text, "images": keys}]),
            "completion": completion,
            "score": None,
            "question_id": "",
            "weight": 1.0,
        }
        for place, (keys, text, completion) in enumerate(requests)
    ]
    return EXAMPLES.frame(rows)


STORE = Pictures({"wide": Image.new("RGB", (64, 32), "red"), "square": Image.new("RGB", (64, 64), "blue")})


@pytest.mark.parametrize(
    "requests",
    [
        [(["square"], "a", "1"), (["square"], "a longer text", "10")],
        [(["wide"], "a", "1"), (["square"], "a longer text", "10")],  # 3 and 5 tiles: the processor must pad
        [(["wide", "square"], "a", "1"), (["square", "wide"], "b", "10")],
    ],
)
def test_batches_equal_those_of_trl(tiled: Any, requests: list[tuple[list[str], str, str]]) -> None:
    import torch
    from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

    theirs = [
        {
            "images": [STORE.image(key) for key in keys],
            "prompt": to_chat([{"role": "user", "text": text, "images": keys}]),
            "completion": to_chat([{"role": "assistant", "text": completion}]),
        }
        for keys, text, completion in requests
    ]
    expected = DataCollatorForVisionLanguageModeling(tiled, completion_only_loss=True)(theirs)
    encoder = Encoder(make_examples(requests), tiled, STORE)
    for _ in range(2):  # processed, and from what was kept
        batch = encoder([{"row": row} for row in range(len(requests))])
        assert set(batch) == set(expected)
        torch.testing.assert_close(batch["pixel_values"], expected["pixel_values"])
        torch.testing.assert_close(batch["pixel_attention_mask"], expected["pixel_attention_mask"])
        for place in range(len(requests)):
            ours, real = batch["attention_mask"][place].bool(), expected["attention_mask"][place].bool()
            for name in ("input_ids", "labels"):
                assert batch[name][place][ours].tolist() == expected[name][place][real].tolist()


def test_little_memory_for_images_changes_nothing_but_time(tiled: Any) -> None:
    import torch

    examples = make_examples([(["square"], "a", "1"), (["square"], "b", "10"), (["wide"], "a", "1")])
    ample, none = Encoder(examples, tiled, STORE), Encoder(examples, tiled, STORE, cache_mb=0)
    for rows in ([0, 1], [2], [1, 0]):
        batch = [{"row": row} for row in rows]
        for name, value in ample(batch).items():
            torch.testing.assert_close(none(batch)[name], value)


def test_examples_without_images_make_a_batch(tiled: Any) -> None:
    batch = Encoder(make_examples([([], "a", "1"), ([], "bb", "2")]), tiled, STORE)([{"row": 0}, {"row": 1}])
    assert set(batch) == {"input_ids", "attention_mask", "labels"}
    assert batch["attention_mask"].tolist()[0][0] == 0


def test_an_answer_ends_even_where_the_template_does_not_say_so(base_model: Path) -> None:
    processor = load_processor(base_model)
    processor.chat_template = processor.chat_template.replace("<|end|>", "")
    examples = make_examples([([], "a", "1")])
    labels = Encoder(examples, processor, STORE)([{"row": 0}])["labels"][0]
    assert processor.tokenizer.decode(labels[labels != -100]) == "1<|end|>"


def test_where_a_template_rewrites_the_request_what_a_judge_is_asked_with_is_learned_on(base_model: Path) -> None:
    processor = load_processor(base_model)
    processor.chat_template = "{{ messages | length }}" + processor.chat_template
    batch = Encoder(make_examples([([], "a", "1")]), processor, STORE)([{"row": 0}])
    assert processor.tokenizer.decode(batch["input_ids"][0]) == "1<|user|>a<|assistant|>1<|end|>"


def test_a_template_that_does_not_write_an_answer_is_refused(base_model: Path) -> None:
    processor = load_processor(base_model)
    processor.chat_template = processor.chat_template.replace("{{ part['text'] }}", "{{ part['text'][:1] }}")
    with pytest.raises(T2IEvalError, match="does not write an answer as it is"):
        Encoder(make_examples([([], "a", "1")]), processor, STORE)([{"row": 0}])


def test_a_template_that_rewrites_an_earlier_answer_is_refused(base_model: Path) -> None:
    processor = load_processor(base_model)
    template = processor.chat_template
    turns = [
        {"role": "user", "text": "a"},
        {"role": "assistant", "text": "100", "learn": True},
        {"role": "user", "text": "b"},
    ]
    conversation = make_examples([([], "b", "2")]).assign(messages=json.dumps(turns))
    for written in (
        "{% if message['role'] == 'user' or message == messages[-1] %}{{ part['text'] }}{% endif %}",
        "{{ part['text'][:2] }}",
    ):
        processor.chat_template = template.replace("{{ part['text'] }}", written)
        with pytest.raises(T2IEvalError, match="example '0' differently"):
            Encoder(conversation, processor, STORE)([{"row": 0}])
    processor.chat_template = template
    assert len(Encoder(conversation, processor, STORE)([{"row": 0}])["labels"]) == 1


def test_lengths_are_those_of_the_encoded_examples_and_no_image_is_decoded(tiled: Any) -> None:
    class Sized:
        """Images with a size, of which nothing else can be read."""

        def image(self, key: str) -> Image.Image:
            raise AssertionError("decoded")

        def read(self, key: str) -> bytes:
            out = io.BytesIO()
            STORE.image(key).save(out, "PNG")
            data = out.getvalue()
            return data[: data.index(b"IDAT") + 4]  # the head alone

    requests = [
        (["wide"], "Score it.", "5"),
        (["square"], "A longer question about it ?", "7 of 10"),
        (["wide", "square"], "Which ?", "a"),
        ([], "Why ?", "because"),
    ]
    examples = make_examples(requests)
    encoder = Encoder(examples, tiled, STORE)
    whole = [int(encoder([{"row": row}])["attention_mask"].sum()) for row in range(len(requests))]
    assert Encoder(examples, tiled, Sized()).lengths(range(len(requests))) == whole
    assert len(set(whole)) == len(whole)


def test_soft_labels_of_several_tokens_are_refused_before_anything_is_encoded(tiled: Any) -> None:
    examples = make_examples([(["wide"], "Score it.", "5")])
    soft = EXAMPLES.check(examples.assign(soft_label=json.dumps({"5": 0.5, "5 of 10": 0.5})))
    with pytest.raises(
        T2IEvalError, match=r"Soft labels need levels of one token, and the level '5 of 10' is \d tokens"
    ):
        Encoder(soft, tiled, STORE)
