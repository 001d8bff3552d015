"""The client against real sockets: what it sends, and each fault that a server or a network can have."""

from __future__ import annotations

import base64
import io
import json
import logging
import resource
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydantic import SecretStr
from pytest_httpserver import HTTPServer
from werkzeug import Request as HTTPRequest
from werkzeug import Response

from t2i_eval_kedro.datasets.answer_store import AnswerStore
from t2i_eval_kedro.datasets.image_store import ImageStore, write_image_store
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.backends.openai import OpenAIBackend, retry_after
from t2i_eval_kedro.judging.backends.openai_settings import OpenAISettings
from t2i_eval_kedro.judging.cache import CachedBackend, Keys, known_answer
from t2i_eval_kedro.judging.costs import Budget, PriceTable, Tokens
from t2i_eval_kedro.judging.protocols.base import Answer, ChatMessage, Request
from t2i_eval_kedro.judging.protocols.response_schemas import score_schema
from t2i_eval_kedro.schema import FAILED, OK

PLANTED = "sk-planted-0123456789"
PATH = "/v1/chat/completions"
PRICES = PriceTable.model_validate(
    {
        "as_of": "2026-06-01",
        "currency": "USD",
        "batch_factor": 0.5,
        "machine_hour": 1.0,
        "student_seconds": 1.0,
        "models": {"m": {"input": 10.0, "cached_input": 5.0, "output": 100.0}},
    }
)


def reply(content: str | None = "fine", finish: str = "stop", **message: Any) -> dict[str, Any]:
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [
            {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": content} | message}
        ],
        "usage": {"prompt_tokens": 100, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 40}},
    }


def ask(text: str = "what ?", **options: Any) -> Request:
    images = options.pop("images", ())
    return Request("i", "s", "t", "", (ChatMessage("user", text, images),), options.pop("max_tokens", 8), **options)


@pytest.fixture
def images(tmp_path: Path) -> ImageStore:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(out, "PNG")
    write_image_store(tmp_path / "images", [("a.png", out.getvalue())])
    return ImageStore(tmp_path / "images")


@pytest.fixture
def settings(httpserver: HTTPServer) -> OpenAISettings:
    return OpenAISettings(
        model="m",
        base_url=httpserver.url_for("/v1"),
        requests_per_minute=None,
        tokens_per_minute=None,
        in_flight=8,
        timeout_s=5,
        retries=2,
        temperature=0,
        seed=0,
        structured=True,
        token_limit="max_tokens",
        samples=0,
    )


@pytest.fixture
def connect(settings: OpenAISettings, images: ImageStore) -> Callable[..., OpenAIBackend]:
    def make(budget: Budget | None = None, **changed: Any) -> OpenAIBackend:
        chosen = settings.model_copy(update=changed)
        keys = Keys(chosen.identity, images.read)
        return OpenAIBackend(
            chosen,
            SecretStr(PLANTED),
            images.read,
            name=keys,
            budget=budget,
            tokens=Tokens(PRICES.models["m"], images.read),
        )

    return make


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("t2i_eval_kedro.judging.backends.openai._FIRST_WAIT_S", 0.01)


def one(backend: OpenAIBackend, request: Request | None = None) -> Answer:
    return dict(backend.answer([request or ask()]))[0]


def bodies(httpserver: HTTPServer) -> list[dict[str, Any]]:
    return [request.get_json() for request, _ in httpserver.log]


def test_what_is_sent(httpserver: HTTPServer, connect: Callable[..., OpenAIBackend], images: ImageStore) -> None:
    httpserver.expect_request(PATH, method="POST").respond_with_json(reply(" fine \n"))
    request = Request(
        "i",
        "s",
        "t",
        "",
        (ChatMessage("user", "what ?", ("a.png",)), ChatMessage("assistant", "this"), ChatMessage("user", "why ?")),
        8,
    )
    answer = one(connect(), request)
    assert answer == Answer("fine", usage={"prompt_tokens": 100, "completion_tokens": 5, "cached_tokens": 40})
    sent, _ = httpserver.log[0]
    assert sent.headers["Authorization"] == f"Bearer {PLANTED}"
    body = sent.get_json()
    url = body["messages"][0]["content"][0]["image_url"]["url"]
    assert base64.b64decode(url.removeprefix("data:image/png;base64,")) == images.read("a.png")
    assert body["messages"][0]["content"][1] == {"type": "text", "text": "what ?"}
    assert body["messages"][1:] == [{"role": "assistant", "content": "this"}, {"role": "user", "content": "why ?"}]
    assert (body["model"], body["max_tokens"], body["temperature"], body["seed"]) == ("m", 8, 0, 0)
    assert "response_format" not in body


