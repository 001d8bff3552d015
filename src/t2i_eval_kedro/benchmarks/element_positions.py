"""Where the elements of a prompt stand in its text, and in its tokens.

FGA-BLIP2 (EvalMuse-40K) looks for the token ids of an element in those of its prompt. Its released code does so in the raw
prompt while the model reads a lower-cased one without punctuation, so that positions shift behind every ``. ! " ( ) * # : ; ~``;
and the ids of a word depend on what stands before it. Here an element is found by its words, as a span of characters of the
prompt, and a span becomes token positions by the character offsets of the tokenizer over the text that the model is fed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import pandas as pd

from t2i_eval_kedro import schema

_WORD = re.compile(r"[\w\u0300-\u036f]+(?:['\u2019][\w\u0300-\u036f]+)*")  # letters may come with combining accents
_TUPLE = re.compile(r"[\w/ -]+ - [^()]*\((.+)\)")  # DSG's elements: "kind - more (argument, argument)"

Span = tuple[int, int]


def find_spans(prompt: str, element: str) -> list[Span]:
    """Every place of ``element`` in ``prompt`` as (start, end) in characters, in order.

    Words are compared after Unicode normalisation and case folding; whatever stands between words (blanks, hyphens,
    quotation marks, brackets) does not count. Where no run of words fits, it is tried again without a plural "s" or "es".

    Of a DSG tuple such as "relation - spatial (dog, tree, left of)" the last argument is looked for, which is what the
    tuple says of the others; where it is not there, the one before it, and so on. Ours.
    """
    words = [(match.group(), match.start(), match.end()) for match in _WORD.finditer(prompt)]
    for phrase in _phrases(element):
        phrase_words = _WORD.findall(phrase)
        for form in (_plain, _singular):
            spans = _runs(
                [(form(word), start, end) for word, start, end in words], [form(word) for word in phrase_words]
            )
            if spans:
                return spans
    return []


def _phrases(element: str) -> list[str]:
    """What to look for, the best first: ``element`` itself, or the arguments of a DSG tuple from the last on."""
    match = _TUPLE.fullmatch(element)
    if match is None:
        return [element]
    phrases = []
    for argument in reversed(match[1].split(",")):
        name = re.sub(r"_\d+$", "", argument.strip())  # "flower_2" is the second flower that the tuples tell apart
        phrases += [name, name.rpartition("'s ")[2]]  # prompts rarely say "the man's hair"
    return list(dict.fromkeys(phrases))


def token_positions(span: Span, offsets: Sequence[Span]) -> list[int]:
    """The positions of the tokens that share a character with ``span``.

    Args:
        span: (start, end) in characters of the text that was tokenized.
        offsets: (start, end) of each token in that text, as fast tokenizers give them with ``return_offsets_mapping=True``;
            special tokens have an empty one.
    """
    start, end = span
    return [position for position, (first, last) in enumerate(offsets) if first < end and start < last and first < last]


def locate_elements(items: pd.DataFrame, elements: pd.DataFrame) -> pd.DataFrame:
    """Find every element in its prompt.

    Args:
        items: the items table.
        elements: the elements table; elements of prompts that have no item are left out.

    Returns:
        The element positions table: ``start`` and ``end`` of the first place in characters (null where there is none), and
        ``places``: how often it is there. More than one place means that the first is a guess; none is the "not found"
        that has to be counted.
    """
    prompts = dict(zip(items["prompt_id"], items["prompt"], strict=True))
    rows = []
    columns = (elements["prompt_id"], elements["element_id"], elements["text"])
    for prompt_id, element_id, text in zip(*columns, strict=True):
        if prompt_id in prompts:
            spans = find_spans(prompts[prompt_id], text)
            start, end = spans[0] if spans else (None, None)
            rows.append((prompt_id, element_id, start, end, len(spans)))
    return schema.ELEMENT_POSITIONS.check(pd.DataFrame(rows, columns=list(schema.ELEMENT_POSITIONS.columns)))


def _plain(word: str) -> str:
    return unicodedata.normalize("NFKC", word).casefold().replace("\u2019", "'")


def _singular(word: str) -> str:
    plain = _plain(word)
    for ending in ("es", "s"):
        if plain.endswith(ending) and len(plain) > len(ending) + 2 and not plain.endswith("ss"):
            return plain[: -len(ending)]
    return plain.removesuffix("e") if len(plain) > 3 else plain  # "house" and "houses" meet


def _runs(words: Sequence[tuple[str, int, int]], phrase: Sequence[str]) -> list[Span]:
    """The runs of ``words`` (text, start, end) that read ``phrase``."""
    if not phrase:
        return []
    texts = [word for word, _, _ in words]
    return [
        (words[i][1], words[i + len(phrase) - 1][2])
        for i in range(len(words) - len(phrase) + 1)
        if texts[i : i + len(phrase)] == list(phrase)
    ]
