"""Ask nothing twice: a backend that keeps every answer on disk before it hands it on, and answers from there first."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace

from t2i_eval_kedro.datasets.answer_store import AnswerStore
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.backends.base import Backend
from t2i_eval_kedro.judging.protocols.base import Answer, Request
from t2i_eval_kedro.judging.protocols.response_schemas import json_schema
from t2i_eval_kedro.schema import FAILED


class Keys:
    """Names requests by their content: the hash of everything that decides an answer."""

    def __init__(self, identity: Mapping[str, object], read_image: Callable[[str], bytes] | None = None) -> None:
        """Name the requests to one judge.

        Args:
            identity: what decides an answer besides the request: model, its revision or fingerprint, sampling, seed.
            read_image: the encoded bytes of an image by its key; an image is named by them and not by its key.
        """
        self.identity = dict(identity)
        self._read_image = read_image
        self._digests: dict[str, str] = {}
        self._unread: set[str] = set()

    def read_anew(self) -> None:
        """Read images again from now on: a file may have been written since."""
        self._digests.clear()

    def names_content(self, name: str) -> bool:
        """Whether ``name``, which this gave a request, stands for all of its images: not where one could not be read."""
        return name not in self._unread

    def __call__(self, request: Request) -> str:
        """The SHA-256 of the request in canonical JSON, as 64 hexadecimal digits."""
        content = {
            "identity": self.identity,
            "messages": [[m.role, m.text, [self._digest(key) for key in m.images]] for m in request.messages],
            "max_tokens": request.max_tokens,
            "choices": request.candidate_tokens,
            "schema": None if request.response_schema is None else json_schema(request.response_schema),
        }
        text = json.dumps(content, sort_keys=True, ensure_ascii=False)
        name = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        if not all(key in self._digests for message in request.messages for key in message.images):
            self._unread.add(name)
        return name

    def _digest(self, key: str) -> str:
        if key not in self._digests:
            try:
                data = key.encode() if self._read_image is None else self._read_image(key)
            except (OSError, ValueError, T2IEvalError):
                return f"unreadable: {key}"  # each has a reason of its own, which the backend says
            self._digests[key] = hashlib.sha256(data).hexdigest()
        return self._digests[key]


class CachedBackend:
    """Any backend, with its answers in a store; see :class:`~t2i_eval_kedro.datasets.answer_store.AnswerStore`.

    An answer is on disk before it is yielded, so a run that is killed and started again asks only what is missing. A
    failed answer is kept where something was generated, and paid for (it has a usage); it is not asked for again unless
    ``retry_failed``. A failure without usage (no connection, an unreadable image) is not kept: the next run tries again. Images are
    read anew at each call, so that one that has changed is asked about again.
    """

    def __init__(
        self, backend: Backend, store: AnswerStore, keys: Keys, *, retry_failed: bool = False, exclusive: bool = True
    ) -> None:
        """Wrap ``backend``.

        If ``exclusive``, hold the store's file lock while answering, so that a second run on it waits instead of sending the same
        requests."""
        self._backend = backend
        self._store = store
        self._keys = keys
        self._retry_failed = retry_failed
        self._exclusive = exclusive

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        """Yield what is known, then what the backend says about the rest; equal requests are asked once."""
        with self._store.exclusive_lock() if self._exclusive else nullcontext():
            asked: dict[str, list[int]] = {}
            self._keys.read_anew()
            for i, request in enumerate(requests):
                key = self._keys(request)
                kept = self._keys.names_content(key)
                known = known_answer(self._store, key, retry_failed=self._retry_failed) if kept else None
                if known is None:
                    asked.setdefault(key, []).append(i)
                else:
                    yield i, known
            keys = list(asked)
            for position, answer in self._backend.answer([requests[asked[key][0]] for key in keys]):
                failed = answer.status == FAILED
                if self._keys.names_content(keys[position]) and (not failed or answer.usage):
                    record = {"identity": self._keys.identity, "answer": asdict(replace(answer, tokens=()))}
                    self._store.put(keys[position], record, failed=failed)
                for i in asked[keys[position]]:
                    yield i, answer


def known_answer(store: AnswerStore, key: str, *, retry_failed: bool) -> Answer | None:
    """The answer that ``store`` holds; a failed one too, unless it is to be asked for again."""
    kept = store.get(key)
    if kept is None and not retry_failed:
        kept = store.failure(key)
    if kept is None:
        return None
    fields = {**kept["answer"], "tokens": ()}
    if "outside" in fields:  # as it was called before 1.0; read for one release
        fields["out_of_vocabulary_mass"] = fields.pop("outside")
    return Answer(**fields)
