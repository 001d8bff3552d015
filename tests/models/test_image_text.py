"""Published scores equal a plain-torch computation on random weights in the authors' layouts (open_clip, ImageReward's BLIP)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from random_model import Pictures, build_model
from torch.nn import functional as F
from transformers import BertTokenizerFast, CLIPImageProcessor, CLIPProcessor

from t2i_eval_kedro.cli.convert_judge import convert_judge
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.models.fga_blip2 import IMAGE_MEAN, IMAGE_STD
from t2i_eval_kedro.models.image_text import (
    CLIP_H_SHAPE,
    REWARD_MEAN,
    REWARD_STD,
    convert,
    open_scorer,
    reward_network,
    score,
)
from t2i_eval_kedro.models.loading import load_model
from t2i_eval_kedro.models.processors import encode, load_processor
from t2i_eval_kedro.models.settings import ScorerSettings
from t2i_eval_kedro.training.heads.towers import build_blip, build_tokenizer

WIDTH, HEADS, LAYERS, SIDE, PATCH, WORDS, LENGTH, SPACE = 16, 2, 2, 28, 14, 12, 10, 6
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "cat", "photo", "depicts", "on", "mats"]
SEP = 3
PROMPTS = ("a red cat", "a cat on mats", "red")
COLORS = ("red", "green", "blue")
IMAGES = Pictures(
    {
        color: Image.fromarray(
            np.random.default_rng(n).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8).astype(np.uint8)
        )
        for n, color in enumerate(COLORS)
    }
)
PAIRS = list(zip(COLORS, PROMPTS, strict=True))
CLIP_SHAPE = {
    "projection_dim": SPACE,
    "vision_config": {
        "hidden_size": WIDTH,
        "intermediate_size": 32,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "image_size": SIDE,
        "patch_size": PATCH,
        "hidden_act": "gelu",
    },
    "text_config": {
        "hidden_size": WIDTH,
        "intermediate_size": 32,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "vocab_size": WORDS,
        "max_position_embeddings": LENGTH,
        "hidden_act": "gelu",
        "eos_token_id": SEP,
    },
}
REWARD_SHAPE = {
    "vision": {
        "hidden_size": WIDTH,
        "intermediate_size": 32,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "image_size": SIDE,
        "patch_size": PATCH,
    },
    "text": {
        "hidden_size": WIDTH,
        "encoder_hidden_size": WIDTH,
        "intermediate_size": 32,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "vocab_size": WORDS,
        "max_position_embeddings": 40,
    },
}
State = dict[str, torch.Tensor]


class Weights:
    """Random weights by name, drawn when they are first asked for."""

    def __init__(self) -> None:
        self.state: State = {}
        self._generator = torch.Generator().manual_seed(0)

    def draw(self, name: str, *shape: int, scale: float = 0.3, around: float = 0.0) -> None:
        self.state[name] = around + scale * torch.randn(*shape, generator=self._generator)

    def linear(self, name: str, out: int, into: int) -> None:
        self.draw(f"{name}.weight", out, into)
        self.draw(f"{name}.bias", out)

    def norm(self, name: str) -> None:
        self.draw(f"{name}.weight", WIDTH, around=1.0)
        self.draw(f"{name}.bias", WIDTH)


def open_clip_state() -> State:
    weights = Weights()
    weights.draw("visual.class_embedding", WIDTH)
    weights.draw("visual.positional_embedding", (SIDE // PATCH) ** 2 + 1, WIDTH)
    weights.draw("visual.conv1.weight", WIDTH, 3, PATCH, PATCH, scale=0.05)
    weights.draw("visual.proj", WIDTH, SPACE)
    weights.draw("token_embedding.weight", WORDS, WIDTH)
    weights.draw("positional_embedding", LENGTH, WIDTH)
    weights.draw("text_projection", WIDTH, SPACE)
    weights.state["logit_scale"] = torch.tensor(2.0)
    for name in ("visual.ln_pre", "visual.ln_post", "ln_final"):
        weights.norm(name)
    for tower in ("visual.transformer", "transformer"):
        for layer in range(LAYERS):
            name = f"{tower}.resblocks.{layer}"
            weights.norm(f"{name}.ln_1")
            weights.norm(f"{name}.ln_2")
            weights.draw(f"{name}.attn.in_proj_weight", 3 * WIDTH, WIDTH)
            weights.draw(f"{name}.attn.in_proj_bias", 3 * WIDTH)
            weights.linear(f"{name}.attn.out_proj", WIDTH, WIDTH)
            weights.linear(f"{name}.mlp.c_fc", 32, WIDTH)
            weights.linear(f"{name}.mlp.c_proj", WIDTH, 32)
    return weights.state


def reward_state() -> State:
    weights = Weights()
    vision, text = "blip.visual_encoder", "blip.text_encoder"
    weights.draw(f"{vision}.cls_token", 1, 1, WIDTH)
    weights.draw(f"{vision}.pos_embed", 1, (SIDE // PATCH) ** 2 + 1, WIDTH)
    weights.draw(f"{vision}.patch_embed.proj.weight", WIDTH, 3, PATCH, PATCH, scale=0.05)
    weights.draw(f"{vision}.patch_embed.proj.bias", WIDTH)
    weights.norm(f"{vision}.norm")
    weights.state[f"{text}.embeddings.position_ids"] = torch.arange(40)[None]
    weights.draw(f"{text}.embeddings.word_embeddings.weight", WORDS, WIDTH)
    weights.draw(f"{text}.embeddings.position_embeddings.weight", 40, WIDTH)
    weights.norm(f"{text}.embeddings.LayerNorm")
    for layer in range(LAYERS):
        name = f"{vision}.blocks.{layer}"
        weights.norm(f"{name}.norm1")
        weights.norm(f"{name}.norm2")
        weights.linear(f"{name}.attn.qkv", 3 * WIDTH, WIDTH)
        weights.linear(f"{name}.attn.proj", WIDTH, WIDTH)
        weights.linear(f"{name}.mlp.fc1", 32, WIDTH)
        weights.linear(f"{name}.mlp.fc2", WIDTH, 32)
        name = f"{text}.encoder.layer.{layer}"
        for kind in ("attention", "crossattention"):
            for part in ("query", "key", "value"):
                weights.linear(f"{name}.{kind}.self.{part}", WIDTH, WIDTH)
            weights.linear(f"{name}.{kind}.output.dense", WIDTH, WIDTH)
            weights.norm(f"{name}.{kind}.output.LayerNorm")
        weights.linear(f"{name}.intermediate.dense", 32, WIDTH)
        weights.linear(f"{name}.output.dense", WIDTH, 32)
        weights.norm(f"{name}.output.LayerNorm")
    width = WIDTH
    for number, following in zip((0, 2, 4, 6, 7), (1024, 128, 64, 16, 1), strict=True):  # dropout stands between
        weights.linear(f"mlp.layers.{number}", following, width)
        weights.state[f"mlp.layers.{number}.weight"] *= 3 / width**0.5
        width = following
    return weights.state


def linear(state: State, name: str, x: torch.Tensor) -> torch.Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def norm(state: State, name: str, x: torch.Tensor, eps: float) -> torch.Tensor:
    centred = x - x.mean(-1, keepdim=True)
    spread = (x.var(-1, unbiased=False, keepdim=True) + eps).sqrt()
    return centred / spread * state[f"{name}.weight"] + state[f"{name}.bias"]


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, keep: torch.Tensor | None) -> torch.Tensor:
    """``keep``: (n, queries or 1, keys), 0 where a key is not seen."""
    q, k, v = (x.reshape(*x.shape[:2], HEADS, -1).transpose(1, 2) for x in (q, k, v))
    weights = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    if keep is not None:
        weights = weights.masked_fill(keep[:, None] == 0, -1e9)
    return (weights.softmax(-1) @ v).transpose(1, 2).flatten(2)


def patches(state: State, weight: str, bias: str | None, pixels: torch.Tensor) -> torch.Tensor:
    x = F.conv2d(pixels, state[weight], stride=PATCH).flatten(2).transpose(1, 2)
    return x if bias is None else x + state[bias]


def open_clip_cosines(state: State, pixels: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    def blocks(tower: str, x: torch.Tensor, keep: torch.Tensor | None) -> torch.Tensor:
        for layer in range(LAYERS):
            name = f"{tower}.resblocks.{layer}"
            y = norm(state, f"{name}.ln_1", x, 1e-5) @ state[f"{name}.attn.in_proj_weight"].T
            y = y + state[f"{name}.attn.in_proj_bias"]
            x = x + linear(state, f"{name}.attn.out_proj", attend(*y.chunk(3, -1), keep))
            y = F.gelu(linear(state, f"{name}.mlp.c_fc", norm(state, f"{name}.ln_2", x, 1e-5)))
            x = x + linear(state, f"{name}.mlp.c_proj", y)
        return x

    x = patches(state, "visual.conv1.weight", None, pixels)
    x = torch.cat([state["visual.class_embedding"].expand(len(x), 1, -1), x], 1) + state["visual.positional_embedding"]
    x = blocks("visual.transformer", norm(state, "visual.ln_pre", x, 1e-5), None)
    image = norm(state, "visual.ln_post", x[:, 0], 1e-5) @ state["visual.proj"]
    x = state["token_embedding.weight"][ids] + state["positional_embedding"][: ids.shape[1]]
    x = norm(state, "ln_final", blocks("transformer", x, torch.ones(ids.shape[1], ids.shape[1]).tril()[None]), 1e-5)
    text = x[torch.arange(len(x)), (ids == SEP).int().argmax(1)] @ state["text_projection"]
    return (image / image.norm(dim=1, keepdim=True) * (text / text.norm(dim=1, keepdim=True))).sum(1)


def rewards(state: State, pixels: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    vision, text = "blip.visual_encoder", "blip.text_encoder"
    x = patches(state, f"{vision}.patch_embed.proj.weight", f"{vision}.patch_embed.proj.bias", pixels)
    x = torch.cat([state[f"{vision}.cls_token"].expand(len(x), -1, -1), x], 1) + state[f"{vision}.pos_embed"]
    for layer in range(LAYERS):
        name = f"{vision}.blocks.{layer}"
        q, k, v = linear(state, f"{name}.attn.qkv", norm(state, f"{name}.norm1", x, 1e-6)).chunk(3, -1)
        x = x + linear(state, f"{name}.attn.proj", attend(q, k, v, None))
        y = F.gelu(linear(state, f"{name}.mlp.fc1", norm(state, f"{name}.norm2", x, 1e-6)))
        x = x + linear(state, f"{name}.mlp.fc2", y)
    image = norm(state, f"{vision}.norm", x, 1e-6)
    h = state[f"{text}.embeddings.word_embeddings.weight"][ids]
    h = h + state[f"{text}.embeddings.position_embeddings.weight"][: ids.shape[1]]
    h = norm(state, f"{text}.embeddings.LayerNorm", h, 1e-12)
    for layer in range(LAYERS):
        name = f"{text}.encoder.layer.{layer}"
        for kind, source, keep in (("attention", None, mask[:, None]), ("crossattention", image, None)):
            parts = [
                linear(state, f"{name}.{kind}.self.{part}", h if part == "query" or source is None else source)
                for part in ("query", "key", "value")
            ]
            y = linear(state, f"{name}.{kind}.output.dense", attend(*parts, keep))
            h = norm(state, f"{name}.{kind}.output.LayerNorm", y + h, 1e-12)
        y = linear(state, f"{name}.output.dense", F.gelu(linear(state, f"{name}.intermediate.dense", h)))
        h = norm(state, f"{name}.output.LayerNorm", y + h, 1e-12)
    h = h[:, 0]
    for number in (0, 2, 4, 6, 7):
        h = linear(state, f"mlp.layers.{number}", h)
    return (h.squeeze(-1) - REWARD_MEAN) / REWARD_STD


def normalised() -> torch.Tensor:
    values = torch.stack([torch.from_numpy(np.asarray(IMAGES.image(color))).float() / 255 for color in COLORS])
    return ((values - torch.tensor(IMAGE_MEAN)) / torch.tensor(IMAGE_STD)).permute(0, 3, 1, 2)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tokenizer and image processor, apart from any network."""
    folder = tmp_path_factory.mktemp("words")
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    tokenizer = BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=LENGTH)
    sizes = {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}}
    CLIPProcessor(image_processor=CLIPImageProcessor(**sizes), tokenizer=tokenizer).save_pretrained(
        folder / "processor"
    )
    tokenizer.save_pretrained(folder / "tokenizer")
    (folder / "tokenizer" / "config.json").write_text('{"model_type": "bert"}')
    (folder / "processor" / "config.json").write_text('{"model_type": "clip"}')
    return folder


