"""A small server with OpenAI's chat interface in front of a backend, so that any client can ask a trained judge.

``/v1/models`` and ``/v1/chat/completions`` with images as data URLs, ``logprobs``, ``top_logprobs`` and ``usage``. Requests of all
clients that wait while the backend is busy are its next batch. Answers are greedy; what cannot be done (sampling, several
choices, streaming, tools) is refused and never ignored in silence. No URL is ever fetched and no file is ever read for a client.

The standard library serves: a model, not the web framework, is what takes the time, and one process has one model.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import logging
import queue
import socket
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Annotated, Any, Literal

from PIL.Image import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from t2i_eval_kedro.benchmarks.images import LIMITS, BadImage, check_image, upright_png
from t2i_eval_kedro.datasets.image_store import decode
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.backends.base import Backend
from t2i_eval_kedro.judging.protocols.base import Answer, ChatMessage, Request, Token
from t2i_eval_kedro.schema import OK

log = logging.getLogger(__name__)

MAX_BODY = 2 * LIMITS.max_bytes
MAX_TOP_LOGPROBS = 20  # as OpenAI's
DEFAULT_TOKENS, MAX_TOKENS = 512, 4096
IDLE_SECONDS = 120.0


class Refused(Exception):
    """A request that gets an error: its HTTP status, and OpenAI's ``message``, ``code`` and ``param``."""

    def __init__(self, status: HTTPStatus, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.param = status, code, param

    @property
    def body(self) -> dict[str, Any]:
        """The error as OpenAI writes it."""
        kind = "server_error" if self.status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _ImageURL(_Part):
    url: str
    detail: str | None = None


class _ImagePart(_Part):
    type: Literal["image_url"]
    image_url: _ImageURL


class _TextPart(_Part):
    type: Literal["text"]
    text: str


class _Turn(_Part):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Annotated[_TextPart | _ImagePart, Field(discriminator="type")]]
    name: str | None = None


