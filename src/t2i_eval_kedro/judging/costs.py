"""What asking costs: a dated price table, tokens before they are sent, and a budget that stops before it is broken."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

import pandas as pd
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.protocols.base import ChatMessage, Request
from t2i_eval_kedro.judging.protocols.response_schemas import json_schema
from t2i_eval_kedro.schema import FAILED

MILLION = 1_000_000
BYTES_A_TOKEN = 4.0  # of English text, on average; a token is never less than one byte
_A_MESSAGE, _A_REQUEST = 8, 16  # tokens of the chat format, at most


class Price(BaseModel):
    """What one model costs, in the table's currency for a million tokens.

    Attributes:
        input: price per million prompt tokens, images included.
        cached_input: price per million cached prompt tokens.
        output: price per million completion tokens.
        image_base: tokens of any image.
        image_tile: tokens of each tile of 512 pixels, once the image is fitted into 2048 x 2048 and its short side into 768.
    """

    model_config = ConfigDict(extra="forbid")

    input: float = Field(ge=0)
    cached_input: float = Field(ge=0)
    output: float = Field(ge=0)
    image_base: int = Field(0, ge=0)
    image_tile: int = Field(0, ge=0)

    def image_tokens(self, width: int, height: int) -> int:
        """Tokens of an image of this size in pixels (OpenAI's rule for its tile models at high detail)."""
        scale = min(1.0, 2048 / max(width, height))
        scale = min(scale, 768 / min(width, height))
        return self.image_base + self.image_tile * math.ceil(width * scale / 512) * math.ceil(height * scale / 512)


class PriceTable(BaseModel):
    """Prices as somebody read them on one day; they change, so check them before a large run.

    Attributes:
        as_of: that day.
        currency: currency of all prices.
        batch_factor: what a request in a batch costs, as a share of the price.
        machine_hour: one hour of the machine that trains and runs the student.
        student_seconds: that a student takes to judge one item on that machine.
        models: model name as it is sent -> its price.
    """

    model_config = ConfigDict(extra="forbid")

    as_of: date
    currency: str
    batch_factor: float = Field(ge=0, le=1)
    machine_hour: float = Field(ge=0)
    student_seconds: float = Field(ge=0)
    models: dict[str, Price]

    def cost(self, model: str, usage: Mapping[str, int]) -> float | None:
        """The price of an answer with this ``usage``; None for a model that is not in the table."""
        price = self.models.get(model)
        if price is None:
            return None
        cached = usage.get("cached_tokens", 0)
        total = (
            price.input * (usage.get("prompt_tokens", 0) - cached)
            + price.cached_input * cached
            + price.output * usage.get("completion_tokens", 0)
        )
        return total / MILLION * (self.batch_factor if usage.get("batch") else 1.0)


@dataclass
class UsageTotals:
    """What was asked and paid for; ``cost`` is of the answers whose model is in the price table, the others are ``unpriced``."""

    requests: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    unpriced: int = 0

    def add(self, model: str, usage: Mapping[str, int], prices: PriceTable, *, failed: bool = False) -> None:
        """Add one answer."""
        self.requests += 1
        self.failed += failed
        self.prompt_tokens += usage.get("prompt_tokens", 0)
        self.cached_tokens += usage.get("cached_tokens", 0)
        self.completion_tokens += usage.get("completion_tokens", 0)
        cost = prices.cost(model, usage)
        self.cost += cost or 0.0
        self.unpriced += cost is None

    def as_dict(self) -> dict[str, float]:
        """The figures by name, money rounded to a millionth."""
        return asdict(self) | {"cost": round(self.cost, 6)}


def usage_totals(records: Iterable[Mapping[str, Any]], prices: PriceTable) -> UsageTotals:
    """The account of everything in an answer store (its ``every_answer()``)."""
    total = UsageTotals()
    for record in records:
        answer = record["answer"]
        total.add(str(record["identity"].get("model")), answer["usage"], prices, failed=answer["status"] == FAILED)
    return total


def break_even(
    costs: Mapping[str, Any], n_learned: int, training_seconds: float | None, prices: PriceTable
) -> dict[str, Any]:
    """What distillation costs beside asking the teacher every time, and from how many images on it pays.

    The open question of T2I-Eval. With ``build`` the cost of the teacher's answers for the training set, those about text alone among
    them, ``train`` that of training, and ``t`` and ``s`` the cost of one image judged by teacher and student, it pays from (build + train) / (t - s) images on.

    Args:
        costs: the account of a teacher (``teacher_costs``).
        n_learned: items that it judged in the folds that a student learns from; what it was paid for the others checks it.
        training_seconds: duration of SFT and GRPO together; None where it was not measured.
        prices: prices of machines.

    Returns:
        The figures, ``images`` None where distillation never pays; empty where nothing was paid to the teacher or a price
        or time is not known. ``as_if_asked`` names the model whose price stands for a teacher that cost nothing, else it is None.
    """
    paid = costs.get("account") or {}
    assumed = not paid.get("cost")
    if assumed:  # a simulated teacher: what the same requests would cost where they are priced
        paid = costs.get("as_if_asked") or {}
    judged = costs.get("items", 0) * costs.get("runs", 1)
    if not paid.get("cost") or paid["unpriced"] or not judged or training_seconds is None:
        return {}
    text_alone = (costs.get("text_alone") or {}).get("as_if_asked" if assumed else "account", 0.0)
    teacher = (paid["cost"] - text_alone) / judged
    student = prices.machine_hour * prices.student_seconds / 3600
    building = teacher * n_learned + text_alone
    training = prices.machine_hour * training_seconds / 3600
    return {
        "currency": prices.currency,
        "prices_as_of": prices.as_of.isoformat(),
        "as_if_asked": paid["model"] if assumed else None,
        "building_the_training_set": building,
        "training": training,
        "teacher_an_image": teacher,
        "student_an_image": student,
        "images": math.ceil((building + training) / (teacher - student)) if teacher > student else None,
    }


class Tokens:
    """Tokens of a request before it is sent."""

    def __init__(self, price: Price | None, read_image: Callable[[str], bytes]) -> None:
        """Count images as ``price`` does; ``read_image`` gives their encoded bytes."""
        self._price = price
        self._read_image = read_image
        self._images: dict[str, int] = {}

    def expected_tokens(self, request: Request) -> int:
        """Tokens of the request at :data:`BYTES_A_TOKEN`."""
        return self._count(request, BYTES_A_TOKEN)

    def max_tokens_bound(self, request: Request) -> int:
        """More than the request can have: a token is at least one byte."""
        return self._count(request, 1.0)

    def _count(self, request: Request, bytes_a_token: float) -> int:
        texts = [message.text for message in request.messages]
        if request.response_schema is not None:
            texts.append(str(json_schema(request.response_schema)))
        size = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
        images = sum(self._image(key) for message in request.messages for key in message.images)
        return math.ceil(size / bytes_a_token) + images + _A_MESSAGE * len(request.messages) + _A_REQUEST

    def _image(self, key: str) -> int:
        if self._price is None:
            return 0
        if key not in self._images:
            with Image.open(io.BytesIO(self._read_image(key))) as image:  # reads the header alone
                self._images[key] = self._price.image_tokens(*image.size)
        return self._images[key]


def as_if_asked(
    transcripts: pd.DataFrame, model: str, prices: PriceTable, read_image: Callable[[str], bytes]
) -> dict[str, Any]:
    """What ``model`` would be paid for the requests and answers of ``transcripts``, each once, at :data:`BYTES_A_TOKEN`.

    For a teacher that costs nothing, such as a simulated one; another model would write longer answers than it does.

    Returns:
        ``model`` and the figures of :class:`UsageTotals`; empty where the model has no price.
    """
    price = prices.models.get(model)
    if price is None:
        return {}
    tokens, total = Tokens(price, read_image), UsageTotals()
    for row in transcripts.drop_duplicates(["run", "task", "messages"]).itertuples():
        messages = tuple(ChatMessage(m["role"], m["text"], tuple(m["images"])) for m in json.loads(str(row.messages)))
        request = Request(str(row.item_id), str(row.step), str(row.task), "", messages, 0)
        answered = math.ceil(len(str(row.answer).encode("utf-8", "surrogatepass")) / BYTES_A_TOKEN)
        usage = {"prompt_tokens": tokens.expected_tokens(request), "completion_tokens": answered}
        total.add(model, usage, prices)
    return {"model": model} | total.as_dict()


class Budget:
    """Money that may be spent, with what is in flight held back at the most that it can cost.

    A server that counts more tokens than :meth:`Tokens.max_tokens_bound` (another rule for images, say) is learned from: more is
    held back from then on.
    """

    def __init__(self, limit: float | None, prices: PriceTable, model: str, *, spent: float = 0.0) -> None:
        """Watch ``limit`` (None: no limit), of which ``spent`` is gone.

        Raises:
            T2IEvalError: there is a limit and ``model`` has no price.
        """
        if limit is not None and model not in prices.models:
            raise T2IEvalError(
                f"A budget needs the price of '{model}', which teacher.prices.models does not hold; add it with"
                " today's date, or set teacher.budget=null where nothing is paid."
            )
        self._limit = limit
        self._prices = prices
        self._model = model
        self.spent = spent
        self._held = 0.0
        self._excess = 1.0  # the largest ratio of a cost to what was held for it

    def hold(self, usage: Mapping[str, int]) -> float:
        """Set aside what a request with at most this ``usage`` can cost, before it is sent.

        Raises:
            T2IEvalError: it could break the budget.
        """
        cost = self._excess * (self._prices.cost(self._model, usage) or 0.0)
        if self._limit is not None and self.spent + self._held + cost > self._limit:
            raise T2IEvalError(
                f"The budget of {self._limit:.2f} {self._prices.currency} would be broken: {self.spent:.4f} is spent, "
                f"{self._held:.4f} is held for requests in flight and the next one may cost {cost:.4f}. What was answered "
                "is kept; raise teacher.budget and run again to go on."
            )
        self._held += cost
        return cost

    def settle(self, held: float, usage: Mapping[str, int]) -> None:
        """Replace what was held for a request by what it cost."""
        cost = self._prices.cost(self._model, usage) or 0.0
        self._held -= held
        self.spent += cost
        if held > 0:
            self._excess = max(self._excess, self._excess * cost / held)
