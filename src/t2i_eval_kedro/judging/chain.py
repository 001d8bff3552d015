"""What happens along the decomposed chain: how good each step is, and where agreement with people is lost.

Everything is read from the transcripts of one judge and from what is known about the items: the elements of their prompts, people's
labels of them, and people's scores. What a benchmark does not know is null.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd

from t2i_eval_kedro import schema
from t2i_eval_kedro.answers import yes_or_no
from t2i_eval_kedro.benchmarks.splits import normalised
from t2i_eval_kedro.judging.protocols import Answer, Wording
from t2i_eval_kedro.judging.protocols.parsing import Question, parse_questions, parse_score
from t2i_eval_kedro.ratings import mean_ratings
from t2i_eval_kedro.steps import (
    ANSWER,
    APPEARANCE,
    ASPECTS,
    EXTRACT,
    MERGE,
    OVERALL,
    SCORE,
    question_step,
    summary_step,
)

Record = dict[str, Any]


@dataclass(frozen=True)
class Step:
    """One answered question of a chain; what was not asked or cannot be read is None."""

    item_id: str
    question: Question
    judgement: bool | None
    score: float | None


class Chains:
    """The transcripts of the decomposed protocol's first run, item by item."""

    def __init__(self, transcripts: pd.DataFrame, wording: Wording) -> None:
        """Read the answers; ``wording`` says what a score is."""
        first = transcripts[transcripts["run"] == 0]
        self.wording = wording
        self.answers: dict[str, dict[str, str]] = {}
        for item, step, answer, status in first[["item_id", "step", "answer", "status"]].itertuples(index=False):
            steps = self.answers.setdefault(item, {})
            if status == schema.OK:
                steps[step] = answer

    def score(self, item: str, step: str) -> float | None:
        """The score at ``step``, 0 to 10."""
        text = self.answers[item].get(step)
        return None if text is None else parse_score(Answer(text), self.wording).value

    @cached_property
    def questions(self) -> list[Step]:
        """Every question of every item."""
        return list(self._questions())

    def _questions(self) -> Iterator[Step]:
        for item, answers in self.answers.items():
            for number, question in enumerate(parse_questions(answers.get(EXTRACT, ""))):
                judgement = yes_or_no(answers.get(question_step(question.aspect, number, ANSWER), ""))
                score = self.score(item, question_step(question.aspect, number, SCORE))
                yield Step(item, question, judgement, score)


@dataclass(frozen=True)
class Match:
    """A question of a chain that asks about a known element.

    Attributes:
        step: the question with the judge's answer and score.
        element_id: the element, within its prompt.
        skill: the element's skill.
        satisfied: whether the judge's answer says that the image shows the element; None where it cannot be read.
        truth: whether most people say so; None where nobody labelled it, or they are divided.
    """

    step: Step
    element_id: str
    skill: str
    satisfied: bool | None
    truth: bool | None


def match_elements(
    chains: Chains, items: pd.DataFrame, elements: pd.DataFrame, element_ratings: pd.DataFrame
) -> list[Match]:
    """The questions of ``chains`` that are worded as a known element of their prompt is."""
    prompt_of = dict(zip(items["item_id"], items["prompt_id"], strict=True))
    known = {(row.prompt_id, normalised(str(row.question))): row for row in elements.itertuples()}
    label = labels(element_ratings)
    matches = []
    for step in chains.questions:
        element = known.get((prompt_of.get(step.item_id), normalised(step.question.text)))
        if element is not None:
            satisfied = None if step.judgement is None else step.judgement == (str(element.expected) != "no")
            truth = label.get((step.item_id, str(element.element_id)))
            matches.append(Match(step, str(element.element_id), str(element.skill), satisfied, truth))
    return matches


def labels(element_ratings: pd.DataFrame) -> dict[tuple[str, str], bool]:
    """Whether most people say that the image shows the element, by item and element; without those they are divided on."""
    means = element_ratings.groupby(["item_id", "element_id"])["label"].mean().dropna().reset_index()
    keys = zip(means["item_id"], means["element_id"], means["label"].astype(float), strict=True)
    return {(str(item), str(element)): mean > 0.5 for item, element, mean in keys if mean != 0.5}


