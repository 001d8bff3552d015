"""The one place that loads a base model, its processor and an adapter, and that writes a conversation as its text.

Training and judging both go through :func:`to_chat` and :func:`render`, so that a student is asked with the very text
it was trained on. A model is a folder or a hub name of any architecture behind ``AutoModelForImageTextToText``.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.models.answers import answer_form

if TYPE_CHECKING:
    from PIL.Image import Image

ChatMessageDict = Mapping[str, Any]

_HUB_NAME = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?")
_WHOLE_FILE = 256 * 2**20
_BLOCK = 2**20
_QUANTIZED_BLOCK = 64  # weights that share a scale, bitsandbytes' default
_DTYPES = ("float32", "bfloat16", "float16")


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


def load_config(model: str | Path, *, revision: str | None = None, trust_remote_code: bool = False) -> Any:
    """The configuration of ``model``, without its weights.

    Raises:
        T2IEvalError: it cannot be loaded.
    """
    from transformers import AutoConfig

    folder = model_folder(model)
    try:
        return AutoConfig.from_pretrained(
            str(model), revision=revision, trust_remote_code=trust_remote_code, local_files_only=folder is not None
        )
    except (OSError, ValueError, ImportError) as error:
        raise T2IEvalError(f"Model '{model}' cannot be loaded: {_way_out(error)}") from error


def context_length(config: Any) -> int | None:
    """The most tokens that a model of ``config`` reads at once, images among them; None where it states none."""
    stated = getattr(config.get_text_config(), "max_position_embeddings", None)
    return int(stated) if stated else None


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


def model_folder(model: str | Path) -> Path | None:
    """The folder that ``model`` names, or None where it is a hub name.

    Raises:
        T2IEvalError: it is a path without a model in it.
    """
    path = Path(model)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise T2IEvalError(
                f"Model folder '{model}' does not contain config.json, so it is not a transformers model; build the model first "
                "or set the model to a folder that save_pretrained wrote."
            )
        return path
    if isinstance(model, Path) or (path.parent != Path() and path.parent.exists()) or not _HUB_NAME.fullmatch(model):
        raise T2IEvalError(f"Model folder '{model}' does not exist; build the model first or correct the path.")
    return None


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
        raise T2IEvalError(f"The processor of model '{model}' cannot be loaded: {_way_out(error)}") from error
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


def load_model(
    model: str | Path,
    *,
    adapter: Path | None = None,
    dtype: str = "float32",
    quantize: str | None = None,
    device: str = "auto",
    revision: str | None = None,
    trust_remote_code: bool = False,
    trainable: bool = False,
    merge: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Any:
    """``model``, with ``adapter`` on it where one is given.

    Args:
        model: a folder or a hub name.
        adapter: an adapter folder that peft reads.
        dtype: ``float32``, ``bfloat16`` or ``float16``.
        quantize: ``4bit`` stores the linear layers of the text model in 4 bits and computes in ``dtype``; the rest (vision
            tower, projector, embeddings, output layer), a small part of the memory, stays in ``dtype``, and so do layers whose inputs are no
            multiple of 64 wide. Ours.
        device: ``auto`` (a GPU where there is one), ``cpu`` or a torch device.
        revision: branch, tag or commit of a hub name.
        trust_remote_code: run code that the model's repository ships.
        trainable: leave the adapter's weights trainable, and the model in training mode.
        options: further arguments of ``from_pretrained``, such as ``attn_implementation``.
        merge: add the adapter into the weights, which makes inference faster and rules out training it further. Weights of
            4 bits are too coarse for that, so beside them the adapter stays.

    Raises:
        T2IEvalError: the model cannot be loaded, or the adapter is incomplete or belongs to another base model.
    """
    import torch
    from transformers import AutoModelForImageTextToText

    from t2i_eval_kedro.models.packed_vision import speed_up_vision

    folder = model_folder(model)
    if dtype not in _DTYPES:
        raise T2IEvalError(f"'{dtype}' is not a valid dtype for a model; use one of {', '.join(_DTYPES)}.")
    if quantize and find_spec("bitsandbytes") is None:
        raise T2IEvalError(
            f"Model '{model}' cannot be loaded in 4 bits without bitsandbytes; install it with pip install "
            "'t2i-eval-kedro[quantize]', or set model.quantize=null."
        )
    if device == "auto":
        device = _device()
    source: dict[str, Any] = {
        "revision": revision,
        "trust_remote_code": trust_remote_code,
        "local_files_only": folder is not None,
    }
    try:
        loaded = AutoModelForImageTextToText.from_pretrained(
            str(model),
            dtype=getattr(torch, dtype),
            device_map=_device_map(device, quantize),
            quantization_config=_in_4_bits(model, dtype, source) if quantize else None,
            use_safetensors=True,
            **source,
            **(options or {}),
        )
    except (OSError, ValueError, ImportError) as error:
        raise T2IEvalError(f"Model '{model}' cannot be loaded: {_way_out(error)}") from error
    speed_up_vision(loaded)
    if _sharded():
        _keep_known_layers(loaded)
    if adapter is not None:
        check_adapter(adapter, model, revision=revision)  # a hub model's weights have been fetched by now
        loaded = _with_adapter(loaded, adapter, model, trainable=trainable)
        if merge and not quantize:
            loaded = loaded.merge_and_unload()
    layers: Any = loaded.modules() if trainable and quantize else ()
    for layer in layers:
        # On some processors bitsandbytes packs a layer's weights anew when it answers outside training, and cannot train it after that.
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False
    return loaded.train(trainable)


def _device() -> str:
    """``cpu``, or the GPU of this process: the launcher numbers the processes of a machine."""
    import torch

    if not torch.cuda.is_available():
        return "cpu"
    return f"cuda:{os.environ['LOCAL_RANK']}" if "LOCAL_RANK" in os.environ else "cuda"


def _device_map(device: str, quantize: str | None) -> str | None:
    """Where ``from_pretrained`` puts the weights; None where accelerate's FSDP or DeepSpeed shards them."""
    return None if _sharded() or (device == "cpu" and not quantize) else device


