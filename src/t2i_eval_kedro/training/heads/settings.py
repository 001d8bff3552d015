"""What can be set of the judges that predict numbers. Kedro reads it from ``params:heads`` and refuses names it does not know."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from t2i_eval_kedro.models.settings import Settings
from t2i_eval_kedro.training.settings import LoraSettings


class PseudoLabelSettings(Settings):
    """Images that nobody scored, with the scores of a judge that was trained on the others.

    iMatch (arXiv 2504.12018) labels the challenge's validation images so; its confidence is not public, this one is ours: the standard
    deviation of the scores of ``versions`` versions of an image, in other light.

    Attributes:
        max_spread: largest such deviation, as a fraction of the scale, that an image is kept with; null for no pseudo-labels.
        versions: versions of each image, the first as it is.
        strength: strength of the changes, see :mod:`t2i_eval_kedro.training.augment`.
    """

    max_spread: float | None = Field(gt=0)
    versions: int = Field(ge=2)
    strength: float = Field(gt=0, le=1)


class DataSettings(Settings):
    """What all judges learn from.

    Attributes:
        labelled_fraction: fraction of the training prompts whose scores are used; those of the others count as unknown.
        pseudo_labels: whether images without a score are learned from too.
        perturbation: standard deviation of noise on people's scores, as a fraction of the scale, drawn anew each epoch.
        augment: strength, 0 to 1, of changes to the training images, drawn anew each epoch.
        seed: random seed of the choice of prompts; that of a training is the experiment's.
    """

    labelled_fraction: float = Field(gt=0, le=1)
    pseudo_labels: PseudoLabelSettings
    perturbation: float = Field(ge=0)
    augment: float = Field(ge=0, le=1)
    seed: int = Field(ge=0)


class FittingSettings(Settings):
    """How long and how fast a judge is trained.

    Attributes:
        epochs: passes over the training items.
        batch_size: items of a step.
        learning_rate: peak of a schedule of linear warm-up and cosine.
        weight_decay: AdamW's.
    """

    epochs: float = Field(gt=0)
    batch_size: int = Field(ge=2)
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)


class FGASettings(FittingSettings):
    """FGA-BLIP2.

    Attributes:
        start: folder of the pre-trained network: of ``kedro convert-fga`` or ``kedro build-towers``.
        tokenizer: folder or hub name; null where ``start`` holds it.
        train_vision: train the vision tower too; the released code does not.
        variance_weight: weight of a sample by how far the scores of its prompt's images lie apart: ``exp``, ``normalised``
            (:func:`~t2i_eval_kedro.models.fga_blip2.variance_weight`), or null as released.
        element_weight: weight of the elements' balanced cross-entropy beside the released loss
            (:func:`~t2i_eval_kedro.models.fga_blip2.element_cross_entropy`, ours); 0 as released.
        search: ``runs`` finds elements as published, ``windows`` also those with other words between theirs, or with a
            count in another form ("a", "one", "1").
        own_tokens: leave the tokens of what an element presupposes out of its own; false as published.
        cache_mb: memory for what a frozen vision tower says of images, in MiB.
    """

    start: str
    tokenizer: str | None
    train_vision: bool
    variance_weight: Literal["exp", "normalised"] | None
    element_weight: float = Field(ge=0)
    search: Literal["runs", "windows"]
    own_tokens: bool
    cache_mb: int = Field(ge=0)


class ScoreHeadSettings(FittingSettings):
    """A score read from a vision-language model at the place where its answer would begin.

    Attributes:
        readout: ``head`` puts a linear layer on the last hidden state; ``levels`` takes the expectation over the level tokens.
        losses: weights of :mod:`~t2i_eval_kedro.training.heads.losses`; with ``levels`` also ``cross_entropy`` of the nearest level over
            the whole vocabulary. Cross-entropy and ``mse`` together are the loss of TokenFocus-VQA by its description.
        element_weight: weight of the elements' cross-entropy; 0 trains no element classifier. Only with ``head``.
        answer_vocabulary: words of the levels, such as iMatch's fifteen ``letters``.
        categories: name the categories of the prompt's elements in the request (iMatch).
        prompt_kind: name the kind of the prompt in the request (iMatch).
        lora: adapter that is trained with it; null leaves the model as it is.
    """

    readout: Literal["head", "levels"]
    losses: dict[str, float]
    element_weight: float = Field(ge=0)
    answer_vocabulary: Literal["digits", "words", "letters"]
    categories: bool
    prompt_kind: bool
    lora: LoraSettings | None

    @model_validator(mode="after")
    def _possible(self) -> ScoreHeadSettings:
        if not any(self.losses.values()):
            raise ValueError("losses needs at least one with a weight above 0")
        if self.readout == "levels" and self.lora is None:
            raise ValueError("the readout 'levels' has nothing to train without lora")
        if self.readout == "head" and self.losses.get("cross_entropy"):
            raise ValueError("cross_entropy belongs to the readout 'levels'")
        if self.readout == "levels" and self.element_weight:
            raise ValueError("element_weight belongs to the readout 'head'")
        return self