def extraction(chains: Chains, items: pd.DataFrame, elements: pd.DataFrame, matches: list[Match]) -> Record:
    """How well the extracted questions are the known elements of the prompts: precision, recall, F1, share that is exact.

    Counted over all items whose prompts have elements with questions. A question about appearance is about no element and does not
    count. Null where questions are asked and none at all is worded as an element is: the benchmark then words them in another way.
    """
    prompt_of = dict(zip(items["item_id"], items["prompt_id"], strict=True))
    n_known = elements.dropna(subset=["question"]).groupby("prompt_id").size()
    counted = [item for item in chains.answers if prompt_of.get(item) in n_known]
    asked = dict.fromkeys(counted, 0)
    for step in chains.questions:
        if step.item_id in asked and step.question.aspect != APPEARANCE:
            asked[step.item_id] += 1
    right: dict[str, set[str]] = {item: set() for item in counted}
    for match in matches:
        right[match.step.item_id].add(match.element_id)
    n_right = {item: len(names) for item, names in right.items()}
    total, hits, known = sum(asked.values()), sum(n_right.values()), sum(n_known[prompt_of[item]] for item in counted)
    row: Record = {"items": len(counted), "questions": total}
    if not counted or (total and not matches):
        return row | dict.fromkeys(("precision", "recall", "f1", "exact"))
    exact = [n_right[item] == asked[item] == n_known[prompt_of[item]] for item in counted]
    return row | {
        "precision": hits / total if total else None,
        "recall": float(hits / known),
        "f1": float(2 * hits / (total + known)),
        "exact": fmean(exact),
    }


def answers_by_skill(matches: list[Match]) -> list[Record]:
    """By skill: the answers to known elements that people labelled, and the share of them that is right."""
    rows = [
        (match.skill, match.satisfied == match.truth)
        for match in matches
        if match.satisfied is not None and match.truth is not None
    ]
    table = pd.DataFrame(rows, columns=["skill", "right"])
    return [
        {"skill": skill, "answers": len(some), "accuracy": float(some["right"].mean())}
        for skill, some in table.groupby("skill", sort=True)
    ]


def answered_elements(judge: str, matches: list[Match]) -> pd.DataFrame:
    """The chain's answers about known elements as a table ``element_scores``: 1 satisfied, 0 not."""
    rows = {
        (match.step.item_id, match.element_id): float(match.satisfied)
        for match in matches
        if match.satisfied is not None
    }
    return schema.ELEMENT_SCORES.frame(
        {"item_id": item, "element_id": element, "judge": judge, "protocol": "decomposed", "run": 0}
        | {"score": score, "status": schema.OK}
        for (item, element), score in rows.items()
    )


def step_scores(chains: Chains, matches: list[Match]) -> pd.DataFrame:
    """What each step of the chain alone says of an item: item_id, dimension, step, score (0 to 10, higher is better).

    ``answers`` is the share of satisfied questions, ``true answers`` the same with people's labels in their place, ``evaluations``
    the mean score of the questions, ``summaries`` the aspect's score (overall: their mean), ``merge`` the overall score. The means
    stand in for the steps that follow, so that no step is blamed for what a later one does.
    """
    rows: list[tuple[str, str, str, float]] = []
    satisfied = {id(match.step): match.satisfied for match in matches}
    for step in chains.questions:
        judgement = satisfied.get(id(step), step.judgement)
        for dimension in (step.question.aspect, OVERALL):
            if judgement is not None:
                rows.append((step.item_id, dimension, "answers", 10.0 * judgement))
            if step.score is not None:
                rows.append((step.item_id, dimension, "evaluations", step.score))
    for match in matches:
        if match.truth is not None:
            for dimension in (match.step.question.aspect, OVERALL):
                rows.append((match.step.item_id, dimension, "true answers", 10.0 * match.truth))
    for item in chains.answers:
        for aspect in ASPECTS:
            score = chains.score(item, summary_step(aspect, SCORE))
            if score is not None:
                rows += [(item, dimension, "summaries", score) for dimension in (aspect, OVERALL)]
        merged = chains.score(item, summary_step(OVERALL, SCORE))
        if merged is not None:
            rows.append((item, OVERALL, MERGE, merged))
    table = pd.DataFrame(rows, columns=["item_id", "dimension", "step", "score"])
    return table.groupby(["item_id", "dimension", "step"], sort=True)["score"].mean().reset_index()


