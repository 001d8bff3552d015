"""T2I-Eval's decomposed protocol: extract, answer, evaluate, summarise by aspect, merge.

Source: T2I-Eval (arXiv 2411.15488), section 3 and the released evaluation code, in the form "coarse granularity, several
stages, separate aspects". For every request with a score there are two: an explanation first, then in a new chat the score
alone. Where the item has a reference image, it is shown when appearance is scored. The overall score is an answer, not a mean.

An extraction in the full wording has the structure of T2I-Eval's: entities, their intrinsic attributes as ``type: value`` (``existence:
yes`` and a quantity among them), relations, and nothing that the prompt leaves open; the score of a question is asked for with the
part of it that is about the question's entities. The captions of entities that T2I-Eval's extraction also asks for are left out: no
stage of its chain is known to read them, and without them the extraction needs no image.

What is ours: the line format of the extraction, which carries the entities with each question, so that no names have to be
matched afterwards; that an aspect which no question scores is not summed up; and that the stages which go by what earlier ones
found can be asked without the image. The released code shows the image in every stage but the extraction, asks for a summary all
the same and takes the number that comes. Here the aspect is null with its reason, and the merge is told N/A. Also ours: what a
network of structure says about the image can stand before the requests about appearance
(:mod:`t2i_eval_kedro.judging.protocols.evidence`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from t2i_eval_kedro.answers import N_A
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.protocols.base import Answer, ChatMessage, EvaluationItem, Request, Score, Verdict
from t2i_eval_kedro.judging.protocols.elements import extract_request
from t2i_eval_kedro.judging.protocols.evidence import EVIDENCE_TASKS, with_evidence
from t2i_eval_kedro.judging.protocols.parsing import Question, ScoreReading, parse_questions, parse_score
from t2i_eval_kedro.judging.protocols.response_schemas import score_schema
from t2i_eval_kedro.judging.protocols.wording import DIGITS, WordedProtocol, Wording
from t2i_eval_kedro.schema import FAILED, NOT_APPLICABLE, OK, UNPARSED
from t2i_eval_kedro.steps import (
    ANSWER,
    APPEARANCE,
    ASPECTS,
    ATTRIBUTES,
    EXPLAIN,
    EXTRACT,
    LEVELS,
    MERGE,
    OVERALL,
    RELATIONS,
    SCORE,
    SUMMARY,
    explanation_task,
    is_score_task,
    question_step,
    score_task,
    summary_step,
)

WITH_REFERENCE = "appearance_2_reference"
"""The template of ``appearance_2`` that shows the item's reference image, too."""
TEXT_TASKS = frozenset({score_task(ATTRIBUTES), score_task(RELATIONS), explanation_task(SUMMARY), score_task(SUMMARY)})
"""Tasks of the stages that go by what earlier ones found: a question's score (but that of appearance), the summaries, the merge."""


