"""Pre-trains the tiny vision-language model on generic questions over synthetic shapes, never on scores.

First the tower and the projector learn what stands in each image patch (shape, colour, size of its object, and the
picture's blur and haze), by heads that are thrown away. Then the whole model learns to answer `questions`: about a picture,
about two pictures in one conversation, and about none. Each batch is drawn from a random stream of its own, so the data
depend neither on the number of workers nor on where a run was cut off; numbers of steps are fixed, never times, so that a
rebuild on the same machine, library versions and number of threads gives the same bytes.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional as F
from tqdm import tqdm

from t2i_eval_kedro.shapes.prompts import DEFAULT_PROMPTS, sample_prompts
from t2i_eval_kedro.shapes.questions import (
    LAST_PAIR_KINDS,
    LAST_PICTURE_KINDS,
    LAST_TEXT_KINDS,
    LIST_TEXT_KINDS,
    LONG_TEXT_KINDS,
    PAIR_KINDS,
    PICTURE_KINDS,
    TEXT_KINDS,
    Pair,
    Shown,
    ask,
    ask_pair,
    ask_text,
    sample_degradation,
    sample_picture,
    vary,
)
from t2i_eval_kedro.shapes.render import Placed, draw, place
from t2i_eval_kedro.shapes.scene import CELLS, COLORS, MAX_GROUPS, NUMBERS, SHAPES, SIZES, Scene
from t2i_eval_kedro.shapes.tiny_vlm import IMAGE_TOKENS

logger = logging.getLogger(__name__)

_TOWER, _ANSWERS = 11, 12  # random streams of their own, apart from the benchmark's
ROW = 160  # tokens of a packed row
#: Rows of a batch about one picture, about two, and about none; as many pictures in every batch.
ROWS = (10, 3, 3)
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
    ("none", *NUMBERS),  # row
    ("none", *NUMBERS),  # column
)
_DIRECT = 6  # the first heads read the features as they are, the others through a matrix of their own


@dataclass(frozen=True)
class Phase:
    """One phase of the questions: a learning rate that rises shortly and falls to zero.

    Attributes:
        steps: number of steps.
        lr: peak learning rate of the text model.
        tower_lr: the same for tower and projector.
        curriculum: (most groups of a picture, share of the steps).
        picture_kinds, pair_kinds, text_kinds: shares of the kinds of questions.
        rows: rows of a batch about one picture, about two, and about none.
        row: tokens of a packed row.
    """

    steps: int
    lr: float
    tower_lr: float
    curriculum: tuple[tuple[int, float], ...] = ((MAX_GROUPS, 1.0),)
    picture_kinds: Mapping[str, float] = field(default_factory=lambda: PICTURE_KINDS)
    pair_kinds: Mapping[str, float] = field(default_factory=lambda: PAIR_KINDS)
    text_kinds: Mapping[str, float] = field(default_factory=lambda: TEXT_KINDS)
    rows: tuple[int, int, int] = ROWS
    row: int = ROW

    def groups(self, step: int) -> int:
        """The most groups of a picture in ``step``."""
        passed = 0.0
        for limit, share in self.curriculum:
            passed += share
            if step < passed * self.steps:
                return limit
        return self.curriculum[-1][0]


#: Few groups first; then all; then what is hardest; last long texts.
PHASES = (
    Phase(11_000, 2e-3, 1e-3, ((1, 0.08), (2, 0.17), (3, 0.25), (MAX_GROUPS, 0.5))),
    Phase(8_000, 1e-3, 5e-4),
    Phase(
        2_400,
        7e-4,
        3e-4,
        picture_kinds=LAST_PICTURE_KINDS,
        pair_kinds=LAST_PAIR_KINDS,
        text_kinds=LAST_TEXT_KINDS,
    ),
    Phase(
        1_200,
        8e-4,
        2e-4,
        picture_kinds=LAST_PICTURE_KINDS,
        pair_kinds=LAST_PAIR_KINDS,
        text_kinds=LONG_TEXT_KINDS,
        rows=(6, 1, 9),
        row=224,
    ),
    Phase(
        800,
        6e-4,
        1e-4,
        picture_kinds=LAST_PICTURE_KINDS,
        pair_kinds=LAST_PAIR_KINDS,
        text_kinds=LIST_TEXT_KINDS,
        rows=(6, 1, 9),
        row=272,
    ),
)


@dataclass(frozen=True)
class Recipe:
    """Settings of the pre-training.

    Attributes:
        seed: random seed of the weights, the pictures and the questions.
        tower_steps: steps on dense patch labels.
        tower_batch: pictures of a step on patch labels.
        tower_lr: peak learning rate of these steps.
        phases: phases of the questions.
        questions: questions drawn for a row; those that do not fit are left out.
        threads: threads of torch; part of what fixes the bytes.
    """

    seed: int = 0
    tower_steps: int = 1500
    tower_batch: int = 32
    tower_lr: float = 2e-3
    phases: tuple[Phase, ...] = PHASES
    questions: int = 12
    threads: int = 1


@dataclass(frozen=True)
class Picture:
    """One pre-training picture: what is in it, where, and its pixels, (64, 64, 3) bytes."""

    shown: Shown
    objects: list[Placed]
    pixels: np.ndarray


Batch = dict[str, np.ndarray]


def picture(shown: Shown, rng: np.random.Generator) -> Picture:
    """``shown`` with its objects placed and drawn."""
    objects = place(shown.scene, rng)
    return Picture(shown, objects, np.asarray(draw(objects, shown.degradation)))


def patch_labels(picture: Picture) -> np.ndarray:
    """(16, 10) class numbers of each patch, in the order of ``_PATCH_WORDS``; 0: empty, no degradation."""
    labels = np.zeros((IMAGE_TOKENS, len(_PATCH_WORDS)), dtype=np.int64)
    cells = np.arange(IMAGE_TOKENS)
    labels[:, 4] = cells // 8
    labels[:, 5] = cells % 4 // 2
    labels[:, 6] = _degree(picture.shown.degradation.blur)
    labels[:, 7] = _degree(picture.shown.degradation.haze)
    labels[:, 8], labels[:, 9] = np.divmod(cells, CELLS)
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


def sample_pairs(
    ask_one: Callable[[str], Pair | None],
    shares: Mapping[str, float],
    n: int,
    rng: np.random.Generator,
    forbidden: frozenset[str] = frozenset(),
) -> list[Pair]:
    """``n`` questions of random kinds in their ``shares`` (fewer where most cannot be asked); none about what is ``forbidden``."""
    kinds, p = list(shares), np.cumsum(list(shares.values()))
    pairs: list[Pair] = []
    for _ in range(4 * n):
        pair = ask_one(kinds[int(np.searchsorted(p, rng.random() * p[-1]))])
        if pair is not None and pair.about not in forbidden:
            pairs.append(pair)
            if len(pairs) == n:
                break
    return pairs


def answers_batch(number: int, step: int, recipe: Recipe, tokenizer: Any, forbidden: frozenset[str]) -> Batch:
    """Batch ``step`` of phase ``number``: packed rows (see `pack`) and ``pixels``, (P, 64, 64, 3) bytes."""
    rng = np.random.default_rng([recipe.seed + number, _ANSWERS, step])
    phase, n = recipe.phases[number], recipe.questions
    most = phase.groups(step)
    pixels: list[np.ndarray] = []

    def about_one() -> list[Pair]:
        one = picture(sample_picture(rng, most), rng)
        pixels.append(one.pixels)
        return sample_pairs(lambda kind: ask(one.shown, kind, rng), phase.picture_kinds, n, rng, forbidden)

    def about_two() -> list[Pair]:
        scene = sample_picture(rng, most).scene
        first, second = (picture(other_picture(scene, rng), rng) for _ in range(2))
        pixels.extend((first.pixels, second.pixels))
        return sample_pairs(
            lambda kind: ask_pair(first.shown, second.shown, scene, kind, rng), phase.pair_kinds, n, rng, forbidden
        )

    def about_none() -> list[Pair]:
        return sample_pairs(lambda kind: ask_text(kind, rng), phase.text_kinds, n, rng, forbidden)

    rows = [(1, about_one()) for _ in range(phase.rows[0])]
    rows += [(2, about_two()) for _ in range(phase.rows[1])]
    rows += [(0, about_none()) for _ in range(phase.rows[2])]
    return pack(tokenizer, rows, phase.row) | {"pixels": np.stack(pixels)}


def other_picture(scene: Scene, rng: np.random.Generator) -> Shown:
    """A picture of ``scene`` with zero to three changes."""
    return Shown(vary(scene, int(rng.choice(4, p=[0.3, 0.3, 0.25, 0.15])), rng), sample_degradation(rng))


def tower_batch(step: int, recipe: Recipe) -> Batch:
    """Batch number ``step`` of the first stage: ``pixels`` (B, 64, 64, 3) bytes and ``labels`` (B, 16, 10)."""
    rng = np.random.default_rng([recipe.seed, _TOWER, step])
    drawn = [picture(sample_picture(rng), rng) for _ in range(recipe.tower_batch)]
    return {
        "pixels": np.stack([one.pixels for one in drawn]),
        "labels": np.stack([patch_labels(one) for one in drawn]),
    }


def pack(tokenizer: Any, batch: Sequence[tuple[int, Sequence[Pair]]], length: int) -> Batch:
    """One row of ``length`` tokens for each conversation: its images once, then those of its questions that still fit.

    No question sees another: each, with its answer, stands at the positions and sees the tokens that it would have in a
    chat of its own.

    Args:
        tokenizer: tokenizer that belongs to the model.
        batch: for each row the number of its images and its questions.
        length: tokens of a row.

    Returns:
        ``input_ids``, ``position_ids``, ``segments`` (number of the question, 0 for what all see, -1 for padding) and
        ``weights`` of the loss on each token, (B, T) each: over an answer they sum to the square root of its length.
    """
    user, assistant, end, image = tokenizer.convert_tokens_to_ids(["<user>", "<assistant>", "<end>", "<image>"])
    shape = (len(batch), length)
    ids = np.full(shape, tokenizer.pad_token_id, dtype=np.int64)
    positions = np.zeros(shape, dtype=np.int64)
    segments = np.full(shape, -1, dtype=np.int64)
    weights = np.zeros(shape, dtype=np.float32)
    texts = [text for _, pairs in batch for pair in pairs for text in (pair.question, pair.answer)]
    encoded = iter(tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False))
    for row, (n_images, pairs) in enumerate(batch):
        start = 1 + n_images * IMAGE_TOKENS
        ids[row, :start] = [user] + [image] * (start - 1)
        positions[row, :start] = np.arange(start)
        segments[row, :start] = 0
        used = start
        for number, _ in enumerate(pairs, start=1):
            asked, answer = [*next(encoded).ids, end, assistant], [*next(encoded).ids, end]
            stop = used + len(asked) + len(answer)
            if stop > length:
                continue
            ids[row, used:stop] = asked + answer
            positions[row, used:stop] = np.arange(start, start + stop - used)
            segments[row, used:stop] = number
            weights[row, stop - len(answer) : stop] = len(answer) ** -0.5
            used = stop
    return {"input_ids": ids, "position_ids": positions, "segments": segments, "weights": weights}


def attention_mask(segments: torch.Tensor) -> torch.Tensor:
    """Additive mask (B, 1, T, T): a token sees what came before it in its own question and in what all see."""
    length = segments.shape[1]
    same = segments[:, :, None] == segments[:, None, :]
    causal = torch.ones(length, length, dtype=torch.bool, device=segments.device).tril()
    sees = (same | (segments[:, None, :] == 0)) & causal
    return torch.zeros(sees.shape, device=segments.device).masked_fill(~sees, torch.finfo(torch.float32).min)[:, None]


def scaled(pixels: torch.Tensor) -> torch.Tensor:
    """Bytes (B, H, W, 3) as the processor scales them: (B, 3, H, W) in -1..1."""
    return (pixels.permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous()


def image_features(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    """What stands in the place of each patch, (B, 16, D), of pictures (B, 64, 64, 3): as LLaVA has it, the tower's last layer
    without the normalisation after it, projected."""
    states = model.model.vision_tower(scaled(pixels), output_hidden_states=True).hidden_states
    features: torch.Tensor = model.model.multi_modal_projector(states[model.config.vision_feature_layer])
    return features


def hidden_states(model: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The text model's last hidden states over packed rows, (B, T, D), images in their places."""
    core = model.model
    ids = batch["input_ids"]
    embedded = core.get_input_embeddings()(ids)
    flat = embedded.flatten(0, 1)
    if len(batch["pixels"]):
        flat = flat.index_copy(0, batch["image_at"], image_features(model, batch["pixels"]).flatten(0, 1))
    out = core.language_model(
        inputs_embeds=flat.view_as(embedded),
        attention_mask=attention_mask(batch["segments"]),
        position_ids=batch["position_ids"],
        use_cache=False,
    )
    hidden: torch.Tensor = out.last_hidden_state
    return hidden


