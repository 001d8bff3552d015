"""A score read from any supported vision-language model, at the place where its answer would begin.

The request is that of the protocol ``levels``. Two readouts share everything else, so that they can be compared on one backbone:

* ``head``: a linear layer on the last hidden state gives the score, and a small network says of each element of the prompt whether it is
  in the image, from the hidden states of the element's own words and of its last one, which has seen all of it;
* ``levels``: the expectation over the level tokens, as Q-Align and iMatch read it.

With a frozen backbone its hidden states are computed once. Trains in one process; a large model needs a GPU that holds it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from t2i_eval_kedro.datasets.atomic import atomic_folder
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.protocols import EvaluationItem, Wording
from t2i_eval_kedro.judging.protocols.base import PromptElement
from t2i_eval_kedro.judging.protocols.registry import ProtocolOptions
from t2i_eval_kedro.models.answers import candidate_sequences
from t2i_eval_kedro.models.fga_blip2 import element_spans, own_spans
from t2i_eval_kedro.models.processors import ImageSource, encode, plain_text, render
from t2i_eval_kedro.models.settings import ModelSettings
from t2i_eval_kedro.training.heads.data import HeadData, HeadItem, perturbed
from t2i_eval_kedro.training.heads.fitting import batches, fit
from t2i_eval_kedro.training.heads.judges import Predictions, View
from t2i_eval_kedro.training.heads.losses import regression_losses
from t2i_eval_kedro.training.heads.settings import DataSettings, ScoreHeadSettings
from t2i_eval_kedro.training.sft import lora_config

_HEAD, _SETTINGS, _ADAPTER = "head.safetensors", "head.json", "adapter_model.safetensors"

Places = Mapping[str, tuple[list[int], int]]
"""Element -> positions of its own words and of its last token, from the end of the request (1 is the last token)."""


class Heads(nn.Module):
    """A linear layer for the score and a small network for the elements, over hidden states of ``width``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 1))
        self.element = nn.Sequential(
            nn.LayerNorm(2 * width), nn.Linear(2 * width, width), nn.GELU(), nn.Linear(width, 1)
        )


@dataclass(frozen=True)
class Reading:
    """What is read from the model for a batch of n requests.

    Attributes:
        last: hidden states at the last token of the requests, of shape (n, width).
        elements: hidden states of each request's elements, of shape (elements, 2 width), and their names.
        logits: logits of the next token, of shape (n, vocabulary).
    """

    last: torch.Tensor
    elements: tuple[tuple[torch.Tensor, tuple[str, ...]], ...]
    logits: torch.Tensor


