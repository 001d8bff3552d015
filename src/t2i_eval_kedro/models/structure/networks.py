"""The three networks: images (and prompts) in, logits of a heat map and a score out.

Each takes pixels (batch, 3, side, side) from 0 to 1 and normalises them as its backbones were trained. What a network keeps frozen is named by
``frozen`` (prefixes of its parameters); those weights are not saved with it.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.models.structure.losses import network_loss
from t2i_eval_kedro.models.structure.settings import (
    Architecture,
    HybridSettings,
    InstancesSettings,
    LossSettings,
    NetworkSettings,
    RahfSettings,
)

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP_MEAN, CLIP_STD = (0.4815, 0.4578, 0.4082), (0.2686, 0.2613, 0.2758)
FAULT_SUM = 64.0  # brings a sum over faults of a few percent of the picture to about 1
TRUE_FAULT = 0.25  # heat from which a pixel of the target belongs to an instance: one annotator of three marked it


class Prediction(NamedTuple):
    """Logits of the heat map (batch, height, width), and the score (batch,), unbounded."""

    heat: Tensor
    score: Tensor


class Network(nn.Module, ABC):
    """What the three networks share: normalised pixels, and the loss where there are targets."""

    frozen: tuple[str, ...] = ()
    text: bool = False
    mean: Tensor
    std: Tensor

    def __init__(self, settings: NetworkSettings, mean: Sequence[float], std: Sequence[float]) -> None:
        """Take the settings, and mean and standard deviation of the pixels that the backbones expect."""
        super().__init__()
        self.side, self.heat_size, self.losses = settings.image_size, settings.heat_size, settings.losses
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(
        self,
        pixels: Tensor,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        features: Mapping[str, Tensor] | None = None,
        heat: Tensor | None = None,
        score: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The prediction, and its loss where the targets are given.

        Args:
            pixels: (batch, 3, side, side), 0 to 1.
            input_ids: tokens of the prompts, for a network that reads text.
            attention_mask: 1 for tokens, 0 for padding.
            features: what `frozen_features` gave for these pixels; computed here where it is absent.
            heat: (batch, height, width) target heat map, 0 to 1.
            score: (batch,) target score, 0 to 1; NaN where there is none.

        Returns:
            ``heat`` and ``score``, see `Prediction`, and ``loss``.
        """
        normalised = (pixels - self.mean) / self.std
        tokens = {} if input_ids is None else {"input_ids": input_ids, "attention_mask": attention_mask}
        predicted, own_loss = self.predict(normalised, tokens, features, heat)
        out = {"heat": predicted.heat, "score": predicted.score}
        if heat is not None and score is not None:
            out = {"loss": network_loss(predicted.heat, predicted.score, heat, score, self.losses) + own_loss} | out
        return out

    @abstractmethod
    def predict(
        self, pixels: Tensor, tokens: Mapping[str, Any], features: Mapping[str, Tensor] | None, heat: Tensor | None
    ) -> tuple[Prediction, Tensor]:
        """The prediction for normalised pixels, and losses that the network has of its own."""

    def frozen_features(self, pixels: Tensor) -> dict[str, Tensor] | None:
        """What can be kept for these pixels (not normalised) as it never changes; None where there is nothing."""
        return None

    def set_training_share(self, share: float) -> None:
        """Say that this share of the training is over."""

    def train(self, mode: bool = True) -> Network:
        """As torch's, but what is frozen stays in evaluation mode."""
        super().train(mode)
        for name in self.frozen:
            self.get_submodule(name.rstrip(".")).eval()
        return self


