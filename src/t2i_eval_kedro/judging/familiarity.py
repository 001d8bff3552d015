"""Whether a prompt is like what a judge was trained on, by its words: a score far from the training data may mean nothing.

An adapter keeps the words of its training requests (``vocabulary.txt``). A prompt of which more than half the words are not among them
is far from the training data; a pre-trained model may well know them, so the verdict stands and says so. The embedded model has learned
nothing before, so one word that it does not know is enough, and it is said loudly. Words are an imperfect measure: a photograph that shows
known things in an unknown style is not noticed. Ours.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t2i_eval_kedro.models.adapters import VOCABULARY, words_of

log = logging.getLogger(__name__)

EMBEDDED_MODEL = "tiny_vlm"
FAR = 0.5
"""Fraction of unknown words from which a prompt is far from the training data."""
NAMED = 3


@dataclass(frozen=True)
class KnownWords:
    """The words that a judge has met.

    Attributes:
        words: in lower case.
        embedded: whether the judge is the embedded model, which knows no other.
    """

    words: frozenset[str]
    embedded: bool = False

    def note(self, prompt: str) -> str:
        """What is to be said of a verdict about ``prompt``; empty where its words are known."""
        asked = list(dict.fromkeys(words_of(prompt)))
        unknown = [word for word in asked if word not in self.words]
        named = ", ".join(unknown[:NAMED]) + (", ..." if len(unknown) > NAMED else "")
        if self.embedded and unknown:
            return f"out of domain: the embedded model knows shapes alone and has never met: {named}"
        if unknown and len(unknown) > FAR * len(asked):
            return f"far from the training data: {len(unknown)} of {len(asked)} words were not in it: {named}"
        return ""

    def notes(self, prompts: Sequence[str]) -> list[str]:
        """:meth:`note` of each; a warning counts them once."""
        out = [self.note(prompt) for prompt in prompts]
        flagged = [place for place, note in enumerate(out) if note]
        if flagged:
            first = flagged[0]
            log.warning(
                "The scores of %d of %d prompts %s, the first %.80r (%s).",
                *(len(flagged), len(out), "MEAN NOTHING" if self.embedded else "may mean little"),
                *(prompts[first], out[first]),
            )
        return out


def known_words(model: str, adapter: Path | None, tokens: Iterable[str]) -> KnownWords | None:
    """What the judge made of ``model`` and ``adapter`` has met; None where it is not known.

    Args:
        model: portable name of the base model.
        adapter: its folder, or None.
        tokens: the tokenizer's vocabulary, which for the embedded model is made of whole words.
    """
    path = None if adapter is None else adapter / VOCABULARY
    trained = path.read_text(encoding="utf-8").split() if path is not None and path.is_file() else []
    if model == EMBEDDED_MODEL:
        whole = (re.fullmatch("\u0120([a-z]+)", token) for token in tokens)
        return KnownWords(frozenset(trained) | {match[1] for match in whole if match}, embedded=True)
    return KnownWords(frozenset(trained)) if trained else None


def vocabulary_of(backend: Any) -> Iterable[str]:
    """The tokens of a local backend's tokenizer; none where it has none."""
    tokenizer = getattr(getattr(backend, "processor", None), "tokenizer", None)
    return () if tokenizer is None else tokenizer.get_vocab()
