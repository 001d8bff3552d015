"""T2I-Eval's two data sets: the human benchmark of 301 images, and GPT-4o's records for distillation.

Tu et al., "Automatic Evaluation for Text-to-image Generation: Task-decomposed Framework, Distilled Training, and Meta-
evaluation Benchmark" (arXiv 2411.15488). Scores go from 0 to 10. The release's aspects have the names of the decomposed
protocol here: intrinsic attributes are ``attributes``, relationship attributes ``relations``. Questions are made for
one image: each record is a prompt of its own, and records that share a text meet again in the splits.

Element labels (people) and element scores (GPT-4o) are divided by 10, so that they go from 0 to 1 as everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from t2i_eval_kedro import schema
from t2i_eval_kedro.answers import is_not_applicable, number, number_on_scale
from t2i_eval_kedro.benchmarks.base import Benchmark, Builder, Dimension
from t2i_eval_kedro.benchmarks.files import read_json, records
from t2i_eval_kedro.steps import (
    ANSWER,
    APPEARANCE,
    ATTRIBUTES,
    EXPLAIN,
    EXTRACT,
    OVERALL,
    RELATIONS,
    SCORE,
    SUMMARY,
    explanation_task,
    question_step,
    score_task,
    summary_step,
)

ASPECTS = {"appearance": APPEARANCE, "intrinsic": ATTRIBUTES, "relationship": RELATIONS, "overall": OVERALL}
DIMENSIONS = {
    "overall": Dimension(
        "overall", 0, 10, "how good the image is overall: its quality and its agreement with the prompt"
    ),
    "appearance": Dimension(
        "appearance", 0, 10, "how realistic, aesthetic and free of flaws the things in the image look"
    ),
    "attributes": Dimension(
        "attributes", 0, 10, "whether the things in the image have the attributes that the prompt gives them"
    ),
    "relations": Dimension(
        "relations", 0, 10, "whether the things in the image stand to each other as the prompt says"
    ),
}
JUDGE = "GPT-4o"
PROTOCOL = "t2i-eval as recorded by its authors"
SCALE = (0.0, 10.0)
RATERS = 3
MEAN_TOLERANCE = 0.01
_QUESTIONS = {
    "Appearance Quality": APPEARANCE,
    "Intrinsic Attribute Consistency": ATTRIBUTES,
    "Relationship Attribute Consistency": RELATIONS,
}


def read_bench(raw: Path) -> Benchmark:
    """Read ``t2i-eval-bench.json``, ``scores.json`` and the images that the first names."""
    out = Builder("t2i_eval_bench", "T2I-Eval-Bench", "MIT", tuple(DIMENSIONS.values()))
    file = raw / "t2i-eval-bench.json"
    required = {"gt_image": str, "image_caption": str}
    for where, _, row in records(read_json(file, out.issues), file, required, out.issues):
        item_id = str(row.get("id", ""))
        generator = str(row.get("model_name") or "unknown")
        if out.item(item_id, item_id, row["image_caption"], generator, where):
            _images(out, item_id, raw, row)
            for theirs, ours in ASPECTS.items():
                for name, question in _listed(row.get(f"{theirs}_questions")):
                    _element(out, where, item_id, f"{ours}/{name}", ours, question.get("question"))
    file = raw / "scores.json"
    for where, _, row in records(read_json(file, out.issues), file, {"overall": dict}, out.issues):
        item_id = str(row.get("id", ""))
        if not out.has("items", item_id):
            out.issues.add("not_joined", where, f"no item {item_id!r:.40}", "scores excluded")
            continue
        for theirs, ours in ASPECTS.items():
            given = row["overall"].get(theirs)
            if isinstance(given, dict):
                _ratings(out, where, item_id, DIMENSIONS[ours], given.get("manual_score"))
                _recorded(out, where, item_id, ours, given.get("score"))
            for name, question in _listed(row.get(f"{theirs}_questions")):
                _element_scores(out, where, item_id, f"{ours}/{name}", ours, question)
    return out.build()


def read_distill(raw: Path) -> Benchmark:
    """Read every ``*.json`` in ``raw`` as records of GPT-4o, and the images that they name."""
    out = Builder("t2i_eval_distill", "T2I-Eval distillation set (GPT-4o)", "MIT", tuple(DIMENSIONS.values()))
    required = {"gt_image": str, "image_caption": str, "data": dict}
    for file in sorted(raw.glob("*.json")):
        for where, _, row in records(read_json(file, out.issues), file, required, out.issues):
            item_id = str(row.get("id", ""))
            if out.item(item_id, item_id, row["image_caption"], str(row.get("model_name") or "unknown"), where):
                _images(out, item_id, raw, row)
                _Record(out, where, item_id, row).read()
    return out.build()


def _images(out: Builder, item_id: str, raw: Path, row: Mapping[str, Any]) -> None:
    """The image under evaluation, which the release calls gt_image, and the reference image where there is one."""
    out.image(item_id, raw, row["gt_image"])
    if row.get("ref_image"):
        out.reference(item_id, raw, str(row["ref_image"]))


def _listed(questions: object) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Name and content of each question of a list; a question is an object or its text alone."""
    for position, question in enumerate(questions if isinstance(questions, list) else []):
        content = question if isinstance(question, dict) else {"question": str(question)}
        yield str(content.get("id", position)), content


