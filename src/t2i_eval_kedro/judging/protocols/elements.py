"""The elements of a prompt, and the yes/no questions about them that several protocols ask.

Elements are the item's own where it has some (a benchmark's table, the caller's file); else they come from the extract
stage, the same request that the decomposed protocol begins with, so that a prompt is read once for all of them. Which
question depends on which is then inferred: one that names entities depends on the first question about each of them. Ours;
DSG asks a language model for tuples, dependencies and questions in three steps.
"""

from __future__ import annotations

from collections.abc import Mapping

from t2i_eval_kedro.answers import yes_or_no
from t2i_eval_kedro.judging.protocols.base import Answer, ChatMessage, EvaluationItem, PromptElement, Request, Score
from t2i_eval_kedro.judging.protocols.parsing import expected_score, parse_questions
from t2i_eval_kedro.judging.protocols.response_schemas import ExtractionSchema, StructuredExtractionSchema
from t2i_eval_kedro.judging.protocols.wording import Wording
from t2i_eval_kedro.schema import FAILED, OK, UNPARSED
from t2i_eval_kedro.steps import APPEARANCE, EXTRACT, YES_NO

ALIGNMENT = "alignment"


def extract_request(wording: Wording, item: EvaluationItem) -> Request:
    """Asks for the questions that a prompt raises; without the image, so that all images of a prompt share it."""
    context = {"prompt": item.prompt}
    return Request(
        item_id=item.item_id,
        step=EXTRACT,
        task=EXTRACT,
        aspect="",
        messages=(ChatMessage("user", wording.render(EXTRACT, **context)),),
        max_tokens=wording.max_tokens[EXTRACT],
        context=context,
        question_id=f"{item.item_id}/{EXTRACT}",
        response_schema=StructuredExtractionSchema if wording.structured else ExtractionSchema,
    )


def elements_of(item: EvaluationItem, answers: Mapping[str, Answer]) -> tuple[PromptElement, ...] | None:
    """The item's elements, or those that were extracted; ``None`` while neither is there."""
    if item.elements:
        return item.elements
    if EXTRACT not in answers:
        return None
    return extracted_elements(answers[EXTRACT].text) if answers[EXTRACT].status == OK else ()


def extracted_elements(text: str) -> tuple[PromptElement, ...]:
    """The elements of an extraction: its questions about attributes and relations, numbered from 1."""
    first_about: dict[str, str] = {}
    elements = []
    for number, question in enumerate((q for q in parse_questions(text) if q.aspect != APPEARANCE), 1):
        element_id = str(number)
        parents = dict.fromkeys(first_about[name] for name in question.entities if name in first_about)
        elements.append(
            PromptElement(element_id, question.text, question.text, skill=question.aspect, parents=tuple(parents))
        )
        if len(question.entities) == 1:
            first_about.setdefault(question.entities[0], element_id)
    return tuple(elements)


def yes_no_request(wording: Wording, item: EvaluationItem, element: PromptElement, template: str = YES_NO) -> Request:
    """Asks whether the image satisfies ``element``, or with the template ``yes_no_negative`` whether it does not."""
    choices = wording.vocabulary(YES_NO).levels
    context = {
        "prompt": item.prompt,
        "question": element.question or f"is there {element.text} ?",
        "expected": element.expected,
        "no": choices[0],
        "yes": choices[-1],
    }
    return Request(
        item_id=item.item_id,
        step=f"{template}/{element.element_id}",
        task=template,
        aspect=element.skill,
        messages=(ChatMessage("user", wording.render(template, **context), (item.image,)),),
        max_tokens=wording.max_tokens[YES_NO],
        candidate_tokens=choices,
        context=context,
        question_id=f"{item.item_id}/{element.element_id}",
    )


def probability_of_yes(answer: Answer | None, wording: Wording) -> float | Score:
    """P(yes), where P(yes) + P(no) = 1; a written answer counts as 1 or 0. Where there is none, a score that says why."""
    if answer is None or answer.status != OK:
        return Score(None, FAILED, answer.text if answer else "not asked")
    if answer.probabilities:
        score = expected_score(answer, wording.vocabulary(YES_NO))
        return score if score.value is None else score.value / 10
    yes = yes_or_no(answer.text)
    return Score(None, UNPARSED, answer.text) if yes is None else float(yes)


def mean_score(elements: Mapping[str, Score], answers: Mapping[str, Answer]) -> Score:
    """Ten times the mean over the elements; without a value, and with the reason, where one element has none.

    The mean over the others would stand in for the one that is missing.
    """
    extraction = answers.get(EXTRACT)
    if extraction is not None and extraction.status != OK:
        return Score(None, FAILED, extraction.text)
    if not elements:
        return Score(None, UNPARSED, "the extraction holds no question" if extraction else "not asked")
    for status in (FAILED, UNPARSED):
        lacking = {name: score for name, score in elements.items() if score.status == status}
        if lacking:
            name, score = next(iter(lacking.items()))
            return Score(None, status, f"{len(lacking)} of {len(elements)} elements, first {name}: {score.explanation}")
    values = [score.value for score in elements.values() if score.value is not None]
    return Score(10 * sum(values) / len(values), OK)
