"""What can be set of the models of structural faults; the values stand in ``conf/base/parameters_structure.yml``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from t2i_eval_kedro.models.settings import Settings

Architecture = Literal["rahf", "hybrid", "instances"]
ARCHITECTURES: tuple[Architecture, ...] = ("rahf", "hybrid", "instances")


class LossSettings(Settings):
    """Weights of the losses; one of weight 0 is not computed.

    Attributes:
        mask_mse: mean squared error of the heat map.
        mask_dice: 1 - Dice coefficient of each image (with 1 pixel added above and below).
        mask_focal: focal loss of each pixel (Lin et al., 2017, arXiv 1708.02002; gamma 2, alpha .75 for faults, ours).
        score_mse: mean squared error of the score, both on 0 to 1.
        score_plcc: (1 - Pearson's r of the batch) / 2, which leaves the scale of the score open; it is fitted on validation.
    """

    mask_mse: float = Field(ge=0)
    mask_dice: float = Field(ge=0)
    mask_focal: float = Field(ge=0)
    score_mse: float = Field(ge=0)
    score_plcc: float = Field(ge=0)

    @property
    def mask(self) -> bool:
        """Whether any loss is on the mask."""
        return self.mask_mse + self.mask_dice + self.mask_focal > 0


class NetworkSettings(Settings):
    """One network and how it is trained.

    Attributes:
        image_size: pixels of a side; images are resized to a square.
        heat_size: pixels of a side of the heat map that is learned; for ``rahf`` its grid of patches times a power of 2.
        losses: weights of the losses.
        learning_rate: highest rate of AdamW.
        weight_decay: weight decay of AdamW.
        epochs: times that each training image is seen.
        batch_size: images of a forward pass in one process.
        gradient_accumulation_steps: passes per step.
    """

    image_size: int = Field(ge=32)
    heat_size: int = Field(ge=8)
    losses: LossSettings
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    epochs: float = Field(gt=0)
    batch_size: int = Field(ge=2)
    gradient_accumulation_steps: int = Field(ge=1)


class RahfSettings(NetworkSettings):
    """The challenge's baseline after RichHF's RAHF (Liang et al., CVPR 2024; EM-RAHF).

    Attributes:
        text_image: folder or hub name of a CLIP or AltCLIP; its patch and text tokens are used.
        text_prefix: words before the prompt.
        width: width of the self-attention and the decoder.
        layers: layers of self-attention over the tokens of image and text.
        attention_heads: heads of each.
        frozen_share: share of the steps in which the encoders stay as they are, before they are trained too; at 1 their features are kept.
    """

    text_image: str
    text_prefix: str
    width: int = Field(ge=8)
    layers: int = Field(ge=1)
    attention_heads: int = Field(ge=1)
    frozen_share: float = Field(ge=0, le=1)


class HybridSettings(NetworkSettings):
    """The challenge's winner's score model (LoDa) with a mask decoder of ours.

    Attributes:
        vit: folder or hub name of a vision transformer, which stays as it is.
        cnn: folder or hub name of a convolutional network with four stages; it stays as it is and its features are kept, and the mask decoder
            trains a copy of it.
        latent: width of the cross-attention that injects the features into each block.
        attention_heads: heads of it.
        pooled: side of the grid that each of the four stages is pooled to.
        decoder_width: channels of the mask decoder.
    """

    vit: str
    cnn: str
    latent: int = Field(ge=4)
    attention_heads: int = Field(ge=1)
    pooled: int = Field(ge=1)
    decoder_width: int = Field(ge=4)


class InstancesSettings(NetworkSettings):
    """Instance segmentation by Mask2Former (Cheng et al., CVPR 2022), with a score head of ours on its queries.

    Attributes:
        segmenter: folder or hub name of a Mask2Former.
        segmentation: weight of Mask2Former's own losses.
    """

    segmenter: str
    segmentation: float = Field(ge=0)


class StructureSettings(Settings):
    """What the networks share.

    Attributes:
        dimension: what is scored, a dimension of the benchmark's ratings.
        labels: what is learned from: ``exact`` (the masks as they are), or what simulated annotators draw around exact masks: ``polygons``,
            ``boxes``, ``sloppy`` (`shapes.annotations`). Validation uses the same, test always the masks as they are.
        half: which half of the training prompts is learned from; null for all. Of two networks, each of one half, one has not learned from
            an image, so that what it says of the image can be evidence for a judge (`t2i_eval_kedro.judging.evidence`).
        overlap_levels: heat of a pixel that one, two, three annotators marked.
        flip: mirror half of the training images.
        features: folder of kept features of frozen networks.
        precision: precision of the sums, float32, or bfloat16 or float16 mixed with float32.
        device: ``auto`` (a GPU where there is one) or ``cpu``.
        threads: torch's threads on the CPU; null for its own choice.
        warmup_steps: steps, or below 1 the share of all steps, until the highest rate; the rate then falls by a cosine.
        logging_steps: steps between two points of the curve.
        save_steps: steps between two checkpoints, from which an interrupted training resumes; 0 for none.
        thresholds: heat at which the mask may begin; the one with the best region F1 on validation is kept.
        seed: is added to the seed of the experiment.
        rahf: settings of that network; likewise ``hybrid`` and ``instances``.
    """

    dimension: str
    labels: Literal["exact", "polygons", "boxes", "sloppy"]
    half: Literal["first", "second"] | None
    overlap_levels: tuple[float, float, float]
    flip: bool
    features: str
    precision: Literal["float32", "bfloat16", "float16"]
    device: Literal["auto", "cpu"]
    threads: int | None = Field(ge=1)
    warmup_steps: float = Field(ge=0)
    logging_steps: int = Field(ge=1)
    save_steps: int = Field(ge=0)
    thresholds: tuple[float, ...] = Field(min_length=1)
    seed: int = Field(ge=0)
    rahf: RahfSettings
    hybrid: HybridSettings
    instances: InstancesSettings

    def network(self, architecture: Architecture) -> NetworkSettings:
        """The settings of one network."""
        chosen: NetworkSettings = getattr(self, architecture)
        return chosen
