"""Examples of an answer that reasons: a thought made of what a teacher found along its chain, then the score.

A teacher's decomposed chain holds a question, an answer and an explanation for each part of the prompt. Its critique of an image are the
explanations of the questions that it scored below :data:`FAULT_BELOW`, then what it says about appearance, in the form of the
wording's templates ``reason_fault`` and ``reason_thought``. So no teacher is asked anything more, and the critiques of two images of one
prompt make that of the pair. Ours: T2I-Eval-R1's supervised start, if it has one, is not public.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import pandas as pd

from t2i_eval_kedro import schema
from t2i_eval_kedro.benchmarks.splits import TRAINING_FOLDS
from t2i_eval_kedro.judging.evaluators import evaluation_items
from t2i_eval_kedro.judging.protocols import Answer, EvaluationItem, Wording
from t2i_eval_kedro.judging.protocols.base import Request
from t2i_eval_kedro.judging.protocols.parsing import parse_questions, parse_score
from t2i_eval_kedro.judging.protocols.reasoning import IMAGES, Pairwise, Reasoning, ReasoningAspects, write_reasoned
from t2i_eval_kedro.steps import (
    APPEARANCE,
    EXPLAIN,
    EXTRACT,
    OVERALL,
    REASON,
    REASON_PAIR,
    REASONING,
    SCORE,
    question_step,
    summary_step,
)

FAULT_BELOW = 5.0
"""A question with a score below this is a fault; right and wrong in equal parts is none. Ours."""


def critiques(transcripts: pd.DataFrame, wording: Wording) -> dict[str, str]:
    """The teacher's thought about each item whose decomposed chain is complete.

    Args:
        transcripts: canonical table of one run of the teacher.
        wording: the words that thoughts are written in.
    """
    thoughts = {}
    answered = transcripts[transcripts["status"] == schema.OK]
    for item, rows in answered.groupby("item_id", sort=False):
        answers = dict(zip(rows["step"], rows["answer"], strict=True))
        questions = parse_questions(answers.get(EXTRACT, ""))
        if not questions or summary_step(OVERALL, SCORE) not in answers:
            continue
        faults, appearance = [], []
        for number, question in enumerate(questions):
            explanation = answers.get(question_step(question.aspect, number, EXPLAIN), "")
            score = parse_score(Answer(answers.get(question_step(question.aspect, number, SCORE), "")), wording).value
            if question.aspect == APPEARANCE:
                appearance += [explanation] if score is not None else []
            elif score is not None and score < FAULT_BELOW:
                faults.append(wording.render("reason_fault", question=question.text, explanation=explanation))
        thoughts[str(item)] = wording.render(
            "reason_thought", faults=list(dict.fromkeys(faults)), appearance=list(dict.fromkeys(appearance))
        )
    return thoughts


def main_dimension(phrases: Mapping[str, str]) -> str:
    """The overall dimension where people rated it, else the first that they rated."""
    return OVERALL if OVERALL in phrases else next(iter(phrases))


def pairs_of(items: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """The images of each prompt two by two, in a ring: each once as the first of a pair and once as the second.

    Args:
        items: item_id and prompt; of one fold.
    """
    for _, some in items.groupby("prompt", sort=True):
        ring = sorted(some["item_id"].astype(str))
        if len(ring) > 1:
            yield from zip(ring, [*ring[1:], ring[0]], strict=True) if len(ring) > 2 else [(ring[0], ring[1])]


def reasoning_examples(
    task: str,
    scores: pd.DataFrame,
    items: pd.DataFrame,
    folds: Mapping[str, str],
    phrases: Mapping[str, str],
    wording: Wording,
    thoughts: Mapping[str, str] | None,
) -> pd.DataFrame:
    """The requests of ``task`` with the answers to learn: ``reason``, ``reason_aspects`` or ``reason_pair``.

    Args:
        task: kind of request.
        scores: item_id, dimension and score on 0 to 10.
        items: canonical table.
        folds: fold of each item; those outside training and validation are left out.
        phrases: rated dimensions: name -> phrase that a judge is asked with.
        wording: the words of requests and answers.
        thoughts: critique of each item, of :func:`critiques`; an item without one is left out. None for requests alone, as
            reinforcement learning takes them: the completion is then empty.

    Returns:
        The table ``schema.EXAMPLES``. ``score`` is that of the main dimension. For a pair it is null where an answer is learned, which
        states two, and else that of the first image minus that of the second, -10 to 10.
    """
    if task not in REASONING:
        raise ValueError(f"'{task}' is not a task of reasoning; those are {', '.join(REASONING)}")
    main = main_dimension(phrases)
    known = scores.dropna(subset=["score"])
    known = known[known["dimension"].isin(list(phrases))]
    values: dict[str, dict[str, float]] = {}
    for item, dimension, score in known[["item_id", "dimension", "score"]].itertuples(index=False):
        values.setdefault(str(item), {})[str(dimension)] = float(score)
    asked = {
        item.item_id: item
        for item in evaluation_items(items, phrases)
        if folds.get(item.item_id) in TRAINING_FOLDS
        and main in values.get(item.item_id, {})
        and (thoughts is None or item.item_id in thoughts)
    }
    if task == REASON_PAIR:
        rows = list(_pairs(asked, values, items, folds, main, phrases[main], wording, thoughts))
    else:
        rows = [
            _row(task, item, values[name], folds[name], main, phrases[main], wording, thoughts)
            for name, item in asked.items()
        ]
    return schema.EXAMPLES.frame(rows)


def _row(
    task: str,
    item: EvaluationItem,
    values: Mapping[str, float],
    fold: str,
    main: str,
    phrase: str,
    wording: Wording,
    thoughts: Mapping[str, str] | None,
) -> dict[str, object]:
    protocol = Reasoning(wording) if task == REASON else ReasoningAspects(wording)
    if isinstance(protocol, Reasoning):
        request = protocol.request(item, main, phrase)
        stated: dict[str, float | None] = {main: values[main]}
    else:
        request = protocol.request(item)
        stated = {name.replace("_", " "): values.get(name) for name in item.dimensions}
    completion = "" if thoughts is None else write_reasoned(wording, thoughts[item.item_id], stated)
    return _example(request, fold, completion, values[main], protocol.label)


def _pairs(
    asked: Mapping[str, EvaluationItem],
    values: Mapping[str, Mapping[str, float]],
    items: pd.DataFrame,
    folds: Mapping[str, str],
    main: str,
    phrase: str,
    wording: Wording,
    thoughts: Mapping[str, str] | None,
) -> Iterator[dict[str, object]]:
    protocol = Pairwise(wording)
    there = items[items["item_id"].isin(list(asked))]
    for fold in TRAINING_FOLDS:
        for a, b in pairs_of(there[there["item_id"].map(folds) == fold]):
            pair = replace(asked[a], item_id=f"{a}|{b}", comparison_image=asked[b].image)
            request = protocol.request(pair, main, phrase)
            completion = ""
            if thoughts is not None:
                thought = wording.render("reason_pair_thought", a=thoughts[a], b=thoughts[b])
                completion = write_reasoned(
                    wording, thought, dict(zip(IMAGES, (values[a][main], values[b][main]), strict=True))
                )
            margin = None if thoughts is not None else values[a][main] - values[b][main]
            example = _example(request, fold, completion, margin, protocol.label)
            yield example | {"item_id": a}


def _example(request: Request, fold: str, completion: str, score: float | None, label: str) -> dict[str, object]:
    return {
        "example_id": f"{request.item_id}/{request.step}",
        "item_id": request.item_id,
        "fold": fold,
        "task": request.task,
        "aspect": request.aspect,
        "messages": request.messages_json,
        "completion": completion,
        "score": score,
        "question_id": request.question_id,
        "weight": 1.0,
        "prompt_version": label,
    }
