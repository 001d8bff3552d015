"""An estimate is near what is then paid, and never more than its upper figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from chat_server import serving
from pydantic import SecretStr

from t2i_eval_kedro.datasets.answer_store import AnswerStore
from t2i_eval_kedro.datasets.image_store import ImageStore, write_image_store
from t2i_eval_kedro.judging.cache import CachedBackend
from t2i_eval_kedro.judging.evaluators import judge_items
from t2i_eval_kedro.judging.protocols import Answer, Wording
from t2i_eval_kedro.schema import FAILED, TRANSCRIPTS
from t2i_eval_kedro.shapes.make import make_shapes
from t2i_eval_kedro.teacher.estimate import estimate, sentence
from t2i_eval_kedro.teacher.teachers import Material, TeacherSettings, ask_teacher, keys_of

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
        assert after.known == 1 + n_items * (2 + 3 + 3 + 4 * 2)  # the server asks three questions


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