def _element(out: Builder, where: str, prompt_id: str, element_id: str, skill: str, question: object) -> None:
    text = str(question or element_id)
    out.add(
        "elements", where, prompt_id=prompt_id, element_id=element_id, text=text, skill=skill, question=question or None
    )


def _ratings(out: Builder, where: str, item_id: str, dimension: Dimension, listed: object) -> None:
    """The scores of the three raters; the fourth number of the list is their mean."""
    if not isinstance(listed, list) or len(listed) != RATERS + 1:
        detail = f"manual_score of {dimension.name} is {listed!r:.60}"
        out.issues.add("malformed_entry", where, detail, "ratings excluded")
        return
    for rater, score in enumerate(listed[:RATERS], 1):
        out.rating(item_id, str(rater), dimension, score, where)
    values = [value for value in map(number, listed[:RATERS]) if value is not None]
    mean = number(listed[RATERS])
    if len(values) == RATERS and (mean is None or abs(fmean(values) - mean) > MEAN_TOLERANCE):
        detail = f"mean of {dimension.name} is given as {listed[RATERS]!r:.40}, it is {fmean(values):.4f}"
        out.issues.add("wrong_mean", where, detail, "the raters' scores are used")


def _recorded(out: Builder, where: str, item_id: str, dimension: str, raw: object, explanation: object = None) -> None:
    """One score of GPT-4o; "N/A" says that the aspect does not apply."""
    value, status = number_on_scale(raw, *SCALE), schema.OK
    if value is None:
        status = schema.NOT_APPLICABLE if is_not_applicable(raw) else schema.UNPARSED
    if status == schema.UNPARSED:
        out.issues.add("unreadable_score", where, f"{dimension} of {item_id}: {raw!r:.60}", "kept as null")
    out.score_row(where, item_id, JUDGE, dimension, value, status, explanation=explanation)


def _element_scores(
    out: Builder, where: str, item_id: str, element_id: str, skill: str, row: Mapping[str, Any]
) -> None:
    if not out.has("elements", item_id, element_id):
        _element(out, where, item_id, element_id, skill, row.get("question"))
    value = number(row.get("score"))
    out.add(
        "element_scores",
        where,
        item_id=item_id,
        element_id=element_id,
        judge=JUDGE,
        run=0,
        score=None if value is None else value / 10,
        status=schema.OK if value is not None else schema.NOT_APPLICABLE,
    )
    listed = row.get("manual_score")
    for rater, raw in enumerate(listed[:RATERS] if isinstance(listed, list) else [], 1):
        label = number_on_scale(raw, *SCALE)
        if label is None:
            out.issues.add("off_scale_rating", where, f"{element_id} by rater {rater}: {raw!r:.40}", "kept as null")
        keys = {"item_id": item_id, "element_id": element_id, "rater_id": str(rater)}
        out.add("element_ratings", where, **keys, label=None if label is None else label / 10)


