"""Trains in this process, or in several that ``accelerate launch`` starts on this module.

A training is a :class:`Job`: everything that it depends on, as data. Processes that are started on it read the job, its examples and
its images from files; nothing of Kedro runs in them, so that no node runs twice. The folder of a training holds

| file | written by |
|---|---|
| ``job.json``, ``examples.parquet`` | the node, where processes are to be started; the job last |
| ``checkpoints/`` | the training, see :mod:`t2i_eval_kedro.training.checkpoints` |
| ``curve.parquet``, ``error.txt`` | the first process: what came of it |

and is deleted once the adapter is complete.
"""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import subprocess
import sys
from abc import abstractmethod
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from t2i_eval_kedro.datasets.atomic import atomic_file
from t2i_eval_kedro.datasets.image_store import ImageStore
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.evaluators import JudgingSettings
from t2i_eval_kedro.judging.protocols.base import Answer
from t2i_eval_kedro.judging.protocols.parsing import parse_score
from t2i_eval_kedro.judging.protocols.reasoning import IMAGES, parse_reasoned
from t2i_eval_kedro.judging.protocols.wording import AnswerVocabulary
from t2i_eval_kedro.models.settings import ModelSettings
from t2i_eval_kedro.models.structure.settings import Architecture, StructureSettings
from t2i_eval_kedro.steps import REASON, REASON_PAIR, SCORE
from t2i_eval_kedro.training.locks import end_with, only_run, only_workers
from t2i_eval_kedro.training.settings import GRPOSettings, LaunchSettings, LoraSettings, SFTSettings

logger = logging.getLogger(__name__)

_JOB, _EXAMPLES, _CURVE, _ERROR, _CHECKPOINTS = (
    "job.json",
    "examples.parquet",
    "curve.parquet",
    "error.txt",
    "checkpoints",
)
_MIXED_PRECISION = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}  # as accelerate calls them


class _Job(BaseModel):
    """What supervised fine-tuning and GRPO share: the base model, and a sentence on the data for the adapter's card."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: ModelSettings
    data_note: str

    @property
    def on_cpu(self) -> bool:
        """Whether a CPU trains although there may be a GPU."""
        return self.model.device == "cpu"

    @property
    def dtype(self) -> Literal["float32", "bfloat16", "float16"]:
        """Precision of the sums."""
        return self.model.dtype

    @property
    def quantized(self) -> bool:
        """Whether the base model is stored in fewer bits, so that every process must hold it whole."""
        return self.model.quantize is not None

    @abstractmethod
    def train(self, examples: pd.DataFrame, images: ImageStore, out_dir: Path, checkpoints: Path) -> pd.DataFrame:
        """Train an adapter into ``out_dir`` and return the curve."""


class SFTJob(_Job):
    """One supervised fine-tuning, see :func:`t2i_eval_kedro.training.sft.train_sft`."""

    method: Literal["sft"] = "sft"
    settings: SFTSettings

    def train(self, examples: pd.DataFrame, images: ImageStore, out_dir: Path, checkpoints: Path) -> pd.DataFrame:
        """Train an adapter into ``out_dir`` and return the curve."""
        from t2i_eval_kedro.training.sft import train_sft  # torch is slow to import

        return train_sft(
            examples, images, self.model, self.settings, out_dir, checkpoint_dir=checkpoints, data_note=self.data_note
        )


class GRPOJob(_Job):
    """One GRPO, see :func:`t2i_eval_kedro.training.grpo.train_grpo`; answers are read as ``judging`` reads them.

    ``start`` is the adapter to go on from; None for a new one of the form ``lora``.
    """

    method: Literal["grpo"] = "grpo"
    settings: GRPOSettings
    start: Path | None
    lora: LoraSettings
    judging: JudgingSettings
    templates: dict[str, str]

    def train(self, examples: pd.DataFrame, images: ImageStore, out_dir: Path, checkpoints: Path) -> pd.DataFrame:
        """Train an adapter into ``out_dir`` and return the curve."""
        from t2i_eval_kedro.training.grpo import train_grpo  # torch is slow to import

        levels = self.judging.options.levels(self.judging.load_wording(self.templates)).vocabulary
        return train_grpo(
            examples,
            images,
            self.model,
            self.start or self.lora,
            self.settings,
            score_parsers(levels),
            out_dir,
            vocabulary=levels,
            checkpoint_dir=checkpoints,
            data_note=self.data_note,
        )


def score_parsers(levels: AnswerVocabulary) -> dict[str, Callable[[str], float | None]]:
    """By task of GRPO, how the score is read from an answer: strictly; of a pair, the first image's minus the second's."""

    def level(text: str) -> float | None:
        return parse_score(Answer(text), levels, reading="strict").value

    def reasoned(text: str) -> float | None:
        read = parse_reasoned(text)
        return None if read is None else read.scores[0]

    def margin(text: str) -> float | None:
        read = parse_reasoned(text, IMAGES)
        if read is None:
            return None
        a, b = (score for score in read.scores if score is not None)
        return a - b

    return {SCORE: level, REASON: reasoned, REASON_PAIR: margin}


class StructureJob(BaseModel):
    """One training of a model of structural faults, see :func:`t2i_eval_kedro.training.structure.train.train_structure`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["structure"] = "structure"
    architecture: Architecture
    settings: StructureSettings
    quantized: Literal[False] = False

    @property
    def on_cpu(self) -> bool:
        """Whether a CPU trains although there may be a GPU."""
        return self.settings.device == "cpu"

    @property
    def dtype(self) -> Literal["float32", "bfloat16", "float16"]:
        """Precision of the sums."""
        return self.settings.precision

    def train(self, examples: pd.DataFrame, images: ImageStore, out_dir: Path, checkpoints: Path) -> pd.DataFrame:
        """Train a model into ``out_dir`` and return the curve."""
        from t2i_eval_kedro.training.structure.train import train_structure  # torch is slow to import

        return train_structure(examples, images, self.architecture, self.settings, out_dir, checkpoint_dir=checkpoints)


