"""An estimate is near what is then paid, and never more than its upper figure."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from chat_server import serving
from pydantic import SecretStr
from pytest_httpserver import HTTPServer
from werkzeug import Request as HTTPRequest
from werkzeug import Response

from t2i_eval_kedro.datasets.answer_store import AnswerStore
from t2i_eval_kedro.datasets.image_store import ImageStore, write_image_store
from t2i_eval_kedro.judging.attribution import Truth
from t2i_eval_kedro.judging.cache import CachedBackend
from t2i_eval_kedro.judging.evaluators import judge_items
from t2i_eval_kedro.judging.protocols import Answer, Wording
from t2i_eval_kedro.schema import FAILED, TRANSCRIPTS
from t2i_eval_kedro.shapes.make import make_shapes
from t2i_eval_kedro.teacher.estimate import QUESTIONS, estimate, sentence
from t2i_eval_kedro.teacher.teachers import Material, TeacherSettings, ask_teacher, keys_of, teacher_attribution

CONF = Path(__file__).parents[2] / "conf" / "base"
PHRASES = {"overall": "how good it is"}


@pytest.fixture
def material(tmp_path: Path) -> Material:
    shapes = make_shapes(1, 0)
    write_image_store(tmp_path / "images", shapes.images)
    store = AnswerStore(tmp_path / "a.sqlite")
    return Material(shapes.items, ImageStore(tmp_path / "images"), TRANSCRIPTS.empty(), store, SecretStr("sk-none"))


def settings(url: str) -> TeacherSettings:
    given = yaml.safe_load((CONF / "parameters_teacher_distillation.yml").read_text())["teacher"]
    limits = {"base_url": url, "requests_per_minute": None, "tokens_per_minute": None}
    return TeacherSettings.model_validate(given | {"kind": "openai", "openai": given["openai"] | limits})


def test_an_estimate_before_and_after(material: Material, load_wording: Any, tmp_path: Path) -> None:
    wording: Wording = load_wording("full")
    n_items = len(material.items)
    with serving(tmp_path, 0.0) as server:
        chosen = settings(server.url)
        before = estimate(chosen, material, wording, PHRASES)
        assert not server.counted("asked")  # nothing was sent
        # An extraction; eight questions of two or three steps; three summaries and a merge of two.
        assert before.requests == 1 + n_items * (2 * 2 + 6 * 3 + 4 * 2)
        assert before.cost is not None
        assert before.cost_upper_bound is not None
        assert 0 < before.cost < before.cost_upper_bound
        assert "Nothing was sent" in sentence(before, chosen.prices)
        ask_teacher("openai", chosen, material, wording, PHRASES)
        after = estimate(chosen, material, wording, PHRASES)
        assert (after.requests, after.cost) == (0, 0.0)
        # The server asks three questions; an aspect whose only score is N/A is not summed up.
        assert after.known == len(server.counted("answered")) <= 1 + n_items * (2 + 3 + 3 + 4 * 2)


class Meter:
    """A server that charges the most: every byte is a token and every answer as long as it may be."""

    def __init__(self, image_tokens: int) -> None:
        self.usage: list[dict[str, int]] = []
        self._image_tokens = image_tokens

    def answer(self, request: HTTPRequest) -> Response:
        body = request.get_json()
        texts, images = [], 0
        for message in body["messages"]:
            parts = message["content"]
            parts = [{"type": "text", "text": parts}] if isinstance(parts, str) else parts
            texts += [part["text"] for part in parts if part["type"] == "text"]
            images += sum(part["type"] == "image_url" for part in parts)
        schema = body.get("response_format", {}).get("json_schema", {}).get("schema", {})
        properties = schema.get("properties", {})
        if "questions" in properties:
            asked = [
                {"aspect": aspect, "entities": [f"thing {i}"], "question": f"Is thing {i} as the prompt says?"}
                | ({"stated": f"kind {i}: value {i}"} if "_StatedLine" in schema["$defs"] else {})
                for i, aspect in enumerate(QUESTIONS)
            ]
            content = json.dumps({"questions": asked})
        elif "score" in properties:
            content = json.dumps({"score": max(set(properties["score"]["enum"]) - {"n/a"}, key=len)})
        else:
            content = "x" * body["max_tokens"]
        size = sum(len(text.encode()) for text in [*texts, json.dumps(schema) if schema else ""])
        self.usage.append(
            {"prompt_tokens": size + images * self._image_tokens, "completion_tokens": body["max_tokens"]}
        )
        reply = {
            "id": "x",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}],
            "usage": self.usage[-1] | {"total_tokens": sum(self.usage[-1].values())},
        }
        return Response(json.dumps(reply), content_type="application/json")


def test_asking_again_with_a_stage_made_true_is_counted(material: Material, load_wording: Any, tmp_path: Path) -> None:
    wording, shapes = load_wording("full"), make_shapes(1, 0)
    again = shapes.items.head(3)
    truth = Truth.of(again, shapes.elements, shapes.element_ratings, shapes.ratings)
    with serving(tmp_path, 0.0) as server:
        chosen = settings(server.url)
        plain = estimate(chosen, material, wording, PHRASES)
        both = estimate(chosen, material, wording, PHRASES, (again, truth))
        assert plain.requests + 3 < both.requests < 2 * plain.requests
        assert both.cost is not None
        assert plain.cost is not None
        assert both.cost > plain.cost
        ask_teacher("openai", chosen, material, wording, PHRASES)
        teacher_attribution("openai", chosen, replace(material, items=again), truth, wording, PHRASES)
        assert estimate(chosen, material, wording, PHRASES, (again, truth)).requests == 0


def test_what_is_charged_never_exceeds_the_upper_bound(
    material: Material, load_wording: Any, httpserver: HTTPServer
) -> None:
    wording, chosen = load_wording("full"), settings(httpserver.url_for("/v1"))
    price = chosen.prices.models[chosen.openai.model]
    meter = Meter(price.image_tokens(64, 64))
    httpserver.expect_request("/v1/chat/completions").respond_with_handler(meter.answer)
    before = estimate(chosen, material, wording, PHRASES)
    _, _, costs = ask_teacher("openai", chosen, material, wording, PHRASES)
    assert costs["account"]["requests"] == before.requests == len(meter.usage)
    charged = costs["account"]["cost"]
    assert before.cost < charged <= before.cost_upper_bound
    assert charged > 0.9 * before.cost_upper_bound  # a bound that is near what a server can charge


def test_a_failed_answer_is_asked_for_again_on_request_alone(material: Material, load_wording: Any) -> None:
    wording, chosen = load_wording("full"), settings("http://127.0.0.1:9/v1")
    before = estimate(chosen, material, wording, PHRASES).requests

    class Refusing:
        def answer(self, requests: Any) -> Any:
            for i, _ in enumerate(requests):
                yield i, Answer("refused: no", FAILED, usage={"prompt_tokens": 9})

    backend = CachedBackend(Refusing(), material.answers, keys_of(chosen, material, 0))
    judge_items(material.items, backend, wording, PHRASES, ["decomposed"], name="t")
    assert estimate(chosen, material, wording, PHRASES).requests == 0
    again = chosen.model_copy(update={"retry_failed": True})
    assert estimate(again, material, wording, PHRASES).requests == before


def test_without_a_price_there_is_no_cost(material: Material, load_wording: Any) -> None:
    chosen = settings("http://127.0.0.1:9/v1")
    unpriced = chosen.model_copy(update={"openai": chosen.openai.model_copy(update={"model": "of my own"})})
    found = estimate(unpriced, material, load_wording("full"), PHRASES)
    assert found.cost is None
    assert found.prompt_tokens > 1000
    assert "has no price" in sentence(found, unpriced.prices)
