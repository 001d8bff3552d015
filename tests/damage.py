"""Answers as judges break them: a valid text with a few characters or lines taken out, doubled, replaced or added."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import strategies as st

PIECES = st.sampled_from(
    [" ", "\n", ".", ",", "|", "/", "-", "**", "```", '"', "{", "}", "n/a", "10", "yes", "no", "x", "\u00e9"]
)


@st.composite
def damaged(draw: st.DrawFn, valid: st.SearchStrategy[str], most: int = 2) -> str:
    """A text of ``valid`` with up to ``most`` edits; more than half stay as they are."""
    text = draw(valid)
    if draw(st.booleans()):
        return text
    for _ in range(draw(st.integers(0, most))):
        place = draw(st.integers(0, len(text)))
        end = min(len(text), place + draw(st.integers(0, 3)))
        piece = draw(st.one_of(PIECES, st.just(text[place:end] * 2), st.just("")))
        text = text[:place] + piece + text[end:]
    return text


@contextmanager
def mostly_reached() -> Iterator[Counter[bool]]:
    """Counts, under True and False, whether an example came to the branch under test; most must have."""
    reached: Counter[bool] = Counter()
    yield reached
    assert reached[True] >= reached[False], f"only {reached[True]} of {reached.total()} examples reach the branch"