AnyJob = SFTJob | GRPOJob | StructureJob
Job = Annotated[AnyJob, Field(discriminator="method")]


def run(
    job: AnyJob, examples: pd.DataFrame, images: ImageStore, launch: LaunchSettings, folder: Path
) -> tuple[Path, pd.DataFrame]:
    """Train as ``launch`` asks for.

    Args:
        job: the training.
        examples: the table ``schema.EXAMPLES``.
        images: images of the requests.
        launch: number of processes and machines.
        folder: folder of the training; a run that finds what an interrupted one left there resumes it.

    Returns:
        The adapter's folder, which lies beside ``folder``, and the training curve.

    Raises:
        T2IEvalError: what ended the training, or that another run trains in ``folder``.
    """
    with only_run(folder):
        return _run(job, examples, images, launch, folder)


def _run(
    job: AnyJob, examples: pd.DataFrame, images: ImageStore, launch: LaunchSettings, folder: Path
) -> tuple[Path, pd.DataFrame]:
    adapter = _adapter(folder)
    if launch.total == 1 and launch.accelerate is None:
        curve = job.train(examples, images, adapter, folder / _CHECKPOINTS)
    elif job.quantized and launch.accelerate:
        raise T2IEvalError(
            "A 4-bit base model cannot be sharded: every process holds a full copy. Set launch.accelerate=null, or "
            "model.quantize=null to use FSDP or DeepSpeed."
        )
    else:
        _refuse_more_than_gpus(job, launch)
        _describe(job, examples, images, folder)
        _start(launch, folder, job)
        curve = pd.read_parquet(folder / _CURVE)
    shutil.rmtree(folder, ignore_errors=True)
    return adapter, curve


def command(launch: LaunchSettings, folder: Path, dtype: str = "float32", rank: str = "0") -> list[str]:
    """What starts the training processes of one machine; ``rank`` is its number, 0 for the first.

    Processes compute in ``dtype``, whatever accelerate's configuration file says.

    Raises:
        T2IEvalError: accelerate's configuration file is not there.
    """
    if launch.accelerate is None:
        how = ["--multi_gpu", "--mixed_precision=no", "--dynamo_backend=no"]
    elif Path(launch.accelerate).is_file():
        how = [f"--config_file={launch.accelerate}", f"--mixed_precision={_MIXED_PRECISION[dtype]}"]
    else:
        raise T2IEvalError(f"There is no file '{launch.accelerate}' (launch.accelerate); correct the path.")
    if launch.machines == 1:
        how += ["--num_machines=1", "--main_process_port=0"]  # any free port
    else:
        how += [
            f"--num_machines={launch.machines}",
            f"--machine_rank={rank}",
            f"--main_process_ip={launch.address}",
            f"--main_process_port={launch.port}",
        ]
    launcher = [sys.executable, "-m", "accelerate.commands.launch", *how, f"--num_processes={launch.total}"]
    parent = [str(os.getpid())] if rank == "0" else []  # whose end is theirs; the other machines have none
    return [*launcher, "--module", __name__, str(folder), *parent]


