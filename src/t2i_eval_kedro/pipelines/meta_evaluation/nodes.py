"""Measures how well every evaluator that has scores agrees with people. Knows no model."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from t2i_eval_kedro import schema
from t2i_eval_kedro.benchmarks.splits import TRAINING_FOLDS, UNUSED
from t2i_eval_kedro.datasets.image_store import ImageStore
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.attribution import final_dimension
from t2i_eval_kedro.judging.baselines import baseline_scores
from t2i_eval_kedro.judging.chain import chain_table
from t2i_eval_kedro.judging.evaluators import JudgingSettings, in_fold, load_templates
from t2i_eval_kedro.provenance import recipe

log = logging.getLogger(__name__)

STAGES = ((schema.BASE, schema.SFT), (schema.SFT, schema.GRPO))
"""Judges before and after each training."""


class MetaEvaluationSettings(BaseModel):
    """How agreement is measured.

    Attributes:
        fold: the items that count: ``test``, another fold, or ``all``.
        n_resamples: number of bootstrap resamples of whole prompts and of permutations.
        confidence: confidence level of the intervals.
        seed: random seed of the resamples and permutations.
        missing: what an item without a score counts as: left out (``drop``), worst score (``worst``), an error (``refuse``),
            or, as T2I-Eval does, the mean of the others (``mean``).
        first: judges that come first in a paired difference (first minus second), protocol by protocol. Every pair is
            tested but for baselines, which are compared with the main protocol of each judge alone.
    """

    model_config = ConfigDict(extra="forbid")

    fold: str
    n_resamples: int = Field(ge=100)
    confidence: float = Field(gt=0, lt=1)
    seed: int = Field(ge=0)
    missing: Literal["drop", "worst", "refuse", "mean"]
    first: list[str]


def score_baselines(
    items: pd.DataFrame,
    splits: pd.DataFrame,
    ratings: pd.DataFrame,
    images: ImageStore,
    settings: MetaEvaluationSettings,
) -> pd.DataFrame:
    """The scores of what judges are compared with: a constant by generator, the largest gradient, the prompt's length."""
    held_out = in_fold(items, splits, settings.fold)
    training = in_fold(items, splits, *TRAINING_FOLDS)
    return baseline_scores(held_out, training[~training["item_id"].isin(held_out["item_id"])], ratings, images)


def gather_scores(*tables: pd.DataFrame) -> pd.DataFrame:
    """The scores of all evaluators in one table; empty where a benchmark records none and no judge has been trained."""
    return schema.SCORES.check(pd.concat(tables, ignore_index=True))


def gather_element_scores(*tables: pd.DataFrame) -> pd.DataFrame:
    """The scores of single elements by all evaluators that give some, in one table."""
    return schema.ELEMENT_SCORES.check(pd.concat(tables, ignore_index=True))


def in_order(scores: pd.DataFrame, first: Sequence[str]) -> list[str]:
    """The names of the evaluators of ``scores``: those of the judges ``first``, protocol by protocol, then the others by name."""
    known = schema.evaluators(scores)
    protocols = list(dict.fromkeys(scores.loc[scores["judge"].isin(first), "protocol"]))
    places = {
        name: (protocols.index(protocol), first.index(judge))
        for name, (judge, protocol) in known.items()
        if judge in first
    }
    return [*sorted(places, key=places.__getitem__), *(name for name in known if name not in places)]


def compared_pairs(scores: pd.DataFrame, first: Sequence[str]) -> list[tuple[str, str]]:
    """The evaluators whose agreement is compared, two by two, in the order of :func:`in_order`."""
    known = schema.evaluators(scores)

    def compared(a: str, b: str) -> bool:
        baselines = {a, b} & set(schema.BASELINES)
        return not baselines or (len(baselines) == 1 and all(name == known[name][0] for name in (a, b)))

    return [pair for pair in itertools.combinations(in_order(scores, first), 2) if compared(*pair)]


def measure(
    items: pd.DataFrame,
    splits: pd.DataFrame,
    ratings: pd.DataFrame,
    scores: pd.DataFrame,
    elements: pd.DataFrame,
    element_ratings: pd.DataFrame,
    element_scores: pd.DataFrame,
    preferences: pd.DataFrame,
    card: Mapping[str, Any],
    base_protocol: Mapping[str, Any],
    settings: MetaEvaluationSettings,
    parameters: Mapping[str, Any],
    **compared: pd.DataFrame,
) -> dict[str, Any]:
    """The content of ``summary.json``: agreement of each evaluator with people on held-out items, with intervals.

    ``compared`` are the tables ``<judge>_preference_scores`` of judges that were asked to compare images.

    Raises:
        T2IEvalError: the fold has no item.
    """
    from t2i_eval_kedro.agreement import reproduce, summarise  # scipy and numba are slow to import
    from t2i_eval_kedro.agreement.outcome import withhold_rmse

    held_out = in_fold(items, splits, settings.fold)
    if not len(held_out):
        folds = ", ".join(sorted(set(splits["fold"]) - {UNUSED}))
        raise T2IEvalError(f"Fold '{settings.fold}' has no item; choose one of {folds} or all (meta_evaluation.fold).")
    measured = summarise(
        held_out,
        ratings,
        scores,
        n_resamples=settings.n_resamples,
        confidence=settings.confidence,
        seed=settings.seed,
        missing=settings.missing,
        pairs=compared_pairs(scores, settings.first),
        elements=elements,
        element_ratings=element_ratings,
        element_scores=element_scores,
        preferences=preferences,
        preference_scores=schema.PREFERENCE_SCORES.check(pd.concat(compared.values(), ignore_index=True)),
        unidentified_raters=True if card.get("unidentified_raters") else None,
    )
    if not card.get("recorded_scores_on_rating_scale", True):
        withhold_rmse(measured, card.get("recorded_evaluators", ()))
    chosen = base_protocol.get("protocol")
    best = schema.evaluator_id(schema.BASE, chosen) if chosen else None
    # Published figures are of the whole benchmark, whatever the fold.
    published = reproduce(items, ratings, scores, element_scores)
    return {
        "benchmark": card["name"],
        "synthetic": card["synthetic"],
        "student": parameters["student"],
        "variant": parameters["variant"],
        "seed": parameters["seed"],
        "fold": settings.fold,
        **measured,
        **({"best_untrained": {"evaluator": best, **base_protocol}} if best in measured["evaluators"] else {}),
        **({"published": published} if published else {}),
        "recipe": recipe(parameters),
    }