class _Record:
    """One record of GPT-4o: structure, questions, answers and evaluations of one image, as transcript and scores."""

    def __init__(self, out: Builder, where: str, item_id: str, row: Mapping[str, Any]) -> None:
        self.out, self.where, self.item_id = out, where, item_id
        self.prompt, self.image, self.data = row["image_caption"], row["gt_image"], row["data"]

    def read(self) -> None:
        """Add what the record holds; a part that is missing is noted."""
        questions = self._part("Questions")
        extraction = {name: self.data.get(name) for name in ("Structure Information", "Questions")}
        self._step(EXTRACT, EXTRACT, "", self.prompt, json.dumps(extraction, ensure_ascii=False), images=False)
        answers, evaluations = self._part("Answers"), self._part("Evaluation")
        number_of = 0
        for title, aspect in _QUESTIONS.items():
            asked = list(_flat(questions.get(f"{title} Questions")))
            answered = list(_flat(answers.get(f"{title} Questions")))
            judged = list(_flat(evaluations.get(f"{title} Answers")))
            if not len(asked) == len(answered) == len(judged):
                detail = f"{aspect}: {len(asked)} questions, {len(answered)} answers, {len(judged)} evaluations"
                self.out.issues.add("not_joined", self.where, detail, "joined by question as far as it goes")
            by_question = [dict(answered), dict(judged)]
            for question, _ in asked:
                self._question(aspect, number_of, question, by_question[0].get(question), by_question[1].get(question))
                number_of += 1
        self._summaries(evaluations.get("Overall Evaluation"))

    def _part(self, name: str) -> Mapping[str, Any]:
        part = self.data.get(name)
        if isinstance(part, dict):
            return part
        self.out.issues.add("malformed_entry", self.where, f"'{name}' is missing or no object", "part excluded")
        return {}

    def _question(self, aspect: str, position: int, question: str, answer: object, evaluation: object) -> None:
        base = question_step(aspect, position)
        _element(self.out, self.where, self.item_id, base, aspect, question)
        given = answer if isinstance(answer, dict) else {}
        judged = evaluation if isinstance(evaluation, dict) else {}
        if isinstance(given.get("answer"), str):
            self._step(f"{base}/{ANSWER}", explanation_task(aspect), aspect, question, given["answer"])
        self._step(
            f"{base}/{EXPLAIN}",
            explanation_task(aspect),
            aspect,
            question,
            judged.get("explanation") or given.get("explanation"),
        )
        raw = judged.get("score", given.get("score"))
        self._step(f"{base}/{SCORE}", score_task(aspect), aspect, question, raw)
        value = number_on_scale(raw, *SCALE)
        if value is None and not is_not_applicable(raw):
            self.out.issues.add("unreadable_score", self.where, f"{base}: {raw!r:.60}", "kept as null")
        self.out.add(
            "element_scores",
            self.where,
            item_id=self.item_id,
            element_id=base,
            judge=JUDGE,
            run=0,
            score=None if value is None else value / 10,
            status=schema.NOT_APPLICABLE if value is None else schema.OK,
        )

    def _summaries(self, overall: object) -> None:
        titles = {f"{title} Summary": aspect for title, aspect in _QUESTIONS.items()} | {"Overall Score": OVERALL}
        for title, aspect in titles.items():
            section = overall.get(title) if isinstance(overall, dict) else None
            summary = section if isinstance(section, dict) else {}
            base = summary_step(aspect)
            self._step(f"{base}/{EXPLAIN}", explanation_task(SUMMARY), aspect, title, summary.get("explanation"))
            self._step(f"{base}/{SCORE}", score_task(SUMMARY), aspect, title, summary.get("score"))
            _recorded(self.out, self.where, self.item_id, aspect, summary.get("score"), summary.get("explanation"))

    def _step(self, step: str, task: str, aspect: str, asked: str, answer: object, images: bool = True) -> None:
        """One recorded answer. Of the request only its question is recorded."""
        message = {"role": "user", "text": asked, "images": [self.image] if images else []}
        self.out.add(
            "transcripts",
            self.where,
            item_id=self.item_id,
            judge=JUDGE,
            run=0,
            step=step,
            task=task,
            aspect=aspect,
            question_id=f"{self.item_id}/{step.rpartition('/')[0] or step}",
            messages=json.dumps([message], ensure_ascii=False),
            answer=None if answer is None else str(answer),
            status=schema.NOT_APPLICABLE if answer is None else schema.OK,
            prompt_version=PROTOCOL,
        )


def _flat(section: object) -> Iterator[tuple[str, object]]:
    """Question and value of a section: a list (relations), or lists by entity (the others)."""
    lists = section.values() if isinstance(section, dict) else [section]
    for questions in lists:
        for row in questions if isinstance(questions, list) else []:
            if isinstance(row, dict) and isinstance(row.get("question"), str):
                yield row["question"], row.get("value")
