"""A wording: one set of prompt templates, and the words that stand for scores in it.

A protocol may have several wordings (a compact one that a tiny model can read, a full one for real models). Structure and
parser are the same; only the text differs. The templates are files in ``conf/<env>/prompts/<wording>/``; levels, answer
lengths and the version are in ``parameters_judging.yml``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import jinja2
from pydantic import BaseModel, ConfigDict, Field

from t2i_eval_kedro.errors import T2IEvalError

NOT_APPLICABLE = "n/a"


class WordingSettings(BaseModel):
    """What a wording fixes besides its templates.

    Attributes:
        version: rises whenever a template or a level changes, because scores are then no longer comparable.
        levels: the words that a judge answers with, worst to best. Each is one token of every model that is asked for a
            distribution over them (checked when the model is loaded). They are spaced evenly over 0 to 10.
        max_tokens: the longest useful answer for a task.
    """

    model_config = ConfigDict(extra="forbid")

    version: int = Field(ge=1)
    levels: list[str] = Field(min_length=2)
    max_tokens: dict[str, int]


class Wording:
    """The templates of one wording, rendered in this one place."""

    def __init__(self, name: str, templates: Mapping[str, str], settings: WordingSettings) -> None:
        """Take ``templates`` (template name -> jinja source) and ``settings``."""
        self.name = name
        self.version = settings.version
        self.levels = tuple(settings.levels)
        self.max_tokens = settings.max_tokens
        # Prompts are plain text for a model, not HTML, so nothing is escaped; StrictUndefined makes a misspelt variable
        # an error instead of an empty string in ten thousand paid requests.
        environment = jinja2.Environment(
            loader=jinja2.DictLoader(dict(templates)),
            undefined=jinja2.StrictUndefined,
            autoescape=False,
            trim_blocks=True,
        )
        self._templates = {key: environment.get_template(key) for key in templates}

    @classmethod
    def load(cls, folder: Path, name: str, settings: WordingSettings) -> Wording:
        """The wording ``name`` from the template files ``<folder>/<name>/*.jinja``."""
        files = sorted((folder / name).glob("*.jinja"))
        if not files:
            raise T2IEvalError(
                f"Wording '{name}' has no templates in '{folder / name}'; choose a wording that is there."
            )
        return cls(name, {file.stem: file.read_text(encoding="utf-8") for file in files}, settings)

    def render(self, template: str, /, **variables: object) -> str:
        """The text of ``template``."""
        if template not in self._templates:
            raise T2IEvalError(f"Wording '{self.name}' has no template '{template}.jinja'; add it to its folder.")
        return self._templates[template].render(levels=self.levels, **variables).strip()

    def value(self, level: str) -> float:
        """The score, 0 to 10, that ``level`` stands for."""
        return 10 * self.levels.index(level) / (len(self.levels) - 1)

    def level(self, score: float) -> str:
        """The level nearest to ``score`` (0 to 10; halves round up)."""
        return self.levels[min(math.floor(score / 10 * (len(self.levels) - 1) + 0.5), len(self.levels) - 1)]
