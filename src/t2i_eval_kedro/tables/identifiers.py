"""Identifiers that should join: rules that repair them, and which rule would join two files that do not join."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import combinations

import pandas as pd

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.schema import is_among

_INVISIBLE = re.compile("[\u200b-\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff\u00ad]")


def _number(text: str) -> str:
    return re.sub(r"^(\d+)\.0+$", r"\1", text)


def _zeros(text: str) -> str:
    return re.sub(r"(?<!\d)0+(?=\d)", "", text)


def _stem(text: str) -> str:
    name = re.split(r"[\\/]", text)[-1]
    stem, dot, ending = name.rpartition(".")
    return stem if dot and re.fullmatch(r"[A-Za-z][A-Za-z0-9]{1,4}", ending) else name


def _unicode(text: str) -> str:
    return _INVISIBLE.sub("", unicodedata.normalize("NFKC", text)).strip()


RULES: Mapping[str, Callable[[str], str]] = {
    "unicode": _unicode,
    "stem": _stem,
    "case": str.casefold,
    "number": _number,
    "zeros": _zeros,
}


def repaired(ids: pd.Series, rules: Sequence[str], where: str) -> pd.Series:
    """``ids`` after ``rules``, in the order of :data:`RULES`.

    Raises:
        T2IEvalError: two different identifiers become the same one.
    """
    if not rules:
        return ids
    codes, unique = pd.factorize(ids)
    new = [apply_rules(str(text), rules) for text in unique]
    owner: dict[str, str] = {}
    for old, text in zip(unique, new, strict=True):
        if owner.setdefault(text, old) != old:
            raise T2IEvalError(
                f"--id-rule {', '.join(rules)} makes '{owner[text]}' and '{old}' of {where} the same identifier '{text}'; "
                "choose another rule or rename them."
            )
    return pd.Series(pd.array(new, dtype="str").take(codes), index=ids.index)


def respelled(cells: pd.Series, rules: Collection[str]) -> pd.Series:
    """Names that are no identifiers of files, such as dimensions, after those of ``rules`` that are about spelling."""
    spelling = [rule for rule in rules if rule in ("case", "unicode")]
    return cells.map({text: apply_rules(text, spelling) for text in cells.unique()}) if spelling else cells


def apply_rules(text: str, rules: Collection[str]) -> str:
    """``text`` after those of :data:`RULES` that ``rules`` names."""
    for name, rule in RULES.items():
        if name in rules:
            text = rule(text)
    return text


def suggest(left: Collection[str], right: Collection[str]) -> tuple[str, ...]:
    """The fewest rules under which most identifiers of ``right`` are among those of ``left``; empty where none helps."""
    some = sorted(right)[:2000]
    every = sorted(left)[:200_000]
    best: tuple[int, tuple[str, ...]] = (sum(text in set(left) for text in some), ())
    for size in (1, 2, 3):
        for rules in combinations(RULES, size):
            known = {apply_rules(text, rules) for text in every}
            joined = sum(apply_rules(text, rules) in known for text in some)
            if joined > best[0]:
                best = joined, rules
        if best[0] > 0.5 * len(some):
            break
    return best[1]


def refuse_unjoined(left: pd.Series, right: pd.Series, what: str, column: str, side: str, other: str) -> None:
    """Stop where no identifier of ``right`` is among those of ``left``, quoting both and the rule that would join them.

    Raises:
        T2IEvalError: nothing joins.
    """
    if not len(right) or not len(left) or is_among(right, left).any():
        return
    ours, theirs = set(left), set(right)
    rules = suggest(ours, theirs)
    way_out = (
        "join them with " + " ".join(f"--id-rule {name}" for name in rules)
        if rules
        else f"write the same {column} in both"
    )
    none = (
        f"None of the {len(theirs)} {what} joins"
        if len(theirs) > 1
        else f"There is one of the {what}, and it does not join"
    )
    raise T2IEvalError(
        f"{none}: '{column}' is {_examples(ours)} in {side} and {_examples(theirs)} in {other}; {way_out}."
    )


def _examples(ids: Collection[str]) -> str:
    return ", ".join(repr(text)[:60] for text in sorted(ids)[:2]) + (", ..." if len(ids) > 2 else "")
