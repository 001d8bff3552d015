"""Who teaches: builds the teacher that the settings name, lets it judge, and says what it cost."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from t2i_eval_kedro import schema
from t2i_eval_kedro.datasets.answer_store import AnswerStore
from t2i_eval_kedro.datasets.image_store import ImageStore
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.attribution import Truth, attribute_errors
from t2i_eval_kedro.judging.backends.base import Backend
from t2i_eval_kedro.judging.backends.openai_settings import OpenAISettings
from t2i_eval_kedro.judging.backends.recorded import RecordedBackend
from t2i_eval_kedro.judging.backends.simulated import SimulatedBackend
from t2i_eval_kedro.judging.cache import CachedBackend, Keys
from t2i_eval_kedro.judging.costs import Budget, PriceTable, Tokens, UsageTotals, as_if_asked, usage_totals
from t2i_eval_kedro.judging.engine import Judgement, judge
from t2i_eval_kedro.judging.evaluators import evaluation_items, judge_items, teacher_kind
from t2i_eval_kedro.judging.protocols import Wording
from t2i_eval_kedro.judging.protocols.decomposed import Decomposed
from t2i_eval_kedro.judging.protocols.registry import ProtocolOptions, build
from t2i_eval_kedro.schema import TEACHER
from t2i_eval_kedro.teacher import text_only

log = logging.getLogger(__name__)

AS_PUBLISHED = ProtocolOptions(text_stages=False)
"""The teacher is shown the image in every stage, whatever its student will be shown."""
VIESCORE = {"alignment": "SC", "appearance": "PQ", "overall": "O"}
"""What the holistic protocol's dimensions are called where VIEScore's own judges and raters are recorded."""


class TeacherSettings(BaseModel):
    """Who teaches.

    Attributes:
        kind: ``simulated`` sees the truth of a synthetic benchmark; ``human`` are people's mean scores, without steps;
            ``openai`` is a model behind an OpenAI-compatible server; ``recorded`` are answers that the benchmark ships;
            ``auto`` is the simulated one where there is a truth to see, else the human one.
        seed: random seed of the simulated teacher's errors.
        error_rate: share of questions that the simulated teacher answers wrongly.
        score_noise: standard deviation of the noise on its scores, on the scale of 0 to 10.
        attribution_items: items whose chain a server is asked about again with one stage made true at a time, about two chains
            each; a simulated teacher has ``judging.attribution_items``, for it costs nothing.
        runs: how often the teacher judges everything, each time with another seed; the student learns from the first.
        recorded: the recorded judge whose answers are taken; null where there is only one.
        openai: the server, and how hard it is asked.
        batch: ask through the Batch API, at its lower price; each step of the chain may then take a day.
        poll_s: seconds between two looks at a batch.
        retry_failed: ask again for answers that were refused, cut off or unreadable.
        extra_prompts: further prompts whose extraction the teacher is asked for, which needs no image: how many to draw
            (``shapes`` alone), or a file (:func:`~t2i_eval_kedro.teacher.text_only.further_prompts`). Those of the benchmark, or nearly so,
            are left out.
        mixtures: pairs of images of each training prompt whose findings are mixed, to be summed up by the teacher without an image.
        findings: a judge's transcripts (parquet, of a run with ``judging.fold=train``): the teacher is asked, without the image, to score
            and sum up what that judge found in the images of the training fold; null for none.
        text_seed: random seed of prompts and mixtures.
        budget: money, in the currency of the prices, that all answers in the store may have cost; null for no limit.
        prices: a dated price table.
    """

    model_config = ConfigDict(extra="forbid")

    kind: Literal["auto", "simulated", "human", "openai", "recorded"]
    seed: int = Field(ge=0)
    error_rate: float = Field(ge=0, le=1)
    score_noise: float = Field(ge=0)
    attribution_items: int = Field(ge=0)
    runs: int = Field(ge=1)
    recorded: str | None
    openai: OpenAISettings
    batch: bool
    poll_s: float = Field(gt=0)
    retry_failed: bool
    extra_prompts: Annotated[int, Field(ge=0)] | str
    mixtures: int = Field(ge=0)
    findings: str | None
    text_seed: int = Field(ge=0)
    budget: float | None = Field(ge=0)
    prices: PriceTable

    def server(self, run: int) -> OpenAISettings:
        """The server with the seed of one run."""
        return self.openai.model_copy(update={"seed": self.openai.seed + run})

    @property
    def about_text(self) -> str:
        """The settings that ask the teacher for something without an image, as a message names them; empty where none does."""
        return ", ".join(f"teacher.{name}" for name in ("extra_prompts", "mixtures", "findings") if getattr(self, name))

    def chosen(self, *, synthetic: bool) -> str:
        """The kind, with ``auto`` decided."""
        return teacher_kind(self.kind, synthetic=synthetic)


@dataclass(frozen=True)
class Material:
    """What teachers are made from.

    Attributes:
        items: the items to ask about.
        images: their images.
        recorded: transcripts that the benchmark ships.
        answers: earlier answers.
        key: the server's key.
        training: ids of those items that students are trained on, whose findings may be mixed.
        all_items: every item of the benchmark, whose prompts are no further prompts; None for ``items``.
    """

    items: pd.DataFrame
    images: ImageStore
    recorded: pd.DataFrame
    answers: AnswerStore
    key: SecretStr | None
    training: Collection[str] = ()
    all_items: pd.DataFrame | None = None


def ask_teacher(
    kind: str, settings: TeacherSettings, material: Material, wording: Wording, phrases: Mapping[str, str]
) -> tuple[Judgement, pd.DataFrame, dict[str, Any]]:
    """The teacher's transcripts and scores of all items, ``settings.runs`` times; transcripts about text alone; and what it cost."""
    dropped: dict[str, int] = {}
    parts = []
    for run in range(settings.runs):
        if kind == "recorded":
            backend = RecordedBackend(material.recorded, wording, judge=settings.recorded)
            parts.append(recorded_judgement(backend, material.items, wording, phrases))
            dropped = dict(backend.dropped)
            for what, count in dropped.items():
                log.warning("%d times left out of the recorded answers: %s.", count, what)
            break  # there is one record
        asked = (
            _simulated(settings, material, wording, run) if kind == "simulated" else connect(settings, material, run)
        )
        parts.append(
            judge_items(
                material.items, asked, wording, phrases, ["decomposed"], name=TEACHER, options=AS_PUBLISHED, run=run
            )
        )
    judgement = Judgement.join(parts)
    failed = judgement.scores[judgement.scores["status"] == schema.FAILED]
    if len(failed) and len(failed) == len(judgement.scores):
        raise T2IEvalError(
            f"The teacher gave no verdict about any of {failed['item_id'].nunique()} items; the first reason: "
            f"{failed['explanation'].iloc[0]}"
        )
    about_text = ask_about_text(kind, settings, material, judgement.transcripts, wording)
    costs = _account(kind, judgement.transcripts, about_text, material, settings) | {"dropped": dropped}
    return judgement, about_text, costs


