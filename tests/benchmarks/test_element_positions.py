"""Elements in prompts: found by their words, whatever the punctuation; token positions by character offsets."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from t2i_eval_kedro.benchmarks.element_positions import find_spans, locate_elements, token_positions

WORDS = ("a", "red", "cat", "sat", "on", "the", "mat", "big", "dog", "u", "s", "map")


def tokenizer() -> Tokenizer:
    """Lower-cases, splits at punctuation, cuts words into pieces, and adds a first and a last token, as BERT does."""
    pieces = ["[UNK]", "[CLS]", "[SEP]", *WORDS, *".!\"()*#:;~,-'", "##s", "pup", "##pet"]
    made = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    return made


def tokens_of(prompt: str, element: str) -> list[str]:
    encoded = tokenizer().encode(prompt)
    spans = find_spans(prompt, element)
    return [encoded.tokens[position] for position in token_positions(spans[0], encoded.offsets)]


@pytest.mark.parametrize(
    ("prompt", "element", "found"),
    [
        ("A big, RED cat!", "red cat", ["RED cat"]),
        ('The "big" (red) cat: a dog.', "big red cat", ['big" (red) cat']),
        ("cat, cat and cats", "cat", ["cat", "cat"]),
        ("three cats", "cat", ["cats"]),
        ("two houses and boxes", "house", ["houses"]),
        ("two houses and boxes", "box", ["boxes"]),
        ("a glass dish", "glasses", ["glass"]),
        ("a bus stop", "bu", []),
        ("concatenate the catalogue", "cat", []),
        ("the man\u2019s hat", "man's hat", ["man\u2019s hat"]),
        ("STRASSE mit \u00c9tude", "stra\u00dfe", ["STRASSE"]),
        ("STRASSE mit \u00c9tude", "e\u0301tude", ["\u00c9tude"]),
        ("a sad man with green hair", "entity - part (man's hair)", ["hair"]),
        ("a dog left of a tree", "relation - spatial (dog_2, tree, left of)", ["left of"]),
        ("a dog by a tree", "relation - spatial (dog_2, tree, beside)", ["tree"]),
        ("soccer balls", "other - count (soccer balls, ==2)", ["soccer balls"]),
        ("a cat", "entity - whole (dog)", []),
        ("a cat", "", []),
        ("a cat", "!?", []),
        ("", "cat", []),
    ],
)
def test_elements_are_found_by_their_words(prompt: str, element: str, found: list[str]) -> None:
    assert [prompt[start:end] for start, end in find_spans(prompt, element)] == found


def test_punctuation_before_an_element_does_not_shift_its_tokens() -> None:
    plain, punctuated = "a big dog on the red cat mat", 'A "big" (dog)! * on; the: red ~cat~ mat.'
    assert tokens_of(plain, "red cat") == ["red", "cat"]
    assert [token for token in tokens_of(punctuated, "red cat") if token.isalpha()] == ["red", "cat"]
    assert tokens_of("the puppets", "puppet") == ["pup", "##pet", "##s"]


@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=8), st.data())
def test_every_run_of_words_is_found_where_it_stands(words: list[str], data: st.DataObject) -> None:
    marks = st.sampled_from([" ", ", ", ". ", ' "', " (", ") ", "! ", " * ", "#", ": ", "; ", "~", "-", "..."])
    prompt, starts = "", []
    for word in words:
        prompt += data.draw(marks)
        starts.append(len(prompt))
        prompt += word.upper() if data.draw(st.booleans()) else word
    first = data.draw(st.integers(0, len(words) - 1))
    last = data.draw(st.integers(first, len(words) - 1))
    element = " ".join(words[first : last + 1])
    spans = find_spans(prompt, element)
    assert (starts[first], starts[last] + len(words[last])) in spans
    encoded = tokenizer().encode(prompt)
    for span in spans:
        tokens = [encoded.tokens[position] for position in token_positions(span, encoded.offsets)]
        assert [token for token in tokens if token.isalpha()] == words[first : last + 1]


def test_elements_that_are_not_there_or_several_times_are_counted() -> None:
    items = pd.DataFrame({"prompt_id": ["p", "p", "q"], "prompt": ["a cat, a cat", "a cat, a cat", "a dog"]})
    elements = pd.DataFrame(
        {"prompt_id": ["p", "q", "q", "r"], "element_id": list("1234"), "text": ["cat", "big dog", "dog", "x"]}
    )
    located = locate_elements(items, elements)
    assert located["places"].tolist() == [2, 0, 1]
    assert located["start"].tolist() == [2, pd.NA, 2]
    assert located["end"].tolist() == [5, pd.NA, 5]
