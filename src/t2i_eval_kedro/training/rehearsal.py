"""General examples that a student goes on being trained on, so that it keeps what it could do before.

A student of one task forgets others, and the chain rests on them: it answers questions about an image. For ``shapes`` general
questions about the training images are drawn; for real models any instruction set in the usual chat JSON does.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from PIL import Image

from t2i_eval_kedro import schema
from t2i_eval_kedro.datasets.image_store import ImageStore, decode, image_size
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.models.processors import ImageSource
from t2i_eval_kedro.training.settings import REHEARSAL

log = logging.getLogger(__name__)

TEXT_SHARE = 0.15
"""Share of the drawn questions that are about no image."""
_FILE = "file:"
_T = TypeVar("_T")


class WithFiles:
    """Images of a store, and those that chat JSON names by their path."""

    def __init__(self, images: ImageSource) -> None:
        """Read keys from ``images``, but for those that begin with ``file:``."""
        self._images = images

    def image(self, key: str) -> Image.Image:
        """The image under ``key``.

        Raises:
            T2IEvalError: a file cannot be read.
        """
        if not key.startswith(_FILE):
            return self._images.image(key)
        return _read_file(key, decode)


class StoreWithFiles(WithFiles):
    """As :class:`WithFiles`, of a store that gives the files themselves, so that sizes are known without decoding."""

    def __init__(self, images: ImageStore) -> None:
        """Read keys from ``images``, but for those that begin with ``file:``."""
        super().__init__(images)
        self._store = images

    def read(self, key: str) -> bytes:
        """The image under ``key`` as its file has it.

        Raises:
            T2IEvalError: there is no such image, or a file is none.
        """
        return _read_file(key, _checked) if key.startswith(_FILE) else self._store.read(key)


def with_files(images: ImageSource) -> ImageSource:
    """``images``, and those that chat JSON names by their path."""
    return StoreWithFiles(images) if isinstance(images, ImageStore) else WithFiles(images)


def _read_file(key: str, read: Callable[[bytes], _T]) -> _T:
    path = Path(key.removeprefix(_FILE))
    try:
        return read(path.read_bytes())
    except OSError as error:
        raise T2IEvalError(f"The image '{path}' of a rehearsed example cannot be read: {error}.") from error


def _checked(data: bytes) -> bytes:
    """``data`` if it begins as an image does."""
    image_size(data)
    return data


def rehearsal_examples(
    source: int | str, items: pd.DataFrame, folds: Mapping[str, str], *, seed: int = 0
) -> pd.DataFrame:
    """General examples, all of the fold ``train``.

    Args:
        source: how many to draw, for ``shapes``; or a file, see :func:`read_chats`.
        items: canonical table.
        folds: fold of each item that is used; questions are about images of the fold ``train``.
        seed: random seed of the drawing.

    Returns:
        The table ``schema.EXAMPLES``; empty where questions are to be drawn for another benchmark.

    Raises:
        T2IEvalError: the file cannot be read.
    """
    if isinstance(source, int):
        chats = _drawn(source, items[items["item_id"].map(folds) == "train"], seed) if source else iter(())
    else:
        chats = read_chats(Path(source))
    return schema.EXAMPLES.frame(
        {
            "example_id": f"{REHEARSAL}/{number}",
            "item_id": f"{REHEARSAL}/{number}",
            "fold": "train",
            "task": REHEARSAL,
            "aspect": "",
            "messages": json.dumps(messages, ensure_ascii=False),
            "completion": answer,
            "question_id": f"{REHEARSAL}/{number}",
            "weight": 1.0,
        }
        for number, (messages, answer) in enumerate(chats)
    )


def _drawn(count: int, items: pd.DataFrame, seed: int) -> Iterator[tuple[list[dict[str, Any]], str]]:
    from t2i_eval_kedro.shapes import questions
    from t2i_eval_kedro.shapes.make import BENCHMARK
    from t2i_eval_kedro.shapes.render import Degradation
    from t2i_eval_kedro.shapes.scene import Scene

    if not (items["benchmark"] == BENCHMARK).all() or items.empty:
        log.warning(
            "No general questions are drawn: that can be done for the benchmark '%s' alone; examples.rehearsal may be an instruction "
            "set in chat JSON.",
            BENCHMARK,
        )
        return
    truths = [json.loads(text) for text in items["attributes"]]
    shown = [questions.Shown(Scene.from_json(t["image_scene"]), Degradation(**t["degradation"])) for t in truths]
    keys = list(items["image"])
    rng = np.random.default_rng([seed, len(keys)])
    while count:
        place = int(rng.integers(len(shown)))
        about_text = rng.random() < TEXT_SHARE
        kinds = questions.TEXT_KINDS if about_text else questions.PICTURE_KINDS
        kind = list(kinds)[int(rng.choice(len(kinds), p=np.array(list(kinds.values())) / sum(kinds.values())))]
        pair = questions.ask_text(kind, rng) if about_text else questions.ask(shown[place], kind, rng)
        if pair is not None:
            count -= 1
            yield (
                [{"role": "user", "text": pair.question, "images": [] if about_text else [keys[place]]}],
                pair.answer,
            )


def read_chats(path: Path) -> Iterator[tuple[list[dict[str, Any]], str]]:
    """The conversations of an instruction set, each as its messages and the last answer, which is learned.

    Args:
        path: JSON (a list) or JSON lines. A conversation has ``messages`` of ``role`` and ``content`` (text, or a list of parts), or
            ``conversations`` of ``from`` (``human``, ``gpt``) and ``value``, as LLaVA's. A part of type ``image`` names a file by
            ``image``, ``path`` or ``url``; or ``images`` or ``image`` of the conversation (paths, or mappings with ``path``) name them in
            the order in which parts without a name, or ``<image>`` in texts, say where they are: before the first request where none does.
            Paths are relative to the file.

    Raises:
        T2IEvalError: the file cannot be read, or holds no conversation; a conversation has no request followed by an answer, a turn without
            text, or an image that is no file or whose place is not clear.
    """
    chats = _read(path)
    if not chats:
        raise T2IEvalError(
            f"The instruction set '{path}' (examples.rehearsal) holds no conversation; expected a JSON list or JSON lines with one or more."
        )
    for number, chat in enumerate(chats, start=1):
        where = f"Conversation {number} of '{path}'"
        turns = _turns(chat, where)
        if len(turns) < 2 or turns[-1]["role"] != "assistant" or turns[-2]["role"] != "user":
            raise T2IEvalError(
                f"{where} does not end with a request and its answer; expected 'messages' of 'role' and 'content', or 'conversations' of "
                "'from' and 'value'."
            )
        if not turns[-1]["text"] or turns[-1]["images"]:
            raise T2IEvalError(
                f"{where} ends with an answer that is empty or has an image; expected text, which is learned."
            )
        _name_files(turns, chat, path.parent, where)
        yield turns[:-1], turns[-1]["text"]


def _read(path: Path) -> list[Any]:
    number = 0
    try:
        text = path.read_text(encoding="utf-8-sig")
        if text.lstrip().startswith("["):
            return list(json.loads(text))
        chats = []
        for number, line in enumerate(text.split("\n"), start=1):  # noqa: B007
            if line.strip():
                chats.append(json.loads(line))
        return chats
    except (OSError, ValueError) as error:
        what: object = error
        if isinstance(error, json.JSONDecodeError):
            what = f"line {number or error.lineno}, column {error.colno}: {error.msg}"
        raise T2IEvalError(
            f"The instruction set '{path}' (examples.rehearsal) cannot be read: {what}; expected a JSON list or JSON lines."
        ) from error


_ROLES = {"human": "user", "gpt": "assistant"}
_NAMED_BY = ("image", "path", "url", "image_url")
_MARK = "<image>"


def _turns(chat: Any, where: str) -> list[dict[str, Any]]:
    """The turns of one conversation in this project's form, with None for an image that is named elsewhere; none where there are none."""
    given = (chat.get("messages") or chat.get("conversations")) if isinstance(chat, Mapping) else None
    return (
        [_turn(turn, f"{where}, turn {number},") for number, turn in enumerate(given, start=1)]
        if isinstance(given, list)
        else []
    )


