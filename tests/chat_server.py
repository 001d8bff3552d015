"""The slow chat server of the benchmarks as a process, and what it counted."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kedro_project import ROOT


@dataclass(frozen=True)
class ChatServer:
    url: str
    log: Path

    def counted(self, what: str) -> Counter[str]:
        """How often each key was ``asked``, ``answered``, ``replayed`` or found ``gone``."""
        return Counter(line.split()[1] for line in self.log.read_text().splitlines() if line.split()[0] == what)


@contextmanager
def serving(folder: Path, delay: float) -> Iterator[ChatServer]:
    log = folder / "server.log"
    command = [sys.executable, "-m", "perf.chat_server", "--delay", str(delay), "--log", str(log)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield ChatServer(f"http://127.0.0.1:{int(process.stdout.readline())}/v1", log)
        finally:
            process.kill()
