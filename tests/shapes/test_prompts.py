"""Prompts: they say what they state, in every phrasing, and their length tells little about it."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.shapes.prompts import (
    LENGTHS,
    PHRASINGS,
    Conflict,
    ScenePrompt,
    elements,
    extra_prompts,
    fill,
    prompt_text,
    prompt_words,
    sample_prompt,
    sample_prompts,
    sample_statement,
)
from t2i_eval_kedro.shapes.scene import COLORS, NUMBERS, SHAPES, SIZES, Group, Scene, plural, relation, sample_scene

seeds = st.integers(0, 2**32)
_SCENE = Scene(
    (
        Group("circle", "red", "large", 1, 0),
        Group("cross", "blue", "small", 2, 1),
        Group("star", "green", "small", 3, 3),
    )
)
_NOUN = "|".join(sorted([*SHAPES, *map(plural, SHAPES)], key=len, reverse=True))
_GROUP = re.compile(
    rf"\b(a|two|three) (?:({'|'.join(SIZES)}) )?(?:({'|'.join(COLORS)}) )?({_NOUN})\b(?: that (?:is|are) not ({'|'.join(COLORS)}))?"
)


@given(seeds, st.sampled_from(PHRASINGS))
def test_every_phrasing_states_every_group_and_relation(seed: int, phrasing: str) -> None:
    """An independent reading of the text finds the groups with what is stated of them, and names both sides of each relation."""
    rng = np.random.default_rng(seed)
    prompt = replace(sample_statement(sample_scene(rng), rng), phrasing=phrasing, conflict=None, absent=None)
    text = prompt_text(prompt)
    found = {}
    for number, size, color, name, denied in _GROUP.findall(text):
        shape = next(s for s in SHAPES if name in (s, plural(s)))
        assert (name == shape) == (number == "a")
        found[shape] = (number, size, color, denied)
    assert found == {
        g.shape: (
            {1: "a", 2: "two", 3: "three"}[g.count],
            g.size if "size" in stated else "",
            g.color if "color" in stated else "",
            denied or "",
        )
        for g, stated, denied in zip(prompt.scene.groups, prompt.stated, prompt.not_color, strict=True)
    }
    said = [str(relation(a, b)) for a, b in pairwise(prompt.scene.groups)]
    assert re.findall("left of|right of|above|below", text) == said


def test_the_phrasings_of_one_scene() -> None:
    full = ScenePrompt.of(_SCENE)
    texts = {name: prompt_text(replace(full, phrasing=name)) for name in PHRASINGS}
    assert texts == {
        "chain": "a large red circle left of two small blue crosses, which are above three small green stars",
        "nested": "a large red circle that is left of two small blue crosses that are above three small green stars",
        "sentences": "there is a large red circle. the circle is left of two small blue crosses. "
        "the crosses are above three small green stars",
        "listing": "a large red circle, two small blue crosses and three small green stars. "
        "the circle is left of the crosses, the crosses are above the stars",
        "inverted": "left of two small blue crosses there is a large red circle. above three small green stars are the crosses",
    }


def test_denials_and_contradictions_are_stated_asked_and_marked() -> None:
    pair = Scene(_SCENE.groups[:2])
    prompt = ScenePrompt(pair, (("size",), ("color",)), ("green", None), "ring", Conflict(1, "count", 3))
    assert prompt_text(prompt) == (
        "a large circle that is not green left of two blue crosses, and no ring. there are three crosses"
    )
    assert [(e.element_id, e.skill, e.question, e.parents) for e in elements(prompt)] == [
        ("circle", "object", "is there a circle ?", ()),
        ("circle.size", "size", "is the circle large ?", ("circle",)),
        ("circle.not_color", "negation", "is the circle not green ?", ("circle",)),
        ("circle.count", "counting", "is there one circle ?", ("circle",)),
        ("cross", "object", "is there a cross ?", ()),
        ("cross.color", "color", "is the cross blue ?", ("cross",)),
        ("cross.count", "counting", "are there two crosses ?", ("cross",)),
        ("circle.left_of.cross", "spatial", "is the circle left of the cross ?", ("circle", "cross")),
        ("ring.absent", "negation", "is there no ring ?", ()),
        ("cross.count.conflict", "counting", "are there three crosses ?", ("cross",)),
    ]
    assert prompt.kinds() == {"phrasing": "chain", "nested": False, "negated": True, "contradictory": True}
    assert ScenePrompt.of(_SCENE).kinds() == {
        "phrasing": "chain",
        "nested": True,
        "negated": False,
        "contradictory": False,
    }


@given(seeds)
def test_a_prompt_survives_json_and_is_made_of_known_words(seed: int) -> None:
    prompt = sample_prompt(np.random.default_rng(seed))
    assert ScenePrompt.from_json(prompt.to_json()) == prompt
    text = prompt_text(prompt)
    assert set(text.replace(",", "").replace(".", "").split()) <= prompt_words()
    assert "  " not in text
    assert text == text.strip()


@given(seeds)
def test_elements_have_unique_ids_and_questions_and_known_parents(seed: int) -> None:
    found = elements(sample_prompt(np.random.default_rng(seed)))
    ids = [element.element_id for element in found]
    assert len(set(ids)) == len(ids)
    assert len({element.question for element in found}) == len(found)
    for element in found:
        assert set(element.parents) <= set(ids)
        assert element.question.endswith(" ?")
        assert element.question == element.question.lower()


@given(seeds, st.integers(0, 60))
def test_filling_changes_the_words_but_not_what_is_stated(seed: int, words: int) -> None:
    rng = np.random.default_rng(seed)
    bare = sample_statement(sample_scene(rng), rng)
    full = fill(bare, words, rng)
    assert full.core == bare.core
    assert elements(full) == elements(bare)
    assert prompt_text(replace(bare, before="", after="")) in prompt_text(full)
    assert not re.search(r"\bno\b|\bnot\b", full.before + full.after)


def test_length_tells_little_about_the_number_of_elements() -> None:
    prompts = sample_prompts(1000, 0)
    length = np.array([len(prompt_text(prompt).split()) for prompt in prompts])
    number = np.array([len(elements(prompt)) for prompt in prompts])
    assert abs(np.corrcoef(length, number)[0, 1]) < 0.2
    assert length.min() >= LENGTHS[0] - 1
    assert length.std() > 4
    assert number.std() > 4


def test_prompts_of_a_seed_state_different_things_and_do_not_depend_on_their_number() -> None:
    prompts = sample_prompts(1000, 0)
    assert len({prompt.core for prompt in prompts}) == 1000
    assert sample_prompts(10, 0) == prompts[:10]
    assert sample_prompts(10, 1) != prompts[:10]
    kinds = [prompt.kinds() for prompt in prompts]
    assert {kind["phrasing"] for kind in kinds} == set(PHRASINGS)
    assert 0.03 < np.mean([kind["contradictory"] for kind in kinds]) < 0.1
    assert 0.15 < np.mean([kind["negated"] for kind in kinds]) < 0.5
    assert 0.05 < np.mean([kind["nested"] for kind in kinds]) < 0.4


def test_extra_prompts_state_nothing_that_the_benchmark_states() -> None:
    benchmark = {prompt.core for prompt in sample_prompts(1000, 0)}
    extra = [prompt.core for prompt in extra_prompts(1000, 0, benchmark)]
    assert len(set(extra)) == 1000
    assert benchmark.isdisjoint(extra)
    assert not benchmark.isdisjoint(prompt.core for prompt in extra_prompts(1000, 0, ()))


@pytest.mark.parametrize("n", [0, -1, 10_001])
def test_an_impossible_number_is_refused(n: int) -> None:
    for draw in (lambda: sample_prompts(n, 0), lambda: extra_prompts(n, 0, ())):
        with pytest.raises(T2IEvalError, match=str(n)):
            draw()


def test_numbers_cover_every_count() -> None:
    assert {group.count for prompt in sample_prompts(200, 3) for group in prompt.scene.groups} == {1, 2, 3}
    assert len(NUMBERS) == 3
