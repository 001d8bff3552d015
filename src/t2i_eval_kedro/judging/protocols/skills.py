"""EvalAlign: one question a skill with numbered options; -1 says that there is nothing to judge.

Source: EvalAlign (arXiv 2406.16562): five faithfulness skills, asked about every image, and six alignment skills, asked where
the prompt says something about them. Questions are the item's elements where they are of these skills (the release's
own for its prompts); else the alignment questions come from a request that names what the prompt says about each skill. The
wording of the five faithfulness questions is ours.

The released code takes the first number in an answer and scores an unreadable one 0; here it is unparsed. An item's
``faithfulness`` and ``alignment`` are the means over its skills that apply, as shares of the best option; the two published
aggregates over many items are :func:`~t2i_eval_kedro.agreement.challenge.evalalign_faithfulness` and
:func:`~t2i_eval_kedro.agreement.challenge.evalalign_alignment`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from t2i_eval_kedro.answers import chosen_option
from t2i_eval_kedro.benchmarks.readers.evalalign_skills import ALIGNMENT, FAITHFULNESS, NOT_PRESENT, SKILLS, Skill
from t2i_eval_kedro.judging.protocols.base import (
    Answer,
    ChatMessage,
    EvaluationItem,
    PromptElement,
    Request,
    Score,
    Verdict,
)
from t2i_eval_kedro.judging.protocols.response_schemas import option_schema
from t2i_eval_kedro.judging.protocols.wording import WordedProtocol
from t2i_eval_kedro.schema import FAILED, NOT_APPLICABLE, OK, UNPARSED

DIMENSIONS = (*SKILLS, FAITHFULNESS, ALIGNMENT)
SLOTS = "skill_slots"
TASK = "skill"
_NONE = {"", "none", "n/a", "-"}


class Skills(WordedProtocol):
    """Asks about every skill that applies, all at once."""

    name = "skills"
    version = 1

    def requests(self, item: EvaluationItem, answers: Mapping[str, Answer]) -> Sequence[Request]:
        """What the prompt says about each alignment skill, where nobody told; then all questions at once."""
        questions = _questions(item, answers)
        if questions is None:
            return [self._slots(item)]
        asked = [self.request(item, SKILLS[element.skill], element.question) for element in questions]
        return [request for request in asked if request.step not in answers]

    def request(self, item: EvaluationItem, skill: Skill, question: str) -> Request:
        """The question about one skill."""
        context = {"prompt": item.prompt, "skill": skill.name, "question": question}
        step = f"{TASK}/{skill.name}"
        return Request(
            item_id=item.item_id,
            step=step,
            task=TASK,
            aspect=skill.name,
            messages=(ChatMessage("user", self.wording.render(TASK, **context), (item.image,)),),
            max_tokens=self.wording.max_tokens[TASK],
            context=context,
            question_id=f"{item.item_id}/{step}",
            response_schema=option_schema(skill.answers),
        )

    def verdict(self, item: EvaluationItem, answers: Mapping[str, Answer]) -> Verdict:
        """A score for each skill that was asked about, and for both aspects."""
        asked = _questions(item, answers) or ()
        elements = {
            element.skill: read_option(answers.get(f"{TASK}/{element.skill}"), element.skill) for element in asked
        }
        scores = {
            name: Score(None if score.value is None else 10 * score.value, score.status, score.explanation)
            for name, score in elements.items()
        }
        for aspect in (FAITHFULNESS, ALIGNMENT):
            scores[aspect] = self._aspect(aspect, scores, answers.get(SLOTS))
        return Verdict(scores, elements=elements)

    def _aspect(self, aspect: str, scores: Mapping[str, Score], slots: Answer | None) -> Score:
        of_aspect = {name: score for name, score in scores.items() if name in SKILLS and SKILLS[name].aspect == aspect}
        for status in (FAILED, UNPARSED):
            lacking = [name for name, score in of_aspect.items() if score.status == status]
            if lacking:
                return Score(None, status, f"no answer about {', '.join(lacking)}")
        if aspect == ALIGNMENT and slots is not None and not of_aspect:
            if slots.status != OK:
                return Score(None, FAILED, slots.text)
            if parse_slots(slots.text) is None:
                return Score(None, UNPARSED, slots.text)
        values = [score.value for score in of_aspect.values() if score.value is not None]
        return Score(sum(values) / len(values), OK) if values else Score.not_applicable(f"no skill of {aspect} applies")

    def _slots(self, item: EvaluationItem) -> Request:
        context = {"prompt": item.prompt}
        return Request(
            item_id=item.item_id,
            step=SLOTS,
            task=SLOTS,
            aspect="",
            messages=(ChatMessage("user", self.wording.render(SLOTS, **context)),),
            max_tokens=self.wording.max_tokens[SLOTS],
            context=context,
            question_id=f"{item.item_id}/{SLOTS}",
        )


def _questions(item: EvaluationItem, answers: Mapping[str, Answer]) -> tuple[PromptElement, ...] | None:
    """The questions to ask, one a skill, or ``None`` while it is not known what the prompt says."""
    given = tuple({element.skill: element for element in item.elements if element.skill in SKILLS}.values())
    if given:
        return given
    if SLOTS not in answers:
        return None
    slots = parse_slots(answers[SLOTS].text) if answers[SLOTS].status == OK else None
    asked = [skill for skill in SKILLS.values() if skill.aspect == FAITHFULNESS or skill.name in (slots or {})]
    return tuple(
        PromptElement(skill.name, skill.name, skill.question((slots or {}).get(skill.name, "")), skill=skill.name)
        for skill in asked
    )


def parse_slots(text: str) -> dict[str, str] | None:
    """What a prompt says about each alignment skill, from lines ``Skill: content`` or ``Skill: none``.

    ``None`` where a skill has no line or two different ones.
    """
    slots: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, content = re.sub(r"[*_`]", "", line).strip(" -\t").partition(":")
        skill = f"{ALIGNMENT}/{name.strip().capitalize()}"
        if colon and skill in SKILLS:
            content = re.sub(r"\s+", " ", content).strip(" ;.")
            if slots.setdefault(skill, content) != content:
                return None
    if len(slots) != sum(skill.aspect == ALIGNMENT for skill in SKILLS.values()):
        return None
    return {skill: content for skill, content in slots.items() if content.lower() not in _NONE}


def read_option(answer: Answer | None, skill: str) -> Score:
    """The option that ``answer`` names as a share of the best one, 0 to 1; -1 is missing."""
    if answer is None or answer.status != OK:
        return Score(None, FAILED, answer.text if answer else "not asked")
    option = chosen_option(answer.text, SKILLS[skill].answers)
    if option is None:
        return Score(None, UNPARSED, answer.text)
    if option == NOT_PRESENT:
        return Score(None, NOT_APPLICABLE, "there is none in the image")
    return Score(option / SKILLS[skill].options[-1], OK)
