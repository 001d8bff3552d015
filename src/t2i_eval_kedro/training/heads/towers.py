"""A small BLIP-2 that knows pictures of shapes and their captions, and no score.

Real judges begin from networks that were pre-trained on pictures with captions. This is their stand-in for the embedded
benchmark: it learns whether a caption is right (matching), as a whole and word by word. Captions are random descriptions with up
to four faults, and come in pairs that differ in one thing (:func:`sample_twins`). No score, rating or simulated generator is
involved, and no caption states what a prompt of the benchmark states. It begins from the vision tower and the word embeddings of
the tiny model (:mod:`t2i_eval_kedro.shapes.pretrain`), which knows no scores either, and leaves that tower as it is.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from t2i_eval_kedro.models.fga_blip2 import FGABlip2, PromptTokens, located
from t2i_eval_kedro.shapes.pretrain import picture, scaled
from t2i_eval_kedro.shapes.prompts import (
    DEFAULT_PROMPTS,
    ScenePrompt,
    elements,
    fill,
    prompt_text,
    sample_prompts,
    sample_statement,
)
from t2i_eval_kedro.shapes.questions import paths, sample_picture, vary
from t2i_eval_kedro.shapes.scene import (
    COLORS,
    MAX_GROUPS,
    NUMBERS,
    RELATIONS,
    SHAPES,
    SIZES,
    Scene,
    region_cells,
    relation,
)
from t2i_eval_kedro.shapes.tiny_vlm import IMAGE_SIDE, IMAGE_TOKENS, LEVELS, PATCH, WORDS
from t2i_eval_kedro.shapes.truth import elements_held
from t2i_eval_kedro.training.heads.fitting import fit

BLIP2 = "shapes_blip2"
"""Name of the network's folder."""
MAX_TOKENS = 64
"""Length of a caption in tokens; the longest prompt of the benchmark has 60."""
WIDTH, HEADS, LAYERS, INNER = 128, 4, 6, 256
"""Shape of the Q-Former. A relation is read over four layers (patches, words, the objects of words, the relation), so four leave no room."""
MEAN = STD = (0.5, 0.5, 0.5)
CHANGES = (0.34, 0.28, 0.22, 0.16)
"""Shares of captions with so many faults."""
CURRICULUM = ((0.08, 1), (0.2, 2), (0.35, 3), (1.0, MAX_GROUPS))
"""(share of the steps, most groups of a picture until then). What is learned of one group is unlearned with the second, so it is brief."""
FILLED_FROM = 0.75
"""Share of the steps from which some captions have words that state nothing."""
FILLED, FILLERS = 0.24, (8, 44)
"""Share of captions that then have such words, and how many words (the last number exclusive)."""
_TRIES = 20  # to change a caption
_NOTHING = "nothing"
ANSWERS = (*SHAPES, *COLORS, *SIZES, *NUMBERS, *(name.split()[0] for name in RELATIONS), _NOTHING)
"""Words that can be right in the place of a word of a caption."""
PATCH_WORDS = {"shape": len(SHAPES) + 1, "color": len(COLORS), "size": len(SIZES), "count": len(NUMBERS)}
"""What a patch shows, and how many words there are for it; a shape can be missing."""
UNKNOWN = -100
"""Label of what nobody can say."""
_STREAM = 21  # of random numbers, apart from those of the benchmark and the tiny model
_PIECES = "abcdefghijklmnopqrstuvwxyz0123456789.,-'?!:;/"


@dataclass(frozen=True)
class TowerRecipe:
    """How the network is pre-trained.

    Attributes:
        seed: random seed of weights, pictures and captions.
        steps: number of steps.
        batch_size: captions a step, two of each picture.
        rate: peak learning rate.
        threads: threads of torch.
    """

    seed: int = 0
    steps: int = 6000
    batch_size: int = 16
    rate: float = 1e-3
    threads: int = 1


class Captioned(NamedTuple):
    """A picture, (64, 64, 3) bytes, what is in it, a caption, which of the caption's elements hold, and what is right in the place of each."""

    pixels: np.ndarray
    seen: Scene
    prompt: ScenePrompt
    held: Mapping[str, bool]
    shown: Mapping[str, str]


