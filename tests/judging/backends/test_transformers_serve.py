"""The client against a real server of a real model: ``transformers serve`` with the embedded tiny model."""

from __future__ import annotations

import io
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from kedro_project import ROOT
from PIL import Image
from pydantic import SecretStr

from t2i_eval_kedro.judging.backends.openai import OpenAIBackend
from t2i_eval_kedro.judging.backends.openai_settings import OpenAISettings
from t2i_eval_kedro.judging.cache import Keys
from t2i_eval_kedro.judging.protocols.base import ChatMessage, Request
from t2i_eval_kedro.schema import FAILED, OK

MODEL = ROOT / "data" / "06_models" / "tiny_vlm"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    command = shutil.which("transformers") or str(Path(sys.executable).with_name("transformers"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    arguments = [command, "serve", "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    with subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            for _ in range(600):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
                    break
                except OSError:
                    assert process.poll() is None, process.stdout and process.stdout.read()
                    time.sleep(0.2)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()


@pytest.mark.slow
def test_a_real_model_answers(url: str) -> None:
    out = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(out, "PNG")
    settings = OpenAISettings(
        model=str(MODEL),
        base_url=url,
        requests_per_minute=None,
        tokens_per_minute=None,
        in_flight=4,
        timeout_s=60,
        retries=2,
        temperature=0,
        seed=0,
        structured=True,
        token_limit="max_tokens",
        samples=0,
    )
    keys = Keys(settings.identity)
    backend = OpenAIBackend(settings, SecretStr("any"), lambda _: out.getvalue(), name=keys)
    texts = ["is there a circle ?", "is the circle red ?", "is there a square ?"]
    requests = [
        Request(str(i), "s", "t", "", (ChatMessage("user", text, ("a.png",)),), 4) for i, text in enumerate(texts)
    ]
    answers = dict(backend.answer(requests))
    assert [answers[i].status for i in range(3)] == [OK] * 3
    assert all(answers[i].text and 0 < answers[i].usage["completion_tokens"] <= 4 for i in range(3))
    assert [answer.text for _, answer in sorted(backend.answer(requests))] == [answers[i].text for i in range(3)]
    # It gives no log-probabilities, and says nothing about it: the answer does.
    wanting = Request("4", "s", "t", "", requests[0].messages, 4, candidate_tokens=("yes", "no"))
    ((_, answer),) = backend.answer([wanting])
    assert answer.status == FAILED
    assert "log-probabilities" in answer.text
