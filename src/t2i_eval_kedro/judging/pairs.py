"""Two images of one prompt, compared: by a judge that sees both, in both orders, or by the scores that it gives to each."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import pandas as pd

from t2i_eval_kedro import schema
from t2i_eval_kedro.judging.backends.base import Backend
from t2i_eval_kedro.judging.engine import judge
from t2i_eval_kedro.judging.evidence import EvidenceSource, add_evidence
from t2i_eval_kedro.judging.protocols import Answer, EvaluationItem, Protocol
from t2i_eval_kedro.judging.protocols.reasoning import PairRule, Pairwise, Preference, preference

log = logging.getLogger(__name__)


def compare(
    pairs: Sequence[EvaluationItem],
    protocol: Protocol,
    backend: Backend,
    rule: PairRule,
    *,
    name: str,
    evidence: EvidenceSource | None = None,
    run: int = 0,
    chunk_size: int | None = None,
    max_out_of_vocabulary: float = 1.0,
) -> tuple[list[dict[str, Preference]], pd.DataFrame]:
    """Which image of each pair is better, by dimension.

    A protocol for pairs sees both images, in both orders. By any other each image is scored alone, once however many pairs it is
    in, and the difference of the scores decides; its order consistency is then not applicable (None).

    Args:
        pairs: the first image of each, with the second as ``comparison_image``; every ``item_id`` is another.
        protocol: how the judge is asked.
        backend: who answers.
        rule: what a difference of scores means; a protocol for pairs brings its own.
        name: the judge's name.
        evidence: where evidence comes from, for a protocol that scores each image alone and is asked with some.
        run: number of the repetition.
        chunk_size: items that go through their rounds together.
        max_out_of_vocabulary: see :func:`t2i_eval_kedro.judging.engine.judge`.

    Returns:
        For each pair the preference of each dimension, and the transcripts.
    """
    ask = partial(
        judge,
        protocol=protocol,
        backend=backend,
        name=name,
        run=run,
        chunk_size=chunk_size,
        max_out_of_vocabulary=max_out_of_vocabulary,
    )
    if isinstance(protocol, Pairwise):
        judgement = ask(pairs)
        answers: dict[str, dict[str, Answer]] = {pair.item_id: {} for pair in pairs}
        for row in judgement.transcripts.itertuples():
            answers[str(row.item_id)][str(row.step)] = Answer(str(row.answer), str(row.status))
        preferences = [
            {dimension: protocol.preference(dimension, answers[pair.item_id]) for dimension in pair.dimensions}
            for pair in pairs
        ]
        consistent = [
            one.consistent for by_name in preferences for one in by_name.values() if one.consistent is not None
        ]
        if consistent:
            share = sum(consistent) / len(consistent)
            log.info("%s: both orders agree on %.1f%% of %d comparisons.", name, 100 * share, len(consistent))
        return preferences, judgement.transcripts
    images = {(pair.prompt, image): "" for pair in pairs for image in (pair.image, pair.comparison_image)}
    first = {(pair.prompt, pair.image): pair for pair in reversed(pairs)} | {
        (pair.prompt, pair.comparison_image): pair for pair in reversed(pairs)
    }
    singles = [
        replace(first[prompt, image], item_id=str(i), image=image, comparison_image="")
        for i, (prompt, image) in enumerate(images)
    ]
    judgement = ask(add_evidence(singles, protocol, evidence))
    ids = {key: str(i) for i, key in enumerate(images)}
    scores = {(str(row.item_id), str(row.dimension)): row for row in judgement.scores.itertuples()}
    dimensions = list(dict.fromkeys(judgement.scores["dimension"]))
    return [
        {
            dimension: _by_scores(
                [scores[ids[pair.prompt, image], dimension] for image in (pair.image, pair.comparison_image)], rule
            )
            for dimension in dimensions
        }
        for pair in pairs
    ], judgement.transcripts


def _by_scores(rows: Sequence[object], rule: PairRule) -> Preference:
    """The preference that two scores say; without one of them, there is none, for its reason."""
    for row in rows:
        if row.status != schema.OK:  # type: ignore[attr-defined]
            return Preference(None, None, None, None, None, row.status, (str(row.explanation),))  # type: ignore[attr-defined]
    a, b = (float(row.score) for row in rows)  # type: ignore[attr-defined]
    thoughts = tuple(row.explanation for row in rows if isinstance(row.explanation, str))  # type: ignore[attr-defined]
    return preference([(a, b)], rule, thoughts)


def judge_pairs(
    pairs: pd.DataFrame,
    items: pd.DataFrame,
    backend: Backend,
    protocol: Protocol,
    rule: PairRule,
    phrases: Mapping[str, str],
    dimension: str,
    *,
    name: str,
    chunk_size: int | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Let one backend compare the images of ``pairs``.

    Args:
        pairs: columns prompt_id, item_a, item_b; both items have an image.
        items: canonical table.
        backend: who answers.
        protocol: how it is asked.
        rule: what a difference of scores means.
        phrases: what it is asked for: name -> phrase.
        dimension: the one of them whose preference is taken.
        name: the judge's name.
        chunk_size: pairs that are asked together.

    Returns:
        The canonical tables ``preference_scores`` (label, margin = score of a minus score of b, probability that a is better, whether
        both orders agree) and ``transcripts``; an item of a protocol for pairs is called ``<item_a>|<item_b>`` in the second.
    """
    by_id = {str(row.item_id): row for row in items.itertuples()}
    unique = pairs.drop_duplicates(["prompt_id", "item_a", "item_b"])
    compared = [
        EvaluationItem(
            f"{a}|{b}",
            str(by_id[a].prompt),
            str(by_id[a].image),
            dict(phrases),
            comparison_image=str(by_id[b].image),
        )
        for a, b in zip(unique["item_a"], unique["item_b"], strict=True)
    ]
    preferences, transcripts = compare(compared, protocol, backend, rule, name=name, chunk_size=chunk_size)
    rows = []
    for row, by_name in zip(unique.itertuples(), preferences, strict=True):
        one = by_name[dimension]
        rows.append(
            {
                "prompt_id": row.prompt_id,
                "item_a": row.item_a,
                "item_b": row.item_b,
                "judge": name,
                "protocol": protocol.name,
                "run": 0,
                "label": one.label,
                "margin": one.margin,
                "probability": one.probability,
                "consistent": None if one.consistent is None else float(one.consistent),
                "status": one.status,
            }
        )
    return schema.PREFERENCE_SCORES.frame(rows), transcripts
