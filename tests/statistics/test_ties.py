"""Tie calibration: the threshold is the best one, and it never comes from the prompts that it scores."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from t2i_eval_kedro.statistics.ties import best_threshold, limited_groups, pairs_within_groups, tie_calibrated


def accuracy(x, y, threshold):
    i, j, _ = pairs_within_groups((np.arange(len(x)),))
    gap = x[i] - x[j]
    said = np.where(np.abs(gap) <= threshold, 0, np.sign(gap))
    return (said == np.sign(y[i] - y[j])).mean()


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3)), min_size=2, max_size=15))
def test_the_best_threshold_beats_every_other(values):
    x, y = np.array(values, float).T
    i, j, _ = pairs_within_groups((np.arange(len(x)),))
    gap, wanted = x[i] - x[j], np.sign(y[i] - y[j])
    threshold, best = best_threshold(np.abs(gap), (np.sign(gap) == wanted) & (wanted != 0), wanted == 0)
    assert best == pytest.approx(accuracy(x, y, threshold))
    assert best == pytest.approx(max(accuracy(x, y, t) for t in [0, *np.abs(gap)]))


def test_the_threshold_comes_from_the_other_prompts():
    # Two prompts and two folds: each prompt is scored with the threshold of the other, which is wrong for it.
    x = np.array([0.0, 0.5, 1.0, 0.0, 0.5, 1.0])
    y = np.array([3.0, 3.0, 3.0, 1.0, 2.0, 3.0])
    found = tie_calibrated(x, y, (np.arange(3), np.arange(3, 6)))
    assert found.by_prompt.tolist() == [0, 0]
    assert sorted(found.thresholds) == [0, 1]


def test_ratings_of_a_prompt_never_move_the_threshold_that_scores_it():
    rng = np.random.default_rng(0)
    prompts = tuple(np.arange(4 * p, 4 * p + 4) for p in range(40))
    y = rng.integers(1, 4, 160).astype(float)
    x = y + rng.uniform(-0.2, 0.2, 160)
    before = tie_calibrated(x, y, prompts, seed=1)
    assert np.nanmean(before.by_prompt) > 0.9
    moved = np.zeros(2, dtype=int)
    for members in prompts:
        changed = y.copy()
        changed[members] = [1.0, 3, 1, 3]
        after = tie_calibrated(x, changed, prompts, seed=1)
        differ = np.array(after.thresholds) != before.thresholds
        assert differ.sum() <= 1
        moved += differ
    assert moved.sum() > 0


def test_one_prompt_alone_cannot_be_calibrated():
    found = tie_calibrated(np.array([1.0, 2]), np.array([1.0, 2]), (np.array([0, 1]),))
    assert np.isnan(found.by_prompt).all()
    assert found.thresholds == ()


def test_all_items_are_compared_below_the_limit_and_a_random_part_above_it():
    groups = (np.arange(5), np.arange(5, 105), np.arange(105, 405))
    assert limited_groups(groups, 0) == (groups, None)
    limited, most = limited_groups(groups, 0, pairs=3000)
    assert most is not None
    assert [len(m) for m in limited] == [5, min(most, 100), most]
    pairs = [len(m) * (len(m) - 1) // 2 for m in limited]
    assert 2900 < sum(pairs) <= 3000
    for whole, part in zip(groups, limited, strict=True):
        assert len(set(part)) == len(part)
        assert set(part) <= set(whole)


def test_twenty_thousand_items_under_one_prompt_need_little_memory():
    rng = np.random.default_rng(0)
    y = rng.normal(size=20_020)
    x = y + rng.normal(size=len(y))
    tracemalloc.start()
    found = tie_calibrated(x, y, (np.arange(20_000), np.arange(20_000, 20_020)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e9  # all 200 million pairs at once would take 13 GB
    assert found.items is not None
    # Continuous values have no ties, so the accuracy of the sample estimates that of all pairs: (tau + 1) / 2.
    assert found.by_prompt[0] == pytest.approx((stats.kendalltau(x[:20_000], y[:20_000]).statistic + 1) / 2, abs=0.01)


def mean_accuracy(x, y, prompts, threshold):
    return np.mean([accuracy(x[members], y[members], threshold) for members in prompts])


def test_every_prompt_weighs_the_same_in_the_choice_of_the_threshold():
    """Prompts of 2 to 12 items: the threshold is the best mean over prompts of the other folds, found by trying every distance."""
    rng = np.random.default_rng(3)
    sizes = [2, 12, 3, 9, 2, 2, 11, 4]
    ends = np.cumsum(sizes)
    prompts = tuple(np.arange(end - size, end) for size, end in zip(sizes, ends, strict=True))
    y = rng.integers(1, 4, ends[-1]).astype(float)
    # Small prompts are scored finely and large ones coarsely, so that counting pairs would choose another threshold.
    x = y + np.concatenate([rng.uniform(-1, 1, size) * (0.1 if size < 5 else 0.9) for size in sizes])
    for seed in range(5):
        calibrated = tie_calibrated(x, y, prompts, seed=seed)
        fold = np.random.default_rng(seed).permutation(len(prompts)) % 2
        for k, threshold in enumerate(calibrated.thresholds):
            others = [members for members, f in zip(prompts, fold, strict=True) if f != k]
            gaps = [abs(x[i] - x[j]) for members in others for i in members for j in members if i < j]
            best = max(mean_accuracy(x, y, others, t) for t in [0, *gaps])
            assert mean_accuracy(x, y, others, threshold) == pytest.approx(best)
            for number in np.flatnonzero(fold == k):
                members = prompts[number]
                assert calibrated.by_prompt[number] == pytest.approx(accuracy(x[members], y[members], threshold))


def test_the_limit_is_of_pairs():
    groups = tuple(np.arange(10) + 10 * k for k in range(100))
    limited, most = limited_groups(groups, 0, pairs=1499)  # of six items each there would be 1,500
    assert most == 5
    assert sum(len(m) * (len(m) - 1) // 2 for m in limited) == 1000
