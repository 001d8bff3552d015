"""The answer store: what was asked before and what came back, by the hash of the request, in one SQLite file.

The store holds JSON texts alone. Good answers and failed ones stand in two tables: a good answer is final and never
written over; a failed one that was paid for is kept for the account and replaced by the next try. Every ``put`` is on disk when it
returns (write-ahead log), so that a process may be killed at any moment; SQLite keeps two processes from harming each
other, and :meth:`AnswerStore.exclusive_lock` keeps them from asking the same thing twice.
"""

from __future__ import annotations

import fcntl
import json
import logging
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset

from t2i_eval_kedro.datasets.canonical import acting_on_faults
from t2i_eval_kedro.errors import T2IEvalError

log = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS failures (number INTEGER PRIMARY KEY, key TEXT NOT NULL, answer TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS failure_keys ON failures (key);
CREATE TABLE IF NOT EXISTS batches (batch TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID;
"""
_WAIT_S = 60.0


class AnswerStore:
    """Answers by key; see the module. May be used from several threads and processes."""

    def __init__(self, path: Path) -> None:
        """Open the store at ``path``, made empty where there is none.

        Raises:
            T2IEvalError: the file is not an answer store, or cannot be written.
        """
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._readable_errors():
            # Autocommit: one statement is one transaction. WAL with synchronous=NORMAL survives a killed process.
            self._db = sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(_SCHEMA)

    def get(self, key: str) -> Any:
        """The answer under ``key``, or None."""
        return self._first("SELECT answer FROM answers WHERE key = ?", key)

    def failure(self, key: str) -> Any:
        """The last failed answer under ``key``, or None."""
        return self._first("SELECT answer FROM failures WHERE key = ? ORDER BY number DESC LIMIT 1", key)

    def put(self, key: str, answer: Mapping[str, Any], *, failed: bool = False) -> None:
        """Keep ``answer``; it is on disk when this returns.

        Raises:
            T2IEvalError: the disk is full, or the file cannot be written.
        """
        table = "failures (key, answer)" if failed else "answers (key, answer)"
        text = json.dumps(answer, ensure_ascii=False, allow_nan=False)
        with self._readable_errors():
            self._db.execute(f"INSERT OR IGNORE INTO {table} VALUES (?, ?)", (key, text))

    def every_answer(self) -> Iterator[Any]:
        """Every answer, good or failed, without its key: what an account is made from."""
        with self._readable_errors():
            for table in ("answers", "failures"):
                for (text,) in self._db.execute(f"SELECT answer FROM {table}"):
                    yield json.loads(text)

    def batches(self) -> dict[str, Any]:
        """What is being waited for: batch -> its state."""
        with self._readable_errors():
            return {batch: json.loads(state) for batch, state in self._db.execute("SELECT batch, state FROM batches")}

    def put_batch(self, batch: str, state: Mapping[str, Any] | None) -> None:
        """Keep the state of ``batch``; None forgets it."""
        with self._readable_errors():
            if state is None:
                self._db.execute("DELETE FROM batches WHERE batch = ?", (batch,))
            else:
                self._db.execute("INSERT OR REPLACE INTO batches VALUES (?, ?)", (batch, json.dumps(state)))

    def __len__(self) -> int:
        with self._readable_errors():
            return int(self._db.execute("SELECT count(*) FROM answers").fetchone()[0])

    @contextmanager
    def exclusive_lock(self) -> Iterator[None]:
        """Hold the store for one run: another one waits here, and then finds what this one was answered.

        The lock is the kernel's, so it goes with the process that holds it however that ends.
        """
        with self.path.with_suffix(".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.warning("Another run is asking with the answers of %s; waiting for it.", self.path)
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def close(self) -> None:
        """Leave one file behind: the write-ahead log goes into the database. The store may not be used afterwards."""
        self._db.close()

    def _first(self, query: str, key: str) -> Any:
        with self._readable_errors():
            row = self._db.execute(query, (key,)).fetchone()
            return None if row is None else json.loads(row[0])

    @contextmanager
    def _readable_errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.DatabaseError, json.JSONDecodeError) as error:
            if isinstance(error, sqlite3.OperationalError):
                way_out = (
                    "free some space or correct its rights, and run again: nothing that was answered before is lost"
                )
            else:
                way_out = "restore it with `dvc checkout`, or move it away"
            raise T2IEvalError(f"The answer store {self.path} cannot be used ({error}); {way_out}.") from error


class AnswerStoreDataset(AbstractDataset[AnswerStore, AnswerStore]):
    """An answer store as a Kedro dataset. It is loaded to be read and added to; there is nothing to save.

    Example catalog entry::

        teacher_answers:
          type: t2i_eval_kedro.datasets.answer_store.AnswerStoreDataset
          filepath: data/03_primary/shapes/teacher_answers.sqlite
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Take the file; ``metadata`` is for plugins."""
        self._path = Path(filepath)
        self.metadata = metadata

    @acting_on_faults()
    def load(self) -> AnswerStore:
        """The store, made empty where there is none."""
        return AnswerStore(self._path)

    def save(self, data: AnswerStore) -> None:
        """Nothing: every answer was on disk when it came."""

    def _exists(self) -> bool:
        return self._path.is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._path)}
