"""Any server that speaks OpenAI's chat completions: a commercial model, vLLM, SGLang, ``transformers serve``.

Many requests are in flight at once, on an event loop of this backend's own, so that it works inside a notebook or a server
too. A fault of one request (refused, cut off, off its schema) is a failed answer of that request; a fault of the connection
(429, 5xx, time out, reset, a body that is no answer) is tried again; a fault of the whole run (no server there, a wrong key, an unknown
model, a budget that is used up) ends it with one sentence, once what is in flight has been answered and kept.

Servers differ in what they take. A parameter that one refuses (``top_logprobs`` above its limit, ``max_tokens``, ``temperature``, ``seed``,
``response_format``) is sent otherwise or not at all from then on, and the log says so once. A distribution over words comes from the
log-probabilities of the first token behind any reasoning; where there are none, from ``samples`` drawn answers.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import math
import queue
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import Any

import openai
from aiolimiter import AsyncLimiter
from openai.types.chat import ChatCompletion
from PIL import Image
from pydantic import SecretStr, ValidationError

from t2i_eval_kedro.answers import read_statement, without_thinking
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.backends.base import MALFORMED, REFUSED, TRUNCATED
from t2i_eval_kedro.judging.backends.openai_settings import OpenAISettings
from t2i_eval_kedro.judging.costs import Budget, Tokens
from t2i_eval_kedro.judging.protocols.base import Answer, Request
from t2i_eval_kedro.judging.protocols.response_schemas import ResponseSchema, json_schema
from t2i_eval_kedro.schema import FAILED

log = logging.getLogger(__name__)

ECHO = "Idempotency-Key"
"""The header that names a request: a server that knows it answers a repeated request from its memory, and says which it answers."""

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 120.0
_GIVE_UP_AFTER = 25  # requests in a row without an answer
_FIRST_CONTACT = 3  # tries to connect to a server that never replied, over some 1.5 s
_FORM_TOKENS = 32  # what the braces and names of a JSON answer may take
_SHORTEST_SECRET = 8  # "none" or "EMPTY", for a server that wants no key, is a word that answers may hold
_TOP_LOGPROBS = (20, 10, 5, 2)  # the most that OpenAI gives, and what other servers stop at
_THINKING_TOKENS = 2048  # for the reasoning before one word
_SAMPLE_TOKENS = 16
_TOO_LONG = re.compile(r"too (?:large|long)|context (?:length|window)|maximum (?:model )?length")
NO_LOG_PROBABILITIES = f"{MALFORMED}: the server gives no log-probabilities; set the number of samples to draw instead, or use the decomposed protocol"
_IMAGE_TYPES = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg", b"RIFF": "webp", b"GIF8": "gif"}


def key_text(key: SecretStr) -> str:
    """The key without the blanks and line ends around it, which a file of settings may leave there."""
    return key.get_secret_value().strip()


class Chat:
    """Writes requests and reads answers, without sending anything: what a call and a batch file share."""

    def __init__(self, settings: OpenAISettings, key: SecretStr, read_image: Callable[[str], bytes]) -> None:
        """Take ``read_image``, the only way to an image's bytes: no path from a data file is ever opened."""
        self.structured = settings.structured
        self.top_logprobs, self.token_limit = _TOP_LOGPROBS[0], settings.token_limit
        self.log_probabilities, self.thinks, self._renamed_limit = True, False, False
        self._dropped: set[str] = set()  # parameters that the server refuses
        self._settings = settings
        given = key_text(key)
        self._key = given if len(given) >= _SHORTEST_SECRET else ""
        self._read_image = read_image

    def body(self, request: Request, draw: int = 0) -> dict[str, Any]:
        """The JSON of the call; of several answers to one request, each ``draw`` has a seed of its own.

        Raises:
            OSError, T2IEvalError: an image cannot be read.
        """
        settings, limit = self._settings, self.longest_answer(request)
        body: dict[str, Any] = {
            "model": settings.model,
            "messages": [self._message(m.role, m.text, m.images) for m in request.messages],
            self.token_limit: limit,
            "temperature": settings.temperature,
            "seed": settings.seed + draw,
        }
        if request.candidate_tokens and not self.log_probabilities:
            body["temperature"] = 1.0  # to be drawn several times
        elif request.candidate_tokens:
            body |= {"logprobs": True, "top_logprobs": self.top_logprobs}
        elif request.response_schema is not None and self.structured:
            schema = {"name": "answer", "strict": True, "schema": json_schema(request.response_schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return {name: value for name, value in body.items() if name not in self._dropped}

    def learn(self, reason: str, body: Mapping[str, Any]) -> None:
        """Take note of what in ``body`` the server refused, by its ``reason``; it holds from then on and is logged once."""
        text, before = reason.lower(), self._known
        if "response_format" in body and re.search(r"response_format|json_schema|structured|guided|grammar", text):
            self.structured = False
        elif "top_logprobs" in body and "logprobs" in text:
            allowed = [int(number) for number in re.findall(r"\b\d{1,2}\b", text.partition(":")[2])]
            smaller = [n for n in (*allowed, *_TOP_LOGPROBS) if 1 < n < body["top_logprobs"]]
            if smaller and not re.search(r"not (?:supported|allowed|available)|unsupported", text):
                self.top_logprobs = min(self.top_logprobs, max([n for n in allowed if n in smaller] or smaller))
            else:
                self.log_probabilities = False
        elif _TOO_LONG.search(text):  # whatever the parameters are called
            return
        elif self.token_limit in body and not self._renamed_limit and re.search(rf"\b{self.token_limit}\b", text):
            self._renamed_limit = True
            self.token_limit = "max_completion_tokens" if self.token_limit == "max_tokens" else "max_tokens"
        else:
            self._dropped |= {name for name in ("temperature", "seed") if name in body and name in text}
        self._note(before)

    def give_up_log_probabilities(self) -> None:
        """Draw samples from now on."""
        before = self._known
        self.log_probabilities = False
        self._note(before)

    @property
    def _known(self) -> dict[str, object]:
        return {
            "response_format": self.structured,
            "top_logprobs": self.top_logprobs if self.log_probabilities else None,
            "token limit": self.token_limit,
            "left out": sorted(self._dropped),
            "reasoning first": self.thinks,
        }

    def _note(self, before: Mapping[str, object]) -> None:
        changed = {name: value for name, value in self._known.items() if value != before[name]}
        if changed:
            log.warning("The server takes other parameters than were sent; from now on: %s.", changed)

    def longest_answer(self, request: Request) -> int:
        """The most tokens that the answer may have."""
        if request.candidate_tokens:
            return (1 if self.log_probabilities else _SAMPLE_TOKENS) + (_THINKING_TOKENS if self.thinks else 0)
        return (
            (_THINKING_TOKENS if self.thinks else 0)
            + request.max_tokens
            + (request.max_tokens + _FORM_TOKENS if request.response_schema is not None and self.structured else 0)
        )

    def read(self, completion: object, request: Request) -> Answer:
        """The answer in the server's reply.

        Raises:
            ValueError: the reply is no chat completion.
        """
        if not isinstance(completion, ChatCompletion):
            raise ValueError("the body is no chat completion")
        try:
            choice = completion.choices[0]
            content, refusal = choice.message.content, getattr(choice.message, "refusal", None)
        except (AttributeError, IndexError, TypeError):
            raise ValueError("the body is no chat completion") from None
        usage = _usage(completion)
        if not (content is None or isinstance(content, str)):
            raise ValueError("the content is no text")
        stated = (content or "").strip()
        if "<think>" not in request.messages[-1].text:  # else the reasoning is asked for, as a part of the answer
            self._notice_reasoning(choice.message, stated)
            stated = without_thinking(stated).strip()
            if stated.lower().startswith("<think"):
                return Answer(f"{TRUNCATED}: the reasoning was cut off", FAILED, usage=usage)
        text = self.without_key(stated)
        if refusal or choice.finish_reason == "content_filter":
            return Answer(f"{REFUSED}: {self.without_key(str(refusal or text))}", FAILED, usage=usage)
        if request.candidate_tokens and self.log_probabilities:
            return _distribution(choice, request.candidate_tokens, usage)
        if choice.finish_reason == "length" and not request.candidate_tokens:  # a sample is read by its first word
            return Answer(f"{TRUNCATED}: {text}", FAILED, usage=usage)
        if not text:
            return Answer(f"{MALFORMED}: the answer is empty", FAILED, usage=usage)
        if request.response_schema is not None and text[0] in "{[":
            try:
                text = _validated(request.response_schema, text).text()
            except ValidationError as error:
                fault = error.errors()[0]["msg"]
                return Answer(f"{MALFORMED}: the answer is off its schema ({fault}): {text}", FAILED, usage=usage)
        return Answer(text, usage=usage)

    def _notice_reasoning(self, message: Any, content: str) -> None:
        """Leave room for reasoning from now on, where the model reasons before it answers."""
        before = self._known
        apart = getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None)
        self.thinks = self.thinks or bool(apart) or content.lower().startswith("<think")
        self._note(before)

    def without_key(self, text: str) -> str:
        """``text`` with the key blotted out, should a server repeat it."""
        for written in {self._key, repr(self._key)[1:-1]} - {""}:
            text = text.replace(written, "***")
        return text

    def _message(self, role: str, text: str, images: Sequence[str]) -> dict[str, Any]:
        if not images:
            return {"role": role, "content": text}
        parts: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": _data_url(self._read_image(key))}} for key in images
        ]
        return {"role": role, "content": [*parts, {"type": "text", "text": text}]}


