"""Simulated generators commit the faults that they are set to, and a name tells little about a picture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.shapes.generators import (
    GENERATORS,
    HELD_OUT,
    HELD_OUT_FAMILIES,
    SimulatedGenerator,
    generators,
    imagine,
)
from t2i_eval_kedro.shapes.make import make_shapes
from t2i_eval_kedro.shapes.prompts import elements, sample_prompt
from t2i_eval_kedro.shapes.scene import region_cells
from t2i_eval_kedro.shapes.truth import clarity, element_truth, item_attributes, true_scores

seeds = st.integers(0, 2**32)
_NONE = (0.0, 0.1, 0.9)
PERFECT = SimulatedGenerator("shapes-perfect", 0, 0, 0, 0, 0, 0, 0, _NONE, _NONE, _NONE)


@given(seeds)
def test_a_perfect_generator_satisfies_everything_that_can_be(seed: int) -> None:
    rng = np.random.default_rng(seed)
    prompt = sample_prompt(rng)
    painted = imagine(prompt, PERFECT, rng)
    attributes = item_attributes(prompt, painted)
    assert painted.families == ()
    held = element_truth(attributes)
    assert {key for key, value in held.items() if not value} == {key for key in held if key.endswith(".conflict")}
    if prompt.conflict is None:
        assert {v for v in true_scores(attributes).values() if v is not None} == {10.0}


@given(seeds, st.sampled_from(generators(24)))
def test_every_picture_is_well_formed(seed: int, generator: SimulatedGenerator) -> None:
    rng = np.random.default_rng(seed)
    prompt = sample_prompt(rng)
    painted = imagine(prompt, generator, rng)
    groups = painted.scene.groups
    assert groups
    assert len({g.shape for g in groups}) == len(groups)
    cells = [cell for g in groups for cell in region_cells(g.region)]
    assert len(set(cells)) == len(cells)
    assert all(1 <= g.count <= len(region_cells(g.region)) for g in groups)
    held = element_truth(item_attributes(prompt, painted))
    failed = {
        e.element_id for e in elements(prompt) if not held[e.element_id] and not e.element_id.endswith("conflict")
    }
    faults = set(painted.families) - {"blur", "haze", "grain"}
    if not faults:
        conflicting = {
            e.element_id.removesuffix(".conflict") for e in elements(prompt) if e.element_id.endswith("conflict")
        }
        assert failed <= conflicting


@pytest.mark.parametrize(
    ("fault", "skills"),
    [
        ("color", {"color", "negation"}),
        ("count", {"counting"}),
        ("size", {"size"}),
        ("relation", {"spatial"}),
        ("negation", {"negation"}),
        ("swapped", {"color", "size", "negation"}),
    ],
)
def test_each_fault_breaks_its_own_skill(fault: str, skills: set[str]) -> None:
    generator = replace(PERFECT, **{fault: 1.0})
    rng = np.random.default_rng(3)
    seen: set[str] = set()
    for _ in range(200):
        prompt = replace(sample_prompt(rng), conflict=None)
        painted = imagine(prompt, generator, rng)
        held = element_truth(item_attributes(prompt, painted))
        failed = {e.skill for e in elements(prompt) if not held[e.element_id]}
        assert failed <= skills
        assert not failed or painted.families == (fault,)
        seen |= failed
    assert seen & skills


def test_a_missing_group_is_gone_or_replaced() -> None:
    rng = np.random.default_rng(4)
    generator = replace(PERFECT, missing=1.0)
    missing = 0
    for _ in range(100):
        prompt = sample_prompt(rng)
        painted = imagine(prompt, generator, rng)
        gone = [g.shape for g in prompt.scene.groups if painted.scene.find(g.shape) is None]
        assert bool(gone) == ("missing" in painted.families) or len(prompt.scene.groups) == 1
        assert prompt.absent is None or painted.scene.find(prompt.absent) is None
        missing += bool(gone)
    assert missing > 50


def test_degradations_stay_away_from_the_bounds_between_words() -> None:
    rng = np.random.default_rng(5)
    generator = replace(PERFECT, blur=(1.0, 0.1, 0.9), haze=(1.0, 0.1, 0.9), grain=(1.0, 0.1, 0.9))
    words = set()
    for _ in range(200):
        degradation = imagine(sample_prompt(rng), generator, rng).degradation
        for severity in (degradation.blur, degradation.haze, degradation.grain):
            assert severity == 0 or min(abs(severity - bound) for bound in (0.1, 0.35, 0.6)) > 0.015
        words |= set(clarity(degradation).split())
    assert words >= {"slightly", "very", "blurry", "hazy", "grainy", "and"}


def test_held_out_families_are_committed_by_held_out_generators_alone() -> None:
    for generator in generators(24):
        commits = {
            "swapped": generator.swapped > 0,
            "grain": generator.grain[0] > 0,
            "warped": "warped" in generator.flaws,
        }
        assert set(commits) == set(HELD_OUT_FAMILIES)
        assert any(commits.values()) == (generator.name in HELD_OUT)


def test_generators_differ_in_name_and_most_in_main_fault() -> None:
    assert len({g.name for g in generators(24)}) == 24
    assert generators(8) == GENERATORS == generators(24)[:8]
    rates = np.array([[g.color, g.count, g.missing, g.relation, max(g.blur[0], g.haze[0])] for g in GENERATORS[1:6]])
    excess = rates / rates.mean(axis=0)
    assert set(excess.argmax(axis=1)) == {0, 1, 2, 3, 4}
    with pytest.raises(T2IEvalError, match="7"):
        generators(7)


def test_a_generators_name_tells_little_about_the_score() -> None:
    """No constant per generator agrees with people's mean by more than .35, fitted on the very items."""
    for n in (8, 24):
        made = make_shapes(n_prompts=60, generators=n)
        scores = made.ratings[made.ratings["dimension"] == "overall"].groupby("item_id")["score"].mean()
        generator = made.items.set_index("item_id")["generator"]
        constant = scores.groupby(generator).transform("mean")
        assert 0.05 < constant.corr(scores, method="spearman") < 0.35