def settings(kind: str, model: Path, processor: Path | None = None, **given: object) -> ScorerSettings:
    plain = {"revision": None, "text": "{prompt}", "answer": "", "batch_size": 2}
    return ScorerSettings.model_validate(
        plain | {"kind": kind, "model": str(model), "processor": processor and str(processor)} | given
    )


def scores_of(chosen: ScorerSettings) -> torch.Tensor:
    return torch.tensor(score(open_scorer(chosen), chosen, IMAGES, PAIRS))


def token_ids(words: Path, texts: list[str] | tuple[str, ...], **more: object) -> tuple[torch.Tensor, torch.Tensor]:
    tokenizer = BertTokenizerFast.from_pretrained(words / "tokenizer")
    encoded = tokenizer(list(texts), padding=more.pop("padding", True), return_tensors="pt", **more)
    return encoded["input_ids"], encoded["attention_mask"].float()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    torch.save({"state_dict": open_clip_state()}, folder / "HPS.pt")
    (folder / "shape.json").write_text(json.dumps(CLIP_SHAPE))
    arguments = ["hps_v2", str(folder / "HPS.pt"), str(folder / "model"), "--shape", str(folder / "shape.json")]
    done = CliRunner().invoke(convert_judge, arguments)
    assert done.exit_code == 0, done.output
    return folder / "model"


