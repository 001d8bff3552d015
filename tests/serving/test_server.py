"""What waits while the backend is busy is its next batch, and one request that fails fails alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from t2i_eval_kedro.judging.protocols import Answer, ChatMessage, Request
from t2i_eval_kedro.serving.server import Batcher, SentImages


class Slow:
    """Answers with the text of the request, once it may; notes its batches; fails over ``bad``."""

    def __init__(self) -> None:
        self.may = threading.Event()
        self.batches: list[int] = []

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        self.may.wait(10)
        self.batches.append(len(requests))
        for i, request in enumerate(requests):
            if request.messages[0].text == "bad":
                raise ValueError("a bad request")
            yield i, Answer(request.messages[0].text)


def ask(text: str) -> Request:
    return Request("", "", "", "", (ChatMessage("user", text),), max_tokens=4)


def test_waiting_requests_are_one_batch() -> None:
    backend = Slow()
    batcher = Batcher(backend, 8)
    texts = [str(i) for i in range(17)]
    with ThreadPoolExecutor(17) as pool:
        asked = [pool.submit(batcher.ask, ask(text)) for text in texts]
        threading.Timer(0.5, backend.may.set).start()
        assert [future.result(10).text for future in asked] == texts
    assert backend.batches[0] + 8 + 8 >= 17  # at most the first was small
    assert len(backend.batches) <= 4


def test_a_request_that_fails_fails_alone() -> None:
    backend = Slow()
    batcher = Batcher(backend, 8)
    with ThreadPoolExecutor(5) as pool:
        asked = {text: pool.submit(batcher.ask, ask(text)) for text in ("a", "bad", "b", "c")}
        threading.Timer(0.3, backend.may.set).start()
        for text in ("a", "b", "c"):
            assert asked[text].result(10).text == text
        with pytest.raises(ValueError, match="a bad request"):
            asked["bad"].result(10)
    assert batcher.ask(ask("d")).text == "d"


def test_an_image_is_kept_while_anybody_waits_who_sent_it() -> None:
    images = SentImages()
    one, two = images.put(b"x"), images.put(b"x")
    assert one == two
    images.drop(one)
    assert images.read(two) == b"x"
    images.drop(two)
    with pytest.raises(KeyError):
        images.read(two)
