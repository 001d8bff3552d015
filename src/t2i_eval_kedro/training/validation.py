"""How well a judge that is being trained agrees with people on validation prompts, and when its training stops for that.

It is read out in two ways: ``generated`` (what it writes, greedily, to the requests that it is trained on) and ``expected`` (the
probability-weighted score of the direct request, in one forward pass). Both matter: reinforcement learning sharpens the first and may
ruin the second. An adapter that was never taught the direct request is measured by both, and judged by the first alone.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from t2i_eval_kedro.judging.protocols.base import Answer, ChatMessage, Request
from t2i_eval_kedro.judging.protocols.wording import AnswerVocabulary
from t2i_eval_kedro.models.processors import ImageSource
from t2i_eval_kedro.schema import OK
from t2i_eval_kedro.steps import SCORE
from t2i_eval_kedro.training.settings import GRPOSettings

if TYPE_CHECKING:
    import torch
    from transformers import TrainerCallback

logger = logging.getLogger(__name__)

GENERATED, EXPECTED = "generated", "expected"
AGREEMENT = "agreement"
_ROWS, _FEWEST = 10, 3  # logged rows that the number of different scores is averaged over; fewer say nothing


def requests_of(examples: pd.DataFrame, max_tokens: int, candidate_tokens: tuple[str, ...] = ()) -> list[Request]:
    """The requests of ``examples`` (the table ``schema.EXAMPLES``), to be answered by at most ``max_tokens`` tokens."""
    return [
        Request(
            item_id=str(row.item_id),
            step=str(row.example_id),
            task=str(row.task),
            aspect=str(row.aspect),
            messages=tuple(
                ChatMessage(message["role"], message["text"], tuple(message["images"]))
                for message in json.loads(str(row.messages))
            ),
            max_tokens=max_tokens,
            candidate_tokens=candidate_tokens,
        )
        for row in examples.itertuples()
    ]


@dataclass(frozen=True)
class Readout:
    """One way of asking the judge on validation prompts.

    Attributes:
        name: ``generated`` or ``expected``.
        decides: whether it counts for which adapter is kept and when training stops: not where the judge was never taught to be asked so.
        requests: what it is asked.
        targets: people's score of each, or the difference of the two for a pair.
        read: score that an answer states, or None.
    """

    name: str
    decides: bool
    requests: Sequence[Request]
    targets: Sequence[float]
    read: Callable[[Request, Answer], float | None]


def readouts(
    validation: pd.DataFrame,
    settings: GRPOSettings,
    parsers: Mapping[str, Callable[[str], float | None]],
    vocabulary: AnswerVocabulary | None,
    taught: Collection[str] | None = None,
) -> list[Readout]:
    """The readouts that ``validation`` (examples of that fold) has requests for.

    Args:
        validation: the requests of the trained tasks, and direct score requests.
        settings: settings of the training.
        parsers: by task, how the score is read from an answer.
        vocabulary: the levels of the direct score request; None for no ``expected`` readout.
        taught: the tasks that the adapter at the start was taught; None where that is not known, which is taken for all.
    """
    known_score = taught is None or SCORE in taught or SCORE in settings.tasks

    def parsed(request: Request, answer: Answer) -> float | None:
        return parsers[request.task](answer.text) if answer.status == OK else None

    def expected(request: Request, answer: Answer) -> float | None:
        return vocabulary.expectation(answer.probabilities) if vocabulary and answer.probabilities else None

    rated = validation[validation["score"].notna()]
    made = []
    for name, decides, tasks, levels, read in (
        (GENERATED, True, settings.tasks, (), parsed),
        (EXPECTED, known_score, (SCORE,) if vocabulary else (), vocabulary.levels if vocabulary else (), expected),
    ):
        rows = rated[rated["task"].isin(tasks)]
        if len(rows) > settings.eval_examples:
            chosen = np.random.default_rng(settings.seed).choice(len(rows), settings.eval_examples, replace=False)
            rows = rows.iloc[np.sort(chosen)]
        if len(rows) > 1:
            requests = requests_of(rows, settings.max_completion_length, levels)
            made.append(Readout(name, decides, requests, [float(score) for score in rows["score"]], read))
    return made


def agreement(scores: Sequence[float | None], targets: Sequence[float]) -> float:
    """Spearman's rank correlation over the answers that hold a score, times their fraction; 0 where all scores are alike.

    Ours: a judge of which a tenth can be read, however well, is no good judge.

    Example:
        >>> agreement([1, 5, 9, None], [2, 3, 8, 9]), agreement([5, 5, 5], [1, 2, 3])
        (0.75, 0.0)
    """
    read = [(score, target) for score, target in zip(scores, targets, strict=True) if score is not None]
    if len(read) < 2:
        return 0.0
    a, b = (pd.Series(values).rank().to_numpy() for values in zip(*read, strict=True))
    if not (a.std() and b.std()):
        return 0.0
    return float(round(np.corrcoef(a, b)[0, 1] * len(read) / len(scores), 6))


def measure(
    asked: Sequence[Readout], model: Any, processor: Any, images: ImageSource, batch_size: int
) -> dict[str, float]:
    """The agreement of ``model`` as it is now by each readout, and the mean of those that decide, as entries of a training log."""
    from t2i_eval_kedro.judging.backends.transformers import TransformersBackend

    training = model.training
    backend = TransformersBackend(model, processor, images, batch_size=batch_size)
    values: dict[str, float] = {}
    for readout in asked:
        scores: list[float | None] = [None] * len(readout.requests)
        for place, answer in backend.answer(readout.requests):
            scores[place] = readout.read(readout.requests[place], answer)
        values[f"{AGREEMENT}_{readout.name}"] = agreement(scores, readout.targets)
    model.train(training)
    deciding = [values[f"{AGREEMENT}_{readout.name}"] for readout in asked if readout.decides]
    return values | {AGREEMENT: float(np.mean(deciding or list(values.values())))}


class Watcher:
    """Measures agreement while a training runs, keeps the best adapter, and stops a run that collapses or gets no better.

    Attributes:
        stopped: why the training was stopped, or "".
        best_step: step of the adapter that is kept.
    """

    def __init__(
        self, settings: GRPOSettings, measure_now: Callable[[Any], dict[str, float]] | None, checkpoint: Path | None
    ) -> None:
        """Watch a training.

        Args:
            settings: when to measure and when to stop.
            measure_now: agreement of a model as it is; None for no measurements.
            checkpoint: the one that the training goes on from, which holds the adapter that was best by then; None for a new training.
        """
        self.settings, self._measure, self._checkpoint = settings, measure_now, checkpoint
        self.stopped = ""
        self.best_step: int | None = None
        self._best: dict[str, torch.Tensor] = {}

    @property
    def callback(self) -> TrainerCallback:
        """What the trainer calls."""
        from transformers import TrainerCallback

        watcher = self

        class Watching(TrainerCallback):
            def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                watcher.begin(state, kwargs["model"])

            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                if watcher.step(state, kwargs["model"]):
                    control.should_training_stop = True
                    control.should_log = True

            def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                watcher.save(Path(args.output_dir) / f"checkpoint-{state.global_step}")

            def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                if watcher.alike(state.log_history):
                    control.should_training_stop = True

        return Watching()

    def begin(self, state: Any, model: Any) -> None:
        """Measure the adapter at the start, or take up what an interrupted run measured."""
        if self._measure is None:
            return
        history = _measured(state.log_history)
        if not history:
            self._note(state, model)
            return
        from safetensors.torch import load_file

        assert self._checkpoint is not None
        self.best_step = max(history, key=lambda entry: entry[AGREEMENT])["step"]
        self._best = load_file(self._checkpoint / _best_file())

    def step(self, state: Any, model: Any) -> bool:
        """Measure where it is time to; whether the training is to stop."""
        if self._measure is not None and (
            state.global_step % self.settings.eval_steps == 0 or state.global_step == state.max_steps
        ):
            self._note(state, model)
            history = [entry[AGREEMENT] for entry in _measured(state.log_history)]
            last, best = history[-1], max(history)
            if last < history[0] - self.settings.max_drop:
                self.stopped = f"agreement fell from {history[0]:.3f} to {last:.3f} on validation prompts"
            elif (
                self.settings.patience is not None and len(history) - 1 - history.index(best) >= self.settings.patience
            ):
                self.stopped = (
                    f"agreement on validation prompts was not above {best:.3f} for {self.settings.patience} times"
                )
        return bool(self.stopped)

    def alike(self, history: Sequence[Mapping[str, Any]]) -> bool:
        """Whether the answers of a group have become alike; ``history`` is the trainer's log."""
        counts = [entry["distinct_scores"] for entry in history if "distinct_scores" in entry][-_ROWS:]
        if len(counts) >= _FEWEST and not self.stopped and math.fsum(counts) / len(counts) < self.settings.min_distinct:
            self.stopped = (
                f"the answers of a group have {math.fsum(counts) / len(counts):.2f} different scores, fewer than "
                f"{self.settings.min_distinct:g} (grpo.min_distinct)"
            )
            if not any(counts):
                self.stopped += (
                    f": no answer holds a score that can be read; teach the student to answer so ({', '.join(self.settings.tasks)} in "
                    "examples.tasks, which a teacher's critiques are needed for, or another base model)"
                )
        return bool(self.stopped)

    def save(self, checkpoint: Path) -> None:
        """Write the adapter that is best so far beside the weights of a checkpoint, so that a run that goes on from there has both."""
        if self._best:
            from safetensors.torch import save_file

            save_file(self._best, checkpoint / _best_file())

    def restore(self, model: Any) -> None:
        """Give ``model`` the weights of the best adapter, where agreement was measured."""
        for name, parameter in model.named_parameters():
            if name in self._best:
                parameter.data.copy_(self._best[name].to(parameter.device))

    def _note(self, state: Any, model: Any) -> None:
        assert self._measure is not None
        entry = {"step": state.global_step, **self._measure(model)}
        before = [one[AGREEMENT] for one in _measured(state.log_history)]
        state.log_history.append(entry)
        logger.info(
            "Step %d: %s on validation prompts.",
            entry["step"],
            ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in entry.items() if name != "step"),
        )
        if not before or entry[AGREEMENT] > max(before):
            self._keep(model, entry["step"])

    def _keep(self, model: Any, step: int) -> None:
        self.best_step = step
        self._best = {
            name: parameter.detach().cpu().clone()
            for name, parameter in model.named_parameters()
            if parameter.requires_grad
        }


def _best_file() -> str:
    """Name of this process's copy of the best adapter in a checkpoint."""
    from accelerate import PartialState

    return f"best-{PartialState().process_index}.safetensors"


def _measured(history: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [entry for entry in history if AGREEMENT in entry]