@pytest.mark.parametrize("kind", ["hps_v2", "clip_score", "pick_score"])
def test_cosines_equal_plain_torch_on_open_clips_weights(kind: str, clip: Path, words: Path) -> None:
    prefix = "a photo depicts " if kind == "clip_score" else ""
    ids, _ = token_ids(words, [prefix + prompt for prompt in PROMPTS])
    cosines = open_clip_cosines(open_clip_state(), normalised(), ids)
    expected = {"hps_v2": cosines, "clip_score": 2.5 * cosines.clamp(min=0), "pick_score": np.exp(2.0) * cosines}[kind]
    given = scores_of(settings(kind, clip, words / "processor", text=prefix + "{prompt}"))
    torch.testing.assert_close(given, expected.float(), rtol=1e-4, atol=1e-5)
    assert cosines.std() > 0.01


def test_image_rewards_equal_plain_torch_and_are_on_no_scale_of_0_to_1(words: Path, tmp_path: Path) -> None:
    state = reward_state()
    torch.save(state, tmp_path / "ImageReward.pt")
    convert("image_reward", tmp_path / "ImageReward.pt", tmp_path / "model", REWARD_SHAPE)
    ids, mask = token_ids(words, PROMPTS, padding="max_length", max_length=35, truncation=True)
    expected = rewards(state, normalised(), ids, mask)
    given = scores_of(settings("image_reward", tmp_path / "model", words / "tokenizer"))
    torch.testing.assert_close(given, expected, rtol=1e-3, atol=1e-4)
    assert expected.std() > 0.01
    assert ((expected < 0) | (expected > 1)).any()


