"""Every protocol against small real servers on loopback, each with the quirks of one kind.

A server's model always thinks the same: yes with probability 3/4, 7 as a score, and readable texts. Its quirks decide what it refuses
and how it writes. Every judge must give the same scores in spite of them.
"""

from __future__ import annotations

import json
import logging
import math
import re
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from plain_settings import settings_of
from pydantic import SecretStr
from pytest_httpserver import HTTPServer
from readable_answers import LINES, readable_answer
from werkzeug import Request as HTTPRequest
from werkzeug import Response

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.backends.openai import OpenAIBackend
from t2i_eval_kedro.judging.backends.openai_settings import OpenAISettings
from t2i_eval_kedro.judging.cache import Keys
from t2i_eval_kedro.judging.engine import judge
from t2i_eval_kedro.judging.evaluators import JudgingSettings
from t2i_eval_kedro.judging.local_models import cache_answers, open_backend
from t2i_eval_kedro.judging.protocols import EvaluationItem, PromptElement, Wording
from t2i_eval_kedro.judging.protocols.registry import PROTOCOLS, build
from t2i_eval_kedro.judging.shards import BatchImages
from t2i_eval_kedro.models.settings import ModelSettings
from t2i_eval_kedro.schema import FAILED, OK

CONF = Path(__file__).parents[3] / "conf/base"
PIXEL = b"\x89PNG\r\n\x1a\n"


@dataclass
class Quirks:
    """What one kind of server does.

    Attributes:
        top: the most ``top_logprobs`` it takes; 0: refuses log-probabilities; None: ignores that they are asked for.
        refuses: parameters that get an error.
        schema: whether it holds to a schema; None: it ignores the wish and fences its JSON.
        thinks: ``content`` or ``apart``: where it writes reasoning before every answer.
        token: how it writes a token.
        shout: whether it mostly writes YES and NO.
    """

    top: int | None = 20
    refuses: tuple[str, ...] = ()
    schema: bool | None = True
    thinks: str = ""
    token: Callable[[str], str] = str
    shout: bool = False


