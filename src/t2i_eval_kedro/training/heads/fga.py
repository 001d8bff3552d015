"""Trains FGA-BLIP2 on people's scores and element labels, and lets it judge."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.models.fga_blip2 import (
    FGABlip2,
    FGAScores,
    PromptTokens,
    element_cross_entropy,
    element_scores,
    fga_loss,
    located,
    token_targets,
    variance_weight,
)
from t2i_eval_kedro.models.loading import device_of
from t2i_eval_kedro.models.processors import ImageSource
from t2i_eval_kedro.training.heads.data import HeadData, HeadItem, perturbed
from t2i_eval_kedro.training.heads.fitting import batches, fit
from t2i_eval_kedro.training.heads.judges import Predictions, View
from t2i_eval_kedro.training.heads.settings import DataSettings, FGASettings


class FGAJudge:
    """FGA-BLIP2 as a judge; see :class:`~t2i_eval_kedro.training.heads.judges.HeadJudge`."""

    def __init__(self, settings: FGASettings, data: HeadData, images: ImageSource, device: str = "auto") -> None:
        """Load the network of ``settings``.

        Raises:
            T2IEvalError: it, or its tokenizer, cannot be loaded.
        """
        from transformers import AutoTokenizer

        self.settings, self._parts, self._images = settings, data.parts, images
        self._device = device_of(device)
        if not Path(settings.start).is_dir():
            raise T2IEvalError(
                f"There is no pre-trained network '{settings.start}' (heads.fga_blip2.start); make it with kedro build-towers "
                "(shapes) or kedro convert-fga (the authors' checkpoint)."
            )
        self.model = FGABlip2.load(Path(settings.start)).to(self._device)
        load: Any = AutoTokenizer.from_pretrained
        try:
            local = settings.tokenizer is None
            self.tokenizer = load(settings.tokenizer or settings.start, local_files_only=local)
        except (OSError, ValueError) as error:
            raise T2IEvalError(
                f"The tokenizer of '{settings.start}' cannot be loaded; name one in heads.fga_blip2.tokenizer, such as "
                f"bert-base-uncased: {str(error).splitlines()[0]}"
            ) from error
        self._prompts: dict[str, tuple[PromptTokens, dict[str, list[int] | None]]] = {}
        self._features: OrderedDict[str, torch.Tensor] = OrderedDict()

    def fit(self, items: Sequence[HeadItem], data: DataSettings, seed: int) -> pd.DataFrame:
        """Train by the released loss, and by the elements' cross-entropy where it has a weight; the curve has their means."""
        torch.manual_seed(seed)
        settings = self.settings
        vision = self.model.blip.vision_model
        vision.requires_grad_(settings.train_vision)
        plan = batches(len(items), settings.batch_size, settings.epochs, seed)
        self.model.train()
        try:
            return fit(
                [(self.model.parameters(), settings.learning_rate)],
                self._losses(items, plan, data, seed),
                len(plan),
                weight_decay=settings.weight_decay,
            )
        finally:
            self.model.eval()

    def _losses(
        self, items: Sequence[HeadItem], plan: Sequence[tuple[int, list[int]]], data: DataSettings, seed: int
    ) -> Iterator[dict[str, torch.Tensor]]:
        rng = np.random.default_rng(seed)
        known = [label for item in items for label in item.labels.values()]
        share = float(np.mean(known)) if known else 0.5
        for epoch, rows in plan:
            chosen = [items[row] for row in rows]
            view = View(epoch + 1, data.augment, seed) if data.augment else None
            ratings = [1 + 4 * rating for rating in perturbed(chosen, data.perturbation, rng)]
            scores, length = self._scores(chosen, view)
            targets = [
                token_targets(self._located(item)[1], item.labels, rating, length)
                for item, rating in zip(chosen, ratings, strict=True)
            ]
            labels, mask = (torch.tensor(list(values), device=self._device) for values in zip(*targets, strict=True))
            kind = self.settings.variance_weight
            variances = torch.tensor([item.variance for item in chosen], device=self._device)
            weight = None if kind is None else variance_weight(variances, kind)
            rating = torch.tensor(ratings, device=self._device)
            terms = {"fga": fga_loss(scores, rating, labels, mask, weight)}
            if self.settings.element_weight:
                entropy = element_cross_entropy(scores, labels, mask, share)
                terms["elements"] = self.settings.element_weight * entropy
            yield terms

    def predict(self, items: Sequence[HeadItem], view: View | None = None) -> Predictions:
        """Score ``items`` in batches."""
        overall: dict[str, float] = {}
        elements: dict[str, dict[str, float | None]] = {}
        size = self.settings.batch_size
        with torch.no_grad():
            for start in range(0, len(items), size):
                chosen = items[start : start + size]
                scores, _ = self._scores(chosen, view)
                rows = zip(chosen, scores.overall.tolist(), scores.tokens.tolist(), strict=True)
                for item, score, tokens in rows:
                    overall[item.item_id] = (score - 1) / 4
                    elements[item.item_id] = element_scores(tokens, self._located(item)[1])
        return Predictions(overall, elements)

    def save(self, folder: Path) -> None:
        """Write the network and its tokenizer."""
        self.model.save(folder, self.tokenizer)

    def _located(self, item: HeadItem) -> tuple[PromptTokens, dict[str, list[int] | None]]:
        """The tokens of the item's prompt, and where its elements stand among them."""
        if item.prompt_id not in self._prompts:
            parts = self._parts.get(item.prompt_id, {})
            tokens = PromptTokens(self.tokenizer, item.prompt, self.model.max_tokens)
            parents = {name: part.parents for name, part in parts.items()} if self.settings.own_tokens else None
            positions = located(
                tokens, {name: part.text for name, part in parts.items()}, parents, self.settings.search
            )
            self._prompts[item.prompt_id] = tokens, positions
        return self._prompts[item.prompt_id]

    def _scores(self, items: Sequence[HeadItem], view: View | None) -> tuple[FGAScores, int]:
        """What the network says of a batch, and its length in tokens."""
        ids = [self._located(item)[0].ids for item in items]
        length = max(map(len, ids))
        mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in ids], device=self._device)
        padded = torch.tensor([row + [0] * (length - len(row)) for row in ids], device=self._device)
        return self.model.from_features(self._seen(items, view), padded, mask), length

    def _seen(self, items: Sequence[HeadItem], view: View | None) -> torch.Tensor:
        """What the vision tower says of the images; kept where the tower is frozen and the images are as they are."""
        if self.settings.train_vision or view is not None:
            shown = view or View(0, 0.0, 0)
            pixels = self.model.pixels([shown.image(self._images, item.image) for item in items]).to(self._device)
            with torch.set_grad_enabled(self.settings.train_vision and torch.is_grad_enabled()):
                return self.model.image_features(pixels)
        missing = [key for key in dict.fromkeys(item.image for item in items) if key not in self._features]
        if missing:
            with torch.no_grad():
                pixels = self.model.pixels([self._images.image(key) for key in missing]).to(self._device)
                seen = self.model.image_features(pixels)
            self._features |= dict(zip(missing, seen, strict=True))
        stacked = torch.stack([self._features[item.image] for item in items])
        limit = self.settings.cache_mb * 2**20
        while len(self._features) * stacked[0].nbytes > limit and self._features:
            self._features.popitem(last=False)
        return stacked
