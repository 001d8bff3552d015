"""Pre-trains the tiny vision-language model on generic questions over pictures of shapes, never on scores.

First the tower and the projector learn what stands in each image patch (shape, colour, size of its object, and the
picture's blur and haze), by heads that are thrown away. Then the text model learns to answer `questions`.
Numbers of steps are fixed, never times, so that a rebuild on the same machine, library versions and number of threads
gives the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from tqdm import tqdm

from t2i_eval_kedro.datasets.atomic import atomic_folder
from t2i_eval_kedro.shapes.make import DEFAULT_PROMPTS, sample_scenes
from t2i_eval_kedro.shapes.questions import KINDS, KINDS_WITH_NUMERALS, Pair, ask, captions, sample_picture
from t2i_eval_kedro.shapes.render import Degradation, Placed, draw, place
from t2i_eval_kedro.shapes.scene import COLORS, NUMBERS, SHAPES, SIZES, Scene, prompt_text
from t2i_eval_kedro.shapes.tiny_vlm import IMAGE_TOKENS, build_model, build_processor, save

_TOWER, _ANSWERS, _CHECK, _NUMERALS = 11, 12, 13, 14  # random streams of their own, apart from the benchmark's
_IGNORE = -100
ROW = 128  # tokens of a packed row
#: What is said of each patch, as words of the vocabulary; the first word of each is an empty patch or no degradation.
_PATCH_WORDS = (
    ("nothing", *SHAPES),
    ("nothing", *COLORS),
    ("nothing", *SIZES),
    ("nothing", *NUMBERS),  # how many objects the group has that the patch belongs to
    ("upper", "lower"),
    ("left", "right"),
    ("clear", "slightly", "blurry", "very"),
    ("clear", "slightly", "hazy", "very"),
)
_DIRECT = 6  # the first heads read the features as they are, those of blur and haze through a matrix of their own


#: The second stage begins with few groups in a picture: (most groups, share of the steps).
CURRICULUM = ((1, 0.15), (2, 0.3), (3, 0.55))


@dataclass(frozen=True)
class Picture:
    """One pre-training picture: what is in it, and its pixels, (3, 64, 64) floats in -1..1."""

    scene: Scene
    degradation: Degradation
    objects: list[Placed]
    pixels: np.ndarray


Source = Iterator[tuple[Picture, np.random.Generator]]


def pictures(stream: Sequence[int], max_groups: int = 3) -> Source:
    """Endless random pictures of one random stream, of at most ``max_groups`` groups, each with the stream's generator."""
    rng = np.random.default_rng(list(stream))
    while True:
        scene, degradation = sample_picture(rng)
        if len(scene.groups) <= max_groups:
            objects = place(scene, rng)
            image = np.asarray(draw(objects, degradation), dtype=np.float32)
            yield Picture(scene, degradation, objects, (image / 127.5 - 1).transpose(2, 0, 1)), rng


def patch_labels(picture: Picture) -> np.ndarray:
    """(16, 8) class numbers of each patch, in the order of ``_PATCH_WORDS``; 0: empty, no degradation."""
    labels = np.zeros((IMAGE_TOKENS, len(_PATCH_WORDS)), dtype=np.int64)
    cells = np.arange(IMAGE_TOKENS)
    labels[:, 4] = cells // 8
    labels[:, 5] = cells % 4 // 2
    labels[:, 6] = _degree(picture.degradation.blur)
    labels[:, 7] = _degree(picture.degradation.haze)
    for item in picture.objects:
        group = item.group
        labels[item.cell, :4] = (
            1 + SHAPES.index(group.shape),
            1 + COLORS.index(group.color),
            1 + SIZES.index(group.size),
            group.count,
        )
    return labels


def _degree(severity: float) -> int:
    return int(np.searchsorted([0.1, 0.35, 0.6], severity, side="right"))


