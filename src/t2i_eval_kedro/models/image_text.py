"""Published image-text scores that judges are compared with, each by its published formula.

| kind | formula | range | source |
|---|---|---|---|
| ``clip_score`` | 2.5 max(cos, 0), with "A photo depicts " before the prompt | 0 to 2.5 | EMNLP 2021, arXiv 2104.08718 |
| ``pick_score`` | exp(logit scale) cos | about 10 to 30 | NeurIPS 2023, arXiv 2305.01569 |
| ``hps_v2`` | cos | -1 to 1 | arXiv 2306.09341 |
| ``blip2_score`` | probability of the class "match" of BLIP-2's matching head | 0 to 1 | "BLIPv2Score" of EvalMuse-40K, whose formula is not printed; this reading is ours |
| ``image_reward`` | (MLP([CLS] of the text encoder that sees the image) - 0.167) / 1.033 | about -2 to 2 | NeurIPS 2023, arXiv 2304.05977 |
| ``vqa_score`` | probability of "Yes" as the next token, over the whole vocabulary | 0 to 1 | ECCV 2024, arXiv 2404.01291 |

Higher is better in all of them, and no two share a scale. :func:`convert` brings the authors' checkpoints of HPSv2 (open_clip) and
ImageReward into folders that these scorers load; the others' are transformers' own.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from t2i_eval_kedro.datasets.atomic import atomic_folder
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.models.answers import answer_tokens
from t2i_eval_kedro.models.loading import device_of, load_model, model_folder
from t2i_eval_kedro.models.processors import ImageSource, encode, load_processor
from t2i_eval_kedro.models.settings import ScorerSettings
from t2i_eval_kedro.models.weights import load_exactly

REWARD_MEAN, REWARD_STD = 0.16717362830052426, 1.0333394966054072
"""What ImageReward's network says is standardised by, from the released code."""
REWARD_TOKENS = 35
_REWARD_WIDTHS = (1024, 128, 64, 16, 1)


Scorer = Callable[[Sequence[Any], Sequence[str]], list[float]]
"""Images and what is written about each -> scores."""


def open_scorer(settings: ScorerSettings, device: str = "auto") -> Scorer:
    """What computes the score of ``settings``, on ``device`` (see :func:`~t2i_eval_kedro.models.loading.device_of`).

    Raises:
        T2IEvalError: the network cannot be loaded, or does not fit the formula.
    """
    makers = {"image_reward": _image_reward, "vqa_score": _vqa_score, "blip2_score": _blip2_score}
    make = makers.get(settings.kind, _contrastive)
    try:
        return make(settings, device_of(device))
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).strip().split("\n")[0]
        raise T2IEvalError(f"The network '{settings.model}' of {settings.kind} cannot be loaded: {reason}") from error


def score(
    scorer: Scorer, settings: ScorerSettings, images: ImageSource, pairs: Sequence[tuple[str, str]]
) -> list[float]:
    """The scores of ``pairs`` of an image's key and its prompt, in batches."""
    scores: list[float] = []
    for start in range(0, len(pairs), settings.batch_size):
        chosen = pairs[start : start + settings.batch_size]
        texts = [settings.text.replace("{prompt}", prompt) for _, prompt in chosen]
        with torch.no_grad():
            scores += scorer([images.image(key) for key, _ in chosen], texts)
    return scores


def _load(loader: Any, settings: ScorerSettings, name: str | None = None) -> Any:
    source = name or settings.model
    local = model_folder(source) is not None
    more = {} if name else {"use_safetensors": True}
    return loader.from_pretrained(source, revision=None if name else settings.revision, local_files_only=local, **more)


def _contrastive(settings: ScorerSettings, device: str) -> Scorer:
    from transformers import AutoModel, AutoProcessor

    model = _load(AutoModel, settings).to(device).eval()
    processor = _load(AutoProcessor, settings, settings.processor or settings.model)
    if not hasattr(model, "logit_scale"):
        raise ValueError("it has no features of images and texts; choose a CLIP-class model")

    def scores(images: Sequence[Any], texts: Sequence[str]) -> list[float]:
        tokens = processor.tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        pixels = processor.image_processor(images=list(images), return_tensors="pt")["pixel_values"]
        out = model(pixel_values=pixels.to(device), **tokens.to(device))
        cosines = nn.functional.cosine_similarity(out.image_embeds.float(), out.text_embeds.float())
        if settings.kind == "clip_score":
            cosines = 2.5 * cosines.clamp(min=0)
        elif settings.kind == "pick_score":
            cosines = model.logit_scale.exp() * cosines
        return [float(value) for value in cosines]

    return scores


