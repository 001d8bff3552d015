"""What a model might have generated instead: the likeliest tokens at each position of its answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from t2i_eval_kedro.judging.protocols.base import Token


class TopLogprobsProcessor:
    """A logits processor that changes nothing and notes the ``n`` likeliest tokens at each position.

    It keeps n numbers a position where ``output_logits`` would keep the whole vocabulary.
    """

    def __init__(self, n: int) -> None:
        """Note ``n`` tokens, or those that there are."""
        self._n = n
        self._steps: list[tuple[list[list[float]], list[list[int]]]] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Note the tokens of one position from ``scores``, (rows, vocabulary), and return them as they are."""
        top = scores.float().log_softmax(dim=-1).topk(min(self._n, scores.shape[-1]))
        self._steps.append((top.values.tolist(), top.indices.tolist()))
        return scores

    def tokens(self, row: int, ids: Sequence[int], tokenizer: Any) -> tuple[Token, ...]:
        """The generated ``ids`` of ``row``; greedy decoding takes the likeliest, which is the first of those noted."""
        return tuple(
            Token(
                tokenizer.decode([chosen]),
                values[row][0],
                {tokenizer.decode([top]): value for value, top in zip(values[row], tops[row], strict=True)},
            )
            for chosen, (values, tops) in zip(ids, self._steps, strict=False)
        )
