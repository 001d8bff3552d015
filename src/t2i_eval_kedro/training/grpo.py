"""Group-relative policy optimisation of an adapter on people's scores or preferences with trl's ``GRPOTrainer``.

Source: GRPO (Shao et al., 2024, arXiv 2402.03300); its use for a T2I judge with a continuous reward (T2I-Eval-R1, arXiv
2505.17897). The rewards are ours, see :mod:`t2i_eval_kedro.training.rewards`.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.protocols.wording import AnswerVocabulary
from t2i_eval_kedro.models.adapters import save_adapter, tasks_taught
from t2i_eval_kedro.models.processors import ImageSource, processor_for_trl
from t2i_eval_kedro.models.settings import ModelSettings
from t2i_eval_kedro.schema import UNPARSED
from t2i_eval_kedro.steps import REASON_PAIR
from t2i_eval_kedro.training.checkpoints import Checkpoints, run_hash
from t2i_eval_kedro.training.data import Encoder, data_hash, grpo_dataset
from t2i_eval_kedro.training.rehearsal import with_files
from t2i_eval_kedro.training.rewards import Answers, Reward, best_constant_reward, on_scale
from t2i_eval_kedro.training.settings import REHEARSAL, GRPOSettings, LoraSettings
from t2i_eval_kedro.training.trainers import (
    common_arguments,
    expose_bias,
    gathered_weights,
    in_float32,
    is_sharded,
    memory_advice,
    on_one_gpu,
    per_process,
    require_whole_groups,
    train_from,
    watch,
)
from t2i_eval_kedro.training.validation import AGREEMENT, EXPECTED, GENERATED, Watcher, measure, readouts, requests_of

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
    "clipped",
    "entropy",
    "kl",
    "loss",
    "rehearsal_loss",
    "learning_rate",
    "agreement_generated",
    "agreement_expected",
)


def train_grpo(
    examples: pd.DataFrame,
    images: ImageSource,
    model: ModelSettings,
    start: Path | LoraSettings,
    settings: GRPOSettings,
    parsers: Mapping[str, Callable[[str], float | None]],
    out_dir: Path,
    *,
    vocabulary: AnswerVocabulary | None = None,
    score_range: tuple[float, float] = (0.0, 10.0),
    checkpoint_dir: Path | None = None,
    data_note: str = "",
) -> pd.DataFrame:
    """Train an adapter so that the scores it samples come near people's, and write it to ``out_dir``.

    Args:
        examples: the table ``schema.EXAMPLES``, its column ``score`` being people's mean, or the difference of their means for a
            pair. Of the fold ``train`` the tasks of ``settings`` are trained on; on the fold ``validation`` agreement is measured, by
            those tasks and by direct score requests; the fold ``rehearsal`` are supervised examples.
        images: where the images of the requests are.
        model: the base model.
        start: adapter that training starts from, which is not changed; or the form of a new one on the untrained model.
        settings: settings of the training.
        parsers: by task, how the score is read from an answer (None: it holds none); the parser that judging uses.
        out_dir: the adapter folder to write.
        vocabulary: levels of direct score requests, for agreement by expected scores; None for none.
        score_range: lowest and highest value of ``score`` and of what a parser returns.
        checkpoint_dir: see :func:`t2i_eval_kedro.training.sft.train_sft`.
        data_note: a sentence for the adapter's card on where the data comes from.

    Returns:
        The training curve: step; reward (mean over answers), reward_std (within a group), best_constant_reward (what
        one score for every image would earn), zero_variance_groups (fraction of groups whose answers all earn the same),
        distinct_scores (mean number of different scores in a group), unparsed (fraction of answers without a score on
        the scale), completion_length (mean, in tokens), clipped (fraction of answers that were cut off), entropy (nats per token), kl
        (divergence from the start, nats per token), loss, rehearsal_loss (nats per token), learning_rate, agreement_generated and
        agreement_expected (on validation prompts, :func:`~t2i_eval_kedro.training.validation.agreement`; step 0 is the start); and
        reward_<name>, the mean of each reward before its weight, with best_constant_<name>. Its ``attrs`` have
        ``seconds`` of the training, those of before an interruption among them, and ``seconds_per_step``: what a step takes on this machine to
        generate, to reward and to update.

    Raises:
        T2IEvalError: nothing to train on or to learn, an adapter of another base model, or a reward that fails.
    """
    from accelerate import PartialState
    from transformers import PrinterCallback, set_seed
    from trl.trainer.grpo_config import GRPOConfig

    from t2i_eval_kedro.training.grpo_trainer import PolicyTrainer

    train = _trained_on(examples, settings)
    processor, images = processor_for_trl(model.load_processor()), model.limit(with_files(images))
    set_seed(settings.seed)
    if isinstance(start, Path):
        start_weights = hashlib.sha256((start / "adapter_model.safetensors").read_bytes()).hexdigest()
    else:
        start_weights = f"new {start.model_dump_json()}"
    context = model.context_length()
    room = None if context is None else context - settings.max_completion_length
    train = train.iloc[Encoder(train, processor, images).rows_within(None, room)]
    if train.empty:
        raise T2IEvalError(
            f"Every request is longer than the {context} tokens that the model reads, its answer included."
        )
    rewards = _applicable(settings.chosen_rewards(), train)
    constants = _best_constants(train, rewards, settings.generations, score_range)
    hashed = data_hash(examples[examples["fold"].isin(["train", "validation", REHEARSAL])])
    run = run_hash("grpo", model, settings, hashed, start_weights)
    checkpoints = Checkpoints(checkpoint_dir, run, settings.save_steps)
    answers = settings.prompts_per_step * settings.generations
    state = PartialState()
    require_whole_groups(settings.prompts_per_step, state.num_processes)
    batch_size, passes = per_process(settings.batch_size, answers // settings.batch_size, state.num_processes)
    rehearsed = examples[examples["fold"] == REHEARSAL]
    if settings.rehearses and rehearsed.empty:
        raise T2IEvalError(
            "grpo.rehearsal_weight asks for supervised examples, and there are none; make them with "
            "--pipelines=teacher_distillation,rebalancing, or set it to 0."
        )
    taught = tasks_taught(start) if isinstance(start, Path) else []
    asked = readouts(examples[examples["fold"] == "validation"], settings, parsers, vocabulary, taught)
    with checkpoints as work:
        arguments = GRPOConfig(
            **common_arguments(settings, model, work)
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
        )
        arguments = on_one_gpu(arguments)
        policy = (
            model.load(adapter=start, trainable=True)
            if isinstance(start, Path)
            else _new_adapter(model, start, examples, processor)
        )
        trainer = PolicyTrainer(
            model=policy,
            reward_funcs=_reward_functions(rewards, parsers, settings, score_range),
            args=arguments,
            train_dataset=grpo_dataset(train, images, processor),
            processing_class=processor,
        )
        trainer.remove_callback(PrinterCallback)
        expose_bias(trainer.model)
        in_float32(trainer.model)
        _complete_reference(trainer.model)
        sharded = is_sharded(trainer)
        if settings.share_prefixes and not sharded:
            trainer.share_prefixes(requests_of(train, settings.max_completion_length), images)
        if settings.rehearses:
            encoder = Encoder(rehearsed, processor, images, cache_mb=512, seed=settings.seed)
            trainer.rehearse(encoder, settings.rehearsal_weight, settings.rehearsal_examples)
        measures = bool(settings.eval_steps and asked and not sharded)
        if settings.eval_steps and not measures:
            reason = "the model is sharded over processes" if asked else "no validation prompt has a rating"
            logger.warning(
                "Agreement is not measured during this training (%s), so that grpo.patience and grpo.max_drop do not stop it and the last "
                "adapter is kept.",
                reason,
            )
        now = partial(_measured, trainer, asked, processor, images, settings.batch_size)
        last = checkpoints.last()
        watcher = Watcher(settings, now if measures else None, last)
        trainer.add_callback(watcher.callback)  # before the one that marks a checkpoint as complete
        watching = watch("GRPO", checkpoint_dir)
        trainer.add_callback(watching)
        with memory_advice("grpo", "grpo.batch_size"):
            train_from(trainer, last)
        seconds = watching.seconds
        watcher.restore(trainer.accelerator.unwrap_model(trainer.model))
    steps = trainer.state.global_step
    logger.info("GRPO: %d steps of %d answers in %.0f s.", steps, answers, seconds)
    if watcher.stopped:
        kept = "" if watcher.best_step is None else f"; the adapter of step {watcher.best_step} is kept"
        logger.warning("GRPO was stopped at step %d of %d: %s%s.", steps, settings.max_steps, watcher.stopped, kept)
    elif watcher.best_step not in (None, steps):
        logger.info("The adapter of step %d is kept, which agrees best on validation prompts.", watcher.best_step)
    curve = _curve(trainer.state.log_history, constants, rewards)
    split = _seconds_per_step(trainer.state.log_history)
    curve.attrs["seconds"] = round(seconds, 1)
    curve.attrs["seconds_per_step"] = {name: round(value, 3) for name, value in split.items()}
    logger.info("A step took %s.", ", ".join(f"{value:.2f} s for {name}" for name, value in split.items()))
    weights = gathered_weights(trainer)
    if not state.is_main_process:
        return curve
    trained = trainer.accelerator.unwrap_model(trainer.model)
    if "ref" in trained.peft_config:  # trl's copy of the adapter at the start
        trained.delete_adapter("ref")
    save_adapter(
        trained,
        out_dir,
        weights=weights,
        method="GRPO",
        base=model,
        settings=settings.model_dump(mode="json")
        | {"start_adapter_sha256": start_weights, "kept_step": watcher.best_step, "stopped": watcher.stopped}
        | ({} if taught is None else {"taught": sorted({*taught, *settings.tasks})}),
        examples=train,
        data_hash=hashed,
        curve=curve,
        data_note=data_note,
    )
    checkpoints.clear()
    return curve


def _trained_on(examples: pd.DataFrame, settings: GRPOSettings) -> pd.DataFrame:
    """The requests to train on.

    Raises:
        T2IEvalError: there are none, or nothing distinguishes them.
    """
    asked = examples[(examples["fold"] == "train") & examples["task"].isin(settings.tasks)]
    train = asked[asked["score"].notna()]
    named = "', '".join(settings.tasks)
    if train.empty:
        raise T2IEvalError(f"GRPO needs training examples of the task '{named}' with people's score; there are none.")
    if len(train) < len(asked):
        logger.warning("%d of %d requests have no rating and are left out.", len(asked) - len(train), len(asked))
    for task, rows in train.groupby("task"):
        if rows["score"].nunique() == 1:
            raise T2IEvalError(
                f"All {len(rows)} training examples of the task '{task}' have the same score ({rows['score'].iloc[0]:g}), so that "
                "there is nothing to learn; check the ratings."
            )
    return train


def _new_adapter(model: ModelSettings, lora: LoraSettings, examples: pd.DataFrame, processor: Any) -> Any:
    """The base model with a new adapter on it."""
    from peft import get_peft_model

    from t2i_eval_kedro.training.sft import lora_config, score_tokens

    base = model.load(trainable=True)
    return get_peft_model(base, lora_config(lora, base, score_tokens(examples, processor)))


def _complete_reference(model: Any) -> None:
    """Give trl's reference the embeddings of the trained tokens, which its copy of the adapter leaves out (trl 1.16).

    Their parameters end in the adapter's name, where those of LoRA have it in their middle. Without them the divergence is not from
    the adapter at the start.
    """
    parameters = dict(model.named_parameters())
    for name, parameter in parameters.items():
        reference = parameters.get(f"{name.removesuffix('.default')}.ref") if name.endswith(".default") else None
        if reference is not None:
            reference.data.copy_(parameter.data)


def _measured(
    trainer: Any, asked: Any, processor: Any, images: ImageSource, batch_size: int, _model: Any
) -> dict[str, float]:
    return measure(asked, trainer.accelerator.unwrap_model(trainer.model), processor, images, batch_size)


def _applicable(rewards: Mapping[str, tuple[Reward, float]], train: pd.DataFrame) -> dict[str, tuple[Reward, float]]:
    """Those of ``rewards`` that apply to what is trained: of one image, of two, or of any.

    Raises:
        T2IEvalError: none does.
    """
    pairs = set(train["task"] == REASON_PAIR)
    unsuited = (
        {"pairwise"} if pairs == {False} else {"linear", "gaussian", "binary", "rank"} if pairs == {True} else set()
    )
    kept = {name: entry for name, entry in rewards.items() if name not in unsuited}
    if not set(kept) - {"format", "length", "diversity"}:
        raise T2IEvalError(
            f"None of the rewards {', '.join(rewards)} compares an answer with people's score of what is asked; give one in "
            f"grpo.rewards, such as {'pairwise' if pairs == {True} else 'gaussian'}: 1.0."
        )
    return kept


def _best_constants(
    train: pd.DataFrame, rewards: Mapping[str, tuple[Reward, float]], group: int, score_range: tuple[float, float]
) -> dict[str, float]:
    """What one score for every image (and one difference for every pair) earns at best: in sum (``""``) and by each reward alone."""
    low, high = score_range
    constants = dict.fromkeys(["", *rewards], 0.0)
    for compared, rows in train.groupby(train["task"] == REASON_PAIR):
        share = len(rows) / len(train)
        for name in constants:
            some = {name: (rewards[name][0], 1.0)} if name else rewards
            best, score = best_constant_reward(
                rows["score"], some, group=group, low=low, high=high, compared=bool(compared)
            )
            constants[name] += share * best
            if not name:
                what = "difference for every pair" if compared else "score for every image"
                logger.info("The best %s, %.3g, would earn %.3f.", what, score, best)
    return constants


def _reward_functions(
    rewards: Mapping[str, tuple[Reward, float]],
    parsers: Mapping[str, Callable[[str], float | None]],
    settings: GRPOSettings,
    score_range: tuple[float, float],
) -> list[Any]:
    """The functions that trl calls with all answers of a step, the answers to one request side by side; it logs each by its name."""
    low, high = score_range

    def read(
        completions: Sequence[Sequence[dict[str, Any]]],
        completion_ids: Sequence[Sequence[int]],
        targets: Sequence[float],
        tasks: Sequence[str],
    ) -> Answers:
        texts = [_text(completion) for completion in completions]
        compared = [task == REASON_PAIR for task in tasks]
        scores = [parsers[task](text) for task, text in zip(tasks, texts, strict=True)]
        ends = [(low - high, high - low) if pair else (low, high) for pair in compared]
        valid = [score if on_scale(score, *end) else None for score, end in zip(scores, ends, strict=True)]
        if settings.targets == "preferences":
            targets = [
                _sign(target, settings.tie) * (high - low) if pair else target
                for target, pair in zip(targets, compared, strict=True)
            ]
        lengths = [len(ids) for ids in completion_ids]
        return Answers(
            valid, targets, texts, settings.generations, low, high, compared, lengths, settings.max_completion_length
        )

    def named(name: str, reward: Reward, logs: bool) -> Callable[..., list[float | None]]:
        def function(
            completions: Sequence[Sequence[dict[str, Any]]],
            completion_ids: Sequence[Sequence[int]],
            target_score: Sequence[float],
            task: Sequence[str],
            log_metric: Callable[[str, float], None],
            **_: Any,
        ) -> list[float | None]:
            answers = read(completions, completion_ids, target_score, task)
            if logs:
                groups = [set(answers.scores[group]) - {None} for group in answers.groups()]
                log_metric("distinct_scores", sum(map(len, groups)) / len(groups))
                log_metric(UNPARSED, sum(score is None for score in answers.scores) / len(answers.scores))
            return list(reward(answers))

        function.__name__ = name
        return function

    return [named(name, reward, at == 0) for at, (name, (reward, _)) in enumerate(rewards.items())]


def _sign(difference: float, tie: float) -> int:
    """1, -1 or 0: which of two images people prefer.

    Example:
        >>> _sign(3.0, 0.5), _sign(-3.0, 0.5), _sign(0.5, 0.5)
        (1, -1, 0)
    """
    return 0 if abs(difference) <= tie else 1 if difference > 0 else -1


def _text(completion: Sequence[dict[str, Any]]) -> str:
    content = completion[0]["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def _curve(history: list[dict[str, Any]], constants: Mapping[str, float], names: Iterable[str]) -> pd.DataFrame:
    """One row per logged step, and per step at which agreement was measured."""
    rows: dict[int, dict[str, Any]] = {}
    for entry in history:
        if AGREEMENT in entry:
            measured = {f"{AGREEMENT}_{name}": entry.get(f"{AGREEMENT}_{name}") for name in (GENERATED, EXPECTED)}
            rows.setdefault(entry["step"], {}).update(measured)
        if "reward" in entry:
            rows.setdefault(entry["step"], {}).update(
                {
                    "reward": entry["reward"],
                    "reward_std": entry["reward_std"],
                    "best_constant_reward": constants[""],
                    "zero_variance_groups": entry["frac_reward_zero_std"],
                    "distinct_scores": entry["distinct_scores"],
                    UNPARSED: entry[UNPARSED],
                    "completion_length": entry["completions/mean_length"],
                    "clipped": entry["completions/clipped_ratio"],
                    "entropy": entry.get("entropy"),
                    "kl": entry.get("kl"),
                    "loss": entry.get("loss"),  # the last row has none where a run ends before its first row
                    "rehearsal_loss": entry.get("rehearsal_loss"),
                    "learning_rate": entry.get("learning_rate"),
                    **{f"reward_{name}": entry[f"rewards/{name}/mean"] for name in names},
                    **{f"best_constant_{name}": constants[name] for name in names},
                }
            )
    columns = [*CURVE, *(f"{kind}_{name}" for name in names for kind in ("reward", "best_constant"))]
    curve = pd.DataFrame([{"step": step} | rows[step] for step in sorted(rows)], columns=columns)
    return curve.assign(**{name: curve[name].astype(float) for name in columns if name != "step"})


def _seconds_per_step(history: list[dict[str, Any]]) -> dict[str, float]:
    """What a step took on average to generate, to reward, and for the rest: forward and backward passes."""
    entries = [entry for entry in history if "step_time" in entry and "seconds/generation" in entry]
    if not entries:
        return {}
    whole, generation, reward = (
        math.fsum(entry[name] for entry in entries) / len(entries)
        for name in ("step_time", "seconds/generation", "seconds/reward")
    )
    return {"generation": generation, "reward": reward, "update": whole - generation - reward}
