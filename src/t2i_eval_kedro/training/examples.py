"""What a student learns: sub-tasks from a teacher's transcripts, and direct score requests from scores.

Source: T2I-Eval's nine tasks (extract; explanation ``_1`` and score ``_2`` for appearance, attributes, relations and the
summaries, the merge among them). Each request of the protocol with its answer is one example, in the words of the protocol
that the student is asked with later. What is ours: the task ``score``, the same question that the ``levels`` protocol asks,
so that a student also learns to score in one step and bare human scores can be learned from at all.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from t2i_eval_kedro import schema
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.protocols import Answer, Levels, Subject, Wording
from t2i_eval_kedro.judging.protocols.parsing import parse_score

TRAINING_FOLDS = ("train", "validation")


def examples_from_transcripts(transcripts: pd.DataFrame, folds: Mapping[str, str], wording: Wording) -> pd.DataFrame:
    """One example a request that was answered and can be read; ``folds`` gives the fold of each item.

    An answer to a score request that holds no score is left out, for a student must not learn to give none; N/A is kept.
    """
    rows = []
    answered = transcripts[transcripts["status"] == schema.OK]
    for row in answered.itertuples():
        fold = folds.get(str(row.item_id))
        if fold not in TRAINING_FOLDS:
            continue
        score = None
        if str(row.task).endswith("_2"):
            parsed = parse_score(Answer(str(row.answer)), wording)
            if parsed.status == schema.UNPARSED:
                continue
            score = parsed.value
        rows.append(
            {
                "example_id": f"{row.item_id}/{row.step}",
                "item_id": row.item_id,
                "fold": fold,
                "task": row.task,
                "aspect": row.aspect,
                "messages": row.messages,
                "completion": row.answer,
                "score": score,
                "pair_id": row.pair_id,
                "weight": 1.0,
            }
        )
    examples = schema.EXAMPLES.frame(rows)
    # The images of one prompt share its extraction; one copy is enough.
    return schema.EXAMPLES.check(examples.drop_duplicates(["fold", "task", "messages", "completion"]))


def examples_from_scores(
    scores: pd.DataFrame, items: pd.DataFrame, folds: Mapping[str, str], phrases: Mapping[str, str], wording: Wording
) -> pd.DataFrame:
    """One direct score request for each row of ``scores`` (item_id, dimension, score on 0 to 10, or null: left out).

    ``phrases`` maps the dimensions that a judge is asked for to the words it is asked with; others are left out. The
    completion is the level nearest to the score; the column ``score`` keeps the score itself, for a continuous reward.
    """
    levels = Levels(wording)
    by_id = {str(row.item_id): row for row in items.dropna(subset=["image"]).itertuples()}
    rows: list[dict[str, object]] = []
    for row in scores.dropna(subset=["score"]).itertuples():
        item_id, dimension, score = str(row.item_id), str(row.dimension), float(row.score)  # type: ignore[arg-type]
        fold = folds.get(item_id)
        item = by_id.get(item_id)
        if fold not in TRAINING_FOLDS or dimension not in phrases or item is None:
            continue
        subject = Subject(item_id, str(item.prompt), str(item.image))
        request = levels.request(subject, dimension, phrases[dimension])
        rows.append(
            {
                "example_id": f"{item_id}/{request.step}",
                "item_id": item_id,
                "fold": fold,
                "task": request.task,
                "aspect": dimension,
                "messages": request.messages_json,
                "completion": levels.scale.level(score),
                "score": score,
                "pair_id": request.pair,
                "weight": 1.0,
            }
        )
    return schema.EXAMPLES.frame(rows)


def mean_ratings(ratings: pd.DataFrame) -> pd.DataFrame:
    """People's mean on 0 to 10 for each item and dimension: columns item_id, dimension, score.

    Off-scale ratings are left out; the scale of the benchmark is mapped linearly to 0 to 10.
    """
    valid = ratings[~ratings["off_scale"].astype(bool)].dropna(subset=["score"])
    share = (valid["score"] - valid["scale_min"]) / (valid["scale_max"] - valid["scale_min"])
    grouped = valid.assign(score=10 * share).groupby(["item_id", "dimension"], sort=True)
    return grouped["score"].mean().to_frame().reset_index()


def require_training_fold(examples: pd.DataFrame) -> pd.DataFrame:
    """``examples`` as they are.

    Raises:
        T2IEvalError: there is no example to train on.
    """
    if not (examples["fold"] == "train").any():
        raise T2IEvalError(
            "There is no training example: the benchmark has no item with both an image and a rating in its training fold; "
            "measure recorded scores with --pipelines=ingestion,meta_evaluation,reporting, or choose a benchmark with images."
        )
    return examples
