"""Ratings, scores and preferences as people bring them, CSV files or data frames, made into the canonical tables.

How files become tables, and what stops, is in :mod:`t2i_eval_kedro.tables`; here they are joined.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from t2i_eval_kedro import schema
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.schema import is_among
from t2i_eval_kedro.tables import ReadingSettings, Source
from t2i_eval_kedro.tables import preferences as preference_tables
from t2i_eval_kedro.tables import ratings as rating_tables
from t2i_eval_kedro.tables import scores as score_tables
from t2i_eval_kedro.tables.identifiers import refuse_unjoined

RATINGS = rating_tables.COLUMNS
SCORES = score_tables.COLUMNS
PREFERENCES = preference_tables.COLUMNS
PAIRWISE_SCORES = preference_tables.JUDGE_COLUMNS

InputReport = dict[str, int]
NEGATIVE, NEGATIVE_ITEMS = (
    -0.3,
    20,
)  # rank correlation and items from which a judge may be one whose low scores are good


@dataclass(frozen=True)
class AgreementInput:
    """The canonical tables that agreement is computed from.

    Attributes:
        items: the rated items.
        ratings: people's ratings of them.
        scores: the judges' scores of them.
        preferences: people's preferences between two of them; None where none were given.
        report: counts of what was missing, unreadable, repeated, contradictory, off the scale or not joined.
        notes: sentences about what was detected, interpreted or excluded, the rating scale first.
        pairwise_scores: judges' own verdicts on pairs; None where none were given.
        shown_pairs: the same as the judges were asked: which image was shown first.
        unidentified_raters: whether the identifiers of raters are slots; None: as the benchmark says.
        same_scale: whether judges' scores are declared to be on the scale of the ratings.
    """

    items: pd.DataFrame
    ratings: pd.DataFrame
    scores: pd.DataFrame
    preferences: pd.DataFrame | None
    report: InputReport
    notes: tuple[str, ...] = ()
    pairwise_scores: pd.DataFrame | None = None
    unidentified_raters: bool | None = None
    same_scale: bool = False
    shown_pairs: pd.DataFrame | None = None


def read_input(
    ratings: Source | None,
    scores: Source | None,
    preferences: Source | None = None,
    *,
    pairwise_scores: Source | None = None,
    scale: tuple[float, float] | None = None,
    lower_is_better: Sequence[str] = (),
    settings: ReadingSettings | None = None,
) -> AgreementInput:
    """Read and join the tables of ``ratings``, ``scores`` and ``preferences``.

    Args:
        ratings: CSV file or data frame with the columns :data:`RATINGS`, and optionally ``skill`` (several separated by ";").
        scores: the same with the columns :data:`SCORES`, and optionally ``dimension``, ``run`` and ``higher_is_better``.
        preferences: the same with the columns :data:`PREFERENCES`; may stand in place of ratings.
        pairwise_scores: judges' own verdicts, with the columns :data:`PAIRWISE_SCORES`.
        scale: lowest and highest possible rating; ratings outside are excluded and counted. By default the range of the ratings.
        lower_is_better: evaluators whose low scores mean good images.
        settings: everything else that may be said about the tables, see :class:`~t2i_eval_kedro.tables.ReadingSettings`.

    Raises:
        T2IEvalError: a file cannot be read or understood, a column is missing, an item has two prompts, or nothing joins.
    """
    settings = settings or ReadingSettings()
    more = ({"scale": scale} if scale is not None else {}) | (
        {"lower_is_better": tuple(lower_is_better)} if lower_is_better else {}
    )
    settings = settings.model_copy(update=more)
    ratings = ratings if ratings is not None else settings.ratings.file
    scores = scores if scores is not None else settings.scores.file
    preferences = preferences if preferences is not None else settings.preferences.file
    pairwise_scores = pairwise_scores if pairwise_scores is not None else settings.pairwise_scores.file
    if ratings is None and preferences is None:
        raise T2IEvalError("There is nothing of people's to compare with; give ratings or preferences.")
    if scores is None and pairwise_scores is None:
        raise T2IEvalError("There is nothing of a judge to compare; give scores or pairwise scores.")
    report: InputReport = {}
    notes: list[str] = []
    prompt_of: dict[str, str] | None = None
    unidentified: bool | None = None
    items, rating_table = schema.ITEMS.empty(), schema.RATINGS.empty()
    if ratings is not None:
        text, read = rating_tables.read_ratings(ratings, settings)
        items = _items(text.frame, text.name)
        rating_table = schema.RATINGS.check(
            read.frame[["item_id", "rater_id", "dimension", "score", "scale_min", "scale_max", "off_scale"]].assign(
                std=np.nan, n_raters=None
            )
        )
        unidentified = read.unidentified or None
        notes += read.notes
        report |= read.report
        if preferences is not None:
            prompt_of = dict(zip(items["item_id"], items["prompt_id"], strict=True))
    preferred = answered = shown = None
    if preferences is not None:
        compared = preference_tables.read_preferences(preferences, settings, prompt_of)
        preferred = compared.frame
        notes += compared.notes
        report |= compared.report
        if ratings is None:
            items = _items_of_pairs(preferred)
        if pairwise_scores is not None:
            verdicts = preference_tables.read_pairwise_scores(pairwise_scores, settings, preferred)
            answered, shown = verdicts.frame, verdicts.shown
            notes += verdicts.notes
            report |= verdicts.report
    elif pairwise_scores is not None:
        raise T2IEvalError("Pairwise scores are compared with preferences; give --preferences as well.")
    score_table = schema.SCORES.empty()
    if scores is not None:
        scored_text, scored = score_tables.read_scores(scores, settings)
        score_table = scored.frame
        notes += scored.notes
        report |= scored.report
        _refuse_unjoined_judges(items, rating_table, score_table, scored_text.name, ratings is not None)
        notes += _coverage(items, score_table) + _negative(rating_table, score_table)
    scored_ids = pd.Series(score_table["item_id"].unique(), dtype="str")
    report["items_with_scores_only"] = int((~is_among(scored_ids, items["item_id"])).sum())
    without = ~is_among(items["item_id"], scored_ids)
    report["rated_items_without_any_score"] = int(without.sum()) if scores is not None else 0
    return AgreementInput(
        items,
        rating_table,
        score_table,
        preferred,
        report,
        tuple(notes),
        answered,
        unidentified,
        settings.same_scale,
        shown,
    )


def _refuse_unjoined_judges(
    items: pd.DataFrame, ratings: pd.DataFrame, scores: pd.DataFrame, name: str, rated: bool
) -> None:
    """Stop where a judge has no score of any item, or of any dimension, that people rated.

    Raises:
        T2IEvalError: the sentence quotes both sides and the repair that would join them.
    """
    known, side = items["item_id"], "the ratings" if rated else "the preferences"
    refuse_unjoined(known, scores["item_id"], "scored items", "item_id", side, name)
    dimensions = pd.Series(ratings["dimension"].unique(), dtype="str")
    for judge, rows in scores.groupby("judge", sort=True):
        refuse_unjoined(known, rows["item_id"], f"items of evaluator '{judge}'", "item_id", side, name)
        named = pd.Series(rows["dimension"].unique(), dtype="str")
        if rated and not (named == "").any():
            refuse_unjoined(dimensions, named, f"dimensions of evaluator '{judge}'", "dimension", "the ratings", name)


def _coverage(items: pd.DataFrame, scores: pd.DataFrame) -> list[str]:
    """A note for every judge that scored a part of the items alone."""
    scored = scores[scores["score"].notna() & is_among(scores["item_id"], items["item_id"])]
    counts = scored.groupby("judge")["item_id"].nunique()
    judges = sorted(map(str, scores["judge"].unique()))
    return [
        f"Evaluator '{judge}' has a score for {int(counts.get(judge, 0))} of {len(items)} items."
        for judge in judges
        if counts.get(judge, 0) < len(items)
    ]


def _negative(ratings: pd.DataFrame, scores: pd.DataFrame) -> list[str]:
    """Notes about judges that rank the images against people, who may be ones whose low scores are good."""
    notes = []
    usable = ratings[ratings["score"].notna() & ~ratings["off_scale"]]
    means = {str(name): rows.groupby("item_id")["score"].mean() for name, rows in usable.groupby("dimension")}
    rated_dimensions = set(means)
    for (judge, dimension), rows in scores[scores["score"].notna()].groupby(["judge", "dimension"], sort=True):
        per_item = rows.groupby("item_id")["score"].mean() * (1 if bool(rows["higher_is_better"].iloc[0]) else -1)
        for rated in sorted(rated_dimensions) if dimension == "" else sorted(rated_dimensions & {str(dimension)}):
            gold = means[rated]
            both = pd.concat([per_item, gold], axis=1, join="inner")
            both.columns = pd.Index(["judge", "people"])
            if len(both) < NEGATIVE_ITEMS or (both.nunique() < 2).any():
                continue
            correlation = float(both["judge"].rank().corr(both["people"].rank()))
            if correlation <= NEGATIVE:
                notes.append(
                    f"Evaluator '{judge}' ranks images against people on '{rated}' ({correlation:.2f}); if its low scores are good, say "
                    f"--lower-is-better '{judge}'."
                )
    return notes


def parse_scale(text: str) -> tuple[float, float]:
    """The lowest and highest rating from ``MIN:MAX``.

    Raises:
        T2IEvalError: the text is not two finite numbers in rising order.
    """
    low, colon, high = text.partition(":")
    try:
        limits = float(low), float(high)
    except ValueError:
        limits = math.nan, math.nan
    if not colon or not limits[0] < limits[1] or not math.isfinite(limits[1] - limits[0]):
        raise T2IEvalError(f"'{text}' is not a rating scale; write MIN:MAX, for example 1:5.")
    return limits


def _items(rated: pd.DataFrame, name: str) -> pd.DataFrame:
    images = rated[["item_id", "prompt_id", "generator"]].drop_duplicates()
    if (images == "").any(axis=None):
        raise T2IEvalError(f"{name} has a row without item_id, prompt_id or generator; fill it in or remove the row.")
    twice = images[images["item_id"].duplicated()]
    if len(twice):
        raise T2IEvalError(
            f"{name} gives item '{twice['item_id'].iloc[0]}' more than one prompt or generator; an item is one image."
        )
    attributes = pd.Series(None, index=images.index, dtype="object")
    if "skill" in rated:
        skills: dict[str, set[str]] = {}
        for item, named in (
            rated.loc[rated["skill"] != "", ["item_id", "skill"]].drop_duplicates().itertuples(index=False)
        ):
            skills.setdefault(item, set()).update(name.strip() for name in named.split(";") if name.strip())
        attributes = images["item_id"].map(
            {item: json.dumps({"skills": sorted(named)}) for item, named in skills.items() if named}
        )
    return schema.ITEMS.check(
        images.assign(benchmark="files", prompt=images["prompt_id"], image=None, attributes=attributes)
    )


def _items_of_pairs(preferences: pd.DataFrame) -> pd.DataFrame:
    """The items that preferences are about, where nothing else names them."""
    sides = [
        preferences[["prompt_id", side]].set_axis(["prompt_id", "item_id"], axis=1) for side in ("item_a", "item_b")
    ]
    pairs = pd.concat(sides).drop_duplicates()
    twice = pairs[pairs["item_id"].duplicated()]
    if len(twice):
        raise T2IEvalError(
            f"Item '{twice['item_id'].iloc[0]}' has more than one prompt in the preferences; an item is one image."
        )
    prompts = pairs["prompt_id"].where(pairs["prompt_id"] != "", pairs["item_id"])
    return schema.ITEMS.check(
        pairs.assign(
            prompt_id=prompts, prompt=prompts, benchmark="files", generator="unknown", image=None, attributes=None
        )
    )
