"""trl's ``SFTTrainer`` with a loss that scores the answers alone and may weigh the examples.

On a CPU, trl's own loss runs the output layer over every position of a batch, requests and padding included, which
costs a small model a quarter of a step; and it knows no weights. On a GPU its fused kernel is the better one.
"""

from __future__ import annotations

from typing import Any, Literal

import torch

from t2i_eval_kedro.training.data import IGNORED
from t2i_eval_kedro.training.sampling import FrequencyTrainer

_NOT_INPUTS = ("labels", "weight", "soft_ids", "soft_labels")  # of a batch, but no inputs of the model


class AnswerLossTrainer(FrequencyTrainer):
    """Mean cross-entropy of the answers, each example's tokens times its weight; soft labels by their divergence.

    Batches come from :class:`t2i_eval_kedro.training.data.Encoder`, as one batch or in parts. They are padded on the left, so that
    the answers stand in the last columns.
    """

    def __init__(self, *args: Any, mean_over: Literal["tokens", "examples"] = "tokens", **kwargs: Any) -> None:
        """Take the arguments of trl's trainer.

        Args:
            args: as trl's.
            mean_over: what weighs alike in an optimiser step: the tokens of all answers, or the answers, each by the mean over its tokens.
            kwargs: as trl's.
        """
        super().__init__(*args, **kwargs)
        self.mean_over = mean_over

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> Any:
        """The batches of one optimiser step, and what the sum of their losses is divided by: their answers' tokens, or their answers."""
        batches, tokens = super().get_batch_samples(epoch_iterator, num_batches, device)
        if self.mean_over == "tokens":
            return batches, tokens
        examples = sum(len(part["labels"]) for batch in batches for part in batch.get("parts", [batch]))
        return batches, self.accelerator.reduce(torch.tensor(examples, device=device))

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """The loss of a batch as a scalar; ``num_items_in_batch`` counts the answers' tokens, or the answers, of the optimiser step."""
        parts, by_example = inputs.get("parts", [inputs]), self.mean_over == "examples"
        results = [answer_loss(model, part, by_example=by_example) for part in parts]
        loss, correct, tokens = (torch.stack(values).sum() for values in zip(*results, strict=True))
        mode = "train" if model.training else "eval"
        counts = self.accelerator.reduce(torch.stack([correct, tokens]))  # summed over the processes
        self._metrics[mode]["mean_token_accuracy"].append((counts[0] / counts[1]).item())
        if num_items_in_batch is None:
            return loss / (sum(len(part["labels"]) for part in parts) if by_example else tokens)
        processes: int = self.accelerator.num_processes  # which gradients are averaged over
        return loss / num_items_in_batch * processes

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not counted: the count would need the tokens of a batch in one tensor."""
        return 0


def answer_loss(
    model: Any, inputs: dict[str, torch.Tensor], *, by_example: bool = False
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sums over the answers' tokens of a batch: weighted cross-entropy in nats, number of tokens that ``model`` ranks first, and tokens.

    Args:
        model: a model; one that knows no ``logits_to_keep`` and gives the logits of all positions takes more time.
        inputs: one batch of :class:`t2i_eval_kedro.training.data.Encoder`.
        by_example: sum the mean cross-entropies of the answers instead of those of their tokens.
    """
    labels = inputs["labels"]
    fields = {name: value for name, value in inputs.items() if name not in _NOT_INPUTS}
    first = int((labels != IGNORED).any(dim=0).int().argmax())  # column of the first answer token of the batch
    answers = labels[:, first:]
    logits = model(**fields, use_cache=False, logits_to_keep=answers.shape[1] + 1).logits
    logits = logits[:, -answers.shape[1] - 1 : -1]
    losses = torch.nn.functional.cross_entropy(
        logits.float().flatten(0, 1), answers.flatten(), ignore_index=IGNORED, reduction="none"
    ).view_as(answers)
    if "soft_ids" in inputs:
        losses = _with_soft_labels(losses, logits, answers, inputs["soft_ids"], inputs["soft_labels"])
    if "weight" in inputs:
        losses = losses * inputs["weight"][:, None]
    if by_example:
        losses = losses / (answers != IGNORED).sum(dim=1, keepdim=True)
    return losses.sum(), (logits.argmax(dim=-1) == answers).sum(), (answers != IGNORED).sum()


def _with_soft_labels(
    losses: torch.Tensor, logits: torch.Tensor, answers: torch.Tensor, ids: torch.Tensor, probabilities: torch.Tensor
) -> torch.Tensor:
    """``losses`` (B, T) with the divergence KL(soft label || model) at the first answer token of each example that has a soft label."""
    first = (answers != IGNORED).int().argmax(dim=1, keepdim=True)
    row = torch.arange(len(answers), device=answers.device)
    log_model = logits[row, first[:, 0]].float().log_softmax(dim=-1).gather(1, ids)
    divergence = (torch.xlogy(probabilities, probabilities) - probabilities * log_model).sum(dim=1, keepdim=True)
    soft = probabilities.sum(dim=1, keepdim=True) > 0
    return losses.scatter(1, first, torch.where(soft, divergence, losses.gather(1, first)))
