"""Weights that are put into a network, all of them and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from t2i_eval_kedro.errors import T2IEvalError


def load_exactly(network: Any, weights: Mapping[str, torch.Tensor], source: str) -> None:
    """Load ``weights`` into ``network``.

    Args:
        network: a torch module.
        weights: its state dict.
        source: where the weights come from, for the error.

    Raises:
        T2IEvalError: a weight is missing, unexpected or of another shape; names the first five.
    """
    parameters = network.state_dict()
    wrong = sorted(
        [f"{name}: missing" for name in parameters.keys() - weights.keys()]
        + [f"{name}: unexpected" for name in weights.keys() - parameters.keys()]
        + [
            f"{name}: shape {tuple(weights[name].shape)}, expected {tuple(parameters[name].shape)}"
            for name in parameters.keys() & weights.keys()
            if weights[name].shape != parameters[name].shape
        ]
    )
    if wrong:
        raise T2IEvalError(f"The weights of '{source}' do not fit the configuration: {'; '.join(wrong[:5])}.")
    network.load_state_dict(dict(weights))