class Decomposed(WordedProtocol):
    """The chain of requests over one item; every step is a function of the answers before it."""

    name = "decomposed"
    version = 2

    def __init__(
        self,
        wording: Wording,
        *,
        reading: ScoreReading = "tolerant",
        text_stages: bool = False,
        evidence: bool = False,
    ) -> None:
        """Ask in the words of ``wording``.

        Args:
            wording: the templates, and the words of scores.
            reading: how scores are read (:func:`parse_score`).
            text_stages: ask :data:`TEXT_TASKS` without the image.
            evidence: put the item's evidence before :data:`EVIDENCE_TASKS`.
        """
        super().__init__(wording)
        self.reading: ScoreReading = reading
        self.text_stages = text_stages
        self.evidence = evidence

    @property
    def label(self) -> str:
        """Name, with ``_text`` where stages go without the image and ``_evidence`` where there is some, and wording, each with its version."""
        name = f"{self.name}{'_text' * self.text_stages}{'_evidence' * self.evidence}"
        return self.wording.label(name, self.version)

    def requests(self, item: EvaluationItem, answers: Mapping[str, Answer]) -> Sequence[Request]:
        """Everything that can be asked now: stages of one question follow one another, questions run side by side."""
        if any(answer.status != OK for answer in answers.values()):
            return []  # what follows would be asked about an answer that nobody gave
        if EXTRACT not in answers:
            if item.reference and not self.wording.has(WITH_REFERENCE):
                raise T2IEvalError(
                    f"Item '{item.item_id}' has a reference image, and the wording '{self.wording.name}' has no '{WITH_REFERENCE}.jinja' to show it "
                    "with; set judging.wording=full, or leave the reference out of the items."
                )
            return [extract_request(self.wording, item)]
        questions = parse_questions(answers[EXTRACT].text)
        if not questions:
            return []
        waiting = self._next_of_questions(item, answers, questions)
        if waiting:
            return waiting
        supported = [aspect for aspect in ASPECTS if self._unsupported(answers, questions, aspect) is None]
        asked = [self._next_of_summary(item, answers, aspect, questions) for aspect in supported]
        waiting = [request for request in asked if request is not None]
        if waiting or not supported:
            return waiting
        merge = self._next_of_merge(item, answers, supported)
        return [] if merge is None else [merge]

    def verdict(self, item: EvaluationItem, answers: Mapping[str, Answer]) -> Verdict:
        """The score and explanation of each aspect and of the whole."""
        steps = {name: summary_step(name) for name in (*ASPECTS, OVERALL)}
        scored = [answer for step, answer in answers.items() if step.endswith(f"/{SCORE}")]
        repairs = [repair for answer in scored for repair in self._parse(answer).repairs]
        return Verdict({name: self._score(answers, step) for name, step in steps.items()}, repairs=tuple(repairs))

    def _score(self, answers: Mapping[str, Answer], step: str) -> Score:
        if f"{step}/{SCORE}" not in answers:
            failures = [answer.text for answer in answers.values() if answer.status != OK]
            if failures:
                return Score(None, FAILED, failures[0])
            questions = parse_questions(answers[EXTRACT].text) if EXTRACT in answers else ()
            if not questions:
                return Score(None, UNPARSED, "the extraction holds no question")
            reasons = {aspect: self._unsupported(answers, questions, aspect) for aspect in ASPECTS}
            reason = reasons.get(step.removeprefix(f"{SUMMARY}/"))
            unread = [reason for reason in reasons.values() if reason is not None and reason.status == UNPARSED]
            return reason or next(iter(unread), Score.not_applicable("no question has a score"))
        explanation = answers[f"{step}/{EXPLAIN}"].text
        return self._parse(answers[f"{step}/{SCORE}"], explanation)

    def _parse(self, answer: Answer, explanation: str | None = None) -> Score:
        return parse_score(answer, self.wording, explanation, reading=self.reading)

    def _unsupported(self, answers: Mapping[str, Answer], questions: Sequence[Question], aspect: str) -> Score | None:
        """The null of an aspect that no question scores, with its reason; None where one does."""
        scores = [
            self._question_score(answers, questions, i)
            for i, question in enumerate(questions)
            if question.aspect == aspect
        ]
        if any(score.value is not None for score in scores):
            return None
        if not scores:
            return Score.not_applicable(f"the prompt raises no question about {aspect}")
        unread = [score for score in scores if score.status == UNPARSED]
        if unread:
            return Score(None, UNPARSED, f"no question about {aspect} has a score, the first: {unread[0].explanation}")
        return Score.not_applicable(f"no question about {aspect} applies")

    def _question_score(self, answers: Mapping[str, Answer], questions: Sequence[Question], number: int) -> Score:
        """The score of one question that has been answered."""
        return self._parse(answers[question_step(questions[number].aspect, number, SCORE)])

    def _level(self, answers: Mapping[str, Answer], step: str) -> str:
        """The score of ``step`` as the wording writes it; an unreadable one counts as not applicable downstream."""
        value = self._parse(answers[step]).value
        return N_A if value is None else self.wording.level(min(max(value, 0), 10))

    def _next_of_questions(
        self, item: EvaluationItem, answers: Mapping[str, Answer], questions: Sequence[Question]
    ) -> Sequence[Request]:
        """What can be asked now to get every question answered and scored."""
        asked = [self._next_of_question(item, answers, i, question) for i, question in enumerate(questions)]
        return [request for request in asked if request is not None]

    def _finding(self, answers: Mapping[str, Answer], questions: Sequence[Question], number: int) -> dict[str, str]:
        """Question, answer (or ""), explanation and score of one question, as the summaries are told them."""
        question = questions[number]
        base = question_step(question.aspect, number)
        return {
            "question": question.text,
            "answer": answers[f"{base}/{ANSWER}"].text if f"{base}/{ANSWER}" in answers else "",
            "explanation": answers[f"{base}/{EXPLAIN}"].text,
            "score": self._level(answers, f"{base}/{SCORE}"),
        }

    def _next_of_question(
        self, item: EvaluationItem, answers: Mapping[str, Answer], number: int, question: Question
    ) -> Request | None:
        base = question_step(question.aspect, number)
        context: dict[str, object] = {
            "prompt": item.prompt,
            "question": question.text,
            "entities": question.entities,
        }
        if question.aspect == APPEARANCE:
            if f"{base}/{EXPLAIN}" not in answers:
                return self._request(
                    item, f"{base}/{EXPLAIN}", explanation_task(APPEARANCE), question.aspect, "appearance_1", context
                )
            if f"{base}/{SCORE}" not in answers:
                context["explanation"] = answers[f"{base}/{EXPLAIN}"].text
                template = WITH_REFERENCE if item.reference else "appearance_2"
                return self._request(
                    item, f"{base}/{SCORE}", score_task(APPEARANCE), question.aspect, template, context
                )
            return None
        if f"{base}/{ANSWER}" not in answers:
            return self._request(
                item, f"{base}/{ANSWER}", explanation_task(question.aspect), question.aspect, "answer", context
            )
        answer = answers[f"{base}/{ANSWER}"].text
        if f"{base}/{EXPLAIN}" not in answers:
            history = (
                ChatMessage("user", self.wording.render("answer", **context), (item.image,)),
                ChatMessage("assistant", answer),
            )
            context["answer"] = answer
            return self._request(
                item,
                f"{base}/{EXPLAIN}",
                explanation_task(question.aspect),
                question.aspect,
                "check_1",
                context,
                history=history,
            )
        if f"{base}/{SCORE}" not in answers:
            context |= {
                "answer": answer,
                "explanation": answers[f"{base}/{EXPLAIN}"].text,
                "structure": structure(parse_questions(answers[EXTRACT].text), question.entities),
            }
            return self._request(
                item, f"{base}/{SCORE}", score_task(question.aspect), question.aspect, "check_2", context
            )
        return None

    def _next_of_summary(
        self, item: EvaluationItem, answers: Mapping[str, Answer], aspect: str, questions: Sequence[Question]
    ) -> Request | None:
        base = summary_step(aspect)
        findings = [
            self._finding(answers, questions, i) for i, question in enumerate(questions) if question.aspect == aspect
        ]
        context: dict[str, object] = {"prompt": item.prompt, "aspect": aspect, "findings": findings}
        if f"{base}/{EXPLAIN}" not in answers:
            return self._request(
                item, f"{base}/{EXPLAIN}", explanation_task(SUMMARY), aspect, explanation_task(SUMMARY), context
            )
        if f"{base}/{SCORE}" not in answers:
            context["explanation"] = answers[f"{base}/{EXPLAIN}"].text
            return self._request(item, f"{base}/{SCORE}", score_task(SUMMARY), aspect, score_task(SUMMARY), context)
        return None

    def _next_of_merge(
        self, item: EvaluationItem, answers: Mapping[str, Answer], supported: Sequence[str]
    ) -> Request | None:
        summaries = {
            aspect: {
                "score": self._level(answers, summary_step(aspect, SCORE)),
                "explanation": answers[summary_step(aspect, EXPLAIN)].text,
            }
            if aspect in supported
            else {"score": N_A, "explanation": "(nothing to score)"}
            for aspect in ASPECTS
        }
        context: dict[str, object] = {"prompt": item.prompt, "aspect": OVERALL, "summaries": summaries}
        if f"{MERGE}/{EXPLAIN}" not in answers:
            return self._request(item, f"{MERGE}/{EXPLAIN}", explanation_task(SUMMARY), OVERALL, "merge_1", context)
        if f"{MERGE}/{SCORE}" not in answers:
            context["explanation"] = answers[f"{MERGE}/{EXPLAIN}"].text
            return self._request(item, f"{MERGE}/{SCORE}", score_task(SUMMARY), OVERALL, "merge_2", context)
        return None

    def _request(
        self,
        item: EvaluationItem,
        step: str,
        task: str,
        aspect: str,
        template: str,
        context: Mapping[str, object],
        *,
        history: tuple[ChatMessage, ...] = (),
    ) -> Request:
        # Within a chat that goes on, the image already stands in its first turn.
        seen = () if history or (self.text_stages and task in TEXT_TASKS) else (item.image,)
        if template == WITH_REFERENCE:
            seen = (*seen, item.reference)
        text = self.wording.render(template, **context)
        if self.evidence and task in EVIDENCE_TASKS:
            if item.evidence is None:
                raise T2IEvalError(f"There is no evidence on '{item.image}', and {self.label} is asked with evidence.")
            text = with_evidence(text, self.wording, item.evidence)
        return Request(
            item_id=item.item_id,
            step=step,
            task=task,
            aspect=aspect,
            messages=(*history, ChatMessage("user", text, seen)),
            max_tokens=self.wording.max_tokens[template.removesuffix("_reference")],
            context=context,
            question_id=f"{item.item_id}/{step.rsplit('/', 1)[0]}",
            response_schema=score_schema(self.wording.levels) if is_score_task(task) else None,
        )