class ChatRequest(BaseModel):
    """The fields of a chat request that are understood. Any other is refused, so that none is ignored in silence."""

    model_config = ConfigDict(extra="forbid")

    model: str
    messages: Annotated[list[_Turn], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    # Greedy answers are what these values mean, or do not depend on them.
    temperature: Annotated[float, Field(le=0)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: int | None = None
    n: Annotated[int, Field(le=1)] | None = None
    stream: Literal[False] | None = None
    frequency_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    presence_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    user: str | None = None
    store: bool | None = None
    metadata: dict[str, str] | None = None


class SentImages:
    """The images of the requests that are being answered, by the SHA-256 of their bytes."""

    def __init__(self) -> None:
        self._data: dict[str, bytes] = {}
        self._uses: Counter[str] = Counter()
        self._lock = threading.Lock()

    def put(self, data: bytes) -> str:
        """Keep ``data`` until :meth:`drop` and return its key."""
        key = hashlib.sha256(data).hexdigest()
        with self._lock:
            self._data[key] = data
            self._uses[key] += 1
        return key

    def drop(self, key: str) -> None:
        """Forget the image once nobody who sent it waits any more."""
        with self._lock:
            self._uses[key] -= 1
            if not self._uses[key]:
                del self._data[key], self._uses[key]

    def read(self, key: str) -> bytes:
        """The encoded image."""
        return self._data[key]

    def image(self, key: str) -> Image:
        """The image as RGB."""
        return decode(self._data[key])


class Batcher:
    """Lets many threads ask one backend: what waits while it is busy is its next batch."""

    def __init__(self, backend: Backend, batch_size: int) -> None:
        """Ask ``backend`` for at most ``batch_size`` answers at once, in a thread of its own."""
        self._backend = backend
        self._batch_size = batch_size
        self._waiting: queue.SimpleQueue[tuple[Request, Future[Answer]]] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="backend", daemon=True).start()

    def ask(self, request: Request) -> Answer:
        """The answer, once it is there; raises what the backend raised over this request."""
        future: Future[Answer] = Future()
        self._waiting.put((request, future))
        return future.result()

    def _work(self) -> None:
        while True:
            batch = [self._waiting.get()]
            while len(batch) < self._batch_size and not self._waiting.empty():
                batch.append(self._waiting.get())
            self._answer(batch)

    def _answer(self, batch: Sequence[tuple[Request, Future[Answer]]]) -> None:
        try:
            for i, answer in self._backend.answer([request for request, _ in batch]):
                batch[i][1].set_result(answer)
            error: Exception = T2IEvalError("The backend gave no answer.")
        except Exception as raised:  # one client's request must not take those of others with it
            error = raised
        open_ones = [entry for entry in batch if not entry[1].done()]
        if len(open_ones) == len(batch) == 1:
            batch[0][1].set_exception(error)
        else:
            for entry in open_ones:
                self._answer([entry])


class EvaluatorServer(ThreadingHTTPServer):
    """Serves one backend under one model name; use :meth:`serve_forever`."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(
        self,
        address: tuple[str, int],
        name: str,
        make_backend: Callable[[SentImages], Backend],
        *,
        batch_size: int,
    ) -> None:
        """Listen on ``address`` (port 0: any free one).

        Args:
            address: host and port.
            name: the model that clients ask for.
            make_backend: gets the images that clients send.
            batch_size: requests that the backend answers at once.

        Raises:
            T2IEvalError: the address cannot be listened on.
        """
        self.name = name
        self.images = SentImages()
        self.started = int(time.time())
        try:
            if ":" in address[0]:
                self.address_family = socket.AF_INET6
            super().__init__(address, _Handler)
        except (OSError, OverflowError) as error:
            raise T2IEvalError(
                f"Cannot listen on {address[0]}:{address[1]} ({getattr(error, 'strerror', None) or error}); "
                "choose another --host or --port."
            ) from error
        self._batcher = Batcher(make_backend(self.images), batch_size)

    def server_bind(self) -> None:
        """Listen, without the look-up of the host's full name that the standard library adds."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    @property
    def url(self) -> str:
        """What clients take as ``base_url``."""
        host = f"[{self.server_name}]" if ":" in self.server_name else self.server_name
        return f"http://{host}:{self.server_port}/v1"

    @property
    def model(self) -> dict[str, Any]:
        """The model as OpenAI lists it."""
        return {"id": self.name, "object": "model", "created": self.started, "owned_by": "t2i_eval_kedro"}

    def complete(self, body: bytes) -> dict[str, Any]:
        """The answer to the chat request ``body``.

        Raises:
            Refused: the request cannot be answered.
        """
        chat = _read(body)
        if chat.model != self.name:
            raise Refused(
                HTTPStatus.NOT_FOUND, f"The model '{chat.model}' does not exist; this server has '{self.name}'.",
                code="model_not_found", param="model",
            )  # fmt: skip
        if chat.top_logprobs and not chat.logprobs:
            raise Refused(HTTPStatus.BAD_REQUEST, "top_logprobs needs logprobs to be true.", param="top_logprobs")
        if chat.messages[-1].role != "user":
            raise Refused(HTTPStatus.BAD_REQUEST, "The last message must be the user's.", param="messages")
        keys: list[str] = []
        try:
            request = self._request(chat, keys)
            answer = self._batcher.ask(request)
        except T2IEvalError as error:
            raise Refused(HTTPStatus.BAD_REQUEST, str(error)) from error
        finally:
            for key in keys:
                self.images.drop(key)
        if answer.status != OK:
            raise Refused(HTTPStatus.BAD_REQUEST, f"The request cannot be answered: {answer.text}.")
        return self._completion(chat, request, answer)

    def _request(self, chat: ChatRequest, keys: list[str]) -> Request:
        """The request to the backend; the keys of its images are added to ``keys`` as they are kept."""
        messages = []
        for turn in chat.messages:
            parts = [_TextPart(type="text", text=turn.content)] if isinstance(turn.content, str) else turn.content
            # The images of a turn stand before its text, as they did when the judge was trained.
            own = [self.images.put(_image(part.image_url.url)) for part in parts if isinstance(part, _ImagePart)]
            keys += own
            text = "\n".join(part.text for part in parts if isinstance(part, _TextPart))
            messages.append(ChatMessage("system" if turn.role == "developer" else turn.role, text, tuple(own)))
        return Request(
            item_id="",
            step="",
            task="",
            aspect="",
            messages=tuple(messages),
            max_tokens=chat.max_completion_tokens or chat.max_tokens or DEFAULT_TOKENS,
            top_logprobs=max(chat.top_logprobs or 0, 1) if chat.logprobs else 0,
        )

    def _completion(self, chat: ChatRequest, request: Request, answer: Answer) -> dict[str, Any]:
        asked, given = answer.usage.get("prompt_tokens", 0), answer.usage.get("completion_tokens", 0)
        content = [_logprob(token, chat.top_logprobs or 0) for token in answer.tokens]
        return {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": self.name,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": answer.text, "refusal": None},
                    "logprobs": {"content": content, "refusal": None} if chat.logprobs else None,
                    "finish_reason": "length" if given >= request.max_tokens else "stop",
                }
            ],
            "usage": {"prompt_tokens": asked, "completion_tokens": given, "total_tokens": asked + given},
        }