def _blip2_score(settings: ScorerSettings, device: str) -> Scorer:
    from transformers import AutoProcessor, AutoTokenizer, Blip2ForImageTextRetrieval

    folder = Path(settings.model)
    if (folder / "config.json").is_file() and "mask_head_activations" in (folder / "config.json").read_text():
        from t2i_eval_kedro.models.fga_blip2 import FGABlip2

        network = FGABlip2.load(folder).to(device)
        load: Any = AutoTokenizer
        tokenizer = _load(load, settings, settings.processor or settings.model)

        def matching(images: Sequence[Any], texts: Sequence[str]) -> list[float]:
            tokens = tokenizer(
                list(texts), padding=True, truncation=True, max_length=network.max_tokens, return_tensors="pt"
            ).to(device)
            seen = network.image_features(network.pixels(images).to(device))
            logits = network.matching(seen, tokens["input_ids"], tokens["attention_mask"])
            return [float(value) for value in logits.sigmoid()]

        return matching
    model = _load(Blip2ForImageTextRetrieval, settings).to(device).eval()
    processor: Any = _load(AutoProcessor, settings, settings.processor or settings.model)

    def scores(images: Sequence[Any], texts: Sequence[str]) -> list[float]:
        inputs = processor(images=list(images), text=list(texts), padding=True, truncation=True, return_tensors="pt")
        logits = model(**inputs.to(device), use_image_text_matching_head=True).logits_per_image
        return [float(value) for value in logits.float().softmax(dim=-1)[:, 1]]

    return scores


class RewardNetwork(nn.Module):
    """ImageReward's network: BLIP's image encoder, its text encoder that looks at the image, and an MLP without activations.

    Args:
        vision: configuration of transformers' ``BlipVisionModel``.
        text: configuration of transformers' ``BlipTextModel``.
    """

    def __init__(self, vision: Any, text: Any) -> None:
        from transformers.models.blip.modeling_blip import BlipVisionModel
        from transformers.models.blip.modeling_blip_text import BlipTextModel

        super().__init__()
        self.vision = BlipVisionModel(vision)
        self.text = BlipTextModel(text, add_pooling_layer=False)
        widths = [text.hidden_size, *_REWARD_WIDTHS]
        self.mlp = nn.Sequential(*(nn.Linear(a, b) for a, b in itertools.pairwise(widths)))

    def forward(
        self, pixel_values: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> torch.Tensor:
        """Rewards of images (n, 3, side, side) for prompts (n, t), of shape (n,)."""
        seen = self.vision(pixel_values=pixel_values).last_hidden_state
        states = self.text(
            input_ids=input_ids,
            attention_mask=attention_mask,
            encoder_hidden_states=seen,
            encoder_attention_mask=torch.ones(seen.shape[:2], dtype=torch.long, device=seen.device),
            is_decoder=False,
        ).last_hidden_state
        rewards: torch.Tensor = (self.mlp(states[:, 0]).squeeze(-1) - REWARD_MEAN) / REWARD_STD
        return rewards


def reward_network(shape: Mapping[str, Any]) -> RewardNetwork:
    """The network of ``shape``: settings of its ``vision`` and ``text`` part beside the released ones."""
    from transformers import BlipTextConfig, BlipVisionConfig

    make_vision: Any = BlipVisionConfig
    make_text: Any = BlipTextConfig
    vision = make_vision(**{"layer_norm_eps": 1e-6} | dict(shape["vision"]))
    text = make_text(**{"is_decoder": True, "layer_norm_eps": 1e-12} | dict(shape["text"]))
    return RewardNetwork(vision, text).eval()


REWARD_SHAPE: dict[str, Any] = {
    "vision": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "image_size": 224,
        "patch_size": 16,
    },
    "text": {"vocab_size": 30524, "encoder_hidden_size": 1024, "num_attention_heads": 12},
}
"""Shape of the released ImageReward."""
CLIP_H_SHAPE: dict[str, Any] = {
    "projection_dim": 1024,
    "vision_config": {
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "num_attention_heads": 16,
        "image_size": 224,
        "patch_size": 14,
        "hidden_act": "gelu",
    },
    "text_config": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "hidden_act": "gelu",
        "eos_token_id": 49407,
        "bos_token_id": 49406,
    },
}
"""Shape of HPSv2: open_clip's ViT-H-14."""