def ask_about_text(
    kind: str,
    settings: TeacherSettings,
    material: Material,
    transcripts: pd.DataFrame,
    wording: Wording,
    backend: Backend | None = None,
) -> pd.DataFrame:
    """The teacher's transcripts of requests that need no image, see :mod:`t2i_eval_kedro.teacher.text_only`.

    Args:
        kind: who teaches; a record cannot be asked anything more.
        settings: how much is asked.
        material: what the teacher is made from.
        transcripts: its whole chains.
        wording: the words that it is asked in.
        backend: what answers in place of the teacher's server.

    Raises:
        T2IEvalError: a simulated teacher is given a file of prompts, or a file cannot be read.
    """
    if kind == "recorded" and settings.about_text:
        log.warning("A recorded teacher cannot be asked anything more. Without effect: %s.", settings.about_text)
    if kind == "recorded" or not settings.about_text:
        return schema.TRANSCRIPTS.empty()
    if kind == "simulated" and isinstance(settings.extra_prompts, str):
        raise T2IEvalError(
            f"teacher.extra_prompts names the file '{settings.extra_prompts}', and a simulated teacher cannot read a file of prompts: it "
            "sees the truth that a prompt was drawn from; give a number of prompts to draw, or set teacher.kind=openai."
        )
    chain = Decomposed(wording, text_stages=True)
    benchmark = material.items if material.all_items is None else material.all_items
    prompts = text_only.further_prompts(benchmark, settings.extra_prompts, seed=settings.text_seed)
    if backend is None and kind == "simulated":
        backend = _simulated(settings, replace(material, items=pd.concat([material.items, prompts])), wording, 0)
    elif backend is None:
        backend = connect(settings, material)
    trained = material.items[material.items["item_id"].isin(set(material.training))]
    mixtures = text_only.ask_mixtures(
        transcripts, trained, chain, backend, per_prompt=settings.mixtures, seed=settings.text_seed
    )
    parts = [text_only.ask_extractions(prompts, chain, backend), mixtures]
    if settings.findings is not None:
        findings = text_only.read_findings(Path(settings.findings), trained, chain)
        parts.append(text_only.ask_about_findings(findings, trained, chain, backend))
    return schema.TRANSCRIPTS.check(pd.concat(parts, ignore_index=True))


def teacher_attribution(
    kind: str,
    settings: TeacherSettings,
    material: Material,
    truth: Truth,
    wording: Wording,
    phrases: Mapping[str, str],
) -> pd.DataFrame:
    """The canonical table ``attribution`` of a teacher that can be asked again about the items of ``material``.

    A recorded teacher and a human one cannot, and a table without items asks nobody: the table is empty.
    """
    if kind not in ("simulated", "openai") or not len(material.items):
        return schema.ATTRIBUTION.empty()
    asked = _simulated(settings, material, wording, 0) if kind == "simulated" else connect(settings, material)
    return attribute_errors(material.items, asked, wording, phrases, truth, name=TEACHER, options=AS_PUBLISHED)