def sample_twins(
    rng: np.random.Generator, groups: int, filled: float, changes: int | None, forbidden: frozenset[str]
) -> tuple[Captioned, Captioned]:
    """A random picture with two captions of it, the second in the same words as the first but for one change.

    What is right in one of them is mostly wrong in the other, so that words alone tell nothing: the picture has to be read.

    Args:
        rng: random numbers.
        groups: the most groups of objects in a picture.
        filled: share of captions that have words that state nothing.
        changes: faults of the first caption at most; random where None.
        forbidden: what no caption may state.
    """
    while True:
        shown = sample_picture(rng, groups)
        orders = paths(shown.scene)
        if not orders:
            continue
        order = orders[int(rng.integers(len(orders)))]
        first = vary(order, int(rng.choice(4, p=CHANGES)) if changes is None else changes, rng)
        second = first
        for _ in range(_TRIES):  # a change of number or place may find no room, and is then none
            second = vary(first, 1, rng)
            if second != first:
                break
        same_words = deepcopy(rng)
        prompts = sample_statement(first, rng), sample_statement(second, same_words)
        if any(prompt.core in forbidden for prompt in prompts):
            continue
        pixels = picture(shown, rng).pixels
        one, two = (
            fill(prompt, int(rng.integers(*FILLERS)), rng) if rng.random() < filled else prompt for prompt in prompts
        )
        return captioned(pixels, one, shown.scene), captioned(pixels, two, shown.scene)


def captioned(pixels: np.ndarray, prompt: ScenePrompt, seen: Scene) -> Captioned:
    """The picture ``pixels`` of the scene ``seen`` with the caption ``prompt``."""
    held = elements_held(prompt, seen)
    return Captioned(pixels, seen, prompt, held, {name: shown_word(seen, name) for name in held})


def shown_word(seen: Scene, element_id: str) -> str:
    """What a picture of the scene ``seen`` shows where an element asks, one of :data:`ANSWERS`; ``nothing`` where its subject is missing.

    Example:
        >>> from t2i_eval_kedro.shapes.scene import Group
        >>> seen = Scene((Group("circle", "red", "small", 2, 0), Group("star", "blue", "large", 1, 1)))
        >>> [shown_word(seen, name) for name in ("circle.color", "circle.count", "circle.above.star", "ring")]
        ['red', 'two', 'left', 'nothing']
    """
    shape, _, rest = element_id.removesuffix(".conflict").partition(".")
    group = seen.find(shape)
    if group is None:
        return _NOTHING
    if rest in ("", "absent"):
        return shape
    if rest == "count":
        return NUMBERS[group.count - 1]
    if rest in ("color", "not_color", "size"):
        return group.size if rest == "size" else group.color
    other = seen.find(rest.rpartition(".")[2])
    return _NOTHING if other is None else (relation(group, other) or _NOTHING).split()[0]


def build_tokenizer(folder: Path) -> Any:
    """BERT's tokenizer over the words of the benchmark and single characters; its vocabulary file is written to ``folder``."""
    import transformers

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = dict.fromkeys([*special, *WORDS, *LEVELS, *_PIECES, *(f"##{piece}" for piece in _PIECES)])
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    make: Any = transformers.BertTokenizerFast  # type: ignore[attr-defined]
    return make(str(folder / "vocab.txt"), model_max_length=MAX_TOKENS)


def build_blip(vocabulary: int, seed: int) -> FGABlip2:
    """The untrained BLIP-2: 16 queries, six layers of width 128."""
    from transformers import Blip2Config

    torch.manual_seed(seed)
    make: Any = Blip2Config
    config = make(
        vision_config=tower_shape() | {"layer_norm_eps": 1e-6},
        qformer_config={
            "vocab_size": vocabulary,
            "hidden_size": WIDTH,
            "intermediate_size": INNER,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "encoder_hidden_size": WIDTH,
            "max_position_embeddings": MAX_TOKENS,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            "use_qformer_text_input": True,
        },
        text_config={
            "model_type": "opt",
            "hidden_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "ffn_dim": 8,
        },
        num_query_tokens=IMAGE_TOKENS,
        image_text_hidden_size=32,
        image_token_index=None,
        initializer_range=0.05,
    )
    model = FGABlip2(config, max_tokens=MAX_TOKENS, mean=MEAN, std=STD)
    torch.nn.init.normal_(model.blip.query_tokens, std=1.0)
    return model