class OpenAIBackend:
    """Asks one server; see the module."""

    def __init__(
        self,
        settings: OpenAISettings,
        key: SecretStr,
        read_image: Callable[[str], bytes],
        *,
        name: Callable[[Request], str],
        budget: Budget | None = None,
        tokens: Tokens | None = None,
        section: str = "teacher.openai",
    ) -> None:
        """Prepare to ask; nothing is sent yet.

        Args:
            settings: the server.
            key: the secret that opens it; it goes into one header and nowhere else.
            read_image: the encoded bytes of an image by its key in the image store.
            name: names a request by its content (:class:`~t2i_eval_kedro.judging.cache.Keys`).
            budget: stops the run before a call that could break it.
            tokens: counts the tokens of a request before it is sent.
            section: where the settings stand, for messages.
        """
        self.chat = Chat(settings, key, read_image)
        self._settings = settings
        self._section = section
        self._name = name
        self._budget = budget
        self._tokens = tokens or Tokens(None, read_image)
        self._client = openai.AsyncOpenAI(
            api_key=key_text(key), base_url=settings.base_url, timeout=settings.timeout_s, max_retries=0
        )
        self._requests_limit = _limiter(settings.requests_per_minute)
        self._tokens_limit = _limiter(settings.tokens_per_minute)
        self._unanswered = 0  # requests in a row
        self._replied = False  # whether the server ever did
        self._open_again = 0.0  # monotonic time until which the server wants to be left alone
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="openai", daemon=True).start()

    def require_tokens(self, candidates: Iterable[Sequence[str]]) -> None:
        """No-op: what the tokens of a server's model are is seen in its answers."""

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        """Yield answers as they come.

        Raises:
            T2IEvalError: no request can be answered: no server there, wrong key, unknown model, used up budget.
        """
        came: queue.SimpleQueue[tuple[int, Answer] | T2IEvalError | None] = queue.SimpleQueue()
        asking = asyncio.run_coroutine_threadsafe(self._ask_all(requests, came.put), self._loop)
        asking.add_done_callback(lambda _: came.put(None))
        fault = None
        try:
            while (item := came.get()) is not None:
                if isinstance(item, T2IEvalError):
                    fault = item
                else:
                    yield item
        finally:
            asking.cancel()
        if fault is not None:
            raise fault
        asking.result()

    async def _ask_all(
        self, requests: Sequence[Request], put: Callable[[tuple[int, Answer] | T2IEvalError], None]
    ) -> None:
        """Let ``in_flight`` workers take one request after the other; the first fault of the run stops them all."""
        waiting = iter(enumerate(requests))
        faults: list[T2IEvalError] = []

        async def work() -> None:
            for i, request in waiting:
                try:
                    put((i, await self._ask(request, lambda: bool(faults))))
                except T2IEvalError as fault:
                    if not faults:
                        put(fault)
                    faults.append(fault)
                if faults:
                    return

        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._settings.in_flight, len(requests))):
                group.create_task(work())

    async def _ask(self, request: Request, stopped: Callable[[], bool]) -> Answer:
        """The answer, asked again where the server's reply taught how to ask: with room for reasoning, or by samples."""
        for _ in range(4):
            known = self.chat.log_probabilities, self.chat.thinks
            if request.candidate_tokens and not self.chat.log_probabilities and self._settings.samples:
                drawn = [await self._ask_once(request, stopped, draw) for draw in range(self._settings.samples)]
                return _pooled(drawn, request.candidate_tokens)
            answer = await self._ask_once(request, stopped)
            if answer.text == NO_LOG_PROBABILITIES and self._settings.samples:
                self.chat.give_up_log_probabilities()
            if (
                request.candidate_tokens
                and answer.status != FAILED
                and not answer.probabilities
                and self._settings.samples
            ):
                continue  # the server was found to give no log-probabilities while this request was under way
            if answer.status != FAILED or known == (self.chat.log_probabilities, self.chat.thinks):
                break
        return answer

    async def _ask_once(self, request: Request, stopped: Callable[[], bool], draw: int = 0) -> Answer:
        try:
            body = self.chat.body(request, draw)
            n_likely, n_most = self._tokens.expected_tokens(request), self._tokens.max_tokens_bound(request)
        except (OSError, ValueError, Image.DecompressionBombError, T2IEvalError) as error:
            return Answer(f"the image cannot be read: {error}", FAILED)
        longest = self.chat.longest_answer(request)
        most = {"prompt_tokens": n_most, "completion_tokens": longest}
        held = self._budget.hold(most) if self._budget else 0.0
        usage: Mapping[str, int] = {}
        try:
            answer = await self._try(request, body, n_likely + longest, stopped, draw)
            usage = answer.usage or (most if answer.status != FAILED else {})
            self._unanswered = 0 if usage else self._unanswered + 1
        finally:
            if self._budget:
                self._budget.settle(held, usage)
        if self._unanswered >= _GIVE_UP_AFTER and not stopped():
            raise T2IEvalError(
                f"The last {self._unanswered} requests to {self._client.base_url} got no answer ({answer.text}); what was "
                "answered is kept: run again when the server works."
            )
        return answer

    async def _try(
        self, request: Request, body: dict[str, Any], n_tokens: int, stopped: Callable[[], bool], draw: int
    ) -> Answer:
        name, reason, attempt = f"{self._name(request)}{f'-{draw}' if draw else ''}", "", -1
        while attempt < self._settings.retries:
            attempt += 1
            await self._wait(n_tokens)
            if attempt and stopped():
                break
            try:
                reply = await self._client.chat.completions.with_raw_response.create(**body, extra_headers={ECHO: name})
                self._replied = True
                if reply.headers.get(ECHO, name) != name:
                    raise ValueError("the server answered another request than it was asked")
                return self.chat.read(reply.parse(), request)
            except openai.APIStatusError as error:
                self._replied = True
                reason = self._reason(error)
                if error.status_code in (400, 422):
                    self.chat.learn(reason, body)
                    changed = self.chat.body(request, draw)
                    if request.candidate_tokens and not self.chat.log_probabilities and "logprobs" in body:
                        return Answer(NO_LOG_PROBABILITIES, FAILED)
                    if changed != body:
                        body, attempt = changed, attempt - 1
                        continue
                fault = self._fault_of_the_run(error, reason)
                wait = retry_after(error.response.headers)
                temporary = error.status_code in (408, 409, 429) or error.status_code >= 500
            except openai.APIConnectionError as error:
                reason, wait, temporary = self.chat.without_key(_cause(error)), None, True
                tried = attempt + 1 >= min(_FIRST_CONTACT, self._settings.retries + 1)
                fault = self._no_server(reason) if tried and not self._replied and _did_not_connect(error) else None
            except (openai.APIError, ValueError) as error:  # a body that is no JSON or no answer
                reason, fault, wait, temporary = f"{MALFORMED}: {self.chat.without_key(str(error))}", None, None, True
            if fault is not None:
                raise fault
            if not temporary:
                break
            if wait is not None:
                self._open_again = max(self._open_again, time.monotonic() + wait)
            elif attempt < self._settings.retries:
                await asyncio.sleep(min(_FIRST_WAIT_S * 2**attempt, _LONGEST_WAIT_S) * random.uniform(0.75, 1.0))
        return Answer(reason, FAILED)

    async def _wait(self, n_tokens: float) -> None:
        """Wait as long as the server asked everybody to, then for the limits."""
        while (left := self._open_again - time.monotonic()) > 0:
            await asyncio.sleep(left)
        if self._requests_limit is not None:
            await self._requests_limit.acquire()
        while self._tokens_limit is not None and n_tokens > 0:  # in portions, for one may be larger than a burst
            portion = min(n_tokens, self._tokens_limit.max_rate)
            await self._tokens_limit.acquire(portion)
            n_tokens -= portion

    def _reason(self, error: openai.APIStatusError) -> str:
        return self.chat.without_key(f"HTTP {error.status_code}: {error.message}"[:500])

    def _no_server(self, reason: str) -> T2IEvalError:
        return T2IEvalError(
            f"No server can be reached at {self._client.base_url} ({reason}); start it, or correct {self._section}.base_url."
        )

    def _fault_of_the_run(self, error: openai.APIStatusError, reason: str) -> T2IEvalError | None:
        """The error to end the run with, where no other request would fare better."""
        server, wait = str(self._client.base_url), retry_after(error.response.headers)
        if error.status_code in (401, 403):
            return T2IEvalError(
                f"The server at {server} refuses the key ({reason}); set OPENAI_API_KEY, or teacher.api_key in "
                "conf/local/credentials.yml."
            )
        if error.status_code == 404:
            return T2IEvalError(
                f"The server at {server} does not know model '{self._settings.model}' or the address ({reason}); correct "
                f"{self._section}.model or {self._section}.base_url."
            )
        if error.code == "insufficient_quota":
            return T2IEvalError(
                f"The account at {server} has no money left ({reason}); add some and run again to go on."
            )
        if wait is not None and wait > _LONGEST_WAIT_S:
            return T2IEvalError(f"The server at {server} asks to wait {wait:.0f} s; run again after that to go on.")
        return None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait: ``retry-after-ms``, or ``retry-after`` as seconds or as a date."""
    for name, factor in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = factor * float(headers[name])
        except (KeyError, ValueError):
            continue
        return max(seconds, 0.0) if math.isfinite(seconds) else None
    try:
        return max(parsedate_to_datetime(headers["retry-after"]).timestamp() - time.time(), 0.0)
    except (KeyError, ValueError):
        return None


def _limiter(per_minute: float | None) -> AsyncLimiter | None:
    """At most ``per_minute``, let through evenly: a full minute's worth at the start would be followed by another within it."""
    if per_minute is None:
        return None
    burst = max(per_minute / 60, 1.0)
    return AsyncLimiter(burst, 60 * burst / per_minute)