class Rahf(Network):
    """Tokens of image and text, self-attention over both, a heat-map decoder and a score head (EM-RAHF)."""

    text = True

    def __init__(self, settings: RahfSettings, encoder: nn.Module) -> None:
        """Build the network around ``encoder``, a CLIP or AltCLIP of transformers."""
        super().__init__(settings, CLIP_MEAN, CLIP_STD)
        config: Any = encoder.config
        self.encoder = encoder
        self.frozen_share = settings.frozen_share
        self.frozen = ("encoder.",) if settings.frozen_share == 1 else ()
        width, patch = settings.width, config.vision_config.patch_size
        self.grid = settings.image_size // patch
        self.image_in = nn.Linear(config.vision_config.hidden_size, width)
        self.text_in = nn.Linear(getattr(config.text_config, "project_dim", config.text_config.hidden_size), width)
        self.kind = nn.Parameter(torch.randn(2, width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            width,
            settings.attention_heads,
            2 * width,
            dropout=0.0,
            batch_first=True,
            norm_first=True,
            activation="gelu",
        )
        self.attention = nn.TransformerEncoder(layer, settings.layers, enable_nested_tensor=False)
        self.decoder = _UpDecoder(width, settings.heat_size / self.grid)
        self.score_conv = nn.Sequential(*[m for _ in range(2) for m in (nn.Conv2d(width, width, 2, 2), nn.GELU())])
        self.score = nn.Sequential(nn.LazyLinear(width), nn.GELU(), nn.Linear(width, 1))
        with torch.no_grad():
            self.score(self.score_conv(torch.zeros(1, width, self.grid, self.grid)).flatten(1))
        _require_grad(self.encoder, settings.frozen_share < 1)

    def set_training_share(self, share: float) -> None:
        """Train the encoders from ``frozen_share`` of the training on."""
        if self.frozen_share < 1:
            _require_grad(self.encoder, share >= self.frozen_share)

    def predict(
        self, pixels: Tensor, tokens: Mapping[str, Any], features: Mapping[str, Tensor] | None, heat: Tensor | None
    ) -> tuple[Prediction, Tensor]:
        """See `Network`."""
        encoder: Any = self.encoder
        image = features["image"] if features else self._image_tokens(pixels)
        text = encoder.text_model(**tokens).last_hidden_state
        both = torch.cat([self.image_in(image) + self.kind[0], self.text_in(text) + self.kind[1]], dim=1)
        n = image.shape[1]
        padding = torch.cat([tokens["attention_mask"].new_zeros(len(image), n), tokens["attention_mask"] == 0], dim=1)
        seen = self.attention(both, src_key_padding_mask=padding.bool())[:, :n]
        grid = seen.transpose(1, 2).reshape(len(seen), -1, self.grid, self.grid)
        score = self.score(self.score_conv(grid).flatten(1)).squeeze(1)
        return Prediction(self.decoder(grid), score), score.new_zeros(())

    def _image_tokens(self, pixels: Tensor) -> Tensor:
        encoder: Any = self.encoder
        hidden: Tensor = encoder.vision_model(pixel_values=pixels, interpolate_pos_encoding=True).last_hidden_state
        return hidden[:, -(self.grid**2) :]

    def frozen_features(self, pixels: Tensor) -> dict[str, Tensor] | None:
        """The patch tokens, where the encoders are never trained."""
        return {"image": self._image_tokens((pixels - self.mean) / self.std)} if self.frozen else None


class Hybrid(Network):
    """A frozen vision transformer into whose blocks features of a frozen CNN are injected; a score head and a mask decoder.

    The score model is LoDa's (Xu et al., CVPR 2024) as the challenge's winner used it. The mask decoder is ours: the transformer's tokens
    and a trained copy of the CNN, from coarse to fine. The score head also sees the decoder's features, so that the mask can help the score.
    """

    frozen = ("vit.", "cnn.")

    def __init__(self, settings: HybridSettings, vit: nn.Module, cnn: nn.Module) -> None:
        """Build the network around ``vit`` and ``cnn``, models of transformers."""
        super().__init__(settings, IMAGENET_MEAN, IMAGENET_STD)
        self.vit, self.cnn = vit, cnn
        for backbone in (vit, cnn):
            _require_grad(backbone, False)
        config: Any = vit.config
        width = config.hidden_size
        self.grid = settings.image_size // config.patch_size
        channels = list(cnn.config.hidden_sizes)[-4:]  # type: ignore[union-attr, arg-type]
        self.pooled = settings.pooled
        self.stage_in = nn.ModuleList(nn.Conv2d(c, settings.latent, 1) for c in channels)
        self.blocks = _blocks(vit)
        self.inject = nn.ModuleList(
            _Injection(width, settings.latent, settings.attention_heads) for _ in range(len(self.blocks[0]))
        )
        self.decoder = _PyramidDecoder(width, cnn, channels, settings.decoder_width, settings.heat_size)
        self.score = nn.Sequential(
            nn.Linear(2 * width + 3 * settings.decoder_width + 1, width), nn.GELU(), nn.Linear(width, 1)
        )

    def predict(
        self, pixels: Tensor, tokens: Mapping[str, Any], features: Mapping[str, Tensor] | None, heat: Tensor | None
    ) -> tuple[Prediction, Tensor]:
        """See `Network`."""
        stages = [features[f"stage{k}"].to(pixels.dtype) for k in range(4)] if features else self._stages(pixels)
        pooled = [
            functional.adaptive_avg_pool2d(conv(stage), self.pooled)
            for conv, stage in zip(self.stage_in, stages, strict=True)
        ]
        local = torch.cat([grid.flatten(2).transpose(1, 2) for grid in pooled], dim=1)
        hooks = [
            block.register_forward_pre_hook(_injecting(inject, local), with_kwargs=True)
            for block, inject in zip(self.blocks[0], self.inject, strict=True)
        ]
        try:
            vit: Any = self.vit
            hidden: Tensor = vit(pixel_values=pixels).last_hidden_state
        finally:
            for hook in hooks:
                hook.remove()
        patches = hidden[:, -(self.grid**2) :]
        grid = patches.transpose(1, 2).reshape(len(hidden), -1, self.grid, self.grid)
        fine, logits = self.decoder(pixels, grid)
        heat = logits.sigmoid()[:, None]
        area = torch.logit(heat.mean(dim=(2, 3)).clamp(1e-4, 1 - 1e-4))
        # Sums over the faults, as each takes something off the score; a mean over the picture loses small ones.
        faults = FAULT_SUM * (fine * functional.interpolate(heat, fine.shape[-2:], mode="bilinear")).mean(dim=(2, 3))
        pooled_fine = [fine.mean(dim=(2, 3)), fine.amax(dim=(2, 3)), faults]
        seen = torch.cat([hidden[:, 0], patches.mean(dim=1), *pooled_fine, area], dim=1)
        score = self.score(seen).squeeze(1)
        return Prediction(logits, score), score.new_zeros(())

    def _stages(self, pixels: Tensor) -> list[Tensor]:
        cnn: Any = self.cnn
        with torch.no_grad():
            return list(cnn(pixel_values=pixels, output_hidden_states=True).hidden_states[-4:])

    def frozen_features(self, pixels: Tensor) -> dict[str, Tensor] | None:
        """The four stages of the CNN."""
        return {f"stage{k}": stage for k, stage in enumerate(self._stages((pixels - self.mean) / self.std))}


class Instances(Network):
    """Mask2Former with one class, structural fault; the heat of a pixel is the score of the best instance that it belongs to."""

    def __init__(self, settings: InstancesSettings, segmenter: nn.Module) -> None:
        """Build the network around ``segmenter``, a Mask2FormerForUniversalSegmentation with one label."""
        super().__init__(settings, IMAGENET_MEAN, IMAGENET_STD)
        self.segmenter, self.segmentation = segmenter, settings.segmentation
        width = segmenter.config.hidden_dim  # type: ignore[union-attr]
        self.score = nn.Sequential(nn.Linear(2 * width + 1, width), nn.GELU(), nn.Linear(width, 1))  # type: ignore[operator, arg-type]

    def predict(
        self, pixels: Tensor, tokens: Mapping[str, Any], features: Mapping[str, Tensor] | None, heat: Tensor | None
    ) -> tuple[Prediction, Tensor]:
        """See `Network`."""
        segmenter: Any = self.segmenter
        targets: dict[str, Any] = {}
        if heat is not None:
            instances = [instance_masks(one) for one in heat]
            targets = {
                "mask_labels": instances,
                "class_labels": [torch.zeros(len(masks), dtype=torch.long, device=masks.device) for masks in instances],
            }
        out = segmenter(pixel_values=pixels, **targets)
        present = out.class_queries_logits.softmax(-1)[..., 0]  # (batch, queries): the last class is "no object"
        size = (self.heat_size, self.heat_size)
        masks = functional.interpolate(out.masks_queries_logits.float(), size, mode="bilinear").sigmoid()
        inside = (masks > 0.5).float() + 0.5 * masks * (masks <= 0.5).float()  # outside of a mask the heat falls off
        probability = (present[:, :, None, None] * inside).amax(dim=1)
        logits = torch.logit(probability.clamp(1e-4, 1 - 1e-4))
        queries = out.transformer_decoder_last_hidden_state
        weights = present[..., None]
        pooled = (queries * weights).sum(1) / weights.sum(1).clamp(min=1e-4)
        area = torch.logit(probability.mean(dim=(1, 2)).clamp(1e-4, 1 - 1e-4))[:, None]
        score = self.score(torch.cat([pooled, queries.mean(dim=1), area.detach()], dim=1)).squeeze(1)
        segmentation = self.segmentation * out.loss.squeeze() if out.loss is not None else score.new_zeros(())
        return Prediction(logits, score), segmentation


def instance_masks(heat: Tensor) -> Tensor:
    """The connected regions (n, height, width) of a target heat map, as floats of 0 and 1."""
    from scipy import ndimage

    labels, n = ndimage.label((heat >= TRUE_FAULT).cpu().numpy(), structure=[[1] * 3] * 3)
    numbered = torch.from_numpy(labels).to(heat.device)
    return torch.stack([numbered == k for k in range(1, n + 1)]).float() if n else heat.new_zeros(0, *heat.shape)


class _Injection(nn.Module):
    """LoDa's injection: tokens attend to local features in a narrow space, and what comes back is added with a scale that starts at 0."""

    def __init__(self, width: int, latent: int, heads: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, latent)
        self.attention = nn.MultiheadAttention(latent, heads, batch_first=True)
        self.norm = nn.LayerNorm(latent)
        self.mlp = nn.Sequential(nn.Linear(latent, latent), nn.GELU(), nn.Linear(latent, width))
        self.scale = nn.Parameter(torch.zeros(width))

    def forward(self, tokens: Tensor, local: Tensor) -> Tensor:
        narrow = self.down(tokens)
        narrow = narrow + self.attention(narrow, local, local, need_weights=False)[0]
        changed: Tensor = tokens + self.scale * self.mlp(self.norm(narrow))
        return changed


def _injecting(inject: nn.Module, local: Tensor) -> Any:
    """A hook that changes the tokens on their way into a block."""

    def hook(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if args:
            return (inject(args[0], local), *args[1:]), kwargs
        return args, kwargs | {"hidden_states": inject(kwargs["hidden_states"], local)}

    return hook


class _UpDecoder(nn.Module):
    """A heat map from a grid of tokens: convolutions, then each step doubles the sides (EM-RAHF's decoder, with its width halved a step)."""

    def __init__(self, width: int, factor: float) -> None:
        super().__init__()
        steps = math.log2(factor)
        if steps < 0 or steps != int(steps):
            raise T2IEvalError(
                f"heat_size is {factor:g} times the grid of patches, which is no power of 2; change heat_size or image_size."
            )
        parts: list[nn.Module] = [nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(1, width), nn.GELU()]
        for _ in range(int(steps)):
            narrower = max(width // 2, 16)
            parts += [nn.ConvTranspose2d(width, narrower, 2, 2), nn.Conv2d(narrower, narrower, 3, padding=1)]
            parts += [nn.GroupNorm(1, narrower), nn.GELU()]
            width = narrower
        self.parts = nn.Sequential(*parts, nn.Conv2d(width, 1, 1))
        nn.init.constant_(self.parts[-1].bias, -3.0)  # type: ignore[arg-type]  # most pixels are sound

    def forward(self, grid: Tensor) -> Tensor:
        logits: Tensor = self.parts(grid)
        return logits.squeeze(1)


class _PyramidDecoder(nn.Module):
    """A heat map from a trained copy of the CNN and from tokens, coarse to fine.

    What is frozen knows what a picture shows, and not which of its edges are wrong: a mask decoder of frozen features alone marked whole
    objects. The copy begins as the CNN and is trained (as in ControlNet, Zhang et al., ICCV 2023).
    """

    def __init__(self, width: int, cnn: nn.Module, channels: Sequence[int], inner: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.cnn = copy.deepcopy(cnn)
        _require_grad(self.cnn, True)
        self.tokens_in = nn.Conv2d(width, inner, 1)
        self.stages_in = nn.ModuleList(nn.Conv2d(c, inner, 1) for c in channels)
        self.mix = nn.ModuleList(_Residual(inner) for _ in channels)
        self.out = nn.Conv2d(inner, 1, 1)
        nn.init.constant_(self.out.bias, -3.0)  # type: ignore[arg-type]  # most pixels are sound

    def forward(self, pixels: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
        cnn: Any = self.cnn
        stages = cnn(pixel_values=pixels, output_hidden_states=True).hidden_states[-4:]
        x = self.tokens_in(grid)
        for stage, into, mix in zip(reversed(stages), reversed(self.stages_in), reversed(self.mix), strict=True):
            x = mix(functional.interpolate(x, stage.shape[-2:], mode="bilinear") + into(stage))
        logits: Tensor = self.out(x)
        return x, functional.interpolate(logits, (self.side, self.side), mode="bilinear").squeeze(1)


class _Residual(nn.Module):
    """Two convolutions whose result is added to what they read."""

    def __init__(self, width: int) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for _ in range(2):
            parts += [nn.GroupNorm(1, width), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)]
        self.parts = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        changed: Tensor = x + self.parts(x)
        return changed


def _blocks(vit: nn.Module) -> tuple[nn.ModuleList]:
    """The list of blocks of a vision transformer, in a tuple so that it is not registered twice."""
    depth = vit.config.num_hidden_layers  # type: ignore[union-attr]
    for _, module in vit.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return (module,)
    raise T2IEvalError(
        f"'{type(vit).__name__}' has no list of {depth} blocks; choose a vision transformer such as DINOv2."
    )


def _require_grad(module: nn.Module, on: bool) -> None:
    for parameter in module.parameters():
        parameter.requires_grad_(on)


def build_network(architecture: Architecture, settings: NetworkSettings) -> Network:
    """The network with its pre-trained backbones, which are loaded by folder or hub name.

    Raises:
        T2IEvalError: a backbone cannot be loaded, or is not of the kind that the network needs.
    """
    from transformers import AutoModel, Mask2FormerForUniversalSegmentation

    if isinstance(settings, RahfSettings):
        encoder = load_backbone(AutoModel, settings.text_image)
        if not hasattr(encoder, "vision_model") or not hasattr(encoder, "text_model"):
            raise T2IEvalError(f"'{settings.text_image}' has no encoders of image and text; choose a CLIP or AltCLIP.")
        return Rahf(settings, encoder)
    if isinstance(settings, HybridSettings):
        return Hybrid(settings, load_backbone(AutoModel, settings.vit), load_backbone(AutoModel, settings.cnn))
    if isinstance(settings, InstancesSettings):
        one = {"num_labels": 1, "ignore_mismatched_sizes": True}
        return Instances(settings, load_backbone(Mask2FormerForUniversalSegmentation, settings.segmenter, **one))
    raise T2IEvalError(f"There is no architecture '{architecture}'.")


def load_backbone(kind: Any, name: str, **options: Any) -> nn.Module:
    """A pre-trained model in float32 from a folder or the hub; safetensors alone, and no code of its repository.

    Raises:
        T2IEvalError: it cannot be loaded.
    """
    from t2i_eval_kedro.models.loading import model_folder

    folder = model_folder(name)
    try:
        model: nn.Module = kind.from_pretrained(
            folder if folder is not None else name,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            **options,
        )
    except (OSError, ValueError, ImportError) as error:
        raise T2IEvalError(f"The backbone '{name}' cannot be loaded ({str(error).splitlines()[0]}).") from error
    return model


def backbones(settings: NetworkSettings) -> dict[str, str]:
    """The settings that name a backbone, and its folder or hub name."""
    return {
        name: str(getattr(settings, name))
        for name in ("text_image", "vit", "cnn", "segmenter")
        if hasattr(settings, name)
    }


def portable(settings: NetworkSettings, folder: Path) -> NetworkSettings:
    """``settings`` whose backbones that are folders are found: as they are, or beside ``folder`` or a folder above it."""
    changed = {}
    for field, name in backbones(settings).items():
        path = Path(name)
        if len(path.parts) < 2 or (path / "config.json").is_file():
            continue
        for parent in folder.resolve().parents:
            candidate = parent / Path(*path.parts[-2:])
            if (candidate / "config.json").is_file():
                changed[field] = str(candidate)
                break
    return settings.model_copy(update=changed)


__all__ = [
    "Hybrid",
    "Instances",
    "LossSettings",
    "Network",
    "Prediction",
    "Rahf",
    "backbones",
    "build_network",
    "portable",
]
