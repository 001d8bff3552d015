"""A small server with OpenAI's chat interface in front of a backend, so that any client can ask a trained judge.

``/v1/models`` and ``/v1/chat/completions`` with images as data URLs, ``logprobs``, ``top_logprobs`` and ``usage``. Requests of all
clients that wait while the backend is busy are its next batch. Answers are greedy; what cannot be done (sampling, several
choices, streaming, tools) is refused and never ignored in silence. No URL is ever fetched and no file is ever read for a client.

FastAPI and uvicorn serve (the extra ``serve``). One process has one model. A request whose client has left while it waits is not
asked any more.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import socket
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Annotated, Any, Literal, TypeAlias

import uvicorn
from fastapi import FastAPI
from fastapi import Request as HTTPRequest
from fastapi.responses import JSONResponse
from PIL.Image import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.exceptions import HTTPException

from t2i_eval_kedro.benchmarks.images import LIMITS, BadImage, check_image, upright_png
from t2i_eval_kedro.datasets.image_store import decode
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.backends.base import Backend
from t2i_eval_kedro.judging.protocols.base import Answer, ChatMessage, Request, Token
from t2i_eval_kedro.schema import OK

MAX_BODY = 2 * LIMITS.max_bytes
MAX_TOP_LOGPROBS = 20  # as OpenAI's
DEFAULT_TOKENS, MAX_TOKENS = 512, 4096
IDLE_SECONDS = 120

Batch: TypeAlias = Sequence[tuple[Request, "asyncio.Future[Answer]"]]


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

    def put(self, data: bytes) -> str:
        """Keep ``data`` until :meth:`drop` and return its key."""
        key = hashlib.sha256(data).hexdigest()
        self._data[key] = data
        self._uses[key] += 1
        return key

    def drop(self, key: str) -> None:
        """Forget the image once nobody who sent it waits any more."""
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
    """Lets many coroutines ask one backend: what waits while it is busy is its next batch."""

    def __init__(self, backend: Backend, batch_size: int) -> None:
        """Ask ``backend`` for at most ``batch_size`` answers at once, in a thread of its own."""
        self._backend = backend
        self._batch_size = batch_size
        self._waiting: asyncio.Queue[tuple[Request, asyncio.Future[Answer]]] = asyncio.Queue()
        self._asked: set[asyncio.Future[Answer]] = set()
        self._thread = ThreadPoolExecutor(1, "backend")

    def ask(self, request: Request) -> asyncio.Future[Answer]:
        """The answer, once it is there; raises what the backend raised over this request."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((request, future))
        return future

    def withdraw(self, future: asyncio.Future[Answer]) -> bool:
        """Take back a request that :meth:`ask` was given; false where the backend has it already."""
        return future not in self._asked and future.cancel()

    async def work(self) -> None:
        """Answer for ever."""
        while True:
            batch = [await self._waiting.get()]
            while len(batch) < self._batch_size and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            batch = [(request, future) for request, future in batch if not future.done()]
            self._asked = {future for _, future in batch}
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._thread, self._answer, batch, loop)

    def _answer(self, batch: Batch, loop: asyncio.AbstractEventLoop) -> None:
        left = dict(enumerate(batch))
        error: Exception = T2IEvalError("The backend gave no answer.")
        try:
            for i, answer in self._backend.answer([request for request, _ in batch]):
                loop.call_soon_threadsafe(_settle, left.pop(i)[1], answer)
        except Exception as raised:  # one client's request must not take those of others with it
            error = raised
        if len(batch) == len(left) == 1:
            loop.call_soon_threadsafe(_settle, batch[0][1], error)
        else:
            for entry in left.values():
                self._answer([entry], loop)


def _settle(future: asyncio.Future[Answer], outcome: Answer | Exception) -> None:
    if future.done():  # the server is stopping
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


def make_app(name: str, make_backend: Callable[[SentImages], Backend], *, batch_size: int) -> FastAPI:
    """The web application that serves one backend under one model name.

    Args:
        name: the model that clients ask for.
        make_backend: makes the backend from the images that clients send.
        batch_size: most requests that the backend answers at once.
    """
    images = SentImages()
    batcher = Batcher(make_backend(images), batch_size)
    model = {"id": name, "object": "model", "created": int(time.time()), "owned_by": "t2i_eval_kedro"}

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        working = asyncio.create_task(batcher.work())
        yield
        working.cancel()

    app = FastAPI(title="t2i_eval_kedro", lifespan=lifespan, openapi_url=None)
    app.add_exception_handler(Refused, _refuse)
    app.add_exception_handler(HTTPException, _refuse)
    app.add_exception_handler(Exception, _refuse)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [model]}

    @app.get("/v1/models/{asked:path}")
    async def retrieve(asked: str) -> dict[str, Any]:
        _check_model(asked, name)
        return model

    @app.post("/v1/chat/completions")
    async def complete(http: HTTPRequest) -> dict[str, Any]:
        chat = _read(await _body(http))
        _check_model(chat.model, name)
        keys: list[str] = []
        try:
            request = _request(chat, images, keys)
            answer = await _unless_gone(http, batcher, request)
        except T2IEvalError as error:
            raise Refused(HTTPStatus.BAD_REQUEST, str(error)) from error
        finally:
            for key in keys:
                images.drop(key)
        if answer.status != OK:
            raise Refused(HTTPStatus.BAD_REQUEST, f"The request cannot be answered: {answer.text}.")
        return _completion(name, chat, request, answer)

    return app