def tower_shape() -> dict[str, Any]:
    """Shape of the tiny model's vision tower."""
    return {
        "hidden_size": WIDTH,
        "intermediate_size": 384,
        "num_hidden_layers": 2,
        "num_attention_heads": HEADS,
        "image_size": IMAGE_SIDE,
        "patch_size": PATCH,
        "hidden_act": "gelu_pytorch_tanh",
    }


def tiny_weights(tiny_vlm: Path) -> dict[str, torch.Tensor]:
    """Weights of the tiny model, by name."""
    return {name: value.float() for name, value in load_file(tiny_vlm / "model.safetensors").items()}


def tower_of(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The vision tower among the tiny model's ``weights``, under the names that it has for itself."""
    return {
        name.partition("vision_tower.")[2].removeprefix("vision_model."): value
        for name, value in weights.items()
        if "vision_tower." in name
    }


def embed_words(weights: Mapping[str, torch.Tensor], tiny_vlm: Path, tokenizer: Any, table: torch.Tensor) -> None:
    """Write the tiny model's embeddings of the words that both tokenizers have into ``table``."""
    from transformers import AutoTokenizer

    load: Any = AutoTokenizer.from_pretrained
    theirs = load(tiny_vlm, local_files_only=True).get_vocab()
    embedded = next(value for name, value in weights.items() if name.endswith("embed_tokens.weight"))
    for word, at in tokenizer.get_vocab().items():
        if f"Ġ{word}" in theirs:
            table[at] = embedded[theirs[f"Ġ{word}"]]


@torch.no_grad()
def start_from_tiny(model: FGABlip2, tokenizer: Any, tiny_vlm: Path) -> None:
    """Give a BLIP-2 of :func:`build_blip` the tiny model's vision tower and word embeddings."""
    weights = tiny_weights(tiny_vlm)
    tower = tower_of(weights)
    vision = model.blip.vision_model
    vision.embeddings.class_embedding.zero_()
    vision.embeddings.position_embedding.zero_()
    vision.embeddings.position_embedding[0, 1:] = tower["embeddings.position_embedding.weight"]
    vision.embeddings.patch_embedding.weight.copy_(tower["embeddings.patch_embedding.weight"])
    vision.embeddings.patch_embedding.bias.copy_(tower["embeddings.patch_embedding.bias"])
    for number, layer in enumerate(vision.encoder.layers):
        name = f"encoder.layers.{number}"
        for part in ("weight", "bias"):
            projected = [tower[f"{name}.self_attn.{kind}_proj.{part}"] for kind in "qkv"]
            getattr(layer.self_attn.qkv, part).copy_(torch.cat(projected))
            getattr(layer.self_attn.projection, part).copy_(tower[f"{name}.self_attn.out_proj.{part}"])
            for mine in ("layer_norm1", "layer_norm2"):
                getattr(getattr(layer, mine), part).copy_(tower[f"{name}.{mine}.{part}"])
            for mine in ("fc1", "fc2"):
                getattr(getattr(layer.mlp, mine), part).copy_(tower[f"{name}.mlp.{mine}.{part}"])
    embed_words(weights, tiny_vlm, tokenizer, model.blip.embeddings.word_embeddings.weight)
    _attend_to_the_like(model, weights)


@torch.no_grad()
def _attend_to_the_like(model: FGABlip2, tiny: Mapping[str, torch.Tensor]) -> None:
    """Let each query look at one patch and say it in words, and each word look at its like: both are then learned much sooner.

    What the tiny model's projector says of a patch lies near the embeddings of the words for it (shape, colour, size, number);
    the queries' values are the best linear map to that. In the spirit of mimetic initialization (Trockman and Kolter, 2023).
    """
    rng = np.random.default_rng(0)
    pixels = scaled(torch.from_numpy(np.stack([picture(sample_picture(rng), rng).pixels for _ in range(64)])))
    features = model.image_features(pixels)[:, 1:]
    projected = _projected(model, pixels, tiny)
    flat = torch.cat([features.flatten(0, 1), torch.ones(features.shape[0] * features.shape[1], 1)], dim=1)
    to_words = torch.linalg.lstsq(flat, projected.flatten(0, 1) / projected.std()).solution.T
    typical = features.mean(dim=0)
    model.blip.query_tokens.copy_(4 * (typical - typical.mean(dim=0)) / features.std())
    for layer in model.blip.qformer.encoder.layer:
        layer.attention.attention.key.weight.copy_(layer.attention.attention.query.weight)
        layer.attention.output.dense.weight.copy_(layer.attention.attention.value.weight.T)
        if layer.has_cross_attention:
            seen = layer.crossattention
            torch.nn.init.orthogonal_(seen.attention.query.weight, gain=1.5)
            seen.attention.key.weight.copy_(seen.attention.query.weight)
            seen.attention.value.weight.copy_(to_words[:, :-1])
            seen.attention.value.bias.copy_(to_words[:, -1])
            torch.nn.init.eye_(seen.output.dense.weight)


def _projected(model: FGABlip2, pixels: torch.Tensor, tiny: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """What the tiny model's projector says of each patch, (n, 16, WIDTH)."""
    seen = model.blip.vision_model(pixel_values=pixels, output_hidden_states=True).hidden_states[
        -1
    ]  # before the last norm
    projector = {
        name.partition("multi_modal_projector.")[2]: v for name, v in tiny.items() if "multi_modal_projector." in name
    }
    hidden = F.gelu(F.linear(seen[:, 1:], projector["linear_1.weight"], projector["linear_1.bias"]))
    return F.linear(hidden, projector["linear_2.weight"], projector["linear_2.bias"])


def token_labels(tokens: PromptTokens, captioned: Captioned) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels of tokens, (MAX_TOKENS,) each: whether a token says something that is checked, the share of what it says that holds,
    and the number in :data:`ANSWERS` of the word that would be right there, by the first element that it belongs to."""
    parts = {element.element_id: element for element in elements(captioned.prompt)}
    places = located(
        tokens,
        {name: part.text for name, part in parts.items()},
        {name: part.parents for name, part in parts.items()},
        "windows",
    )
    counts, held = np.zeros(MAX_TOKENS, np.float32), np.zeros(MAX_TOKENS, np.float32)
    answers = np.zeros(MAX_TOKENS, np.int64)
    for name, positions in places.items():
        for at in positions or ():
            if not counts[at]:
                answers[at] = ANSWERS.index(captioned.shown[name])
            counts[at] += 1
            held[at] += captioned.held[name]
    return (counts > 0).astype(np.float32), held / np.maximum(counts, 1), answers


def patch_labels(seen: Scene) -> np.ndarray:
    """Numbers of the shape, colour, size and number of the group in whose region each patch of a picture lies, (IMAGE_TOKENS, 4); a patch
    outside of all regions shows the shape after the last, and nothing else (UNKNOWN)."""
    labels = np.full((IMAGE_TOKENS, len(PATCH_WORDS)), UNKNOWN)
    labels[:, 0] = len(SHAPES)
    for group in seen.groups:
        numbers = SHAPES.index(group.shape), COLORS.index(group.color), SIZES.index(group.size), group.count - 1
        labels[list(region_cells(group.region))] = numbers
    return labels


def caption_batches(
    recipe: TowerRecipe, tokenizer: Any, steps: int, forbidden: frozenset[str], changes: int | None
) -> Iterator[dict[str, torch.Tensor]]:
    """``pixels``, ``ids``, ``mask``, ``checked``, ``held`` and ``answers`` (tokens), ``right`` (captions), ``patches`` of each step.

    Pictures have few groups at first; words that state nothing come late, as they cost time and teach little.
    """
    for step in range(steps):
        rng = np.random.default_rng([recipe.seed, _STREAM, step])
        groups = next(most for share, most in CURRICULUM if step < share * steps)
        filled = 0.0 if step < FILLED_FROM * steps else FILLED
        pairs = [sample_twins(rng, groups, filled, changes, forbidden) for _ in range(recipe.batch_size // 2)]
        drawn = [one for pair in pairs for one in pair]
        tokens = [PromptTokens(tokenizer, prompt_text(one.prompt), MAX_TOKENS) for one in drawn]
        length = max(len(one.ids) for one in tokens)
        ids, mask = padded([one.ids for one in tokens], length)
        labels = [token_labels(text, one) for text, one in zip(tokens, drawn, strict=True)]
        checked, held, answers = (
            torch.from_numpy(np.stack(values))[:, :length] for values in zip(*labels, strict=True)
        )
        yield {
            "pixels": scaled(torch.from_numpy(np.stack([one.pixels for one in drawn]))),
            "ids": ids,
            "mask": mask,
            "checked": checked,
            "held": held,
            "answers": answers,
            "right": torch.tensor([float(all(one.held.values())) for one in drawn]),
            "patches": torch.from_numpy(np.stack([patch_labels(one.seen) for one in drawn])),
        }


def padded(ids: list[list[int]], length: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids padded with 0 on the right, and 1 where there is a token, (n, length) each."""
    length = length or max(map(len, ids))
    rows = [row + [0] * (length - len(row)) for row in ids]
    mask = [[1] * len(row) + [0] * (length - len(row)) for row in ids]
    return torch.tensor(rows), torch.tensor(mask)


class WordHeads(torch.nn.Module):
    """What is asked of the network in its pre-training alone: the word of :data:`ANSWERS` that is right in the place of a token, and the
    words of :data:`PATCH_WORDS` for a patch. The first begins as the words' embeddings."""

    def __init__(self, model: FGABlip2, tokenizer: Any) -> None:
        super().__init__()
        self.answers = torch.nn.Linear(WIDTH, len(ANSWERS))
        self.patches = torch.nn.Linear(WIDTH, sum(PATCH_WORDS.values()))
        words = model.blip.embeddings.word_embeddings.weight[tokenizer.convert_tokens_to_ids(list(ANSWERS))]
        with torch.no_grad():
            self.answers.weight.copy_(F.layer_norm(words, (WIDTH,)) / WIDTH**0.5)
            self.answers.bias.zero_()


def matching_losses(model: FGABlip2, heads: WordHeads, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Cross-entropy of whether the caption is right, of whether what each word says is, of the word that would be, and of what each query
    says of its patch.

    ``answers`` says of a wrong word what the picture shows, where the first two say that it is wrong, so words find their objects
    in fewer steps. The others do the same for queries, halfway through the network: the number of a group is in none of its patches, and
    words that ask for it learn in time where queries have it. Both are in the spirit of BLIP-2's image-grounded generation of text.
    """
    with torch.no_grad():
        features = model.image_features(batch["pixels"])
    layers = model.layers(features, batch["ids"], batch["mask"])
    states = layers[-1]
    logits = model.blip.itm_head(states)
    logits = logits[..., 1] - logits[..., 0]
    count = model.blip.query_tokens.shape[1]
    checked = batch["checked"] > 0
    words = F.binary_cross_entropy_with_logits(logits[:, count:], batch["held"], reduction="none")
    patch_logits = heads.patches(layers[LAYERS // 2][:, :count]).split([*PATCH_WORDS.values()], dim=-1)
    patches = {
        name: (1.0 if name == "count" else 0.5)  # numbers are learned last
        * F.cross_entropy(one.flatten(0, 1), batch["patches"][..., at].flatten(), ignore_index=UNKNOWN)
        for at, (name, one) in enumerate(zip(PATCH_WORDS, patch_logits, strict=True))
    }
    return {
        "caption": F.binary_cross_entropy_with_logits(logits[:, :count].mean(dim=1), batch["right"]),
        "words": (words * batch["checked"]).sum() / batch["checked"].sum(),
        "answers": F.cross_entropy(heads.answers(states[:, count:][checked]), batch["answers"][checked]),
    } | patches


def of_the_benchmark() -> frozenset[str]:
    """What the benchmark's prompts state, which no caption may."""
    return frozenset(prompt.core for prompt in sample_prompts(DEFAULT_PROMPTS, 0))


def pretrain_blip(out: Path, tiny_vlm: Path, recipe: TowerRecipe) -> Any:
    """Pre-train the BLIP-2 and write it to ``out``; returns the training curve."""
    torch.set_num_threads(recipe.threads)
    with tempfile.TemporaryDirectory() as work:
        tokenizer = build_tokenizer(Path(work))
    model = build_blip(len(tokenizer), recipe.seed).train()
    start_from_tiny(model, tokenizer, tiny_vlm)
    drawn = caption_batches(recipe, tokenizer, recipe.steps, of_the_benchmark(), None)
    heads = WordHeads(model, tokenizer)
    trained = [p for name, p in model.named_parameters() if not name.startswith("blip.vision_model.")]
    trained += heads.parameters()
    curve = fit(
        [(trained, recipe.rate)],
        (matching_losses(model, heads, batch) for batch in drawn),
        recipe.steps,
        weight_decay=0.01,
        every=50,
    )
    model.save(out, tokenizer)
    return curve
