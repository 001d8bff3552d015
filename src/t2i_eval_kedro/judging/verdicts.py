"""What a judge said about images, in a form that people read: it prints as a table, shows itself in a notebook, and becomes a frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import overload

import pandas as pd

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.reporting.gallery import Picture, embed
from t2i_eval_kedro.reporting.verdicts import print_verdicts, verdicts_html
from t2i_eval_kedro.schema import FAILED, NOT_APPLICABLE, OK, UNPARSED, evaluator_id
from t2i_eval_kedro.steps import OVERALL

RESULT_COLUMNS = ("evaluator", "judge", "protocol", "run", "dimension", "score", "status", "explanation", "domain_note")
"""What a table of verdicts has beside the columns of its input."""


@dataclass(frozen=True)
class ElementAnswer:
    """What the judge answered about one element of the prompt.

    Attributes:
        element_id: name of the element within its prompt.
        text: the element as a phrase.
        score: 0 (not satisfied) to 1 (satisfied); None where there is no answer.
        status: ``ok``, ``unparsed``, ``failed`` or ``not_applicable``.
    """

    element_id: str
    text: str
    score: float | None
    status: str


@dataclass(frozen=True, repr=False)
class Verdict:
    """What one judge said about one image.

    Attributes:
        prompt: the text that the image was generated from.
        image: the path of the image, or a name made from its content where it has none.
        judge: name of the judge.
        protocol: name of the protocol by which the judge was asked.
        prompt_version: protocol and wording with the version of each.
        scores: dimension -> score, 0 to 10; None where there is none.
        statuses: dimension -> ``ok``, ``unparsed``, ``failed`` or ``not_applicable``.
        explanations: dimension -> the judge's explanation, or the reason why there is no score; None where there is neither.
        elements: answers about the elements of the prompt, where the protocol asks about them.
        domain_note: why the score may mean little, where the prompt is far from what the judge was trained on; else empty.
        read_image: the encoded image by its name, for notebooks.
    """

    prompt: str
    image: str
    judge: str
    protocol: str
    prompt_version: str
    scores: Mapping[str, float | None]
    statuses: Mapping[str, str]
    explanations: Mapping[str, str | None]
    elements: tuple[ElementAnswer, ...] = ()
    domain_note: str = ""
    read_image: Callable[[str], bytes] | None = field(default=None, compare=False)

    @property
    def evaluator(self) -> str:
        """The evaluator's name, made from judge and protocol."""
        return evaluator_id(self.judge, self.protocol)

    @property
    def score(self) -> float | None:
        """The overall score, or that of the only dimension; None where there is neither."""
        if OVERALL in self.scores or len(self.scores) != 1:
            return self.scores.get(OVERALL)
        return next(iter(self.scores.values()))

    @property
    def explanation(self) -> str | None:
        """The explanation of the overall score, else the first that there is."""
        texts = [self.explanations.get(OVERALL), *self.explanations.values()]
        return next((text for text in texts if text), None)

    @property
    def status(self) -> str:
        """``ok`` where every dimension that applies to the prompt has a score, else ``failed``, ``unparsed`` or ``not_applicable``."""
        statuses = set(self.statuses.values())
        if OK in statuses and statuses <= {OK, NOT_APPLICABLE}:
            return OK
        return next((status for status in (FAILED, UNPARSED) if status in statuses), NOT_APPLICABLE)

    @property
    def picture(self) -> Picture | None:
        """The image scaled down to be embedded in a page; None where it cannot be read."""
        try:
            return None if self.read_image is None else embed(self.read_image(self.image), self.image)
        except (OSError, ValueError, T2IEvalError):
            return None

    def as_dict(self) -> dict[str, object]:
        """The verdict in plain JSON types."""
        return {
            "prompt": self.prompt,
            "image": self.image,
            "evaluator": self.evaluator,
            "judge": self.judge,
            "protocol": self.protocol,
            "prompt_version": self.prompt_version,
            "status": self.status,
            "domain_note": self.domain_note,
            "scores": [
                {
                    "dimension": name,
                    "score": score,
                    "status": self.statuses[name],
                    "explanation": self.explanations[name],
                }
                for name, score in self.scores.items()
            ],
            "elements": [
                {"element_id": one.element_id, "text": one.text, "score": one.score, "status": one.status}
                for one in self.elements
            ],
        }

    def __repr__(self) -> str:
        """Print the verdict as a table."""
        return print_verdicts([self.as_dict()])

    def _repr_html_(self) -> str:
        """Show the verdict in a notebook, beside its image."""
        return verdicts_html([self.as_dict()], [self.picture])


class Verdicts(Sequence[Verdict]):
    """The verdicts on several images, in the order in which they were given."""

    def __init__(self, verdicts: Sequence[Verdict], *, source: pd.DataFrame | None = None, run: int = 0) -> None:
        """Take ``verdicts``; ``source`` has a row for each, whose columns :meth:`frame` keeps."""
        self._verdicts = tuple(verdicts)
        self._source = source
        self._run = run

    def __len__(self) -> int:
        """Count the images."""
        return len(self._verdicts)

    @overload
    def __getitem__(self, index: int) -> Verdict: ...
    @overload
    def __getitem__(self, index: slice) -> Verdicts: ...
    def __getitem__(self, index: int | slice) -> Verdict | Verdicts:
        """One verdict, or several."""
        if isinstance(index, slice):
            source = None if self._source is None else self._source.iloc[index]
            return Verdicts(self._verdicts[index], source=source, run=self._run)
        return self._verdicts[index]

    def __iter__(self) -> Iterator[Verdict]:
        """Go through the verdicts."""
        return iter(self._verdicts)

    def frame(self) -> pd.DataFrame:
        """One row per image and dimension: the columns of the input, then :data:`RESULT_COLUMNS`.

        ``item_id`` is the input's, else the image. An input's column with the name of a result is called ``input_<name>``. The
        frame is what :func:`t2i_eval_kedro.agreement` takes as scores.
        """
        rows = []
        source = None if self._source is None else self._source.to_dict("records")
        for place, verdict in enumerate(self._verdicts):
            given: dict[str, object] = {"prompt": verdict.prompt, "image": verdict.image}
            if source is not None:
                given |= {
                    f"input_{name}" if name in RESULT_COLUMNS else str(name): v for name, v in source[place].items()
                }
            given = {"item_id": given.get("item_id", verdict.image), **given}
            rows += [
                given
                | {
                    "evaluator": verdict.evaluator,
                    "judge": verdict.judge,
                    "protocol": verdict.protocol,
                    "run": self._run,
                    "dimension": name,
                    "score": score,
                    "status": verdict.statuses[name],
                    "explanation": verdict.explanations[name],
                    "domain_note": verdict.domain_note,
                }
                for name, score in verdict.scores.items()
            ]
        columns = list(rows[0]) if rows else ["item_id", "prompt", "image", *RESULT_COLUMNS]
        return pd.DataFrame(rows, columns=columns)

    def __repr__(self) -> str:
        """Print the verdicts as a table, the first and last of many."""
        return print_verdicts([verdict.as_dict() for verdict in self._verdicts])

    def _repr_html_(self) -> str:
        """Show the verdicts in a notebook, each beside its image."""
        return verdicts_html([one.as_dict() for one in self._verdicts], [one.picture for one in self._verdicts])
