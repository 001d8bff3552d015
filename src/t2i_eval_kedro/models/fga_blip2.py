"""FGA-BLIP2 (EvalMuse-40K, arXiv 2412.18150): one score for the image and one for each element of its prompt.

BLIP-2's Q-Former reads 32 query positions, which see the image, and the tokens of the prompt, which see the queries. An image-text
matching head of two classes stands on every position, and p is the probability of its second class:

| score | formula | range |
|---|---|---|
| overall | 1 + 4 x the mean of p over the 32 query positions | 1 to 5 |
| element | the mean of p over the element's tokens | 0 to 1 |

A second, text-only pass feeds a small head that predicts whether a token belongs to an element. The network is transformers'
``Blip2ForImageTextRetrieval``; its own forward averages logits before the softmax, which is another number, so it is not used.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import Blip2Config, Blip2ForImageTextRetrieval

from t2i_eval_kedro.datasets.atomic import atomic_folder
from t2i_eval_kedro.errors import T2IEvalError

MAX_TOKENS = 32
"""Length of the prompt in tokens, [CLS] and [SEP] included; what is longer is cut, as in the released code."""
RELEASED_SHAPE: dict[str, Any] = {
    "vision_config": {
        "hidden_size": 1408,
        "intermediate_size": 6144,
        "num_hidden_layers": 39,
        "num_attention_heads": 16,
    }
    | {"image_size": 364, "patch_size": 14},
    "qformer_config": {"vocab_size": 30523, "encoder_hidden_size": 1408, "use_qformer_text_input": True},
    "num_query_tokens": 32,
    "image_text_hidden_size": 256,
    "image_token_index": None,
}
"""Configuration of the released network: EVA-ViT-g at 364 pixels, a Q-Former of BERT's base size with one more token, [DEC]."""
_WIDTHS = (256, 128, 64, 16, 1)
_PUNCTUATION = re.compile(r'([.!"()*#:;~])')
_WEIGHTS, _CONFIG, _HEAD = "model.safetensors", "config.json", "mask_head"


@dataclass(frozen=True)
class FGAScores:
    """What the network says of a batch of n images and prompts of t tokens.

    Attributes:
        overall: scores of the images, 1 to 5, of shape (n,).
        tokens: probabilities that what a token names is in the image, of shape (n, t).
        membership: probabilities that a token belongs to an element, of shape (n, t).
    """

    overall: torch.Tensor
    tokens: torch.Tensor
    membership: torch.Tensor