class ScoreHeadJudge:
    """A judge with a score head or level tokens; see :class:`~t2i_eval_kedro.training.heads.judges.HeadJudge`."""

    def __init__(
        self,
        settings: ScoreHeadSettings,
        model: ModelSettings,
        wording: Wording,
        phrase: str,
        data: HeadData,
        images: ImageSource,
    ) -> None:
        """Load the model, with a new adapter where one is trained.

        Args:
            settings: what is read and learned.
            model: the backbone.
            wording: templates and levels of the request.
            phrase: the dimension in the words that a judge is asked with.
            data: items and elements.
            images: image source.

        Raises:
            T2IEvalError: the model cannot be loaded, or a level is not one token of it.
        """
        self.settings, self._data, self._phrase = settings, data, phrase
        self._images = model.limit(images)
        self._wording = wording
        options = ProtocolOptions(answer_vocabulary=settings.answer_vocabulary, categories=settings.categories)
        self._protocol = options.levels(wording)
        self._processor = model.load_processor()
        self._model = model.load()
        for parameter in self._model.parameters():
            parameter.requires_grad_(False)
        width = self._model.get_input_embeddings().embedding_dim
        self._level_ids = (
            _level_tokens(self._processor, self._protocol.vocabulary.levels) if settings.readout == "levels" else []
        )
        if settings.lora is not None:
            from peft import get_peft_model

            self._model = get_peft_model(self._model, lora_config(settings.lora, self._model, self._level_ids))
        self._device = next(self._model.parameters()).device
        self.heads = Heads(width).to(self._device)
        self._requests: dict[str, tuple[list[dict[str, Any]], Places]] = {}
        self._frozen: dict[str, Reading] = {}

    def fit(self, items: Sequence[HeadItem], data: DataSettings, seed: int) -> pd.DataFrame:
        """Train heads and adapter; the curve has every term of the loss."""
        torch.manual_seed(seed)
        self.heads.apply(_initialise)
        settings = self.settings
        if settings.readout == "head":
            ratings = torch.tensor([item.rating for item in items])
            last: Any = self.heads.score[1]
            nn.init.constant_(last.bias, float(torch.logit(ratings.mean().clamp(0.02, 0.98))))
        plan = batches(len(items), settings.batch_size, settings.epochs, seed)
        parameters = [*self.heads.parameters(), *(p for p in self._model.parameters() if p.requires_grad)]
        self._model.train(settings.lora is not None)
        try:
            return fit(
                [(parameters, settings.learning_rate)],
                self._losses(items, plan, data, seed),
                len(plan),
                weight_decay=settings.weight_decay,
            )
        finally:
            self._model.eval()

    def _losses(
        self, items: Sequence[HeadItem], plan: Sequence[tuple[int, list[int]]], data: DataSettings, seed: int
    ) -> Iterator[dict[str, torch.Tensor]]:
        rng = np.random.default_rng(seed)
        for epoch, rows in plan:
            chosen = [items[row] for row in rows]
            view = View(epoch + 1, data.augment, seed) if data.augment else None
            target = torch.tensor(perturbed(chosen, data.perturbation, rng), device=self._device)
            spread = torch.tensor([item.spread for item in chosen], device=self._device)
            reading = self._read(chosen, view)
            terms = {}
            weights = dict(self.settings.losses)
            entropy = weights.pop("cross_entropy", 0.0)
            if entropy:
                nearest = (target * (len(self._level_ids) - 1)).round().long()
                expected = torch.tensor(self._level_ids, device=self._device)[nearest]
                terms["cross_entropy"] = entropy * F.cross_entropy(reading.logits.float(), expected)
            terms |= regression_losses(weights, self._score(reading), target, spread)
            if self.settings.element_weight:
                terms |= self._element_loss(reading, chosen)
            yield terms

    def _element_loss(self, reading: Reading, items: Sequence[HeadItem]) -> dict[str, torch.Tensor]:
        states, labels = [], []
        for item, (hidden, names) in zip(items, reading.elements, strict=True):
            known = [i for i, name in enumerate(names) if name in item.labels]
            states.append(hidden[known])
            labels += [item.labels[names[i]] for i in known]
        if not labels:
            return {}
        logits = self.heads.element(torch.cat(states)).squeeze(-1)
        expected = torch.tensor(labels, device=self._device)
        return {"elements": self.settings.element_weight * F.binary_cross_entropy_with_logits(logits, expected)}

    def _score(self, reading: Reading) -> torch.Tensor:
        """Scores, 0 to 1, of shape (n,)."""
        if self.settings.readout == "head":
            score: torch.Tensor = self.heads.score(reading.last).squeeze(-1).sigmoid()
            return score
        probabilities = reading.logits[:, self._level_ids].float().softmax(dim=-1)
        return probabilities @ torch.linspace(0, 1, len(self._level_ids), device=self._device)

    def predict(self, items: Sequence[HeadItem], view: View | None = None) -> Predictions:
        """Score ``items`` in batches; elements only where a classifier was trained."""
        scores: dict[str, float] = {}
        elements: dict[str, dict[str, float | None]] = {}
        size = self.settings.batch_size
        with torch.no_grad():
            for start in range(0, len(items), size):
                chosen = items[start : start + size]
                reading = self._read(chosen, view)
                scores |= {item.item_id: s for item, s in zip(chosen, self._score(reading).tolist(), strict=True)}
                if self.settings.element_weight:
                    for item, (hidden, names) in zip(chosen, reading.elements, strict=True):
                        probabilities = self.heads.element(hidden).squeeze(-1).sigmoid().tolist() if names else []
                        parts = self._data.parts.get(item.prompt_id, {})
                        elements[item.item_id] = dict.fromkeys(parts) | dict(zip(names, probabilities, strict=True))
        return Predictions(scores, elements)

    def save(self, folder: Path) -> None:
        """Write the heads, the settings and the adapter where there is one."""
        with atomic_folder(folder) as work:
            save_file({name: value.contiguous() for name, value in self.heads.state_dict().items()}, work / _HEAD)
            (work / _SETTINGS).write_text(self.settings.model_dump_json(indent=2) + "\n", encoding="utf-8")
            if self.settings.lora is not None:
                self._model.save_pretrained(work, save_embedding_layers=False)

    def restore(self, folder: Path) -> None:
        """Take on what :meth:`save` wrote.

        Raises:
            T2IEvalError: it was written with other settings, or does not fit the model.
        """
        try:
            known = json.loads((folder / _SETTINGS).read_text(encoding="utf-8"))
            weights = load_file(folder / _HEAD)
            if known != json.loads(self.settings.model_dump_json()):
                raise ValueError("its settings are others")
            self.heads.load_state_dict(weights)
            if self.settings.lora is not None:
                from peft import set_peft_model_state_dict

                loaded: Any = set_peft_model_state_dict(self._model, load_file(folder / _ADAPTER))
                if loaded.unexpected_keys:
                    raise ValueError(f"its adapter has weights that the model does not: {loaded.unexpected_keys[0]}")
        except (OSError, ValueError, RuntimeError) as error:
            raise T2IEvalError(
                f"'{folder}' does not hold a score head for this model and these settings: {error}"
            ) from error
        self._model.eval()
        self._frozen.clear()

    def _request(self, item: HeadItem) -> tuple[list[dict[str, Any]], Places]:
        """The chat of an item, and where its elements stand in it."""
        key = f"{item.prompt_id}\n{item.image}"
        if key not in self._requests:
            parts = self._data.parts.get(item.prompt_id, {})
            known = tuple(PromptElement(name, part.text, "", part.skill) for name, part in parts.items())
            evaluated = EvaluationItem(
                item.item_id, item.prompt, item.image, {self._data.dimension: self._phrase}, known
            )
            chat = self._protocol.request(evaluated, self._data.dimension, self._phrase).chat
            if self.settings.prompt_kind and item.kind:
                flag = self._wording.render("prompt_kind", kind=item.kind)
                chat = [{**chat[0], "text": f"{flag}\n{chat[0]['text']}"}]
            self._requests[key] = chat, self._places(chat, item)
        return self._requests[key]

    def _places(self, chat: list[dict[str, Any]], item: HeadItem) -> Places:
        """Where the item's elements stand; tokens are counted from the end, as images only add tokens before the prompt."""
        parts = self._data.parts.get(item.prompt_id, {})
        if not self.settings.element_weight or not parts:
            return {}
        text = render(self._processor, chat)
        prompt = plain_text(self._processor, item.prompt)
        start = text.find(prompt)
        if start < 0:
            return {}
        encoded = self._processor.tokenizer(text[start:], add_special_tokens=False, return_offsets_mapping=True)
        offsets = encoded["offset_mapping"]
        spans = {name: element_spans(prompt, part.text, "windows") for name, part in parts.items()}
        distinct = own_spans(prompt, spans, {name: part.parents for name, part in parts.items()})

        def tokens(places: Sequence[tuple[int, int]]) -> list[int]:
            inside = (any(a < end and begin < b for begin, end in places) for a, b in offsets)
            return [len(offsets) - i for i, hit in enumerate(inside) if hit]

        return {name: (tokens(distinct[name]), min(tokens(places))) for name, places in spans.items() if places}

    def _read(self, items: Sequence[HeadItem], view: View | None) -> Reading:
        if self.settings.lora is not None or view is not None:
            return self._forward(items, view)
        missing = [item for item in items if item.item_id not in self._frozen]
        if missing:
            with torch.no_grad():
                read = self._forward(missing, None)
            for row, item in enumerate(missing):
                self._frozen[item.item_id] = Reading(read.last[row], (read.elements[row],), read.logits[row, :0])
        kept = [self._frozen[item.item_id] for item in items]
        last = torch.stack([one.last for one in kept])
        return Reading(last, tuple(one.elements[0] for one in kept), last[:, :0])

    def _forward(self, items: Sequence[HeadItem], view: View | None) -> Reading:
        requests = [self._request(item) for item in items]
        images = self._images if view is None else _Seen(self._images, view)
        inputs = encode(self._processor, [chat for chat, _ in requests], images).to(self._device)
        out = self._model(**inputs, output_hidden_states=True, use_cache=False, logits_to_keep=1)
        hidden = out.hidden_states[-1].float()
        elements = []
        for row, (_, places) in enumerate(requests):
            states = [
                torch.cat([hidden[row, [-at for at in distinct]].mean(dim=0), hidden[row, -last]])
                for distinct, last in places.values()
            ]
            elements.append(
                (torch.stack(states) if states else hidden.new_zeros(0, 2 * hidden.shape[-1]), tuple(places))
            )
        return Reading(hidden[:, -1], tuple(elements), out.logits[:, -1])


@dataclass(frozen=True)
class _Seen:
    """An image source whose images are in a version of their own."""

    images: ImageSource
    view: View

    def image(self, key: str) -> Any:
        return self.view.image(self.images, key)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.LayerNorm):
        module.reset_parameters()


def _level_tokens(processor: Any, levels: Sequence[str]) -> list[int]:
    """The one token of each level.

    Raises:
        T2IEvalError: a level has none.
    """
    ids = []
    for level, sequences in zip(levels, candidate_sequences(processor, levels), strict=True):
        single = [sequence[0] for sequence in sequences if len(sequence) == 1]
        if not single:
            raise T2IEvalError(
                f"The level '{level}' is not one token of this model; choose another answer vocabulary "
                "(heads.level_tokens.answer_vocabulary) or the readout head."
            )
        ids.append(single[0])
    return ids