def answers_loss(model: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Weighted cross-entropy of the answers of packed rows."""
    hidden = hidden_states(model, batch).flatten(0, 1).index_select(0, batch["asked"])
    losses = F.cross_entropy(model.lm_head(hidden), batch["answered"], reduction="none")
    weights = batch["answer_weights"]
    return (losses * weights).sum() / weights.sum()


def tensors(batch: Batch, image_token: int, answers: int, device: str) -> dict[str, torch.Tensor]:
    """A packed batch as tensors of fixed shapes: where images stand, and ``answers`` answer tokens with their places."""
    ids = batch["input_ids"]
    where = np.flatnonzero(batch["weights"][:, 1:].ravel() > 0)
    rows, columns = np.divmod(where, ids.shape[1] - 1)
    n = min(len(where), answers)
    asked, answered = np.zeros(answers, dtype=np.int64), np.zeros(answers, dtype=np.int64)
    weights = np.zeros(answers, dtype=np.float32)
    asked[:n] = (rows * ids.shape[1] + columns)[:n]
    answered[:n] = ids[rows, columns + 1][:n]
    weights[:n] = batch["weights"][rows, columns + 1][:n]
    made = {
        "input_ids": ids,
        "position_ids": batch["position_ids"],
        "segments": batch["segments"],
        "pixels": batch["pixels"],
        "image_at": np.flatnonzero(ids.ravel() == image_token),
        "asked": asked,
        "answered": answered,
        "answer_weights": weights,
    }
    return {name: torch.from_numpy(value).to(device, non_blocking=True) for name, value in made.items()}


MAX_ANSWERS = 2560  # answer tokens of a batch that count; about 700 do, of long texts up to 2,300


class Stage(NamedTuple):
    """One stage of the pre-training: its parameters with their rates, its batches, and what they are trained on."""

    name: str
    steps: int
    groups: Sequence[tuple[list[torch.nn.Parameter], float]]
    draw: Callable[[int], Batch]
    tensors: Callable[[Batch], dict[str, torch.Tensor]]
    loss: Callable[[dict[str, torch.Tensor]], torch.Tensor]


class TowerHeads(torch.nn.Module):
    """First stage: projected patch features point at the embeddings of the words for what the patch holds.

    The classes of each head are word embeddings (some through a matrix of their own, as "slightly" can mean either of blur
    and haze), which leaves image features and words in one space for the second stage.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        """Heads over the tower of ``model``."""
        super().__init__()
        self._model = [model]  # no submodule: its parameters are named by the model itself
        size = model.get_input_embeddings().embedding_dim
        self.turns = torch.nn.ModuleList(torch.nn.Linear(size, size) for _ in _PATCH_WORDS[_DIRECT:])
        for i, words in enumerate(_PATCH_WORDS):
            self.register_buffer(f"words_{i}", torch.tensor(tokenizer.convert_tokens_to_ids([f"Ġ{w}" for w in words])))

    def forward(self, pixels: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The sum of the heads' losses over pictures (B, 64, 64, 3) and their labels (B, 16, heads)."""
        model = self._model[0]
        features = image_features(model, pixels).flatten(0, 1)
        labels = labels.flatten(0, 1)
        views = [*[features] * _DIRECT, *(turn(features) for turn in self.turns)]
        embedding = model.get_input_embeddings()
        losses = [
            F.cross_entropy(view @ embedding(self.get_buffer(f"words_{i}")).T, labels[:, i])
            for i, view in enumerate(views)
        ]
        return torch.stack(losses).sum()


def pretrain(
    model: Any,
    tokenizer: Any,
    recipe: Recipe,
    state: Path,
    device: str = "cpu",
    workers: int = 1,
    save_every: int = 200,
) -> None:
    """Train ``model`` in place by ``recipe``, going on from the file ``state`` where a run of the same recipe was cut off.

    Args:
        model: as built by `build_model`.
        tokenizer: tokenizer that belongs to the model.
        recipe: settings; a state of another recipe is refused by starting anew.
        state: safetensors file with weights and optimiser, written every ``save_every`` steps; removed by the caller.
        device: ``cpu`` or ``cuda``.
        workers: processes that draw the batches; the data do not depend on it.
        save_every: steps.
    """
    torch.set_num_threads(recipe.threads)
    if device == "cpu":
        torch.use_deterministic_algorithms(True)
    forbidden = frozenset(prompt.core for prompt in sample_prompts(DEFAULT_PROMPTS, 0))
    model.to(device).train()
    torch.manual_seed(recipe.seed)
    heads = TowerHeads(model, tokenizer).to(device)
    core = model.model
    tower = [*core.vision_tower.parameters(), *core.multi_modal_projector.parameters()]
    text = list(core.language_model.parameters())
    embedding = list(model.get_input_embeddings().parameters())
    image_token = model.config.image_token_id
    restored = _load(state, recipe)

    def stage(number: int) -> Stage:
        if number == 0:
            return Stage(
                "patches",
                recipe.tower_steps,
                [([*tower, *embedding, *heads.parameters()], recipe.tower_lr)],
                lambda step: tower_batch(step, recipe),
                lambda batch: {name: torch.from_numpy(value).to(device) for name, value in batch.items()},
                lambda batch: heads(batch["pixels"], batch["labels"]),
            )
        phase = recipe.phases[number - 1]
        return Stage(
            f"questions {number}",
            phase.steps,
            [(text, phase.lr), (tower, phase.tower_lr)],
            lambda step: answers_batch(number - 1, step, recipe, tokenizer, forbidden),
            lambda batch: tensors(batch, image_token, MAX_ANSWERS, device),
            lambda batch: answers_loss(model, batch),
        )

    for number in range(1 + len(recipe.phases)):
        if restored is not None and restored["stage"] > number:
            continue
        name, steps, groups, draw_batch, to_tensors, loss_of = stage(number)
        trainer = Trainer([model, heads], groups, steps, loss_of, device)
        first = 0
        if restored is not None and restored["stage"] == number:
            trainer.restore(restored["tensors"])
            first = restored["step"]
            logger.info("The pre-training goes on from step %d of %s.", first, name)
        loader = torch.utils.data.DataLoader(
            _Drawn(draw_batch, first, steps),
            batch_size=None,
            num_workers=workers,
            prefetch_factor=4 if workers else None,
            worker_init_fn=_quiet,
            collate_fn=_as_it_is,  # type: ignore[arg-type]
        )
        progress = tqdm(loader, desc=name, initial=first, total=steps, mininterval=10)
        for step, batch in enumerate(progress, start=first):
            trainer.step(to_tensors(batch), step)
            if (step + 1) % 100 == 0:
                progress.set_postfix(loss=f"{trainer.loss():.3f}")
            if (step + 1) % save_every == 0:
                _save(state, recipe, number, step + 1, trainer.tensors())
        restored = None


def _quiet(_: int) -> None:
    torch.set_num_threads(1)


def _as_it_is(batch: Batch) -> Batch:
    return batch


class _Drawn(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """Batches by number, drawn where they are asked for."""

    def __init__(self, draw_batch: Callable[[int], Batch], first: int, stop: int) -> None:
        self._draw, self._first, self._stop = draw_batch, first, stop

    def __len__(self) -> int:
        return self._stop - self._first

    def __getitem__(self, index: int) -> Batch:
        if index >= len(self):
            raise IndexError(index)
        return self._draw(self._first + index)


class Trainer:
    """AdamW with a short warm-up and a cosine to zero; on a GPU the step is captured once as a graph and replayed."""

    def __init__(
        self,
        modules: Sequence[torch.nn.Module],
        groups: Sequence[tuple[list[torch.nn.Parameter], float]],
        steps: int,
        loss_of: Callable[[dict[str, torch.Tensor]], torch.Tensor],
        device: str,
    ) -> None:
        """Train the parameters of ``groups``, each with its peak rate, for ``steps`` steps."""
        self._modules, self._loss_of, self._steps, self._device = modules, loss_of, steps, device
        self._peaks = [rate for _, rate in groups]
        self._parameters = [p for parameters, _ in groups for p in parameters]
        cuda = device == "cuda"
        self._rates = [torch.zeros((), device=device) for _ in groups]
        self._optimizer = torch.optim.AdamW(
            [{"params": parameters, "lr": rate} for (parameters, _), rate in zip(groups, self._rates, strict=True)],
            betas=(0.9, 0.98),
            weight_decay=0.01,
            capturable=cuda,
            foreach=cuda,
        )
        self._graph: Any = None
        self._static: dict[str, torch.Tensor] = {}
        self._loss = torch.zeros((), device=device)
        self._warm = 0

    def step(self, batch: dict[str, torch.Tensor], step: int) -> None:
        """One step on ``batch``; ``step`` sets the learning rate."""
        warm_up = max(1, min(100, self._steps // 10))
        if step < warm_up:
            factor = (step + 1) / warm_up
        else:
            factor = 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, self._steps - warm_up)))
        for rate, peak in zip(self._rates, self._peaks, strict=True):
            rate.fill_(factor * peak)
        if self._device != "cuda":
            self._plain(batch)
            return
        if self._graph is None and self._warm < 3:
            self._static = self._static or {name: value.clone() for name, value in batch.items()}
            side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                self._plain(batch)
            torch.cuda.current_stream().wait_stream(side)
            self._warm += 1
            return
        for name, value in batch.items():
            self._static[name].copy_(value, non_blocking=True)
        if self._graph is None:
            self._graph = torch.cuda.CUDAGraph()
            self._optimizer.zero_grad(set_to_none=True)
            with torch.cuda.graph(self._graph):
                self._plain(self._static)
        self._graph.replay()

    def _plain(self, batch: dict[str, torch.Tensor]) -> None:
        loss = self._loss_of(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._loss.copy_(loss.detach())

    def loss(self) -> float:
        """The loss of the last step."""
        return float(self._loss)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Weights and optimiser state by name."""
        values = {f"{i}.{name}": value for i, m in enumerate(self._modules) for name, value in m.state_dict().items()}
        for i, parameter in enumerate(self._parameters):
            values |= {f"adam.{i}.{name}": value for name, value in self._optimizer.state[parameter].items()}
        return {name: value.detach().clone().contiguous() for name, value in values.items()}

    def restore(self, values: Mapping[str, torch.Tensor]) -> None:
        """Take on what `tensors` gave."""
        for i, module in enumerate(self._modules):
            of_module = {name.partition(".")[2]: v for name, v in values.items() if name.startswith(f"{i}.")}
            module.load_state_dict(of_module)
        for i, parameter in enumerate(self._parameters):
            prefix = f"adam.{i}."
            moments = {name.removeprefix(prefix): v for name, v in values.items() if name.startswith(prefix)}
            if moments:
                step = moments.pop("step")
                self._optimizer.state[parameter] = {
                    "step": step.to(self._device if self._device == "cuda" else "cpu"),
                    **{name: value.to(self._device) for name, value in moments.items()},
                }


def _save(path: Path, recipe: Recipe, stage: int, step: int, values: dict[str, torch.Tensor]) -> None:
    from safetensors.torch import save

    from t2i_eval_kedro.datasets.atomic import atomic_file

    with atomic_file(path) as file:
        file.write_bytes(save(values, {"recipe": json.dumps(asdict(recipe)), "stage": str(stage), "step": str(step)}))


def _load(path: Path, recipe: Recipe) -> dict[str, Any] | None:
    """What `_save` wrote for this recipe, or None."""
    from safetensors import safe_open

    if not path.is_file():
        return None
    with safe_open(path, framework="pt") as file:
        notes = file.metadata()
        if notes.get("recipe") != json.dumps(asdict(recipe)):
            logger.warning("%s belongs to another recipe; the pre-training starts anew.", path)
            return None
        return {
            "stage": int(notes["stage"]),
            "step": int(notes["step"]),
            "tensors": {name: file.get_tensor(name) for name in file.keys()},  # noqa: SIM118 - it is no mapping
        }