def _cause(error: BaseException) -> str:
    """The error and what it came from: "Connection error" alone says little."""
    cause = error.__cause__
    return str(error) if cause is None else f"{error} ({type(cause).__name__}: {cause})"


def _did_not_connect(error: openai.APIConnectionError) -> bool:
    """Nothing listens there, or there is no such host."""
    return type(error.__cause__).__name__ == "ConnectError"  # of whichever HTTP library the client has


def _usage(completion: ChatCompletion) -> dict[str, int]:
    """Tokens as the server reports them; empty where it reports none."""
    usage = completion.usage
    if usage is None:
        return {}
    details = getattr(usage, "prompt_tokens_details", None)
    counts = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "cached_tokens": getattr(details, "cached_tokens", None),
    }
    return {name: count for name, count in counts.items() if isinstance(count, int)}


def _distribution(choice: Any, choices: Sequence[str], usage: dict[str, int]) -> Answer:
    """The probabilities of ``choices`` at the first token, and that of everything else."""
    try:
        content = choice.logprobs.content
        tops = content[_first_of_the_answer([token.token for token in content])].top_logprobs
        masses = [(_plain(top.token), math.exp(min(top.logprob, 0.0))) for top in tops]
    except (AttributeError, IndexError, TypeError):
        return Answer(NO_LOG_PROBABILITIES, FAILED, usage=usage)
    folded = len({word.casefold() for word in choices}) == len(choices)  # Yes, YES and yes are one answer

    def same(token: str, word: str) -> bool:
        return token.casefold() == word.casefold() if folded else token == word

    inside = {word: sum(mass for token, mass in masses if same(token, word)) for word in choices}
    total = sum(inside.values())
    if total <= 0:
        return Answer(f"{MALFORMED}: none of the words asked for is among the likeliest", FAILED, usage=usage)
    return Answer(
        max(inside, key=lambda word: inside[word]),
        probabilities={word: mass / total for word, mass in inside.items()},
        out_of_vocabulary_mass=max(1 - total, 0.0),
        usage=usage,
    )


