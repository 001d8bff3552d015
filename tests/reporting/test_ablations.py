from __future__ import annotations

import pytest

from t2i_eval_kedro.reporting.ablations import CLAIMS, build_ablations, judge_claims, pairs


def difference(a: str, b: str, value: float, low: float, high: float, p_holm: float = 0.01) -> dict:
    return {"a": a, "b": b, "difference": value, "low": low, "high": high, "p": p_holm, "p_holm": p_holm, "n": 9}


@pytest.mark.parametrize(
    ("entry", "verdict", "shown"),
    [
        (difference("no_rebalancing", "full", -0.2, -0.3, -0.1), "holds", (0.2, 0.1, 0.3)),
        (difference("no_rebalancing", "full", 0.2, 0.1, 0.3), "fails", (-0.2, -0.3, -0.1)),
        (difference("no_rebalancing", "full", -0.2, -0.3, 0.1), "open", (0.2, -0.1, 0.3)),
        (difference("no_rebalancing", "full", -0.2, -0.3, -0.1, p_holm=0.2), "open", (0.2, 0.1, 0.3)),
        (difference("full", "no_rebalancing", 0.2, 0.1, 0.3), "holds", (0.2, 0.1, 0.3)),
    ],
)
def test_a_claim_has_its_own_direction(entry: dict, verdict: str, shown: tuple) -> None:
    (claim,) = judge_claims([entry])
    assert claim["verdict"] == verdict
    assert (claim["difference"], claim["low"], claim["high"]) == pytest.approx(shown)


def test_a_claim_of_too_few_prompts_for_an_interval_stays_open() -> None:
    entry = {"a": "full", "b": "no_rebalancing", "difference": 0.2, "low": None, "high": None, "p": None, "n": 9}
    (claim,) = judge_claims([entry])
    assert (claim["verdict"], claim["difference"], claim["low"], claim["p_holm"]) == ("open", 0.2, None, None)


def test_every_claim_can_be_tested_by_the_pairs() -> None:
    variants = list(dict.fromkeys(["full", *(name for claim in CLAIMS for name in (claim.a, claim.b))]))
    made = [frozenset(pair) for pair in pairs(variants, "full")]
    assert len(made) == len(set(made))
    assert {frozenset((claim.a, claim.b)) for claim in CLAIMS} <= set(made)


def test_the_page_says_what_was_left_out_and_why_a_figure_is_missing() -> None:
    value = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9, "n_prompts": 3, "by_seed": [0.5]}
    none = {"value": None, "low": None, "high": None, "n": 9, "reason": "all scores are <equal>"}
    differences = [difference("levels", "full", -0.1, -0.2, -0.05)]
    part = {"title": "All", "figures": {"full": value, "levels": none}, "differences": differences}
    facts = {"steps": 4, "examples": 7, "distinct": 5, "seconds": 1.5, "measured_on": ""}
    page = build_ablations(
        {
            "study": "ablation",
            "benchmark": "shapes",
            "synthetic": True,
            "dimension": "overall",
            "statistic": "spearman",
            "level": 0.95,
            "first": "full",
            "seeds": [0],
            "variants": {"full": facts, "levels": facts | {"measured_on": "some-generator"}},
            "strata": {"all": part, "longest_prompts": part | {"title": "Prompts of at least 12 words"}},
            "generated": {
                "full": value | {"seeds": 1, "readable": 0.38},
                "levels": none | {"seeds": 0, "readable": 0.0},
            },
            "claims": judge_claims(differences),
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
    assert "Prompts of at least 12 words" in page
    assert "1 fail" in page
    assert "38% readable<" in page
    assert "0% readable, 0 of 1 seeds" in page
    assert "<script" not in page
