"""One judge on one dimension: agreement over all items, within groups and over generators, with bootstrap resamples."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from t2i_eval_kedro.agreement.rated_items import RatedItems
from t2i_eval_kedro.statistics import correlation, inference_targets, ranking
from t2i_eval_kedro.statistics.bootstrap import percentile_interval
from t2i_eval_kedro.statistics.estimates import Json, bootstrap_estimate, estimate, no_interval, round_or_none, too_few
from t2i_eval_kedro.statistics.grouping import (
    GROUPED_STATISTICS,
    MIN_GROUP,
    Groups,
    average,
    resampled_average,
    resampled_within_groups,
    statistics_within_groups,
)
from t2i_eval_kedro.statistics.kernels import Counts, Floats, Ints
from t2i_eval_kedro.statistics.pooled import Weights, pooled_statistics
from t2i_eval_kedro.statistics.ties import tie_calibrated

FITTED_ONCE = "pearson_logistic"
REPORTED_STATISTICS = ("spearman", "kendall_b", "kendall_c", "pearson", FITTED_ONCE, "rmse", "pairwise_accuracy")
"""Names of :data:`~t2i_eval_kedro.statistics.correlation.STATISTIC_FUNCTIONS` that a summary has."""
HEADLINE = ("spearman", "kendall_b", "pearson")

MIN_LARGE_GROUP = 10
"""Fewest items of a generator or a skill for a separate estimate."""


@dataclass(frozen=True)
class JudgeAgreement:
    """The items that have both a rating and a score of one judge.

    Attributes:
        x, y: ``(n,)`` scores and mean ratings.
        prompt, generator: ``(n,)`` indices.
        weights: weights of prompts, ``(1 + B, P)``: all ones, then the bootstrap resamples.
        resampled: statistic -> ``(1 + B,)`` over all items: the estimate, then each resample.
        within_prompt: statistic -> ``(P,)`` within each prompt.
        sizes: ``(P,)`` number of items of each prompt.
    """

    sample: RatedItems
    name: str
    kept: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
    x: Floats
    y: Floats
    prompt: Ints
    generator: Ints
    weights: Weights
    resampled: Mapping[str, Floats]
    within_prompt: Mapping[str, Floats]
    sizes: Ints

    @staticmethod
    def of(sample: RatedItems, name: str, weights: Weights) -> JudgeAgreement:
        """Collect the items of ``sample`` that judge ``name`` scored."""
        kept = np.isfinite(sample.scores[name])
        x, y = sample.scores[name][kept], sample.gold[kept]
        prompt, generator = sample.prompt[kept], sample.generator[kept]
        groups = Groups.by_code(prompt, map(str, range(sample.prompts)))
        return JudgeAgreement(
            sample,
            name,
            kept,
            x,
            y,
            prompt,
            generator,
            weights,
            pooled_statistics(x, y, prompt, weights, tuple(n for n in REPORTED_STATISTICS if n != FITTED_ONCE)),
            statistics_within_groups(x, y, groups),
            np.bincount(prompt, minlength=sample.prompts),
        )

    @property
    def n_prompts(self) -> int:
        """Number of prompts with an item that has a rating and a score."""
        return int((self.sizes > 0).sum())

    @property
    def undefined(self) -> str | None:
        """Why no correlation is defined, or None."""
        return correlation.undefined(self.x, self.y)

    def overall(self, confidence: float) -> Json:
        """Every statistic over all items, with its interval over prompts."""
        out: Json = {}
        for name in REPORTED_STATISTICS:
            reason, resampled = self._reason(name), self.resampled.get(name, np.zeros(1))
            if name == FITTED_ONCE and not reason:
                # The curve is fitted once: refitting it in every resample would cost more than all else together.
                mapped = correlation.fit_logistic(self.x, self.y)
                if np.isnan(mapped).any():
                    reason = "the logistic fit did not converge"
                else:
                    resampled = pooled_statistics(mapped, self.y, self.prompt, self.weights, ("pearson",))["pearson"]
            out[name] = bootstrap_estimate(
                resampled, confidence, self.n_prompts, reason, n=len(self.x), n_prompts=self.n_prompts
            )
        return out

    def completeness(self) -> Json:
        """How complete the judge's scores are, and what its agreement is when an item without a score has its worst one.

        ``coverage`` is the fraction of rated items with a score; ``unscored_as_worst`` has the headline statistics over all
        rated items. Beside the agreement over what was judged they show whether a judge gains by leaving items out.
        """
        scores, gold = self.sample.scores[self.name], self.sample.gold
        scored = self.sample.scored[self.name]
        fraction = float(scored.mean()) if len(gold) else float("nan")
        filled = np.where(scored, scores, scores[scored].min() if scored.any() else np.nan)
        reason = correlation.undefined(filled, gold) if scored.any() else "no item has both a score and a rating"
        values = {
            name: float("nan") if reason else correlation.STATISTIC_FUNCTIONS[name](filled, gold) for name in HEADLINE
        }
        return {
            "coverage": round_or_none(fraction),
            "n_unscored": int((~scored).sum()),
            "unscored_as_worst": {name: estimate(value, reason, n=len(gold)) for name, value in values.items()},
        }

    def over_runs(self) -> Json | None:
        """Mean and spread of the headline statistics over the judge's runs; None where it has one run.

        ``mean`` and ``standard_deviation`` (divisor runs - 1) are over runs, each on the items that it scored;
        ``score_standard_deviation`` is the root mean variance of an item's scores over runs, in the judge's units.
        """
        runs = self.sample.runs.get(self.name)
        if runs is None:
            return None
        out: Json = {"n_runs": runs.shape[1]}
        for name in HEADLINE:
            values = []
            for scores in runs.T:
                kept = np.isfinite(scores)
                values.append(correlation.STATISTIC_FUNCTIONS[name](scores[kept], self.sample.gold[kept]))
            defined = np.array([v for v in values if math.isfinite(v)])
            out[name] = {
                "mean": round_or_none(float(defined.mean())) if len(defined) else None,
                "standard_deviation": round_or_none(float(defined.std(ddof=1))) if len(defined) > 1 else None,
                "by_run": [round_or_none(v) for v in values],
            }
        number = np.isfinite(runs).sum(axis=1)
        repeated = runs[number > 1]
        spread = float(np.sqrt(np.nanvar(repeated, axis=1, ddof=1).mean())) if len(repeated) else float("nan")
        return out | {"score_standard_deviation": round_or_none(spread)}

    def _reason(self, name: str) -> str | None:
        if name == "rmse":
            low, high = self.sample.scale
            if len(self.x) and (self.x.min() < low or self.x.max() > high):
                return f"the scores are not on the ratings' scale of {low:g} to {high:g}"
            return None if len(self.x) else "no item has both a score and a rating"
        if name == "pairwise_accuracy":
            return None if len(self.x) > 1 else "fewer than 2 items have both a score and a rating"
        if name == FITTED_ONCE and len(self.x) < 5:
            return self.undefined or "fewer than 5 items for a curve of 4 parameters"
        return self.undefined

    def within_prompts(self, confidence: float, seed: int, min_group: int = MIN_GROUP) -> Json:
        """Averages of the statistics within prompts; the interval resamples whole prompts."""
        members = Groups.by_code(self.prompt, map(str, range(self.sample.prompts))).members
        calibrated = tie_calibrated(self.x, self.y, members, seed=seed)
        values = dict(self.within_prompt) | {"pairwise_accuracy_tie_calibrated": calibrated.by_prompt}
        present = self.sizes > 0
        out: Json = {}
        for name, by_prompt in values.items():
            mean = average(by_prompt[present], self.sizes[present], name.removesuffix("_tie_calibrated"), min_group)
            resampled = resampled_average(by_prompt, self.sizes >= min_group, self.weights.table)
            reason = None if mean.groups else "no prompt has enough different scores and ratings"
            entry = bootstrap_estimate(
                resampled, confidence, mean.groups, reason, n=int(self.sizes[present & (self.sizes >= min_group)].sum())
            )
            out[name] = entry | _average(mean.fisher, mean.groups, mean.suppressed, mean.undefined)
        if calibrated.items is not None:
            out["pairwise_accuracy_tie_calibrated"]["note"] = (
                f"on at most {calibrated.items} items a prompt, drawn at random"
            )
        out["pairwise_accuracy_tie_calibrated"]["thresholds"] = [round_or_none(t) for t in calibrated.thresholds]
        return out

    def within_groups(self, groups: Groups, confidence: float, min_group: int = MIN_LARGE_GROUP) -> Json:
        """Statistics within each group and their averages; the interval resamples whole prompts, across all groups."""
        sizes = np.array([len(m) for m in groups.members], dtype=np.int64)
        large = [g for g in range(len(sizes)) if sizes[g] >= min_group]
        chosen = Groups(tuple(groups.names[g] for g in large), tuple(groups.members[g] for g in large))
        resampled = resampled_within_groups(self.x, self.y, self.prompt, chosen, self.weights)
        out: Json = {"groups": {name: {} for name in chosen.names}}
        for name in GROUPED_STATISTICS:
            table = resampled[name]
            defined = np.isfinite(table[0]) if len(large) else np.zeros(0, dtype=bool)
            point = average(table[0] if len(large) else np.zeros(0), sizes[large], name, min_group)
            mean = table[:, defined].mean(axis=1) if defined.any() else np.full(len(table), np.nan)
            reason = None if defined.any() else "no group has enough different scores and ratings"
            entry = bootstrap_estimate(mean, confidence, self.n_prompts, reason, n=int(sizes[large].sum()))
            out[name] = entry | _average(point.fisher, point.groups, len(sizes) - len(large), point.undefined)
            for column, group in enumerate(chosen.names):
                out["groups"][group][name] = bootstrap_estimate(
                    table[:, column],
                    confidence,
                    len(np.unique(self.prompt[chosen.members[column]])),
                    n=int(sizes[large[column]]),
                )
        return out

    def ranking(self, confidence: float, seed: int, signs: Counts) -> Json:
        """Agreement of the generators' ranking by this judge with that by people, over the items that both scored."""
        used, generator = ranking.among_used(self.generator)
        number_of = np.bincount(generator[generator >= 0], minlength=len(used))
        if len(used) < 2:
            reason = "fewer than 2 generators have both scores and ratings"
            return {name: estimate(float("nan"), reason, n=len(used)) for name in (*HEADLINE, "pairwise_accuracy")}
        judge, people = (
            ranking.generator_means(v, generator, len(used), self.prompt, self.weights) for v in (self.x, self.y)
        )
        system = ranking.compare_means(judge, people)
        out: Json = {
            name: bootstrap_estimate(getattr(system, name), confidence, self.n_prompts, n=len(used))
            for name in (*HEADLINE, "pairwise_accuracy")
        }
        sides = [ranking.order_p_values(v, generator, len(used), self.prompt, signs) for v in (self.x, self.y)]
        out["soft_pairwise_accuracy"] = estimate(ranking.soft_pairwise_accuracy(*sides), n=len(used))
        out["kendall_b"] |= self._over_generators(judge[0], people[0], confidence, seed)
        chance = ranking.rank_probabilities(judge[1:])
        order = np.argsort(np.argsort(-judge[0], kind="stable"), kind="stable")
        out["generators"] = {
            self.sample.generators[g]: {
                "judge": round_or_none(judge[0, k]),
                "people": round_or_none(people[0, k]),
                "rank": int(order[k]) + 1,
                "n": int(number_of[k]),
                "rank_probability": [round_or_none(p) for p in chance[k]],
            }
            for k, g in enumerate(used)
        }
        return out

    def _over_generators(self, judge: Floats, people: Floats, confidence: float, seed: int) -> Json:
        if len(judge) < ranking.MIN_GENERATORS:
            return {"over_generators": _no_interval(len(judge))}
        resampled = ranking.kendall_over_generators(judge, people, self.weights.n_weightings - 1, seed)
        value = float(ranking.compare_means(judge[None], people[None]).kendall_b[0])
        return {"over_generators": _interval(resampled, confidence, len(judge), value)}

    def intervals(self, confidence: float, seed: int, raters: Floats | None) -> Json:
        """Intervals of the headline statistics for other inference targets than new prompts.

        ``raters`` is the table of ratings ``(n, raters)``, None where raters are not identified."""
        used, generator = ranking.among_used(self.generator)
        total, resamples = len(used), self.weights.n_weightings - 1
        out: Json = {name: {} for name in HEADLINE}
        few = total < ranking.MIN_GENERATORS
        reason = self.undefined or (_few(total) if few else None)
        by_generators: Mapping[str, Floats] = {}
        by_items: Mapping[str, Floats] = {}
        if reason is None:
            kept = generator >= 0
            by_generators = inference_targets.over_generators(
                self.x, self.y, generator, total, resamples, seed, HEADLINE
            )
            number = min(resamples, inference_targets.ITEM_RESAMPLES)
            by_items = inference_targets.over_items(self.x[kept], self.y[kept], number, seed + 1, HEADLINE)
        for name in HEADLINE:
            if reason is not None:
                out[name] = {
                    target: {"low": None, "high": None, "reason": reason}
                    for target in ("generators", "prompts_and_generators")
                }
                continue
            by_prompts = self.resampled[name]
            bounds_of = {
                "generators": inference_targets.over_groups(
                    float(by_prompts[0]), by_generators[name], total, confidence
                ),
                "prompts_and_generators": inference_targets.over_prompts_and_generators(
                    by_prompts, by_generators[name], by_items[name], self.n_prompts, total, confidence
                ),
            }
            for target, (low, high) in bounds_of.items():
                out[name][target] = {"low": round_or_none(low), "high": round_or_none(high)}
                if not math.isfinite(low):
                    fewest = total if target == "generators" else min(self.n_prompts, total)
                    out[name][target]["reason"] = no_interval(fewest, "prompts or generators")
        reason = self.undefined or _no_rater_interval(raters)
        bounds = (
            {}
            if reason or raters is None
            else inference_targets.over_raters(self.x, raters[self.kept], confidence, HEADLINE)
        )
        for name in HEADLINE:
            low, high = bounds.get(name, (float("nan"), float("nan")))
            out[name]["raters"] = {"low": round_or_none(low), "high": round_or_none(high)}
            if not math.isfinite(low):
                out[name]["raters"]["reason"] = reason or "the statistic is not defined without one of the raters"
        return out


