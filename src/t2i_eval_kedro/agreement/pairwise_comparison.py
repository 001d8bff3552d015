"""Judges against each other on one dimension: differences, tests, corrections for many pairs, ranks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

from t2i_eval_kedro.agreement.judge_agreement import HEADLINE, JudgeAgreement
from t2i_eval_kedro.statistics import correlation, ranking
from t2i_eval_kedro.statistics import significance as tests
from t2i_eval_kedro.statistics.estimates import Json, bootstrap_estimate, round_or_none, too_few
from t2i_eval_kedro.statistics.grouping import MIN_GROUP, Groups, resampled_average, statistics_within_groups
from t2i_eval_kedro.statistics.kernels import Floats, Ints
from t2i_eval_kedro.statistics.pooled import pooled_statistics

WITHIN_PROMPT = "kendall_b_within_prompt"
TESTED = (*HEADLINE, WITHIN_PROMPT)

TEST = "paired permutation of whole prompts"
TARGET = "new prompts, generators fixed"


def compare(
    judged: Mapping[str, JudgeAgreement],
    pairs: Iterable[tuple[str, str]],
    dimension: str,
    resamples: int,
    confidence: float,
    seed: int,
) -> list[Json]:
    """One entry for each pair of judges and tested statistic, with p-values adjusted over the pairs."""
    anyone = next(iter(judged.values()), None)
    if anyone is None:
        prompt_permutation = generator_permutation = tests.PairedPermutation(np.zeros((resamples, 0), dtype=np.int64))
    else:
        prompt_permutation = tests.PairedPermutation(tests.random_exchanges(anyone.sample.prompts, resamples, seed))
        generator_permutation = tests.PairedPermutation(
            tests.random_exchanges(len(anyone.sample.generators), resamples, seed + 1)
        )
    out: list[Json] = []
    for a, b in pairs:
        absent = [name for name in (a, b) if name not in judged]
        reason = f"no scores of {' or '.join(absent)} in this dimension" if absent else None
        by_statistic = (
            {} if reason else _pair(judged[a], judged[b], prompt_permutation, generator_permutation, confidence)
        )
        for name in TESTED:
            head = {"a": a, "b": b, "dimension": dimension, "statistic": name, "test": TEST, "target": TARGET}
            out.append(
                head
                | by_statistic.get(name, {"difference": None, "low": None, "high": None, "p": None, "reason": reason})
            )
    for name in TESTED:
        entries = [entry for entry in out if entry["statistic"] == name and entry["p"] is not None]
        p = [entry["p"] for entry in entries]
        for entry, holm, bh in zip(entries, tests.holm(p), tests.benjamini_hochberg(p), strict=True):
            entry |= {"p_holm": round_or_none(holm), "p_benjamini_hochberg": round_or_none(bh)}
    return out


def _pair(
    a: JudgeAgreement,
    b: JudgeAgreement,
    permutation: tests.PairedPermutation,
    generator_permutation: tests.PairedPermutation,
    confidence: float,
) -> dict[str, Json]:
    """Every tested statistic of one pair, on the items that both judges scored."""
    kept = a.kept & b.kept
    whole = bool((kept == a.kept).all() and (kept == b.kept).all())
    x, z = a.sample.scores[a.name][kept], b.sample.scores[b.name][kept]
    y, prompt, generator = a.sample.gold[kept], a.sample.prompt[kept], a.sample.generator[kept]
    reason = correlation.undefined(x, y) or correlation.undefined(z, y)
    if reason:
        nothing = {"difference": None, "low": None, "high": None, "p": None, "n": len(x), "reason": reason}
        return {name: dict(nothing) for name in TESTED}
    sides = (
        [a.resampled, b.resampled] if whole else [pooled_statistics(v, y, prompt, a.weights, HEADLINE) for v in (x, z)]
    )
    null = permutation.pooled(x, z, y, prompt, HEADLINE)
    gaps = {name: sides[0][name] - sides[1][name] for name in HEADLINE}
    observed = {name: float(gap[0]) for name, gap in gaps.items()}
    by_generator = _by_generator(x, z, y, generator, observed, generator_permutation)
    size = {"n": len(x), "n_prompts": len(np.unique(prompt))}
    out: dict[str, Json] = {}
    for name in HEADLINE:
        out[name] = _entry(gaps[name], permutation, null[name], confidence, size) | {"generators": by_generator[name]}
    groups = Groups.by_code(prompt, map(str, range(a.sample.prompts)))
    within_prompt = [
        v.within_prompt if whole else statistics_within_groups(values, y, groups) for v, values in ((a, x), (b, z))
    ]
    usable = np.bincount(prompt, minlength=a.sample.prompts) >= MIN_GROUP
    one, other = (np.where(usable, values["kendall_b"], np.nan) for values in within_prompt)
    gap = resampled_average(one - other, usable, a.weights.table)
    size |= {"n_prompts": int(np.isfinite(one - other).sum())}
    null_within = permutation.grouped(one, other)
    out[WITHIN_PROMPT] = _entry(gap, permutation, null_within, confidence, size, tests.MIN_PROMPTS_WITHIN)
    return out


def _entry(
    gap: Floats,
    permutation: tests.PairedPermutation,
    null: Floats,
    confidence: float,
    size: Mapping[str, int],
    least: int = tests.MIN_PROMPTS,
) -> Json:
    if not math.isfinite(gap[0]):
        reason = "no prompt has a defined statistic for both judges"
        return {"difference": None, "low": None, "high": None, "p": None, **size, "reason": reason}
    entry = bootstrap_estimate(gap, confidence, size["n_prompts"], None, **size)
    if size["n_prompts"] < least:
        few = f"no p-value: {too_few(size['n_prompts'], 'prompts', least)}"
        reason = "; ".join(filter(None, (entry.get("reason"), few)))
        return {"difference": entry.pop("value")} | entry | {"p": None, "reason": reason}
    p, error = permutation.p_value(float(gap[0]), null)
    return (
        {"difference": entry.pop("value")} | entry | {"p": round_or_none(p), "p_standard_error": round_or_none(error)}
    )


def _by_generator(
    x: Floats,
    z: Floats,
    y: Floats,
    generator: Ints,
    observed: dict[str, float],
    permutation: tests.PairedPermutation,
) -> dict[str, Json]:
    """The same question for new generators, by paired permutation of whole generators."""
    kept = generator >= 0
    generators = len(np.unique(generator[kept]))
    if generators < ranking.MIN_GENERATORS:
        reason = too_few(generators, "generators", ranking.MIN_GENERATORS, " for a test over generators")
        return {name: {"p": None, "reason": reason} for name in HEADLINE}
    if not kept.all():
        x, z, y, generator = x[kept], z[kept], y[kept], generator[kept]
        functions = {name: correlation.STATISTIC_FUNCTIONS[name] for name in HEADLINE}
        observed = {name: function(x, y) - function(z, y) for name, function in functions.items()}
    null = permutation.pooled(x, z, y, generator, HEADLINE)
    out: dict[str, Json] = {}
    for name in HEADLINE:
        p, error = permutation.p_value(observed[name], null[name])
        out[name] = {"p": round_or_none(p), "p_standard_error": round_or_none(error)}
    return out


def ranks(judged: Mapping[str, JudgeAgreement], entries: Iterable[Json]) -> Json:
    """Rank of each judge by each headline statistic: judges share a rank until one is significantly worse (Holm, 5%).

    ``rank_probability`` is the fraction of bootstrap resamples in which the judge has rank 1, 2, ...
    """
    out: Json = {}
    pool = list(entries)
    for name in HEADLINE:
        values = {judge: float(j.resampled[name][0]) for judge, j in judged.items() if j.undefined is None}
        if not values:
            out[name] = {}
            continue
        p = {(e["a"], e["b"]): e["p_holm"] for e in pool if e["statistic"] == name and e.get("p_holm") is not None}
        shared = tests.rank_clusters(values, p)
        chance = ranking.rank_probabilities(np.column_stack([judged[judge].resampled[name][1:] for judge in values]))
        out[name] = {
            judge: {
                "rank": shared[judge],
                "value": round_or_none(value),
                "rank_probability": [round_or_none(share) for share in chance[k]],
            }
            for k, (judge, value) in enumerate(values.items())
        }
    return out