def connect(settings: TeacherSettings, material: Material, run: int = 0) -> CachedBackend:
    """A client of the server, with every answer in the store; nothing is sent yet.

    Raises:
        T2IEvalError: there is no key, or a budget without a price.
    """
    if material.key is None:
        raise T2IEvalError(
            "The teacher has no key; set OPENAI_API_KEY, or teacher.api_key in conf/local/credentials.yml (a server that "
            "wants none takes any)."
        )
    server, keys = settings.server(run), keys_of(settings, material, run)
    spent = usage_totals(material.answers.every_answer(), settings.prices).cost
    budget = Budget(settings.budget, settings.prices, server.model, spent=spent)
    tokens = Tokens(settings.prices.models.get(server.model), material.images.read)
    read = material.images.read
    # OpenAI's client is slow to import.
    backend: Backend
    if settings.batch:
        from t2i_eval_kedro.judging.backends.batch import BatchBackend

        store, poll_s = material.answers, settings.poll_s
        backend = BatchBackend(
            server, material.key, read, store, name=keys, budget=budget, tokens=tokens, poll_s=poll_s
        )
    else:
        from t2i_eval_kedro.judging.backends.openai import OpenAIBackend

        backend = OpenAIBackend(server, material.key, read, name=keys, budget=budget, tokens=tokens)
    return CachedBackend(backend, material.answers, keys, retry_failed=settings.retry_failed)


def keys_of(settings: TeacherSettings, material: Material, run: int) -> Keys:
    """What one run's requests are called in the answer store."""
    return Keys(settings.server(run).identity | {"run": run}, material.images.read)


def _simulated(settings: TeacherSettings, material: Material, wording: Wording, run: int) -> Backend:
    return SimulatedBackend(
        material.items,
        wording,
        seed=settings.seed + run,
        error_rate=settings.error_rate,
        score_noise=settings.score_noise,
    )


def recorded_judgement(
    backend: RecordedBackend, items: pd.DataFrame, wording: Wording, phrases: Mapping[str, str]
) -> Judgement:
    """What is recorded, as a judgement: T2I-Eval's chains, or VIEScore's two answers an item.

    Items of one prompt are judged apart in chains, because each has an extraction of its own here.
    """
    if not backend.in_steps:
        judgement = judge(evaluation_items(items, phrases), build("holistic", wording), backend, name=TEACHER)
        names = {ours: theirs for ours, theirs in VIESCORE.items() if theirs in phrases}
        return replace(judgement, scores=judgement.scores.replace({"dimension": names}))
    turns = items.groupby("prompt", sort=False).cumcount()
    return Judgement.join(
        judge_items(
            schema.ITEMS.check(some), backend, wording, phrases, ["decomposed"], name=TEACHER, options=AS_PUBLISHED
        )
        for _, some in items.groupby(turns)
    )


def _account(
    kind: str, judged: pd.DataFrame, about_text: pd.DataFrame, material: Material, settings: TeacherSettings
) -> dict[str, Any]:
    """What this teacher's answers cost, each once, ``text_alone`` of it for requests that judge no image, and what the store's have cost so far.

    For a simulated teacher also what the same requests would cost at the price of ``settings.openai.model``.
    """
    once = pd.concat([judged, about_text], ignore_index=True).drop_duplicates(["run", "task", "messages"])
    of_text = once[once.index >= len(judged)]
    model, prices = settings.openai.model, settings.prices
    assumed = [
        as_if_asked(some, model, prices, material.images.read) if kind == "simulated" else {}
        for some in (once, of_text)
    ]
    paid = [_paid(some, model, prices) if kind == "openai" else UsageTotals() for some in (once, of_text)]
    return {
        "teacher": kind,
        "model": model if kind == "openai" else None,
        "items": int(judged["item_id"].nunique()),
        "runs": int(judged["run"].nunique()),
        "currency": prices.currency,
        "prices_as_of": prices.as_of.isoformat(),
        "account": paid[0].as_dict(),
        "as_if_asked": assumed[0],
        "text_alone": {"account": paid[1].cost, "as_if_asked": assumed[1].get("cost", 0.0)},
        "spent_so_far": usage_totals(material.answers.every_answer(), prices).as_dict(),
    }


def _paid(transcripts: pd.DataFrame, model: str, prices: PriceTable) -> UsageTotals:
    total = UsageTotals()
    for row in transcripts.itertuples():
        usage = json.loads(str(row.usage)) if isinstance(row.usage, str) else {}
        total.add(model, usage, prices, failed=str(row.status) == schema.FAILED)
    return total
