from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.training.soft_labels import corrected, published

GOLDEN = json.loads((Path(__file__).parents[1] / "fixtures/golden/deqa_soft_label.json").read_text())["rows"]


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: f"{row['mos']}-{row['std']}-{row['density']}")
def test_the_published_form_equals_the_official_run(row: dict) -> None:
    label = published(row["mos"], row["std"], density=row["density"])
    np.testing.assert_allclose(label[::-1], row["probs_excellent_to_bad"], atol=2e-8)
    assert label.sum() == pytest.approx(row["sum"], abs=2e-8)
    assert label @ np.arange(1, 6) == pytest.approx(row["mean"], abs=1e-7)


def test_the_published_form_degenerates_where_the_corrected_does_not() -> None:
    assert published(3.0, 0.8) == pytest.approx(np.full(5, 0.2))  # uniform, whatever the spread
    assert published(4.67, 0.47).sum() > 1.01
    at_the_middle, beside_it = corrected(3.0, 0.8), corrected(3.0001, 0.8)
    assert at_the_middle == pytest.approx(beside_it, abs=1e-3)
    assert at_the_middle[2] > 0.4 > at_the_middle[1] > at_the_middle[0]
    assert corrected(4.67, 0.47).sum() == pytest.approx(1)


@given(levels=st.integers(2, 15), place=st.floats(0, 1), std=st.floats(0, 20))
def test_the_corrected_form_is_a_distribution_with_the_mean(levels: int, place: float, std: float) -> None:
    mean = 1 + place * (levels - 1)
    shares = corrected(mean, std, levels)
    assert (shares >= 0).all()
    assert shares.sum() == pytest.approx(1)
    assert shares @ np.arange(1, levels + 1) == pytest.approx(mean, abs=1e-6)


@given(place=st.floats(0, 1), std=st.floats(0.5, 5))
def test_the_corrected_form_is_mirrored_with_the_mean(place: float, std: float) -> None:
    mean = 1 + 10 * place
    np.testing.assert_allclose(corrected(mean, std, 11), corrected(12 - mean, std, 11)[::-1], atol=1e-6)


@pytest.mark.parametrize(("mean", "std"), [(3.0, float("nan")), (float("nan"), 1.0), (3.0, -1.0), (3.0, float("inf"))])
def test_a_mean_or_spread_that_is_not_a_number_is_refused_not_searched_for_ever(mean: float, std: float) -> None:
    with pytest.raises(T2IEvalError, match="needs a finite mean"):
        corrected(mean, std)
