"""Writes that are either whole or not there: in a temporary folder beside their place first, then moved there.

A writer holds a lock on that folder. What a killed process left behind has none; the next writer of the same path removes it.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from t2i_eval_kedro.errors import T2IEvalError

UNFINISHED = ".unfinished-"


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
    """Yield a temporary path to write a file to; it replaces ``path`` when the block ends without an error."""
    # The lock is on a folder: safetensors writes a file of its own and moves it here, and a lock on the file that it replaces would be lost.
    temporary, lock = _sibling(path)
    new = temporary / f"new{path.suffix}"
    try:
        yield new
        os.replace(new, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(lock)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary sibling of folder ``path``; it takes its place when the block ends without error.

    A folder cannot replace a full one in one step, so the old one is moved aside first; whoever opens ``path``
    between the two moves finds no folder, never half of one. Of several writers the last one's folder stays.
    """
    temporary, lock = _sibling(path)
    new = temporary / "new"
    old = temporary / "old"
    try:
        new.mkdir()
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
    except BaseException:
        with suppress(OSError):  # there was none, or another writer's folder is in place
            if not path.exists():
                os.replace(old, path)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(lock)


def _sibling(path: Path) -> tuple[Path, int]:
    """A new temporary folder beside ``path``, and the open file that holds its lock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{path.name}{UNFINISHED}"
    for left in path.parent.glob(f"{glob.escape(prefix)}*"):
        _remove_if_left(left, path)
    while True:
        name = tempfile.mkdtemp(prefix=prefix, dir=path.parent)
        try:
            lock = os.open(name, os.O_RDONLY)
        except FileNotFoundError:  # another writer was faster, and took it for one that was left
            continue
        with suppress(OSError):  # a file system without locks: then nobody takes it for one that was left, either
            fcntl.flock(lock, fcntl.LOCK_EX)
        if Path(name).exists():
            return Path(name), lock
        os.close(lock)


def _remove_if_left(sibling: Path, path: Path) -> None:
    """Remove ``sibling`` if the process that wrote it is gone; the folder that it had moved aside goes back to ``path``."""
    with suppress(OSError):  # its writer is at work and holds the lock, or another one has just removed it
        lock = os.open(sibling, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for old in sibling.glob("old*"):
                if not path.exists():
                    os.replace(old, path)
            shutil.rmtree(sibling)
        finally:
            os.close(lock)