def sample_questions(
    picture: Picture,
    n: int,
    rng: np.random.Generator,
    forbidden: frozenset[str] = frozenset(),
    shares_of: Mapping[str, float] = KINDS,
) -> list[Pair]:
    """``n`` questions of random kinds, in the shares of ``shares_of``; none that quotes a prompt in ``forbidden``."""
    kinds, shares = list(shares_of), list(shares_of.values())
    found: list[Pair] = []
    while len(found) < n:
        pair = ask(picture.scene, picture.degradation, kinds[int(rng.choice(len(kinds), p=shares))], rng)
        if pair is not None and forbidden.isdisjoint((pair[0].partition(" , ")[0], pair[1])):
            found.append(pair)
    return found


def pack(tokenizer: Any, batch: Sequence[Sequence[Pair]], length: int) -> dict[str, torch.Tensor]:
    """One row of ``length`` tokens for each picture: the image once, then those of its questions that still fit.

    No question sees another: each, with its answer, stands at the positions and sees the tokens that it would have in a
    chat of its own.

    Returns:
        ``input_ids``, ``position_ids``, ``labels`` (B, T) and an additive ``attention_mask`` (B, 1, T, T).
    """
    user, assistant, end, image = tokenizer.convert_tokens_to_ids(["<user>", "<assistant>", "<end>", "<image>"])
    prefix = [user] + [image] * IMAGE_TOKENS
    rows = []
    for pairs in batch:
        ids, positions, labels, segments = (
            list(prefix),
            list(range(len(prefix))),
            [_IGNORE] * len(prefix),
            [0] * len(prefix),
        )
        for number, (question, answer) in enumerate(pairs, start=1):
            asked = [*tokenizer.encode(question, add_special_tokens=False), end, assistant]
            answered = [*tokenizer.encode(answer, add_special_tokens=False), end]
            if len(ids) + len(asked) + len(answered) > length:
                continue
            ids += asked + answered
            labels += [_IGNORE] * len(asked) + answered
            positions += range(len(prefix), len(prefix) + len(asked) + len(answered))
            segments += [number] * (len(asked) + len(answered))
        rows.append((ids, positions, labels, segments))

    def stack(column: int, fill: int) -> torch.Tensor:
        return torch.tensor([row[column] + [fill] * (length - len(row[column])) for row in rows])

    segments_of = stack(3, -1)
    same = segments_of[:, :, None] == segments_of[:, None, :]
    sees = (same | (segments_of[:, None, :] == 0)) & torch.ones(length, length, dtype=torch.bool).tril()
    mask = torch.zeros(sees.shape).masked_fill(~sees, torch.finfo(torch.float32).min)
    return {
        "input_ids": stack(0, tokenizer.pad_token_id),
        "position_ids": stack(1, 0),
        "labels": stack(2, _IGNORE),
        "attention_mask": mask[:, None],
    }


def pretrain(
    out: Path,
    seed: int = 0,
    tower_steps: int = 1000,
    steps: int = 4800,
    numeral_steps: int = 1200,
    batch: int = 16,
    questions: int = 10,
    lr: float = 2e-3,
    threads: int = 1,
    check: int = 200,
) -> dict[str, float]:
    """Build, pre-train, check and save the tiny model.

    Args:
        out: folder of the checkpoint; written whole or not at all.
        seed: random seed of the weights, the pictures and the questions.
        tower_steps: steps on dense patch labels.
        steps: steps on questions.
        numeral_steps: steps of the last stage, on questions and numerals, at half the learning rate.
        batch: pictures a step.
        questions: questions drawn for a picture in the second stage; those that do not fit its row are left out.
        lr: peak learning rate of both stages (short warm-up, cosine to zero).
        threads: threads of torch; part of what fixes the bytes.
        check: fresh pictures to measure accuracy on, with one question of each kind.

    Returns:
        Share of exactly right answers on fresh pictures, by kind of question.
    """
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    processor = build_processor()
    model = build_model(processor.tokenizer, seed)
    forbidden = frozenset(prompt_text(scene) for scene in sample_scenes(DEFAULT_PROMPTS, 0))
    model.train()
    train_tower(model, processor.tokenizer, pictures([seed, _TOWER]), tower_steps, batch, lr)
    train_answers(model, processor.tokenizer, [seed, _ANSWERS], forbidden, steps, batch, questions, lr)
    stream = [seed, _NUMERALS]
    train_answers(
        model,
        processor.tokenizer,
        stream,
        forbidden,
        numeral_steps,
        batch,
        questions,
        lr / 2,
        ((3, 1.0),),
        KINDS_WITH_NUMERALS,
    )
    accuracy = measure(model, processor, pictures([seed, _CHECK]), check)
    with atomic_folder(out) as folder:
        save(model, processor, folder)
        settings = f"seed={seed}, tower_steps={tower_steps}, steps={steps}, numeral_steps={numeral_steps}, batch={batch}, questions={questions}, lr={lr}"
        (folder / "README.md").write_text(_card(f"{settings}, threads={threads}, check={check}", check, accuracy))
    return accuracy


