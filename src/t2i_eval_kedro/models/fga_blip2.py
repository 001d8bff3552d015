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
from typing import Any, Literal

import numpy as np
import torch
from PIL.Image import Resampling
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from transformers import Blip2Config, Blip2ForImageTextRetrieval

from t2i_eval_kedro.datasets.atomic import atomic_folder
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.models.weights import load_exactly

MAX_TOKENS = 32
"""Length of the prompt in tokens, [CLS] and [SEP] included, of the released network; what is longer is cut."""
IMAGE_MEAN, IMAGE_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""What the released network's pixels, 0 to 1, are normalised by (CLIP's)."""
Search = Literal["runs", "windows"]
"""How an element is found in its prompt; :meth:`PromptTokens.positions`."""
Span = tuple[int, int]
"""First and last character, the last one exclusive."""
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
_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")
_ARTICLES = frozenset({"a", "an"})
_NUMBER_WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_COUNTS = dict.fromkeys(_ARTICLES, "1") | {word: str(number) for number, word in enumerate(_NUMBER_WORDS, 1)}
_WINDOW = 3  # a window of an element's words holds at most so many times as many words, and two more


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
        max_tokens: length of a prompt in tokens, [CLS] and [SEP] included; what is longer is cut.
        mean: means of the three channels that pixels, 0 to 1, are normalised by.
        std: their standard deviations.
    """

    def __init__(
        self,
        config: Blip2Config,
        *,
        activations: bool = True,
        max_tokens: int = MAX_TOKENS,
        mean: Sequence[float] = IMAGE_MEAN,
        std: Sequence[float] = IMAGE_STD,
    ) -> None:
        super().__init__()
        self.max_tokens, self.mean, self.std = max_tokens, tuple(mean), tuple(std)
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
        return self.from_features(self.image_features(pixel_values), input_ids, attention_mask)

    def together(
        self, image_features: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> torch.Tensor:
        """The Q-Former's last states over queries, which see the image, and text, which sees the queries: (n, queries + t, width)."""
        return self.layers(image_features, input_ids, attention_mask)[-1]

    def layers(
        self, image_features: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """What the Q-Former's first layer reads, and what each layer says, as in :meth:`together`."""
        blip = self.blip
        queries = blip.query_tokens.expand(len(input_ids), -1, -1)
        count = queries.shape[1]
        states: tuple[torch.Tensor, ...] = blip.qformer(
            query_embeds=blip.embeddings(input_ids=input_ids, query_embeds=queries),
            query_length=count,
            attention_mask=torch.cat([attention_mask.new_ones(len(input_ids), count), attention_mask], dim=1),
            encoder_hidden_states=image_features,
            encoder_attention_mask=attention_mask.new_ones(image_features.shape[:2]),
            output_hidden_states=True,
        ).hidden_states
        return states

    def from_features(
        self, image_features: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> FGAScores:
        """The scores, from the vision tower's ``image_features`` of shape (n, patches, width): a frozen tower is run once."""
        blip = self.blip
        count = blip.query_tokens.shape[1]
        states = self.together(image_features, input_ids, attention_mask)
        matched = blip.itm_head(states.to(blip.itm_head.weight.dtype)).softmax(dim=-1)[..., 1]
        text = blip.qformer(
            query_embeds=blip.embeddings(input_ids=input_ids), query_length=0, attention_mask=attention_mask
        ).last_hidden_state
        return FGAScores(
            overall=1 + 4 * matched[:, :count].mean(dim=1),
            tokens=matched[:, count:],
            membership=self.mask_head(text).squeeze(-1).sigmoid(),
        )

    def matching(
        self, image_features: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> torch.Tensor:
        """The logit of BLIP-2's own image-text matching, of shape (n,): the head's logits averaged over the queries first."""
        states = self.together(image_features, input_ids, attention_mask)
        logits = self.blip.itm_head(states[:, : self.blip.query_tokens.shape[1]]).mean(dim=1)
        difference: torch.Tensor = logits[:, 1] - logits[:, 0]
        return difference

    def image_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """What the vision tower says of images (n, 3, side, side): (n, patches + 1, width)."""
        features: torch.Tensor = self.blip.vision_model(pixel_values=pixel_values).last_hidden_state
        return features

    def pixels(self, images: Sequence[Any]) -> torch.Tensor:
        """RGB images as the network reads them: (n, 3, side, side), resized without keeping proportions (bicubic), normalised."""
        vision: Any = self.blip.config.vision_config
        side = vision.image_size
        resized = [image.convert("RGB").resize((side, side), Resampling.BICUBIC) for image in images]
        values = torch.from_numpy(np.stack([np.asarray(image) for image in resized])).float() / 255
        normalised: torch.Tensor = (values - torch.tensor(self.mean)) / torch.tensor(self.std)
        return normalised.permute(0, 3, 1, 2).contiguous()

    def save(self, folder: Path, tokenizer: Any = None) -> None:
        """Write configuration and weights (safetensors), and the tokenizer where one is given, to ``folder``, whole or not at all."""
        with atomic_folder(folder) as work:
            distinct = {"max_tokens": self.max_tokens, "image_mean": self.mean, "image_std": self.std}
            config = self.blip.config.to_dict() | {"mask_head_activations": self.activations} | distinct
            if tokenizer is not None:
                tokenizer.save_pretrained(work)
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
        model = cls(
            Blip2Config(**settings),
            activations=settings["mask_head_activations"],
            max_tokens=settings.get("max_tokens", MAX_TOKENS),
            mean=settings.get("image_mean", IMAGE_MEAN),
            std=settings.get("image_std", IMAGE_STD),
        )
        load_exactly(model, weights, str(folder))
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


def element_cross_entropy(
    scores: FGAScores, token_labels: torch.Tensor, token_mask: torch.Tensor, share: float
) -> torch.Tensor:
    """Cross-entropy of the tokens of elements, mean over the batch's, with present and absent weighing alike. Ours.

    The released absolute error is least where an uncertain token says what most labels say; this is not. Position 0, which has the
    image's rating, is left out. Without tokens of elements it is 0.

    Args:
        scores: what the network says.
        token_labels: people's label of the element that a token belongs to, 0 to 1, of shape (n, t).
        token_mask: 1 for tokens of elements and for position 0, of shape (n, t).
        share: mean label of the elements that are learned from; a label of 1 weighs 1 / (2 share), one of 0 weighs 1 / (2 (1 - share)).
    """
    labels = token_labels[:, 1:]
    share = min(max(share, 0.01), 0.99)  # labels that are all alike
    weight = token_mask[:, 1:] * (labels / (2 * share) + (1 - labels) / (2 * (1 - share)))
    entropy = F.binary_cross_entropy(scores.tokens[:, 1:], labels, reduction="none")
    return (weight * entropy).sum() / token_mask[:, 1:].sum().clamp(min=1)


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


class PromptTokens:
    """The tokens of one prompt, [CLS] at 0, and where elements stand among them.

    Args:
        tokenizer: BERT's, fast, as the model's.
        prompt: the whole prompt.
        max_tokens: length that it is cut to.
    """

    def __init__(self, tokenizer: Any, prompt: str, max_tokens: int = MAX_TOKENS) -> None:
        self.text = clean(prompt)
        encoded = tokenizer(self.text, truncation=True, max_length=max_tokens, return_offsets_mapping=True)
        self.ids: list[int] = encoded["input_ids"]
        self._offsets: list[tuple[int, int]] = encoded["offset_mapping"]

    def positions(self, element: str, search: Search = "runs") -> list[int] | None:
        """Token positions of ``element``; None where its words are not in the tokens that are read.

        Prompt and element are cleaned in the same way. The released code cleans the prompt alone, which shifts the positions of
        every element whose prompt has punctuation and loses those that have it themselves.

        Args:
            element: its text.
            search: ``runs`` looks for a run of whole words, as published; of several places the first counts. ``windows`` also
                takes, where there is none, the element's words in their order with others between them ("two stars" in "two small
                green stars"), in the shortest such window, does not mind a plural, and takes "a", "one" and "1" for the same count,
                as "two" and "2". Ours.
        """
        return self.within(element_spans(self.text, clean(element), search))

    def within(self, spans: Sequence[Span]) -> list[int] | None:
        """The tokens inside ``spans`` of :attr:`text`; None where there is no span, or one is not read to its end."""
        positions = []
        for first, last in spans:
            inside = [
                i for i, (start, end) in enumerate(self._offsets) if start < end and start >= first and end <= last
            ]
            if not inside or self._offsets[inside[-1]][1] != last:  # an element that is cut off is not scored
                return None
            positions += inside
        return positions or None


def element_spans(text: str, element: str, search: Search = "runs") -> list[Span]:
    """Where ``element`` stands in ``text``, as spans of characters: one of a run of words, or one a word; none where it is in neither.

    Upper and lower case count as one; ``search`` is that of :meth:`PromptTokens.positions`.

    Example:
        >>> element_spans("two small stars", "small star"), element_spans("two small stars", "two star", "windows")
        ([], [(0, 3), (10, 15)])
        >>> element_spans("2 cats and a red fox", "one fox", "windows"), element_spans("a row of cats", "one cat", "windows")
        ([(11, 12), (17, 20)], [])
    """
    place = re.search(rf"(?<!\w){re.escape(element)}(?!\w)", text, re.IGNORECASE) if element else None
    if place is not None:
        return [place.span()]
    return _window(text, element) if search == "windows" else []


def _window(text: str, element: str) -> list[Span]:
    """The words of ``element`` in the shortest window of ``text`` that has them in order; none where it is too long.

    Words as they are come first; where they are in no window, counts are read as numbers (:func:`_count_or_stem`).
    """
    spans = [match.span() for match in _WORD.finditer(text)]
    words = [text[first:last].lower() for first, last in spans]
    asked = [word.lower() for word in _WORD.findall(element)]
    for form in (_stem, _count_or_stem):
        forms, asked_forms = [form(word) for word in words], [form(word) for word in asked]
        best: list[int] = []
        for start in range(len(words)):
            places = _in_order(forms, asked_forms, start)
            if not places or (form is _count_or_stem and not _counts_the_same(words, asked, places)):
                continue
            if not best or places[-1] - places[0] < best[-1] - best[0]:
                best = places
        if best and best[-1] - best[0] < _WINDOW * len(asked) + 2:
            return [spans[at] for at in best]
    return []


def _in_order(words: Sequence[str], asked: Sequence[str], start: int) -> list[int]:
    """Where ``words`` have those of ``asked``, the first at ``start``, each other as early as possible; empty where they have not."""
    if not asked or words[start] != asked[0]:
        return []
    places = [start]
    for word in asked[1:]:
        following = next((at for at in range(places[-1] + 1, len(words)) if words[at] == word), None)
        if following is None:
            return []
        places.append(following)
    return places


def _stem(word: str) -> str:
    """``word`` in lower case without the ending of a plural."""
    return re.sub(r"(?<=ss|sh|ch|.x)es$|(?<=[^s])s$", "", word.lower())


def _count(word: str) -> str | None:
    """The number that ``word`` says, in digits: an article, a number word up to twelve, or digits; None for another word."""
    return word if word.isdecimal() else _COUNTS.get(word)


def _count_or_stem(word: str) -> str:
    """``word`` without the ending of a plural, and a count in digits."""
    return _count(word) or _stem(word)


def _counts_the_same(words: Sequence[str], asked: Sequence[str], places: Sequence[int]) -> bool:
    """Whether each count of ``asked`` that stands in ``words`` in another form counts the same thing there.

    The word that it counts follows, with no other count between ("a row of two cats" is not one cat), and an article counts a
    singular ("a row of cats" is not one cat either).
    """
    for at, (place, word) in enumerate(zip(places, asked, strict=True)):
        if _count(word) is None or words[place] == word:
            continue
        if at + 1 == len(asked):
            return False
        counted = places[at + 1]
        if any(_count(between) is not None for between in words[place + 1 : counted]):
            return False
        if _ARTICLES & {word, words[place]} and words[counted] != asked[at + 1]:
            return False
    return True


def element_positions(tokenizer: Any, prompt: str, element: str, max_tokens: int = MAX_TOKENS) -> list[int] | None:
    """Token positions of ``element`` in ``prompt``, [CLS] at 0, as :meth:`PromptTokens.positions` finds them."""
    return PromptTokens(tokenizer, prompt, max_tokens).positions(element)


def located(
    tokens: PromptTokens,
    elements: Mapping[str, str],
    parents: Mapping[str, Sequence[str]] | None = None,
    search: Search = "runs",
) -> dict[str, list[int] | None]:
    """Token positions of every element of a prompt; None for one that is not found.

    Args:
        tokens: the prompt's.
        elements: text of each element, by its identifier.
        parents: identifiers of the elements that an element presupposes, where known ("square" of "red square"). Their tokens are then
            left out of its own, as long as any remain, so that a token says one thing. None as published: elements share tokens.
        search: see :meth:`PromptTokens.positions`.
    """
    spans = {name: element_spans(tokens.text, clean(text), search) for name, text in elements.items()}
    distinct = spans if parents is None else own_spans(tokens.text, spans, parents)
    return {name: tokens.within(distinct[name]) if tokens.within(spans[name]) else None for name in spans}


def own_spans(
    text: str, spans: Mapping[str, list[Span]], parents: Mapping[str, Sequence[str]]
) -> dict[str, list[Span]]:
    """``spans`` (element -> places in ``text``) without the words of what each element presupposes, as long as any remain.

    A word counts as a parent's wherever it stands: "circle" of "red circle" may be another place than the first "circle".

    Example:
        >>> own_spans("a red fox", {"fox": [(6, 9)], "color": [(2, 9)]}, {"color": ["fox"]})
        {'fox': [(6, 9)], 'color': [(2, 5)]}
    """

    def words(places: Sequence[Span]) -> list[Span]:
        return [match.span() for start, end in places for match in _WORD.finditer(text, start, end)]

    distinct = {}
    for name, places in spans.items():
        shared = {_stem(text[a:b]) for parent in parents.get(name, ()) for a, b in words(spans.get(parent, []))}
        kept = [(a, b) for a, b in words(places) if _stem(text[a:b]) not in shared]
        distinct[name] = kept if shared and kept else places
    return distinct


def token_targets(
    positions: Mapping[str, Sequence[int] | None], labels: Mapping[str, float], rating: float, length: int = MAX_TOKENS
) -> tuple[list[float], list[float]]:
    """Token labels and token mask of one sample for :func:`fga_loss`, of ``length`` numbers each.

    A token of several elements gets the mean of their labels, as in the released code. An element that is not found is left
    out; the sample stays, which the released code drops.

    Args:
        positions: token positions of each element; None for one that is not found.
        labels: people's label of each element, 0 to 1.
        rating: people's mean score, 1 to 5.
        length: number of tokens.
    """
    collected: list[list[float]] = [[] for _ in range(length)]
    for element, label in labels.items():
        for at in positions.get(element) or ():
            collected[at].append(float(label))
    values, mask = (
        [sum(some) / len(some) if some else 0.0 for some in collected],
        [float(bool(some)) for some in collected],
    )
    values[0], mask[0] = (rating - 1) / 4, 1.0
    return values, mask


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
    load_exactly(model, convert_names(state, layers), str(path))
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