def _sharded() -> bool:
    """Whether accelerate's FSDP or DeepSpeed places the weights of this process."""
    return os.environ.get("ACCELERATE_USE_FSDP") == "true" or os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true"


def _keep_known_layers(model: Any) -> None:
    """Leave out of ``model``'s list of layers to shard those that it does not have, such as the pooling head that LLaVA drops of its
    vision tower: accelerate refuses a model without one of them."""
    present = {type(module).__name__ for module in model.modules()}
    model._no_split_modules = [name for name in model._no_split_modules or () if name in present]


def _in_4_bits(model: str | Path, dtype: str, source: Mapping[str, Any]) -> Any:
    """How the linear layers of the text model are stored in 4 bits; its name is read off a model without weights."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText, BitsAndBytesConfig

    loader: Any = AutoModelForImageTextToText
    settings: Any = BitsAndBytesConfig
    config = AutoConfig.from_pretrained(str(model), **source)
    with torch.device("meta"):
        empty = loader.from_config(config, trust_remote_code=source["trust_remote_code"])
    outside = outside_text_model(empty)
    widths = {
        name: module.in_features
        for name, module in empty.named_modules()
        if isinstance(module, torch.nn.Linear) and not re.fullmatch(outside, name)
    }
    # On a CPU, bitsandbytes 0.50 gives the weights of a block that runs over the end of a row a wrong scale.
    broken = [re.escape(name) for name, width in widths.items() if width % _QUANTIZED_BLOCK]
    if len(broken) == len(widths):
        raise T2IEvalError(
            f"No linear layer of the text model of '{model}' has inputs a multiple of {_QUANTIZED_BLOCK} wide, so none can be "
            "stored in 4 bits; set model.quantize=null."
        )
    return settings(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, dtype),
        llm_int8_skip_modules=[outside, *broken],  # named so, but read for 4 bits too
    )


def outside_text_model(model: Any) -> str:
    """A regular expression for the names of all modules that are not within the text model (``model.get_decoder()``).

    Raises:
        T2IEvalError: the model does not tell its text model from the rest.
    """
    decoder = model.get_decoder()
    if decoder is model:
        raise T2IEvalError(
            f"The code of {type(model).__name__} does not tell its text model from the rest; set model.quantize=null and "
            "sft.lora.vision=true."
        )
    name = next(name for name, module in model.named_modules() if module is decoder)
    return rf"(?!{re.escape(name)}\.).*"


_OLD_NAMES = {
    r"^model\.layers\.": "model.language_model.layers.",
    r"^visual\.": "model.visual.",
    r"^language_model\.model\.": "model.language_model.",
    r"^(?:model\.)?vision_tower\.vision_model\.": "model.vision_tower.",
    r"^vision_tower\.": "model.vision_tower.",
    r"^multi_modal_projector\.": "model.multi_modal_projector.",
}
"""Names of modules in adapters that were trained with transformers 4, and what transformers 5 calls these modules."""


def _with_adapter(loaded: Any, adapter: Path, model: str | Path, *, trainable: bool) -> Any:
    from peft import PeftModel
    from peft.utils import get_peft_model_state_dict
    from safetensors import safe_open

    with safe_open(adapter / "adapter_model.safetensors", framework="pt") as file:
        stored = {name for name in file.keys() if ".lora_" in name}  # noqa: SIM118 (the file is no mapping)
    modules = {f"base_model.model.{name}" for name, _ in loaded.named_modules()}
    renamed = None if {name.partition(".lora_")[0] for name in stored} <= modules else _OLD_NAMES
    try:
        adapted = PeftModel.from_pretrained(loaded, str(adapter), is_trainable=trainable, key_mapping=renamed)
    except (RuntimeError, ValueError) as error:  # shapes, or names of modules, that the base model does not have
        raise T2IEvalError(f"Adapter '{adapter}' does not fit model '{model}': {_first_line(error)}") from error
    taken = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    for name in sorted(stored):  # peft would leave them out and answer as the model does without the adapter
        if _present_name(name, renamed) not in taken:
            raise T2IEvalError(
                f"Adapter '{adapter}' does not fit model '{model}': the model has no place for its weight '{name}'; use the model that the "
                "adapter was trained on."
            )
    for config in adapted.peft_config.values():
        config.base_model_name_or_path = str(model)  # peft asks the hub for a name that is no folder when it saves
    return adapted


def _present_name(name: str, renamed: Mapping[str, str] | None) -> str:
    """What a weight of an adapter is called here, as peft renames it: by the first pattern that it begins with.

    Example:
        >>> _present_name("base_model.model.visual.blocks.0.attn.qkv.lora_A.weight", _OLD_NAMES)
        'base_model.model.model.visual.blocks.0.attn.qkv.lora_A.weight'
    """
    prefix = "base_model.model."
    place = name.removeprefix(prefix)
    for old, new in (renamed or {}).items():
        changed, times = re.subn(old, new, place)
        if times:
            return prefix + changed
    return name


def check_adapter(adapter: Path, model: str | Path, *, revision: str | None = None) -> None:
    """Check that a folder holds an adapter, and that the adapter was trained on ``model``.

    An adapter of this project records a fingerprint of its base model's weights, which is compared. One from elsewhere
    records none; then only its shapes can be checked, when it is loaded.

    Raises:
        T2IEvalError: a file is missing, or the fingerprints differ.
    """
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (adapter / name).is_file():
            raise T2IEvalError(
                f"Adapter folder '{adapter}' does not contain {name}; train the adapter or correct the path."
            )
    recorded = adapter / "settings.json"
    if not recorded.is_file():
        return
    base = json.loads(recorded.read_text(encoding="utf-8")).get("base_model", {})
    expected = base.get("fingerprint")
    if expected and expected != fingerprint(model, revision=revision):
        raise T2IEvalError(
            f"Adapter '{adapter}' was trained on another base model ('{base.get('name')}') than '{model}'; "
            "use that model or train the adapter again."
        )


def fingerprint(model: str | Path, *, revision: str | None = None) -> str:
    """A hash of a model's weights, the same wherever the model lies, as 64 hexadecimal digits.

    Files up to 256 MiB are hashed in full; of a larger one, its size and 256 evenly spaced blocks of 1 MiB.
    """
    folder = model_folder(model)
    if folder is None:
        from transformers.utils.hub import cached_file

        folder = Path(str(cached_file(str(model), "config.json", revision=revision))).parent
    digest = hashlib.sha256()
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise T2IEvalError(
            f"Model '{model}' does not contain a safetensors file; convert its weights to safetensors first."
        )
    for path in files:
        size = path.stat().st_size
        digest.update(f"{path.name}:{size}\n".encode())
        with path.open("rb") as stream:
            if size <= _WHOLE_FILE:
                digest.update(stream.read())
            else:
                for block in range(256):
                    stream.seek(block * (size - _BLOCK) // 255)
                    digest.update(stream.read(_BLOCK))
    return digest.hexdigest()


def _way_out(error: BaseException) -> str:
    """What to do about a model that does not load, where that is known; else the first line of ``error``."""
    message = str(error).lower()
    if ("torchvision" in message or "video processor" in message) and find_spec("torchvision") is None:
        return "its processor needs torchvision; install it with pip install 't2i-eval-kedro[torchvision]'."
    if "trust_remote_code" in message:
        return "it comes with code of its own; read that code, then set model.trust_remote_code=true to run it."
    return _first_line(error)


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]
