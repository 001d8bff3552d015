"""EvalAlign's study: generators ranked by a judge's answers about skills and by people's, and how well the two rankings agree.

Source: EvalAlign (arXiv 2406.16562) and its released code: options -1 (not there) to 4 for faithfulness and 0 to 2 for alignment; the
aggregates are those of :mod:`t2i_eval_kedro.agreement.challenge`. Ours: the macro-average and the alignment a question beside the published
figures, and the interval, a bootstrap over generators: 24 are few.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
from statsmodels.stats.inter_rater import cohens_kappa

from t2i_eval_kedro.agreement.challenge import evalalign_alignment, evalalign_faithfulness
from t2i_eval_kedro.ratings import mean_ratings, valid_ratings
from t2i_eval_kedro.schema import OK, evaluator_names
from t2i_eval_kedro.statistics.estimates import Json, bootstrap_estimate, round_or_none
from t2i_eval_kedro.statistics.ranking import kendall_over_generators

PEOPLE = "people"
PROTOCOL = "skills"
_ASPECTS = ("faithfulness/", "alignment/")


def skills_study(
    items: pd.DataFrame, ratings: pd.DataFrame, scores: pd.DataFrame, *, resamples: int, confidence: float, seed: int
) -> dict[str, list[Json]]:
    """The three tables of the study, each a list of records; empty where people answered nothing about skills.

    Args:
        items: the items that count.
        ratings: canonical table; its dimensions ``faithfulness/<skill>`` and ``alignment/<skill>`` are options, and a rater who says that a
            skill does not apply has no row.
        scores: canonical table; those of the protocol ``skills`` (0 to 10) are read back as options.
        resamples: number of bootstrap resamples of generators.
        confidence: confidence level of the intervals, such as 0.95.
        seed: random seed of the resamples.

    Returns:
        ``skills_by_generator``: who, generator, and the aggregates; ``skills_kendall``: evaluator, aggregate and Kendall's tau-b with its
        interval; ``skills_kappa``: skill, pairs of raters and the mean of their Cohen's kappas.
    """
    about = ratings[ratings["dimension"].str.startswith(_ASPECTS) & ratings["item_id"].isin(items["item_id"])]
    if about.empty:
        return {}
    best = about.groupby("dimension")["scale_max"].max()
    options = {PEOPLE: mean_ratings(about)[["item_id", "dimension", "score"]]}
    usable = scores[(scores["protocol"] == PROTOCOL) & (scores["status"] == OK) & scores["dimension"].isin(best.index)]
    usable = usable[usable["item_id"].isin(items["item_id"])]
    for name, answers in usable.groupby(evaluator_names(usable), sort=True):
        mean = answers.groupby(["item_id", "dimension"])["score"].mean().reset_index()
        options[str(name)] = mean.assign(score=mean["score"] / 10 * mean["dimension"].map(best))
    generator = items.set_index("item_id")["generator"]
    figures = {who: _by_generator(rows, generator) for who, rows in options.items()}
    return {
        "skills_by_generator": [
            {"who": who, "generator": str(name)} | {str(key): round_or_none(value) for key, value in row.items()}
            for who, table in figures.items()
            for name, row in table.iterrows()
        ],
        "skills_kendall": [
            {"evaluator": who, "aggregate": aggregate}
            | _kendall(table[aggregate], figures[PEOPLE][aggregate], resamples, confidence, seed)
            for who, table in figures.items()
            if who != PEOPLE
            for aggregate in table.columns
        ],
        "skills_kappa": [_kappa(about, skill) for skill in sorted(best.index)],
    }


def _by_generator(options: pd.DataFrame, generator: pd.Series) -> pd.DataFrame:
    """One row a generator: its aggregates over the items that have ``options``; NaN where no skill of an aspect applies."""
    rows = {}
    for name, answers in options.groupby(options["item_id"].map(generator), sort=True):
        faith = answers[answers["dimension"].str.startswith(_ASPECTS[0])]
        prompt = answers[answers["dimension"].str.startswith(_ASPECTS[1])]
        faithfulness = evalalign_faithfulness({str(k): list(some["score"]) for k, some in faith.groupby("dimension")})
        images = {
            str(item): dict(zip(some["dimension"], some["score"], strict=True))
            for item, some in prompt.groupby("item_id")
        }
        rows[str(name)] = {
            "faithfulness": faithfulness["overall"],
            "faithfulness_macro": faithfulness["macro"],
            "alignment_total": evalalign_alignment(images)["overall"],
            "alignment_a_question": evalalign_alignment(images, "corrected")["overall"],
        }
    return pd.DataFrame.from_dict(rows, orient="index").astype(float)


def _kendall(judge: pd.Series, people: pd.Series, resamples: int, confidence: float, seed: int) -> Json:
    """Kendall's tau-b over the generators that both have a figure of, with a bootstrap over them."""
    both = pd.concat([judge, people], axis=1, keys=["judge", "people"]).dropna()
    if len(both) < 2:
        return {"value": None, "low": None, "high": None, "n": len(both), "reason": "fewer than 2 generators"}
    means = [np.asarray(both[name], dtype=float) for name in ("judge", "people")]
    observed = float(both["judge"].corr(both["people"], method="kendall"))
    resampled = kendall_over_generators(means[0], means[1], resamples, seed)
    return bootstrap_estimate(np.concatenate([[observed], resampled]), confidence, len(both), n=len(both))


def _kappa(ratings: pd.DataFrame, skill: str) -> Json:
    """The mean over pairs of raters of Cohen's unweighted kappa of their options about ``skill``."""
    wide = valid_ratings(ratings[ratings["dimension"] == skill]).pivot(
        index="item_id", columns="rater_id", values="score"
    )
    values = np.unique(wide.to_numpy()[np.isfinite(wide.to_numpy(dtype=float))])
    kappas = []
    for a, b in combinations(wide.columns, 2):
        both = wide[[a, b]].dropna()
        if len(both) < 2 or len(values) < 2:
            continue
        counts = np.zeros((len(values), len(values)))
        np.add.at(counts, (np.searchsorted(values, both[a]), np.searchsorted(values, both[b])), 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            kappas.append(float(cohens_kappa(counts, return_results=False)))
    finite = [kappa for kappa in kappas if np.isfinite(kappa)]
    mean = float(np.mean(finite)) if finite else float("nan")
    return {"skill": skill, "pairs": len(finite), "items": len(wide), "cohen_kappa": round_or_none(mean)}
