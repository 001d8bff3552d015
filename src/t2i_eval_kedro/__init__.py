"""Train an open multimodal model to judge text-to-image images as people do, and measure how well any judge agrees.

Four functions need no Kedro session: :func:`load_judge`, :func:`load_structure`, :func:`agreement` and :func:`read_benchmark`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from t2i_eval_kedro.api import agreement, load_judge, load_structure, read_benchmark

__version__ = "0.1.0"
__all__ = ["agreement", "load_judge", "load_structure", "read_benchmark"]


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: ``import t2i_eval_kedro`` alone loads no library."""
    if name in __all__:
        from t2i_eval_kedro import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
