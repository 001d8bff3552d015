from __future__ import annotations

import pytest

from t2i_eval_kedro.reporting.ablations import CLAIMS, build_ablations, judge_claims, pairs


def difference(a: str, b: str, value: float, low: float, high: float, p_holm: float = 0.01) -> dict:
    seeds = [0]
    return {
        **{"a": a, "b": b, "seeds": seeds, "difference": value, "low": low, "high": high},
        **{"p": p_holm, "p_holm": p_holm, "n": 9},
    }


@pytest.mark.parametrize(
    ("entry", "verdict", "shown"),
    [
        (difference("no_decomposition", "full", -0.2, -0.3, -0.1), "holds", (0.2, 0.1, 0.3)),
        (difference("no_decomposition", "full", 0.2, 0.1, 0.3), "fails", (-0.2, -0.3, -0.1)),
        (difference("no_decomposition", "full", -0.2, -0.3, 0.1), "open", (0.2, -0.1, 0.3)),
        (difference("no_decomposition", "full", -0.2, -0.3, -0.1, p_holm=0.2), "open", (0.2, 0.1, 0.3)),
        (difference("full", "no_decomposition", 0.2, 0.1, 0.3), "holds", (0.2, 0.1, 0.3)),
    ],
)
def test_a_claim_has_its_own_direction(entry: dict, verdict: str, shown: tuple) -> None:
    (claim,) = judge_claims({"free_form": [entry]})
    assert claim["verdict"] == verdict
    assert (claim["difference"], claim["low"], claim["high"]) == pytest.approx(shown)


def test_a_claim_of_too_few_prompts_for_an_interval_stays_open() -> None:
    entry = {
        "a": "full",
        "b": "no_decomposition",
        "seeds": [0],
        "difference": 0.2,
        "low": None,
        "high": None,
        "p": None,
        "n": 9,
    }
    (claim,) = judge_claims({"free_form": [entry]})
    assert (claim["verdict"], claim["difference"], claim["low"], claim["p_holm"]) == ("open", 0.2, None, None)


def test_a_claim_is_judged_by_its_own_score() -> None:
    entry = difference("levels", "full", 0.2, 0.1, 0.3)
    assert not judge_claims({"free_form": [entry]})
    (claim,) = judge_claims(
        {"free_form": [entry], "request": [entry | {"difference": -0.2, "low": -0.3, "high": -0.1}]}
    )
    assert (claim["by"], claim["verdict"]) == ("request", "fails")


def test_every_claim_can_be_tested_by_the_pairs() -> None:
    variants = list(dict.fromkeys(["full", *(name for claim in CLAIMS for name in (claim.a, claim.b))]))
    made = [frozenset(pair) for pair in pairs(variants, "full")]
    assert len(made) == len(set(made))
    assert {frozenset((claim.a, claim.b)) for claim in CLAIMS} <= set(made)


def test_the_page_says_what_was_left_out_and_why_a_figure_is_missing() -> None:
    value = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9, "n_prompts": 3, "by_seed": [0.5]}
    none = {"value": None, "low": None, "high": None, "n": 9, "reason": "all scores are <equal>"}
    differences = [difference("levels", "full", -0.1, -0.2, -0.05)]
    part = {"figures": {"full": value, "levels": none}, "differences": differences}
    facts = {"steps": 4, "examples": 7, "distinct": 5, "seconds": 1.5, "measured_on": ""}
    free_form = {"title": "Free-form score", "readable": {"full": 0.38, "levels": 1.0}}
    request = {"title": "Direct request", "figures": {"full": value}, "differences": [], "readable": {"full": 1.0}}
    page = build_ablations(
        {
            "study": "ablation",
            "benchmark": "shapes",
            "synthetic": True,
            "dimension": "overall",
            "statistic": "spearman",
            "level": 0.95,
            "first": "full",
            "seeds": {"full": [0, 1], "levels": [0]},
            "variants": {"full": facts, "levels": facts | {"measured_on": "some-generator"}},
            "scores": {"free_form": free_form | part, "request": request},
            "slices": {"longer": {"title": "Longer prompts", "n": 12, "scores": {"free_form": part}}},
            "claims": judge_claims({"request": differences}),
            "missing": ["size_10/seed_2"],
            "command": "kedro ablations",
            "commit": "abc",
        }
    )
    assert "size_10/seed_2" in page
    assert "all scores are &lt;equal&gt;" in page
    assert "0.500" in page
    assert "−0.100" in page
    assert "measured on some-generator" in page
    assert "Longer prompts: 12 items" in page
    assert "levels − full<small>1 seed</small>" in page
    assert "1 fail" in page
    assert "38% readable<" in page
    assert "100% readable" not in page
    assert "<script" not in page
