"""A chat-completions server that takes its time: for measuring and killing clients, in a process of its own.

``python -m perf.chat_server --delay 0.2 --log FILE`` prints its port. The answer is a function of the request alone: JSON
where a schema is asked for, a sentence elsewhere. A request that repeats an ``Idempotency-Key`` is answered from memory. The log has one
line a request, ``<what> <key>``: ``asked`` as it comes, then ``answered`` (an answer was made and sent to a client that was there),
``replayed`` (from memory) or ``gone`` (the client had left).
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

QUESTIONS = [
    {"aspect": "appearance", "entities": ["thing"], "question": "Is the thing well drawn?"},
    {"aspect": "attributes", "entities": ["thing"], "question": "Is there a thing?"},
    {"aspect": "relations", "entities": ["thing", "other"], "question": "Is the thing left of the other?"},
]


def content(body: dict[str, Any]) -> str:
    """The answer to ``body``."""
    number = int(hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:8], 16)
    schema = body.get("response_format", {}).get("json_schema", {}).get("schema", {})
    if "questions" in schema.get("properties", {}):
        stated = {"stated": "-"} if "_StatedLine" in schema.get("$defs", {}) else {}
        return json.dumps({"questions": [question | stated for question in QUESTIONS]})
    if "score" in schema.get("properties", {}):
        levels = schema["properties"]["score"]["enum"]
        return json.dumps({"score": levels[number % len(levels)]})
    return f"The thing is drawn in way {number}."


def completion(body: dict[str, Any]) -> dict[str, Any]:
    """The whole reply to ``body``."""
    text = content(body)
    return {
        "id": "chatcmpl-local",
        "object": "chat.completion",
        "created": 0,
        "model": body["model"],
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 10, "total_tokens": 1010},
    }


class Server:
    """Answers after ``delay`` seconds, any number of requests at once."""

    def __init__(self, delay: float, log: Path) -> None:
        self._delay = delay
        self._log = log.open("a", buffering=1)
        self._memory: dict[str, bytes] = {}

    async def serve(self, port: int) -> None:
        server = await asyncio.start_server(self._connection, "127.0.0.1", port, limit=2**26, backlog=1024)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[1:]
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head)}
                body = json.loads(await reader.readexactly(int(headers["content-length"])))
                await self._answer(body, headers.get("idempotency-key", ""), reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(
        self, body: dict[str, Any], key: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._log.write(f"asked {key}\n")
        what = "replayed" if key and key in self._memory else "answered"
        if what == "answered":
            await asyncio.sleep(self._delay)
            if reader.at_eof():
                self._log.write(f"gone {key}\n")
                raise ConnectionError
            self._memory[key] = json.dumps(completion(body)).encode()
        data = self._memory[key]
        if not key:
            del self._memory[key]
        self._log.write(f"{what} {key}\n")
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        writer.write(head.encode() + data)
        await writer.drain()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--delay", type=float, default=0.2)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    given = parser.parse_args()
    asyncio.run(Server(given.delay, given.log).serve(given.port))


if __name__ == "__main__":
    main()