def test_inputs_go_where_the_network_is(clip: Path, words: Path, tmp_path: Path) -> None:
    """Seen without a GPU: a network on torch's device ``meta`` refuses what lies elsewhere, and has no values to give in the end."""
    torch.save(reward_state(), tmp_path / "ImageReward.pt")
    convert("image_reward", tmp_path / "ImageReward.pt", tmp_path / "reward", REWARD_SHAPE)
    tokenizer = build_tokenizer(tmp_path)
    build_blip(len(tokenizer), 0).save(tmp_path / "blip", tokenizer)
    vqa = build_model(tmp_path / "llava")
    for chosen in (
        settings("hps_v2", clip, words / "processor"),
        settings("image_reward", tmp_path / "reward", words / "tokenizer"),
        settings("blip2_score", tmp_path / "blip"),
        settings("vqa_score", vqa, answer="y"),
    ):
        with pytest.raises(RuntimeError, match=r"item\(\) cannot be called on meta tensors"):
            score(open_scorer(chosen, "meta"), chosen, IMAGES, PAIRS)


def test_a_checkpoint_of_another_shape_is_refused_and_no_code_is_run(tmp_path: Path) -> None:
    torch.save(reward_state() | {"mlp.layers.7.bias": torch.zeros(2)}, tmp_path / "bad.pt")
    with pytest.raises(T2IEvalError, match=r"mlp\.4\.bias: shape \(2,\), expected \(1,\)"):
        convert("image_reward", tmp_path / "bad.pt", tmp_path / "out", REWARD_SHAPE)

    class Harm:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "harm",))

    torch.save({"state_dict": Harm()}, tmp_path / "harm.pt")
    with pytest.raises(T2IEvalError, match="cannot be read as a checkpoint"):
        convert("hps_v2", tmp_path / "harm.pt", tmp_path / "out", CLIP_SHAPE)
    assert not (tmp_path / "harm").exists()
    assert not (tmp_path / "out").exists()


