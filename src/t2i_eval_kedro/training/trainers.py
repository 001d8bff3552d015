"""What supervised fine-tuning and GRPO share: the trainer's arguments, and what watches a run."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.models.settings import ModelSettings
from t2i_eval_kedro.training.checkpoints import mark_complete
from t2i_eval_kedro.training.settings import GRPOSettings, SFTSettings

if TYPE_CHECKING:
    import torch
    from transformers import Trainer

logger = logging.getLogger(__name__)


def trains_on_cpu(model: ModelSettings) -> bool:
    """Whether ``model`` is trained on a CPU: it is told to, or there is no GPU."""
    import torch

    return model.device == "cpu" or not torch.cuda.is_available()


def common_arguments(settings: SFTSettings | GRPOSettings, model: ModelSettings, work: Path) -> dict[str, Any]:
    """Arguments of ``transformers.TrainingArguments``, safe on a CPU, where trl's defaults ask for bf16.

    They are made before the model is loaded: under DeepSpeed ZeRO-3, that is what lets transformers load it shard by shard.
    """
    on_cpu = trains_on_cpu(model)
    return {
        "output_dir": str(work),
        "use_cpu": on_cpu,
        "bf16": model.dtype == "bfloat16",
        "fp16": model.dtype == "float16",
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": settings.schedule,
        "warmup_steps": settings.warmup_steps,
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "gradient_checkpointing": settings.gradient_checkpointing,
        "logging_steps": settings.logging_steps,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps" if settings.save_steps else "no",
        "save_steps": settings.save_steps or 500,
        "save_total_limit": settings.checkpoints_kept,
        "seed": settings.seed,
        "dataloader_pin_memory": not on_cpu,
        "ddp_broadcast_buffers": False,  # no model's change in training, and processes may pass through it unequally often
        "ddp_find_unused_parameters": True,  # a batch without an image leaves the vision tower out
        "remove_unused_columns": False,
        "report_to": "none",
        "disable_tqdm": True,
    }


def on_one_gpu(arguments: Any) -> Any:
    """``arguments`` for a training that is one process: it takes one GPU, and the log says so where there are more.

    transformers would spread each batch over all of them by DataParallel, which trl refuses.
    """
    if arguments.n_gpu > 1:
        logger.info("Training on one of %d GPUs; launch.processes=%d takes them all.", arguments.n_gpu, arguments.n_gpu)
        arguments._n_gpu = 1
    return arguments


@contextmanager
def memory_advice(what: str, batch: str) -> Iterator[None]:
    """Turn running out of memory into a T2IEvalError that names the settings to lower.

    Args:
        what: the parameters' group, ``sft`` or ``grpo``.
        batch: how the batch is made smaller without changing the step.
    """
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise T2IEvalError(
            f"The GPU's memory is used up ({str(error).splitlines()[0]}). Lower model.max_pixels (then images are fewer tokens), "
            f"then {batch}, then set model.quantize=4bit; or share the model among several GPUs (launch.processes and "
            f"launch.accelerate), with which the run resumes from its last checkpoint; with other settings of model or {what} it starts anew."
        ) from error


def per_process(batch_size: int, passes: int, processes: int) -> tuple[int, int]:
    """Examples per forward pass and passes per step of each of ``processes``, which divide a step evenly.

    Raises:
        T2IEvalError: the step cannot be divided evenly.

    Example:
        >>> per_process(2, 64, 8), per_process(32, 1, 2)
        ((2, 8), (16, 1))
    """
    fewer = math.gcd(passes, processes)
    left = processes // fewer
    if batch_size % left:
        raise T2IEvalError(
            f"A step of {batch_size * passes} examples cannot be divided evenly among {processes} processes with "
            f"batch_size={batch_size}; change launch.processes, the batch size or the accumulation steps."
        )
    return batch_size // left, passes // fewer


def require_whole_groups(prompts: int, processes: int) -> None:
    """Refuse a step of GRPO whose ``prompts`` cannot be divided among ``processes``: rewards compare the answers to one request.

    Raises:
        T2IEvalError: a process would have some of the answers to a request, and another the rest.
    """
    if prompts % processes:
        raise T2IEvalError(
            f"grpo.prompts_per_step={prompts} cannot be divided among {processes} processes so that each has all answers to its requests, "
            "which rewards compare; set it to a multiple of the processes (launch.processes)."
        )


def is_sharded(trainer: Trainer) -> bool:
    """Whether the processes share the model, so that none has all of it."""
    return bool(trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled)


def takes_parts(trainer: Any) -> bool:
    """Whether a batch may go through the model in several passes before its gradients are computed.

    Processes that share the model must pass through it equally often. Where each has a copy, every pass must use all that is trained
    (torch's DistributedDataParallel), and one without an image uses nothing of a vision tower.
    """
    if trainer.accelerator.num_processes == 1:
        return True
    if is_sharded(trainer):
        return False
    base = trainer.model.get_base_model()
    text_model = base.get_decoder()
    inside = set(map(id, text_model.parameters()))
    return text_model is not base and all(id(weight) in inside for weight in base.parameters() if weight.requires_grad)


def gathered_weights(trainer: Trainer) -> dict[str, torch.Tensor] | None:
    """Weights of a model that is sharded over processes, gathered on the first of them; None where each process has them all.

    Every process must call this.
    """
    if trainer.is_deepspeed_enabled:
        return dict(trainer.accelerator.get_state_dict(trainer.deepspeed) or {})  # DeepSpeed gives the others None
    if trainer.is_fsdp_enabled:
        return dict(trainer.accelerator.get_state_dict(trainer.model) or {})
    return None


def parameters_held(model: Any) -> tuple[int, int]:
    """How many parameters this process holds, and how many ``model`` has: fewer where it is sharded over processes."""
    from torch.distributed.tensor import DTensor

    held = total = 0
    for parameter in model.parameters():
        total += getattr(parameter, "ds_numel", parameter.numel())  # DeepSpeed's name for what it has sharded
        local = parameter.to_local() if isinstance(parameter, DTensor) else getattr(parameter, "ds_tensor", parameter)
        held += local.numel()
    return held, total


def expose_bias(model: Any) -> None:
    """Let trl's fused loss read the bias of the output layer of a peft model, which peft's wrapper of trained tokens hides."""
    head = model.get_base_model().get_output_embeddings()
    if not hasattr(head, "bias"):
        head.bias = getattr(head.original_module, "bias", None)


def in_float32(model: Any) -> None:
    """Train in float32, whatever the base model is stored in: trl makes the adapter of a 4-bit model bfloat16.

    bfloat16 has 8 significant bits, so that steps below a 256th of a weight would be lost. The float32 adapter is what
    other models get from peft.
    """
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


_SECONDS = "seconds_so_far"
"""Name of the time of a training in its log, by which a run that is resumed knows what came before."""


class _NothingToTrain(Exception):
    """The checkpoint that a training resumes from is of its last step."""


def train_from(trainer: Any, checkpoint: Path | None) -> None:
    """Train, which may resume from ``checkpoint``; one of the last step is taken as it is.

    transformers would go on with the epoch that the last step is in, and make a step more than ``max_steps``. The trainer's callbacks
    have one of :func:`watch`.
    """
    try:
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    except _NothingToTrain:
        trainer.is_in_train = False
        if trainer.args.load_best_model_at_end and trainer.state.best_model_checkpoint is not None:
            trainer._load_best_model()


def watch(title: str, checkpoint_dir: Path | None) -> Any:
    """Callback that shows progress, marks complete checkpoints, and stops before a checkpoint is written with a loss of NaN.

    Its ``seconds`` are what the training has taken so far, with what it took before the checkpoint that it goes on from.

    Args:
        title: text before the progress bar.
        checkpoint_dir: folder of the checkpoints, for the error, or None.
    """
    from accelerate import PartialState
    from tqdm import tqdm
    from transformers import TrainerCallback

    class Watch(TrainerCallback):
        before, begun = 0.0, math.nan

        @property
        def seconds(self) -> float:
            return self.before + time.monotonic() - self.begun

        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.before = max((entry.get(_SECONDS, 0.0) for entry in state.log_history), default=0.0)
            self.begun = time.monotonic()
            process = PartialState()
            held, total = parameters_held(kwargs["model"])
            if held < total:
                logger.warning(
                    "Process %d of %d holds %d of %d parameters.",
                    *(process.process_index, process.num_processes, held, total),
                )
            self.bar = tqdm(
                total=state.max_steps,
                initial=state.global_step,
                desc=title,
                unit="step",
                mininterval=1,
                disable=not state.is_world_process_zero,
            )
            if state.global_step >= state.max_steps:  # see train_from
                self.bar.close()
                raise _NothingToTrain

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.bar.update(state.global_step - self.bar.n)
            if control.should_save:  # the loss is looked at before the weights that it belongs to are kept
                control.should_log = True
                state.log_history.append({"step": state.global_step, _SECONDS: self.seconds})

        def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            shown = {name: kwargs["logs"][name] for name in ("loss", "reward", "eval_loss") if name in kwargs["logs"]}
            self.bar.set_postfix({name: f"{value:.3f}" for name, value in shown.items()}, refresh=False)
            if not math.isfinite(shown.get("loss", 0.0)):
                self.bar.close()
                kept = f"; the last good checkpoint is in '{checkpoint_dir}'" if checkpoint_dir else ""
                raise T2IEvalError(
                    f"The loss is not a finite number at step {state.global_step} of {state.max_steps}; lower the learning rate "
                    f"({args.learning_rate:g}){kept}."
                )

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            PartialState().wait_for_everyone()  # each process writes a file of its own
            if state.is_world_process_zero:
                mark_complete(Path(args.output_dir) / f"checkpoint-{state.global_step}")

        def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.bar.close()

    return Watch()