async def _unless_gone(http: HTTPRequest, batcher: Batcher, request: Request) -> Answer:
    """The answer to ``request``, which is withdrawn where the client leaves before the backend has it."""

    async def leaves() -> None:
        while (await http.receive())["type"] != "http.disconnect":
            pass

    future, gone = batcher.ask(request), asyncio.create_task(leaves())
    first: set[asyncio.Future[Any]] = {future, gone}
    await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
    gone.cancel()
    if not future.done() and batcher.withdraw(future):
        raise Refused(HTTPStatus.BAD_REQUEST, "The client has left.")  # nobody reads this
    return await future


async def _body(http: HTTPRequest) -> bytes:
    """The body of a request, refused before more than :data:`MAX_BODY` of it is read."""
    too_large = Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The body may have {MAX_BODY:,} bytes.")
    if int(http.headers.get("content-length", 0)) > MAX_BODY:
        raise too_large
    body = bytearray()
    async for chunk in http.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise too_large
    return bytes(body)


async def _refuse(_: HTTPRequest, error: Exception) -> JSONResponse:
    """The error as OpenAI writes it."""
    if isinstance(error, HTTPException):
        error = Refused(HTTPStatus(error.status_code), "There is /v1/models and /v1/chat/completions.")
    elif not isinstance(error, Refused):
        message = "The judge failed over this request; see the server's log."
        error = Refused(HTTPStatus.INTERNAL_SERVER_ERROR, message)
    return JSONResponse(error.body, error.status)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on ``host`` and ``port`` (0 for any free one).

    Raises:
        T2IEvalError: the address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=256)
    except (OSError, OverflowError) as error:
        raise T2IEvalError(
            f"Cannot listen on {host}:{port} ({getattr(error, 'strerror', None) or error}); choose another --host or --port."
        ) from error


def url_of(listening: socket.socket) -> str:
    """What clients take as ``base_url``."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"


def serve(app: FastAPI, listening: socket.socket) -> None:
    """Serve until SIGINT or SIGTERM, whose handlers are then called."""
    uvicorn.Server(
        uvicorn.Config(
            app, log_level="warning", access_log=False, timeout_keep_alive=IDLE_SECONDS, timeout_graceful_shutdown=5
        )
    ).run([listening])


def _check_model(asked: str, name: str) -> None:
    if asked != name:
        raise Refused(
            HTTPStatus.NOT_FOUND, f"The model '{asked}' does not exist; this server has '{name}'.",
            code="model_not_found", param="model",
        )  # fmt: skip


def _request(chat: ChatRequest, images: SentImages, keys: list[str]) -> Request:
    """The request to the backend; the keys of its images are added to ``keys`` as they are kept."""
    if chat.top_logprobs and not chat.logprobs:
        raise Refused(HTTPStatus.BAD_REQUEST, "top_logprobs needs logprobs to be true.", param="top_logprobs")
    if chat.messages[-1].role != "user":
        raise Refused(HTTPStatus.BAD_REQUEST, "The last message must be the user's.", param="messages")
    messages = []
    for turn in chat.messages:
        parts = [_TextPart(type="text", text=turn.content)] if isinstance(turn.content, str) else turn.content
        # The images of a turn stand before its text, as they did when the judge was trained.
        of_turn = []
        for part in parts:
            if isinstance(part, _ImagePart):
                of_turn.append(images.put(_image(part.image_url.url)))
                keys.append(of_turn[-1])  # at once, so that it is dropped where the next image is refused
        text = "\n".join(part.text for part in parts if isinstance(part, _TextPart))
        messages.append(ChatMessage("system" if turn.role == "developer" else turn.role, text, tuple(of_turn)))
    return Request(
        item_id="",
        step="",
        task="",
        aspect="",
        messages=tuple(messages),
        max_tokens=chat.max_completion_tokens or chat.max_tokens or DEFAULT_TOKENS,
        top_logprobs=max(chat.top_logprobs or 0, 1) if chat.logprobs else 0,
    )


def _completion(name: str, chat: ChatRequest, request: Request, answer: Answer) -> dict[str, Any]:
    n_prompt, n_answer = answer.usage.get("prompt_tokens", 0), answer.usage.get("completion_tokens", 0)
    content = [_logprob(token, chat.top_logprobs or 0) for token in answer.tokens]
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": name,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": answer.text, "refusal": None},
                "logprobs": {"content": content, "refusal": None} if chat.logprobs else None,
                "finish_reason": "length" if n_answer >= request.max_tokens else "stop",
            }
        ],
        "usage": {"prompt_tokens": n_prompt, "completion_tokens": n_answer, "total_tokens": n_prompt + n_answer},
    }


def _read(body: bytes) -> ChatRequest:
    try:
        return ChatRequest.model_validate_json(body)
    except ValidationError as error:
        last = error.errors(include_url=False, include_context=False, include_input=False)[-1]
        where = ".".join(str(step) for step in last["loc"] if step != "function-after")
        unknown = last["type"] == "extra_forbidden"
        fault = (
            "is not supported here" if unknown else f"cannot be that here: {last['msg'][0].lower()}{last['msg'][1:]}"
        )
        message = (
            f"The field '{where}' {fault}; answers are greedy, one and whole."
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

    top_tokens = list(token.top.items())[:n]
    return entry(token.text, token.logprob) | {"top_logprobs": [entry(*one) for one in top_tokens]}