def _adapter(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.adapter")


def _describe(job: AnyJob, examples: pd.DataFrame, images: ImageStore, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in (_CURVE, _ERROR):
        (folder / name).unlink(missing_ok=True)
    examples.to_parquet(folder / _EXAMPLES)
    with atomic_file(folder / _JOB) as path:
        path.write_text(_Described(job=job, images=images.folder).model_dump_json(indent=1), encoding="utf-8")


def _refuse_more_than_gpus(job: AnyJob, launch: LaunchSettings) -> None:
    """Refuse more processes than this machine has GPUs, where it has some and they are to train."""
    import torch

    gpus = torch.cuda.device_count()
    if gpus and not job.on_cpu and launch.processes > gpus:
        raise T2IEvalError(
            f"launch.processes={launch.processes}, and this machine shows {gpus} GPU{'s' * (gpus > 1)}, of which each process "
            f"takes one. Set launch.processes={gpus}, or show more (CUDA_VISIBLE_DEVICES)."
        )


def environment(job: AnyJob) -> dict[str, str]:
    """The environment of the processes: those that train on a CPU see no GPU, or they would wait for each other on one."""
    return dict(os.environ) | ({"CUDA_VISIBLE_DEVICES": ""} if job.on_cpu else {})


def _start(launch: LaunchSettings, folder: Path, job: AnyJob) -> None:
    started = command(launch, folder, job.dtype)
    if launch.machines > 1:
        logger.info(
            "On each of the other machines, by its number: %s",
            shlex.join(command(launch, folder, job.dtype, "NUMBER")),
        )
    logger.info("Starting %d training processes on this machine.", launch.processes)
    done = subprocess.run(started, check=False, env=environment(job))  # its progress goes where ours goes
    if done.returncode == 0:
        return
    told = folder / _ERROR
    if told.is_file():
        raise T2IEvalError(told.read_text(encoding="utf-8"))
    raise T2IEvalError(
        f"The training processes ended with status {done.returncode}; what they printed stands above, and the training "
        f"resumes from the last checkpoint in '{folder}' when it is run again."
    )


class _Described(BaseModel):
    """The content of ``job.json``."""

    model_config = ConfigDict(extra="forbid")

    job: Job
    images: Path | None


def _main(folder: Path, parent: int | None = None) -> int:
    """What each process does: the training, as it is described in ``folder``, while the process ``parent`` lives."""
    import torch
    from accelerate import PartialState

    if parent is not None:
        end_with(parent)

    described = TypeAdapter(_Described).validate_json((folder / _JOB).read_bytes())
    on_cpu = described.job.on_cpu or not torch.cuda.is_available()
    if on_cpu and os.environ.get("ACCELERATE_USE_FSDP") == "true":
        _shard_on_cpu()
    state = PartialState(cpu=on_cpu)
    logging.basicConfig(level=logging.INFO if state.is_main_process else logging.WARNING, format="%(message)s")
    try:
        with only_workers(folder) if state.is_main_process else nullcontext():
            state.wait_for_everyone()  # the first one has waited for those of an earlier run
            curve = described.job.train(
                pd.read_parquet(folder / _EXAMPLES),
                ImageStore(described.images),
                _adapter(folder),
                folder / _CHECKPOINTS,
            )
        if state.is_main_process:
            curve.to_parquet(folder / _CURVE)
        state.wait_for_everyone()
    except T2IEvalError as error:
        if state.is_main_process or not (folder / _ERROR).exists():
            with atomic_file(folder / _ERROR) as path:
                path.write_text(str(error), encoding="utf-8")
        return 1
    finally:
        state.destroy_process_group()
    return 0


def _shard_on_cpu() -> None:
    """Let FSDP2 share a model among processes without GPUs, so that what is run on GPUs can be tried on any machine.

    torch shards on a CPU as well; accelerate 1.15 does so only for processes that it takes for those of GPUs.
    """
    import torch
    from accelerate import DistributedType, PartialState

    state: Any = PartialState
    prepare = state._prepare_backend

    def as_on_gpu(self: Any, *args: Any, **kwargs: Any) -> tuple[str, DistributedType]:
        backend, kind = prepare(self, *args, **kwargs)
        return backend, DistributedType.MULTI_GPU if kind == DistributedType.MULTI_CPU else kind

    state._prepare_backend = as_on_gpu
    os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
    torch.distributed.init_process_group("gloo")


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None))
