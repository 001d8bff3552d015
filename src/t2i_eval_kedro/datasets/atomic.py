"""Writes that are either whole or not there: to a temporary sibling first, then moved into place."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from t2i_eval_kedro.errors import T2IEvalError


def require_writable(out: Path) -> None:
    """Check, before any work, that the file or folder ``out`` can be written.

    Raises:
        T2IEvalError: a file stands in the place of one of its folders, or there is no write access.
    """
    place = next(path for path in (out.resolve(), *out.resolve().parents) if path.exists())
    folder = place.parent if place == out.resolve() and place.is_file() else place
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        why = "is no folder" if not folder.is_dir() else "gives no write access"
        raise T2IEvalError(f"'{out}' cannot be written: '{folder}' {why}; choose another place (--out).")


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling of ``path`` to write to; it replaces ``path`` when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)  # mkstemp makes files that only their owner reads
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary sibling of folder ``path``; it takes its place when the block ends without error.

    A folder cannot replace a full one in one step, so the old one is moved aside first; whoever opens ``path``
    between the two moves finds no folder, never half of one. Of several writers the last one's folder stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    new = temporary / "new"
    new.mkdir()
    old = temporary / "old"
    try:
        yield new
        for attempt in count():
            old = temporary / f"old{attempt}"
            with suppress(FileNotFoundError):  # nothing is there, or another writer has just moved it
                os.replace(path, old)
            try:
                os.replace(new, path)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            else:
                break  # otherwise another writer was faster: its folder is moved aside in turn
    finally:
        if not path.exists() and old.exists():
            os.replace(old, path)
        shutil.rmtree(temporary, ignore_errors=True)
