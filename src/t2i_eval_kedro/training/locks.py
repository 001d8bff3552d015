"""One training at a time in a folder, and no training process that outlives the run that started it."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from t2i_eval_kedro.errors import T2IEvalError

_WAIT = 60.0  # seconds that processes wait for those of a run that was killed
_POLL = 1.0  # seconds between two looks at the parent


@contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """Hold the training folder ``folder`` while the block runs.

    Raises:
        T2IEvalError: another run holds it; the error says which.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock, holder = (folder.with_name(f"{folder.name}{suffix}") for suffix in (".lock", ".holder.json"))
    held = FileLock(lock)
    try:
        held.acquire(timeout=0)
    except Timeout:
        raise T2IEvalError(
            f"The training in '{folder}' is already running: {_described(holder)}. Wait until it is done, or stop it and run "
            "this again; it resumes from the last checkpoint."
        ) from None
    try:
        about = {
            "process": os.getpid(),
            "host": socket.gethostname(),
            "since": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        }
        holder.write_text(json.dumps(about), encoding="utf-8")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.unlink(missing_ok=True)
        held.release()


def _described(holder: Path) -> str:
    try:
        about = json.loads(holder.read_text(encoding="utf-8"))
        return f"process {about['process']} on {about['host']}, since {about['since']}"
    except (OSError, ValueError, KeyError):
        return "by another process"


@contextmanager
def only_workers(folder: Path) -> Iterator[None]:
    """Hold ``folder`` for the processes of one run; those of a run that was killed are waited for until they have noticed."""
    lock = FileLock(folder / "workers.lock")
    try:
        lock.acquire(timeout=_WAIT)
    except Timeout:
        raise T2IEvalError(f"Training processes of an earlier run still work in '{folder}'; stop them.") from None
    try:
        yield
    finally:
        lock.release()


def end_with(parent: int) -> None:
    """End this process soon after process ``parent`` of the same machine has ended, however that ended."""

    def watch() -> None:
        while _lives(parent):
            time.sleep(_POLL)
        os._exit(1)  # nothing can be left half written: checkpoints are marked when they are complete

    threading.Thread(target=watch, name="parent", daemon=True).start()


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    state = Path(f"/proc/{process}/stat")  # a process that nobody has waited for yet is none
    try:
        return state.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return not Path("/proc/self").exists()