class FGABlip2(nn.Module):
    """FGA-BLIP2 on transformers' BLIP-2.

    Args:
        config: a BLIP-2 configuration whose Q-Former takes text (``use_qformer_text_input``).
        activations: rectified linear units between the layers of the mask head. The paper prints its widths (256, 128, 64, 16, 1)
            and not its activations; a checkpoint tells by the names of its layers.
    """

    def __init__(self, config: Blip2Config, *, activations: bool = True) -> None:
        super().__init__()
        qformer: Any = config.qformer_config
        if not qformer.use_qformer_text_input:
            raise T2IEvalError(
                "FGA-BLIP2 needs a Q-Former that reads text; set qformer_config.use_qformer_text_input to true."
            )
        self.blip = Blip2ForImageTextRetrieval(config)
        self.blip.vision_model.post_layernorm.eps = 1e-5  # LAVIS' ln_vision; the blocks of the tower have 1e-6
        self.activations = activations
        layers: list[nn.Module] = []
        width = qformer.hidden_size
        for following in _WIDTHS:
            layers.append(nn.Linear(width, following))
            if activations and following != _WIDTHS[-1]:
                layers.append(nn.ReLU())
            width = following
        self.mask_head = nn.Sequential(*layers)

    def forward(self, pixel_values: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> FGAScores:
        """The scores of n images for their prompts.

        Args:
            pixel_values: images, of shape (n, 3, side, side).
            input_ids: tokens of the prompts, of shape (n, t), with [CLS] first.
            attention_mask: 1 for tokens and 0 for padding, of shape (n, t).
        """
        blip = self.blip
        seen = blip.vision_model(pixel_values=pixel_values).last_hidden_state
        return self.from_features(seen, input_ids, attention_mask)

    def from_features(
        self, image_features: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> FGAScores:
        """The scores, from the vision tower's ``image_features`` of shape (n, patches, width): a frozen tower is run once."""
        blip = self.blip
        queries = blip.query_tokens.expand(len(input_ids), -1, -1)
        count = queries.shape[1]
        states = blip.qformer(
            query_embeds=blip.embeddings(input_ids=input_ids, query_embeds=queries),
            query_length=count,
            attention_mask=torch.cat([attention_mask.new_ones(len(input_ids), count), attention_mask], dim=1),
            encoder_hidden_states=image_features,
            encoder_attention_mask=attention_mask.new_ones(image_features.shape[:2]),
        ).last_hidden_state
        matched = blip.itm_head(states.to(blip.itm_head.weight.dtype)).softmax(dim=-1)[..., 1]
        text = blip.qformer(
            query_embeds=blip.embeddings(input_ids=input_ids), query_length=0, attention_mask=attention_mask
        ).last_hidden_state
        return FGAScores(
            overall=1 + 4 * matched[:, :count].mean(dim=1),
            tokens=matched[:, count:],
            membership=self.mask_head(text).squeeze(-1).sigmoid(),
        )

    def save(self, folder: Path) -> None:
        """Write configuration and weights (safetensors) to ``folder``, whole or not at all."""
        with atomic_folder(folder) as work:
            config = self.blip.config.to_dict() | {"mask_head_activations": self.activations}
            (work / _CONFIG).write_text(json.dumps(config, indent=2, default=str) + "\n", encoding="utf-8")
            save_file({name: value.contiguous() for name, value in self.state_dict().items()}, work / _WEIGHTS)

    @classmethod
    def load(cls, folder: Path) -> FGABlip2:
        """The network that :meth:`save` wrote to ``folder``, in evaluation mode.

        Raises:
            T2IEvalError: a file is missing, or the weights do not fit the configuration.
        """
        try:
            settings = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
            weights = load_file(folder / _WEIGHTS)
        except (OSError, ValueError) as error:
            raise T2IEvalError(
                f"'{folder}' does not hold an FGA-BLIP2 model ({_CONFIG}, {_WEIGHTS}): {error}"
            ) from error
        model = cls(Blip2Config(**settings), activations=settings["mask_head_activations"])
        _fit(model, weights, str(folder))
        return model.eval()


def fga_loss(
    scores: FGAScores,
    rating: torch.Tensor,
    token_labels: torch.Tensor,
    token_mask: torch.Tensor,
    weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """The loss of the released code, the mean over the batch of

    ``w |s - s*| + 0.1 mean_t |p_t m_t - t_t| + 0.1 mean_t |m^_t - m_t|``.

    The variance weight w is in the paper's text alone: the released loss loads it and does not use it. ``None`` is the released loss.

    Args:
        scores: what the network says.
        rating: people's mean scores s*, 1 to 5, of shape (n,).
        token_labels: people's label t_t of the element that a token belongs to, 0 to 1 and 0 outside elements; (s* - 1) / 4 at
            position 0. Of shape (n, t).
        token_mask: m_t, 1 for tokens of elements and for position 0, of shape (n, t).
        weight: w, of shape (n,); :func:`variance_weight`.
    """
    overall = (scores.overall - rating).abs()
    tokens = (scores.tokens * token_mask - token_labels).abs().mean(dim=1)
    membership = (scores.membership - token_mask).abs().mean(dim=1)
    return ((overall if weight is None else weight * overall) + 0.1 * tokens + 0.1 * membership).mean()


def variance_weight(variance: torch.Tensor, kind: str) -> torch.Tensor:
    """Weights of samples whose prompt's scores have ``variance`` (NaN where unknown, which counts as 0), of shape (n,).

    Args:
        variance: variance of people's mean scores over the images of the sample's prompt.
        kind: ``exp``, exp(variance), which a commented line of the released code has; ``normalised``, the same divided by its mean
            over the batch, so that the loss keeps its size (ours).
    """
    weight = variance.nan_to_num(0.0).exp()
    if kind == "exp":
        return weight
    if kind == "normalised":
        return weight / weight.mean()
    raise T2IEvalError(f"'{kind}' is not a variance weight; expected exp or normalised.")


def clean(text: str) -> str:
    """``text`` as BLIP-2 was trained on it: lower case, ``. ! " ( ) * # : ; ~`` as blanks, single blanks, at most 50 words.

    Examples:
        >>> clean('A "red" fox; in snow.')
        'a red fox in snow'
    """
    return " ".join(_PUNCTUATION.sub(" ", text.lower()).split()[:50])


def element_positions(tokenizer: Any, prompt: str, element: str) -> list[int] | None:
    """Token positions of ``element`` in ``prompt``, [CLS] at 0; None where its words are not in the tokens that are read.

    Both are cleaned in the same way. The released code cleans the prompt alone, which shifts the positions of every element
    whose prompt has punctuation and loses those that have it themselves.

    Args:
        tokenizer: BERT's, fast, as the model's.
        prompt: the whole prompt.
        element: its text, a run of whole words of the prompt. Of several places the first counts.
    """
    text, phrase = clean(prompt), clean(element)
    place = re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", text) if phrase else None
    if place is None:
        return None
    encoded = tokenizer(text, truncation=True, max_length=MAX_TOKENS, return_offsets_mapping=True)
    positions = [
        at
        for at, (start, end) in enumerate(encoded["offset_mapping"])
        if start < end and start >= place.start() and end <= place.end()
    ]
    covered = encoded["offset_mapping"][positions[-1]][1] if positions else 0
    return positions if covered == place.end() else None  # an element that is cut off is not scored


def token_targets(
    tokenizer: Any, prompt: str, elements: Mapping[str, float], rating: float
) -> tuple[list[float], list[float], list[str]]:
    """Token labels and token mask of one sample for :func:`fga_loss`, of MAX_TOKENS numbers each, and the elements not found.

    Args:
        tokenizer: as in :func:`element_positions`.
        prompt: the whole prompt.
        elements: people's label of each element, 0 to 1.
        rating: people's mean score, 1 to 5.
    """
    labels, mask, lost = [0.0] * MAX_TOKENS, [0.0] * MAX_TOKENS, []
    for element, label in elements.items():
        positions = element_positions(tokenizer, prompt, element)
        if positions is None:
            lost.append(element)
        for at in positions or ():
            labels[at], mask[at] = float(label), 1.0
    labels[0], mask[0] = (rating - 1) / 4, 1.0
    return labels, mask, lost


def element_scores(tokens: Sequence[float], positions: Mapping[str, Sequence[int] | None]) -> dict[str, float | None]:
    """Score of each element, 0 to 1, from the token probabilities of one image; None for an element that was not found."""
    return {
        element: None if at is None else sum(float(tokens[i]) for i in at) / len(at)
        for element, at in positions.items()
    }


def convert_checkpoint(path: Path, config: Blip2Config, folder: Path) -> None:
    """Write the authors' checkpoint ``path`` as a model folder that :meth:`FGABlip2.load` reads.

    Names map one to one: ``visual_encoder.*`` (with one bias for queries and values, keys without), ``ln_vision``, ``Qformer.bert.*``,
    ``query_tokens``, ``itm_head``, ``vision_proj``, ``text_proj``, ``mask_proj``. The head of the language model and the temperature are
    not needed.

    Args:
        path: a state dict, or a mapping with one under ``model``, as torch saves it; read with ``weights_only=True``.
        config: the configuration of the network.
        folder: where to write.

    Raises:
        T2IEvalError: the file cannot be read, or its weights do not fit ``config``; names the first few.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is none of its own
        raise T2IEvalError(f"'{path}' cannot be read as a checkpoint of tensors: {error}") from error
    state = state.get("model", state)
    layers = sorted({int(name.split(".")[2]) for name in state if name.startswith("mask_proj.layers.")})
    plain = [0, 2, 4, 6, 7]  # with dropout between the layers and no activations
    rectified = [0, 3, 6, 9, 11]
    if layers not in (plain, rectified):
        raise T2IEvalError(
            f"'{path}' does not hold FGA-BLIP2's mask head: expected mask_proj.layers {rectified} or {plain}, found {layers}."
        )
    model = FGABlip2(config, activations=layers == rectified)
    _fit(model, convert_names(state, layers), str(path))
    model.save(folder)


_RENAMES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"^visual_encoder\.cls_token$", "blip.vision_model.embeddings.class_embedding"),
        (r"^visual_encoder\.pos_embed$", "blip.vision_model.embeddings.position_embedding"),
        (r"^visual_encoder\.patch_embed\.proj\.", "blip.vision_model.embeddings.patch_embedding."),
        (r"^visual_encoder\.blocks\.(\d+)\.norm([12])\.", r"blip.vision_model.encoder.layers.\1.layer_norm\2."),
        (r"^visual_encoder\.blocks\.(\d+)\.attn\.proj\.", r"blip.vision_model.encoder.layers.\1.self_attn.projection."),
        (r"^visual_encoder\.blocks\.(\d+)\.attn\.qkv\.", r"blip.vision_model.encoder.layers.\1.self_attn.qkv."),
        (r"^visual_encoder\.blocks\.(\d+)\.mlp\.", r"blip.vision_model.encoder.layers.\1.mlp."),
        (r"^ln_vision\.", "blip.vision_model.post_layernorm."),
        (r"^Qformer\.bert\.embeddings\.LayerNorm\.", "blip.qformer.layernorm."),
        (r"^Qformer\.bert\.embeddings\.", "blip.embeddings."),
        (r"^Qformer\.bert\.(encoder\.layer\.\d+\.(?:cross)?attention)\.self\.", r"blip.qformer.\1.attention."),
        (r"^Qformer\.bert\.", "blip.qformer."),
        (r"^vision_proj\.", "blip.vision_projection."),
        (r"^text_proj\.", "blip.text_projection."),
        (r"^(query_tokens$|itm_head\.)", r"blip.\1"),
    )
)
_UNUSED = re.compile(r"^(Qformer\.cls\.|temp$|Qformer\.bert\.embeddings\.position_ids$)")


def convert_names(state: Mapping[str, torch.Tensor], mask_layers: Sequence[int]) -> dict[str, torch.Tensor]:
    """The authors' weights under the names of :class:`FGABlip2`; ``mask_layers`` are the numbers of the mask head's layers."""
    converted: dict[str, torch.Tensor] = {}
    rectified = mask_layers[1] == 3
    for name, value in state.items():
        if _UNUSED.match(name) or name.endswith((".q_bias", ".v_bias")):
            continue
        if name.startswith("mask_proj.layers."):
            _, _, number, kind = name.split(".")
            at = mask_layers.index(int(number)) * (2 if rectified else 1)
            converted[f"{_HEAD}.{at}.{kind}"] = value
            continue
        renamed = name
        for pattern, replacement in _RENAMES:
            renamed, changed = pattern.subn(replacement, name)
            if changed:
                break
        converted[renamed] = value.float()
    for name, queries in state.items():
        if name.endswith(".attn.q_bias"):
            block = name.removesuffix("q_bias")
            number = block.split(".")[2]
            bias = torch.cat([queries, torch.zeros_like(queries), state[f"{block}v_bias"]]).float()
            converted[f"blip.vision_model.encoder.layers.{number}.self_attn.qkv.bias"] = bias
    return converted


def _fit(model: FGABlip2, weights: Mapping[str, torch.Tensor], source: str) -> None:
    """Load ``weights`` into ``model``, all of them and nothing else."""
    parameters = model.state_dict()
    wrong = sorted(
        [f"{name}: missing" for name in parameters.keys() - weights.keys()]
        + [f"{name}: unexpected" for name in weights.keys() - parameters.keys()]
        + [
            f"{name}: shape {tuple(weights[name].shape)}, expected {tuple(parameters[name].shape)}"
            for name in parameters.keys() & weights.keys()
            if weights[name].shape != parameters[name].shape
        ]
    )
    if wrong:
        raise T2IEvalError(f"The weights of '{source}' do not fit the configuration: {'; '.join(wrong[:5])}.")
    model.load_state_dict(dict(weights))
