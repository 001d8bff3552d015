"""A wording: one set of prompt templates, and the words that scores are given in.

A protocol may have several wordings (a compact one that a tiny model can read, a full one for real models). Structure and
parser are the same; only the text differs. The templates are files in ``conf/<env>/prompts/<wording>/``; levels, answer
lengths and the version are in ``parameters_judging.yml``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import jinja2
from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from t2i_eval_kedro.errors import T2IEvalError

DIGITS = "digits"
_TAG = re.compile(r"<(\s*/?\s*)(?=(?:prompt|question|think|answer)\b)", re.IGNORECASE)
_TOLERANCE = 1e-3  # of a sum of probabilities, which servers round


@dataclass(frozen=True)
class AnswerVocabulary:
    """The words that a score may be given in, worst to best, spaced evenly over 0 to 10."""

    levels: tuple[str, ...]

    def value(self, level: str) -> float:
        """The score, 0 to 10, that ``level`` stands for."""
        return 10 * self.levels.index(level) / (len(self.levels) - 1)

    def level(self, score: float) -> str:
        """The level nearest to ``score`` (0 to 10; halves round up)."""
        return self.levels[min(math.floor(score / 10 * (len(self.levels) - 1) + 0.5), len(self.levels) - 1)]

    def expectation(self, probabilities: Mapping[str, float]) -> float | None:
        """sum_i p_i * value_i, or None where ``probabilities`` are no distribution over the levels."""
        shares = probabilities.values()
        if not set(probabilities) <= set(self.levels) or not all(0 <= share <= 1 + _TOLERANCE for share in shares):
            return None
        if abs(sum(shares) - 1) > _TOLERANCE:
            return None
        return min(10.0, sum(share * self.value(level) for level, share in probabilities.items()))


class WordingSettings(BaseModel):
    """What a wording fixes besides its templates.

    Attributes:
        version: rises whenever a template or a level changes, because scores are then no longer comparable.
        levels: the words that a judge answers with, worst to best. Each is one token of every model that is asked for a
            distribution over them (checked when the model is loaded). They are spaced evenly over 0 to 10.
        vocabularies: other sets of such words for the direct score request, by name: ``words``, ``letters``, ``yes_no``. The
            last is also what yes/no questions are answered with. Read as ``scales``, too, for one release.
        max_tokens: the longest useful answer for a task.
        extraction: ``questions`` alone, or the ``structure`` of the prompt too: what each question's line states.
    """

    model_config = ConfigDict(extra="forbid")

    version: int = Field(ge=1)
    levels: list[str] = Field(min_length=2)
    vocabularies: dict[str, Annotated[list[str], Field(min_length=2)]] = Field(
        default_factory=dict, validation_alias=AliasChoices("vocabularies", "scales")
    )
    max_tokens: dict[str, int]
    extraction: Literal["questions", "structure"] = "questions"


def _as_data(value: object) -> object:
    """``value`` as a template writes it: text cannot open or close the tags that mark it as data."""
    return _TAG.sub(r"&lt;\1", value) if isinstance(value, str) else value


class Wording:
    """The templates of one wording, rendered in this one place."""

    def __init__(self, name: str, templates: Mapping[str, str], settings: WordingSettings) -> None:
        """Take ``templates`` (template name -> jinja source) and ``settings``."""
        self._made_from = (name, dict(templates), settings)
        self.name = name
        self.version = settings.version
        self.levels = tuple(settings.levels)
        self._vocabularies = {
            name: AnswerVocabulary(tuple(words))
            for name, words in {DIGITS: settings.levels, **settings.vocabularies}.items()
        }
        self.max_tokens = settings.max_tokens
        self.structured = settings.extraction == "structure"
        # Prompts are plain text for a model, not HTML, so nothing is escaped; StrictUndefined makes a misspelt variable
        # an error instead of an empty string in ten thousand paid requests.
        environment = jinja2.Environment(
            loader=jinja2.DictLoader(dict(templates)),
            undefined=jinja2.StrictUndefined,
            autoescape=False,
            trim_blocks=True,
            finalize=_as_data,
        )
        self._templates = {key: environment.get_template(key) for key in templates}

    def __reduce__(self) -> tuple[type[Wording], tuple[str, dict[str, str], WordingSettings]]:
        """What it was made from: compiled templates cannot travel to another process."""
        return Wording, self._made_from

    @classmethod
    def load(cls, folder: Path, name: str, settings: WordingSettings) -> Wording:
        """The wording ``name`` from the template files ``<folder>/<name>/*.jinja``."""
        files = sorted((folder / name).glob("*.jinja"))
        if not files:
            raise T2IEvalError(
                f"Wording '{name}' has no templates in '{folder / name}'; choose a wording that is there."
            )
        return cls(name, {file.stem: file.read_text(encoding="utf-8") for file in files}, settings)

    def has(self, template: str) -> bool:
        """Whether there is a template of this name."""
        return template in self._templates

    def render(self, template: str, /, **variables: object) -> str:
        """The text of ``template``."""
        if template not in self._templates:
            raise T2IEvalError(f"Wording '{self.name}' has no template '{template}.jinja'; add it to its folder.")
        return self._templates[template].render({"levels": self.levels, **variables}).strip()

    def label(self, protocol: str, version: int) -> str:
        """What transcripts call ``protocol`` in this wording."""
        return f"{protocol}@{version}/{self.name}@{self.version}"

    def vocabulary(self, name: str) -> AnswerVocabulary:
        """The answer vocabulary ``name``; ``digits`` are the levels that all other requests use.

        Raises:
            T2IEvalError: this wording has no such vocabulary.
        """
        if name not in self._vocabularies:
            raise T2IEvalError(
                f"Wording '{self.name}' has no answer vocabulary '{name}'; it has {', '.join(self._vocabularies)} "
                "(judging.wordings)."
            )
        return self._vocabularies[name]

    def value(self, level: str) -> float:
        """The score, 0 to 10, that ``level`` stands for."""
        return self._vocabularies[DIGITS].value(level)

    def level(self, score: float) -> str:
        """The level nearest to ``score`` (0 to 10; halves round up)."""
        return self._vocabularies[DIGITS].level(score)


class WordedProtocol:
    """What protocols share whose requests are the templates of a wording.

    Attributes:
        name: the protocol's name in the registry.
        version: rises whenever scores are no longer comparable.
        wording: the templates.
    """

    name: str
    version: int

    def __init__(self, wording: Wording) -> None:
        """Ask in the words of ``wording``."""
        self.wording = wording

    @property
    def label(self) -> str:
        """Name and wording with their versions, the ``prompt_version`` of transcripts and examples."""
        return self.wording.label(self.name, self.version)