def _no_rater_interval(raters: Floats | None) -> str | None:
    if raters is None:
        return "the raters cannot be told apart"
    number = int(np.isfinite(raters).any(axis=0).sum())
    if number < 2:
        return "only one rater"
    least = inference_targets.MIN_RATERS
    return too_few(number, "raters", least, " for an interval over raters") if number < least else None


def skill_groups(judged: JudgeAgreement, skills: Mapping[str, Iterable[str]]) -> Groups:
    """Groups of the judge's items by the skills of each item."""
    identifiers = np.array(judged.sample.item_ids, dtype=object)[judged.kept]
    return Groups.by_labels(skills.get(str(item), ()) for item in identifiers)


def _average(fisher: float, groups: int, suppressed: int, undefined: int) -> Json:
    return {
        "fisher": round_or_none(fisher),
        "n_groups": groups,
        "suppressed_groups": suppressed,
        "undefined_groups": undefined,
    }


def _interval(resampled: Floats, confidence: float, generators: int, value: float) -> Json:
    low, high = percentile_interval(resampled, confidence, generators, value)
    if not math.isfinite(low):
        return {"low": None, "high": None, "reason": no_interval(generators, "generators")}
    return {"low": round_or_none(low), "high": round_or_none(high)}


def _few(generators: int) -> str:
    return too_few(generators, "generators", ranking.MIN_GENERATORS, " to resample generators")


def _no_interval(generators: int) -> Json:
    return {"low": None, "high": None, "reason": _few(generators)}
