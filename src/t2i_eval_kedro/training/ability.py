"""Whether a student can learn and be asked what an experiment wants of it, by its processor alone: before a teacher is paid for answers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.models.answers import candidate_sequences, keeps_answers
from t2i_eval_kedro.models.processors import processor_for_trl
from t2i_eval_kedro.models.settings import ModelSettings
from t2i_eval_kedro.steps import CONVERSATION
from t2i_eval_kedro.training.data import level_tokens

SEVERAL_ANSWERS = (CONVERSATION, "published_subtasks")
"""Tasks whose examples have several learned answers in one conversation."""


def require_able(
    model: ModelSettings,
    *,
    tasks: Collection[str],
    choices: Iterable[Sequence[str]],
    soft: Collection[str] = (),
    grpo: bool = False,
    start: str | None = None,
) -> None:
    """Check the model's processor; its weights are not loaded.

    Args:
        model: the student.
        tasks: tasks that it is taught (``examples.tasks``).
        choices: the sets of words between which judging lets it choose.
        soft: levels that are taught as soft labels.
        grpo: whether it is trained with GRPO.
        start: folder of the adapter that fine-tuning goes on from (``sft.start``).

    Raises:
        T2IEvalError: what the model cannot do, and what to change.
    """
    processor = model.load_processor()
    if start is not None and not (Path(start) / "adapter_config.json").is_file():
        raise T2IEvalError(
            f"There is no adapter in '{start}' to go on from (sft.start); correct the path, or set it to null for a new one."
        )
    for words in choices:
        candidate_sequences(processor, words)
    if soft:
        level_tokens(processor, soft)
    together = [task for task in SEVERAL_ANSWERS if task in tasks]
    if together and not keeps_answers(processor):
        raise T2IEvalError(
            f"The chat template of '{model.model}' writes an earlier answer differently once the conversation goes on, so several answers of one "
            f"conversation cannot be learned together; leave '{together[0]}' out of examples.tasks, or use another model."
        )
    if grpo:
        processor_for_trl(processor)
