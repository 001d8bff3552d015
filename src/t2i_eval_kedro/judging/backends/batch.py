"""The same requests as a batch file: half the price, an answer within a day.

Each round of a protocol is one batch (several where it is large). A batch is written down in the answer store before it is
submitted and until its answers are kept, under the hash of its requests, which the server keeps with it: a run that is killed at any
moment finds its batches again, by their number or, if that was lost, by the hash, and waits for them instead of paying twice. What a batch
that expired or was cancelled has answered is kept; the rest is ``failed`` and asked again by the next run.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import openai
from openai.types.chat import ChatCompletion
from pydantic import SecretStr

from t2i_eval_kedro.datasets.answer_store import AnswerStore
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.backends.openai import Chat, key_text
from t2i_eval_kedro.judging.backends.openai_settings import OpenAISettings
from t2i_eval_kedro.judging.costs import Budget, Tokens
from t2i_eval_kedro.judging.protocols.base import Answer, Request
from t2i_eval_kedro.schema import FAILED

log = logging.getLogger(__name__)

_URL: Final = "/v1/chat/completions"
_HASH = "t2i_eval_kedro"  # the name of the hash in a batch's metadata
_ENDED = ("completed", "failed", "expired", "cancelled")


class BatchBackend:
    """Answers requests through the Batch API."""

    def __init__(
        self,
        settings: OpenAISettings,
        key: SecretStr,
        read_image: Callable[[str], bytes],
        store: AnswerStore,
        *,
        name: Callable[[Request], str],
        budget: Budget,
        tokens: Tokens,
        poll_s: float,
        max_lines: int = 50_000,
        max_bytes: int = 190_000_000,
    ) -> None:
        """Prepare; see :class:`~t2i_eval_kedro.judging.backends.openai.OpenAIBackend`.

        Args:
            settings: the server; its limits on requests in flight do not apply.
            key: the secret that opens it.
            read_image: the encoded bytes of an image by its key in the image store.
            store: where batches that are waited for are written down.
            name: names a request by its content; the same names as in the store.
            budget: a batch that could break it is not submitted.
            tokens: counts the tokens of a request before it is sent.
            poll_s: seconds between two looks at a batch.
            max_lines: requests in one batch file; OpenAI's limit.
            max_bytes: size of one batch file; OpenAI's limit is 200 MB.
        """
        self.chat = Chat(settings, key, read_image)
        self._store = store
        self._name = name
        self._budget = budget
        self._tokens = tokens
        self._poll_s = poll_s
        self._max_lines, self._max_bytes = max_lines, max_bytes
        self._held: dict[str, float] = {}
        self._reason = ""  # why the last batch that failed did, as the server says
        self._client = openai.OpenAI(
            api_key=key_text(key),
            base_url=settings.base_url,
            timeout=settings.timeout_s,
            max_retries=settings.retries,
        )

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        """Yield the answers of earlier batches that this run finds waiting, then those of new ones.

        Raises:
            T2IEvalError: the server refuses the batch or the key, or the budget could be broken.
        """
        waiting = {self._name(request): i for i, request in enumerate(requests)}
        try:
            for digest, state in self._store.batches().items():
                if waiting.keys() & set(state["names"]):
                    yield from self._collect(digest, state["names"], waiting, requests)
            for names, lines in list(self._files(requests, sorted(waiting.values()))):
                digest = hashlib.sha256("\n".join(names).encode()).hexdigest()
                self._store.put_batch(digest, {"id": None, "names": names})
                self._submit(digest, names, lines)
            for digest, state in self._store.batches().items():
                if waiting.keys() & set(state["names"]):
                    yield from self._collect(digest, state["names"], waiting, requests)
        except openai.OpenAIError as error:
            reason = self.chat.without_key(str(error))
            raise T2IEvalError(
                f"The Batch API at {self._client.base_url} failed ({reason}); what was submitted is written down: run "
                "again to go on."
            ) from None
        for name, i in waiting.items():
            self._budget.settle(self._held.pop(name, 0.0), {})
            yield i, Answer(f"the batch ended without an answer{self._reason}", FAILED)

    def _files(self, requests: Sequence[Request], positions: Sequence[int]) -> Iterator[tuple[list[str], bytes]]:
        """Batch files of at most the size that is allowed, each with the names in it."""
        lines: list[bytes] = []
        names: list[str] = []
        for i in positions:
            try:
                body = self.chat.body(requests[i])
                most = {
                    "prompt_tokens": self._tokens.max_tokens_bound(requests[i]),
                    "completion_tokens": self.chat.longest_answer(requests[i]),
                    "batch": 1,
                }
            except (OSError, ValueError, T2IEvalError):
                continue  # it stays without an answer
            name = self._name(requests[i])
            self._held[name] = self._budget.hold(most)
            line = json.dumps({"custom_id": name, "method": "POST", "url": _URL, "body": body}).encode() + b"\n"
            if lines and (len(lines) == self._max_lines or sum(map(len, lines)) + len(line) > self._max_bytes):
                yield names, b"".join(lines)
                lines, names = [], []
            lines.append(line)
            names.append(name)
        if lines:
            yield names, b"".join(lines)

    def _submit(self, digest: str, names: list[str], lines: bytes) -> None:
        file = self._client.files.create(file=("batch.jsonl", lines), purpose="batch")
        batch = self._client.batches.create(
            input_file_id=file.id, endpoint=_URL, completion_window="24h", metadata={_HASH: digest}
        )
        self._store.put_batch(digest, {"id": batch.id, "names": names})
        log.info(
            "Batch %s is submitted (%d bytes); a run may be stopped and started again meanwhile.", batch.id, len(lines)
        )

    def _collect(
        self, digest: str, names: Collection[str], waiting: dict[str, int], requests: Sequence[Request]
    ) -> Iterator[tuple[int, Answer]]:
        """Wait for one batch and yield those of its answers that are wanted now; forget it, unless it has others that nobody has yet."""
        number, left = self._find(digest), 0
        if number is not None:
            batch = self._client.batches.retrieve(number)
            while batch.status not in _ENDED:
                time.sleep(self._poll_s)
                batch = self._client.batches.retrieve(number)
            log.info("Batch %s is %s.", number, batch.status)
            for error in (batch.errors.data if batch.errors else None) or ():
                self._reason = f": {self.chat.without_key(str(error.message))}"
            for file in filter(None, (batch.output_file_id, batch.error_file_id)):
                for line in self._client.files.content(file).text.splitlines():
                    name, reply = _line(line)
                    if name in waiting:
                        yield self._answered(name, reply, waiting, requests)
                    elif name in names and not self._known(name):
                        left += 1
                    elif name not in names:
                        log.warning("A line of the batch's output answers nothing that was asked; it is left out.")
        if left:
            log.info("Batch %s answers %d requests that this run does not make; it stays written down.", number, left)
        else:
            self._store.put_batch(digest, None)

    def _known(self, name: str) -> bool:
        """Whether the answer to a request is kept."""
        return self._store.get(name) is not None or self._store.failure(name) is not None

    def _find(self, digest: str) -> str | None:
        """The number of a batch: as it was written down, or by its hash where the run was killed just before that."""
        batch_id = self._store.batches().get(digest, {}).get("id")
        if batch_id is not None:
            return str(batch_id)
        return next((b.id for b in self._client.batches.list() if (b.metadata or {}).get(_HASH) == digest), None)

    def _answered(
        self, name: str, reply: Mapping[str, Any], waiting: dict[str, int], requests: Sequence[Request]
    ) -> tuple[int, Answer]:
        """The answer to the request ``name``, which waits no longer."""
        i, response = waiting.pop(name), reply.get("response") or {}
        if response.get("status_code") != 200:
            reason = (reply.get("error") or response.get("body") or {"message": "no reason given"}).get(
                "message", reply
            )
            answer = Answer(self.chat.without_key(f"the batch failed here: {reason}"), FAILED)
        else:
            try:
                answer = self.chat.read(ChatCompletion.model_validate(response["body"]), requests[i])
            except (KeyError, TypeError, ValueError) as error:
                answer = Answer(f"malformed: {error}", FAILED)
        if answer.usage:
            answer = replace(answer, usage={**answer.usage, "batch": 1})
        self._budget.settle(self._held.pop(name, 0.0), answer.usage)
        return i, answer


def _line(line: str) -> tuple[str, Mapping[str, Any]]:
    """One line of an output file, with the name of its request; "" for a line that is broken."""
    try:
        reply = json.loads(line)
        return str(reply["custom_id"]), reply
    except (ValueError, KeyError, TypeError):
        return "", {}
