"""Adapter folders: the weights as peft reads them, where they come from, and a card that says so.

| file | holds |
|---|---|
| ``adapter_config.json``, ``adapter_model.safetensors`` | the adapter, for ``PeftModel.from_pretrained`` |
| ``settings.json`` | the resolved settings, the base model's name and fingerprint, the hash of the training data |
| ``recipe.yml`` | every setting of the experiment, where a pipeline trained it |
| ``curve.csv`` | the training curve |
| ``vocabulary.txt`` | the words of the requests it was trained on, one a line: prompts with other words are far from its training |
| ``README.md`` | the card |
| ``manifest.json`` | SHA-256 of every file but the card, to tell a complete folder from a partial one |
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from t2i_eval_kedro.datasets.adapter import write_manifest
from t2i_eval_kedro.datasets.atomic import atomic_file, atomic_folder
from t2i_eval_kedro.models.loading import fingerprint
from t2i_eval_kedro.models.settings import ModelSettings, portable_name

RECIPE = "recipe.yml"
VOCABULARY = "vocabulary.txt"
AGREEMENT_HEADING = "## Agreement with people"
_LIBRARIES = ("torch", "transformers", "peft", "trl")

_CARD = """\
---
base_model: {base}
library_name: peft
license: {licence_tag}
pipeline_tag: image-text-to-text
tags: [lora, text-to-image-evaluation, {method_tag}]
---
# {title}

A LoRA adapter of `{base}` ({revision}) that judges text-to-image images, trained by {method}.
{data_note}

## How to load it

```python
from peft import PeftModel
from transformers import AutoModelForImageTextToText, AutoProcessor

base = AutoModelForImageTextToText.from_pretrained({base_arguments})  # or the folder where the base model lies
model = PeftModel.from_pretrained(base, "path/to/this/folder").eval()
processor = AutoProcessor.from_pretrained({base_arguments})
```

## Training data

{examples} examples ({tasks}), SHA-256 `{data_hash}`. Their requests have {words} different words (`vocabulary.txt`); verdicts on prompts
with mostly other words are flagged.

## Training

{curve}

The whole curve is in `curve.csv`, all settings are in `settings.json`. Libraries: {libraries}.

{agreement_heading}

Not measured yet. The pipeline `meta_evaluation` measures it on held-out prompts, with intervals, and
`kedro push-adapter --summary` writes the figures here.

## Licence

