"""The engine: asks a backend what a protocol wants to know about many items, and returns canonical tables."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd
from tqdm import tqdm

from t2i_eval_kedro import schema
from t2i_eval_kedro.judging.backends.base import Backend
from t2i_eval_kedro.judging.protocols.base import Answer, EvaluationItem, Protocol, Request, Verdict
from t2i_eval_kedro.schema import FAILED, UNPARSED

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Judgement:
    """What an evaluator said: its scores, transcripts and scores of elements, as canonical tables."""

    scores: pd.DataFrame
    transcripts: pd.DataFrame
    element_scores: pd.DataFrame

    @classmethod
    def join(cls, parts: Iterable[Judgement]) -> Judgement:
        """Several judgements as one; without any, one of nothing."""
        parts = [*parts] or [cls(schema.SCORES.empty(), schema.TRANSCRIPTS.empty(), schema.ELEMENT_SCORES.empty())]
        return cls(
            schema.SCORES.check(pd.concat([part.scores for part in parts], ignore_index=True)),
            schema.TRANSCRIPTS.check(pd.concat([part.transcripts for part in parts], ignore_index=True)),
            schema.ELEMENT_SCORES.check(pd.concat([part.element_scores for part in parts], ignore_index=True)),
        )


def judge(
    items: Sequence[EvaluationItem],
    protocol: Protocol,
    backend: Backend,
    *,
    name: str,
    run: int = 0,
    chunk_size: int | None = None,
    max_out_of_vocabulary: float = 1.0,
    alone: Callable[[Request], bool] = lambda _: False,
) -> Judgement:
    """Ask ``backend`` about ``items`` round by round until ``protocol`` has no more questions.

    In each round the next requests of all items that are judged at once are asked together. Requests with the same
    messages (an extraction of a prompt that six images share) are asked once and answered for all. Scores and their order
    depend neither on the order of the items nor on how the backend batches.

    Args:
        items: what is judged.
        protocol: how the judge is asked.
        backend: who answers.
        name: the judge's name, which the tables carry beside the protocol's.
        run: number of the repetition.
        chunk_size: items that go through their rounds together; the next ones begin when these are done. None for all, which
            suits a server that answers many requests at a time.
        max_out_of_vocabulary: share of probability, 0 to 1, that a model may give to other words than the answers it has to choose from; with
            more, the answer does not count.
        alone: whether a request is asked for its item alone, also where another one has the same messages.
    """

    def content(request: Request) -> tuple[object, ...]:
        """What makes two requests one: everything that the backend's model is shown."""
        shown = request.messages_json, request.candidate_tokens, request.max_tokens
        return (*shown, request.item_id) if alone(request) else shown

    answers: list[dict[str, Answer]] = [{} for _ in items]
    asked: list[list[Request]] = [[] for _ in items]
    known: dict[tuple[object, ...], Answer] = {}
    with tqdm(
        total=len(items),
        desc=f"{name} ({protocol.label})",
        unit=" items",
        dynamic_ncols=True,
        mininterval=1.0,
        miniters=0,
        disable=len(items) < 2,
    ) as progress:
        for start in range(0, len(items), chunk_size or max(len(items), 1)):
            going = list(range(len(items)))[start:][:chunk_size]
            while going:
                waiting = [(i, request) for i in going for request in protocol.requests(items[i], answers[i])]
                new: dict[tuple[object, ...], Request] = {}
                for _, request in waiting:
                    key = content(request)
                    if key not in known:
                        new.setdefault(key, request)
                keys = list(new)
                for position, answer in backend.answer(list(new.values())):
                    known[keys[position]] = _within(answer, max_out_of_vocabulary)
                    if len(known) % 16 == 0:
                        progress.set_postfix(requests=len(known), refresh=False)
                        progress.update(0)
                for i, request in waiting:
                    answers[i][request.step] = known[content(request)]
                    asked[i].append(request)
                unfinished = sorted({i for i, _ in waiting})
                progress.update(len(going) - len(unfinished))
                going = unfinished
    verdicts = [protocol.verdict(item, given) for item, given in zip(items, answers, strict=True)]
    who = {"judge": name, "protocol": protocol.name, "run": run}
    _report(schema.evaluator_id(name, protocol.name), verdicts)
    return Judgement(
        _scores(items, verdicts, who),
        _transcripts(answers, asked, protocol, who),
        _element_scores(items, verdicts, who),
    )