def structure(questions: Sequence[Question], entities: Collection[str]) -> list[str]:
    """What the prompt states of ``entities``, a line an entity and a line a relation; empty where the extraction has questions alone."""
    stated: dict[str, list[str]] = {}
    for question in questions:
        if question.stated and set(question.entities) & set(entities):
            stated.setdefault(", ".join(question.entities), []).append(question.stated)
    return [f"{names}: {', '.join(facts)}" for names, facts in stated.items()]


class DecomposedLevels(Decomposed):
    """The chain of :class:`Decomposed`, whose last scores are asked for once more as distributions over the levels. Ours.

    What was generated stays what the chain goes on with, so both protocols see one chain; a backend that keeps its answers is asked
    for no more than these last ones.
    """

    name = "decomposed_levels"

    def requests(self, item: EvaluationItem, answers: Mapping[str, Answer]) -> Sequence[Request]:
        """Those of the chain; when it has ended, every last score request with the levels to choose among."""
        waiting = super().requests(item, answers)
        if waiting or any(answer.status != OK for answer in answers.values()):
            return waiting
        asked: list[Request] = []
        for aspect in (*ASPECTS, OVERALL):
            asks, levels = summary_step(aspect, SCORE), summary_step(aspect, LEVELS)
            if asks not in answers or levels in answers:
                continue
            before = {step: answer for step, answer in answers.items() if step != asks}
            questions = parse_questions(answers[EXTRACT].text)
            if aspect == OVERALL:
                supported = [name for name in ASPECTS if summary_step(name, SCORE) in answers]
                request = self._next_of_merge(item, before, supported)
            else:
                request = self._next_of_summary(item, before, aspect, questions)
            if request is not None:
                choices = self.wording.levels
                asked.append(replace(request, step=levels, candidate_tokens=choices, response_schema=None))
        return asked

    def _score(self, answers: Mapping[str, Answer], step: str) -> Score:
        """The expected score where the chain came to a score or was unreadable; else why there is none."""
        generated, answer = super()._score(answers, step), answers.get(f"{step}/{LEVELS}")
        if answer is None or generated.status == NOT_APPLICABLE:
            return generated
        if answer.status != OK:
            return Score(None, FAILED, answer.text)
        if not answer.probabilities:
            return self._parse(answer, generated.explanation)
        value = self.wording.vocabulary(DIGITS).expectation(answer.probabilities)
        if value is None:
            return Score(None, UNPARSED, answer.text)
        return Score(value, OK, answers[f"{step}/{EXPLAIN}"].text)
