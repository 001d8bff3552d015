"""What waits while the backend is busy is its next batch; who leaves is not answered; what fails fails alone.

The server runs in a process's own thread on a real socket, in front of a backend that answers when it may.
"""

from __future__ import annotations

import base64
import http.client
import io
import json
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
import uvicorn
from PIL import Image

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.protocols import Answer, Request
from t2i_eval_kedro.serving.server import MAX_BODY, SentImages, listen, make_app, url_of


class Slow:
    """Answers with the text of the request, once it may; notes its batches; fails over ``bad``."""

    def __init__(self, images: SentImages) -> None:
        self.images = images
        self.busy, self.may = threading.Semaphore(0), threading.Semaphore(0)
        self.batches: list[list[str]] = []

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        self.busy.release()
        assert self.may.acquire(timeout=20)
        self.batches.append([request.messages[0].text for request in requests])
        for i, request in enumerate(requests):
            if request.messages[0].text == "bad":
                raise ValueError("a bad request")
            sizes = [self.images.image(key).size for key in request.messages[0].images]
            yield i, Answer(request.messages[0].text + "".join(map(str, sizes)))


class Client:
    def __init__(self, host: str, port: int, backend: Slow) -> None:
        self.host, self.port, self.backend = host, port, backend
        self._pool = ThreadPoolExecutor(32)

    def send(self, text: str, content: Any = None) -> http.client.HTTPConnection:
        """A connection over which a request about ``text`` was sent."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=20)
        body = {"model": "m", "messages": [{"role": "user", "content": content or text}]}
        connection.request("POST", "/v1/chat/completions", json.dumps(body))
        return connection

    def ask(self, text: str, content: Any = None) -> Future[tuple[int, Any]]:
        return self._pool.submit(lambda: self.read(self.send(text, content)))

    @staticmethod
    def read(connection: http.client.HTTPConnection) -> tuple[int, Any]:
        response = connection.getresponse()
        body = json.loads(response.read())
        return response.status, body["choices"][0]["message"]["content"] if response.status == 200 else body["error"]


@pytest.fixture
def client() -> Iterator[Client]:
    made: list[Slow] = []

    def make(images: SentImages) -> Slow:
        made.append(Slow(images))
        return made[0]

    with listen("127.0.0.1", 0) as listening:
        host, port = listening.getsockname()
        assert url_of(listening) == f"http://127.0.0.1:{port}/v1"
        server = uvicorn.Server(uvicorn.Config(make_app("m", make, batch_size=8), log_level="error"))
        running = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        running.start()
        yield Client(host, port, made[0])
        made[0].may.release(99)
        server.should_exit = True
        running.join(20)
        assert not running.is_alive()


def occupied(client: Client) -> Future[tuple[int, Any]]:
    """The first request, which the backend is busy with."""
    first = client.ask("first")
    assert client.backend.busy.acquire(timeout=20)
    return first


def test_what_waits_while_the_backend_is_busy_is_its_next_batch(client: Client) -> None:
    first = occupied(client)
    texts = [str(i) for i in range(17)]
    waiting = [client.ask(text) for text in texts]
    time.sleep(0.5)  # until all have been read
    client.backend.may.release(99)
    assert first.result(20) == (200, "first")
    assert [future.result(20) for future in waiting] == [(200, text) for text in texts]
    assert [len(batch) for batch in client.backend.batches] == [1, 8, 8, 1]
    assert sorted(text for batch in client.backend.batches[1:] for text in batch) == sorted(texts)


def test_a_request_whose_client_has_left_is_not_asked(client: Client) -> None:
    occupied(client)
    leaving, staying = client.send("leaves"), client.ask("stays")
    time.sleep(0.3)
    leaving.close()
    time.sleep(0.3)
    client.backend.may.release(99)
    assert staying.result(20) == (200, "stays")
    assert client.backend.batches == [["first"], ["stays"]]


def picture(size: tuple[int, int], text: str) -> list[dict[str, Any]]:
    """The content of a message: an image and a text."""
    file = io.BytesIO()
    Image.new("RGB", size).save(file, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    return [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": text}]


def test_a_client_that_leaves_while_it_is_answered_costs_nobody_else(client: Client) -> None:
    occupied(client)
    leaving = client.send("leaves", picture((20, 20), "leaves"))
    time.sleep(0.3)
    staying = client.ask("stays", picture((32, 24), "stays"))
    time.sleep(0.3)
    client.backend.may.release()
    assert client.backend.busy.acquire(timeout=20)  # it has both now
    leaving.close()
    time.sleep(0.3)
    client.backend.may.release(99)
    assert staying.result(20) == (200, "stays(32, 24)")
    assert client.backend.batches == [["first"], ["leaves", "stays"]]  # the image of the first was still there


def test_a_request_that_fails_fails_alone(client: Client) -> None:
    occupied(client)
    asked = {text: client.ask(text) for text in ("a", "bad", "b", "c")}
    time.sleep(0.3)
    client.backend.may.release(99)
    for text in ("a", "b", "c"):
        assert asked[text].result(20) == (200, text)
    status, error = asked["bad"].result(20)
    assert (status, error["type"]) == (500, "server_error")
    assert "a bad request" not in error["message"]
    assert client.ask("d").result(20) == (200, "d")


def test_an_image_of_a_request_that_is_refused_is_forgotten(client: Client) -> None:
    image, text = picture((32, 24), "why ?")
    key = client.backend.images.put(base64.b64decode(image["image_url"]["url"].partition(",")[2]))
    client.backend.images.drop(key)
    bad = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    status, error = client.ask("", [image, bad, text]).result(20)
    assert (status, error["code"]) == (400, "invalid_image")
    with pytest.raises(KeyError):
        client.backend.images.read(key)


def test_a_body_without_a_length_is_refused_once_it_is_too_large(client: Client) -> None:
    connection = http.client.HTTPConnection(client.host, client.port, timeout=20)
    chunks = (b" " * 2**20 for _ in range(MAX_BODY // 2**20 + 64))
    with suppress(BrokenPipeError, ConnectionResetError):  # it answers before all is sent
        connection.request("POST", "/v1/chat/completions", chunks, encode_chunked=True)
    assert connection.getresponse().status == 413


def test_an_address_that_is_taken_is_named() -> None:
    with listen("127.0.0.1", 0) as taken, pytest.raises(T2IEvalError, match="choose another --host or --port"):
        listen("127.0.0.1", taken.getsockname()[1])


def test_an_image_is_kept_while_anybody_waits_who_sent_it() -> None:
    images = SentImages()
    one, two = images.put(b"x"), images.put(b"x")
    assert one == two
    images.drop(one)
    assert images.read(two) == b"x"
    images.drop(two)
    with pytest.raises(KeyError):
        images.read(two)
