"""Probabilities of answers of several tokens, against the definition; how they follow a request is tested on true architectures."""

from __future__ import annotations

import doctest
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from plain_settings import settings_of

from t2i_eval_kedro.models import answers, images
from t2i_eval_kedro.models.answers import inner_nodes, sequence_log_probabilities
from t2i_eval_kedro.models.images import limited_size
from t2i_eval_kedro.models.settings import ModelSettings

TOKENS = 4


@pytest.mark.parametrize("module", [answers, images])
def test_the_examples_run(module) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


@given(
    st.lists(
        st.lists(st.integers(0, TOKENS - 1), min_size=1, max_size=3).map(tuple), min_size=2, max_size=6, unique=True
    ),
    st.integers(0, 2**31),
)
def test_candidates_are_disjoint_events_of_one_distribution(sequences: list[tuple[int, ...]], seed: int) -> None:
    """Against all continuations of three tokens: a candidate happens where the longest candidate that begins them is it."""
    generator = torch.Generator().manual_seed(seed)
    table = {(): torch.rand(1, TOKENS, generator=generator) + 0.05}
    for first in range(TOKENS):
        table[(first,)] = torch.rand(1, TOKENS, generator=generator) + 0.05
        for second in range(TOKENS):
            table[(first, second)] = torch.rand(1, TOKENS, generator=generator) + 0.05
    log_p = {node: (values / values.sum()).double().log() for node, values in table.items()}
    candidates = [[ids] for ids in sequences]
    assert set(inner_nodes(candidates)) == {ids[:n] for ids in sequences for n in range(len(ids))}
    found = sequence_log_probabilities(candidates, log_p).exp()[0]
    beginnings = {ids[:n] for ids in sequences for n in range(1, len(ids) + 1)}
    expected = dict.fromkeys(sequences, 0.0)
    for chain in [(a, b, c) for a in range(TOKENS) for b in range(TOKENS) for c in range(TOKENS)]:
        p = math.exp(sum(float(log_p[chain[:n]][0, chain[n]]) for n in range(3)))
        longest = max((n for n in range(1, 4) if chain[:n] in beginnings), default=0)
        if chain[:longest] in expected:  # nothing that another candidate goes on with comes after it
            expected[chain[:longest]] += p
    assert found.tolist() == pytest.approx([expected[ids] for ids in sequences], abs=1e-5)


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 10**6), st.integers(0, 10**6))
def test_a_limited_size_is_within_the_limits_and_keeps_the_proportion(w: int, h: int, most: int, less: int) -> None:
    least = max(0, most - less)
    width, height = limited_size(w, h, least, most)
    if least <= w * h <= most:
        assert (width, height) == (w, h)
    elif w * h > most:
        assert width * height <= most or 1 in (width, height)
        assert width <= w
    else:
        assert width * height >= least
    assert abs(width / w - height / h) <= 1 / min(w, h) + 1e-9


def test_limits_that_cross_and_unknown_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="min_pixels=9 is above max_pixels=4"):
        settings_of(ModelSettings, model="a/b", min_pixels=9, max_pixels=4)
    with pytest.raises(ValueError, match="does not take 'attn_implementatoin'"):
        settings_of(ModelSettings, model="a/b", model_init_kwargs={"attn_implementatoin": "sdpa"})
