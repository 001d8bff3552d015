"""From the text of a judge's answer to what it says: numbers, options, yes or no, lists of scores.

Strict and total. Any text gives a result, never an exception; what is absent, off the scale or ambiguous is ``None``. An
answer that a person could read but that breaks the form it was asked for is read all the same where only one reading is
possible, and every such mending is named, so that it can be counted.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

N_A = "n/a"
MAX_CHARACTERS = 100_000
"""A longer answer is a runaway one and is not searched for a score."""

_FENCE = re.compile(r"```[a-z]*\n?|\|\|V\^=\^\$\|\|", re.IGNORECASE)  # VIEScore asks some models for delimiters
_SCORE_FIELD = re.compile(
    r"""["']?\bscores?["']?\s*[:=]\s*(\[[^\[\]{}]*\]|"[^"]*"|-?\d+(?:\.\d+)?(?:\s*/\s*10\b)?)(?!\s*(?:-|to)\s*\d)""",
    re.IGNORECASE,
)
_REASON_FIELD = re.compile(r"""["']?\breasoning["']?\s*[:=]\s*["']?(.*?)["']?\s*\}?\s*$""", re.IGNORECASE | re.DOTALL)
_OUT_OF = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:/|out of)\s*(\d+)\s*")
_OPTION = re.compile(r"\(?(-?\d+)\)?(?:[.,:;)]?\s*|[.,:;)\-]?\s+[^\d]*)")
_THINKING = re.compile(r"\s*<(think|thinking|reasoning)>.*?</\1>\s*", re.IGNORECASE | re.DOTALL)
_EMPHASIS = re.compile(r"^[*_`#>\s]+|[*_`\s]+$")
_LABEL = re.compile(
    r"(?:the\s+)?(?:final\s+|overall\s+|my\s+)?(?:score|rating|grade|answer)\s*(?:is\b|[:=-])\s*", re.IGNORECASE
)
_STATED = re.compile(r"(-?\d{1,4}(?:\.\d{1,6})?)(?:\s*(?:/|out\s+of)\s*(\d{1,4}))?", re.IGNORECASE)
_YES_NO = re.compile(r"\W*(yes|no)\b(.*)", re.IGNORECASE | re.DOTALL)