def test_many_are_in_flight_and_each_gets_its_own_answer(
    httpserver: HTTPServer, connect: Callable[..., OpenAIBackend]
) -> None:
    def handle(request: HTTPRequest) -> Response:
        text = request.get_json()["messages"][0]["content"]
        time.sleep(0.02 * (int(text) % 3))
        return Response(json.dumps(reply(f"re {text}")), content_type="application/json")

    httpserver.expect_request(PATH).respond_with_handler(handle)
    answers = dict(connect().answer([ask(str(i)) for i in range(40)]))
    assert {i: answer.text for i, answer in answers.items()} == {i: f"re {i}" for i in range(40)}


def test_log_probabilities_become_a_distribution(httpserver: HTTPServer, connect: Callable[..., OpenAIBackend]) -> None:
    tops = [{"token": token, "logprob": p, "bytes": None} for token, p in (("7", -1.0), (" 7", -2.0), ("Hm", -1.5))]
    given = reply("7", "length")
    given["choices"][0]["logprobs"] = {"content": [{"token": "7", "logprob": -1.0, "top_logprobs": tops}]}
    httpserver.expect_request(PATH).respond_with_json(given)
    answer = one(connect(), ask(candidate_tokens=("6", "7")))
    assert answer.status == OK
    assert answer.probabilities == {"6": 0.0, "7": 1.0}
    assert answer.out_of_vocabulary_mass == pytest.approx(1 - 0.36788 - 0.13534, abs=1e-4)
    body = bodies(httpserver)[0]
    assert (body["logprobs"], body["max_tokens"]) == (True, 1)


def test_no_log_probabilities_is_a_failed_answer(httpserver: HTTPServer, connect: Callable[..., OpenAIBackend]) -> None:
    httpserver.expect_request(PATH).respond_with_json(reply("7", "length"))
    answer = one(connect(), ask(candidate_tokens=("6", "7")))
    assert answer.status == FAILED
    assert "log-probabilities" in answer.text


def test_a_form_is_asked_for_and_read(httpserver: HTTPServer, connect: Callable[..., OpenAIBackend]) -> None:
    httpserver.expect_request(PATH).respond_with_json(reply('{"score": "7"}'))
    assert one(connect(), ask(response_schema=score_schema(("6", "7")))).text == "7"
    schema = bodies(httpserver)[0]["response_format"]["json_schema"]
    assert schema["strict"] is True
    assert schema["schema"]["properties"]["score"]["enum"] == ["6", "7", "n/a"]


def test_a_word_in_the_place_of_a_key_stays_in_the_answers(
    httpserver: HTTPServer, settings: OpenAISettings, images: ImageStore
) -> None:
    httpserver.expect_request(PATH).respond_with_json(reply("there are none"))
    backend = OpenAIBackend(settings, SecretStr("none"), images.read, name=Keys(settings.identity, images.read))
    assert one(backend).text == "there are none"


def test_a_server_without_forms_is_read_by_the_strict_parser(
    httpserver: HTTPServer, connect: Callable[..., OpenAIBackend]
) -> None:
    httpserver.expect_request(PATH).respond_with_json(reply("7"))
    assert one(connect(structured=False), ask(response_schema=score_schema(("6", "7")))).text == "7"
    assert "response_format" not in bodies(httpserver)[0]
    assert one(connect(), ask(response_schema=score_schema(("6", "7")))).text == "7"  # it ignores what it does not know


def test_a_server_that_refuses_forms_is_asked_without(
    httpserver: HTTPServer, connect: Callable[..., OpenAIBackend]
) -> None:
    refusal = {"error": {"message": "The field 'response_format' is not supported here."}}
    httpserver.expect_ordered_request(PATH).respond_with_json(refusal, status=400)
    httpserver.expect_ordered_request(PATH).respond_with_json(reply("7"))
    httpserver.expect_ordered_request(PATH).respond_with_json(reply("6"))
    backend = connect(in_flight=1)
    requests = [ask(text, response_schema=score_schema(("6", "7"))) for text in "ab"]
    assert [answer.text for _, answer in backend.answer(requests)] == ["7", "6"]
    assert ["response_format" in body for body in bodies(httpserver)] == [True, False, False]