def agreement_by_step(scores: pd.DataFrame, ratings: pd.DataFrame) -> list[Record]:
    """By dimension and step: Spearman of :func:`step_scores` with people's means, and the mean error on 0 to 10.

    ``error`` is the mean of the score minus people's mean, ``absolute_error`` the mean size of that difference. Answers are shares
    and not scores, so only their order is compared.
    """
    people = mean_ratings(ratings)
    width = people["scale_max"] - people["scale_min"]
    people["people"] = 10 * (people["score"] - people["scale_min"]) / width
    joined = scores.merge(people[["item_id", "dimension", "people"]], on=["item_id", "dimension"])
    rows: list[Record] = []
    for (dimension, step), some in joined.groupby(["dimension", "step"], sort=True):
        gap = some["score"] - some["people"]
        scored = "answers" not in str(step)
        rows.append(
            {"dimension": dimension, "step": step, "items": len(some)}
            | {"spearman": _spearman(some)}
            | {"error": _figure(gap.mean()) if scored else None}
            | {"absolute_error": _figure(gap.abs().mean()) if scored else None}
        )
    return rows


def chain_table(
    transcripts: pd.DataFrame,
    items: pd.DataFrame,
    ratings: pd.DataFrame,
    elements: pd.DataFrame,
    element_ratings: pd.DataFrame,
    wording: Wording,
) -> dict[str, Any]:
    """The diagnosis of every judge that was asked by the protocol ``decomposed``, and its answers about known elements.

    Args:
        transcripts: canonical table; other protocols' rows are left out.
        items: canonical table; items outside it are left out.
        ratings: canonical table.
        elements: canonical table of the prompts' known elements.
        element_ratings: canonical table of people's labels of them.
        wording: the wording that the judges were asked in.

    Returns:
        ``extraction`` and ``answers`` and ``steps``, lists of records with the judge in ``judge``; ``element_scores``, a canonical
        table.
    """
    out: dict[str, Any] = {"extraction": [], "answers": [], "steps": []}
    answered = [schema.ELEMENT_SCORES.empty()]
    chosen = transcripts[(transcripts["protocol"] == "decomposed") & transcripts["item_id"].isin(items["item_id"])]
    for judge, some in chosen.groupby("judge", sort=False):
        chains = Chains(some, wording)
        matches = match_elements(chains, items, elements, element_ratings)
        out["extraction"].append({"judge": judge} | extraction(chains, items, elements, matches))
        out["answers"] += [{"judge": judge} | row for row in answers_by_skill(matches)]
        out["steps"] += [{"judge": judge} | row for row in agreement_by_step(step_scores(chains, matches), ratings)]
        answered.append(answered_elements(str(judge), matches))
    return out | {"element_scores": pd.concat(answered, ignore_index=True)}