def number(raw: object) -> float | None:
    """``raw`` as a finite number, or ``None`` where it is none: ``True``, ``"8/10"``, ``"1_0"``, ``nan``."""
    if isinstance(raw, bool) or not isinstance(raw, int | float | str) or (isinstance(raw, str) and "_" in raw):
        return None
    try:
        value = float(raw)
    except (ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None


def number_on_scale(raw: object, low: float, high: float) -> float | None:
    """``raw`` as a number from ``low`` to ``high``, or ``None``."""
    value = number(raw)
    return value if value is not None and low <= value <= high else None


def is_not_applicable(raw: object) -> bool:
    """Whether an answer says N/A and nothing else."""
    return isinstance(raw, str) and raw.strip().removesuffix(".").lower() == N_A


def yes_or_no(text: str) -> bool | None:
    """Whether ``text`` says yes; ``None`` where it does not begin with yes or no, or says both ("Yes and no").

    Example:
        >>> yes_or_no("Yes, the cat is black."), yes_or_no("no"), yes_or_no("It is."), yes_or_no("Yes or no?")
        (True, False, None, None)
    """
    match = _YES_NO.fullmatch(text[:MAX_CHARACTERS])
    if match is None:
        return None
    word = match[1].lower()
    other = "no" if word == "yes" else "yes"
    return None if re.search(rf"\b{other}\b", match[2], re.IGNORECASE) else word == "yes"


def chosen_option(text: str, options: Collection[int]) -> int | None:
    """The option that ``text`` names: its number alone or first, with words but no further number behind it.

    Example:
        >>> chosen_option("1, Some of them are wrong.", (0, 1, 2)), chosen_option("-1", (0, 1)), chosen_option("1 or 2", (1, 2))
        (1, None, None)
    """
    match = _OPTION.fullmatch(text.strip()[:MAX_CHARACTERS])
    if match is None or len(match[1]) > 3:
        return None
    option = int(match[1])
    return option if option in options else None


def without_thinking(text: str) -> str:
    """``text`` without the closed block of reasoning that it begins with, as thinking models write one.

    Example:
        >>> without_thinking("<think>It is a cat, so 9 or 10.</think> 8")
        '8'
    """
    block = _THINKING.match(text[:MAX_CHARACTERS])
    return text[block.end() :] if block else text


@dataclass(frozen=True)
class Statement:
    """What an answer that was to be one word or number states, and nothing else.

    Attributes:
        word: the answer without what stood around it.
        value: the number that it is; ``None`` where it is a word.
        maximum: the number that it is out of ("7/10"), or ``None``.
        repairs: what had to be mended to read it.
    """

    word: str
    value: float | None = None
    maximum: float | None = None
    repairs: tuple[str, ...] = ()


def read_statement(text: str) -> Statement:
    """The one word or number that ``text`` states, after all that judges write around it is taken away.

    That is, from the outside in: a block of reasoning before it, a code fence, an object ``{"score": ...}``, emphasis, a label ("Score:"),
    a full stop. Text beside it is not taken away: which number is meant would be a guess.

    Example:
        >>> read_statement("**Score: 7/10**")
        Statement(word='7/10', value=7.0, maximum=10.0, repairs=('emphasis around the score', 'a label before the score'))
        >>> read_statement("7 or 8").value is None
        True
    """
    repairs: list[str] = []

    def mend(before: str, after: str, repair: str) -> str:
        if after.strip() != before.strip():
            repairs.append(repair)
        return after.strip()

    text = text[:MAX_CHARACTERS].strip()
    text = mend(text, without_thinking(text), "reasoning before the score")
    text = mend(text, _FENCE.sub("", text), "a code fence or delimiters around the score")
    if text.startswith("{"):
        document = _decoded(text)
        stated = document.get("score") if isinstance(document, dict) else None
        if isinstance(stated, list) and len(stated) == 1:
            stated = stated[0]
        if isinstance(stated, str | int | float) and not isinstance(stated, bool):
            text = mend(text, str(stated), "an object around the score")
    for _ in range(2):  # "**Score:** 7" and "**Score: 7**"
        text = mend(text, _EMPHASIS.sub("", text), "emphasis around the score")
        text = mend(text, _LABEL.sub("", text, count=1) if _LABEL.match(text) else text, "a label before the score")
    text = text.removesuffix(".")
    number = _STATED.fullmatch(text)
    unique = tuple(dict.fromkeys(repairs))
    if number is None:
        return Statement(text, repairs=unique)
    return Statement(text, float(number[1]), float(number[2]) if number[2] else None, unique)


@dataclass(frozen=True)
class ScoreList:
    """What an answer ``{"score": [...], "reasoning": "..."}`` holds.

    Attributes:
        scores: as many as were asked for, or ``None`` where they cannot be read.
        reasoning: the text beside them, or ``None``.
        repairs: what had to be mended to read it.
    """

    scores: tuple[float, ...] | None
    reasoning: str | None = None
    repairs: tuple[str, ...] = ()


def read_score_list(document: object, n: int, low: float = 0, high: float = 10) -> ScoreList:
    """The ``n`` scores from ``low`` to ``high`` that a decoded answer holds.

    Mended are a bare number where one score was asked for, a score written as text or as "8/10", and scores by name
    instead of in a list. Another number of scores than ``n`` is not mended: which of them are meant would be a guess.
    """
    repairs: list[str] = []
    fields = (
        {str(key).strip().lower(): value for key, value in document.items()} if isinstance(document, Mapping) else {}
    )
    reasoning = fields.get("reasoning")
    if isinstance(document, Mapping):
        if "scores" in fields and "score" not in fields:
            repairs.append("the field is not called score")
        listed = fields.get("score", fields.get("scores"))
        if len(fields) != len(document) or ("score" in fields and "scores" in fields):
            listed = None  # two fields of one name
    else:
        repairs.append("no object around the scores")
        listed = document
    if isinstance(listed, Mapping):
        repairs.append("scores by name instead of a list")
        listed = list(listed.values())
    elif not isinstance(listed, list | tuple):
        repairs.append("a bare score instead of a list")
        listed = [listed]
    scores = [_mended(raw, low, high, repairs) for raw in listed]
    readable = [score for score in scores if score is not None]
    text = reasoning if isinstance(reasoning, str) else None
    if len(scores) != n or len(readable) != n:
        return ScoreList(None, text)
    return ScoreList(tuple(readable), text, tuple(dict.fromkeys(repairs)))


def _mended(raw: object, low: float, high: float, repairs: list[str]) -> float | None:
    if isinstance(raw, str):
        fraction = _OUT_OF.fullmatch(raw[:40])
        if fraction and float(fraction[2]) == high:
            repairs.append("a score written out of its maximum")
            return number_on_scale(fraction[1], low, high)
        repairs.append("a score written as text")
    return number_on_scale(raw, low, high)


def parse_score_list(text: str, n: int, low: float = 0, high: float = 10) -> ScoreList:
    """The ``n`` scores of an answer that was to be ``{"score": [...], "reasoning": "..."}`` and nothing else.

    Tried in turn: the text as JSON; without code fences; the outermost braces in it; as JSON or as the same
    thing with Python's quotes or a comma too many; last, the one place where a score stands behind its name.
    """
    text = text[:MAX_CHARACTERS].strip()
    decoded = _decoded(text)
    if decoded is not None:
        return read_score_list(decoded, n, low, high)
    spoken = without_thinking(text)
    bare = _FENCE.sub("", spoken).strip()
    repairs = ["reasoning before the score"] if spoken != text else []
    repairs += ["a code fence or delimiters around the object"] if bare != spoken.strip() else []
    for candidate, repair in ((bare, ""), (_outermost(bare), "text around the object")):
        for decode, broken in ((_decoded, ""), (_literal, "quotes, commas or line breaks that JSON does not allow")):
            decoded = decode(candidate)
            if isinstance(decoded, dict | list | int | float):
                read = read_score_list(decoded, n, low, high)
                if read.scores is None:
                    return read
                return ScoreList(
                    read.scores, read.reasoning, (*repairs, *filter(None, (repair, broken)), *read.repairs)
                )
    places = {re.sub(r"\s", "", place) for place in _SCORE_FIELD.findall(bare)}
    stated = read_statement(bare)
    if n == 1 and stated.value is not None and stated.maximum in (None, high) and low <= stated.value <= high:
        return ScoreList((stated.value,), None, (*repairs, "no object around the scores", *stated.repairs))
    if len(places) != 1:
        return ScoreList(None)
    listed = _literal(re.sub(r"^(\d+(?:\.\d+)?)/10$", r'"\1/10"', places.pop()))
    reason = _REASON_FIELD.search(bare)
    read = read_score_list({"score": listed, "reasoning": reason[1] if reason else None}, n, low, high)
    if read.scores is None:
        return read
    return ScoreList(read.scores, read.reasoning, (*repairs, "no readable object around the scores", *read.repairs))


def _outermost(text: str) -> str:
    """From the first opening brace to the last closing one."""
    start, end = text.find("{"), text.rfind("}")
    return text[start : end + 1] if 0 <= start < end else ""


def _decoded(text: str) -> object:
    """``text`` as JSON, or ``None``; an object with a field twice is none."""
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        return None


def _unique(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a field stands twice")
    return fields


def _literal(text: str) -> object:
    """``text`` as JSON with line breaks in its strings or a comma too many, or as a Python literal; else ``None``."""
    without_commas = re.sub(r",(\s*[}\]])", r"\1", text)
    try:
        return json.loads(without_commas, strict=False, object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        pass
    if re.search(r"""["']?\bscores?["']?\s*:.*["']?\bscores?["']?\s*:""", text, re.IGNORECASE | re.DOTALL):
        return None  # a Python literal would keep the last of two fields
    evaluate: Callable[[str], object] = ast.literal_eval  # literals only: nothing is run
    try:
        return evaluate(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None


def t2i_eval_scores(text: str) -> list[float | None]:
    """Every score in ``text`` as T2I-Eval's released code finds them, ``None`` for ``N/A`` and ``None``.

    A score is a word between blanks that Python reads as a number, on any scale: "nan" and "-2" are scores, "8/10" and "**8**"
    are not. For comparisons with published figures alone.

    Example:
        >>> t2i_eval_scores("7 out of 10"), t2i_eval_scores("8/10"), t2i_eval_scores("N/A 5")
        ([7.0, 10.0], [], [None, 5.0])
    """
    scores: list[float | None] = []
    for word in text.split():
        if word in ("N/A", "None"):
            scores.append(None)
            continue
        try:
            scores.append(float(word))
        except ValueError:
            continue
    return scores


def t2i_eval_score(text: str) -> float | None:
    """The first number of :func:`t2i_eval_scores`; ``None`` where there is none or an ``N/A`` comes before it."""
    before = text.split()
    before = before[: before.index("N/A")] if "N/A" in before else before
    return next((score for score in t2i_eval_scores(" ".join(before)) if score is not None), None)
