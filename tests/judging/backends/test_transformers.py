from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.backends import prefixes
from t2i_eval_kedro.judging.backends.transformers import TransformersBackend
from t2i_eval_kedro.judging.protocols.base import Answer, ChatMessage, Request
from t2i_eval_kedro.models.loading import context_length, load_model
from t2i_eval_kedro.models.processors import load_processor
from t2i_eval_kedro.schema import FAILED, OK

TINY = Path(__file__).parents[3] / "data/06_models/tiny_vlm"
YES_NO = ("yes", "no")
QUESTIONS = (
    "is there a red circle ?",
    "is there a red circle above the blue square and left of two small green triangles ?",
    "is there a red circle ?",  # the same again: one token each must be left to read from
    "how many stars are there ?",
    "rate overall",
)


class Store:
    """Random images by number; counts how often each is read, and has one that is no good."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def image(self, key: str) -> Image.Image:
        self.read.append(key)
        if key == "broken":
            raise OSError("it is cut short")
        rng = np.random.default_rng(int(key) if key.isdigit() else 0)
        return Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))


def ask(item: str, text: str, choices: tuple[str, ...] = YES_NO, history: tuple[ChatMessage, ...] = ()) -> Request:
    images = () if history or item == "" else (item,)
    return Request(item, text, "task", "", (*history, ChatMessage("user", text, images)), 6, choices)


def everything(choices: tuple[str, ...] = YES_NO, items: int = 6) -> list[Request]:
    """Different numbers of questions about each image, some in a chat that goes on, one request without an image."""
    requests = [ask("", "list questions : a red circle", choices)]
    for item in map(str, range(items)):
        requests += [ask(item, text, choices) for text in QUESTIONS[: 1 + int(item) % len(QUESTIONS)]]
        history = (ChatMessage("user", QUESTIONS[0], (item,)), ChatMessage("assistant", "yes"))
        requests.append(ask(item, "why ?", choices, history))
    return requests


def answers(backend: TransformersBackend, requests: Sequence[Request]) -> list[Answer]:
    given = dict(backend.answer(requests))
    assert len(given) == len(requests)
    return [given[i] for i in range(len(requests))]


def assert_alike(ours: Sequence[Answer], theirs: Sequence[Answer], within: float = 1e-5) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert (a.status, a.usage) == (b.status, b.usage)
        assert a.out_of_vocabulary_mass == pytest.approx(b.out_of_vocabulary_mass, abs=within)
        assert dict(a.probabilities) == pytest.approx(dict(b.probabilities), abs=within)


@pytest.fixture(scope="module")
def processor():
    return load_processor(TINY)


@pytest.fixture(scope="module")
def model():
    return load_model(TINY, device="cpu")


@pytest.fixture
def backend(model, processor):
    def build(**settings: object) -> TransformersBackend:
        return TransformersBackend(model, processor, Store(), **({"batch_size": 16} | settings))

    return build


@pytest.fixture(scope="module")
def plain(model, processor) -> dict[str, list[Answer]]:
    """What the loop over single requests says, each with its image."""
    backend = TransformersBackend(model, processor, Store(), batch_size=1, share_prefixes=False)
    return {kind: answers(backend, everything(choices)) for kind, choices in (("scored", YES_NO), ("generated", ()))}


def shares(caplog: pytest.LogCaptureFixture) -> bool:
    """Whether no backend has given up sharing prefixes."""
    return not [record for record in caplog.records if "encoded again" in record.getMessage()]


def test_a_packed_row_gives_the_distributions_of_the_plain_loop(backend, processor, caplog) -> None:
    # With the whole vocabulary as candidates, probabilities are the logits up to a constant.
    texts = {number: processor.tokenizer.decode([number]) for number in processor.tokenizer.get_vocab().values()}
    words = tuple(
        text for i, text in texts.items() if processor.tokenizer.encode(text, add_special_tokens=False) == [i]
    )
    assert len(words) > 100
    requests = everything(words)
    expected = answers(backend(batch_size=1, share_prefixes=False), requests)
    spread = [np.log(list(answer.probabilities.values())).std() for answer in expected]
    assert min(spread) > 1  # a trained model, whose logits differ
    for ours, theirs in zip(answers(backend(batch_size=16), requests), expected, strict=True):
        assert list(ours.probabilities) == list(theirs.probabilities)
        np.testing.assert_allclose(
            np.log(list(ours.probabilities.values())), np.log(list(theirs.probabilities.values())), atol=1e-4
        )
        assert ours.out_of_vocabulary_mass == pytest.approx(theirs.out_of_vocabulary_mass, abs=1e-5)
    assert shares(caplog)


@pytest.mark.parametrize("choices", [YES_NO, ()])
def test_a_request_longer_than_the_model_reads_fails_alone_and_says_so(
    backend, model, choices: tuple[str, ...]
) -> None:
    limit = context_length(model.config)
    assert limit is not None
    short = [ask("0", QUESTIONS[0], choices), ask("1", QUESTIONS[1], choices)]
    long = ask("0", "is there a red circle ? " * (limit // 6 + 1), choices)
    first, failed, second = answers(backend(), [short[0], long, short[1]])
    assert failed.status == FAILED
    assert f"the model reads {limit} at most" in failed.text
    assert_alike([first, second], answers(backend(), short))
    assert {first.status, second.status} == {OK}


@pytest.mark.parametrize("batch_size", [1, 7, 64])
@pytest.mark.parametrize("kind", ["scored", "generated"])
def test_answers_do_not_depend_on_how_they_are_batched(backend, plain, batch_size: int, kind: str) -> None:
    requests = everything(YES_NO if kind == "scored" else ())
    order = np.random.default_rng(batch_size).permutation(len(requests))
    given = answers(backend(batch_size=batch_size), [requests[i] for i in order])
    assert_alike(given, [plain[kind][i] for i in order])
    assert [answer.text for answer in given] == [plain[kind][i].text for i in order]


def test_kinds_of_choices_share_an_image(backend) -> None:
    levels = tuple(map(str, range(11)))
    both = backend()
    given = answers(both, [ask("1", QUESTIONS[0]), ask("1", "rate overall", levels)])
    assert [len(answer.probabilities) for answer in given] == [2, 11]
    assert both.images.read == ["1"]
    assert_alike(given[1:], answers(backend(), [ask("1", "rate overall", levels)]))


@pytest.mark.parametrize("choices", [YES_NO, ()])
def test_each_image_is_read_and_encoded_once(backend, model, choices) -> None:
    requests = [ask(str(item), text, choices) for text in QUESTIONS for item in range(6)]
    once = backend(batch_size=10)
    answers(once, requests[:12])  # the first requests of a backend are asked twice, to check that sharing is right
    once.images.read.clear()
    encoded = []
    hook = model.model.vision_tower.register_forward_pre_hook(
        lambda _, args, kwargs: encoded.append(len(kwargs["pixel_values"] if not args else args[0])), with_kwargs=True
    )
    try:
        answers(once, requests)
    finally:
        hook.remove()
    assert sorted(once.images.read) == [str(item) for item in range(6)]
    assert sum(encoded) == 6


def test_many_long_questions_are_asked_in_more_rows_than_one(backend, plain) -> None:
    requests = [ask("1", f"{text} {'and a star ' * 60}") for text in QUESTIONS for _ in range(4)]
    groups = prefixes.group(requests, range(len(requests)), limit=64)
    assert [len(own) for own in groups] == [11, 9]
    one_by_one = backend(share_prefixes=False, batch_size=1)
    assert_alike(answers(backend(batch_size=64), requests), answers(one_by_one, requests))


@pytest.mark.parametrize("choices", [YES_NO, ()])
@pytest.mark.parametrize("share", [True, False])
def test_a_bad_image_costs_its_own_requests(backend, choices, share: bool) -> None:
    requests = [ask(item, text, choices) for item in ("1", "broken", "2") for text in QUESTIONS]
    given = answers(backend(batch_size=64, share_prefixes=share), requests)
    assert [answer.status for answer in given] == [OK] * 5 + [FAILED] * 5 + [OK] * 5
    assert all(answer.text.startswith("the image cannot be read") for answer in given[5:10])


def test_levels_of_several_tokens_are_scored_and_the_same_tokens_refused(backend) -> None:
    (answer,) = answers(backend(), [ask("1", QUESTIONS[0], ("yes", "extraordinarily"))])
    assert answer.status == OK
    assert 0 <= answer.probabilities["extraordinarily"] < answer.probabilities["yes"]
    assert sum(answer.probabilities.values()) == pytest.approx(1)
    with pytest.raises(T2IEvalError, match="'yes' with the same tokens as ' yes', so they cannot be told apart"):
        answers(backend(), [ask("1", QUESTIONS[0], ("yes", " yes"))])


def test_a_sliding_window_is_asked_plainly(processor, caplog) -> None:
    from transformers import AutoConfig, AutoModelForImageTextToText

    config = AutoConfig.from_pretrained(TINY)
    layers = config.text_config.num_hidden_layers
    config.text_config.layer_types = ["sliding_attention", *["full_attention"] * (layers - 1)]
    config.text_config.sliding_window = 8
    model = AutoModelForImageTextToText.from_pretrained(TINY, config=config, dtype="float32")
    check_falls_back(model, processor, caplog, "layers other than full causal attention")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_model_that_is_not_as_it_should_be_is_asked_plainly(processor, caplog, dtype) -> None:
    """A text model that counts positions itself: it answers, but wrongly, where two questions share a row."""
    model = load_model(TINY, dtype=dtype, device="cpu")
    model.model.language_model.register_forward_pre_hook(
        lambda _, args, kwargs: (
            args,
            kwargs | {"position_ids": None} if kwargs["inputs_embeds"].shape[1] > 1 else kwargs,
        ),
        with_kwargs=True,
    )
    requests = [ask(item, text) for item in ("1", "2") for text in QUESTIONS]
    with caplog.at_level(logging.WARNING):
        answers(TransformersBackend(model, processor, Store(), batch_size=4), requests)
    assert [record.getMessage() for record in caplog.records if "logits change by" in record.getMessage()]


def test_a_model_that_refuses_a_mask_is_asked_plainly(processor, caplog) -> None:
    model = load_model(TINY, device="cpu")

    def refuse(_module, args, kwargs) -> None:
        mask = kwargs["attention_mask"]
        if mask is not None and mask.dim() == 4:
            raise ValueError("no mask of four dimensions")

    model.model.language_model.register_forward_pre_hook(refuse, with_kwargs=True)
    check_falls_back(model, processor, caplog, "no mask of four dimensions")


def check_falls_back(model, processor, caplog, reason: str) -> None:
    """It answers as if prefixes were never shared, and says why once."""
    requests = everything()
    with caplog.at_level(logging.WARNING):
        given = answers(TransformersBackend(model, processor, Store(), batch_size=4), requests)
    alone = TransformersBackend(model, processor, Store(), batch_size=1, share_prefixes=False)
    assert_alike(given, answers(alone, requests))
    said = [record.getMessage() for record in caplog.records if "encoded again" in record.getMessage()]
    assert len(said) == 1
    assert reason in said[0]


def test_bfloat16_answers_nearly_as_float32(processor, plain, caplog) -> None:
    half = load_model(TINY, dtype="bfloat16", device="cpu")
    given = answers(TransformersBackend(half, processor, Store(), batch_size=16), everything())
    assert shares(caplog)
    alone = TransformersBackend(half, processor, Store(), batch_size=1, share_prefixes=False)
    assert_alike(given, answers(alone, everything()), within=0.01)
    assert_alike(given, plain["scored"], within=0.15)  # rounding the weights alone moves one mass from 0.22 to 0.32
    for a, b in zip(given, plain["scored"], strict=True):
        assert dict(a.probabilities) == pytest.approx(dict(b.probabilities), abs=0.02)


def test_an_adapter_that_is_not_merged_is_shared_through(model, processor, plain, caplog) -> None:
    from peft import LoraConfig, get_peft_model

    fresh = load_model(TINY, device="cpu")
    adapted = get_peft_model(fresh, LoraConfig(r=2, target_modules=["q_proj"]))  # starts as no change at all
    backend = TransformersBackend(adapted, processor, Store(), batch_size=16)
    for kind, choices in (("scored", YES_NO), ("generated", ())):
        assert_alike(answers(backend, everything(choices)), plain[kind])
    assert shares(caplog)