def diagnose(
    items: pd.DataFrame,
    splits: pd.DataFrame,
    ratings: pd.DataFrame,
    elements: pd.DataFrame,
    element_ratings: pd.DataFrame,
    scores: pd.DataFrame,
    element_scores: pd.DataFrame,
    prompts: Mapping[str, Callable[[], str]],
    judging: JudgingSettings,
    settings: MetaEvaluationSettings,
    **by_judge: pd.DataFrame,
) -> dict[str, Any]:
    """What figures of agreement do not show: the chain step by step and which stage costs how much, what training kept or forgot,
    whether rationales are true, scores that are all alike.

    ``by_judge`` are the tables ``<judge>_transcripts`` and ``<judge>_attribution``. Where people answered EvalAlign's questions about skills, its
    study is there too. A sub-task that training made worse, and a judge that hardly tells images apart, are warned of.
    """
    from t2i_eval_kedro.agreement.diagnostics import (  # scipy and numba are slow to import
        error_attribution,
        kept_or_forgotten,
        out_of_vocabulary,
        score_variety,
    )
    from t2i_eval_kedro.agreement.rationales import rationale_quality
    from t2i_eval_kedro.agreement.skills_study import skills_study

    held_out = in_fold(items, splits, settings.fold)

    def joined(table: schema.Table) -> pd.DataFrame:
        named = [frame for name, frame in by_judge.items() if name.endswith(f"_{table.name}")]
        return table.check(pd.concat(named, ignore_index=True))

    all_transcripts = joined(schema.TRANSCRIPTS)
    wording = judging.load_wording(load_templates(prompts))
    chain = chain_table(all_transcripts, held_out, ratings, elements, element_ratings, wording)
    answered = pd.concat([element_scores, chain.pop("element_scores")], ignore_index=True)
    kept = kept_or_forgotten(
        held_out, elements, element_ratings, answered, STAGES, settings.n_resamples, settings.confidence, settings.seed
    )
    attribution = joined(schema.ATTRIBUTION)
    dimension = final_dimension(ratings)
    attributed = (
        error_attribution(
            attribution, held_out, ratings, dimension, settings.n_resamples, settings.confidence, settings.seed
        )
        if dimension is not None
        else []
    )
    judged = scores["item_id"].isin(held_out["item_id"]) & ~scores["judge"].isin(schema.BASELINES)
    variety = score_variety(scores[judged])
    for row in kept:
        if row["forgotten"]:
            log.warning(
                "%s answers %s worse than %s (%s): %.2f of %d right in place of %.2f.",
                *(row["after"], row["skill"], row["before"], row["protocol"]),
                *(row["accuracy_after"], row["n"], row["accuracy_before"]),
            )
    for row in variety:
        if row["few"]:
            log.warning(
                "%s gives %d different scores on %s, so most of its items are tied.",
                *(row["evaluator"], row["fewest_values"], row["dimension"] or "its dimension"),
            )
        if row["same"]:
            log.warning(
                "%s gives one score on every dimension to %.0f%% of its items.",
                *(row["evaluator"], 100 * row["one_score_for_all"]),
            )
    vocabulary = out_of_vocabulary(
        all_transcripts[all_transcripts["item_id"].isin(held_out["item_id"])], judging.max_out_of_vocabulary
    )
    for row in vocabulary:
        if row["mostly_other"]:
            log.warning(
                "%s gives %.1f%% of the probability to other words than the answers: it was not taught to answer so.",
                *(row["evaluator"], 100 * row["mean"]),
            )
    rationales = rationale_quality(
        held_out,
        elements,
        element_ratings,
        scores[judged],
        settings.n_resamples,
        settings.confidence,
        settings.seed,
    )
    study = skills_study(
        held_out,
        ratings,
        scores,
        resamples=settings.n_resamples,
        confidence=settings.confidence,
        seed=settings.seed,
    )
    return {
        "chain": chain | {"attribution": attributed},
        "kept_or_forgotten": kept,
        "rationales": rationales,
        "score_variety": variety,
        "out_of_vocabulary": vocabulary,
        **study,
    }