@dataclass
class Server:
    quirks: Quirks
    refused: Counter[str] = field(default_factory=Counter)
    drawn: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def serve(self, http: HTTPRequest) -> Response:
        body, quirks = http.get_json(), self.quirks
        fault = self._fault(body)
        if fault:
            with self.lock:
                self.refused[fault] += 1
            return Response(json.dumps({"error": {"message": fault, "type": "invalid_request_error"}}), 400)
        limit = body.get("max_tokens") or body.get("max_completion_tokens")
        text = body["messages"][-1]["content"]
        text = text if isinstance(text, str) else text[-1]["text"]
        answer, tokens = self._answer(body, text)
        reasoning = ["<think>", "It", " is", "</think>"] if quirks.thinks and "<think>" not in text else []
        written = [*reasoning, *(quirks.token(token) for token, _ in tokens)] if tokens else [*reasoning, answer]
        cut = len(written) > limit or (reasoning and limit < 40)
        message: dict[str, Any] = {"role": "assistant", "content": None if cut else answer}
        if reasoning and quirks.thinks == "content":
            message["content"] = "<think> It" if cut else f"<think> It is.</think>\n{answer}"
        elif reasoning:
            message |= {"reasoning_content": "It is.", "content": None if cut else answer}
        choice = {"index": 0, "finish_reason": "length" if cut else "stop", "message": message, "logprobs": None}
        if body.get("logprobs") and quirks.top is not None:
            content = [
                {"token": token, "logprob": 0.0, "top_logprobs": []} for token in (reasoning[:1] if cut else reasoning)
            ]
            if not cut:
                content += [
                    {
                        "token": quirks.token(token),
                        "logprob": -0.1,
                        "top_logprobs": [
                            {"token": quirks.token(word), "logprob": math.log(p)}
                            for word, p in list(alternatives.items())[: body["top_logprobs"]]
                        ],
                    }
                    for token, alternatives in tokens
                ]
            choice["logprobs"] = {"content": content}
        reply = {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
        reply["usage"] = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
        return Response(json.dumps(reply), content_type="application/json")

    def _fault(self, body: dict[str, Any]) -> str:
        for name in self.quirks.refuses:
            if name in body and not (name == "temperature" and body[name] == 1):
                return f"Unsupported parameter: '{name}' is not supported with this model."
        if body.get("logprobs") and self.quirks.top == 0:
            return "Unsupported parameter: 'logprobs' is not supported with this model."
        if body.get("top_logprobs", 0) > (20 if self.quirks.top is None else self.quirks.top):
            return f"Error: Requested sample logprobs of {body['top_logprobs']}, which is greater than max allowed: {self.quirks.top}"
        if "response_format" in body and self.quirks.schema is False:
            return "The field 'response_format' is not supported here."
        return ""

    def _answer(self, body: dict[str, Any], text: str) -> tuple[str, list[tuple[str, dict[str, float]]]]:
        quirks = self.quirks
        with self.lock:
            asked = json.dumps(body["messages"])
            draw = self.drawn[asked]
            self.drawn[asked] += 1
        if re.search(r"(?i)(answer with|say) yes or no|yes or no and nothing else", text):
            says = "yes" if body.get("seed", draw) % 4 else "no"  # of samples, three in four
            distribution = {"yes": 0.3, "Yes": 0.3, "no": 0.2, "YES": 0.075, "maybe": 0.1}
            if quirks.shout:
                says, distribution = says.upper(), {"YES": 0.675, "NO": 0.225}
            return says, [(says, distribution)]
        whole = body.get("response_format", {}).get("json_schema", {}).get("schema", {})
        schema = whole.get("properties", {})
        plain = readable_answer(text)
        if quirks.schema and "questions" in schema:
            rows = [line.split(" | ") for line in LINES.splitlines()]
            stated = {"stated": "-"} if "_StatedLine" in whole["$defs"] else {}
            listed = [{"aspect": a, "entities": e.split(", "), "question": q} | stated for a, e, q in rows]
            return json.dumps({"questions": listed}), []
        if quirks.schema and "score" in schema and "enum" in schema["score"]:
            return json.dumps({"score": plain}), []
        if quirks.schema is None and plain == "7":
            return '```json\n{"score": 7}\n```', []
        return plain, [(plain, {plain: 0.9, "x": 0.05})] if plain == "7" else []


KINDS = {
    "openai": Quirks(),
    "o_series": Quirks(top=0, refuses=("max_tokens", "temperature", "seed")),
    "vllm": Quirks(top=5, token=lambda token: f"\u0120{token}"),
    "vllm_thinking": Quirks(thinks="apart"),
    "sglang": Quirks(schema=False, token=lambda token: f"\u2581{token}"),
    "sglang_thinking": Quirks(thinks="content", schema=False),
    "ollama": Quirks(top=None, schema=None),
    "ollama_thinking": Quirks(top=None, schema=None, thinks="content"),
    "shouting": Quirks(shout=True),
}


@pytest.fixture
def connect(httpserver: HTTPServer) -> Callable[..., tuple[Server, OpenAIBackend]]:
    def make(kind: str, samples: int = 8) -> tuple[Server, OpenAIBackend]:
        server = Server(KINDS[kind])
        httpserver.expect_request("/v1/chat/completions").respond_with_handler(server.serve)
        settings = OpenAISettings(
            model="m",
            base_url=httpserver.url_for("/v1"),
            requests_per_minute=None,
            tokens_per_minute=None,
            in_flight=4,
            timeout_s=10,
            retries=0,
            temperature=0,
            seed=0,
            structured=True,
            token_limit="max_tokens",
            samples=samples,
        )
        keys = Keys(settings.identity)
        return server, OpenAIBackend(
            settings, SecretStr("none"), lambda name: PIXEL + name.encode(), name=keys, section="judging.server"
        )

    return make


ELEMENTS = (PromptElement("1", "a cat", "Is there a cat?"), PromptElement("2", "on", "Is it on a mat?", parents=("1",)))
ITEMS = [
    EvaluationItem(f"i{n}", f"cat {n} on a mat", f"{n}.png", {"overall": "how good it is"}, ELEMENTS) for n in range(3)
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [name for name in PROTOCOLS if name != "similarity"])
def test_every_protocol_gets_its_scores_from_every_kind_of_server(
    connect: Callable[..., tuple[Server, OpenAIBackend]], full: Wording, kind: str, name: str
) -> None:
    server, backend = connect(kind)
    items = [replace(item, comparison_image="other.png") for item in ITEMS] if name == "pairwise" else ITEMS
    judged = judge(items, build(name, full), backend, name="m")
    assert set(judged.scores["status"]) == {OK}, judged.scores.loc[judged.scores["status"] != OK, "explanation"].iloc[0]
    assert set(judged.transcripts["status"]) == {OK}
    means = judged.scores.groupby("dimension")["score"].mean()
    sevenths = 70 / 9  # 7 of 0 to 9, as a score of 0 to 10
    if name == "dsg":
        assert means["alignment"] == 10
    elif name == "pn_vqa":
        assert means["alignment"] == 5  # it says yes to the negative question as well
    elif name in ("levels", "direct", "direct_levels") or name.startswith("decomposed") or name == "conversation":
        assert means.tolist() == pytest.approx([sevenths] * len(means))
    elif name in ("holistic", "reasoning", "reasoning_aspects"):
        assert means.min() == pytest.approx(7)
    elif name == "pairwise":
        assert means["overall"] == pytest.approx(6)  # the first is given 7, then 5 as the second
    assert all(count <= 4 for count in server.refused.values())  # learned once; what was in flight was refused too


@pytest.mark.parametrize("kind", KINDS)
def test_case_and_blanks_of_yes_are_pooled_and_samples_stand_in(
    connect: Callable[..., tuple[Server, OpenAIBackend]], full: Wording, kind: str
) -> None:
    _, backend = connect(kind)
    usage = judge(ITEMS[:1], build("dsg", full), backend, name="m").transcripts["usage"].map(json.loads)
    for told in usage:
        yes = told["probabilities"][full.vocabulary("yes_no").levels[-1]]
        if KINDS[kind].top in (0, None):  # eight samples
            assert (yes, told["out_of_vocabulary_mass"]) == (0.75, 0)
            assert told["completion_tokens"] == 16
        elif KINDS[kind].shout:
            assert (yes, told["out_of_vocabulary_mass"]) == (pytest.approx(0.75), pytest.approx(0.1))
        else:
            assert yes == pytest.approx(0.675 / 0.875)
            assert told["out_of_vocabulary_mass"] == pytest.approx(0.125)


def test_what_a_server_refuses_is_said_once(
    connect: Callable[..., tuple[Server, OpenAIBackend]], full: Wording, caplog: pytest.LogCaptureFixture
) -> None:
    server, backend = connect("o_series")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            judge(ITEMS, build("dsg", full), backend, name="m")
    learned = [record.getMessage() for record in caplog.records if "from now on" in record.getMessage()]
    assert len(learned) == len({*learned}) == 4  # token limit, temperature, seed, log-probabilities
    assert "max_completion_tokens" in learned[0]
    before = server.refused.total()
    judge(ITEMS, build("levels", full), backend, name="m")
    assert server.refused.total() == before


def test_without_samples_a_server_that_gives_no_log_probabilities_fails_with_that_reason(
    connect: Callable[..., tuple[Server, OpenAIBackend]], full: Wording
) -> None:
    _, backend = connect("ollama", samples=0)
    judged = judge(ITEMS[:1], build("levels", full), backend, name="m")
    assert judged.scores["status"].tolist() == [FAILED]
    assert "no log-probabilities" in judged.scores["explanation"].iloc[0]


def test_the_settings_open_a_server_and_its_answers_are_kept(
    httpserver: HTTPServer, full: Wording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    server = Server(KINDS["vllm"])
    httpserver.expect_request("/v1/chat/completions").respond_with_handler(server.serve)
    given = yaml.safe_load((CONF / "parameters_judging.yml").read_text())["judging"]
    address = given["server"] | {"base_url": httpserver.url_for("/v1"), "model": "m"}
    changed = {"backend": "openai", "server": address, "answers": str(tmp_path / "answers.sqlite")}
    judging = JudgingSettings.model_validate(given | changed)
    model = settings_of(ModelSettings, model="none/such")
    images = BatchImages({item.image: PIXEL + item.image.encode() for item in ITEMS})
    for _ in range(2):
        backend = open_backend(model, None, images, judging)
        backend.require_tokens([("yes", "no")])
        judged = judge(ITEMS, build("dsg", full), cache_answers(backend, model, None, images, judging), name="m")
        assert set(judged.scores["status"]) == {OK}
    assert len(httpserver.log) - server.refused.total() == 6  # three items, two questions, nothing twice
    with pytest.raises(T2IEvalError, match="--lora-modules"):
        open_backend(model, tmp_path, images, judging)
