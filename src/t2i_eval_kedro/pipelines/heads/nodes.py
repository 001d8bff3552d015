"""Trains judges that predict numbers, lets them and their ensembles judge, and measures what they add."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import model_validator

from t2i_eval_kedro import schema
from t2i_eval_kedro.datasets.image_store import ImageStore
from t2i_eval_kedro.datasets.ingested import IngestedBenchmarks
from t2i_eval_kedro.judging.ensembles import EnsembleSettings, ensemble_scores
from t2i_eval_kedro.judging.evaluators import JudgingSettings, load_templates, phrases_of
from t2i_eval_kedro.models.processors import ImageSource
from t2i_eval_kedro.models.settings import ModelSettings, ScorerSettings, Settings
from t2i_eval_kedro.pipelines.meta_evaluation.nodes import MetaEvaluationSettings
from t2i_eval_kedro.training.heads.data import VALIDATION, HeadData, head_data
from t2i_eval_kedro.training.heads.judges import HeadJudge, trained
from t2i_eval_kedro.training.heads.settings import DataSettings, FGASettings, ScoreHeadSettings
from t2i_eval_kedro.training.heads.transfer import OtherBenchmarks, other_benchmark, refuse_unusable

FGA, SCORE_HEAD, LEVEL_TOKENS = JUDGES = ("fga_blip2", "score_head", "level_tokens")
BASELINES = "published"
"""What the tables of all published scores together are called."""
Judged = tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, dict[str, Any], pd.DataFrame]
"""Scores, element scores, training curve, what training and judging took, and scores of other benchmarks."""


class HeadsSettings(Settings):
    """Judges that predict numbers.

    Attributes:
        judges: those that are trained and asked: ``fga_blip2``, ``score_head``, ``level_tokens``; and names of ``baselines``, which are asked.
        dimension: what they learn; null for ``overall`` where people scored that, else the first dimension.
        data: what they learn from.
        fga_blip2: settings of the judge of that name.
        score_head: likewise.
        level_tokens: likewise.
        baselines: published scores by name.
        ensembles: ensembles by name; members are evaluators of this pipeline, recorded ones, ``teacher``, ``base``, ``sft`` or ``grpo``.
        other_benchmarks: names of other ingested benchmarks that judges without an ensemble are measured on too, without learning from them.
        submission: evaluator whose answers are written as a submission to the NTIRE 2025 challenge; null for none.
    """

    judges: tuple[str, ...]
    dimension: str | None
    data: DataSettings
    fga_blip2: FGASettings
    score_head: ScoreHeadSettings
    level_tokens: ScoreHeadSettings
    baselines: dict[str, ScorerSettings]
    ensembles: dict[str, EnsembleSettings]
    other_benchmarks: tuple[str, ...]
    submission: str | None

    @property
    def asked_ensembles(self) -> dict[str, EnsembleSettings]:
        """The ensembles without those that have a member of this pipeline which is not asked."""
        left_out = {*JUDGES, *self.baselines} - set(self.judges)
        return {name: chosen for name, chosen in self.ensembles.items() if not left_out & set(chosen.members)}

    @model_validator(mode="after")
    def _known(self) -> HeadsSettings:
        known = (*JUDGES, *self.baselines)
        unknown = [name for name in self.judges if name not in known]
        if unknown:
            raise ValueError(f"there is no judge '{unknown[0]}' (heads.judges); the judges are {', '.join(known)}")
        return self


def collect(
    items: pd.DataFrame,
    splits: pd.DataFrame,
    ratings: pd.DataFrame,
    elements: pd.DataFrame,
    element_ratings: pd.DataFrame,
    settings: HeadsSettings,
) -> HeadData:
    """What the judges learn from."""
    return head_data(items, splits, ratings, elements, element_ratings, settings.dimension)


def collect_others(
    benchmarks: IngestedBenchmarks, items: pd.DataFrame, data: HeadData, settings: HeadsSettings
) -> OtherBenchmarks:
    """The benchmarks that the judges are measured on and do not learn from."""
    refuse_unusable(settings.other_benchmarks, str(items["benchmark"].iloc[0]))
    others = {}
    for name in settings.other_benchmarks:
        judged, splits, ratings, elements, element_ratings = (
            benchmarks.table(name, table) for table in ("items", "splits", "ratings", "elements", "element_ratings")
        )
        dimension = data.dimension if data.dimension in set(ratings["dimension"]) else None
        other = head_data(judged, splits, ratings, elements, element_ratings, dimension)
        others[name] = other_benchmark(other, benchmarks.images(name), data.items)
    return OtherBenchmarks(others)


def judge_fga(
    data: HeadData,
    others: OtherBenchmarks,
    images: ImageStore,
    settings: HeadsSettings,
    judging: JudgingSettings,
    seed: int,
    folder: Path,
) -> Judged:
    """FGA-BLIP2, trained on people's scores and element labels."""
    everything, all_images = others.beside(data, images)

    def make() -> HeadJudge:
        from t2i_eval_kedro.training.heads.fga import FGAJudge  # torch is slow to import

        return FGAJudge(settings.fga_blip2, everything, all_images)

    return _judged(FGA, make, data, others, settings, judging.fold, seed, folder)


