"""Training examples in the forms that ms-swift and LLaMA-Factory read, to train a judge with them.

| form | files | answers that are learned |
|---|---|---|
| ``ms-swift`` | ``train.jsonl``, ``validation.jsonl``: ``messages`` and ``images`` | those without ``"loss": false`` |
| ``llama-factory`` | ``train.json``, ``validation.json``, ``dataset_info.json`` (``sharegpt``, OpenAI's roles) | the last of each conversation: train with ``mask_history: true`` |

Both write ``<image>`` where an image stands, so text that spells it gets a space into it, as for this project's own training. An adapter
that they train is judged here like any other (``kedro judge``), once it stands in a folder that peft reads.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from PIL import Image

from t2i_eval_kedro.datasets.atomic import atomic_folder
from t2i_eval_kedro.datasets.image_store import ImageStore
from t2i_eval_kedro.schema import EXAMPLES
from t2i_eval_kedro.training.rehearsal import StoreWithFiles

logger = logging.getLogger(__name__)

Form = Literal["ms-swift", "llama-factory"]
_TAG = "<image>"


def export_examples(examples: pd.DataFrame, images: ImageStore, out: Path, form: Form) -> dict[str, int]:
    """Write ``examples`` and their images to the folder ``out``.

    Soft labels, weights and frequencies have no place in these forms; examples that have them are written without, and a warning
    counts them.

    Args:
        examples: the table ``schema.EXAMPLES``.
        images: the images of the requests.
        out: folder to write; what stands there is replaced once the new one is complete.
        form: whose form to write.

    Returns:
        The number of conversations in each fold.
    """
    examples = EXAMPLES.check(examples)
    lost = examples["soft_label"].notna() | (examples["weight"] != 1) | ~examples["frequency"].fillna(1).eq(1)
    if lost.any():
        logger.warning(
            "%d of %d examples have a soft label, weight or frequency, which %s does not read.",
            lost.sum(),
            len(lost),
            form,
        )
    counts: dict[str, int] = {}
    with atomic_folder(out) as work:
        paths = _write_images(examples, images, work)
        for fold, rows in examples.groupby("fold", sort=True):
            conversations = [
                conversation
                for row in rows.itertuples()
                for conversation in _conversations(json.loads(str(row.messages)), str(row.completion), form, paths)
            ]
            counts[str(fold)] = len(conversations)
            if form == "ms-swift":
                lines = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in conversations)
                (work / f"{fold}.jsonl").write_text(lines, encoding="utf-8")
            else:
                text = json.dumps(conversations, ensure_ascii=False, indent=1)
                (work / f"{fold}.json").write_text(text, encoding="utf-8")
        if form == "llama-factory":
            about = {f"t2i_eval_{fold}": _about(f"{fold}.json") for fold in counts}
            (work / "dataset_info.json").write_text(json.dumps(about, indent=1), encoding="utf-8")
    return counts


def _write_images(examples: pd.DataFrame, images: ImageStore, work: Path) -> dict[str, str]:
    """Write each image that an example shows once; the path of each key, relative to the folder."""
    (work / "images").mkdir()
    paths: dict[str, str] = {}
    source = StoreWithFiles(images)
    for text in examples["messages"]:
        for message in json.loads(text):
            for key in message.get("images") or ():
                if key not in paths:
                    data = source.read(key)
                    with Image.open(io.BytesIO(data)) as opened:
                        suffix = (opened.format or "png").lower()
                    paths[key] = f"images/{hashlib.sha256(data).hexdigest()[:24]}.{suffix}"
                    (work / paths[key]).write_bytes(data)
    return paths


def _conversations(
    messages: list[dict[str, Any]], completion: str, form: Form, paths: dict[str, str]
) -> Iterator[dict[str, Any]]:
    """One conversation for ms-swift; for LLaMA-Factory one for each answer that is learned, which is its last."""
    chat = [*messages, {"role": "assistant", "text": completion, "learn": True}]
    learned = [place for place, message in enumerate(chat) if message.get("learn")]
    for end in learned if form == "llama-factory" else learned[-1:]:
        turns = chat[: end + 1]
        yield {
            "messages": [_turn(message, form) for message in turns],
            "images": [paths[key] for message in turns for key in message.get("images") or ()],
        }


def _turn(message: dict[str, Any], form: Form) -> dict[str, Any]:
    text = message["text"].replace(_TAG, f"{_TAG[:1]} {_TAG[1:]}")
    turn = {"role": message["role"], "content": _TAG * len(message.get("images") or ()) + text}
    silent = form == "ms-swift" and message["role"] == "assistant" and not message.get("learn")
    return turn | {"loss": False} if silent else turn


def _about(file: str) -> dict[str, Any]:
    tags = {
        "role_tag": "role",
        "content_tag": "content",
        "user_tag": "user",
        "assistant_tag": "assistant",
        "system_tag": "system",
    }
    return {
        "file_name": file,
        "formatting": "sharegpt",
        "columns": {"messages": "messages", "images": "images"},
        "tags": tags,
    }
