"""The Kedro datasets of an adapter folder and of its training, and what makes an adapter folder complete."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError

from t2i_eval_kedro.datasets.atomic import atomic_folder
from t2i_eval_kedro.errors import T2IEvalError

MANIFEST = "manifest.json"
CARD = "README.md"
_NEEDED = ("adapter_config.json", "adapter_model.safetensors")


def write_manifest(folder: Path) -> None:
    """Write the SHA-256 of every file of ``folder`` but the card, which may gain figures later."""
    sums = {
        path.relative_to(folder).as_posix(): _sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (MANIFEST, CARD)
    }
    (folder / MANIFEST).write_text(json.dumps(sums, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def check_folder(folder: Path, needed: tuple[str, ...] = _NEEDED) -> None:
    """Check that an adapter folder, or one of another model with the files ``needed``, is complete.

    Raises:
        T2IEvalError: a file is missing or differs from the manifest.
    """
    if not folder.is_dir():
        raise T2IEvalError(f"Adapter folder '{folder}' does not exist; run the pipeline that trains it first.")
    for name in (*needed, MANIFEST):
        if not (folder / name).is_file():
            raise T2IEvalError(
                f"Adapter folder '{folder}' does not contain {name}, so it is not complete; train the adapter again."
            )
    try:
        sums = dict(json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise T2IEvalError(
            f"'{MANIFEST}' of adapter '{folder}' is damaged ({error}); train the adapter again."
        ) from error
    for name, expected in sums.items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file() or _sha256(path) != expected:
            raise T2IEvalError(f"'{name}' of adapter '{folder}' is not as it was written; train the adapter again.")


class AdapterFolder(AbstractDataset[Path, Path]):
    """A folder that holds a trained adapter.

    Saving takes over a finished folder: it is moved into place in one step and is no longer where it was. Loading checks
    that the folder is complete and returns its path. One that is ``optional`` and not there loads as its path, too, for a node
    that needs it only with some settings, and calls :func:`check_folder` then.

    Example:
        ::

            sft_adapter:
              type: t2i_eval_kedro.datasets.adapter.AdapterFolder
              filepath: data/06_models/shapes/tiny_vlm/full/seed_0/sft

    Args:
        filepath: the folder.
        optional: whether a folder that is not there may be loaded.
        metadata: kept for whoever reads the catalog.
    """

    needed: tuple[str, ...] = _NEEDED
    """The files that such a folder has beside its manifest."""

    def __init__(self, *, filepath: str, optional: bool = False, metadata: dict[str, Any] | None = None) -> None:
        self._folder = Path(filepath)
        self._optional = optional
        self.metadata = metadata

    def load(self) -> Path:
        """The folder."""
        if self._folder.exists() or not self._optional:
            check_folder(self._folder, self.needed)
        return self._folder

    def save(self, data: Path) -> None:
        """Move the finished folder ``data`` into place."""
        check_folder(data, self.needed)
        if data.resolve() == self._folder.resolve():
            return
        with atomic_folder(self._folder) as work:
            work.rmdir()
            shutil.move(data, work)

    def _exists(self) -> bool:
        return (self._folder / MANIFEST).is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._folder)}


class StructureFolder(AdapterFolder):
    """A folder that holds a trained model of structural faults; else as :class:`AdapterFolder`."""

    needed = ("structure_config.json", "model.safetensors")


class TrainingFolder(AbstractDataset[None, Path]):
    """Where a training keeps what it needs while it lasts; loads the folder's path, whether or not there is one."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Take the folder."""
        self._folder = Path(filepath)
        self.metadata = metadata

    def load(self) -> Path:
        """The folder's path."""
        return self._folder

    def save(self, data: None) -> None:
        """Refused: the training itself writes here."""
        raise DatasetError("a training's folder is written by the training alone")

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._folder)}


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
