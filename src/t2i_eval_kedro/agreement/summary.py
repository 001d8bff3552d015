"""The whole comparison of judges with people, as plain JSON types.

| key | what it holds |
|---|---|
| settings, data | how it was computed; items, prompts, generators and raters of each dimension |
| judges | evaluator's name -> {judge, protocol}; the protocol of a recorded metric is null |
| evaluators | name -> dimension -> statistic -> {value, low, high, n, ...}, over all items |
| counts | name -> dimension -> response status -> number of rated items |
| completeness | name -> dimension -> coverage, and the agreement when an item without a score has the worst one |
| runs | name -> dimension -> mean and spread over the runs of a judge that has several |
| within_group | prompt, generator, skill -> name -> dimension -> statistic averaged over groups, and the groups |
| ranking | name -> dimension -> agreement of the generators' ranking |
| intervals | name -> dimension -> statistic -> intervals for new generators, raters, prompts and generators |
| significance | differences between judges, tested |
| ranks | dimension -> statistic -> judge -> rank and its probability |
| raters, noise_ceiling | inter-rater reliability; the highest correlation that it lets a judge expect |
| leave_one_rater_out | name -> dimension -> statistic -> a single rater, and the judge, against the other raters |
| elements, preferences | accuracy of labels, where there are any |
| position_bias | name -> how often a judge of pairs prefers the image shown first |

A figure that is not defined is null and has a ``reason``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from t2i_eval_kedro.agreement import human_agreement, label_agreement, pairwise_comparison
from t2i_eval_kedro.agreement.judge_agreement import REPORTED_STATISTICS, JudgeAgreement, skill_groups
from t2i_eval_kedro.agreement.rated_items import Missing, RatedItems, build, skills
from t2i_eval_kedro.schema import evaluator_names, evaluators, is_among
from t2i_eval_kedro.statistics.bootstrap import resample_counts, with_sample
from t2i_eval_kedro.statistics.estimates import Json, estimate
from t2i_eval_kedro.statistics.grouping import Groups
from t2i_eval_kedro.statistics.pooled import Weights
from t2i_eval_kedro.statistics.ranking import random_signs


def summarise(
    items: pd.DataFrame,
    ratings: pd.DataFrame,
    scores: pd.DataFrame,
    *,
    n_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    missing: Missing = "drop",
    pairs: Iterable[tuple[str, str]] | None = None,
    elements: pd.DataFrame | None = None,
    element_ratings: pd.DataFrame | None = None,
    element_scores: pd.DataFrame | None = None,
    preferences: pd.DataFrame | None = None,
    preference_scores: pd.DataFrame | None = None,
    shown_pairs: pd.DataFrame | None = None,
    unidentified_raters: bool | None = None,
) -> Json:
    """Compare every judge in ``scores`` with the mean of the people in ``ratings``.

    Args:
        items: which items count (filter it to a fold first).
        ratings: canonical table of people's ratings.
        scores: canonical table of judges' scores.
        n_resamples: number of bootstrap resamples and of random permutations.
        confidence: confidence level of the intervals, such as 0.95.
        seed: random seed of the resamples and permutations; the same seed gives the same result, whatever the order of the rows.
        missing: policy for rated items without a score, see :func:`~t2i_eval_kedro.agreement.rated_items.build`.
        pairs: judges to compare with each other; by default every pair.
        elements: names the skills of prompts; the items' attributes may name more.
        element_ratings: labels of elements by people.
        element_scores: labels of elements by judges.
        preferences: people's preferences; a judge with scores prefers the item with the higher score.
        preference_scores: preferences of judges that were asked for one.
        shown_pairs: the same as they were asked, so that a bias to one position shows: prompt_id, item_a (shown first), item_b, evaluator, label.
        unidentified_raters: whether rater columns are slots, not persons; by default true for tifa160 and genai_bench.

    Returns:
        The summary, of plain JSON types; see the module's text.
    """
    tags = skills(items, elements)
    samples = build(items, ratings, scores, missing=missing)
    slots = (
        bool(items["benchmark"].isin(human_agreement.UNIDENTIFIED_RATERS).any())
        if unidentified_raters is None
        else unidentified_raters
    )
    out: Json = {
        "settings": {
            "n_resamples": n_resamples,
            "confidence": confidence,
            "seed": seed,
            "missing_policy": missing,
            "interval": "expanded percentile bootstrap over prompts",
        },
        "data": {},
        "judges": {
            name: {"judge": judge, "protocol": protocol} for name, (judge, protocol) in evaluators(scores).items()
        },
        **{key: {} for key in ("evaluators", "counts")},
        "within_group": {key: {} for key in ("prompt", "generator", *(["skill"] if any(tags.values()) else []))},
        **{key: {} for key in ("completeness", "runs", "ranking", "intervals")},
        "significance": [],
        **{key: {} for key in ("ranks", "raters", "noise_ceiling", "leave_one_rater_out")},
    }
    requested = None if pairs is None else list(pairs)
    for dimension, sample in samples.items():
        frame = human_agreement.rating_frame(ratings, sample)
        table = np.asarray(frame.to_numpy(dtype=float))
        out["data"][dimension] = _describe(sample, table)
        out["raters"][dimension] = human_agreement.rater_agreement(table, slots)
        weights = Weights(with_sample(resample_counts(sample.prompts, n_resamples, seed)))
        out["noise_ceiling"][dimension] = human_agreement.noise_ceiling(
            table, [str(name) for name in frame.columns], slots, sample.prompt, weights, confidence
        )
        signs = random_signs(sample.prompts, n_resamples, seed + 2)
        judged = {name: JudgeAgreement.of(sample, name, weights) for name in sample.scores}
        for name, judge in judged.items():
            figures = judge.overall(confidence)
            human_agreement.add_attenuation_correction(figures, out["noise_ceiling"][dimension])
            sections = {
                "evaluators": figures,
                "counts": sample.counts[name],
                "ranking": judge.ranking(confidence, seed, signs),
                "intervals": judge.intervals(confidence, seed, None if slots else table),
                "completeness": judge.completeness(),
                "leave_one_rater_out": human_agreement.leave_one_out_baseline(table, sample.scores[name]),
            }
            over_runs = judge.over_runs()
            if over_runs is not None:
                sections["runs"] = over_runs
            for key, section in sections.items():
                out[key].setdefault(name, {})[dimension] = section
            grouped = {
                "prompt": judge.within_prompts(confidence, seed),
                "generator": judge.within_groups(_generators(judge), confidence),
            }
            if "skill" in out["within_group"]:
                grouped["skill"] = judge.within_groups(skill_groups(judge, tags), confidence)
            for key, section in grouped.items():
                out["within_group"][key].setdefault(name, {})[dimension] = section
        chosen = itertools.combinations(sample.scores, 2) if requested is None else requested
        entries = pairwise_comparison.compare(judged, chosen, dimension, n_resamples, confidence, seed + 1)
        out["significance"] += entries
        out["ranks"][dimension] = pairwise_comparison.ranks(judged, entries)
    _note_unrated(out["evaluators"], scores, items, samples)
    if element_ratings is not None and element_scores is not None and len(element_ratings):
        out["elements"] = label_agreement.element_metrics(
            items, element_ratings, element_scores, n_resamples, confidence, seed
        )
    if preferences is not None and len(preferences):
        out["preferences"] = label_agreement.preference_accuracy(
            items, preferences, scores, preference_scores, n_resamples, confidence, seed
        )
        if shown_pairs is not None:
            out["position_bias"] = label_agreement.position_bias(
                shown_pairs, preferences, n_resamples, confidence, seed
            )
    return out


def _generators(judge: JudgeAgreement) -> Groups:
    return Groups.by_code(judge.generator, judge.sample.generators)


def _describe(sample: RatedItems, table: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Json:
    return {
        "n_items": len(sample.gold),
        "n_prompts": sample.prompts,
        "n_generators": len(sample.generators),
        "n_raters": table.shape[1],
        "n_ratings": int(np.isfinite(table).sum()),
        "scale": list(sample.scale),
    }


def _note_unrated(figures: Json, scores: pd.DataFrame, items: pd.DataFrame, samples: Mapping[str, RatedItems]) -> None:
    """Say of every score that no rating can meet that it was not compared."""
    present = scores[is_among(scores["item_id"], items["item_id"])]
    of = pd.DataFrame({"evaluator": evaluator_names(present), "dimension": present["dimension"]}).drop_duplicates()
    for name, dimension in sorted(of.itertuples(index=False, name=None)):
        if dimension not in samples and not (dimension == "" and samples):
            nothing = {
                statistic: estimate(
                    float("nan"), "no rating of this dimension", low=float("nan"), high=float("nan"), n=0
                )
                for statistic in REPORTED_STATISTICS
            }
            figures.setdefault(name, {})[dimension] = nothing
