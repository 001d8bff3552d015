"""Group-relative policy optimisation of an adapter on people's scores with trl's ``GRPOTrainer``.

Source: GRPO (Shao et al., 2024, arXiv 2402.03300); its use for a T2I judge with a continuous reward (T2I-Eval-R1, arXiv
2505.17897). The rewards are ours, see :mod:`t2i_eval_kedro.training.rewards`.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.models.adapters import save_adapter
from t2i_eval_kedro.models.loading import ImageSource, context_length, processor_for_trl
from t2i_eval_kedro.models.settings import ModelSettings
from t2i_eval_kedro.schema import UNPARSED
from t2i_eval_kedro.steps import SCORE
from t2i_eval_kedro.training.checkpoints import Checkpoints, run_hash
from t2i_eval_kedro.training.data import Encoder, data_hash, grpo_dataset
from t2i_eval_kedro.training.rewards import Answers, Reward, best_constant_reward, on_scale, rewards_of
from t2i_eval_kedro.training.settings import GRPOSettings
from t2i_eval_kedro.training.trainers import (
    common_arguments,
    expose_bias,
    gathered_weights,
    in_float32,
    per_process,
    watch,
)

logger = logging.getLogger(__name__)

CURVE = (
    "step",
    "reward",
    "reward_std",
    "best_constant_reward",
    "zero_variance_groups",
    "distinct_scores",
    UNPARSED,
    "completion_length",
    "loss",
    "learning_rate",
)


def train_grpo(
    examples: pd.DataFrame,
    images: ImageSource,
    model: ModelSettings,
    sft_adapter: Path,
    settings: GRPOSettings,
    parse: Callable[[str], float | None],
    out_dir: Path,
    *,
    score_range: tuple[float, float] = (0.0, 10.0),
    checkpoint_dir: Path | None = None,
    data_note: str = "",
) -> pd.DataFrame:
    """Train the adapter on, so that the scores it samples come near people's, and write it to ``out_dir``.

    Args:
        examples: the table ``schema.EXAMPLES``; the task ``score`` of the fold ``train`` is used, its column ``score``
            being people's mean.
        images: where the images of the requests are.
        model: the base model.
        sft_adapter: adapter that training starts from; it is not changed.
        settings: settings of the training.
        parse: reads the score from an answer, or None; the parser that judging uses.
        out_dir: the adapter folder to write.
        score_range: lowest and highest value of ``score`` and of what ``parse`` returns.
        checkpoint_dir: see :func:`t2i_eval_kedro.training.sft.train_sft`.
        data_note: a sentence for the adapter's card on where the data comes from.

    Returns:
        The training curve: step, reward (mean over answers), reward_std (within a group), best_constant_reward (what
        one score for every image would earn), zero_variance_groups (fraction of groups whose answers all earn the same),
        distinct_scores (mean number of different scores in a group), unparsed (fraction of answers without a score on
        the scale), completion_length (mean, in tokens), loss, learning_rate, and reward_<name>, the mean of each reward
        before its weight.

    Raises:
        T2IEvalError: nothing to train on, or an adapter of another base model.
    """
    from accelerate import PartialState
    from transformers import PrinterCallback, set_seed
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer

    train = examples[(examples["fold"] == "train") & (examples["task"] == SCORE) & examples["score"].notna()]
    if train.empty:
        raise T2IEvalError("GRPO needs training examples of the task 'score' with people's mean; there are none.")
    processor, images = processor_for_trl(model.load_processor()), model.limit(images)
    set_seed(settings.seed)
    policy = model.load(adapter=sft_adapter, trainable=True)
    context = context_length(policy.config)
    room = None if context is None else context - settings.max_completion_length
    train = train.iloc[Encoder(train, processor, images).rows_within(None, room)]
    if train.empty:
        raise T2IEvalError(
            f"Every request is longer than the {context} tokens that the model reads, its answer included."
        )
    rewards = rewards_of(
        settings.rewards, sigma=settings.sigma, tolerance=settings.tolerance, custom=settings.own_rewards
    )
    low, high = score_range
    constant, score = best_constant_reward(train["score"], rewards, group=settings.generations, low=low, high=high)
    logger.info("The score %.3g for every image would earn %.3f.", score, constant)
    start_weights = hashlib.sha256((sft_adapter / "adapter_model.safetensors").read_bytes()).hexdigest()
    hashed = data_hash(train)
    run = run_hash("grpo", model, settings, hashed, start_weights)
    checkpoints = Checkpoints(checkpoint_dir, run, settings.save_steps)
    answers = settings.prompts_per_step * settings.generations
    state = PartialState()
    batch_size, passes = per_process(settings.batch_size, answers // settings.batch_size, state.num_processes)
    with checkpoints as work:
        trainer = GRPOTrainer(
            model=policy,
            reward_funcs=_reward_functions(rewards, parse, settings.generations, score_range),
            args=GRPOConfig(
                **common_arguments(settings, model, work, policy)
                | {
                    "max_steps": settings.max_steps,
                    "per_device_train_batch_size": batch_size,
                    "gradient_accumulation_steps": passes,
                    "num_generations": settings.generations,
                    "temperature": settings.temperature,
                    "max_completion_length": settings.max_completion_length,
                    "beta": settings.beta,
                    "scale_rewards": settings.scale_rewards,
                    "loss_type": settings.loss_type,
                    "reward_weights": [weight for _, weight in rewards.values()],
                }
                | settings.trl
            ),
            train_dataset=grpo_dataset(train, images, processor),
            processing_class=processor,
            callbacks=[watch("GRPO", checkpoint_dir)],
        )
        trainer.remove_callback(PrinterCallback)
        expose_bias(trainer.model)
        in_float32(trainer.model)
        start = time.monotonic()
        trainer.train(resume_from_checkpoint=checkpoints.last())
        seconds = time.monotonic() - start
    steps = trainer.state.global_step
    logger.info("GRPO: %d steps of %d answers in %.0f s.", steps, answers, seconds)
    curve = _curve(trainer.state.log_history, constant, rewards)
    weights = gathered_weights(trainer)
    if not state.is_main_process:
        return curve
    save_adapter(
        trainer.accelerator.unwrap_model(trainer.model),
        out_dir,
        weights=weights,
        method="GRPO",
        base=model,
        settings=settings.model_dump(mode="json") | {"start_adapter_sha256": start_weights},
        examples=train,
        data_hash=hashed,
        curve=curve,
        data_note=data_note,
    )
    checkpoints.clear()
    return curve


def _reward_functions(
    rewards: Mapping[str, tuple[Reward, float]],
    parse: Callable[[str], float | None],
    group: int,
    score_range: tuple[float, float],
) -> list[Any]:
    """The functions that trl calls with all answers of a step, the answers to one request side by side; it logs each by its name."""

    def read(completions: Sequence[Sequence[dict[str, Any]]], targets: Sequence[float]) -> Answers:
        texts = [_text(completion) for completion in completions]
        scores = [parse(text) for text in texts]
        valid = [score if on_scale(score, *score_range) else None for score in scores]
        return Answers(valid, targets, texts, group, *score_range)

    def named(name: str, reward: Reward, logs: bool) -> Callable[..., list[float | None]]:
        def function(
            completions: Sequence[Sequence[dict[str, Any]]],
            target_score: Sequence[float],
            log_metric: Callable[[str, float], None],
            **_: Any,
        ) -> list[float | None]:
            answers = read(completions, target_score)
            if logs:
                groups = [set(answers.scores[group]) - {None} for group in answers.groups()]
                log_metric("distinct_scores", sum(map(len, groups)) / len(groups))
                log_metric(UNPARSED, sum(score is None for score in answers.scores) / len(answers.scores))
            return list(reward(answers))

        function.__name__ = name
        return function

    return [named(name, reward, at == 0) for at, (name, (reward, _)) in enumerate(rewards.items())]


def _text(completion: Sequence[dict[str, Any]]) -> str:
    content = completion[0]["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def _curve(history: list[dict[str, Any]], constant: float, names: Iterable[str]) -> pd.DataFrame:
    rows = [
        {
            "step": entry["step"],
            "reward": entry["reward"],
            "reward_std": entry["reward_std"],
            **{f"reward_{name}": entry[f"rewards/{name}/mean"] for name in names},
            "best_constant_reward": constant,
            "zero_variance_groups": entry["frac_reward_zero_std"],
            "distinct_scores": entry["distinct_scores"],
            UNPARSED: entry[UNPARSED],
            "completion_length": entry["completions/mean_length"],
            "loss": entry.get("loss"),  # the last row has none where a run ends before its first row
            "learning_rate": entry.get("learning_rate"),
        }
        for entry in history
        if "reward" in entry
    ]
    return pd.DataFrame(rows, columns=[*CURVE, *(f"reward_{name}" for name in names)])
