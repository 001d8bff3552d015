"""The one place that loads a base model and an adapter on it.

A model is a folder or a hub name of any architecture behind ``AutoModelForImageTextToText``. Its processor is loaded in
:mod:`t2i_eval_kedro.models.processors`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2i_eval_kedro.errors import T2IEvalError

if TYPE_CHECKING:
    pass


_HUB_NAME = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?")
_WHOLE_FILE = 256 * 2**20
_BLOCK = 2**20
_QUANTIZED_BLOCK = 64  # weights that share a scale, bitsandbytes' default
_DTYPES = ("float32", "bfloat16", "float16")


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
        raise T2IEvalError(f"Model '{model}' cannot be loaded: {way_out(error)}") from error


def context_length(config: Any) -> int | None:
    """The most tokens that a model of ``config`` reads at once, images among them; None where it states none."""
    stated = getattr(config.get_text_config(), "max_position_embeddings", None)
    return int(stated) if stated else None


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
    device = device_of(device)
    source: dict[str, Any] = {
        "revision": revision,
        "trust_remote_code": trust_remote_code,
        "local_files_only": folder is not None,
    }
    try:
        loaded = AutoModelForImageTextToText.from_pretrained(
            str(model),
            dtype=getattr(torch, dtype),
            quantization_config=_in_4_bits(model, dtype, source) if quantize else None,
            use_safetensors=True,
            **source,
            **{"device_map": _device_map(device, quantize)} | dict(options or {}),
        )
    except (OSError, ValueError, ImportError) as error:
        raise T2IEvalError(f"Model '{model}' cannot be loaded: {way_out(error)}") from error
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


def device_of(setting: str) -> str:
    """The device that ``setting`` means: ``auto`` is the GPU of this process where there is one (the launcher numbers the processes of a
    machine), else ``cpu``."""
    import torch

    if setting != "auto":
        return setting
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

    Files up to 256 MiB are hashed in full; of a larger one, its size and 256 evenly spaced blocks of 1 MiB. The weights of a hub name
    are fetched where they are not yet here.

    Raises:
        T2IEvalError: there is no model, none with safetensors, or it cannot be fetched.
    """
    folder = model_folder(model)
    digest = hashlib.sha256()
    files = _fetched_weights(str(model), revision) if folder is None else sorted(folder.glob("*.safetensors"))
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


def _fetched_weights(name: str, revision: str | None) -> list[Path]:
    """The safetensors files of a hub name that ``from_pretrained`` reads, in the order of their names."""
    from transformers.utils.hub import cached_file

    source: dict[str, Any] = {"revision": revision, "_raise_exceptions_for_missing_entries": False}
    try:
        if whole := cached_file(name, "model.safetensors", **source):
            return [Path(whole)]
        if index := cached_file(name, "model.safetensors.index.json", **source):
            shards = set(json.loads(Path(index).read_text(encoding="utf-8"))["weight_map"].values())
            return [Path(str(cached_file(name, shard, revision=revision))) for shard in sorted(shards)]
    except (OSError, ValueError) as error:
        raise T2IEvalError(f"Model '{name}' cannot be loaded: {way_out(error)}") from error
    return []


def way_out(error: BaseException) -> str:
    """What to do about a model that does not load, where that is known; else the first line of ``error``."""
    message = str(error).lower()
    if ("torchvision" in message or "video processor" in message) and find_spec("torchvision") is None:
        return "its processor needs torchvision; install it with pip install 't2i-eval-kedro[torchvision]'."
    if "trust_remote_code" in message:
        return "it comes with code of its own; read that code, then set model.trust_remote_code=true to run it."
    return _first_line(error)


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]
