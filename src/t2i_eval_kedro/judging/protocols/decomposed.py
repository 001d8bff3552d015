"""T2I-Eval's decomposed protocol: extract, answer, evaluate, summarise by aspect, merge.

Source: T2I-Eval (arXiv 2411.15488), section 3 and the released evaluation code, in the form "coarse granularity, several
stages, separate aspects". For every request with a score there are two: an explanation first, then in a new chat the score
alone. Where the subject has a reference image, it is shown when appearance is scored. The overall score is an answer, not a mean.

What is ours: the line format of the extraction, which carries the entities with each question, so that no names have to be
matched afterwards; and that an aspect which no question scores is not summed up. The released code asks for a summary all the
same and takes the number that comes. Here the aspect is null with its reason, and the merge is told N/A.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from t2i_eval_kedro.answers import NOT_APPLICABLE
from t2i_eval_kedro.judging.protocols.base import Answer, ChatMessage, EvaluationItem, Request, Score, Verdict
from t2i_eval_kedro.judging.protocols.elements import extract_request
from t2i_eval_kedro.judging.protocols.parsing import ASPECTS, Question, ScoreReading, parse_questions, parse_score
from t2i_eval_kedro.judging.protocols.response_schemas import score_schema
from t2i_eval_kedro.judging.protocols.wording import Wording
from t2i_eval_kedro.schema import FAILED, OK, UNPARSED

OVERALL = "overall"
VERSION = 2


class Decomposed:
    """The chain of requests over one item; every step is a function of the answers before it."""

    name = "decomposed"

    def __init__(self, wording: Wording, *, reading: ScoreReading = "tolerant") -> None:
        """Ask in the words of ``wording``; ``reading`` is how scores are read (:func:`parse_score`)."""
        self.wording = wording
        self.reading: ScoreReading = reading

    @property
    def label(self) -> str:
        """Name and wording with their versions."""
        return self.wording.label(self.name, VERSION)

    def requests(self, subject: EvaluationItem, answers: Mapping[str, Answer]) -> Sequence[Request]:
        """Everything that can be asked now: stages of one question follow one another, questions run side by side."""
        if any(answer.status != OK for answer in answers.values()):
            return []  # what follows would be asked about an answer that nobody gave
        if "extract" not in answers:
            return [extract_request(self.wording, subject)]
        questions = parse_questions(answers["extract"].text)
        if not questions:
            return []
        waiting = self._next_of_questions(subject, answers, questions)
        if waiting:
            return waiting
        supported = [aspect for aspect in ASPECTS if self._unsupported(answers, questions, aspect) is None]
        asked = [self._next_of_summary(subject, answers, aspect, questions) for aspect in supported]
        waiting = [request for request in asked if request is not None]
        if waiting or not supported:
            return waiting
        merge = self._next_of_merge(subject, answers, supported)
        return [] if merge is None else [merge]

    def verdict(self, subject: EvaluationItem, answers: Mapping[str, Answer]) -> Verdict:
        """The score and explanation of each aspect and of the whole."""
        steps = {aspect: f"summary/{aspect}" for aspect in ASPECTS} | {OVERALL: "merge"}
        scored = [answer for step, answer in answers.items() if step.endswith("/score")]
        repairs = [repair for answer in scored for repair in self._parse(answer).repairs]
        return Verdict({name: self._score(answers, step) for name, step in steps.items()}, repairs=tuple(repairs))

    def _score(self, answers: Mapping[str, Answer], step: str) -> Score:
        if f"{step}/score" not in answers:
            failures = [answer.text for answer in answers.values() if answer.status != OK]
            if failures:
                return Score(None, FAILED, failures[0])
            questions = parse_questions(answers["extract"].text) if "extract" in answers else ()
            if not questions:
                return Score(None, UNPARSED, "the extraction holds no question")
            reasons = {aspect: self._unsupported(answers, questions, aspect) for aspect in ASPECTS}
            own = reasons.get(step.removeprefix("summary/"))
            unread = [reason for reason in reasons.values() if reason is not None and reason.status == UNPARSED]
            return own or next(iter(unread), Score.not_applicable("no question has a score"))
        explanation = answers[f"{step}/explain"].text
        return self._parse(answers[f"{step}/score"], explanation)

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
        return self._parse(answers[f"{questions[number].aspect}/{number}/score"])

    def _level(self, answers: Mapping[str, Answer], step: str) -> str:
        """The score of ``step`` as the wording writes it; an unreadable one counts as not applicable downstream."""
        value = self._parse(answers[step]).value
        return NOT_APPLICABLE if value is None else self.wording.level(min(max(value, 0), 10))

    def _next_of_questions(
        self, subject: EvaluationItem, answers: Mapping[str, Answer], questions: Sequence[Question]
    ) -> Sequence[Request]:
        """What can be asked now to get every question answered and scored."""
        asked = [self._next_of_question(subject, answers, i, question) for i, question in enumerate(questions)]
        return [request for request in asked if request is not None]

    def _finding(self, answers: Mapping[str, Answer], questions: Sequence[Question], number: int) -> dict[str, str]:
        """Question, answer (or ""), explanation and score of one question, as the summaries are told them."""
        question = questions[number]
        base = f"{question.aspect}/{number}"
        return {
            "question": question.text,
            "answer": answers[f"{base}/answer"].text if f"{base}/answer" in answers else "",
            "explanation": answers[f"{base}/explain"].text,
            "score": self._level(answers, f"{base}/score"),
        }

    def _next_of_question(
        self, subject: EvaluationItem, answers: Mapping[str, Answer], number: int, question: Question
    ) -> Request | None:
        base = f"{question.aspect}/{number}"
        context: dict[str, object] = {
            "prompt": subject.prompt,
            "question": question.text,
            "entities": question.entities,
        }
        if question.aspect == "appearance":
            if f"{base}/explain" not in answers:
                return self._request(
                    subject, f"{base}/explain", "appearance_1", question.aspect, "appearance_1", context
                )
            if f"{base}/score" not in answers:
                context["explanation"] = answers[f"{base}/explain"].text
                template = "appearance_2_reference" if subject.reference else "appearance_2"
                return self._request(subject, f"{base}/score", "appearance_2", question.aspect, template, context)
            return None
        if f"{base}/answer" not in answers:
            return self._request(subject, f"{base}/answer", f"{question.aspect}_1", question.aspect, "answer", context)
        answer = answers[f"{base}/answer"].text
        if f"{base}/explain" not in answers:
            history = (
                ChatMessage("user", self.wording.render("answer", **context), (subject.image,)),
                ChatMessage("assistant", answer),
            )
            context["answer"] = answer
            return self._request(
                subject,
                f"{base}/explain",
                f"{question.aspect}_1",
                question.aspect,
                "check_1",
                context,
                history=history,
            )
        if f"{base}/score" not in answers:
            context |= {"answer": answer, "explanation": answers[f"{base}/explain"].text}
            return self._request(subject, f"{base}/score", f"{question.aspect}_2", question.aspect, "check_2", context)
        return None

    def _next_of_summary(
        self, subject: EvaluationItem, answers: Mapping[str, Answer], aspect: str, questions: Sequence[Question]
    ) -> Request | None:
        base = f"summary/{aspect}"
        findings = [
            self._finding(answers, questions, i) for i, question in enumerate(questions) if question.aspect == aspect
        ]
        context: dict[str, object] = {"prompt": subject.prompt, "aspect": aspect, "findings": findings}
        if f"{base}/explain" not in answers:
            return self._request(subject, f"{base}/explain", "summary_1", aspect, "summary_1", context)
        if f"{base}/score" not in answers:
            context["explanation"] = answers[f"{base}/explain"].text
            return self._request(subject, f"{base}/score", "summary_2", aspect, "summary_2", context)
        return None

    def _next_of_merge(
        self, subject: EvaluationItem, answers: Mapping[str, Answer], supported: Sequence[str]
    ) -> Request | None:
        summaries = {
            aspect: {
                "score": self._level(answers, f"summary/{aspect}/score"),
                "explanation": answers[f"summary/{aspect}/explain"].text,
            }
            if aspect in supported
            else {"score": NOT_APPLICABLE, "explanation": "(nothing to score)"}
            for aspect in ASPECTS
        }
        context: dict[str, object] = {"prompt": subject.prompt, "aspect": OVERALL, "summaries": summaries}
        if "merge/explain" not in answers:
            return self._request(subject, "merge/explain", "summary_1", OVERALL, "merge_1", context)
        if "merge/score" not in answers:
            context["explanation"] = answers["merge/explain"].text
            return self._request(subject, "merge/score", "summary_2", OVERALL, "merge_2", context)
        return None

    def _request(
        self,
        subject: EvaluationItem,
        step: str,
        task: str,
        aspect: str,
        template: str,
        context: Mapping[str, object],
        *,
        history: tuple[ChatMessage, ...] = (),
    ) -> Request:
        # Within a chat that goes on, the image already stands in its first turn.
        seen = () if history else (subject.image,)
        if template == "appearance_2_reference":
            seen = (*seen, subject.reference)
        return Request(
            item_id=subject.item_id,
            step=step,
            task=task,
            aspect=aspect,
            messages=(*history, ChatMessage("user", self.wording.render(template, **context), seen)),
            max_tokens=self.wording.max_tokens[template.removesuffix("_reference")],
            context=context,
            question_id=f"{subject.item_id}/{step.rsplit('/', 1)[0]}",
            response_schema=score_schema(self.wording.levels) if task.endswith("_2") else None,
        )