def judge_score_head(
    data: HeadData,
    others: OtherBenchmarks,
    images: ImageStore,
    card: Mapping[str, Any],
    prompts: Mapping[str, Callable[[], str]],
    model: ModelSettings,
    judging: JudgingSettings,
    settings: HeadsSettings,
    seed: int,
    folder: Path,
) -> Judged:
    """A score head on the student's last hidden state."""
    make = _reader(settings.score_head, *others.beside(data, images), card, prompts, model, judging)
    return _judged(SCORE_HEAD, make, data, others, settings, judging.fold, seed, folder)


def judge_level_tokens(
    data: HeadData,
    others: OtherBenchmarks,
    images: ImageStore,
    card: Mapping[str, Any],
    prompts: Mapping[str, Callable[[], str]],
    model: ModelSettings,
    judging: JudgingSettings,
    settings: HeadsSettings,
    seed: int,
    folder: Path,
) -> Judged:
    """The student's level tokens, trained in the same way as its score head."""
    make = _reader(settings.level_tokens, *others.beside(data, images), card, prompts, model, judging)
    return _judged(LEVEL_TOKENS, make, data, others, settings, judging.fold, seed, folder)


def _reader(
    settings: ScoreHeadSettings,
    data: HeadData,
    images: ImageSource,
    card: Mapping[str, Any],
    prompts: Mapping[str, Callable[[], str]],
    model: ModelSettings,
    judging: JudgingSettings,
) -> Callable[[], HeadJudge]:
    def make() -> HeadJudge:
        from t2i_eval_kedro.training.heads.score_head import ScoreHeadJudge  # torch is slow to import

        wording = judging.load_wording(load_templates(prompts))
        return ScoreHeadJudge(settings, model, wording, phrases_of(card)[data.dimension], data, images)

    return make


def _judged(
    name: str,
    make: Callable[[], HeadJudge],
    data: HeadData,
    others: OtherBenchmarks,
    settings: HeadsSettings,
    fold: str,
    seed: int,
    folder: Path,
) -> Judged:
    """Train the judge ``name`` where it is wanted, and let it judge the validation fold, ``fold`` and the other benchmarks."""
    from t2i_eval_kedro.training.heads import results  # numba is slow to import

    if name not in settings.judges:
        return *results.no_tables(), pd.DataFrame(), {}, schema.SCORES.empty()
    start = time.monotonic()
    judge, curve, counts = trained(make, data, settings.data, seed)
    took = {"seconds": round(time.monotonic() - start, 1), "steps": int(curve["step"].max())} | counts
    judge.save(folder / name)
    chosen = list(data.items) if fold == "all" else data.fold(VALIDATION, fold)
    start = time.monotonic()
    predictions = judge.predict(chosen)
    took["seconds_per_image"] = round((time.monotonic() - start) / max(1, len(chosen)), 6)
    elsewhere = others.items()
    other_scores, _ = results.tables(name, judge.predict(elsewhere), elsewhere, data.dimension)
    return *results.tables(name, predictions, chosen, data.dimension), curve, took, other_scores


def judge_baselines(
    data: HeadData, others: OtherBenchmarks, images: ImageStore, settings: HeadsSettings, judging: JudgingSettings
) -> tuple[pd.DataFrame, dict[str, Any], pd.DataFrame]:
    """Published image-text scores of the same items, each on its own scale, the seconds that each took per image, and scores of other
    benchmarks."""
    from t2i_eval_kedro.training.heads import results  # numba is slow to import

    tables, other_tables, took = [schema.SCORES.empty()], [schema.SCORES.empty()], {}
    _, all_images = others.beside(data, images)
    elsewhere = others.items()
    asked = list(data.items) if judging.fold == "all" else data.fold(VALIDATION, judging.fold)
    for name in settings.judges:
        if name not in settings.baselines:
            continue
        from t2i_eval_kedro.models.image_text import open_scorer, score  # torch is slow to import

        chosen = settings.baselines[name]
        scorer = open_scorer(chosen)
        start = time.monotonic()
        scores = score(scorer, chosen, images, [(item.image, item.prompt) for item in asked])
        took[name] = {"seconds_per_image": round((time.monotonic() - start) / max(1, len(asked)), 6)}
        other_scores = score(scorer, chosen, all_images, [(item.image, item.prompt) for item in elsewhere])
        for collected, judged, values in ((tables, asked, scores), (other_tables, elsewhere, other_scores)):
            named = dict(zip((item.item_id for item in judged), values, strict=True))
            collected.append(results.score_table(name, named, data.dimension))
    here, there = (schema.SCORES.check(pd.concat(some, ignore_index=True)) for some in (tables, other_tables))
    return here, took, there


