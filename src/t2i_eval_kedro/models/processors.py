"""The one place that loads a model's processor and that writes a conversation as its text.

Training and judging both go through :func:`to_chat` and :func:`render`, so that a student is asked with the very text
it was trained on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.models.answers import answer_form
from t2i_eval_kedro.models.loading import model_folder, way_out

if TYPE_CHECKING:
    from PIL.Image import Image

ChatMessageDict = Mapping[str, Any]


class ImageSource(Protocol):
    """Whatever returns an image by its key."""

    def image(self, key: str) -> Image:
        """The RGB image stored under ``key``."""
        ...


def to_chat(messages: Iterable[ChatMessageDict]) -> list[dict[str, Any]]:
    """Messages of this project as the chat format of transformers.

    Args:
        messages: ``{"role", "text", "images"}`` each, the images as keys of the image store.

    Returns:
        ``{"role", "content"}`` each; the content lists one placeholder an image, then the text.

    Example:
        >>> to_chat([{"role": "user", "text": "Score it.", "images": ["a.png"]}])
        [{'role': 'user', 'content': [{'type': 'image'}, {'type': 'text', 'text': 'Score it.'}]}]
    """
    return [
        {
            "role": message["role"],
            "content": [{"type": "image"} for _ in message.get("images") or ()]
            + [{"type": "text", "text": message["text"]}],
        }
        for message in messages
    ]


def image_keys(messages: Iterable[ChatMessageDict]) -> list[str]:
    """The keys of all images of a conversation, in the order in which its text refers to them.

    Example:
        >>> image_keys([{"role": "user", "text": "", "images": ["b", "a"]}, {"role": "assistant", "text": "ok"}])
        ['b', 'a']
    """
    return [key for message in messages for key in message.get("images") or ()]


def render(processor: Any, messages: Iterable[ChatMessageDict], *, add_generation_prompt: bool = True) -> str:
    """The text of a conversation in the model's own chat template, with its image placeholders not yet expanded.

    Text that spells a special token of the model (``<image>``, the end of a turn) gets a space into it, so that a prompt
    can neither speak for the judge nor count as an image.
    """
    plain = [{**message, "text": plain_text(processor, message["text"])} for message in messages]
    text: str = processor.apply_chat_template(
        to_chat(plain), tokenize=False, add_generation_prompt=add_generation_prompt
    )
    return text


def plain_text(processor: Any, text: str) -> str:
    """``text`` with a space in whatever spells a special token of the model, as in :func:`render`."""
    return _special_tokens(processor.tokenizer).sub(lambda token: f"{token[0][:1]} {token[0][1:]}", text)


@lru_cache(maxsize=8)
def _special_tokens(tokenizer: Any) -> re.Pattern[str]:
    """What finds the special tokens of ``tokenizer``, the longest first."""
    tokens = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    return re.compile("|".join(re.escape(token) for token in sorted(tokens, key=len, reverse=True)) or r"(?!)")


def open_thoughts(processor: Any) -> tuple[str, int] | None:
    """What closes a block of thoughts of this model, with the token that ends it; None where a judge is to write none.

    Raises:
        T2IEvalError: the end is no token of the model, so that it cannot be told when the thoughts are over.
    """
    closing: str | None = getattr(processor, "thoughts", None)
    if closing is None:
        return None
    end = processor.tokenizer.encode(closing.strip(), add_special_tokens=False)
    if len(end) != 1:
        raise T2IEvalError(
            f"The thoughts of this model end with '{closing.strip()}', which is {len(end)} tokens and not one; set "
            "model.thinking=closed."
        )
    return closing, end[0]


def encode(
    processor: Any,
    conversations: Sequence[Sequence[ChatMessageDict]],
    images: ImageSource,
    thoughts: Sequence[str] | None = None,
) -> Any:
    """A left-padded batch of requests, ready for ``model.generate`` or a forward pass over the last position.

    Args:
        processor: what :func:`load_processor` returned.
        conversations: B requests, each ending before the answer.
        images: where their images are.
        thoughts: text in place of the closed block of thoughts, for each request; "" leaves it open.

    Returns:
        What the processor returns: ``input_ids`` and ``attention_mask`` of shape (B, T), and the images' tensors.
    """
    pictures = [[images.image(key) for key in image_keys(messages)] for messages in conversations]
    texts = [render(processor, messages) for messages in conversations]
    if thoughts is not None:
        texts = [text.removesuffix(processor.thoughts) + thought for text, thought in zip(texts, thoughts, strict=True)]
    return processor(
        text=texts,
        images=pictures if any(pictures) else None,
        padding=True,
        padding_side="left",
        add_special_tokens=False,  # the chat template has written them
        return_tensors="pt",
    )


def load_processor(
    model: str | Path, *, revision: str | None = None, trust_remote_code: bool = False, thinking: str = "closed"
) -> Any:
    """The processor (tokenizer, image processor, chat template) of ``model``.

    Args:
        model: a folder or a hub name.
        revision: branch, tag or commit of a hub name.
        trust_remote_code: whether to run code that the model's repository ships.
        thinking: for a model whose template opens a block of thoughts: ``closed`` ends each request with the block closed, so
            that the answer comes at once; ``generated`` lets a judge write its thoughts into it first (:func:`open_thoughts`). Examples are
            learned with the block closed, either way.

    Raises:
        T2IEvalError: there is none, or it has no image processor, no chat template or no way to pad; or thoughts are to be generated and
            their end is no token of the model.
    """
    processor = published_processor(model, revision=revision, trust_remote_code=trust_remote_code)
    tokenizer = processor.tokenizer
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    closing = _complete_template(processor)
    processor.thoughts = closing if thinking == "generated" else None
    open_thoughts(processor)
    return processor


def published_processor(model: str | Path, *, revision: str | None = None, trust_remote_code: bool = False) -> Any:
    """The processor of ``model`` as its authors published it; raises what :func:`load_processor` raises."""
    from transformers import AutoProcessor, ProcessorMixin

    folder = model_folder(model)
    try:
        loader: Any = AutoProcessor
        processor = loader.from_pretrained(
            str(model), revision=revision, trust_remote_code=trust_remote_code, local_files_only=folder is not None
        )
    except (OSError, ValueError, ImportError) as error:
        raise T2IEvalError(f"The processor of model '{model}' cannot be loaded: {way_out(error)}") from error
    if not isinstance(processor, ProcessorMixin) or not hasattr(processor, "image_processor"):
        raise T2IEvalError(f"Model '{model}' has no image processor; choose a model that reads images and text.")
    if not processor.chat_template:
        raise T2IEvalError(f"Model '{model}' has no chat template; choose an instruction-tuned model.")
    return processor


def joined_axes(processor: Any) -> dict[str, int]:
    """Along which axis ``processor`` joins the images of several requests in each of its tensors, where that is not the first.

    Most put one image, tile or patch behind the other along the first axis; MiniCPM-V's patches are columns of one long image.
    """
    from PIL import Image

    text, image = render(processor, [{"role": "user", "text": "x", "images": ["x"]}]), Image.new("RGB", (64, 64))
    one, two = (
        processor(text=[text] * n, images=[[image]] * n, add_special_tokens=False, return_tensors="pt") for n in (1, 2)
    )
    lengths = {name: [(a, b) for a, b in zip(value.shape, two[name].shape, strict=True)] for name, value in one.items()}
    return {
        name: axis
        for name, sides in lengths.items()
        for axis, (a, b) in enumerate(sides)
        if axis and b == 2 * a and all(x == y for other, (x, y) in enumerate(sides) if other != axis)
    }


def processor_for_trl(processor: Any) -> Any:
    """``processor``, changed so that trl's GRPO asks with what :func:`encode` writes: padded on the left, and without special tokens
    beside those that the chat template has written.

    LLaVA-OneVision's processor counts the images of each request, which trl does not hand on; that is left out where each has one, which is
    what its model assumes then.

    Raises:
        T2IEvalError: trl cannot tell apart the images of several requests, as this processor joins them.
    """
    plain = type(processor)
    if packed := joined_axes(processor):
        raise T2IEvalError(
            f"trl's GRPO cannot train on a {plain.__name__}: it writes the images of several requests into one '{next(iter(packed))}', which trl "
            "does not take apart. Leave GRPO out (kedro run --pipelines=...,sft,meta_evaluation,reporting), or use another model."
        )

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        fields = plain.__call__(self, *args, **{"padding_side": "left", "add_special_tokens": False, **kwargs})
        counts = fields.get("batch_num_images")
        if counts is not None:
            if any(int(count) > 1 for count in counts):
                raise T2IEvalError(
                    f"trl's GRPO takes one image per request of a {plain.__name__}; train on requests without a reference image."
                )
            del fields["batch_num_images"]
        return fields

    processor.tokenizer.padding_side = "left"
    processor.__class__ = type(plain.__name__, (plain,), {"__call__": call})
    return processor


def _complete_template(processor: Any) -> str | None:
    """Let the chat template write all of a request, which is then tokenized without special tokens of the tokenizer's own.

    Some templates leave the first token to the tokenizer (LLaVA-1.5). Templates of thinking models end a request with an opened
    block of thoughts (Qwen3-VL-Thinking); a request then ends with it closed, as the template writes an answer without thoughts. What
    closes it is returned; None where the template opens none.
    """
    tokenizer = processor.tokenizer
    start = tokenizer("", add_special_tokens=True)["input_ids"][:1]
    form = answer_form(processor)
    if start == [tokenizer.bos_token_id] and not render(processor, [{"role": "user", "text": "x"}]).startswith(
        tokenizer.bos_token
    ):
        processor.chat_template = "{{ bos_token }}" + processor.chat_template
    if form.lead.strip():
        processor.chat_template += "{% if add_generation_prompt %}{{ " + json.dumps(form.lead) + " }}{% endif %}"
        return form.lead
    return None
