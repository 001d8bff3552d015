"""Answers that somebody's judge gave before: T2I-Eval's GPT-4o records, VIEScore's GPT-4o answers, any transcripts table.

The requests are this project's, in the words that the student will be asked with; only the answers are the recorded ones. An
answer is found by its item and step, or, in a chain of questions, by its item, aspect and question, because the numbers of
questions need not be the same. What cannot be used is left out and counted in :attr:`RecordedBackend.dropped`.

Source of the alignment of names: T2I-Eval's released code (``difflib`` quick ratio of lower-cased names, pairs that are each
other's best match; a name with ``:`` or ``.`` is cut to its last part).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

import pandas as pd

from t2i_eval_kedro.answers import N_A, number
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.protocols.base import Answer, Request
from t2i_eval_kedro.judging.protocols.wording import Wording
from t2i_eval_kedro.schema import FAILED, OK
from t2i_eval_kedro.steps import ANSWER, APPEARANCE, ATTRIBUTES, EXPLAIN, EXTRACT, RELATIONS, SCORE, is_score_task

_SECTIONS = {
    "Appearance Quality Questions": APPEARANCE,
    "Intrinsic Attribute Consistency Questions": ATTRIBUTES,
    "Relationship Attribute Consistency Questions": RELATIONS,
}

_VIESCORE = {"holistic_sc": "SC", "holistic_pq": "PQ"}  # what VIEScore's release calls the two steps


class RecordedBackend:
    """Answers requests from the transcripts of one recorded judge."""

    def __init__(self, transcripts: pd.DataFrame, wording: Wording, *, judge: str | None = None) -> None:
        """Take the recorded answers.

        Args:
            transcripts: canonical table.
            wording: whose levels recorded scores (0 to 10) are written in.
            judge: whose answers; may be None where there is only one.

        Raises:
            T2IEvalError: there are no such answers, or several judges to choose from.
        """
        names = sorted(set(transcripts["judge"]))
        if judge is None and len(names) > 1:
            raise T2IEvalError(f"Several judges are recorded ({', '.join(names)}); choose one with teacher.recorded.")
        if not names or judge not in (None, *names):
            raise T2IEvalError(
                f"The benchmark records no answers{f' of {judge!r}' if judge else ''}; it records "
                f"{', '.join(names) or 'nobody'} (teacher.recorded)."
            )
        self.judge = judge or names[0]
        self.dropped: Counter[str] = Counter()
        self._wording = wording
        self._answers: dict[str, dict[str, str]] = {}
        self._questions: dict[str, dict[tuple[str, str], str]] = {}
        ours = (transcripts["judge"] == self.judge) & (transcripts["status"] == OK)
        used = transcripts[ours].dropna(subset=["answer"])
        for row in used.sort_values("run", kind="stable").itertuples():
            item, step = str(row.item_id), str(row.step)
            if step in self._answers.setdefault(item, {}):  # a first run is taken before a second
                continue
            self._answers[item][step] = str(row.answer)
            base, _, stage = step.rpartition("/")
            if base and stage in (ANSWER, EXPLAIN, SCORE):
                question = question_text(json.loads(str(row.messages))[-1]["text"])
                # Of a question that was asked twice, the first answer is taken.
                asked = self._questions.setdefault(item, {})
                asked.setdefault((f"{base.partition('/')[0]}/{stage}", question), str(row.answer))

    @property
    def in_steps(self) -> bool:
        """Whether the answers are those of a chain that begins with an extraction."""
        return any(EXTRACT in steps for steps in self._answers.values())

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        """Answer at once; what is not recorded is ``failed``."""
        for i, request in enumerate(requests):
            text = self._text(request)
            yield i, Answer("not recorded", FAILED) if text is None else Answer(text)

    def _text(self, request: Request) -> str | None:
        recorded = self._answers.get(request.item_id, {})
        if request.task == EXTRACT and EXTRACT in recorded:
            return self._extraction(request.item_id, recorded[EXTRACT])
        text = recorded.get(_VIESCORE.get(request.step, request.step))
        if "question" in request.context:
            stage = f"{request.aspect}/{request.step.rpartition('/')[2]}"
            text = self._questions.get(request.item_id, {}).get(
                (stage, question_text(str(request.context["question"])))
            )
        return self._level(text) if text is not None and is_score_task(request.task) else text

    def _level(self, text: str) -> str:
        """A recorded score on the levels of the wording; what is no score from 0 to 10 stays as it is, for the parser."""
        value = number(text)
        if value is not None and 0 <= value <= 10:
            return self._wording.level(value)
        return N_A if text.strip().lower() == N_A else text

    def _extraction(self, item: str, text: str) -> str | None:
        """The recorded extraction as lines ``aspect | entities | question``, of the questions that are recorded to the end.

        A wording that asks for the structure has what is stated before each question, where the record has as many parts as questions.
        """
        try:
            record = json.loads(text)
        except ValueError:
            return text
        structure, sections = _mapping(record.get("Structure Information")), _mapping(record.get("Questions"))
        entities = list(_mapping(structure.get("Intrinsic Attributes")))
        lines: dict[tuple[str, str], str] = {}
        for title, aspect in _SECTIONS.items():
            for names, raw, stated in self._asked(aspect, sections.get(title), entities, structure):
                question = question_text(raw)
                stages = (EXPLAIN, SCORE) if aspect == APPEARANCE else (ANSWER, EXPLAIN, SCORE)
                if not question:
                    self.dropped["a question without a question mark"] += 1
                elif any((f"{aspect}/{stage}", question) not in self._questions.get(item, {}) for stage in stages):
                    self.dropped["a question that was not answered to the end"] += 1
                elif (aspect, question) in lines:
                    self.dropped["a question that was asked before"] += 1
                else:
                    fields = [aspect, ", ".join(names), *([stated] if self._wording.structured else []), question]
                    lines[aspect, question] = " | ".join(fields)
        return "\n".join(lines.values()) or None

    def _asked(
        self, aspect: str, section: object, entities: Sequence[str], structure: Mapping[str, Any]
    ) -> Iterator[tuple[list[str], str, str]]:
        """The entities and the text of each question of one section, and what the prompt states ("-" where that is not known)."""
        if aspect == RELATIONS:
            related = [_stated(lines, "value") for lines in _mapping(structure.get("Relationship Attributes")).values()]
            rows = [r for r in (section if isinstance(section, list) else []) if isinstance(r, dict)]
            asked = [row for row in rows if isinstance(row.get("question"), str)]
            for row, stated in zip(asked, _as_many(related, asked), strict=True):
                given = _mapping(row.get("value")).get("entities") or entities
                names = given.split(",") if isinstance(given, str) else list(given)
                matched = align([str(name) for name in names], entities)
                named = list(dict.fromkeys(matched.get(str(n)) or entity_name(str(n)) for n in names))
                yield named, row["question"], stated
            return
        attributes = {entity_name(name): of for name, of in _mapping(structure.get("Intrinsic Attributes")).items()}
        rows_of = _mapping(section)
        matched = align(list(rows_of), entities)
        for name, rows in rows_of.items():
            asked = [row for row in rows if isinstance(row, dict) and isinstance(row.get("question"), str)]
            if name not in matched:
                self.dropped["a question about an entity that the structure does not name"] += len(asked)
                continue
            given = attributes.get(matched[name])
            listed = given if aspect == ATTRIBUTES and isinstance(given, list) else []
            parts = [_field(str(attribute).partition(":")[2]) for attribute in listed]
            for row, stated in zip(asked, _as_many(parts, asked), strict=True):
                yield [matched[name]], row["question"], stated


def _stated(lines: object, name: str) -> str:
    """The value of the line ``<name>: <value>`` of a recorded relation; "-" where there is none."""
    listed = lines if isinstance(lines, list) else []
    values = [str(line).partition(":")[2] for line in listed if str(line).strip().lower().startswith(f"{name}:")]
    return _field(values[0]) if values else "-"


def _field(raw: str) -> str:
    """Text as one field of a line; "-" where it is empty."""
    return re.sub(r"[\s|]+", " ", raw).strip() or "-"


def _as_many(parts: Sequence[str], asked: Sequence[object]) -> Sequence[str]:
    """``parts``, where there are as many as there are questions; else a hyphen each, for nothing says which is which."""
    return parts if len(parts) == len(asked) else ["-"] * len(asked)


def align(names: Sequence[str], entities: Sequence[str]) -> dict[str, str]:
    """Which of ``entities`` each of ``names`` means: pairs that are each other's most similar; others are left out.

    Example:
        >>> align(["1. the dog", "Ball", "a tree"], ["dog", "ball"])
        {'1. the dog': 'dog', 'Ball': 'ball'}
    """
    if not names or not entities:
        return {}
    short = [entity_name(name).lower() for name in names]
    goal = [entity_name(entity).lower() for entity in entities]
    similar = [[SequenceMatcher(None, a, b).quick_ratio() for b in goal] for a in short]
    best = [max(range(len(goal)), key=row.__getitem__) for row in similar]
    best_back = [max(range(len(short)), key=lambda i, j=j: similar[i][j]) for j in range(len(goal))]  # type: ignore[misc]
    return {
        name: entity_name(entities[best[i]])
        for i, name in enumerate(names)
        if best_back[best[i]] == i and similar[i][best[i]] > 0
    }


def entity_name(raw: str) -> str:
    """An entity as one field of a line: the last part of a numbered name, without the line's own separators."""
    last = re.split(r"[:.]", raw.strip().rstrip(":."))[-1]
    return re.sub(r"[\s|,]+", " ", last).strip()


def question_text(raw: str) -> str:
    """A question as one field of a line, up to its last question mark; "" where it has none."""
    return re.sub(r"[\s|]+", " ", raw[: raw.rfind("?") + 1]).strip()


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
