"""What a teacher behind a server would cost, before anything is sent.

The protocol itself is run with a stand-in for the server, so that the number of requests and the text of each are those of the real
run; only the answers are made up. What the answer store holds already costs nothing and is answered from there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import pandas as pd
from pydantic import SecretStr

from t2i_eval_kedro.answers import N_A
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.attribution import Truth, attribute_errors
from t2i_eval_kedro.judging.backends.openai import Chat
from t2i_eval_kedro.judging.cache import Keys, known_answer
from t2i_eval_kedro.judging.costs import PriceTable, Tokens
from t2i_eval_kedro.judging.evaluators import judge_items
from t2i_eval_kedro.judging.protocols import Answer, Request, Wording
from t2i_eval_kedro.judging.protocols.response_schemas import json_schema
from t2i_eval_kedro.schema import TEACHER
from t2i_eval_kedro.steps import APPEARANCE, ATTRIBUTES, EXTRACT, RELATIONS
from t2i_eval_kedro.teacher.teachers import AS_PUBLISHED, Material, TeacherSettings, ask_about_text, keys_of

QUESTIONS = (*[APPEARANCE] * 2, *[ATTRIBUTES] * 5, RELATIONS)
"""Eight questions a prompt: T2I-Eval's benchmark has 2,520 for 301 prompts."""
_SENTENCE = "The thing is in the image and looks as the prompt says, but for a small fault. "
_SHARE_OF_LIMIT = 0.25  # of the longest answer that a free text takes: a sentence or two. Ours.


@dataclass
class Estimate:
    """What is left to ask.

    Attributes:
        items: items with an image.
        requests: number of requests to send.
        known: requests that the store answers.
        prompt_tokens: expected, images included.
        completion_tokens: expected.
        cost: expected, in the currency of the price table; None where the model has no price.
        cost_upper_bound: the same with every byte of a text a token and every answer as long as it may be, for a teacher that
            asks as many questions as are assumed (:data:`QUESTIONS`).
    """

    items: int
    requests: int = 0
    known: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = 0.0
    cost_upper_bound: float | None = 0.0

    def as_dict(self) -> dict[str, float | int | None]:
        """The figures by name."""
        return asdict(self)


class _StandIn:
    """Answers what the store knows, and makes up the rest while it counts."""

    def __init__(self, settings: TeacherSettings, material: Material, chat: Chat, keys: Keys, total: Estimate) -> None:
        self._model, self._prices, self._batch = settings.openai.model, settings.prices, settings.batch
        self._retry_failed = settings.retry_failed
        self._tokens = Tokens(settings.prices.models.get(self._model), material.images.read)
        self._store, self._chat, self._keys, self._total = material.answers, chat, keys, total
        self._made_up: dict[str, Answer] = {}

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        for i, request in enumerate(requests):
            key = self._keys(request)
            known = known_answer(self._store, key, retry_failed=self._retry_failed)
            if known is not None:
                self._total.known += 1
            elif key not in self._made_up:  # what is asked once is in the store the next time
                self._count(request)
                self._made_up[key] = Answer(_made_up(request))
            yield i, known or self._made_up[key]

    def _count(self, request: Request) -> None:
        total, longest = self._total, self._chat.longest_answer(request)
        likely = longest if request.response_schema is not None else round(_SHARE_OF_LIMIT * longest)
        total.requests += 1
        total.prompt_tokens += self._tokens.expected_tokens(request)
        total.completion_tokens += likely
        total.cost = self._add(total.cost, self._tokens.expected_tokens(request), likely)
        total.cost_upper_bound = self._add(total.cost_upper_bound, self._tokens.max_tokens_bound(request), longest)

    def _add(self, cost: float | None, prompt: int, completion: int) -> float | None:
        usage: Mapping[str, int] = {"prompt_tokens": prompt, "completion_tokens": completion, "batch": int(self._batch)}
        more = self._prices.cost(self._model, usage)
        return None if cost is None or more is None else cost + more


def _made_up(request: Request) -> str:
    if request.task == EXTRACT:
        return "\n".join(
            f"{aspect} | thing {i} | kind {i}: value {i} | Is thing {i} as the prompt says?"
            for i, aspect in enumerate(QUESTIONS)
        )
    if request.response_schema is not None:
        levels = json_schema(request.response_schema)["properties"]["score"]["enum"]
        return max((str(level) for level in levels if level != N_A), key=len)
    # As many bytes as the longest answer has tokens: what quotes it counts at least so many in the upper bound, which takes a
    # byte for a token, and a quarter of them in the expectation.
    return (_SENTENCE * (request.max_tokens // len(_SENTENCE) + 1))[: request.max_tokens]


def estimate(
    settings: TeacherSettings,
    material: Material,
    wording: Wording,
    phrases: Mapping[str, str],
    attributed: tuple[pd.DataFrame, Truth] | None = None,
) -> Estimate:
    """What asking ``settings.openai`` about all items, ``settings.runs`` times, would still take. Nothing is sent.

    ``attributed`` are the items that are asked about again with one stage made true, and what people said of them
    (``teacher.attribution_items``).

    Raises:
        T2IEvalError: no item has an image.
    """
    total = Estimate(items=int(material.items["image"].notna().sum()))
    if not total.items:
        raise T2IEvalError("No item has an image, so there is nothing that a teacher could be asked.")
    chat = Chat(settings.openai, SecretStr(""), material.images.read)
    for run in range(settings.runs):
        stand_in = _StandIn(settings, material, chat, keys_of(settings, material, run), total)
        judgement = judge_items(
            material.items, stand_in, wording, phrases, ["decomposed"], name=TEACHER, options=AS_PUBLISHED, run=run
        )
        if run == 0:
            ask_about_text("openai", settings, material, judgement.transcripts, wording, stand_in)
            if attributed is not None and len(attributed[0]):
                attribute_errors(
                    attributed[0], stand_in, wording, phrases, attributed[1], name=TEACHER, options=AS_PUBLISHED
                )
    return total


def sentence(estimate: Estimate, prices: PriceTable) -> str:
    """The estimate for a person."""
    if estimate.cost is None or estimate.cost_upper_bound is None:
        money = "its model has no price (teacher.prices.models)"
    else:
        money = f"about {estimate.cost:.2f} {prices.currency}, at most {estimate.cost_upper_bound:.2f}, at the prices of {prices.as_of}"
    return (
        f"{estimate.items} items: {estimate.requests:,} requests to send ({estimate.known:,} are answered already), "
        f"{estimate.prompt_tokens:,} tokens in and {estimate.completion_tokens:,} out, {money}. Nothing was sent."
    )
