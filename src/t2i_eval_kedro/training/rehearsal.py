"""General examples that a student goes on being trained on, so that it keeps what it could do before.

A student of one task forgets others, and the chain rests on them: it answers questions about an image. For ``shapes`` general
questions about the training images are drawn; for real models any instruction set in the usual chat JSON does.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from t2i_eval_kedro import schema
from t2i_eval_kedro.datasets.image_store import decode
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.models.processors import ImageSource

log = logging.getLogger(__name__)

REHEARSAL = "rehearsal"
"""The task of these examples."""
TEXT_SHARE = 0.15
"""Share of the drawn questions that are about no image."""
_FILE = "file:"


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
        path = Path(key.removeprefix(_FILE))
        try:
            return decode(path.read_bytes())
        except OSError as error:
            raise T2IEvalError(f"The image '{path}' of a rehearsed example cannot be read: {error}.") from error


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
            ``conversations`` of ``from`` (``human``, ``gpt``) and ``value``, as LLaVA's; and optionally ``images`` or ``image``, paths
            relative to the file, which stand before the first request. A text may say ``<image>`` where they are.

    Raises:
        T2IEvalError: the file cannot be read, or a conversation has no request followed by an answer.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        chats = (
            json.loads(text)
            if text.lstrip().startswith("[")
            else [json.loads(line) for line in text.splitlines() if line]
        )
    except (OSError, ValueError) as error:
        raise T2IEvalError(f"The instruction set '{path}' (examples.rehearsal) cannot be read: {error}.") from error
    for number, chat in enumerate(chats, start=1):
        turns = _turns(chat)
        if len(turns) < 2 or turns[-1]["role"] != "assistant" or turns[-2]["role"] != "user":
            raise T2IEvalError(
                f"Conversation {number} of '{path}' does not end with a request and its answer; expected 'messages' of 'role' "
                "and 'content', or 'conversations' of 'from' and 'value'."
            )
        named = chat.get("images") or chat.get("image") or []
        files = [named] if isinstance(named, str) else list(named)
        first = next(turn for turn in turns if turn["role"] == "user")
        first["images"] = [f"{_FILE}{(path.parent / file).resolve()}" for file in files]
        yield turns[:-1], turns[-1]["text"]


_ROLES = {"human": "user", "gpt": "assistant"}


def _turns(chat: Any) -> list[dict[str, Any]]:
    """The turns of one conversation in this project's form, without images; empty where it has none that can be read."""
    if not isinstance(chat, Mapping):
        return []
    turns = []
    for turn in chat.get("messages") or chat.get("conversations") or []:
        role, content = turn.get("role", turn.get("from", "")), turn.get("content", turn.get("value", ""))
        if not isinstance(content, str):
            content = "".join(str(part.get("text", "")) for part in content)
        text = content.replace("<image>", "").strip()
        turns.append({"role": _ROLES.get(role, role), "text": text, "images": []})
    return turns
