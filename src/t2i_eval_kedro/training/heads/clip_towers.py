"""A small CLIP that knows pictures of shapes and their captions, and no score, so that CLIPScore can be asked on the embedded benchmark.

It learns which caption belongs to which picture of a batch (CLIP, arXiv 2103.00020). Each picture brings one caption with a fault of its own
scene, which competes with the right one (NegCLIP, arXiv 2210.01936): without it a bag of words is enough. Captions are those that the
small BLIP-2 is taught with (:mod:`t2i_eval_kedro.training.heads.towers`): random descriptions, none of them a prompt of the benchmark. The
image side begins from the tiny model's vision tower, and the text side from its word embeddings.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from t2i_eval_kedro.datasets.atomic import atomic_folder
from t2i_eval_kedro.shapes.pretrain import picture, scaled
from t2i_eval_kedro.shapes.prompts import ScenePrompt, prompt_text
from t2i_eval_kedro.shapes.questions import Shown, description, sample_picture
from t2i_eval_kedro.shapes.tiny_vlm import IMAGE_SIDE
from t2i_eval_kedro.shapes.truth import elements_held
from t2i_eval_kedro.training.heads.fitting import fit
from t2i_eval_kedro.training.heads.towers import (
    CURRICULUM,
    FILLED_FROM,
    HEADS,
    INNER,
    MAX_TOKENS,
    MEAN,
    STD,
    WIDTH,
    build_tokenizer,
    embed_words,
    of_the_benchmark,
    padded,
    tiny_weights,
    tower_of,
    tower_shape,
)

CLIP = "shapes_clip"
"""Name of the network's folder."""
LAYERS, SPACE = 3, 64
_STREAM = 22  # of random numbers, apart from those of the benchmark, the tiny model and the BLIP-2
_MAX_SCALE = math.log(100.0)


@dataclass(frozen=True)
class ClipRecipe:
    """How the network is pre-trained.

    Attributes:
        seed: random seed of weights, pictures and captions.
        steps: number of steps.
        batch_size: pictures a step.
        rate: peak learning rate.
        threads: threads of torch.
    """

    seed: int = 0
    steps: int = 1200
    batch_size: int = 32
    rate: float = 1e-3
    threads: int = 1


def sample_contrast(
    rng: np.random.Generator, groups: int, filled: float, forbidden: frozenset[str]
) -> tuple[Shown, ScenePrompt, ScenePrompt]:
    """A random picture, a caption that holds of it, and one that does not.

    Args:
        rng: random numbers.
        groups: the most groups of objects in a picture.
        filled: share of captions that keep words that state nothing.
        forbidden: what no caption may state.
    """
    while True:
        shown = sample_picture(rng, groups)
        captions = []
        for changes in (0, int(rng.integers(1, 4))):
            prompt = description(shown.scene, rng, changes)
            if prompt is None or prompt.core in forbidden or holds(prompt, shown) != (changes == 0):
                break
            captions.append(prompt if rng.random() < filled else replace(prompt, before="", after=""))
        else:
            return shown, captions[0], captions[1]


def holds(prompt: ScenePrompt, shown: Shown) -> bool:
    """Whether all that ``prompt`` states is so in the picture; most do not even name what is there, which is soon seen."""
    if any(shown.scene.find(group.shape) is None for group in prompt.scene.groups):
        return False
    return all(elements_held(prompt, shown.scene).values())


def contrast_batches(
    recipe: ClipRecipe, tokenizer: Any, steps: int, forbidden: frozenset[str]
) -> Iterator[dict[str, torch.Tensor]]:
    """``pixels`` (n), ``ids`` and ``mask`` (2n captions: the right ones, then the wrong ones) and ``holds`` (n, 2n) of each step.

    Pictures have few groups at first, and words that state nothing come late, as for the small BLIP-2.
    """
    for step in range(steps):
        rng = np.random.default_rng([recipe.seed, _STREAM, step])
        groups = next(most for share, most in CURRICULUM if step < share * steps)
        filled = 0.0 if step < FILLED_FROM * steps else 0.6
        drawn = [sample_contrast(rng, groups, filled, forbidden) for _ in range(recipe.batch_size)]
        captions = [right for _, right, _ in drawn] + [wrong for _, _, wrong in drawn]
        encoded = tokenizer([prompt_text(one) for one in captions], truncation=True, max_length=MAX_TOKENS)
        ids, mask = padded(encoded["input_ids"])
        yield {
            "pixels": scaled(torch.from_numpy(np.stack([picture(shown, rng).pixels for shown, _, _ in drawn]))),
            "ids": ids,
            "mask": mask,
            "holds": torch.tensor([[holds(prompt, shown) for prompt in captions] for shown, _, _ in drawn]),
        }