def _within(answer: Answer, limit: float) -> Answer:
    """``answer``, rejected where more than ``limit`` of the probability lies outside its candidates."""
    if not answer.probabilities or answer.out_of_vocabulary_mass <= limit:
        return answer
    share = f"{100 * answer.out_of_vocabulary_mass:.1f}% of the probability is on other words than the answers"
    return replace(answer, rejected=f"{share}, more than {100 * limit:g}%")


def _report(evaluator: str, verdicts: Sequence[Verdict]) -> None:
    """Say how many answers were mended, and how many scores are empty and why."""
    repairs = Counter(repair for verdict in verdicts for repair in verdict.repairs)
    for repair, count in sorted(repairs.items()):
        log.info("%s: %d answers were mended before they were read: %s.", evaluator, count, repair)
    scores = [score for verdict in verdicts for score in verdict.scores.values()]
    for status in (FAILED, UNPARSED):
        reasons = Counter(score.explanation or "no answer" for score in scores if score.status == status)
        if reasons:
            (often, count), *_ = reasons.most_common(1)
            log.warning(
                "%s: %d of %d scores are empty because they %s; %d of them: %.200s",
                evaluator,
                reasons.total(),
                len(scores),
                FAILED if status == FAILED else "could not be read",
                count,
                " ".join(often.split()),
            )


def _scores(items: Sequence[EvaluationItem], verdicts: Sequence[Verdict], who: Mapping[str, object]) -> pd.DataFrame:
    return schema.SCORES.frame(
        {
            "item_id": item.item_id,
            **who,
            "dimension": dimension,
            "score": score.value,
            "status": score.status,
            "explanation": score.explanation,
            "higher_is_better": True,
        }
        for item, verdict in zip(items, verdicts, strict=True)
        for dimension, score in verdict.scores.items()
    )


def _element_scores(
    items: Sequence[EvaluationItem], verdicts: Sequence[Verdict], who: Mapping[str, object]
) -> pd.DataFrame:
    return schema.ELEMENT_SCORES.frame(
        {
            "item_id": item.item_id,
            "element_id": element_id,
            **who,
            "score": score.value,
            "status": score.status,
        }
        for item, verdict in zip(items, verdicts, strict=True)
        for element_id, score in verdict.elements.items()
    )


def _transcripts(
    answers: list[dict[str, Answer]], asked: list[list[Request]], protocol: Protocol, who: Mapping[str, object]
) -> pd.DataFrame:
    return schema.TRANSCRIPTS.frame(
        {
            "item_id": request.item_id,
            **who,
            "step": request.step,
            "task": request.task,
            "aspect": request.aspect,
            "question_id": request.question_id,
            "messages": request.messages_json,
            "answer": given[request.step].text,
            "status": given[request.step].status,
            "usage": _usage(request, given[request.step]),
            "prompt_version": protocol.label,
        }
        for given, requests in zip(answers, asked, strict=True)
        for request in requests
    )


def _usage(request: Request, answer: Answer) -> str:
    """The usage as JSON; for a request with choices, also their probabilities and the probability outside of them."""
    usage: dict[str, object] = dict(answer.usage)
    if request.candidate_tokens and answer.probabilities:
        usage |= {"probabilities": dict(answer.probabilities), "out_of_vocabulary_mass": answer.out_of_vocabulary_mass}
    return json.dumps(usage, ensure_ascii=False)
