"""How well judges agree with people: arrays in, tables out, no I/O.

The package is callable: ``from t2i_eval_kedro import agreement`` gives this module or the function of
:mod:`t2i_eval_kedro.api`, as it was imported before or not, and both measure agreement.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from t2i_eval_kedro.agreement.published import reproduce
from t2i_eval_kedro.agreement.summary import summarise

__all__ = ["reproduce", "summarise"]


class _Callable(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """See :func:`t2i_eval_kedro.api.agreement`."""
        from t2i_eval_kedro.api import agreement

        return agreement(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