def gather(
    data: HeadData,
    settings: HeadsSettings,
    judging: JudgingSettings,
    **tables: pd.DataFrame,
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """The scores of all judges of this pipeline and of the ensembles, their element scores, and the ensembles' weights.

    ``tables`` are ``<judge>_scores`` of all judges that an ensemble can have, and ``<judge>_element_scores`` of those of this pipeline.
    """
    said_of_elements = {name: table for name, table in tables.items() if name.endswith("_element_scores")}
    predictions = {name: table for name, table in tables.items() if name not in said_of_elements}
    trained_here = pd.concat([predictions[f"{name}_scores"] for name in (*JUDGES, BASELINES)], ignore_index=True)
    known = pd.concat(predictions.values(), ignore_index=True)
    people = {i.item_id: i.rating for i in data.items if i.fold == VALIDATION and i.rating is not None}
    asked = [i.item_id for i in data.items if i.fold in (VALIDATION, judging.fold) or judging.fold == "all"]
    combined, weights = ensemble_scores(known, settings.asked_ensembles, people, data.dimension, asked)
    scores = schema.SCORES.check(pd.concat([trained_here, combined], ignore_index=True))
    elements = schema.ELEMENT_SCORES.check(pd.concat(said_of_elements.values(), ignore_index=True))
    return scores, elements, weights


def measure(
    data: HeadData,
    items: pd.DataFrame,
    scores: pd.DataFrame,
    element_scores: pd.DataFrame,
    weights: Mapping[str, Any],
    settings: HeadsSettings,
    meta_evaluation: MetaEvaluationSettings,
    **more: Any,
) -> dict[str, Any]:
    """``heads_summary.json``: agreement of each judge on held-out prompts, and what each ensemble adds, with intervals and costs.

    ``more`` are ``<judge>_scores`` of judges of other pipelines, and ``<judge>_time`` of those of this one.
    """
    from t2i_eval_kedro.training.heads import results  # numba is slow to import

    members = {member for ensemble in settings.asked_ensembles.values() for member in ensemble.members}
    costs = {name.removesuffix("_time"): cost for name, cost in more.items() if name.endswith("_time")}
    costs |= costs.pop(BASELINES)
    known = pd.concat([table for name, table in more.items() if name.endswith("_scores")], ignore_index=True)
    known = known[schema.evaluator_names(known).isin(members)]
    summary = results.summarise(
        data,
        items,
        meta_evaluation.fold,
        pd.concat([scores, known], ignore_index=True),
        element_scores,
        settings.asked_ensembles,
        costs,
        n_resamples=meta_evaluation.n_resamples,
        confidence=meta_evaluation.confidence,
        seed=meta_evaluation.seed,
    )
    for name, entry in summary["ensembles"].items():
        entry["weights"] = weights[name]
    return summary


def tabulate_transfer(
    data: HeadData,
    others: OtherBenchmarks,
    items: pd.DataFrame,
    scores: pd.DataFrame,
    settings: HeadsSettings,
    meta_evaluation: MetaEvaluationSettings,
    **other_scores: pd.DataFrame,
) -> pd.DataFrame:
    """The cross-dataset table: how each judge agrees with people on the benchmark it learned from, and on others.

    ``other_scores`` are ``<judge>_other_scores``; without other benchmarks the table has the own one alone.
    """
    from t2i_eval_kedro.training.heads import results  # numba is slow to import

    names = {*settings.judges}
    here = scores[schema.evaluator_names(scores).isin(names)]
    return results.transfer_table(
        str(items["benchmark"].iloc[0]),
        meta_evaluation.fold,
        data,
        others,
        pd.concat([here, *other_scores.values()], ignore_index=True),
        names & {*JUDGES},
        n_resamples=meta_evaluation.n_resamples,
        confidence=meta_evaluation.confidence,
        seed=meta_evaluation.seed,
    )


def write_submission(
    data: HeadData,
    elements: pd.DataFrame,
    scores: pd.DataFrame,
    element_scores: pd.DataFrame,
    settings: HeadsSettings,
    meta_evaluation: MetaEvaluationSettings,
) -> tuple[str, str]:
    """``output.json`` of the challenge's alignment track, and the truth of the same images."""
    from t2i_eval_kedro.training.heads import results  # numba is slow to import

    if settings.submission is None:
        return results.as_lines([]), results.as_lines([])
    keys = elements["prompt_id"] + "/" + elements["element_id"]
    names = dict(zip(keys, elements["text"] + " (" + elements["skill"] + ")", strict=True))
    answers, truth = results.submission(data, names, meta_evaluation.fold, scores, element_scores, settings.submission)
    return results.as_lines(answers), results.as_lines(truth)