# Faults of one answer: the answer is failed, says why, and nothing is asked twice.
@pytest.mark.parametrize(
    ("given", "says"),
    [
        (reply(None, refusal="I can't help with that."), "refused: I can't"),
        (reply("", "content_filter"), "refused"),
        (reply("it is", "length"), "truncated: it is"),
        (reply(""), "malformed: the answer is empty"),
        (reply(None), "malformed: the answer is empty"),
        (reply('{"score": "11"}'), "malformed: the answer is off its schema"),
        (reply('{"score": "7", "more": 1}'), "malformed: the answer is off its schema"),
        (reply('["7"]'), "malformed: the answer is off its schema"),
        (reply('{"score": "7'), "malformed: the answer is off its schema"),
        (reply("{score: 7}"), "malformed: the answer is off its schema"),
    ],
)
def test_a_bad_answer_costs_that_answer(
    httpserver: HTTPServer, connect: Callable[..., OpenAIBackend], given: dict, says: str
) -> None:
    httpserver.expect_request(PATH).respond_with_json(given)
    answer = one(connect(), ask(response_schema=score_schema(("6", "7"))))
    assert answer.status == FAILED
    assert answer.text.startswith(says)
    assert answer.usage["completion_tokens"] == 5  # it was paid for
    assert len(httpserver.log) == 1


def test_a_rejected_request_costs_that_request(httpserver: HTTPServer, connect: Callable[..., OpenAIBackend]) -> None:
    error = {"error": {"message": "too long", "code": "context_length_exceeded"}}
    httpserver.expect_ordered_request(PATH).respond_with_json(error, status=400)
    answer = one(connect())
    assert answer.status == FAILED
    assert "HTTP 400" in answer.text
    assert "too long" in answer.text
    assert len(httpserver.log) == 1


def test_a_request_that_does_not_fit_is_not_sent_again_under_another_name_of_its_limit(
    httpserver: HTTPServer, connect: Callable[..., OpenAIBackend]
) -> None:
    """vLLM names both parameters in its refusal."""
    message = (
        "'max_tokens' or 'max_completion_tokens' is too large: 512. This model's maximum context length is 4096 tokens and your "
        "request has 4000 input tokens."
    )
    httpserver.expect_request(PATH).respond_with_json({"error": {"message": message}}, status=400)
    answer = one(connect())
    assert "maximum context length" in answer.text
    assert len(httpserver.log) == 1


def test_the_limit_s_other_name_is_tried_once(httpserver: HTTPServer, connect: Callable[..., OpenAIBackend]) -> None:
    message = "Neither 'max_tokens' nor 'max_completion_tokens' is known here."
    httpserver.expect_request(PATH).respond_with_json({"error": {"message": message}}, status=400)
    assert one(connect()).status == FAILED
    assert ["max_tokens" in body for body in bodies(httpserver)] == [True, False]


# Faults of the connection: tried again.
BROKEN = [
    Response(json.dumps({"error": {"message": "slow down"}}), 429, content_type="application/json"),
    Response("oops", 500),
    Response("<html>bad gateway</html>", 502, content_type="text/html"),
    Response('{"id": "x", "choices": [{"ind', content_type="application/json"),
    Response("{}", content_type="application/json"),
    Response('{"choices": []}', content_type="application/json"),
    Response('{"choices": [{"message": {"content": 7}}]}', content_type="application/json"),
    Response("[1, 2]", content_type="application/json"),
    Response("<html>a login page</html>", content_type="text/html"),
    Response(json.dumps(reply("for another")), content_type="application/json", headers={"Idempotency-Key": "other"}),
]
NAMES = ["429", "500", "502", "truncated", "no_completion", "no_choice", "no_text", "array", "wrong_type", "other_item"]


@pytest.mark.parametrize("broken", BROKEN, ids=NAMES)
def test_a_fault_of_the_connection_is_tried_again(
    httpserver: HTTPServer, connect: Callable[..., OpenAIBackend], broken: Response
) -> None:
    httpserver.expect_ordered_request(PATH).respond_with_response(broken)
    httpserver.expect_ordered_request(PATH).respond_with_json(reply())
    assert one(connect()).text == "fine"
    first, second = httpserver.log
    assert first[0].headers["Idempotency-Key"] == second[0].headers["Idempotency-Key"]


