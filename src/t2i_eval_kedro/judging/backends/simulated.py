"""The simulated teacher of the synthetic benchmark: it sees the truth behind an item instead of its pixels.

It gets the same requests as any other backend and its answers go through the same parser. It errs at a stated rate and its
scores are noisy, both fixed by a seed for each question of each item, so that the same question is always answered alike.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd

from t2i_eval_kedro.answers import N_A
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.protocols.base import Answer, Request
from t2i_eval_kedro.judging.protocols.wording import Wording
from t2i_eval_kedro.shapes import truth
from t2i_eval_kedro.shapes.prompts import ScenePrompt, elements
from t2i_eval_kedro.shapes.scene import Scene
from t2i_eval_kedro.steps import (
    APPEARANCE,
    ATTRIBUTES,
    EXPLAIN,
    EXTRACT,
    OVERALL,
    RELATIONS,
    SCORE,
    SUMMARY,
    YES_NO,
    YES_NO_NEGATIVE,
    aspect_of,
    is_score_task,
)

# What a teacher's summary says at a mean score of at least the first number.
_VERDICTS = ((9.0, "all right"), (6.0, "mostly right"), (3.0, "partly right"), (0.0, "wrong"))


def verdict_in_words(score: float) -> str:
    """A score, 0 to 10, in words: ``all right``, ``mostly right``, ``partly right`` or ``wrong``."""
    return next(words for least, words in _VERDICTS if score >= least)


class SimulatedBackend:
    """Answers requests about shapes items from the truth in ``items.attributes``."""

    def __init__(
        self, items: pd.DataFrame, wording: Wording, *, seed: int, error_rate: float, score_noise: float
    ) -> None:
        """Simulate a teacher.

        Args:
            items: canonical table of a synthetic benchmark.
            wording: the levels that scores are given in.
            seed: of errors and noise.
            error_rate: share of questions, 0 to 1, that are answered wrongly.
            score_noise: standard deviation of the noise on every score, on the scale of 0 to 10.
        """
        if not len(items) or items["attributes"].isna().any():
            raise T2IEvalError(
                f"Benchmark '{items['benchmark'].iloc[0] if len(items) else '?'}' holds no truth for a simulated teacher "
                "to see; use teacher.kind=human."
            )
        self._attributes: dict[str, dict[str, Any]] = {
            item: json.loads(text) for item, text in zip(items["item_id"], items["attributes"], strict=True)
        }
        self._wording = wording
        self._seed = seed
        self._error_rate = error_rate
        self._score_noise = score_noise

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        """Answer at once."""
        for i, request in enumerate(requests):
            text = self._text(
                request, self._attributes.get(request.item_id, {})
            )  # of a mixture there is no truth to see
            yield i, Answer(text, probabilities={text: 1.0} if request.candidate_tokens else {})

    def _text(self, request: Request, attributes: Mapping[str, Any]) -> str:
        about = aspect_of(request.task)
        if request.task == EXTRACT:
            return self._questions(attributes)
        if request.task == SCORE:
            score = truth.true_scores(attributes).get(str(request.context["dimension"]))
            return self._level(request, score)
        if request.task in (YES_NO, YES_NO_NEGATIVE):
            right, _ = self._seen(request, attributes)
            return str(request.context["yes" if right == (request.task == YES_NO) else "no"])
        if about == SUMMARY:
            return self._summary(request, attributes, explain=not is_score_task(request.task))
        if about == APPEARANCE:
            return self._appearance(request, attributes, explain=not is_score_task(request.task))
        return self._check(request, attributes)

    def _questions(self, attributes: Mapping[str, Any]) -> str:
        """A question about each thing that the prompt states, then one about the looks of each object."""
        prompt = ScenePrompt.from_json(attributes["prompt_scene"])
        nothing = "- | " if self._wording.structured else ""
        lines = []
        for element in elements(prompt):
            shape, _, rest = element.element_id.partition(".")
            relation, _, other = rest.rpartition(".")
            if element.skill == "spatial":
                aspect, entities, stated = RELATIONS, f"{shape}, {other}", relation.replace("_", " ")
            else:
                aspect, entities, stated = ATTRIBUTES, shape, f"{element.skill}: {element.text}"
            fields = [aspect, entities, *([stated] if self._wording.structured else []), element.question]
            lines.append(" | ".join(fields))
        lines += [
            f"{APPEARANCE} | {group.shape} | {nothing}is the {group.shape} clear ?" for group in prompt.scene.groups
        ]
        return "\n".join(lines)

    def _appearance(self, request: Request, attributes: Mapping[str, Any], *, explain: bool) -> str:
        shape = str(request.context["entities"][0])  # type: ignore[index]
        if Scene.from_json(attributes["image_scene"]).find(shape) is None:
            return f"no {shape}" if explain else N_A
        if explain:
            return f"it is {truth.describe_appearance(attributes)}"
        return self._level(request, truth.true_scores(attributes)[APPEARANCE])

    def _seen(self, request: Request, attributes: Mapping[str, Any]) -> tuple[bool, str]:
        """Whether the element that is asked about is there, as the teacher takes it, and what the teacher sees of it."""
        prompt = ScenePrompt.from_json(attributes["prompt_scene"])
        ids = {element.question: element.element_id for element in elements(prompt)}
        element_id = ids[str(request.context["question"])]
        errs = self._random(request.question_id, "error").random() < self._error_rate
        right = truth.element_truth(attributes)[element_id] != errs
        if errs:
            return right, f"it is {'right' if right else 'wrong'}"
        return right, truth.describe(attributes, element_id)

    def _check(self, request: Request, attributes: Mapping[str, Any]) -> str:
        if is_score_task(request.task):  # of what it is told, whoever found it
            right, seen = request.context["answer"] == "yes", str(request.context["explanation"])
            return self._level(request, 9.7 if right else 0.3 if seen.startswith("no ") else 2.0)
        right, seen = self._seen(request, attributes)
        return seen if request.step.endswith(f"/{EXPLAIN}") else "yes" if right else "no"

    def _summary(self, request: Request, attributes: Mapping[str, Any], *, explain: bool) -> str:
        scores = self._stated(request)
        if request.aspect == APPEARANCE and not scores:
            scores = {"image": truth.true_scores(attributes)[APPEARANCE] or 0.0}
        if not scores:
            return "none" if explain else N_A
        mean = sum(scores.values()) / len(scores)
        score = truth.overall_score(scores) if request.aspect == OVERALL else mean
        if not explain:
            return self._level(request, score)
        verdict = verdict_in_words(score)
        worst = min(scores, key=lambda name: scores[name])
        return (
            verdict
            if scores[worst] >= 9 or request.aspect == APPEARANCE
            else f"{verdict}, {self._fault(request, worst)}"
        )

    def _stated(self, request: Request) -> dict[str, float]:
        """The scores that the request itself states, by question or by aspect, without those not applicable."""
        if "summaries" in request.context:
            summaries: Mapping[str, Mapping[str, str]] = request.context["summaries"]  # type: ignore[assignment]
            stated = {aspect: summary["score"] for aspect, summary in summaries.items()}
        else:
            findings: Sequence[Mapping[str, str]] = request.context["findings"]  # type: ignore[assignment]
            stated = {finding["question"]: finding["score"] for finding in findings}
        return {name: self._wording.value(level) for name, level in stated.items() if level != N_A}

    def _fault(self, request: Request, name: str) -> str:
        if "summaries" in request.context:
            return f"{name} wrong"
        findings: Sequence[Mapping[str, str]] = request.context["findings"]  # type: ignore[assignment]
        return next(finding["explanation"] for finding in findings if finding["question"] == name)

    def _level(self, request: Request, score: float | None) -> str:
        if score is None:
            return N_A
        noise = self._random(request.question_id, "score").normal(0, self._score_noise)
        return self._wording.level(min(max(score + noise, 0.0), 10.0))

    def _random(self, pair: str, purpose: str) -> np.random.Generator:
        return np.random.default_rng([self._seed, crc32(f"{pair}:{purpose}".encode())])