The base model's licence ({licence}) governs the adapter.
"""


def keep_recipe(folder: Path, recipe: Mapping[str, Any]) -> None:
    """Write ``recipe`` (every setting of the experiment) into the adapter's folder, with no path of this machine in it.

    Args:
        folder: a complete adapter folder.
        recipe: JSON types, as :func:`t2i_eval_kedro.provenance.recipe` returns them.
    """
    model = dict(recipe["model"])
    portable = {**recipe, "model": model | {"model": portable_name(model["model"], model.get("name"))}}
    if start := (recipe.get("sft") or {}).get("start"):
        portable["sft"] = {**recipe["sft"], "start": Path(start).name}
    with atomic_file(folder / RECIPE) as work:
        work.write_text(yaml.safe_dump(portable, sort_keys=False, allow_unicode=True), encoding="utf-8")
    write_manifest(folder)


def save_adapter(
    model: Any,
    out_dir: Path,
    *,
    method: str,
    base: ModelSettings,
    settings: Mapping[str, Any],
    examples: pd.DataFrame,
    data_hash: str,
    curve: pd.DataFrame,
    data_note: str = "",
    weights: Mapping[str, Any] | None = None,
) -> Path:
    """Write the adapter of a trained peft model as a complete folder, in one step.

    Args:
        model: a ``PeftModel``.
        out_dir: the folder; what stands there is replaced once the new one is complete.
        method: how it was trained, such as ``supervised fine-tuning``.
        base: the base model.
        settings: the resolved settings, as JSON types.
        examples: what it was trained on, in the form of ``schema.EXAMPLES``.
        data_hash: see :func:`t2i_eval_kedro.training.data.data_hash`.
        curve: the training curve, with a column ``step``.
        data_note: a sentence on where the data comes from, such as that it is synthetic.
        weights: the model's, where ``model`` holds only this process's part of them.
    """
    name = portable_name(base.model, base.name)
    words = vocabulary(examples["messages"])
    resolved = {
        "method": method,
        "base_model": {
            "name": name,
            "revision": base.revision,
            "dtype": base.dtype,
            "quantize": base.quantize,
            "fingerprint": fingerprint(base.model, revision=base.revision),
        },
        "data": {"sha256": data_hash, "examples": _counts(examples), "words": len(words)},
        "settings": dict(settings),
        "libraries": {library: version(library) for library in _LIBRARIES},
    }
    with atomic_folder(out_dir) as work:
        model.save_pretrained(work, save_embedding_layers=False, state_dict=weights)
        _make_portable(work / "adapter_config.json", name, base.revision)
        (work / "settings.json").write_text(json.dumps(resolved, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        (work / VOCABULARY).write_text("\n".join(words) + "\n", encoding="utf-8")
        curve.to_csv(work / "curve.csv", index=False, float_format="%.6g")
        (work / "README.md").write_text(_card(resolved, base, curve, data_note), encoding="utf-8")
        write_manifest(work)
    return out_dir


def tasks_taught(folder: Path) -> list[str] | None:
    """The tasks that the adapter of ``folder`` was taught, with those of the adapter that it started from; None where it does not say."""
    path = folder / "settings.json"
    resolved = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if "taught" in resolved.get("settings", {}):  # of GRPO, whose examples are not all that it knows
        return list(resolved["settings"]["taught"])
    return None if resolved.get("method") == "GRPO" or "data" not in resolved else list(resolved["data"]["examples"])


def words_of(text: str) -> list[str]:
    """The words of ``text`` in lower case: runs of letters of any script."""
    return re.findall(r"[^\W\d_]+", text.casefold())


def vocabulary(messages: Iterable[str]) -> list[str]:
    """The different words of the texts of requests, sorted.

    Args:
        messages: JSON list of {role, text, images} each.
    """
    texts = {str(message.get("text") or "") for row in set(messages) for message in json.loads(row)}
    return sorted({word for text in texts for word in words_of(text)})


def _make_portable(config: Path, name: str, revision: str | None) -> None:
    """Name the base model without a path of this machine, and in the same bytes on every run."""
    values = json.loads(config.read_text(encoding="utf-8"))
    values.update(base_model_name_or_path=name, revision=revision)
    for key, value in values.items():
        if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
            values[key] = sorted(value)  # peft keeps names of modules in a set
    config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _counts(examples: pd.DataFrame) -> dict[str, int]:
    return {str(task): int(count) for task, count in examples["task"].value_counts(sort=False).sort_index().items()}


def _card(resolved: Mapping[str, Any], base: ModelSettings, curve: pd.DataFrame, data_note: str) -> str:
    name, method, counts = resolved["base_model"]["name"], resolved["method"], resolved["data"]["examples"]
    arguments = [json.dumps(name)]
    if base.revision:
        arguments.append(f"revision={json.dumps(base.revision)}")
    if base.trust_remote_code:
        arguments.append("trust_remote_code=True")
    return _CARD.format(
        base=name,
        base_arguments=", ".join(arguments),
        licence=base.licence,
        licence_tag=base.licence.lower(),
        method=method,
        method_tag="grpo" if "GRPO" in method else "sft",
        title=f"A judge of text-to-image images: {name} after {method}",
        revision=f"revision `{base.revision}`" if base.revision else "no revision given",
        data_note=data_note,
        examples=sum(counts.values()),
        tasks=", ".join(f"{task} {count}" for task, count in counts.items()),
        data_hash=resolved["data"]["sha256"],
        words=resolved["data"]["words"],
        curve=_curve_lines(curve),
        libraries=", ".join(f"{library} {number}" for library, number in resolved["libraries"].items()),
        agreement_heading=AGREEMENT_HEADING,
    )


def _curve_lines(curve: pd.DataFrame) -> str:
    """The first and last value of each column of a curve as a Markdown table."""
    lines = ["| | first | last |", "|---|---|---|"]
    for column in curve.columns:
        values = curve[column].dropna()
        if len(values):
            lines.append(f"| {column} | {values.iloc[0]:.4g} | {values.iloc[-1]:.4g} |")
    return "\n".join(lines)