@pytest.mark.parametrize("broken", BROKEN, ids=NAMES)
def test_a_fault_that_stays_costs_that_request(
    httpserver: HTTPServer, connect: Callable[..., OpenAIBackend], broken: Response
) -> None:
    httpserver.expect_request(PATH).respond_with_response(broken)
    answer = one(connect(retries=1))
    assert answer.status == FAILED
    assert not answer.usage
    assert len(httpserver.log) == 2


@pytest.mark.parametrize("header", [{"Retry-After": "1"}, {"Retry-After-Ms": "1000"}])
def test_everybody_waits_as_long_as_the_server_asks(
    httpserver: HTTPServer, connect: Callable[..., OpenAIBackend], header: dict
) -> None:
    httpserver.expect_ordered_request(PATH).respond_with_data("{}", 429, header)
    for _ in range(3):
        httpserver.expect_ordered_request(PATH).respond_with_json(reply())
    backend = connect(in_flight=1)
    start = time.monotonic()
    list(backend.answer([ask("a"), ask("b")]))
    assert time.monotonic() - start > 0.95


def test_a_wait_that_one_request_is_told_holds_back_all_others(
    httpserver: HTTPServer, connect: Callable[..., OpenAIBackend]
) -> None:
    came: list[tuple[str, float]] = []
    lock = threading.Lock()

    def serve(request: HTTPRequest) -> Response:
        text = request.get_json()["messages"][0]["content"]
        with lock:
            came.append((text, time.monotonic()))
            first = len(came) == 1
        if first:
            return Response("{}", 429, {"Retry-After": "1"})
        time.sleep(0.2 if text == "b" else 0)
        return Response(json.dumps(reply(text)), content_type="application/json")

    httpserver.expect_request(PATH).respond_with_handler(serve)
    answers = dict(connect(in_flight=2).answer([ask(text) for text in "abcd"]))
    assert sorted(answer.text for answer in answers.values()) == list("abcd")
    # One request was refused, another was under way. The other two, which nobody refused, were held back as well.
    assert len(came) == 5
    refused = came[0][1]
    assert [moment - refused > 0.95 for _, moment in came] == [False, False, True, True, True]


def test_retry_after_is_read_in_every_form() -> None:
    assert retry_after({"retry-after": "2.5"}) == 2.5
    assert retry_after({"retry-after-ms": "20", "retry-after": "9"}) == pytest.approx(0.02)
    assert retry_after({"retry-after": formatdate(time.time() + 30, usegmt=True)}) == pytest.approx(30, abs=2)
    assert retry_after({"retry-after": formatdate(time.time() - 30, usegmt=True)}) == 0
    for nonsense in ({}, {"retry-after": "soon"}, {"retry-after": "nan"}, {"retry-after": "inf"}):
        assert retry_after(nonsense) is None


def test_a_wait_of_an_hour_ends_the_run(httpserver: HTTPServer, connect: Callable[..., OpenAIBackend]) -> None:
    httpserver.expect_request(PATH).respond_with_data("{}", 429, {"Retry-After": "3600"})
    with pytest.raises(T2IEvalError, match="3600 s"):
        one(connect())


def test_a_time_out_is_tried_again(httpserver: HTTPServer, connect: Callable[..., OpenAIBackend]) -> None:
    def slow(request: HTTPRequest) -> Response:
        time.sleep(0.6 if len(httpserver.log) == 0 else 0)
        return Response(json.dumps(reply()), content_type="application/json")

    httpserver.expect_request(PATH).respond_with_handler(slow)
    assert one(connect(timeout_s=0.3)).text == "fine"


@pytest.fixture
def resetting() -> Iterator[tuple[str, list[int]]]:
    """A server that resets the first two connections in the middle of the body, then answers."""
    data = json.dumps(reply()).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode()
    listening = socket.create_server(("127.0.0.1", 0))
    seen: list[int] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                received = b""
                while b"max_tokens" not in received:
                    received += connection.recv(65536)
                seen.append(len(received))
                connection.sendall(head + (data if len(seen) > 2 else data[:40]))
                if len(seen) <= 2:  # closing with a linger of zero sends a reset
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")

    threading.Thread(target=serve, daemon=True).start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1", seen
    listening.close()


def test_a_reset_in_mid_body_is_tried_again(
    connect: Callable[..., OpenAIBackend], resetting: tuple[str, list[int]]
) -> None:
    url, seen = resetting
    assert one(connect(base_url=url)).text == "fine"
    assert len(seen) == 3


