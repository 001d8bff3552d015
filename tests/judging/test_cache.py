"""A cached backend asks nothing twice and knows requests apart by everything that decides an answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from t2i_eval_kedro.datasets.answer_store import AnswerStore
from t2i_eval_kedro.judging.cache import CachedBackend, Keys
from t2i_eval_kedro.judging.protocols.base import Answer, ChatMessage, Request
from t2i_eval_kedro.judging.protocols.response_schemas import score_schema
from t2i_eval_kedro.schema import FAILED

REQUEST = Request("i", "s", "t", "", (ChatMessage("user", "score ?", ("a.png",)),), 4)
IMAGES = {"a.png": b"one", "b.png": b"two", "copy.png": b"one"}


class Echo:
    """Answers with the text it was asked; remembers what it was asked."""

    def __init__(self, answer: Answer | None = None) -> None:
        self.asked: list[str] = []
        self._answer = answer

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        for i, request in reversed(list(enumerate(requests))):  # out of order, as a server answers
            text = request.messages[-1].text
            self.asked.append(text)
            yield i, self._answer or Answer(text, probabilities={text: 1.0}, usage={"completion_tokens": 1})


def asking(*texts: str) -> list[Request]:
    return [replace(REQUEST, messages=(ChatMessage("user", text, ("a.png",)),)) for text in texts]


@pytest.fixture
def store(tmp_path: Path) -> AnswerStore:
    return AnswerStore(tmp_path / "a.sqlite")


def test_asks_only_what_is_missing(store: AnswerStore) -> None:
    keys, backend = Keys({}, IMAGES.__getitem__), Echo()
    first = dict(CachedBackend(backend, store, keys).answer(asking("a", "b", "a")))
    assert sorted(backend.asked) == ["a", "b"]
    second = dict(CachedBackend(backend, store, keys).answer(asking("b", "c", "a")))
    assert sorted(backend.asked) == ["a", "b", "c"]
    assert {i: answer.text for i, answer in first.items()} == {0: "a", 1: "b", 2: "a"}
    assert second[0] == first[1]
    assert second[2] == first[0]


def test_an_interrupted_round_keeps_what_had_come(store: AnswerStore) -> None:
    keys, backend = Keys({}), Echo()
    going = CachedBackend(backend, store, keys).answer(asking("a", "b", "c"))
    next(going)
    going.close()  # type: ignore[attr-defined]
    list(CachedBackend(backend, store, keys).answer(asking("a", "b", "c")))
    assert sorted(backend.asked) == ["a", "b", "c"]


def test_a_failure_is_asked_again_on_request_alone(store: AnswerStore) -> None:
    keys, refused = Keys({}), Answer("refused: no", FAILED, usage={"completion_tokens": 1})
    bad, good = Echo(refused), Echo()
    assert dict(CachedBackend(bad, store, keys).answer(asking("a")))[0] == refused
    assert dict(CachedBackend(good, store, keys).answer(asking("a")))[0] == refused
    assert dict(CachedBackend(good, store, keys, retry_failed=True).answer(asking("a")))[0].text == "a"
    assert dict(CachedBackend(bad, store, keys).answer(asking("a")))[0].text == "a"


def test_images_that_cannot_be_read_are_asked_about_one_by_one(store: AnswerStore) -> None:
    class Named(Echo):
        def answer(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
            for i, request in enumerate(requests):
                yield i, Answer(f"'{request.messages[-1].images[0]}' cannot be read", FAILED)

    keys = Keys({}, IMAGES.__getitem__)
    asked = [replace(REQUEST, messages=(ChatMessage("user", "score ?", (key,)),)) for key in ("x.png", "y.png")]
    answers = dict(CachedBackend(Named(), store, Keys({}, _refuse)).answer(asked))
    assert [answers[i].text for i in range(2)] == ["'x.png' cannot be read", "'y.png' cannot be read"]
    assert keys(REQUEST) != Keys({}, _refuse)(REQUEST)


def test_an_image_that_was_written_anew_is_asked_about_again(store: AnswerStore) -> None:
    images = {"a.png": b"one"}
    backend = Echo()
    cached = CachedBackend(backend, store, Keys({}, images.__getitem__))
    for content, times in ((b"one", 1), (b"one", 1), (b"two", 2)):
        images["a.png"] = content
        list(cached.answer(asking("a")))
        assert len(backend.asked) == times


def test_the_answer_about_an_image_that_could_not_be_named_is_kept_for_no_other(store: AnswerStore) -> None:
    """The file is written between the naming of the request and its answer."""
    there, backend = False, Echo()

    def read(key: str) -> bytes:
        if not there:
            raise OSError(f"there is no {key}")
        return b"one"

    cached = CachedBackend(backend, store, Keys({}, read))
    for there in (False, False, True, True):  # noqa: B007
        list(cached.answer(asking("a")))
    assert len(backend.asked) == 3


def _refuse(key: str) -> bytes:
    raise OSError(f"{key} is cut short")


def test_a_failure_that_nobody_was_paid_for_is_not_kept(store: AnswerStore) -> None:
    keys, good = Keys({}), Echo()
    list(CachedBackend(Echo(Answer("no connection", FAILED)), store, keys).answer(asking("a")))
    assert dict(CachedBackend(good, store, keys).answer(asking("a")))[0].text == "a"


@pytest.mark.parametrize(
    "other",
    [
        replace(REQUEST, messages=(ChatMessage("user", "score", ("a.png",)),)),
        replace(REQUEST, messages=(ChatMessage("system", "score ?", ("a.png",)),)),
        replace(REQUEST, messages=(ChatMessage("user", "score ?", ("b.png",)),)),
        replace(REQUEST, messages=(ChatMessage("user", "score ?", ("lost.png",)),)),
        replace(REQUEST, messages=(ChatMessage("user", "score ?"),)),
        replace(REQUEST, messages=(*REQUEST.messages, ChatMessage("assistant", "5"))),
        replace(REQUEST, max_tokens=5),
        replace(REQUEST, candidate_tokens=("1", "2")),
        replace(REQUEST, response_schema=score_schema(("1", "2"))),
    ],
)
def test_what_decides_an_answer_is_in_the_key(other: Request) -> None:
    def read(key: str) -> bytes:
        if key not in IMAGES:
            raise OSError(key)
        return IMAGES[key]

    assert Keys({}, read)(other) != Keys({}, read)(REQUEST)


def test_what_does_not_is_not() -> None:
    keys = Keys({"model": "m", "seed": 0}, IMAGES.__getitem__)
    copied = replace(REQUEST, item_id="j", step="z", messages=(ChatMessage("user", "score ?", ("copy.png",)),))
    assert keys(copied) == keys(REQUEST)
    assert Keys({"seed": 0, "model": "m"}, IMAGES.__getitem__)(REQUEST) == keys(REQUEST)
    assert Keys({"model": "m", "seed": 1}, IMAGES.__getitem__)(REQUEST) != keys(REQUEST)
