"""Checkpoints of a training that may be interrupted: which run they belong to, and which of them are complete.

A checkpoint is several files. When all are written, ``files.json`` lists their sizes; a checkpoint without it, or with a file of
another size, is partial.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
import tempfile
from pathlib import Path
from types import TracebackType

from t2i_eval_kedro.datasets.atomic import atomic_file
from t2i_eval_kedro.models.loading import fingerprint
from t2i_eval_kedro.models.settings import ModelSettings
from t2i_eval_kedro.training.settings import GRPOSettings, SFTSettings

logger = logging.getLogger(__name__)

_RUN = "run.json"
_FILES = "files.json"
_NOT_THE_RESULT = {"save_steps", "checkpoints_kept", "image_cache_mb", "loader_workers", "logging_steps"}


def run_hash(method: str, model: ModelSettings, settings: SFTSettings | GRPOSettings, *parts: str) -> str:
    """What two trainings that give the same adapter have in common, as 64 hexadecimal digits."""
    described = {
        "method": method,
        "base": fingerprint(model.model, revision=model.revision),
        "dtype": model.dtype,
        "quantize": model.quantize,
        "pixels": (model.min_pixels, model.max_pixels),
        "thinking": model.thinking,
        "settings": settings.model_dump(mode="json", exclude=_NOT_THE_RESULT),
        "parts": parts,
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


class Checkpoints:
    """The folder a trainer works in: a lasting one, or a temporary one where no checkpoints are asked for.

    Args:
        folder: lasting folder, or None.
        run: hash of the run; checkpoints of another run are deleted.
        save_steps: steps between two checkpoints; 0 for none.
    """

    def __init__(self, folder: Path | None, run: str, save_steps: int) -> None:
        self._lasting = folder if save_steps else None
        self._run = run
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Path:
        if self._lasting is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="t2i-eval-training-")
            return Path(self._temporary.name)
        from accelerate import PartialState

        with PartialState().main_process_first():
            self._claim(self._lasting)
        return self._lasting

    def _claim(self, folder: Path) -> None:
        """Make the folder this run's."""
        stamp = folder / _RUN
        if folder.exists() and not (stamp.is_file() and stamp.read_text(encoding="utf-8") == self._run):
            logger.warning("The checkpoints in '%s' belong to another run and are deleted.", folder)
            self.clear()
        folder.mkdir(parents=True, exist_ok=True)
        stamp.write_text(self._run, encoding="utf-8")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._temporary is not None:
            self._temporary.cleanup()

    def last(self) -> Path | None:
        """The newest complete checkpoint, or None; partial ones that are newer are deleted."""
        if self._lasting is None:
            return None
        numbered = {
            int(match[1]): path
            for path in self._lasting.iterdir()
            if (match := re.fullmatch(r"checkpoint-(\d+)", path.name))
        }
        for step in sorted(numbered, reverse=True):
            if _is_complete(numbered[step]):
                logger.info("Resuming from step %d.", step)
                return numbered[step]
            logger.warning("The checkpoint of step %d is partial and is deleted.", step)
            shutil.rmtree(numbered[step], ignore_errors=True)  # another process of the training may have been faster
        return None

    def clear(self) -> None:
        """Delete the checkpoints, of another run or of one that is done."""
        if self._lasting is not None:
            shutil.rmtree(self._lasting, ignore_errors=True)


def mark_complete(checkpoint: Path) -> None:
    """Write the sizes of a checkpoint's files beside them, which says that all of them are written."""
    sizes = {path.name: path.stat().st_size for path in sorted(checkpoint.iterdir()) if path.is_file()}
    with atomic_file(checkpoint / _FILES) as path:
        path.write_text(json.dumps(sizes, indent=1), encoding="utf-8")


def _is_complete(checkpoint: Path) -> bool:
    """Whether :func:`mark_complete` was called, and every file is still as long as it was then."""
    try:
        sizes = json.loads((checkpoint / _FILES).read_text(encoding="utf-8"))
        return all((checkpoint / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError):
        return False
