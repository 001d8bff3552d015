"""What can be set when a student is trained. Kedro reads these from ``params:`` and refuses names it does not know."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AliasChoices, Field, model_validator

from t2i_eval_kedro.models.settings import Settings
from t2i_eval_kedro.training.rewards import Reward, rewards_of


class LoraSettings(Settings):
    """Low-rank adaptation (Hu et al., 2021, arXiv 2106.09685).

    Attributes:
        r: rank.
        alpha: the update is scaled by alpha / r.
        dropout: probability of dropping an input of the adapter.
        target_modules: ``all-linear`` (every linear layer but the output layer), or the names of modules.
        vision: adapt the vision tower and the projector too; otherwise they stay as they are.
        score_tokens: train the embeddings of the tokens that direct scores are written with, too. Where the output layer is
            tied to the embeddings, no low-rank update reaches how likely a token is by itself. Not every server of
            adapters reads them.
    """

    r: int = Field(ge=1)
    alpha: int = Field(ge=1)
    dropout: float = Field(ge=0, lt=1)
    target_modules: str | tuple[str, ...]
    vision: bool
    score_tokens: bool


class LaunchSettings(Settings):
    """How many processes train. However many they are, the effective batch and the adapter stay those of one.

    Attributes:
        processes: processes on each machine, one per GPU; one alone trains inside ``kedro run``, more are started by ``accelerate launch``.
        machines: number of machines that train together; they share a file system.
        address: address of the first machine, as the others reach it.
        port: port on the first machine.
        accelerate: accelerate's own configuration file, for FSDP2 or DeepSpeed; without one, each process holds the whole
            model.
    """

    processes: int = Field(ge=1)
    machines: int = Field(ge=1)
    address: str | None
    port: int = Field(ge=1, le=65535)
    accelerate: str | None

    @model_validator(mode="after")
    def _reachable(self) -> LaunchSettings:
        if self.machines > 1 and not self.address:
            raise ValueError("several machines need the address of the first")
        return self

    @property
    def total(self) -> int:
        """Processes of all machines together."""
        return self.processes * self.machines


class _Optimisation(Settings):
    """What supervised fine-tuning and GRPO share.

    Attributes:
        learning_rate: peak of the schedule.
        schedule: schedule of the learning rate, by transformers' name.
        warmup_steps: steps of linear warm-up; below 1, the fraction of all steps.
        weight_decay: weight decay of AdamW.
        max_grad_norm: norm that gradients are clipped to.
        gradient_checkpointing: recompute activations in the backward pass: less memory, more time.
        logging_steps: steps between two rows of the curve.
        save_steps: steps between two checkpoints, from which an interrupted run resumes; 0 writes none.
        checkpoints_kept: number of checkpoints kept; older ones are deleted.
        seed: random seed of the adapter's initial weights, the order of examples and sampling.
        trl: further fields of trl's ``SFTConfig`` or ``GRPOConfig`` under their own names, such as ``optim``,
            ``dataloader_num_workers``, ``report_to`` or ``use_vllm``; they win over what is set here otherwise.
    """

    learning_rate: float = Field(gt=0)
    schedule: Literal["constant", "constant_with_warmup", "linear", "cosine"]
    warmup_steps: int | float = Field(ge=0)
    weight_decay: float = Field(ge=0)
    max_grad_norm: float = Field(gt=0)
    gradient_checkpointing: bool
    logging_steps: int = Field(ge=1)
    save_steps: int = Field(ge=0)
    checkpoints_kept: int = Field(ge=1)
    seed: int = Field(ge=0)
    trl: dict[str, Any]

    @model_validator(mode="after")
    def _trl_fields(self) -> Self:
        if self.trl:
            check_trl_options(self.trl, "GRPOConfig" if isinstance(self, GRPOSettings) else "SFTConfig")
        return self


def check_trl_options(options: Mapping[str, Any], config: Literal["SFTConfig", "GRPOConfig"]) -> None:
    """Check the names of ``options`` against the fields of a configuration of trl.

    Raises:
        ValueError: there is no such field, or it is one that this project must set itself.
    """
    import dataclasses
    from difflib import get_close_matches

    from trl.trainer.grpo_config import GRPOConfig  # trl is slow to import
    from trl.trainer.sft_config import SFTConfig

    fields = {field.name for field in dataclasses.fields({"SFTConfig": SFTConfig, "GRPOConfig": GRPOConfig}[config])}
    for name in options:
        if name not in fields:
            near = "".join(f"; did you mean '{match}'?" for match in get_close_matches(name, fields, n=1))
            raise ValueError(f"trl's {config} has no field '{name}'{near}")
        if name in _NOT_PASSED:
            raise ValueError(f"'{name}' of trl's {config} is set by this project: {_NOT_PASSED[name]}")


_STEP = "use batch_size, which is divided among the processes"
_NOT_PASSED = {
    "output_dir": "it is the training's folder",
    "remove_unused_columns": "examples have columns of their own",
    "dataset_kwargs": "examples are encoded by this project",
    "max_length": "use max_length beside trl",
    "max_steps": "use max_steps beside trl",
    "num_train_epochs": "use epochs beside trl",
    "seed": "use seed beside trl",
    "save_steps": "use save_steps beside trl",
    "save_strategy": "use save_steps beside trl",
    "per_device_train_batch_size": _STEP,
    "gradient_accumulation_steps": _STEP,
    "num_generations": "use generations beside trl",
    "reward_weights": "use rewards beside trl",
    "model_init_kwargs": "use model.model_init_kwargs",
    "resume_from_checkpoint": "an interrupted run is resumed by itself",
}


class SFTSettings(_Optimisation):
    """Supervised fine-tuning of an adapter on requests with their answers; the loss is on the answers alone.

    Attributes:
        max_steps: optimiser steps; give either these or ``epochs``.
        epochs: passes over the training examples.
        batch_size: examples per forward pass.
        gradient_accumulation_steps: forward passes per optimiser step, divided among the processes that train.
        group_by_length: make batches of examples of similar length. Less padding, but each batch then holds few tasks: with
            the tiny model and its high learning rate the student learned next to nothing. Batches on a CPU are padded in
            two parts anyhow.
        eval_steps: steps between two validations, 0 for one at the end.
        eval_examples: at most so many validation examples, drawn once with the seed; 0 for no validation.
        patience: stop after so many validations in a row without a lower loss on held-out prompts, and keep the adapter of the
            lowest; None to train to the end.
        mean_over: what weighs alike in a step's loss: the ``tokens`` of all answers, or the ``examples``, each by the mean over the tokens of its
            answer, so that a single word counts as much as a list of questions.
        augment: strength, 0 to 1, of random changes of brightness, contrast and place (by a few pixels) to the training images;
            0 for none. Validation images stay as they are. See :mod:`t2i_eval_kedro.training.augment`.
        image_cache_mb: memory for images that are already processed, in MiB; of each process that reads.
        loader_workers: processes that read, decode and encode the next batches while the model trains on one; 0 for none.
        max_length: longer examples are left out and counted, never cut; None for no limit.
        start: folder of an adapter of the same base model to go on from, which is not changed; None for a new one.
        lora: rank, scale and place of a new adapter; one that is gone on from keeps its own.
    """

    max_steps: int | None = Field(ge=1)
    epochs: float | None = Field(gt=0)
    batch_size: int = Field(ge=1)
    gradient_accumulation_steps: int = Field(ge=1)
    group_by_length: bool
    eval_steps: int = Field(ge=0)
    eval_examples: int = Field(ge=0)
    patience: int | None = Field(ge=1)
    mean_over: Literal["tokens", "examples"]
    augment: float = Field(ge=0, le=1)
    image_cache_mb: int = Field(ge=0)
    loader_workers: int = Field(ge=0)
    max_length: int | None = Field(ge=1)
    start: str | None
    lora: LoraSettings

    @model_validator(mode="after")
    def _one_length(self) -> SFTSettings:
        if (self.max_steps is None) == (self.epochs is None):
            raise ValueError("give either max_steps or epochs")
        if self.patience is not None and not (self.eval_steps and self.eval_examples):
            raise ValueError("patience needs eval_steps and eval_examples")
        return self


REHEARSAL = "rehearsal"
"""Task of the general examples (``examples.rehearsal``), and fold of the supervised ones beside GRPO (``grpo.rehearsal_weight``)."""


class GRPOSettings(_Optimisation):
    """Group-relative policy optimisation (Shao et al., 2024, arXiv 2402.03300) of an adapter on people's scores or preferences.

    Attributes:
        start: ``sft`` goes on from that adapter; ``base`` begins with a new one on the untrained model, which needs no adapter and
            rehearses nothing.
        tasks: what is asked: ``score`` (the score alone), ``reason`` (a thought, then the score), ``reason_pair`` (a thought, then
            the scores of two images of one prompt).
        targets: what ``reason_pair`` learns from: ``scores`` (the difference of people's means) or ``preferences`` (which of two
            images people prefer, and nothing else; made of their means where they gave none).
        max_steps: optimiser steps.
        prompts_per_step: different requests per step.
        generations: answers to each request; they are one group.
        batch_size: answers per forward pass; divides ``prompts_per_step * generations``. The passes of a step are divided
            among the processes that train.
        temperature: temperature of sampling.
        max_completion_length: tokens of an answer; the rest is cut off and earns nothing unless it parses.
        beta: weight of the divergence from the adapter at the start; 0 loads no reference.
        rehearsal_weight: weight of the supervised loss on earlier examples that is added to each step (InstructGPT's PPO-ptx, arXiv
            2203.02155, equation 2), which keeps what fine-tuning taught; 0 for none.
        rehearsal_examples: supervised examples per step.
        scale_rewards: divide by the spread of rewards in a group, in a batch, or not.
        loss_type: as trl names them.
        rewards: weight of each reward of :mod:`t2i_eval_kedro.training.rewards`: ``gaussian``, ``linear``, ``rank`` (continuous),
            ``binary`` (the control arm), ``pairwise`` (of two images), ``format``, ``length``, ``diversity``.
        own_rewards: weight of each reward of your own, by its dotted path: a function of
            :class:`t2i_eval_kedro.training.rewards.Answers` that returns one number per answer.
        sigma: standard deviation of the gaussian reward, as a fraction of the scale.
        tolerance: error that the binary reward still pays, as a fraction of the scale.
        slope: steepness of the pairwise reward, per point of 0 to 10.
        tie: difference of people's scores, on 0 to 10, that the pairwise reward takes for a tie.
        share_prefixes: generate from one encoding of a request and its image for all answers of a group, where the model allows.
        eval_steps: steps between two measurements of agreement on validation prompts; 0 for none. The adapter of the best is kept.
        eval_examples: validation requests of each kind, drawn once with the seed.
        patience: stop after so many measurements in a row without a better one; None to train to the end.
        max_drop: stop where the agreement is lower by more than this than it was at the start.
        min_distinct: stop where a group has fewer different scores than this, on average over ten logged rows (or all there are, at
            least three): its answers are all alike, so that nothing is learned.
    """

    start: Literal["sft", "base"]
    tasks: tuple[Literal["score", "reason", "reason_pair"], ...] = Field(min_length=1)
    targets: Literal["scores", "preferences"]
    max_steps: int = Field(ge=1)
    prompts_per_step: int = Field(ge=1)
    generations: int = Field(ge=2)
    batch_size: int = Field(ge=1)
    temperature: float = Field(gt=0)
    max_completion_length: int = Field(ge=1)
    beta: float = Field(ge=0)
    rehearsal_weight: float = Field(ge=0)
    rehearsal_examples: int = Field(ge=1)
    scale_rewards: Literal["group", "batch", "none"]
    loss_type: Literal["dapo", "grpo", "dr_grpo", "bnpo"]
    rewards: dict[str, float]
    own_rewards: dict[str, float]
    sigma: float = Field(gt=0)
    tolerance: float = Field(ge=0)
    slope: float = Field(gt=0)
    tie: float = Field(ge=0)
    share_prefixes: bool
    eval_steps: int = Field(ge=0)
    eval_examples: int = Field(ge=2)
    patience: int | None = Field(ge=1)
    max_drop: float = Field(ge=0)
    min_distinct: float = Field(ge=0)

    @property
    def rehearses(self) -> bool:
        """Whether supervised examples are gone over: there is nothing to keep of an untrained model."""
        return self.rehearsal_weight > 0 and self.start == "sft"

    @model_validator(mode="after")
    def _known_rewards(self) -> GRPOSettings:
        self.chosen_rewards()
        if self.patience is not None and not self.eval_steps:
            raise ValueError("patience needs eval_steps")
        return self

    def chosen_rewards(self) -> dict[str, tuple[Reward, float]]:
        """The rewards with their weights, by name."""
        return rewards_of(
            self.rewards,
            sigma=self.sigma,
            tolerance=self.tolerance,
            slope=self.slope,
            tie=self.tie,
            custom=self.own_rewards,
        )

    @model_validator(mode="after")
    def _whole_batches(self) -> GRPOSettings:
        if (self.prompts_per_step * self.generations) % self.batch_size:
            raise ValueError("batch_size must divide prompts_per_step * generations")
        return self


Task = Literal[
    "subtasks",
    "published_subtasks",
    "conversation",
    "direct",
    "score",
    "skills",
    "elements",
    "negative_elements",
    "reason",
    "reason_aspects",
    "reason_pair",
]
STEPS: tuple[Task, ...] = ("subtasks", "published_subtasks", "conversation", "reason", "reason_aspects", "reason_pair")
"""The tasks that are made of a teacher's steps, which people's scores do not have."""


def taught_tasks(tasks: Collection[Task], teacher: str) -> list[Task]:
    """Those of ``tasks`` that a teacher of the kind ``teacher`` can teach: a human one gives scores, and no steps."""
    return [task for task in tasks if teacher != "human" or task not in STEPS]


class ExampleSettings(Settings):
    """What the training examples are made of; each field is one ablation factor of docs/recipes.md.

    Attributes:
        tasks: ``subtasks`` (T2I-Eval's nine), ``published_subtasks`` (the same, with an answer and its explanation as one chat, as
            T2I-Eval's files have them), ``conversation`` (the same chain as one long chat), ``direct`` (one request for
            all scores and an explanation), ``score`` (one request a dimension for its level alone), ``skills`` (EvalAlign's
            options, from people), ``elements`` (yes or no per element, from people), ``negative_elements`` (the same asked the
            other way round, as PN-VQA does), and ``reason``, ``reason_aspects`` and ``reason_pair`` (a thought, then the score, a score
            per dimension, or the scores of two images of one prompt; the thoughts are made of the teacher's chain,
            :mod:`t2i_eval_kedro.training.critiques`).
        scores: whose scores ``score`` and ``direct`` teach: ``auto`` (the teacher's, or people's means where no teacher was
            asked) or ``people``.
        soft: whether ``score`` teaches a distribution over the levels in place of one: ``published`` (DeQA-Score's, from
            people's mean and spread) or ``corrected`` (ours).
        second_round: learn from people's scores after a second, simulated round on items whose raters lie this share of the scale
            apart or more (:mod:`t2i_eval_kedro.shapes.second_round`); null for the ratings as they are.
        variance_weight: weigh the examples of a prompt by how far its images' scores lie apart.
        perturbation: standard deviation of noise on the scores that ``score`` teaches, on 0 to 10.
        text_only: learn the teacher's answers about further prompts and mixed findings, too (``teacher.extra_prompts``,
            ``teacher.mixtures``).
        rehearsal: general examples, so that the student keeps what it could do before: how many to draw (``shapes`` alone), or an
            instruction set in chat JSON (:func:`t2i_eval_kedro.training.rehearsal.read_chats`).
        prompt_fraction: fraction of the training prompts that are used; a smaller one is part of every larger one.
        leave_out: generators whose images are not trained on.
        seed: random seed of the noise and of the choice of prompts.
    """

    tasks: tuple[Task, ...] = Field(min_length=1)
    scores: Literal["auto", "people"]
    soft: Literal["published", "corrected"] | None
    second_round: float | None = Field(gt=0, le=1)
    variance_weight: bool
    perturbation: float = Field(ge=0)
    text_only: bool
    rehearsal: Annotated[int, Field(ge=0)] | str
    prompt_fraction: float = Field(gt=0, le=1, validation_alias=AliasChoices("prompt_fraction", "prompt_share"))
    leave_out: tuple[str, ...]
    seed: int = Field(ge=0)


class RebalancingSettings(Settings):
    """How the training examples of each score are balanced.

    Attributes:
        method: see :func:`t2i_eval_kedro.training.rebalancing.rebalance`.
        repeats: how often the examples of a task are repeated; 1 for a task that is not named.
        split_pairs: as published, resample an explanation and its score apart.
        shares, evenness, max_frequency: for ``weighted``, see :func:`t2i_eval_kedro.training.rebalancing.frequencies`.
        seed: random seed of the resampling.
    """

    method: Literal["official", "oversample", "undersample", "weighted", "none"]
    repeats: dict[str, int]
    split_pairs: bool
    shares: dict[str, Annotated[float, Field(ge=0, le=1)] | None]
    evenness: float = Field(ge=0, le=1)
    max_frequency: float = Field(ge=1)
    seed: int = Field(ge=0)