def stages(
    chains: Chains,
    items: pd.DataFrame,
    ratings: pd.DataFrame,
    elements: pd.DataFrame,
    element_ratings: pd.DataFrame,
) -> list[Record]:
    """How errors compound along the chain: extract, answer, evaluate, summarise, merge.

    ``value`` is the share that is right (extract: elements of the prompt that a question asks about; answer and evaluate:
    agreement with the majority of people's labels of that element, a score above 5 being a yes) or, for the last two, Spearman with
    people's mean ratings. It is also given where everything before that stage was right, and where something was wrong. Where a
    benchmark labels no elements, or words their questions otherwise, only the number of readable answers is known.
    """
    prompt_of = dict(zip(items["item_id"], items["prompt_id"], strict=True))
    covered: dict[str, set[str]] = {}
    answered: list[tuple[bool, bool]] = []  # right before, right
    evaluated: list[tuple[bool, bool]] = []
    wrong: set[str] = set()
    for match in match_elements(chains, items, elements, element_ratings):
        step, truth = match.step, match.truth
        covered.setdefault(step.item_id, set()).add(match.element_id)
        if truth is None:
            continue
        answer_right = None if match.satisfied is None else match.satisfied == truth
        if answer_right is not None:
            answered.append((True, answer_right))
        if step.score is not None:
            evaluated.append((answer_right is not False, (step.score > 5) == truth))
        if answer_right is False or (step.score is not None and (step.score > 5) != truth):
            wrong.add(step.item_id)
    n_elements = elements.groupby("prompt_id").size()
    shares = [
        len(covered.get(item, set())) / n_elements[prompt_of[item]]
        for item, answers in chains.answers.items()
        if EXTRACT in answers and prompt_of.get(item) in n_elements
    ]
    known = bool(covered)
    rows = [
        {"stage": EXTRACT, "readable": sum(bool(a.get(EXTRACT)) for a in chains.answers.values())}
        | _row("share of elements asked about", fmean(shares) if shares and known else None, None, None),
        {"stage": ANSWER, "readable": sum(step.judgement is not None for step in chains.questions)}
        | _compared("share right", answered, split=False),
        {"stage": "evaluate", "readable": sum(step.score is not None for step in chains.questions)}
        | _compared("share right", evaluated, split=True),
    ]
    for stage, steps in (
        ("summarise", {aspect: summary_step(aspect, SCORE) for aspect in ASPECTS}),
        (MERGE, {OVERALL: summary_step(OVERALL, SCORE)}),
    ):
        values = [(item, aspect, chains.score(item, step)) for item in chains.answers for aspect, step in steps.items()]
        table = pd.DataFrame(values, columns=["item_id", "dimension", "score"]).dropna()
        rows.append({"stage": stage, "readable": len(table)} | _followed(table, ratings, wrong if known else None))
    return rows


def _row(measure: str, value: float | None, right: float | None, wrong: float | None) -> Record:
    return {"measure": measure, "value": value, "after_right": right, "after_wrong": wrong}


def _compared(measure: str, pairs: list[tuple[bool, bool]], *, split: bool) -> Record:
    def share(which: list[bool]) -> float | None:
        return fmean(which) if which else None

    right, wrong = [r for before, r in pairs if before], [r for before, r in pairs if not before]
    return _row(measure, share([r for _, r in pairs]), share(right) if split else None, share(wrong) if split else None)


def _followed(table: pd.DataFrame, ratings: pd.DataFrame, wrong: set[str] | None) -> Record:
    """Spearman of ``table`` with people, mean over its dimensions, of all items and of those without and with an error."""
    people = mean_ratings(ratings).rename(columns={"score": "people"})
    joined = table.merge(people, on=["item_id", "dimension"])

    def spearman(rows: pd.DataFrame) -> float | None:
        each = [rho for _, some in rows.groupby("dimension") if (rho := _spearman(some)) is not None]
        return fmean(each) if each else None

    if wrong is None:
        return _row("Spearman with people", spearman(joined), None, None)
    went_wrong = joined["item_id"].isin(wrong)
    return _row("Spearman with people", spearman(joined), spearman(joined[~went_wrong]), spearman(joined[went_wrong]))


def _spearman(rows: pd.DataFrame) -> float | None:
    """Spearman of the columns ``score`` and ``people``; None for fewer than three items or one score for all."""
    if len(rows) < 3 or rows["score"].nunique() < 2:
        return None
    return _figure(rows["score"].corr(rows["people"], method="spearman"))


def _figure(value: float) -> float | None:
    """JSON has no NaN."""
    return float(value) if np.isfinite(value) else None
