"""The simulated teacher for requests that come without their item and step, as they do over a wire.

A simulated teacher answers from the truth of an item, not from pixels, and a chat names no item. But the images of the
benchmark are known, and so is what a protocol asks about them: an image is recognised by its pixels, the conversation
about it is held once with the teacher itself, and a request gets the answer that the same text got there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence

from PIL.Image import Image

from t2i_eval_kedro.judging.backends.base import Backend
from t2i_eval_kedro.judging.protocols.base import Answer, EvaluationItem, Protocol, Request, Token
from t2i_eval_kedro.models.processors import ImageSource
from t2i_eval_kedro.schema import FAILED

_Text = tuple[tuple[str, str], ...]


class ReplayedBackend:
    """Answers requests of which only the messages are known, as ``backend`` answers whole ones."""

    def __init__(
        self,
        backend: Backend,
        items: Sequence[EvaluationItem],
        pictures: Mapping[str, Image],
        protocols: Sequence[Protocol],
        images: ImageSource,
    ) -> None:
        """Recognise ``items``.

        Args:
            backend: answers requests that name their item and step.
            items: all that may be asked about.
            pictures: their images, by ``EvaluationItem.image``.
            protocols: what may be asked.
            images: where the images of requests are.
        """
        self._backend = backend
        self._protocols = protocols
        self._images = images
        self._items = {_pixels(pictures[item.image]): item for item in items}
        self._known: dict[str, dict[_Text, Answer]] = {}
        # What is asked before the image is shown is the same for all images of a prompt.
        firsts = {item.prompt: item for item in items}
        self._before = {text: answer for item in firsts.values() for text, answer in self._first(item)}

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        """Answer at once; a request that no protocol makes is ``failed``."""
        for i, request in enumerate(requests):
            yield i, self._answer(request)

    def _answer(self, request: Request) -> Answer:
        images = [key for message in request.messages for key in message.images]
        if not images:
            answer = self._before.get(_text(request))
        else:
            pixels = _pixels(self._images.image(images[0]))
            item = self._items.get(pixels)
            if item is None:
                return Answer("the simulated teacher sees the images of its own benchmark alone", status=FAILED)
            if pixels not in self._known:
                self._known[pixels] = dict(self._conversation(item))
            answer = self._known[pixels].get(_text(request))
        if answer is None:
            return Answer(
                f"the simulated teacher is asked by {' or '.join(p.label for p in self._protocols)} alone",
                status=FAILED,
            )
        if not request.top_logprobs:
            return answer
        return Answer(answer.text, tokens=(Token(answer.text, 0.0, {answer.text: 0.0}),))  # it never doubts

    def _conversation(self, item: EvaluationItem) -> Iterator[tuple[_Text, Answer]]:
        for protocol in self._protocols:
            answers: dict[str, Answer] = {}
            while requests := protocol.requests(item, answers):
                for i, answer in self._backend.answer(requests):
                    answers[requests[i].step] = answer
                    yield _text(requests[i]), answer

    def _first(self, item: EvaluationItem) -> Iterator[tuple[_Text, Answer]]:
        for protocol in self._protocols:
            requests = [r for r in protocol.requests(item, {}) if not any(m.images for m in r.messages)]
            for i, answer in self._backend.answer(requests):
                yield _text(requests[i]), answer


def _text(request: Request) -> _Text:
    return tuple((message.role, message.text) for message in request.messages)


def _pixels(image: Image) -> str:
    """The same for the same pixels, however a client has encoded them anew."""
    return hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest()
