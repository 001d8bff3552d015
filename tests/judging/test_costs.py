"""Money: from tokens to a price, before and after they are sent, and a budget that is never broken."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from t2i_eval_kedro import schema
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.costs import Budget, Price, PriceTable, Tokens, as_if_asked, break_even, usage_totals
from t2i_eval_kedro.judging.protocols.base import ChatMessage, Request
from t2i_eval_kedro.judging.protocols.response_schemas import ExtractionSchema

GPT_4O = Price(input=2.5, cached_input=1.25, output=10, image_base=85, image_tile=170)
PRICES = PriceTable.model_validate(
    {
        "as_of": "2026-06-01",
        "currency": "USD",
        "batch_factor": 0.5,
        "machine_hour": 3.6,
        "student_seconds": 1.0,
        "models": {"m": GPT_4O},
    }
)


@pytest.mark.parametrize(
    ("size", "tokens"),
    [((1024, 1024), 765), ((2048, 4096), 1105), ((512, 512), 255), ((64, 64), 255), ((4096, 8192), 1105)],
)
def test_image_tokens_are_those_of_the_published_examples(size: tuple[int, int], tokens: int) -> None:
    assert GPT_4O.image_tokens(*size) == tokens


def test_the_price_of_an_answer() -> None:
    usage = {"prompt_tokens": 1_000_000, "completion_tokens": 100_000, "cached_tokens": 400_000}
    assert PRICES.cost("m", usage) == pytest.approx(0.6 * 2.5 + 0.4 * 1.25 + 0.1 * 10)
    assert PRICES.cost("m", usage | {"batch": 1}) == pytest.approx(0.5 * 3.0)
    assert PRICES.cost("m", {}) == 0
    assert PRICES.cost("unknown", usage) is None


def test_the_account_counts_failures_and_what_has_no_price() -> None:
    usage = {"prompt_tokens": 1000, "completion_tokens": 10}
    records = [
        {"identity": {"model": model}, "answer": {"usage": usage, "status": status}}
        for model, status in (("m", "ok"), ("m", "failed"), ("other", "ok"))
    ]
    total = usage_totals(records, PRICES)
    assert (total.requests, total.failed, total.unpriced, total.prompt_tokens) == (3, 1, 1, 3000)
    assert total.cost == pytest.approx(2 * 0.0026)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_tokens_before_sending(text: str) -> None:
    out = io.BytesIO()
    Image.new("RGB", (512, 512)).save(out, "PNG")
    tokens = Tokens(GPT_4O, lambda key: out.getvalue())
    request = Request("i", "s", "t", "", (ChatMessage("user", text, ("a.png",)),), 8, response_schema=ExtractionSchema)
    assert 255 <= tokens.expected_tokens(request) <= tokens.max_tokens_bound(request)
    assert tokens.max_tokens_bound(request) >= 255 + len(
        text.encode()
    )  # no tokenizer makes a token of less than a byte


@given(
    limit=st.floats(0, 1),
    calls=st.lists(st.tuples(st.integers(1, 100_000), st.integers(0, 100_000)), max_size=40),
)
def test_a_budget_is_never_broken(limit: float, calls: list[tuple[int, int]]) -> None:
    """Whatever is asked, as long as no call costs more than it could."""
    budget, open_calls = Budget(limit, PRICES, "m"), []
    for most, actual in calls:
        try:
            open_calls.append((budget.hold({"prompt_tokens": most}), min(most, actual)))
        except T2IEvalError:
            continue
        if len(open_calls) > 3:
            held, used = open_calls.pop(0)
            budget.settle(held, {"prompt_tokens": used})
    for held, used in open_calls:
        budget.settle(held, {"prompt_tokens": used})
    assert budget.spent <= limit + 1e-9


def test_a_budget_learns_from_a_server_that_counts_more() -> None:
    budget = Budget(1.0, PRICES, "m")
    first = budget.hold({"prompt_tokens": 1000})
    budget.settle(first, {"prompt_tokens": 3000})
    assert budget.hold({"prompt_tokens": 1000}) == pytest.approx(3 * first)


def test_a_budget_wants_a_price_and_counts_what_was_spent() -> None:
    with pytest.raises(T2IEvalError, match="needs the price of 'other'"):
        Budget(1.0, PRICES, "other")
    assert Budget(None, PRICES, "other").hold({"prompt_tokens": 10**9}) == 0
    with pytest.raises(T2IEvalError, match=r"1\.00 USD would be broken: 1\.0000 is spent"):
        Budget(1.0, PRICES, "m", spent=1.0).hold({"prompt_tokens": 1})


def test_when_distillation_pays() -> None:
    costs = {"account": {"cost": 20.0, "unpriced": 0}, "items": 500, "runs": 2}  # 0.02 an image; the student 0.001
    found = break_even(costs, 400, 10_000, PRICES)
    assert found["building_the_training_set"] == pytest.approx(8)  # 400 images, once: not what the checks cost
    assert found["training"] == pytest.approx(10)
    assert (found["teacher_an_image"], found["student_an_image"]) == pytest.approx((0.02, 0.001))
    assert found["images"] == 948  # 18 / 0.019, rounded up
    json.dumps(found)
    # Requests about text alone make a training set dearer, and an image that the teacher judges no cheaper.
    more = costs | {"account": {"cost": 23.0, "unpriced": 0}, "text_alone": {"account": 3.0, "as_if_asked": 0.0}}
    assert break_even(more, 400, 10_000, PRICES)["teacher_an_image"] == pytest.approx(0.02)
    assert break_even(more, 400, 10_000, PRICES)["building_the_training_set"] == pytest.approx(11)
    cheap = {"account": {"cost": 0.5, "unpriced": 0}, "items": 500, "runs": 1}
    assert break_even(cheap, 400, 1, PRICES)["images"] is None


@pytest.mark.parametrize(
    "costs",
    [
        {},
        {"teacher": "human"},
        {"account": {"cost": 0.0, "unpriced": 0}},
        {"account": {"cost": 1.0, "unpriced": 3}, "items": 1},
    ],
)
def test_nothing_is_said_where_nothing_was_paid_or_a_price_is_unknown(costs: dict) -> None:
    assert break_even(costs, 1, 100, PRICES) == {}


def test_a_teacher_that_cost_nothing_is_priced_as_if_its_answers_were_bought() -> None:
    said = [("a", "a" * 400, "b" * 40), ("a", "a" * 400, "b" * 40), ("b", "a" * 4000, "b" * 400)]
    transcripts = schema.TRANSCRIPTS.frame(
        {"item_id": item, "judge": "t", "protocol": "p", "run": 0, "step": f"s{i}", "task": "t", "aspect": ""}
        | {"question_id": "q", "answer": answer, "status": "ok", "prompt_version": "v"}
        | {"messages": json.dumps([{"role": "user", "text": text, "images": []}])}
        for i, (item, text, answer) in enumerate(said)
    )
    found = as_if_asked(transcripts, "m", PRICES, lambda key: b"")
    assert (found["requests"], found["completion_tokens"]) == (2, 110)  # each request once
    assert 1100 <= found["prompt_tokens"] < 1200
    assert found["cost"] == pytest.approx((2.5 * found["prompt_tokens"] + 10 * 110) / 1e6, abs=1e-6)
    assert as_if_asked(transcripts, "other", PRICES, lambda key: b"") == {}
    given = {"account": {"cost": 0.0}, "as_if_asked": found | {"cost": 4.0}, "items": 2, "runs": 1}
    assert break_even(given, 1, 100, PRICES)["as_if_asked"] == "m"
    assert break_even(given, 1, 100, PRICES)["teacher_an_image"] == 2.0
    assert break_even(given | {"account": {"cost": 1.0, "unpriced": 0}}, 1, 100, PRICES)["as_if_asked"] is None
    assert break_even({"account": {"cost": 0.0}, "as_if_asked": {}, "items": 2}, 1, 100, PRICES) == {}


def test_nothing_is_said_where_training_was_not_timed() -> None:
    assert break_even({"account": {"cost": 1.0, "unpriced": 0}, "items": 1}, 1, None, PRICES) == {}
