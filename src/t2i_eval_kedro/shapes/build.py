"""Builds the embedded tiny model: pre-trained, measured and saved with its card."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from t2i_eval_kedro.datasets.atomic import atomic_folder
from t2i_eval_kedro.shapes.measure import Accuracy, accuracies, benchmark_questions, right_answers, target
from t2i_eval_kedro.shapes.pretrain import Recipe, pretrain
from t2i_eval_kedro.shapes.prompts import DEFAULT_PROMPTS
from t2i_eval_kedro.shapes.tiny_vlm import build_model, build_processor, save

CHECK_PROMPTS = 400


def build(
    out: Path,
    recipe: Recipe | None = None,
    *,
    device: str = "cpu",
    workers: int = 1,
    save_every: int = 200,
    check: int = CHECK_PROMPTS,
) -> dict[str, Accuracy]:
    """Build, pre-train, measure and save the tiny model; a run that was cut off goes on from its last state.

    Args:
        out: folder of the checkpoint, written whole or not at all; the state of an unfinished run is a hidden file beside it.
        recipe: settings of the pre-training; the default makes the embedded model.
        device: ``cpu`` or ``cuda``.
        workers: processes that draw the batches.
        save_every: steps between two states.
        check: fresh prompts to measure on.

    Returns:
        Accuracy by kind of question, as in the card.
    """
    recipe = recipe or Recipe()
    processor = build_processor()
    tokenizer: Any = processor.tokenizer
    model = build_model(tokenizer, recipe.seed)
    state = out.parent / f".{out.name}.unfinished.safetensors"
    pretrain(model, tokenizer, recipe, state, device, workers, save_every)
    where = "one thread of a CPU" if device == "cpu" else f"a GPU ({device})"
    measured = measure_and_save(model, processor, out, recipe, where, check)
    state.unlink(missing_ok=True)
    return measured


def measure_and_save(
    model: Any, processor: Any, out: Path, recipe: Recipe, where: str, check: int = CHECK_PROMPTS
) -> dict[str, Accuracy]:
    """Round the weights to 16 bits, measure the model as it then is, and write it with its card to ``out``.

    Args:
        model: pre-trained.
        processor: processor that belongs to the model.
        out: folder, written whole or not at all.
        recipe: settings of the pre-training.
        where: the machine that it ran on, for the card.
        check: fresh prompts to measure on.
    """
    import torch

    model.to("cpu", torch.float16).to(torch.float32)  # as whoever loads it will have it
    asked = benchmark_questions(check)
    accuracy = accuracies(asked, right_answers(model, processor.tokenizer, asked))
    with atomic_folder(out) as folder:
        save(model.to(torch.float16), processor, folder)
        (folder / "README.md").write_text(card(recipe, where, check, accuracy))
    return accuracy


def card(recipe: Recipe, where: str, check: int, measured: Mapping[str, Accuracy]) -> str:
    """The model card, with the table of accuracies beside their targets."""
    rows = []
    for kind, accuracy in measured.items():
        goal = target(kind)
        verdict = "" if goal is None else "yes" if accuracy.share >= goal else "**no**"
        rows.append(f"| {kind} | {accuracy.n} | {accuracy.share:.3f} | {goal or ''} | {verdict} |")
    table = "\n".join(rows)
    versions = ", ".join(
        f"{name} {version(name)}" for name in ("torch", "transformers", "tokenizers", "numpy", "pillow")
    )
    phases = "\n".join(
        f"{i}. {phase.steps:,} steps, rate {phase.lr:g} (tower {phase.tower_lr:g}), most groups in a picture: "
        f"{', '.join(f'{limit} ({share:.0%} of the steps)' for limit, share in phase.curriculum)}"
        for i, phase in enumerate(recipe.phases, start=1)
    )
    return f"""---
license: apache-2.0
library_name: transformers
pipeline_tag: image-text-to-text
---
# tiny_vlm

A LLaVA of about 1.4 M parameters (SigLIP tower, 64 x 64 pixels, 16 image tokens; Qwen2 text model, 128 wide, 4 layers) for tests
and demonstrations of `t2i_eval_kedro`. It knows pictures of coloured shapes and nothing else. Weights are stored in 16 bits.

**Data.** Synthetic: pictures of one to five groups of shapes, some blurred or hazy, from random streams of their own. Questions and
answers are generic: colour, size, count, shape, position, relation, yes/no on every skill, clarity, captions, what is
wrong with a description and how many things are, whether it is right, the parts of a description and the questions that it
raises, in words or one a line with the things that it is about (text alone), which of two pictures fits
better or is clearer, order, sums and means of numerals, and order and means of the level words. No score, rating or simulated
generator was used; nothing that the questions describe is what a prompt of the `shapes` benchmark (seed 0, {DEFAULT_PROMPTS:,}
prompts) states, in whatever words.

**Training.** `t2i_eval_kedro.shapes.pretrain`, seed {recipe.seed}. First the tower and the projector learn dense labels of each patch
({recipe.tower_steps:,} steps of {recipe.tower_batch} pictures, rate {recipe.tower_lr:g}). Then the whole model learns questions, 16 rows of up to
{recipe.questions} a step:

{phases}

It ran on {where}.

**Accuracy**: share of exactly right greedy answers on {check} fresh prompts and pictures of the six generators that students are trained
on, faults included. Yes/no questions also balanced over both answers. "element" are the benchmark's own questions.

| question | n | accuracy | target | reached |
|---|---|---|---|---|
{table}

**Rebuilding.** `kedro build-tiny-vlm` does all of it and goes on where it was cut off. With {versions}, the same
recipe, machine and number of threads ({recipe.threads}) it gives the same bytes; another processor or library version rounds sums differently, and the
weights are then others.

Licence: Apache-2.0.
"""