# Faults of the run: one sentence at once.
@pytest.mark.parametrize(
    ("status", "error", "says"),
    [
        (401, {"message": f"Incorrect API key provided: {PLANTED}."}, "refuses the key"),
        (403, {"message": "not allowed"}, "refuses the key"),
        (404, {"message": "no such model"}, "does not know model 'm'"),
        (429, {"message": "quota", "code": "insufficient_quota"}, "no money left"),
    ],
)
def test_what_no_request_would_survive_ends_the_run(
    httpserver: HTTPServer, connect: Callable[..., OpenAIBackend], status: int, error: dict, says: str
) -> None:
    httpserver.expect_request(PATH).respond_with_json({"error": error}, status=status)
    with pytest.raises(T2IEvalError, match=says) as raised:
        list(connect().answer([ask(str(i)) for i in range(2000)]))
    assert PLANTED not in str(raised.value)
    assert len(httpserver.log) <= 8  # those that were in flight


def test_no_server_ends_the_run(connect: Callable[..., OpenAIBackend]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(
        T2IEvalError, match=rf"No server can be reached at http://127.0.0.1:{port}/v1/ \(.+\); start it"
    ):
        list(connect(base_url=f"http://127.0.0.1:{port}/v1", retries=6).answer([ask()] * 500))


def test_a_server_that_is_slow_to_start_is_waited_for(
    connect: Callable[..., OpenAIBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("t2i_eval_kedro.judging.backends.openai._FIRST_WAIT_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    answers = connect(base_url=f"http://127.0.0.1:{port}/v1").answer([ask()])
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(next, answers)
        time.sleep(0.2)  # the first try has found nobody
        with HTTPServer(host="127.0.0.1", port=port) as server:
            server.expect_request(PATH).respond_with_json(reply())
            assert first.result()[1].text == "fine"


def test_a_server_that_dies_ends_the_run(connect: Callable[..., OpenAIBackend]) -> None:
    with HTTPServer() as server:
        server.expect_request(PATH).respond_with_json(reply())
        backend = connect(base_url=server.url_for("/v1"), retries=0)
        assert one(backend).text == "fine"
    n_answered = 0
    with pytest.raises(T2IEvalError, match="got no answer"):  # noqa: PT012
        for _ in backend.answer([ask()] * 500):
            n_answered += 1
    assert n_answered < 40


def test_a_whole_answer_of_the_wrong_type_is_an_answer(
    httpserver: HTTPServer, connect: Callable[..., OpenAIBackend]
) -> None:
    httpserver.expect_request(PATH).respond_with_data(json.dumps(reply()), content_type="text/plain")
    assert one(connect()).text == "fine"


def test_what_is_in_flight_is_answered_and_kept_when_the_budget_ends(
    httpserver: HTTPServer, connect: Callable[..., OpenAIBackend], tmp_path: Path
) -> None:
    def slow(_: HTTPRequest) -> Response:
        time.sleep(0.05)
        return Response(json.dumps(reply()), content_type="application/json")

    httpserver.expect_request(PATH).respond_with_handler(slow)
    store, paid = AnswerStore(tmp_path / "a.sqlite"), PRICES.cost("m", reply()["usage"] | {"cached_tokens": 40})
    assert paid is not None
    budget = Budget(10.5 * paid, PRICES, "m")
    backend = connect(budget=budget)
    with pytest.raises(T2IEvalError, match="budget of"):
        list(CachedBackend(backend, store, Keys({})).answer([ask(str(i)) for i in range(100)]))
    assert len(store) == len(httpserver.log) > 0
    assert budget.spent == pytest.approx(len(store) * paid)
    assert budget.spent <= 10.5 * paid


def test_a_full_disk_ends_the_run_and_what_was_kept_is_not_asked_again(
    httpserver: HTTPServer, connect: Callable[..., OpenAIBackend], tmp_path: Path
) -> None:
    httpserver.expect_request(PATH).respond_with_json(reply("x" * 4000))
    path, requests = tmp_path / "a.sqlite", [ask(str(i)) for i in range(80)]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    store = AnswerStore(path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, before[1]))  # the kernel refuses the write, as a full disk does
    try:
        with pytest.raises(T2IEvalError, match="free some space"):
            list(CachedBackend(connect(), store, Keys({})).answer(requests))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    store.close()
    again = AnswerStore(path)
    kept = {r.messages[0].text for r in requests if known_answer(again, Keys({})(r), retry_failed=False)}
    assert 0 < len(kept) == len(again) < 80
    assert len(dict(CachedBackend(connect(), again, Keys({})).answer(requests))) == 80
    asked = Counter(json.loads(sent.data)["messages"][0]["content"] for sent, _ in httpserver.log)
    assert len(asked) == 80
    assert all(asked[text] == 1 for text in kept)


def test_two_runs_at_once_ask_each_request_once(
    httpserver: HTTPServer, connect: Callable[..., OpenAIBackend], tmp_path: Path
) -> None:
    httpserver.expect_request(PATH).respond_with_json(reply())
    requests = [ask(str(i)) for i in range(30)]

    def run(_: int) -> int:
        return len(dict(CachedBackend(connect(), AnswerStore(tmp_path / "a.sqlite"), Keys({})).answer(requests)))

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(run, range(2))) == [30, 30]
    assert len(httpserver.log) == 30


def test_a_limit_on_requests_is_kept(httpserver: HTTPServer, connect: Callable[..., OpenAIBackend]) -> None:
    httpserver.expect_request(PATH).respond_with_json(reply())
    start = time.monotonic()
    list(connect(requests_per_minute=600).answer([ask(str(i)) for i in range(20)]))  # 10 at once, then 10 a second
    assert time.monotonic() - start > 0.95


def test_a_limit_on_tokens_is_kept_by_requests_larger_than_a_burst(
    httpserver: HTTPServer, connect: Callable[..., OpenAIBackend]
) -> None:
    httpserver.expect_request(PATH).respond_with_json(reply())
    start = time.monotonic()
    list(connect(tokens_per_minute=60_000).answer([ask("x" * 2000, max_tokens=500)] * 2))  # about 2 x 1,024 tokens
    assert time.monotonic() - start > 0.9


def test_only_the_image_store_is_read(httpserver: HTTPServer, connect: Callable[..., OpenAIBackend]) -> None:
    httpserver.expect_request(PATH).respond_with_json(reply())
    for path in ("/etc/hostname", "../../etc/hostname", "file:///etc/hostname", "http://127.0.0.1/a.png", "b.png"):
        answer = one(connect(), ask(images=(path,)))
        assert answer.status == FAILED
        assert "cannot be read" in answer.text
    assert not httpserver.log


def test_the_key_is_in_no_log_no_answer_and_no_store(
    httpserver: HTTPServer, connect: Callable[..., OpenAIBackend], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    handed = iter(
        [
            Response(json.dumps({"error": {"message": f"bad {PLANTED}"}}), 400, content_type="application/json"),
            Response(json.dumps(reply(f"your key is {PLANTED}")), content_type="application/json"),
            Response(json.dumps(reply(None, refusal=f"no, {PLANTED}")), content_type="application/json"),
        ]
    )
    httpserver.expect_request(PATH).respond_with_handler(lambda _: next(handed))
    store = AnswerStore(tmp_path / "a.sqlite")
    backend = connect()
    for text in "abc":
        answer = dict(CachedBackend(backend, store, Keys({})).answer([ask(text)]))[0]
        assert PLANTED not in repr(answer)
        assert "***" in answer.text
    store.close()
    assert PLANTED not in caplog.text
    assert PLANTED.encode() not in (tmp_path / "a.sqlite").read_bytes()
    assert PLANTED not in repr(vars(backend))


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n", " "])
def test_a_key_from_a_file_with_line_ends_opens_the_server(
    httpserver: HTTPServer, settings: OpenAISettings, images: ImageStore, end: str
) -> None:
    httpserver.expect_request(PATH, headers={"Authorization": f"Bearer {PLANTED}"}).respond_with_json(reply("fine"))
    keys = Keys(settings.identity, images.read)
    assert one(OpenAIBackend(settings, SecretStr(PLANTED + end), images.read, name=keys)).text == "fine"


def test_a_key_that_no_header_may_hold_is_blotted_out_of_what_is_said_of_it(
    httpserver: HTTPServer, settings: OpenAISettings, images: ImageStore, caplog: pytest.LogCaptureFixture
) -> None:
    two = PLANTED + "\n" + PLANTED
    keys = Keys(settings.identity, images.read)
    answer = one(OpenAIBackend(settings, SecretStr(two), images.read, name=keys))
    assert answer.status == FAILED
    assert PLANTED not in answer.text + caplog.text