def _read(body: bytes) -> ChatRequest:
    try:
        return ChatRequest.model_validate_json(body)
    except ValidationError as error:
        last = error.errors(include_url=False, include_context=False, include_input=False)[-1]
        where = ".".join(str(step) for step in last["loc"] if step != "function-after")
        unknown = last["type"] == "extra_forbidden"
        said = "is not supported here" if unknown else f"cannot be that here: {last['msg'][0].lower()}{last['msg'][1:]}"
        message = (
            f"The field '{where}' {said}; answers are greedy, one and whole."
            if where
            else f"The body is not valid: {last['msg']}."
        )
        raise Refused(HTTPStatus.BAD_REQUEST, message, param=where or None) from error


def _image(url: str) -> bytes:
    head, comma, data = url.partition(",")
    if not head.startswith("data:image/") or not head.endswith(";base64") or not comma:
        raise Refused(
            HTTPStatus.BAD_REQUEST,
            "Images are taken as data URLs (data:image/png;base64,...) alone; nothing is fetched and no file is read.",
            code="invalid_image_url", param="messages",
        )  # fmt: skip
    try:
        encoded = base64.b64decode(data, validate=True)
        return upright_png(encoded) if check_image(encoded) else encoded
    except (BadImage, binascii.Error, ValueError) as error:
        raise Refused(
            HTTPStatus.BAD_REQUEST, f"An image cannot be read: {error}.", code="invalid_image", param="messages"
        ) from error


def _logprob(token: Token, n: int) -> dict[str, Any]:
    def entry(text: str, logprob: float) -> dict[str, Any]:
        # A token that is part of a character only has no text, and OpenAI's null where there are no bytes to tell.
        return {"token": text, "logprob": logprob, "bytes": None if "\ufffd" in text else list(text.encode())}

    likeliest = list(token.top.items())[:n]
    return entry(token.text, token.logprob) | {"top_logprobs": [entry(*one) for one in likeliest]}


class _Handler(BaseHTTPRequestHandler):
    server: EvaluatorServer
    protocol_version = "HTTP/1.1"  # connections stay open
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body in one packet
    timeout = IDLE_SECONDS
    server_version, sys_version = "t2i_eval_kedro", ""

    def do_GET(self) -> None:
        self._reply(self._get)

    def do_POST(self) -> None:
        self._reply(self._post)

    def _get(self) -> dict[str, Any]:
        path = self.path.split("?")[0].rstrip("/")
        if path == "/v1/models":
            return {"object": "list", "data": [self.server.model]}
        if path == f"/v1/models/{self.server.name}":
            return self.server.model
        raise Refused(HTTPStatus.NOT_FOUND, "There is /v1/models and /v1/chat/completions.")

    def _post(self) -> dict[str, Any]:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            self.close_connection = True
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "Send the body with its Content-Length.")
        if int(length) > MAX_BODY:
            self.close_connection = True
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The body may have {MAX_BODY:,} bytes.")
        body = self.rfile.read(int(length))
        if self.path.split("?")[0].rstrip("/") != "/v1/chat/completions":
            raise Refused(HTTPStatus.NOT_FOUND, "There is /v1/models and /v1/chat/completions.")
        return self.server.complete(body)

    def _reply(self, respond: Callable[[], dict[str, Any]]) -> None:
        status, body = HTTPStatus.OK, b""
        try:
            body = json.dumps(respond()).encode()
        except Refused as error:
            status, body = error.status, json.dumps(error.body).encode()
        except (ConnectionError, TimeoutError):
            self.close_connection = True
            return
        except Exception:
            log.exception("A request failed.")
            failure = Refused(
                HTTPStatus.INTERNAL_SERVER_ERROR, "The judge failed over this request; see the server's log."
            )
            status, body = failure.status, json.dumps(failure.body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of every request."""