def _card(settings: str, check: int, accuracy: dict[str, float]) -> str:
    """The model card; it names no time and no machine, so that a rebuild writes the same one."""
    rows = "\n".join(f"| {kind} | {share:.3f} |" for kind, share in accuracy.items())
    versions = ", ".join(
        f"{name} {version(name)}" for name in ("torch", "transformers", "tokenizers", "numpy", "pillow")
    )
    return f"""---
license: apache-2.0
library_name: transformers
pipeline_tag: image-text-to-text
---
# tiny_vlm

A LLaVA of about 0.9 M parameters (SigLIP tower, 64 x 64 pixels, 16 image tokens; Qwen2 text model) for tests and
demonstrations of `t2i_eval_kedro`. It knows pictures of coloured shapes and nothing else.

**Data.** Synthetic: pictures of one to three groups of shapes, some blurred or hazy, drawn from a random stream of
their own. Questions and answers are generic: colour, size, count, shape, position, relation, yes/no, clarity, captions,
what is wrong with a description, and numerals (how many, which is more). No score, rating or simulated generator was used, and no caption or description
is a prompt of the default `shapes` benchmark (seed 0, {DEFAULT_PROMPTS} prompts).

**Training.** `t2i_eval_kedro.shapes.pretrain.pretrain` with {settings}.
First the tower and the projector learn dense labels of each patch, then the text model learns the questions, and last the
order of the numerals 0 to 10 along with them.

**Accuracy**, share of exactly right greedy answers on {check} fresh pictures:

| question | accuracy |
|---|---|
{rows}

**Rebuilding.** With {versions}, the same settings and the same machine, `kedro build-tiny-vlm`
(20 minutes of one core) gives the same bytes: a whole rebuild was compared once, and a test holds one of a few steps to it. Another kind of
processor, number of threads or library version rounds sums differently, and the weights are then others.

Licence: Apache-2.0.
"""


def train_tower(
    model: Any,
    tokenizer: Any,
    source: Source,
    steps: int,
    batch: int,
    lr: float,
) -> None:
    """First stage: projected patch features point at the embeddings of the words for what the patch holds.

    The classes of each head are word embeddings (those of blur and haze go through a matrix of their own, as
    "slightly" can mean either), which leaves image features and words in one space for the second stage.
    """
    embedding = model.get_input_embeddings()
    ids = [torch.tensor(tokenizer.convert_tokens_to_ids([f"Ġ{word}" for word in words])) for words in _PATCH_WORDS]
    size = embedding.embedding_dim
    turns = torch.nn.ModuleList(torch.nn.Linear(size, size) for _ in _PATCH_WORDS[_DIRECT:])
    parts = (model.model.vision_tower, model.model.multi_modal_projector, embedding, turns)
    optimizer, schedule = _optimizer([p for part in parts for p in part.parameters()], steps, lr)
    for _ in tqdm(range(steps), desc="tower", mininterval=5):
        drawn = [next(source)[0] for _ in range(batch)]
        pixels = torch.from_numpy(np.stack([picture.pixels for picture in drawn]))
        labels = torch.from_numpy(np.stack([patch_labels(picture) for picture in drawn])).flatten(0, 1)
        features = torch.cat(list(model.model.get_image_features(pixels).pooler_output))
        views = [*[features] * _DIRECT, *(turn(features) for turn in turns)]
        losses = [
            F.cross_entropy(view @ embedding(words).T, labels[:, i])
            for i, (view, words) in enumerate(zip(views, ids, strict=True))
        ]
        _step(torch.stack(losses).sum(), optimizer, schedule)


