"""How well judges agree with people: arrays in, tables out, no I/O."""

from __future__ import annotations

from t2i_eval_kedro.agreement.published import reproduce
from t2i_eval_kedro.agreement.summary import summarise

__all__ = ["reproduce", "summarise"]
