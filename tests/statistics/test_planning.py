"""Planned precision against theory and against studies that are carried out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.statistics.planning import (
    Assumptions,
    StudyDesign,
    VarianceComponents,
    expected_precision,
    larger_designs,
    variance_components,
)
from t2i_eval_kedro.statistics.reliability import icc


def nested(prompts=400, images=5, raters=3, prompt=0.5, image=1.0, rating=2.0, seed=0):
    rng = np.random.default_rng(seed)
    code = np.repeat(np.arange(prompts), images)
    quality = np.sqrt(prompt) * rng.normal(size=prompts)[code] + np.sqrt(image) * rng.normal(size=prompts * images)
    return quality[:, None] + np.sqrt(rating) * rng.normal(size=(prompts * images, raters)), code


def test_variance_components_recover_those_of_the_simulation():
    table, code = nested()
    found = variance_components(table, code)
    assert found.prompt == pytest.approx(0.5, abs=0.1)
    assert found.image == pytest.approx(1.0, abs=0.1)
    assert found.rating == pytest.approx(2.0, abs=0.1)
    assert found.reliability == pytest.approx(icc(table).one, abs=0.02)


def test_variance_components_of_incomplete_and_uneven_ratings():
    table, code = nested(prompts=800)
    rng = np.random.default_rng(1)
    table[rng.uniform(size=table.shape) < 0.3] = np.nan
    kept = rng.uniform(size=len(code)) < 0.7
    found = variance_components(table[kept], code[kept])
    assert (found.prompt, found.image, found.rating) == (
        pytest.approx(0.5, abs=0.12),
        pytest.approx(1.0, abs=0.12),
        pytest.approx(2.0, abs=0.1),
    )


def test_balanced_components_equal_the_textbook_formulas():
    table, code = nested(prompts=12, images=4, raters=3, seed=3)
    image_means = table.mean(axis=1).reshape(12, 4)
    within = table.var(axis=1, ddof=1).mean()
    images = 3 * image_means.var(axis=1, ddof=1).mean()
    prompts = 12 * image_means.mean(axis=1).var(ddof=1)
    found = variance_components(table, code)
    assert found.rating == pytest.approx(within)
    assert found.image == pytest.approx(max((images - within) / 3, 0))
    assert found.prompt == pytest.approx(max((prompts - images) / 12, 0))


def test_a_pilot_that_separates_nothing_is_refused():
    with pytest.raises(T2IEvalError, match="does not separate"):
        variance_components(np.ones((4, 1)), np.arange(4))


def test_agreement_and_width_equal_theory_for_independent_images():
    # One image per prompt and Pearson: attenuated correlation, and the width of the Fisher interval.
    found = expected_precision(
        StudyDesign(prompts=200, images=1, raters=3), Assumptions(0.5, 0.6), statistic="pearson", simulations=150
    )
    ceiling = np.sqrt(3 * 0.5 / (1 + 2 * 0.5))
    assert found.noise_ceiling == pytest.approx(ceiling)
    assert found.agreement == pytest.approx(0.6 * ceiling, abs=0.02)
    z, reach = np.arctanh(0.6 * ceiling), stats.norm.ppf(0.975) / np.sqrt(197)
    assert found.interval_width == pytest.approx(np.tanh(z + reach) - np.tanh(z - reach), rel=0.1)


def test_power_is_the_level_of_the_test_without_a_difference_and_rises_with_it():
    design = StudyDesign(prompts=60, images=4, raters=3)
    power = [
        expected_precision(design, Assumptions(0.5, 0.7, difference), simulations=150).power
        for difference in (0.0, 0.1, 0.4)
    ]
    assert power[0] < 0.1
    assert power[0] < power[1] < power[2]
    assert power[2] > 0.95


def test_more_of_everything_narrows_the_interval_of_the_difference():
    designs = larger_designs(StudyDesign(10, 2, 1))
    assert len({(d.prompts, d.images, d.raters) for d in designs.values()}) == 4
    found = {name: expected_precision(d, Assumptions(0.3, 0.6, 0.2), simulations=200) for name, d in designs.items()}
    planned = found["as planned"].difference_width
    assert found["one more image per prompt"].difference_width < planned
    assert found["a tenth more prompts"].difference_width < planned
    assert found["one more rater"].noise_ceiling > found["as planned"].noise_ceiling


def test_below_the_least_number_of_prompts_there_is_no_width_and_no_power():
    found = expected_precision(StudyDesign(4, 5, 2), Assumptions(0.5, 0.6), simulations=5)
    assert np.isnan([found.interval_width, found.power]).all()
    assert np.isfinite(found.agreement)


@pytest.mark.parametrize(
    ("build", "match"),
    [
        (lambda: StudyDesign(0, 1, 1), "number of prompts is 0"),
        (lambda: Assumptions(0.0, 0.5), "assumed reliability is 0.0"),
        (lambda: Assumptions(0.5, 0.1, 1.5), "below -1"),
        (lambda: Assumptions(0.5, 1.5), "assumed correlation is 1.5"),
    ],
)
def test_sizes_and_assumptions_that_cannot_be_are_refused(build, match):
    with pytest.raises(T2IEvalError, match=match):
        build()


def test_two_images_are_the_smallest_study():
    assert StudyDesign(1, 2, 1).images == StudyDesign(2, 1, 1).prompts == 2
    with pytest.raises(T2IEvalError, match="at least 2 images"):
        StudyDesign(1, 1, 1)


def test_images_that_people_cannot_tell_apart_have_no_share_between_prompts():
    assert VarianceComponents(prompt=0.0, image=0.0, rating=1.0).prompt_fraction == 0
    assert VarianceComponents(prompt=1.0, image=3.0, rating=1.0).prompt_fraction == 0.25


def test_two_prompts_of_two_images_are_a_pilot():
    table = np.array([[1.0, 2.0], [3.0, 3.0], [4.0, 5.0], [5.0, 4.0]])
    assert variance_components(table, np.array([0, 0, 1, 1])).prompt > 0