def test_the_released_shapes_have_the_authors_sizes() -> None:
    from t2i_eval_kedro.models.image_text import REWARD_SHAPE as RELEASED

    with torch.device("meta"):
        network = reward_network(RELEASED)
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert shapes["vision.embeddings.position_embedding"] == (1, 197, 1024)
    assert shapes["text.encoder.layer.11.crossattention.self.key.weight"] == (768, 1024)
    assert shapes["text.embeddings.word_embeddings.weight"] == (30524, 768)
    assert shapes["mlp.0.weight"] == (1024, 768)
    assert CLIP_H_SHAPE["vision_config"]["num_hidden_layers"] == 32


def test_vqa_score_is_the_probability_of_the_answer_over_the_whole_vocabulary(tmp_path: Path) -> None:
    folder = build_model(tmp_path / "llava")
    chosen = settings("vqa_score", folder, text="{prompt}?", answer="y")
    model, processor = load_model(folder).eval(), load_processor(folder)
    with torch.no_grad():
        expected = [
            model(**encode(processor, [[{"role": "user", "text": f"{prompt}?", "images": [color]}]], IMAGES))
            .logits[0, -1]
            .softmax(-1)[processor.tokenizer.convert_tokens_to_ids("y")]
            for color, prompt in PAIRS
        ]
    torch.testing.assert_close(scores_of(chosen), torch.stack(expected), rtol=1e-3, atol=1e-6)
    with pytest.raises(T2IEvalError, match="'Yes' is 3 tokens"):
        open_scorer(settings("vqa_score", folder, answer="Yes"))


def test_blip2_score_is_the_matching_of_the_pre_trained_network(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(tmp_path)
    network = build_blip(len(tokenizer), 0).eval()
    network.save(tmp_path / "blip", tokenizer)
    tokens = tokenizer(list(PROMPTS), padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = network.blip(
            pixel_values=network.pixels([IMAGES.image(color) for color in COLORS]),
            input_ids=tokens["input_ids"],
            attention_mask=tokens["attention_mask"],
            use_image_text_matching_head=True,
        ).logits_per_image
    expected = logits.softmax(-1)[:, 1]
    torch.testing.assert_close(scores_of(settings("blip2_score", tmp_path / "blip")), expected, rtol=1e-4, atol=1e-6)


def test_a_network_that_there_is_not_is_named(tmp_path: Path) -> None:
    for kind in ("clip_score", "image_reward", "blip2_score"):
        with pytest.raises(T2IEvalError, match=r"none"):
            open_scorer(settings(kind, tmp_path / "none"))
