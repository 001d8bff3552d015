from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from t2i_eval_kedro.agreement.across_seeds import adjust, compare_variants
from t2i_eval_kedro.agreement.rated_items import RatedItems

SEEDS = 3


def sample(noise: dict[str, float], prompts: int = 60, images: int = 4, seed: int = 0) -> RatedItems:
    """Judges ``<variant>/<seed>`` that see the gold through Gaussian noise."""
    rng = np.random.default_rng(seed)
    n = prompts * images
    gold = rng.normal(size=n)
    scores = {f"{name}/{s}": gold + sd * rng.normal(size=n) for name, sd in noise.items() for s in range(SEEDS)}
    return RatedItems(
        dimension="overall",
        item_ids=tuple(map(str, range(n))),
        prompt=np.repeat(np.arange(prompts), images),
        generator=np.tile(np.arange(images), prompts),
        generators=tuple("abcd"[:images]),
        gold=gold,
        scale=(-9, 9),
        prompts=prompts,
        scores=scores,
    )


def names(*variants: str) -> dict[str, dict[int, str]]:
    return {name: {s: f"{name}/{s}" for s in range(SEEDS)} for name in variants}


def test_a_figure_is_the_mean_over_seeds_inside_its_interval() -> None:
    given = sample({"full": 1.0})
    figures, _ = compare_variants(given, names("full"), [], n_resamples=200)
    expected = [stats.spearmanr(given.scores[f"full/{s}"], given.gold).statistic for s in range(SEEDS)]
    assert figures["full"]["by_seed"] == pytest.approx(expected, abs=1e-5)
    assert figures["full"]["value"] == pytest.approx(np.mean(expected), abs=1e-5)
    assert figures["full"]["low"] < figures["full"]["value"] < figures["full"]["high"]
    assert (figures["full"]["n"], figures["full"]["n_prompts"]) == (240, 60)


def test_a_worse_variant_is_told_apart_and_an_equal_one_is_not() -> None:
    given = sample({"full": 1.0, "same": 1.0, "worse": 3.0})
    variants = names("full", "same", "worse")
    _, found = compare_variants(given, variants, [("same", "full"), ("worse", "full")], n_resamples=300)
    same, worse = found
    adjust(found)
    assert same["low"] < 0 < same["high"]
    assert same["p"] > 0.05
    assert worse["high"] < 0
    assert worse["p"] == pytest.approx(1 / 301, abs=1e-6)
    assert worse["p_holm"] == pytest.approx(2 / 301, abs=1e-6)


def test_the_interval_widens_with_the_spread_of_seeds() -> None:
    steady = sample({"full": 1.0})
    shaky = sample({"full": 1.0})
    rng = np.random.default_rng(1)
    shaky.scores["full/2"] = shaky.gold + 6 * rng.normal(size=len(shaky.gold))
    widths = []
    for given in (steady, shaky):
        figure = compare_variants(given, names("full"), [], n_resamples=300)[0]["full"]
        widths.append(figure["high"] - figure["low"])
    assert widths[1] > 2 * widths[0]


def test_a_difference_is_over_the_items_of_its_first_variant() -> None:
    given = sample({"full": 1.0, "unseen": 1.0})
    kept = {"unseen": given.generator == 0}
    figures, (entry,) = compare_variants(
        given, names("full", "unseen"), [("unseen", "full")], kept=kept, n_resamples=100
    )
    assert (figures["full"]["n"], figures["unseen"]["n"], entry["n"]) == (240, 60, 60)
    first = given.generator == 0
    by_hand = np.mean(
        [
            stats.spearmanr(given.scores[f"unseen/{s}"][first], given.gold[first]).statistic
            - stats.spearmanr(given.scores[f"full/{s}"][first], given.gold[first]).statistic
            for s in range(SEEDS)
        ]
    )
    assert entry["difference"] == pytest.approx(by_hand, abs=1e-5)


def test_with_unequal_numbers_of_seeds_every_seed_is_resampled_as_often_as_the_others() -> None:
    given = sample({"full": 1.0, "short": 1.0}, prompts=200)
    # One of two seeds is perfect: the mean over resampled seeds is symmetric about the middle.
    given.scores["short/1"] = given.gold.copy()
    given.scores["short/0"] = -given.gold
    variants = names("full") | {"short": {0: "short/0", 1: "short/1"}}
    figures, (entry,) = compare_variants(given, variants, [("short", "full")], n_resamples=2000, confidence=0.4)
    assert figures["short"]["value"] == pytest.approx(0, abs=1e-9)
    # -1, 0, 0, 1 are equally likely, so that the middle 40% is 0; an uneven choice moves an end to 1 or -1.
    assert (figures["short"]["low"], figures["short"]["high"]) == (pytest.approx(0), pytest.approx(0))
    assert entry["seeds"] == [0, 1]
    by_hand = [
        stats.spearmanr(given.scores[f"short/{s}"], given.gold).statistic
        - stats.spearmanr(given.scores[f"full/{s}"], given.gold).statistic
        for s in (0, 1)
    ]
    assert entry["difference"] == pytest.approx(np.mean(by_hand), abs=1e-5)
    _, (apart,) = compare_variants(
        given, names("full") | {"short": {7: "short/0"}}, [("short", "full")], n_resamples=10
    )
    assert (apart["difference"], apart["reason"]) == (None, "no seed in common")


def test_more_permutations_than_resamples_let_a_large_family_be_tested() -> None:
    given = sample({"full": 1.0, "worse": 30.0})
    variants = names("full", "worse")
    (few,) = compare_variants(given, variants, [("worse", "full")], n_resamples=100)[1]
    (many,) = compare_variants(given, variants, [("worse", "full")], n_resamples=100, n_permutations=5000)[1]
    assert few["p"] == pytest.approx(1 / 101, abs=1e-6)
    assert many["p"] == pytest.approx(1 / 5001, abs=1e-6)
    assert (many["low"], many["high"]) == (few["low"], few["high"])


def test_a_constant_judge_has_a_reason_in_place_of_a_figure() -> None:
    given = sample({"full": 1.0, "flat": 1.0})
    given.scores["flat/1"] = np.zeros(len(given.gold))
    figures, (entry,) = compare_variants(given, names("full", "flat"), [("flat", "full")], n_resamples=100)
    assert figures["flat"]["value"] is None
    assert figures["flat"]["reason"]
    assert entry["difference"] is None
    assert entry["reason"]
