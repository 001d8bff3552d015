"""The Batch API over a real socket: submit, poll, fetch, and going on after a kill at any of these."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from pytest_httpserver import HTTPServer
from werkzeug import Request as HTTPRequest
from werkzeug import Response

from t2i_eval_kedro.datasets.answer_store import AnswerStore
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.backends.batch import BatchBackend
from t2i_eval_kedro.judging.backends.openai_settings import OpenAISettings
from t2i_eval_kedro.judging.cache import CachedBackend, Keys
from t2i_eval_kedro.judging.costs import Budget, PriceTable, Tokens
from t2i_eval_kedro.judging.protocols.base import ChatMessage, Request
from t2i_eval_kedro.schema import FAILED, OK

PRICES = PriceTable.model_validate(
    {
        "as_of": "2026-06-01",
        "currency": "USD",
        "batch_factor": 0.5,
        "machine_hour": 1.0,
        "student_seconds": 1.0,
        "models": {"m": {"input": 10.0, "cached_input": 10.0, "output": 0.0}},
    }
)


def ask(*texts: str) -> list[Request]:
    return [Request("i", "s", "t", "", (ChatMessage("user", text),), 8) for text in texts]


class Server:
    """A Batch API: answers what ``answers`` says, one look at a batch late; ``status`` is what its batches end with."""

    def __init__(self, httpserver: HTTPServer) -> None:
        self.files: dict[str, str] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.status, self.answers, self.extra = "completed", lambda text: f"re {text}", ""
        self.lost_reply = self.lost = False
        self.refused = ""  # the error of what has no answer
        httpserver.expect_request("/v1/files", method="POST").respond_with_handler(self.upload)
        httpserver.expect_request("/v1/batches", method="POST").respond_with_handler(self.create)
        httpserver.expect_request("/v1/batches", method="GET").respond_with_handler(self.list)
        for number in range(9):
            path = f"/v1/batches/b{number}"
            httpserver.expect_request(path).respond_with_handler(lambda _, n=number: self.retrieve(f"b{n}"))
            path = f"/v1/files/err-b{number}/content"
            httpserver.expect_request(path).respond_with_handler(lambda _, n=number: self.errors(f"b{n}"))
            path = f"/v1/files/out-b{number}/content"
            httpserver.expect_request(path).respond_with_handler(lambda _, n=number: self.output(f"b{n}"))

    def upload(self, request: HTTPRequest) -> Response:
        name = f"f{len(self.files)}"
        self.files[name] = request.files["file"].read().decode()
        return self.json({"id": name, "object": "file", "purpose": "batch"})

    def create(self, request: HTTPRequest) -> Response:
        given = request.get_json()
        name = f"b{len(self.batches)}"
        self.batches[name] = {"id": name, "object": "batch", "status": "in_progress"} | given
        if self.lost_reply:
            return Response("", 400)
        return self.json(self.batches[name])

    def list(self, _: HTTPRequest) -> Response:
        return self.json({"object": "list", "data": list(self.batches.values()), "has_more": False})

    def retrieve(self, name: str) -> Response:
        shown = dict(self.batches[name])
        files = {"output_file_id": f"out-{name}", "error_file_id": f"err-{name}" if self.refused else None}
        errors = {"object": "list", "data": [{"code": "token_limit_exceeded", "message": "too many tokens"}]}
        self.batches[name] |= {"status": self.status} | ({"errors": errors} if self.lost else files)
        return self.json(shown)

    def output(self, name: str) -> Response:
        lines = []
        for line in self.files[self.batches[name]["input_file_id"]].splitlines():
            asked = json.loads(line)
            text = self.answers(asked["body"]["messages"][0]["content"])
            if text is not None:
                message = {"role": "assistant", "content": text}
                body = {
                    "id": "x",
                    "object": "chat.completion",
                    "created": 0,
                    "model": "m",
                    "choices": [{"index": 0, "finish_reason": "stop", "message": message, "logprobs": None}],
                    "usage": {"prompt_tokens": 20, "completion_tokens": 1, "total_tokens": 21},
                }
                lines.append(
                    json.dumps({"custom_id": asked["custom_id"], "response": {"status_code": 200, "body": body}})
                )
        return Response("\n".join([*lines, self.extra]), content_type="application/jsonl")

    def errors(self, name: str) -> Response:
        lines = [json.loads(line) for line in self.files[self.batches[name]["input_file_id"]].splitlines()]
        refused = [
            {"custom_id": line["custom_id"], "response": {"status_code": 400}, "error": {"message": self.refused}}
            for line in lines
            if self.answers(line["body"]["messages"][0]["content"]) is None
        ]
        return Response("\n".join(map(json.dumps, refused)), content_type="application/jsonl")

    @staticmethod
    def json(body: dict[str, Any]) -> Response:
        return Response(json.dumps(body), content_type="application/json")


@pytest.fixture
def server(httpserver: HTTPServer) -> Server:
    return Server(httpserver)


@pytest.fixture
def connect(httpserver: HTTPServer, tmp_path: Path) -> Callable[..., CachedBackend]:
    def make(budget: float | None = None, **limits: int) -> CachedBackend:
        settings = OpenAISettings(
            model="m",
            base_url=httpserver.url_for("/v1"),
            requests_per_minute=None,
            tokens_per_minute=None,
            in_flight=1,
            timeout_s=5,
            retries=0,
            temperature=0,
            seed=0,
            structured=True,
            token_limit="max_tokens",
            samples=0,
        )
        keys, store = Keys(settings.identity), AnswerStore(tmp_path / "a.sqlite")
        watched, tokens = Budget(budget, PRICES, "m"), Tokens(None, str.encode)
        backend = BatchBackend(
            settings,
            SecretStr("sk-planted"),
            str.encode,
            store,
            name=keys,
            budget=watched,
            tokens=tokens,
            poll_s=0.01,
            **limits,
        )
        return CachedBackend(backend, store, keys)

    return make


def texts(backend: CachedBackend, *asked: str) -> list[str]:
    answers = dict(backend.answer(ask(*asked)))
    return [answers[i].text for i in range(len(asked))]


def test_submit_poll_fetch(server: Server, connect: Callable[..., CachedBackend], tmp_path: Path) -> None:
    assert texts(connect(), "a", "b") == ["re a", "re b"]
    assert texts(connect(), "b", "c") == ["re b", "re c"]
    assert [len(file.splitlines()) for file in server.files.values()] == [2, 1]  # nothing twice
    records = list(AnswerStore(tmp_path / "a.sqlite").every_answer())
    assert {record["answer"]["usage"]["batch"] for record in records} == {1}  # the lower price
    assert b"sk-planted" not in (tmp_path / "a.sqlite").read_bytes()


def test_partial_results_are_kept_and_the_rest_asked_again(
    server: Server, connect: Callable[..., CachedBackend]
) -> None:
    server.status, server.answers = "expired", lambda text: None if text == "b" else f"re {text}"
    server.extra = '{"custom_id": "of nobody", "response": {}}\n{"broken'
    answers = dict(connect().answer(ask("a", "b")))
    assert answers[0].text == "re a"
    assert answers[1].status == FAILED
    server.status, server.answers = "completed", lambda text: f"again {text}"
    assert texts(connect(), "a", "b") == ["re a", "again b"]
    assert len(server.files["f1"].splitlines()) == 1


@pytest.mark.parametrize("limits", [{"max_lines": 2}, {"max_bytes": 700}])
def test_a_large_round_is_several_files(
    server: Server, connect: Callable[..., CachedBackend], limits: dict[str, int]
) -> None:
    asked = [f"{n} {'x' * 20}" for n in range(5)]
    assert texts(connect(**limits), *asked) == [f"re {text}" for text in asked]
    sizes = [len(file.splitlines()) for file in server.files.values()]
    assert sizes == [2, 2, 1]
    assert "max_bytes" not in limits or all(len(file) <= 700 for file in server.files.values())
    lines = [json.loads(line)["custom_id"] for file in server.files.values() for line in file.splitlines()]
    assert len(set(lines)) == len(server.batches) + 2 == 5


def test_what_the_batch_refuses_stands_in_a_file_of_its_own(
    server: Server, connect: Callable[..., CachedBackend]
) -> None:
    server.answers, server.refused = lambda text: None if text == "b" else f"re {text}", "it is too long"
    answers = dict(connect().answer(ask("a", "b")))
    assert (answers[0].text, answers[0].status) == ("re a", OK)
    assert (answers[1].text, answers[1].status) == ("the batch failed here: it is too long", FAILED)
    assert not answers[1].usage
    server.answers, server.refused = lambda text: f"again {text}", ""
    assert texts(connect(), "a", "b") == ["re a", "again b"]  # a refusal cost nothing and is not kept


def test_a_batch_that_fails_whole_leaves_its_requests_to_the_next_run(
    server: Server, connect: Callable[..., CachedBackend]
) -> None:
    server.status, server.lost = "failed", True
    answers = dict(connect().answer(ask("a", "b")))
    assert [answers[i].status for i in range(2)] == [FAILED, FAILED]
    assert {answer.text for answer in answers.values()} == {"the batch ended without an answer: too many tokens"}
    server.status, server.lost = "completed", False
    assert texts(connect(), "a", "b") == ["re a", "re b"]
    assert len(server.batches) == 2


def test_what_was_held_for_a_batch_that_fails_whole_is_given_back(
    server: Server, connect: Callable[..., CachedBackend]
) -> None:
    backend = connect(budget=0.0002)  # one batch of one request costs at most so much
    for text in ("a", "b", "c"):
        server.status, server.lost = "failed", True
        assert [answer.status for _, answer in backend.answer(ask(text))] == [FAILED]


def test_answers_that_a_shorter_run_has_no_use_for_are_there_for_the_next(
    server: Server, connect: Callable[..., CachedBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(BaseException):
        pass

    def kill(_: float) -> None:
        raise KilledError

    with monkeypatch.context() as killed:
        killed.setattr("time.sleep", kill)
        with pytest.raises(KilledError):
            list(connect().answer(ask("a", "b", "c")))
    assert texts(connect(), "a") == ["re a"]
    assert texts(connect(), "c", "a", "b") == ["re c", "re a", "re b"]
    assert len(server.batches) == 1
    assert not connect()._store.batches()


def test_a_run_that_was_killed_while_waiting_goes_on(
    server: Server, connect: Callable[..., CachedBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(BaseException):
        pass

    def kill(_: float) -> None:
        raise KilledError

    with monkeypatch.context() as killed:
        killed.setattr("time.sleep", kill)  # between two looks at the batch
        with pytest.raises(KilledError):
            list(connect().answer(ask("a", "b")))
    assert len(server.batches) == 1
    assert texts(connect(), "a", "b") == ["re a", "re b"]
    assert len(server.batches) == 1


def test_a_batch_whose_number_was_lost_is_found_by_its_hash(
    server: Server, connect: Callable[..., CachedBackend]
) -> None:
    server.lost_reply = True
    with pytest.raises(T2IEvalError, match="run again to go on"):
        texts(connect(), "a", "b")
    server.lost_reply = False
    assert texts(connect(), "a", "b") == ["re a", "re b"]
    assert len(server.batches) == 1


def test_a_batch_that_could_break_the_budget_is_not_submitted(
    server: Server, connect: Callable[..., CachedBackend]
) -> None:
    with pytest.raises(T2IEvalError, match="budget"):
        texts(connect(budget=0.0002), "a", "b")
    assert not server.batches
    assert texts(connect(budget=0.01), "a", "b") == ["re a", "re b"]
