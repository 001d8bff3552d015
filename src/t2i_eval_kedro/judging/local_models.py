"""Opens the model that judges in this process, and keeps its answers on disk."""

from __future__ import annotations

import json
import os
from hashlib import sha256
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, cast

from pydantic import SecretStr

from t2i_eval_kedro.changes import code_hash
from t2i_eval_kedro.datasets.answer_store import AnswerStore
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging import backends
from t2i_eval_kedro.judging.backends.base import Backend, LocalBackend
from t2i_eval_kedro.judging.cache import CachedBackend, Keys
from t2i_eval_kedro.judging.evaluators import JudgingSettings
from t2i_eval_kedro.models import images as limits
from t2i_eval_kedro.models import loading, processors
from t2i_eval_kedro.models.processors import open_thoughts
from t2i_eval_kedro.models.quiet import quiet_libraries
from t2i_eval_kedro.models.settings import ModelSettings

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


class EncodedImages(Protocol):
    """Whatever returns the bytes of an image by its key."""

    def read(self, key: str) -> bytes:
        """The encoded image stored under ``key``."""
        ...


def open_backend(
    model: ModelSettings, adapter: Path | None, images: processors.ImageSource, judging: JudgingSettings
) -> LocalBackend:
    """The model, with ``adapter`` on it where one is given, ready to answer about ``images``.

    Raises:
        T2IEvalError: the model cannot be loaded, or not by ``judging.backend``.
    """
    if judging.backend == "openai":
        return _server(adapter, images, judging)
    if missing := [name for name in ("torch", "transformers", "peft") if find_spec(name) is None]:
        raise T2IEvalError(
            f"Judging with a model needs {', '.join(missing)}; install the extra: pip install 't2i-eval-kedro[judge]'."
        )
    quiet_libraries()
    processor, images = model.load_processor(), model.limit(images)
    if judging.backend == "vllm":
        from t2i_eval_kedro.judging.backends.vllm import VLLMBackend

        if model.quantize:
            raise T2IEvalError(
                "vLLM runs no model in 4 bits here; set model.quantize=null or judging.backend=transformers."
            )
        if open_thoughts(processor):
            raise T2IEvalError(
                "vLLM's backend asks with thoughts closed; set model.thinking=closed or judging.backend=transformers, or let vllm serve the "
                "model and judge with judging.backend=openai."
            )
        return VLLMBackend(
            model.model,
            processor,
            images,
            adapter=adapter,
            dtype=model.dtype,
            revision=model.revision,
            trust_remote_code=model.trust_remote_code,
            batch_size=judging.batch_size,
            **judging.vllm,
        )
    from t2i_eval_kedro.judging.backends.transformers import TransformersBackend  # torch is slow to import

    loaded = model.load(adapter=adapter, merge=adapter is not None)
    return TransformersBackend(
        loaded, processor, images, batch_size=judging.batch_size, thinking_tokens=model.thinking_tokens
    )


def _server(adapter: Path | None, images: processors.ImageSource, judging: JudgingSettings) -> LocalBackend:
    if adapter is not None:
        raise T2IEvalError(
            f"A server cannot put the adapter '{adapter}' on its model; let it serve the adapter (vllm serve --lora-modules "
            "NAME=FOLDER) and name that as judging.server.model, or set judging.backend=transformers."
        )
    from t2i_eval_kedro.judging.backends.openai import OpenAIBackend  # slow to import

    read = cast("EncodedImages", images).read
    key = os.environ.get("OPENAI_API_KEY") or ("none" if judging.server.base_url else "")
    if not key:
        raise T2IEvalError(
            "OPENAI_API_KEY is not set; set it to the key of OpenAI's API, or name another server (--base-url, "
            "judging.server.base_url)."
        )
    keys = Keys(judging.server.identity, read)
    return OpenAIBackend(judging.server, SecretStr(key), read, name=keys, section="judging.server")


def cache_answers(
    backend: Backend,
    model: ModelSettings,
    adapter: Path | None,
    images: EncodedImages,
    judging: JudgingSettings,
) -> Backend:
    """``backend``, with every answer on disk before it is used, where the settings say so.

    An answer belongs to the weights of the model, its processor (tokenizer, chat template, size of images), the adapter with its
    configuration, the precision, and the code that asked, so none outlives a change of them.
    """
    if judging.answers is None:
        return backend
    if judging.backend == "openai":
        keys = Keys(judging.server.identity, images.read)
        return CachedBackend(backend, AnswerStore(Path(judging.answers)), keys, exclusive=False)
    identity = {
        "model": loading.fingerprint(model.model, revision=model.revision),
        "processor": processor_fingerprint(model.load_processor()),
        "adapter": None if adapter is None else _hash_of(*(adapter / name for name in ADAPTER_FILES)),
        "dtype": model.dtype,
        "quantize": model.quantize,
        "thinking": model.thinking if model.thinking == "closed" else [model.thinking, model.thinking_tokens],
        "pixels": [model.min_pixels, model.max_pixels],
        "backend": [judging.backend, judging.vllm] if judging.backend == "vllm" and judging.vllm else judging.backend,
        "code": versioned_code(judging.backend),
    }
    return CachedBackend(backend, AnswerStore(Path(judging.answers)), Keys(identity, images.read), exclusive=False)


def processor_fingerprint(processor: Any) -> str:
    """A hash of everything in a processor that decides what a model is shown, as 64 hexadecimal digits.

    That is the tokenizer with its special tokens, the chat template, and the settings of the image processor, pixel limits included.
    """
    tokenizer = processor.tokenizer
    fast = getattr(tokenizer, "backend_tokenizer", None)
    content = {
        "tokenizer": json.loads(fast.to_str()) if fast is not None else tokenizer.get_vocab(),
        "special": {name: str(token) for name, token in tokenizer.special_tokens_map.items()},
        "template": processor.chat_template,
        "images": processor.image_processor.to_dict(),
        "processor": {
            name: value for name, value in vars(processor).items() if isinstance(value, str | int | float | None)
        },
    }
    for name in ("padding", "truncation"):  # set anew by each call
        content["tokenizer"].pop(name, None)
    return sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _hash_of(*paths: Path) -> str:
    digest = sha256()
    for path in paths:
        data = path.read_bytes()
        digest.update(f"{path.name}:{len(data)}\n".encode() + data)
    return digest.hexdigest()


def versioned_code(backend: str) -> str:
    """The hash of the code that asks a model through ``backend``, and the versions of the libraries below it."""
    modules = (f"{backends.__name__}.{backend}", loading.__name__, processors.__name__, limits.__name__)
    return " ".join([code_hash(modules), *(version(name) for name in ("torch", "transformers", "peft"))])