def build_clip(tokenizer: Any, seed: int) -> Any:
    """The untrained CLIP: three layers of width 128 on each side, 64 shared dimensions."""
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(seed)
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "max_position_embeddings": MAX_TOKENS,
        "bos_token_id": tokenizer.cls_token_id,
        "eos_token_id": tokenizer.sep_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = tower_shape() | {"num_hidden_layers": LAYERS, "layer_norm_eps": 1e-6}
    make: Any = CLIPConfig
    return CLIPModel(make(text_config=text, vision_config=vision, projection_dim=SPACE))


@torch.no_grad()
def start_clip_from_tiny(model: Any, tokenizer: Any, tiny_vlm: Path) -> None:
    """Give a CLIP of :func:`build_clip` the tiny model's vision tower, below a last layer that gathers, and its word embeddings.

    CLIP normalises patches before its first layer, which that tower does not; the norm begins with the tower's usual size of a patch.
    """
    weights = tiny_weights(tiny_vlm)
    tower = tower_of(weights)
    vision = model.vision_model
    layers = {name: value for name, value in tower.items() if name.startswith("encoder.layers.")}
    vision.load_state_dict(layers, strict=False)
    embeddings = vision.embeddings
    embeddings.patch_embedding.weight.copy_(tower["embeddings.patch_embedding.weight"])
    embeddings.position_embedding.weight.zero_()
    embeddings.position_embedding.weight[1:] = (
        tower["embeddings.position_embedding.weight"] + tower["embeddings.patch_embedding.bias"]
    )
    rng = np.random.default_rng(0)
    pixels = scaled(torch.from_numpy(np.stack([picture(sample_picture(rng), rng).pixels for _ in range(64)])))
    vision.pre_layrnorm.weight.fill_(embeddings(pixels)[:, 1:].std(dim=-1).mean())
    embed_words(weights, tiny_vlm, tokenizer, model.text_model.embeddings.token_embedding.weight)


def contrastive_losses(model: Any, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Cross-entropy of each picture's caption among all captions, and of each right caption's picture among all pictures.

    A caption that holds of another picture too is no negative for it.
    """
    logits = model(pixel_values=batch["pixels"], input_ids=batch["ids"], attention_mask=batch["mask"]).logits_per_image
    count = len(logits)
    same = torch.arange(count)
    also = batch["holds"].clone()
    also[same, same] = False
    logits = logits.masked_fill(also, -torch.inf)
    return {"captions": F.cross_entropy(logits, same), "pictures": F.cross_entropy(logits[:, :count].T, same)}


def pretrain_clip(out: Path, tiny_vlm: Path, recipe: ClipRecipe) -> Any:
    """Pre-train the CLIP and write it with its processor to ``out``; returns the training curve."""
    from transformers import CLIPImageProcessor, CLIPProcessor

    torch.set_num_threads(recipe.threads)
    with tempfile.TemporaryDirectory() as work:
        tokenizer = build_tokenizer(Path(work))
    tokenizer.model_input_names = ["input_ids", "attention_mask"]  # CLIP takes no token types
    model = build_clip(tokenizer, recipe.seed).train()
    start_clip_from_tiny(model, tokenizer, tiny_vlm)

    def losses() -> Iterator[dict[str, torch.Tensor]]:
        for batch in contrast_batches(recipe, tokenizer, recipe.steps, of_the_benchmark()):
            with torch.no_grad():
                model.logit_scale.clamp_(max=_MAX_SCALE)
            yield contrastive_losses(model, batch)

    curve = fit([(model.parameters(), recipe.rate)], losses(), recipe.steps, weight_decay=0.01, every=50)
    side = {"height": IMAGE_SIDE, "width": IMAGE_SIDE}
    make: Any = CLIPImageProcessor
    images = make(size={"shortest_edge": IMAGE_SIDE}, crop_size=side, image_mean=list(MEAN), image_std=list(STD))
    with atomic_folder(out) as folder:
        model.save_pretrained(folder)
        make_processor: Any = CLIPProcessor
        make_processor(images, tokenizer).save_pretrained(folder)
    return curve
