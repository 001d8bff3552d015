"""What the tiny model can see and say, measured on fresh pictures like the benchmark's, faults included.

The prompts are those of a seed of its own and the pictures are what the simulated generators of the training folds make of
them. An answer counts as right where every one of its tokens is the likeliest after those before it, which is when greedy
decoding writes exactly this answer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from t2i_eval_kedro.shapes.generators import GENERATORS, HELD_OUT, imagine
from t2i_eval_kedro.shapes.pretrain import hidden_states, pack, picture, tensors
from t2i_eval_kedro.shapes.prompts import elements, prompt_text, sample_prompts
from t2i_eval_kedro.shapes.questions import (
    PICTURE_KINDS,
    TEXT_KINDS,
    YES_NO,
    Pair,
    Shown,
    ask,
    ask_pair,
    ask_text,
    parts,
    wrong_parts,
    yes_no,
)
from t2i_eval_kedro.shapes.tiny_vlm import IMAGE_TOKENS
from t2i_eval_kedro.shapes.truth import clarity, element_truth, item_attributes

CHECK_SEED = 1_000_003  # of prompts and pictures, apart from the benchmark's and the pre-training's
#: What the model shall reach on fresh pictures.
TARGETS = {
    "elements": 0.97,
    "yes_no": 0.97,
    "clarity": 0.93,
    "what is wrong": 0.85,
    "how many are wrong": 0.85,
    "match": 0.95,
    "parts": 0.98,
    "pair fits": 0.9,
    "pair clearer": 0.9,
    "sum": 0.95,
    "mean numerals": 0.95,
    "mean words": 0.95,
}

Asked = tuple[str, Sequence[Any], Pair]
"""Kind of question, pictures it is about, the question."""


def benchmark_questions(n_prompts: int, seed: int = CHECK_SEED) -> list[Asked]:
    """Questions over two pictures of each of ``n_prompts`` fresh prompts, by kind."""
    painters = [generator for generator in GENERATORS if generator.name not in HELD_OUT]
    asked: list[Asked] = []
    for p, prompt in enumerate(sample_prompts(n_prompts, seed)):
        rng = np.random.default_rng([seed, p])
        made = [imagine(prompt, painters[int(g)], rng) for g in rng.permutation(len(painters))[:2]]
        shown = [Shown(painted.scene, painted.degradation) for painted in made]
        pictures = [picture(one, rng) for one in shown]
        text = prompt_text(prompt)
        for painted, one, drawn in zip(made, shown, pictures, strict=True):
            held = element_truth(item_attributes(prompt, painted))
            for element in elements(prompt):
                answer = "yes" if held[element.element_id] else "no"
                asked.append((f"element {element.skill} {answer}", [drawn], Pair(element.question, answer)))
            asked.append(("clarity", [drawn], Pair("is the image clear ?", clarity(painted.degradation))))
            wrong = wrong_parts(prompt, painted.scene)
            asked.append(("what is wrong", [drawn], Pair(f"{text} , what is wrong ?", ", ".join(wrong) or "nothing")))
            asked.append(
                ("how many are wrong", [drawn], Pair(f"{text} , how many are wrong ?", str(min(len(wrong), 10))))
            )
            right = "no" if wrong else "yes"
            asked.append((f"match {right}", [drawn], Pair(f"{text} , is it right ?", right)))
            for skill in YES_NO:
                pair = yes_no(one, skill, rng)
                if pair is not None:
                    asked.append((f"yes_no {skill} {pair.answer}", [drawn], pair))
            for kind in PICTURE_KINDS:
                pair = None if kind in ("yes_no", "clarity", "difference", "faults", "match") else ask(one, kind, rng)
                if pair is not None:
                    asked.append((kind, [drawn], pair))
        asked.append(("parts", [], Pair(f"name the parts : {text}", parts(prompt))))
        fewer = [len(wrong_parts(prompt, one.scene)) for one in shown]
        if fewer[0] != fewer[1]:
            answer = "first" if fewer[0] < fewer[1] else "second"
            asked.append(("pair fits", pictures, Pair(f"{text} , which image fits better ?", answer)))
        pair = ask_pair(shown[0], shown[1], prompt.scene, "clearer", rng)
        if pair is not None:
            asked.append(("pair clearer", pictures, pair))
        for kind in TEXT_KINDS:
            for _ in range(0 if kind == "parts" else 3):
                pair = ask_text(kind, rng)
                scale = "" if kind in ("sum", "translation") else " numerals" if pair.answer.isdigit() else " words"
                asked.append((kind + scale, [], pair))
    return asked


@torch.inference_mode()
def right_answers(model: Any, tokenizer: Any, asked: Sequence[Asked], batch: int = 64) -> list[bool]:
    """Whether the model would write exactly the answer of each question, by greedy decoding."""
    model.eval()
    right = [False] * len(asked)
    order = sorted(range(len(asked)), key=lambda i: (len(asked[i][1]), len(asked[i][2].question)))
    for start in range(0, len(order), batch):
        for n_images in (0, 1, 2):
            chosen = [i for i in order[start : start + batch] if len(asked[i][1]) == n_images]
            if not chosen:
                continue
            encoded = [len(tokenizer.encode(asked[i][2].question + " " + asked[i][2].answer)) for i in chosen]
            length = 1 + n_images * IMAGE_TOKENS + max(encoded) + 8
            packed = pack(tokenizer, [(n_images, [asked[i][2]]) for i in chosen], length)
            pixels = [drawn.pixels for i in chosen for drawn in asked[i][1]]
            packed["pixels"] = np.stack(pixels) if pixels else np.zeros((0, 64, 64, 3), dtype=np.uint8)
            n_answers = int((packed["weights"] > 0).sum())
            ready = tensors(packed, model.config.image_token_id, n_answers, "cpu")
            hidden = hidden_states(model, ready).flatten(0, 1)[ready["asked"]]
            same = (model.lm_head(hidden).argmax(-1) == ready["answered"]).numpy()
            rows = (ready["asked"] // length).numpy()
            wrong = set(rows[~same].tolist())
            for row, i in enumerate(chosen):
                right[i] = row not in wrong
    return right


class Accuracy(NamedTuple):
    """Share of right answers, 0 to 1, and number of questions."""

    share: float
    n: int


def accuracies(asked: Sequence[Asked], right: Sequence[bool]) -> dict[str, Accuracy]:
    """Accuracy by kind; where a kind has the answers "yes" and "no", each of them and the mean of both."""
    by_kind: dict[str, list[bool]] = defaultdict(list)
    for (kind, _, _), good in zip(asked, right, strict=True):
        by_kind[kind].append(good)
    out: dict[str, Accuracy] = {}
    for kind in sorted(by_kind):
        name, _, answer = kind.rpartition(" ")
        if answer == "no" and f"{name} yes" in by_kind:
            both = [by_kind[kind], by_kind[f"{name} yes"]]
            out[name] = Accuracy(float(np.mean([np.mean(values) for values in both])), sum(map(len, both)))
        out[kind] = Accuracy(float(np.mean(by_kind[kind])), len(by_kind[kind]))
    return out


def target(kind: str, targets: Mapping[str, float] = TARGETS) -> float | None:
    """What a kind of question shall reach, or None."""
    if kind.startswith("element "):
        return targets["elements"]
    if kind.startswith("yes_no "):
        return targets["yes_no"]
    if kind.startswith("match"):
        return targets["match"]
    return targets.get(kind)
