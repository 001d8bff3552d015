"""The client of a teacher behind a server: speed, cost in processor time, memory, and what a killed run costs.

The server is ``perf.chat_server`` in a process of its own, which answers every request after 200 ms. Beside this project's
client stands the loop of T2I-Eval's code, one request at a time with the same SDK; it is measured on fewer requests, because it
takes as long as it takes, and both figures are given for one request.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from openai import OpenAI
from pydantic import SecretStr

from perf.teacher_client import backend, settings
from t2i_eval_kedro.datasets.answer_store import AnswerStore
from t2i_eval_kedro.judging.backends.openai import Chat
from t2i_eval_kedro.judging.protocols import ChatMessage, Request

REQUESTS, IN_FLIGHT, DELAY_S = 2000, 32, 0.2
LOOP_REQUESTS = 100
PICTURE = b"\x89PNG" + np.random.default_rng(0).bytes(50_000)  # an image of ordinary size; nobody decodes it
KILLS, ITEMS = 10, 40


@contextmanager
def serving(folder: Path, delay: float) -> Iterator[str]:
    command = [
        sys.executable,
        "-m",
        "perf.chat_server",
        "--delay",
        str(delay),
        "--log",
        str(folder / "server.log"),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        finally:
            process.kill()


def counted(folder: Path) -> dict[str, Counter[str]]:
    counts: dict[str, Counter[str]] = {what: Counter() for what in ("asked", "answered", "replayed", "gone")}
    for line in (folder / "server.log").read_text().splitlines():
        what, key = line.split()
        counts[what][key] += 1
    return counts


def requests(count: int) -> list[Request]:
    text = "Score how well the image agrees with its prompt on one point, as strictly as possible. " * 8
    return [Request(f"i{i}", "s", "t", "", (ChatMessage("user", f"{text}{i}", ("a.png",)),), 64) for i in range(count)]


def memory_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def many(url: str, folder: Path, results: Any) -> None:
    """Ask everything through the client and its store; runs in a process of its own, whose memory is watched."""
    asked = backend(url, AnswerStore(folder / "answers.sqlite"), IN_FLIGHT, PICTURE)
    prepared = requests(REQUESTS)
    memory = []
    start, processor = time.perf_counter(), time.process_time()
    for n, (_, answer) in enumerate(asked.answer(prepared), 1):
        assert answer.status == "ok", answer
        if n % (REQUESTS // 10) == 0:
            memory.append(round(memory_mib(), 1))
    results.put(
        {
            "seconds": round(time.perf_counter() - start, 2),
            "processor_ms_a_request": round(1000 * (time.process_time() - processor) / REQUESTS, 2),
            "memory_mib_by_tenth": memory,
            "peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        }
    )


def loop(url: str) -> float:
    """Seconds a request, one at a time."""
    chat = Chat(settings(url, 1), SecretStr("sk-none"), lambda key: PICTURE)
    client = OpenAI(api_key="sk-none", base_url=url)
    start = time.perf_counter()
    for request in requests(LOOP_REQUESTS):
        chat.read(client.chat.completions.create(**chat.body(request)), request)
    return (time.perf_counter() - start) / LOOP_REQUESTS


def killed(folder: Path) -> dict[str, Any]:
    """Kill a run ten times, go on each time, and compare with an uninterrupted one."""
    client = [sys.executable, "-m", "perf.teacher_client"]
    tables = []
    for name, kills in (("whole", 0), ("killed", KILLS)):
        own = folder / name
        own.mkdir()
        draw, stored = random.Random(0), 0
        with serving(own, 0.05) as url:
            arguments = [*client, url, str(own), str(ITEMS)]
            store = AnswerStore(own / "answers.sqlite")
            for _ in range(kills):
                process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)
                more = draw.randint(1, 60)
                while len(store) < stored + more:
                    time.sleep(0.002)
                time.sleep(draw.uniform(0, 0.05))
                process.kill()
                process.wait()
                stored = len(store)
            subprocess.run(arguments, stderr=subprocess.DEVNULL, check=True)
        tables.append(pd.read_parquet(own / "transcripts.parquet"))
    counts = counted(folder / "killed")
    return {
        "kills": KILLS,
        "requests": len(tables[0]),
        "same_transcripts": tables[0].equals(tables[1]),
        "asked": counts["asked"].total(),
        "answered": counts["answered"].total(),
        "answered_twice": sum(count > 1 for count in counts["answered"].values()),
        "in_flight_at_a_kill_and_never_answered": counts["gone"].total(),
        "answered_but_not_yet_kept_and_replayed_by_their_name": counts["replayed"].total(),
    }


def main() -> dict[str, Any]:
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="teacher-") as name:
        folder = Path(name)
        with serving(folder, DELAY_S) as url:
            context = multiprocessing.get_context("spawn")
            results = context.Queue()
            process = context.Process(target=many, args=(url, folder, results))
            process.start()
            measured = results.get()
            process.join()
            alone = loop(url)
        kills = killed(folder)
    return {
        "what": f"{REQUESTS} requests with an image of {len(PICTURE)} bytes, {IN_FLIGHT} in flight, {DELAY_S} s an answer",
        "client": measured,
        "one_at_a_time": {
            "measured_requests": LOOP_REQUESTS,
            "seconds_a_request": round(alone, 4),
            "extrapolated_s": round(alone * REQUESTS, 1),
        },
        "times_faster": round(alone * REQUESTS / measured["seconds"], 1),
        "killed": kills,
        "cores": multiprocessing.cpu_count(),
        "niceness": os.getpriority(os.PRIO_PROCESS, 0),
        "load_average_before": round(load, 1),  # of other work: above 0, the seconds are an upper bound
    }
