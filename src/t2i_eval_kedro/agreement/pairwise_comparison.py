"""Judges against each other on one dimension: differences, tests, corrections for many pairs, ranks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

from t2i_eval_kedro.agreement.judge_agreement import HEADLINE, JudgeAgreement
from t2i_eval_kedro.statistics import correlation, ranking
from t2i_eval_kedro.statistics import significance as tests
from t2i_eval_kedro.statistics.estimates import Json, drawn, number
from t2i_eval_kedro.statistics.grouping import MIN_GROUP, Groups, average_under_draws, inside_groups
from t2i_eval_kedro.statistics.kernels import Floats, Ints
from t2i_eval_kedro.statistics.pooled import pooled_statistics

BY_PROMPT = "kendall_b_by_prompt"
TESTED = (*HEADLINE, BY_PROMPT)

TEST = "swap of whole prompts"
TARGET = "new prompts, generators fixed"


def compare(
    judged: Mapping[str, JudgeAgreement],
    pairs: Iterable[tuple[str, str]],
    dimension: str,
    draws: int,
    level: float,
    seed: int,
) -> list[Json]:
    """One entry for each pair of judges and tested statistic, with p-values adjusted over the pairs."""
    anyone = next(iter(judged.values()), None)
    if anyone is None:
        prompt_swaps = generator_swaps = tests.Swaps(np.zeros((draws, 0), dtype=np.int64))
    else:
        prompt_swaps = tests.Swaps(tests.random_swaps(anyone.sample.prompts, draws, seed))
        generator_swaps = tests.Swaps(tests.random_swaps(len(anyone.sample.generators), draws, seed + 1))
    out: list[Json] = []
    for a, b in pairs:
        absent = [name for name in (a, b) if name not in judged]
        reason = f"no scores of {' or '.join(absent)} in this dimension" if absent else None
        found = {} if reason else _pair(judged[a], judged[b], prompt_swaps, generator_swaps, level)
        for name in TESTED:
            head = {"a": a, "b": b, "dimension": dimension, "statistic": name, "test": TEST, "target": TARGET}
            out.append(
                head | found.get(name, {"difference": None, "low": None, "high": None, "p": None, "reason": reason})
            )
    for name in TESTED:
        entries = [entry for entry in out if entry["statistic"] == name and entry["p"] is not None]
        p = [entry["p"] for entry in entries]
        for entry, holm, bh in zip(entries, tests.holm(p), tests.benjamini_hochberg(p), strict=True):
            entry |= {"p_holm": number(holm), "p_benjamini_hochberg": number(bh)}
    return out


def _pair(
    a: JudgeAgreement, b: JudgeAgreement, swaps: tests.Swaps, generator_swaps: tests.Swaps, level: float
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
    sides = [a.draws, b.draws] if whole else [pooled_statistics(v, y, prompt, a.weights, HEADLINE) for v in (x, z)]
    null = swaps.flat(x, z, y, prompt, HEADLINE)
    gaps = {name: sides[0][name] - sides[1][name] for name in HEADLINE}
    observed = {name: float(gap[0]) for name, gap in gaps.items()}
    by_generator = _by_generator(x, z, y, generator, len(a.sample.generators), observed, generator_swaps)
    size = {"n": len(x), "n_prompts": len(np.unique(prompt))}
    out: dict[str, Json] = {}
    for name in HEADLINE:
        out[name] = _entry(gaps[name], null[name], level, size) | {"generators": by_generator[name]}
    groups = Groups.by_code(prompt, map(str, range(a.sample.prompts)))
    inside = [v.inside if whole else inside_groups(values, y, groups) for v, values in ((a, x), (b, z))]
    usable = np.bincount(prompt, minlength=a.sample.prompts) >= MIN_GROUP
    one, other = (np.where(usable, values["kendall_b"], np.nan) for values in inside)
    gap = average_under_draws(one - other, usable, a.weights.table)
    out[BY_PROMPT] = _entry(
        gap, swaps.grouped(one, other), level, size | {"n_prompts": int(np.isfinite(one - other).sum())}
    )
    return out


def _entry(gap: Floats, null: Floats, level: float, size: Mapping[str, int]) -> Json:
    if not math.isfinite(gap[0]):
        reason = "no prompt has a defined figure for both judges"
        return {"difference": None, "low": None, "high": None, "p": None, **size, "reason": reason}
    entry = drawn(gap, level, None, **size)
    p, error = tests.p_value(float(gap[0]), null)
    return {"difference": entry.pop("value")} | entry | {"p": number(p), "p_standard_error": number(error)}


def _by_generator(
    x: Floats,
    z: Floats,
    y: Floats,
    generator: Ints,
    generators: int,
    observed: dict[str, float],
    swaps: tests.Swaps,
) -> dict[str, Json]:
    """The same question for new generators, by swaps of whole generators."""
    if generators < ranking.MIN_GENERATORS:
        reason = f"{generators} generators are too few for a test over generators (at least {ranking.MIN_GENERATORS})"
        return {name: {"p": None, "reason": reason} for name in HEADLINE}
    kept = generator >= 0
    if not kept.all():
        x, z, y, generator = x[kept], z[kept], y[kept], generator[kept]
        functions = {name: correlation.STATISTICS[name] for name in HEADLINE}
        observed = {name: function(x, y) - function(z, y) for name, function in functions.items()}
    null = swaps.flat(x, z, y, generator, HEADLINE)
    out: dict[str, Json] = {}
    for name in HEADLINE:
        p, error = tests.p_value(observed[name], null[name])
        out[name] = {"p": number(p), "p_standard_error": number(error)}
    return out


def ranks(judged: Mapping[str, JudgeAgreement], entries: Iterable[Json]) -> Json:
    """Rank of each judge by each headline statistic: judges share a rank until one is significantly worse (Holm, 5%).

    ``probability`` is the share of bootstrap draws in which the judge stands on rank 1, 2, ...
    """
    out: Json = {}
    pool = list(entries)
    for name in HEADLINE:
        values = {judge: float(j.draws[name][0]) for judge, j in judged.items() if j.undefined is None}
        if not values:
            out[name] = {}
            continue
        p = {(e["a"], e["b"]): e["p_holm"] for e in pool if e["statistic"] == name and e.get("p_holm") is not None}
        shared = tests.rank_clusters(values, p)
        chance = ranking.rank_probabilities(np.column_stack([judged[judge].draws[name][1:] for judge in values]))
        out[name] = {
            judge: {
                "rank": shared[judge],
                "value": number(value),
                "probability": [number(share) for share in chance[k]],
            }
            for k, (judge, value) in enumerate(values.items())
        }
    return out