def train_answers(
    model: Any,
    tokenizer: Any,
    stream: Sequence[int],
    forbidden: frozenset[str],
    steps: int,
    batch: int,
    questions: int,
    lr: float,
    curriculum: Sequence[tuple[int, float]] = CURRICULUM,
    shares_of: Mapping[str, float] = KINDS,
) -> None:
    """Later stages: the text model answers packed questions; the loss is on the answers alone, the tower rests."""
    optimizer, schedule = _optimizer(list(model.model.language_model.parameters()), steps, lr)
    model.model.vision_tower.requires_grad_(False)
    model.model.multi_modal_projector.requires_grad_(False)
    limits = [limit for limit, share in curriculum for _ in range(round(share * steps))]
    sources = {limit: pictures([*stream, limit], limit) for limit, _ in curriculum}
    for limit in tqdm(limits, desc="answers", mininterval=5):
        drawn = [next(sources[limit]) for _ in range(batch)]
        asked = [sample_questions(picture, questions, rng, forbidden, shares_of) for picture, rng in drawn]
        rows = pack(tokenizer, asked, ROW)
        labels = rows.pop("labels")
        pixels = torch.from_numpy(np.stack([picture.pixels for picture, _ in drawn]))
        hidden = model.model(**rows, pixel_values=pixels, use_cache=False).last_hidden_state[:, :-1]
        answered = labels[:, 1:] != _IGNORE  # logits are needed nowhere else
        _step(F.cross_entropy(model.lm_head(hidden[answered]), labels[:, 1:][answered]), optimizer, schedule)


def _optimizer(parameters: list[Any], steps: int, lr: float) -> tuple[Any, Any]:
    optimizer = torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.98), weight_decay=0.01)
    warm_up = max(1, min(100, steps // 10))

    def factor(step: int) -> float:
        if step < warm_up:
            return (step + 1) / warm_up
        return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def _step(loss: Any, optimizer: Any, schedule: Any) -> None:
    loss.backward()
    torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    schedule.step()


@torch.inference_mode()
def measure(model: Any, processor: Any, source: Source, n_pictures: int) -> dict[str, float]:
    """Share of exactly right greedy answers by kind of question, asked through the processor and the chat template.

    A caption is right where it is one of the prompts that describe the picture.
    """
    model.eval()
    right: dict[str, list[bool]] = {kind: [] for kind in KINDS_WITH_NUMERALS}
    for _ in range(n_pictures):
        picture, rng = next(source)
        asked = {kind: ask(picture.scene, picture.degradation, kind, rng) for kind in KINDS_WITH_NUMERALS}
        pairs = {kind: pair for kind, pair in asked.items() if pair is not None}
        chats = [
            [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
            for question, _ in pairs.values()
        ]
        inputs = processor(
            text=[processor.apply_chat_template(chat, add_generation_prompt=True) for chat in chats],
            images=[[draw(picture.objects, picture.degradation)] for _ in chats],
            padding=True,
            padding_side="left",
            return_tensors="pt",
        )
        made = model.generate(**inputs, do_sample=False, max_new_tokens=48)[:, inputs["input_ids"].shape[1] :]
        answers = processor.batch_decode(made, skip_special_tokens=True)
        for (kind, (_, answer)), text in zip(pairs.items(), answers, strict=True):
            right[kind].append(text in captions(picture.scene) if kind == "caption" else text == answer)
    return {kind: float(np.mean(values)) for kind, values in right.items() if values}
