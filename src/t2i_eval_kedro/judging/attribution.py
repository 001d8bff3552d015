"""Which stage of the decomposed chain costs how much agreement: the chain is asked again with exactly one stage made true.

A stage is made true by answering its requests from people's labels and ratings in the judge's place; all other requests go to the
judge, which sees the true answers where it would have seen its own. The stages, and what replaces them:

| stage | replaced by |
|---|---|
| ``extract`` | the known elements of the prompt, as questions; questions about appearance stay the judge's |
| ``answer`` | yes or no by most people's label of the element |
| ``evaluate`` | the level nearest to the mean label; the explanation says the same in words |
| ``summarise`` | the level nearest to people's mean rating of the aspect; the explanation likewise |

What nobody labelled or rated stays the judge's answer, and the number of replaced answers is kept. A stage that feeds the next ones
wrong answers costs what the agreement gains when it alone is made true. The merge itself has no row: with true summaries before it,
what is still missing is its own error. T2I-Eval does not measure this; the procedure is ours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from t2i_eval_kedro import schema
from t2i_eval_kedro.benchmarks.splits import normalised
from t2i_eval_kedro.judging.backends.base import Backend
from t2i_eval_kedro.judging.backends.recorded import entity_name, question_text
from t2i_eval_kedro.judging.backends.simulated import verdict_in_words
from t2i_eval_kedro.judging.engine import judge
from t2i_eval_kedro.judging.evaluators import SAME_AS, evaluation_items
from t2i_eval_kedro.judging.evidence import EvidenceSource, add_evidence
from t2i_eval_kedro.judging.known_elements import elements_by_prompt
from t2i_eval_kedro.judging.protocols import Answer, PromptElement, Request, Wording
from t2i_eval_kedro.judging.protocols.elements import ALIGNMENT
from t2i_eval_kedro.judging.protocols.parsing import parse_questions
from t2i_eval_kedro.judging.protocols.registry import ProtocolOptions, build
from t2i_eval_kedro.ratings import mean_ratings
from t2i_eval_kedro.steps import ANSWER, APPEARANCE, ASPECTS, ATTRIBUTES, EXTRACT, OVERALL, RELATIONS, SCORE, SUMMARY

NOTHING = "none"
STAGES = (EXTRACT, ANSWER, "evaluate", "summarise")
_RELATIONS = ("spatial", "relation", "action", "interaction")


@dataclass(frozen=True)
class Truth:
    """What people said about items, for the requests of a chain.

    Attributes:
        elements: elements of each item's prompt, with their questions.
        labels: mean label, 0 to 1, by item and normalised question; 1 means that the image shows the element.
        expected: answer that means so, by item and normalised question.
        ratings: mean rating, 0 to 10, by item and aspect.
    """

    elements: Mapping[str, Sequence[PromptElement]]
    labels: Mapping[tuple[str, str], float]
    expected: Mapping[tuple[str, str], str]
    ratings: Mapping[tuple[str, str], float]

    @classmethod
    def of(
        cls, items: pd.DataFrame, elements: pd.DataFrame, element_ratings: pd.DataFrame, ratings: pd.DataFrame
    ) -> Truth:
        """Collect it from canonical tables; an element without a question is left out."""
        known = elements_by_prompt(elements[elements["question"].notna()])
        of_item = {
            str(item): known.get(str(prompt), ())
            for item, prompt in zip(items["item_id"], items["prompt_id"], strict=True)
        }
        means = element_ratings.groupby(["item_id", "element_id"])["label"].mean().dropna()
        labels: dict[tuple[str, str], float] = {}
        expected: dict[tuple[str, str], str] = {}
        for item, some in of_item.items():
            for element in some:
                key = item, normalised(element.question)
                expected[key] = element.expected
                if (item, element.element_id) in means.index:
                    labels[key] = float(means[item, element.element_id])
        people = mean_ratings(ratings)
        people["dimension"] = people["dimension"].replace(SAME_AS)
        people = people[people["dimension"].isin(ASPECTS)]
        value = 10 * (people["score"] - people["scale_min"]) / (people["scale_max"] - people["scale_min"])
        rated = dict(zip(zip(people["item_id"], people["dimension"], strict=True), value, strict=True))
        return cls(of_item, labels, expected, rated)

    def answer(self, stage: str, request: Request, wording: Wording) -> str | None:
        """The true answer to ``request``, where it belongs to ``stage`` and is known; else None. Not for ``extract``."""
        part = request.step.rpartition("/")[2]
        if request.step.startswith(f"{SUMMARY}/"):
            value = self.ratings.get((request.item_id, request.aspect)) if stage == "summarise" else None
        else:
            key = request.item_id, normalised(str(request.context.get("question", "")))
            label = self.labels.get(key)
            if part == ANSWER:
                if stage != ANSWER or label is None or label == 0.5:
                    return None
                return "yes" if (label > 0.5) == (self.expected[key] != "no") else "no"
            value = 10 * label if stage == "evaluate" and label is not None else None
        if value is None:
            return None
        return wording.level(value) if part == SCORE else verdict_in_words(value)

    def extraction(self, request: Request, given: str) -> str | None:
        """The known elements as an extraction, with the questions about appearance in ``given``; None without elements."""
        some = self.elements.get(request.item_id)
        if not some:
            return None
        texts = {element.element_id: element.text for element in some}
        out = []
        for element in some:
            aspect = RELATIONS if element.skill.lower().startswith(_RELATIONS) else ATTRIBUTES
            names = [texts[parent] for parent in element.parents if parent in texts] or [element.text]
            entities = ", ".join(filter(None, map(entity_name, names))) or "it"
            question = question_text(element.question) or question_text(f"{element.question} ?")
            out.append(f"{aspect} | {entities} | {question}")
        looks = [question for question in parse_questions(given) if question.aspect == APPEARANCE]
        out += [f"{APPEARANCE} | {', '.join(question.entities)} | {question.text}" for question in looks]
        return "\n".join(out)


class WithTrueStage:
    """A backend that answers the requests of one stage from what people said, and all others by a judge."""

    def __init__(self, backend: Backend, truth: Truth, stage: str, wording: Wording) -> None:
        """Wrap ``backend``; ``replaced`` counts the answers that took the place of its own, by item."""
        self._backend = backend
        self._truth = truth
        self._stage = stage
        self._wording = wording
        self.replaced: Counter[str] = Counter()

    def replaces(self, request: Request) -> bool:
        """Whether the answer to ``request`` is the true one, which is its item's: two images may have the same findings and other ratings."""
        return self._true(request) is not None

    def _true(self, request: Request) -> str | None:
        return None if request.task == EXTRACT else self._truth.answer(self._stage, request, self._wording)

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        """Yield the true answers, then the judge's."""
        asked = []
        for i, request in enumerate(requests):
            text = self._true(request)
            if text is None:
                asked.append(i)
            else:
                self.replaced[request.item_id] += 1
                yield i, Answer(text)
        for position, answer in self._backend.answer([requests[i] for i in asked]):
            request = requests[asked[position]]
            if self._stage == EXTRACT and request.task == EXTRACT:
                text = self._truth.extraction(request, answer.text)
                if text is not None:
                    self.replaced[request.item_id] += 1
                    answer = Answer(text)
            yield asked[position], answer