def _image_reward(settings: ScorerSettings, device: str) -> Scorer:
    from transformers import AutoTokenizer

    from t2i_eval_kedro.models.fga_blip2 import IMAGE_MEAN, IMAGE_STD

    folder = Path(settings.model)
    shape = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    network = reward_network(shape)
    load_exactly(network, load_file(folder / "model.safetensors"), settings.model)
    network.to(device)
    load: Any = AutoTokenizer
    tokenizer = _load(load, settings, settings.processor or settings.model)
    side: int = shape["vision"]["image_size"]

    def scores(images: Sequence[Any], texts: Sequence[str]) -> list[float]:
        tokens = tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=REWARD_TOKENS, return_tensors="pt"
        ).to(device)
        pixels = torch.stack([_cropped(image, side, IMAGE_MEAN, IMAGE_STD) for image in images]).to(device)
        return [float(value) for value in network(pixels, tokens["input_ids"], tokens["attention_mask"])]

    return scores


def _cropped(image: Any, side: int, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """An RGB image with its shorter side resized to ``side`` (bicubic), cropped at the centre and normalised, (3, side, side)."""
    import numpy as np
    from PIL.Image import Resampling

    scale = side / min(image.size)
    width, height = (max(side, round(length * scale)) for length in image.size)
    resized = image.convert("RGB").resize((width, height), Resampling.BICUBIC)
    left, top = round((width - side) / 2), round((height - side) / 2)
    values = np.asarray(resized.crop((left, top, left + side, top + side)), dtype=np.float32) / 255
    return torch.from_numpy((values - np.array(mean)) / np.array(std)).float().permute(2, 0, 1)


def _vqa_score(settings: ScorerSettings, device: str) -> Scorer:
    model = load_model(settings.model, device=device, revision=settings.revision).eval()
    processor = load_processor(settings.processor or settings.model)
    (answer,) = answer_tokens(processor, [settings.answer])
    if len(answer) != 1:
        raise T2IEvalError(
            f"The answer '{settings.answer}' is {len(answer)} tokens of '{settings.model}', not one; set another answer."
        )

    def scores(images: Sequence[Any], texts: Sequence[str]) -> list[float]:
        chats = [[{"role": "user", "text": text, "images": [str(n)]}] for n, text in enumerate(texts)]
        inputs = encode(processor, chats, _Listed(images)).to(model.device)
        logits = model(**inputs, use_cache=False, logits_to_keep=1).logits[:, -1]
        return [float(value) for value in logits.float().softmax(dim=-1)[:, answer[0]]]

    return scores


class _Listed:
    """An image source over a list, by number."""

    def __init__(self, images: Sequence[Any]) -> None:
        self._images = images

    def image(self, key: str) -> Any:
        return self._images[int(key)]


def convert(
    kind: Literal["hps_v2", "image_reward"], path: Path, folder: Path, shape: Mapping[str, Any] | None = None
) -> None:
    """Write the authors' checkpoint ``path`` as a folder that :func:`open_scorer` reads, with weights in safetensors.

    Args:
        kind: whose checkpoint it is.
        path: state dict, alone or under ``state_dict``, as torch saves it; read with ``weights_only=True``.
        folder: where to write. Tokenizer and image processor are not in a checkpoint; the settings name them.
        shape: shape of the network, of the released one where None.

    Raises:
        T2IEvalError: the file cannot be read, or its weights do not fit the shape; names the first few.
    """
    from transformers import CLIPConfig, CLIPModel

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is none of its own
        raise T2IEvalError(f"'{path}' cannot be read as a checkpoint of tensors: {error}") from error
    state = {name: value.float() for name, value in state.get("state_dict", state).items()}
    if kind == "image_reward":
        used = shape or REWARD_SHAPE
        network: Any = reward_network(used)
        load_exactly(network, image_reward_names(state), str(path))
        with atomic_folder(folder) as work:
            (work / "config.json").write_text(json.dumps(used, indent=2) + "\n", encoding="utf-8")
            save_file(
                {name: value.contiguous() for name, value in network.state_dict().items()}, work / "model.safetensors"
            )
        return
    make: Any = CLIPConfig
    network = CLIPModel(make(**(shape or CLIP_H_SHAPE)))
    load_exactly(network, open_clip_names(state), str(path))
    with atomic_folder(folder) as work:
        network.save_pretrained(work)


_BLIP = (
    (r"^blip\.visual_encoder\.cls_token$", "vision.embeddings.class_embedding"),
    (r"^blip\.visual_encoder\.pos_embed$", "vision.embeddings.position_embedding"),
    (r"^blip\.visual_encoder\.patch_embed\.proj\.", "vision.embeddings.patch_embedding."),
    (r"^blip\.visual_encoder\.norm\.", "vision.post_layernorm."),
    (r"^blip\.visual_encoder\.blocks\.(\d+)\.norm([12])\.", r"vision.encoder.layers.\1.layer_norm\2."),
    (r"^blip\.visual_encoder\.blocks\.(\d+)\.attn\.proj\.", r"vision.encoder.layers.\1.self_attn.projection."),
    (r"^blip\.visual_encoder\.blocks\.(\d+)\.attn\.qkv\.", r"vision.encoder.layers.\1.self_attn.qkv."),
    (r"^blip\.visual_encoder\.blocks\.(\d+)\.mlp\.", r"vision.encoder.layers.\1.mlp."),
    (r"^blip\.text_encoder\.", "text."),
)
_OPEN_CLIP = (
    (r"^visual\.class_embedding$", "vision_model.embeddings.class_embedding"),
    (r"^visual\.positional_embedding$", "vision_model.embeddings.position_embedding.weight"),
    (r"^visual\.conv1\.", "vision_model.embeddings.patch_embedding."),
    (r"^visual\.ln_pre\.", "vision_model.pre_layrnorm."),
    (r"^visual\.ln_post\.", "vision_model.post_layernorm."),
    (r"^visual\.transformer\.resblocks\.", "vision_model.encoder.layers."),
    (r"^transformer\.resblocks\.", "text_model.encoder.layers."),
    (r"^token_embedding\.", "text_model.embeddings.token_embedding."),
    (r"^positional_embedding$", "text_model.embeddings.position_embedding.weight"),
    (r"^ln_final\.", "text_model.final_layer_norm."),
    (r"^visual\.proj$", "visual_projection.weight"),
    (r"^text_projection$", "text_projection.weight"),
)
_INNER = (
    (".ln_1.", ".layer_norm1."),
    (".ln_2.", ".layer_norm2."),
    (".attn.out_proj.", ".self_attn.out_proj."),
    (".mlp.c_fc.", ".mlp.fc1."),
    (".mlp.c_proj.", ".mlp.fc2."),
)


def image_reward_names(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """ImageReward's weights under the names of :class:`RewardNetwork`; layers of dropout have numbers there and none here."""
    numbers = sorted({int(name.split(".")[2]) for name in state if name.startswith("mlp.layers.")})
    converted = {}
    for name, value in state.items():
        if name.endswith("position_ids"):
            continue
        if name.startswith("mlp.layers."):
            _, _, number, part = name.split(".")
            converted[f"mlp.{numbers.index(int(number))}.{part}"] = value
        else:
            converted[_renamed(name, _BLIP)] = value
    return converted


def open_clip_names(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """open_clip's weights under the names of transformers' ``CLIPModel``: queries, keys and values apart, projections transposed."""
    converted: dict[str, torch.Tensor] = {}
    for name, value in state.items():
        renamed = _renamed(name, _OPEN_CLIP)
        for theirs, ours in _INNER:
            renamed = renamed.replace(theirs, ours)
        if ".attn.in_proj_" in renamed:
            layer, _, part = renamed.partition(".attn.in_proj_")
            for kind, piece in zip("qkv", value.chunk(3), strict=True):
                converted[f"{layer}.self_attn.{kind}_proj.{part}"] = piece
        elif name in ("visual.proj", "text_projection"):
            converted[renamed] = value.T
        elif not name.endswith("attn_mask"):
            converted[renamed] = value
    return converted


def _renamed(name: str, patterns: Sequence[tuple[str, str]]) -> str:
    for pattern, replacement in patterns:
        renamed, changed = re.subn(pattern, replacement, name)
        if changed:
            return renamed
    return name
