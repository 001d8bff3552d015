"""Keeps libraries from saying what a user of this project cannot act on."""

from __future__ import annotations

import logging
import warnings
from typing import Any


def quiet_libraries() -> None:
    """Silence deprecations between transformers, peft and trl, the bar over loaded weights, missing optional kernels, and the
    hint of tqdm at widgets in notebooks."""
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|peft|trl)(\.|$)")
    warnings.filterwarnings("ignore", message="IProgress not found")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    from transformers.utils import logging as transformers_logging  # slow to import, and imported next anyway

    disable_bar: Any = transformers_logging.disable_progress_bar
    disable_bar()
