"""Writes a base model with an adapter merged into it, as a model of its own that any server loads."""

from __future__ import annotations

import json
from pathlib import Path

from t2i_eval_kedro.datasets.atomic import atomic_folder
from t2i_eval_kedro.models.loading import load_model
from t2i_eval_kedro.models.processors import published_processor
from t2i_eval_kedro.models.settings import portable_name

_CARD = """\
---
base_model: {base}
library_name: transformers
license: {licence}
pipeline_tag: image-text-to-text
---
# {base} with a judge's adapter merged into it

`{base}` with the adapter `{adapter}` ({method}) added to its weights, in {dtype}. The chat template is the base model's; a judge is asked
with the requests of the adapter's own protocols. The base model's licence ({licence}) governs these weights.
"""


def merge_adapter(
    adapter: Path,
    model: str,
    out: Path,
    *,
    revision: str | None = None,
    dtype: str = "bfloat16",
    licence: str = "unknown",
) -> Path:
    """Write ``model`` with ``adapter`` merged into it to the folder ``out``: weights as safetensors, processor as published, a card.

    Args:
        adapter: folder that peft reads.
        model: base model, a folder or a hub name.
        out: folder to write; what stands there is replaced once the new one is complete.
        revision: branch, tag or commit of a hub name.
        dtype: precision of the merged weights.
        licence: licence of the base model, for the card.

    Raises:
        T2IEvalError: the model cannot be loaded, or the adapter does not belong to it.
    """
    merged = load_model(model, adapter=adapter, dtype=dtype, device="cpu", revision=revision, merge=True)
    processor = published_processor(model, revision=revision)
    recorded = adapter / "settings.json"
    method = json.loads(recorded.read_text(encoding="utf-8"))["method"] if recorded.is_file() else "trained elsewhere"
    with atomic_folder(out) as work:
        merged.save_pretrained(work)
        processor.save_pretrained(work)
        about = {"base": portable_name(model), "licence": licence.lower(), "adapter": adapter.name}
        (work / "README.md").write_text(_CARD.format(**about, method=method, dtype=dtype), encoding="utf-8")
    return out