def _turn(turn: Any, where: str) -> dict[str, Any]:
    if not isinstance(turn, Mapping):
        raise T2IEvalError(
            f"{where} is {turn!r:.60}; expected a mapping of 'role' and 'content', or of 'from' and 'value'."
        )
    role, content = str(turn.get("role", turn.get("from"))), turn.get("content", turn.get("value"))
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(parts, list) or not all(isinstance(part, Mapping) for part in parts):
        raise T2IEvalError(
            f"{where} has the content {content!r:.60}; expected text, or a list of parts of type text or image."
        )
    texts, images = [], []
    for part in parts:
        match part.get("type", "text"):
            case "text":
                texts.append(str(part.get("text") or ""))
            case "image" | "image_url":
                images.append(_name(part))
            case other:
                raise T2IEvalError(f"{where} has a part of type {other!r:.60}; expected text or image.")
    text = "".join(texts)
    marks = text.count(_MARK)
    if marks != len(images):  # else the marks stand for the parts
        images += [None] * marks
    return {"role": _ROLES.get(role, role), "text": text.replace(_MARK, "").strip(), "images": images}


def _name(image: Any) -> Any:
    """What an image is named by, a text where it is as it should be; None where a mapping has no name."""
    if not isinstance(image, Mapping):
        return image
    return next((_name(image[key]) for key in _NAMED_BY if image.get(key)), None)


def _name_files(turns: list[dict[str, Any]], chat: Mapping[str, Any], folder: Path, where: str) -> None:
    """Put the images that ``chat`` names where its turns say so, else before the first request, all as keys of :class:`WithFiles`."""
    given = chat.get("images") or chat.get("image") or []
    named = [_name(image) for image in (given if isinstance(given, list) else [given])]
    if not any(turn["images"] for turn in turns):
        next(turn for turn in turns if turn["role"] == "user")["images"] = [None] * len(named)
    places = [image for turn in turns for image in turn["images"]].count(None)
    if places != len(named):
        raise T2IEvalError(
            f"{where} says for {places} images where they are ({_MARK}, or a part without a name) and names {len(named)} in 'images'; "
            "expected as many of one as of the other."
        )
    left = iter(named)
    for turn in turns:
        turn["images"] = [_key(next(left) if image is None else image, folder, where) for image in turn["images"]]


def _key(name: Any, folder: Path, where: str) -> str:
    if not isinstance(name, str) or "://" in name or name.startswith("data:") or not os.path.isfile(folder / name):
        raise T2IEvalError(
            f"{where} has the image {name!r:.300}, which is no file; expected the path of one, relative to '{folder}' (what stands behind "
            "an address has to be fetched first)."
        )
    return f"{_FILE}{(folder / name).resolve()}"