def choose_items(items: pd.DataFrame, elements: pd.DataFrame, n: int, seed: int = 0) -> pd.DataFrame:
    """At most ``n`` of the ``items`` that have an image and whose prompt has an element with a question, drawn at random."""
    known = set(elements.loc[elements["question"].notna(), "prompt_id"])
    able = items[items["image"].notna() & items["prompt_id"].isin(known)]
    if len(able) > n:
        able = able.iloc[np.sort(np.random.default_rng(seed).choice(len(able), n, replace=False))]
    return schema.ITEMS.check(able)


def attribute_errors(
    items: pd.DataFrame,
    backend: Backend,
    wording: Wording,
    phrases: Mapping[str, str],
    truth: Truth,
    *,
    name: str,
    options: ProtocolOptions,
    evidence: EvidenceSource | None = None,
    chunk_size: int | None = None,
) -> pd.DataFrame:
    """The final score of each item with each stage of the decomposed chain made true, one at a time.

    Args:
        items: canonical table of the items to judge.
        backend: the judge. What it is asked in several of these chains it is asked once, where its answers are kept.
        wording: the words that it is asked in.
        phrases: the dimensions that people rated, name -> phrase.
        truth: what people said about the items.
        name: the judge's name.
        options: those that the judge is asked with elsewhere, so that its own chain (stage ``none``) is the one that is measured.
        evidence: where evidence comes from, where the options ask for some.
        chunk_size: items that go through the chain together.

    Returns:
        The canonical table ``attribution``: for each item the overall score of the judge's own chain (stage ``none``) and of each
        of :data:`STAGES`, with the number of answers that were replaced.
    """
    protocol = build("decomposed", wording, options)
    asked = add_evidence(evaluation_items(items, phrases), protocol, evidence)
    parts = []
    for stage in (NOTHING, *STAGES):
        answering = WithTrueStage(backend, truth, stage, wording)
        judgement = judge(
            asked,
            protocol,
            answering,
            name=f"{name}, {stage} made true",
            chunk_size=chunk_size,
            alone=answering.replaces,
        )
        final = judgement.scores[judgement.scores["dimension"] == OVERALL]
        shared = Counter({item.item_id: answering.replaced[item.item_id] for item in asked})
        if stage == EXTRACT:  # images of one prompt share their extraction, which is asked once
            shared = Counter({item.item_id: int(bool(truth.elements.get(item.item_id))) for item in asked})
        parts.append(
            final[["item_id", "score", "status"]].assign(
                judge=name, stage=stage, replaced=[shared[name] for name in final["item_id"]]
            )
        )
    return schema.ATTRIBUTION.check(pd.concat(parts, ignore_index=True))


def final_dimension(ratings: pd.DataFrame) -> str | None:
    """The dimension that a chain's final score is compared with: people's overall rating, else of alignment, else their first."""
    rated = sorted(set(ratings["dimension"]))
    by_meaning = {SAME_AS.get(name, name): name for name in rated}
    return by_meaning.get(OVERALL) or by_meaning.get(ALIGNMENT) or next(iter(rated), None)