def _plain(token: str) -> str:
    """A token without the blank before it, however its tokenizer writes that."""
    return token.strip(" \t\r\n\u2581\u0120")


def _first_of_the_answer(tokens: Sequence[str]) -> int:
    """The position of the first token that is no reasoning and no blank.

    Example:
        >>> _first_of_the_answer(["<think>", "hm", "</think>", "\\n", "yes"]), _first_of_the_answer([" yes"])
        (4, 0)
    """
    start = max((i + 1 for i, token in enumerate(tokens) if "</think" in token), default=0)
    return next((i for i in range(start, len(tokens)) if _plain(tokens[i])), start)


def _pooled(drawn: Sequence[Answer], choices: Sequence[str]) -> Answer:
    """The shares of ``choices`` among drawn answers; what is none of them is outside."""
    failed = next((answer for answer in drawn if answer.status == FAILED), None)
    usage = dict(sum((Counter(answer.usage) for answer in drawn), Counter[str]()))
    if failed is not None:
        return replace(failed, usage=usage)
    words = [_word(answer.text, choices) for answer in drawn]
    counts = Counter(word for word in words if word is not None)
    total = counts.total()
    if not total:
        return Answer(f"{MALFORMED}: no sample is one of the words asked for: {drawn[0].text}", FAILED, usage=usage)
    shares = {word: counts[word] / total for word in choices}
    return Answer(
        max(shares, key=lambda word: shares[word]),
        probabilities=shares,
        out_of_vocabulary_mass=1 - total / len(drawn),
        usage=usage,
    )


def _word(text: str, choices: Sequence[str]) -> str | None:
    """The one of ``choices`` that ``text`` states or begins with, as its first token does, or ``None``."""
    for stated in (read_statement(text).word, next(iter(text.split()), "").strip("*_`\"'.,:;!")):
        exact = [word for word in choices if word == stated]
        alike = exact or [word for word in choices if word.casefold() == stated.casefold()]
        if len(alike) == 1:
            return alike[0]
    return None


def _validated(schema: type[ResponseSchema], text: str) -> ResponseSchema:
    """``text`` by ``schema``; a score that a server wrote as a number instead of a text counts too."""
    try:
        return schema.model_validate_json(text)
    except ValidationError:
        try:
            fields = json.loads(text)
        except ValueError:
            fields = {}
        if (
            not isinstance(fields, dict)
            or not isinstance(fields.get("score"), int)
            or isinstance(fields["score"], bool)
        ):
            raise
        return schema.model_validate(fields | {"score": str(fields["score"])})


def _data_url(data: bytes) -> str:
    kind = next((kind for start, kind in _IMAGE_TYPES.items() if data.startswith(start)), "png")
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
