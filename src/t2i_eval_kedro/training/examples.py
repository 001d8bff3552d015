"""What a student learns: sub-tasks from a teacher's transcripts, and direct score requests from scores.

Source: T2I-Eval's nine tasks (extract; explanation ``_1`` and score ``_2`` for appearance, attributes, relations and the
summaries, the merge among them). Each request of the protocol with its answer is one example, in the words of the protocol
that the student is asked with later. What is ours: the task ``score``, the same question that the ``levels`` protocol asks,
so that a student also learns to score in one step and bare human scores can be learned from at all.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import pandas as pd

from t2i_eval_kedro import schema
from t2i_eval_kedro.benchmarks.readers.evalalign_skills import SKILLS
from t2i_eval_kedro.benchmarks.splits import TRAINING_FOLDS
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.evaluators import evaluation_items
from t2i_eval_kedro.judging.protocols import Answer, EvaluationItem, Levels, PromptElement, Wording
from t2i_eval_kedro.judging.protocols.base import Request
from t2i_eval_kedro.judging.protocols.conversation import Conversation
from t2i_eval_kedro.judging.protocols.decomposed import TEXT_TASKS, Decomposed
from t2i_eval_kedro.judging.protocols.direct import Direct
from t2i_eval_kedro.judging.protocols.evidence import EVIDENCE_TASKS, StructureEvidence, with_evidence
from t2i_eval_kedro.judging.protocols.parsing import parse_score
from t2i_eval_kedro.judging.protocols.pn_vqa import PnVqa
from t2i_eval_kedro.judging.protocols.skills import Skills
from t2i_eval_kedro.ratings import valid_ratings
from t2i_eval_kedro.steps import ANSWER, CONVERSATION, EXPLAIN, OVERALL, YES_NO, is_score_task


def examples_from_transcripts(
    transcripts: pd.DataFrame,
    folds: Mapping[str, str],
    wording: Wording,
    *,
    text_stages: bool = False,
    evidence: Mapping[str, StructureEvidence] | None = None,
) -> pd.DataFrame:
    """One example a request that was answered and can be read.

    An answer to a score request that holds no score is left out, for a student must not learn to give none; N/A is kept.

    Args:
        transcripts: the teacher's, by the protocol ``decomposed``.
        folds: fold of each item.
        wording: words of the requests.
        text_stages: whether the student is asked the stages that go by earlier findings without the image, whatever the teacher
            was shown.
        evidence: what the student is told about the image of each item before requests about appearance, whatever the teacher was told;
            None for nothing.
    """
    rows = []
    label = Decomposed(wording, text_stages=text_stages, evidence=evidence is not None).label
    answered = transcripts[transcripts["status"] == schema.OK]
    for row in answered.itertuples():
        fold = folds.get(str(row.item_id))
        if fold not in TRAINING_FOLDS:
            continue
        score, messages = None, str(row.messages)
        if text_stages and row.task in TEXT_TASKS:
            messages = json.dumps([{**turn, "images": []} for turn in json.loads(messages)], ensure_ascii=False)
        if evidence is not None and row.task in EVIDENCE_TASKS:
            *history, last = json.loads(messages)
            last["text"] = with_evidence(last["text"], wording, evidence[str(row.item_id)])
            messages = json.dumps([*history, last], ensure_ascii=False)
        if is_score_task(str(row.task)):
            parsed = parse_score(Answer(str(row.answer)), wording, reading="strict")
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
                "messages": messages,
                "completion": row.answer,
                "score": score,
                "question_id": row.question_id,
                "weight": 1.0,
                "prompt_version": label if text_stages or evidence is not None else row.prompt_version,
            }
        )
    examples = schema.EXAMPLES.frame(rows)
    # The images of one prompt share its extraction; one copy is enough.
    return schema.EXAMPLES.check(examples.drop_duplicates(["fold", "task", "messages", "completion"]))


def as_published(examples: pd.DataFrame) -> pd.DataFrame:
    """The nine sub-tasks as T2I-Eval's files have them: an answer and the explanation after it are one chat, and both are learned.

    Source: the released code (ALGORITHMS of T2I-Eval: an explanation carries its answer as history). So a question has two examples,
    the chat and its score, and the size of a bin in rebalancing counts two.
    """
    explained = set(examples.loc[examples["example_id"].str.endswith(f"/{EXPLAIN}"), "question_id"])
    answers = examples["example_id"].str.endswith(f"/{ANSWER}") & examples["question_id"].isin(explained)
    return schema.EXAMPLES.check(
        examples[~answers].assign(messages=examples.loc[~answers, "messages"].map(_history_learned))
    )


def _history_learned(messages: str) -> str:
    """``messages`` with every earlier answer of the chat marked as learned."""
    chat = json.loads(messages)
    if not any(message["role"] == "assistant" for message in chat):
        return messages
    return json.dumps(
        [message | {"learn": True} if message["role"] == "assistant" else message for message in chat],
        ensure_ascii=False,
    )


def examples_from_conversations(
    transcripts: pd.DataFrame, items: pd.DataFrame, folds: Mapping[str, str], wording: Wording
) -> pd.DataFrame:
    """One example an item: its decomposed chain as one chat, as the protocol ``conversation`` asks it.

    Every answer of the chat is learned (``learn`` in its message), not the last alone. Chains with an answer that cannot be
    read are left out.
    """
    images = dict(zip(items["item_id"], items["image"], strict=True))
    chains: dict[str, list[Any]] = {}
    for row in transcripts.itertuples():
        chains.setdefault(str(row.item_id), []).append(row)
    rows = []
    for item, turns in chains.items():
        fold, last = folds.get(item), turns[-1]
        if fold not in TRAINING_FOLDS or last.step != "merge/score" or any(turn.status != schema.OK for turn in turns):
            continue
        score = parse_score(Answer(str(last.answer)), wording, reading="strict")
        if score.status == schema.UNPARSED:
            continue
        first = {turn.question_id: place for place, turn in reversed([*enumerate(turns)])}
        chat: list[dict[str, object]] = []
        for turn in sorted(
            turns, key=lambda turn: first[turn.question_id]
        ):  # one question is finished before the next begins
            asked = json.loads(str(turn.messages))[-1]["text"]
            chat.append({"role": "user", "text": asked, "images": [] if chat else [images[item]]})
            chat.append({"role": "assistant", "text": str(turn.answer), "images": [], "learn": True})
        rows.append(
            {
                "example_id": f"{item}/{CONVERSATION}",
                "item_id": item,
                "fold": fold,
                "task": CONVERSATION,
                "aspect": OVERALL,
                "messages": json.dumps(chat[:-1], ensure_ascii=False),
                "completion": last.answer,
                "score": score.value,
                "question_id": f"{item}/{CONVERSATION}",
                "weight": 1.0,
                "prompt_version": Conversation(wording).label,
            }
        )
    return schema.EXAMPLES.frame(rows)


def direct_examples(
    scores: pd.DataFrame, items: pd.DataFrame, folds: Mapping[str, str], phrases: Mapping[str, str], wording: Wording
) -> pd.DataFrame:
    """One request for all scores of an item and an explanation; ``scores`` and ``phrases`` as of :func:`examples_from_scores`.

    The explanation is that of the overall score (column ``explanation``), where there is one.
    """
    protocol = Direct(wording)
    values: dict[str, dict[str, float]] = {}
    explanations: dict[tuple[str, str], str] = {}
    for row in scores.dropna(subset=["score"]).itertuples():
        item_id, dimension, explanation = str(row.item_id), str(row.dimension), getattr(row, "explanation", None)
        values.setdefault(item_id, {})[dimension] = float(row.score)  # type: ignore[arg-type]
        if isinstance(explanation, str):
            explanations[item_id, dimension] = explanation
    rows = []
    for item in evaluation_items(items, phrases):
        fold, scores_of_item = folds.get(item.item_id), values.get(item.item_id, {})
        if fold not in TRAINING_FOLDS:
            continue
        request = protocol.request(item)
        if request.aspect not in scores_of_item:
            continue  # a student must not learn to leave out the score that it is asked for first
        completion = protocol.answer(item, scores_of_item, explanations.get((item.item_id, request.aspect)))
        rows.append(
            _row(request, fold, completion)
            | {"score": scores_of_item[request.aspect], "prompt_version": protocol.label}
        )
    return schema.EXAMPLES.frame(rows)


def examples_from_scores(
    scores: pd.DataFrame,
    items: pd.DataFrame,
    folds: Mapping[str, str],
    phrases: Mapping[str, str],
    levels: Levels,
    elements: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """One direct score request for each row of ``scores`` (item_id, dimension, score on 0 to 10, or null: left out).

    ``phrases`` maps the dimensions that a judge is asked for to the words it is asked with; others are left out. The
    completion is the level nearest to the score; the column ``score`` keeps the score itself, for a continuous reward. Where
    ``scores`` has a column ``soft_label`` with probabilities of the levels, the first token is taught those. ``elements`` is the
    canonical table, of which ``levels`` may name the categories.
    """
    asked = {item.item_id: item for item in evaluation_items(items, phrases, elements)}
    rows: list[dict[str, object]] = []
    for row in scores.dropna(subset=["score"]).itertuples():
        item_id, dimension, score = str(row.item_id), str(row.dimension), float(row.score)  # type: ignore[arg-type]
        fold, item = folds.get(item_id), asked.get(item_id)
        if fold not in TRAINING_FOLDS or dimension not in phrases or item is None:
            continue
        request = levels.request(item, dimension, phrases[dimension])
        soft = getattr(row, "soft_label", None)
        soft_label = (
            None if soft is None else json.dumps(dict(zip(request.candidate_tokens, map(float, soft), strict=True)))
        )
        rows.append(
            _row(request, fold, levels.vocabulary.level(score))
            | {"score": score, "soft_label": soft_label, "prompt_version": levels.label}
        )
    return schema.EXAMPLES.frame(rows)


def examples_from_elements(
    elements: pd.DataFrame,
    labels: pd.DataFrame,
    items: pd.DataFrame,
    folds: Mapping[str, str],
    wording: Wording,
    *,
    negative: bool = False,
) -> pd.DataFrame:
    """The positive question of ``pn_vqa`` about each element that people labelled, answered as most of them did.

    With ``negative`` it is the negative question and the other answer. An element on which people are evenly split is left out.
    """
    no, yes = wording.vocabulary(YES_NO).levels
    protocol = PnVqa(wording)
    fraction = labels.dropna(subset=["label"]).groupby(["item_id", "element_id"], sort=True)["label"].mean()
    rows = []
    for row, item, fold in _asked(fraction[fraction != 0.5].rename("label"), elements, items, folds):
        element = PromptElement(row.element_id, row.text, row.question, skill=row.skill, expected=row.expected)
        request = protocol.positive_and_negative(item, element)[int(negative)]
        satisfied = (row.label > 0.5) != negative
        rows.append(_row(request, fold, yes if satisfied else no) | {"prompt_version": protocol.label})
    return schema.EXAMPLES.frame(rows)


def examples_from_options(
    elements: pd.DataFrame, ratings: pd.DataFrame, items: pd.DataFrame, folds: Mapping[str, str], wording: Wording
) -> pd.DataFrame:
    """EvalAlign's questions about skills, each answered by the median option of people; of two in the middle the lower (ours)."""
    protocol = Skills(wording)
    valid = valid_ratings(ratings[ratings["dimension"].isin(SKILLS)])
    option = valid.groupby(["item_id", "dimension"], sort=True)["score"].quantile(0.5, interpolation="lower")
    rows = []
    for row, item, fold in _asked(
        option.rename("label").rename_axis(["item_id", "element_id"]), elements, items, folds
    ):
        request = protocol.request(item, SKILLS[row.element_id], row.question)
        rows.append(_row(request, fold, f"{row.label:g}") | {"prompt_version": protocol.label})
    return schema.EXAMPLES.frame(rows)


def _asked(
    labels: pd.Series, elements: pd.DataFrame, items: pd.DataFrame, folds: Mapping[str, str]
) -> Iterator[tuple[Any, EvaluationItem, str]]:
    """For each of ``labels`` (by item and element) that has a question and an image to train on: its row, item and fold."""
    pictured = items.dropna(subset=["image"])[["item_id", "prompt_id", "prompt", "image"]]
    asked = elements.dropna(subset=["question"]).assign(expected=elements["expected"].fillna("yes"))
    for row in (
        labels.reset_index().merge(pictured, on="item_id").merge(asked, on=["prompt_id", "element_id"]).itertuples()
    ):
        fold = folds.get(str(row.item_id))
        if fold in TRAINING_FOLDS:
            yield row, EvaluationItem(str(row.item_id), str(row.prompt), str(row.image)), fold


def _row(request: Request, fold: str, completion: str) -> dict[str, object]:
    """The columns of an example that its request settles."""
    return {
        "example_id": f"{request.item_id}/{request.step}",
        "item_id": request.item_id,
        "fold": fold,
        "task": request.task,
        "aspect": request.aspect,
        "messages": request.messages_json,
        "completion": completion,
        "question_id": request.question_id,
        "weight": 1.0,
    }


def means_on_ten(ratings: pd.DataFrame) -> pd.DataFrame:
    """People's mean and spread on 0 to 10 for each item and dimension: columns item_id, dimension, score, std.

    ``std`` is the population standard deviation over the raters, or the published one where only means are published; null
    where neither is known. Off-scale ratings are left out; the scale of the benchmark is mapped linearly to 0 to 10.
    """
    valid = valid_ratings(ratings)
    fraction = (valid["score"] - valid["scale_min"]) / (valid["scale_max"] - valid["scale_min"])
    step = 10 / (valid["scale_max"] - valid["scale_min"])
    valid = valid.assign(score=10 * fraction, published=valid["std"] * step)
    groups = valid.groupby(["item_id", "dimension"], sort=True)
    means = groups["score"].mean().to_frame()
    means["std"] = groups["score"].std(ddof=0).where(groups.size() > 1, groups["published"].max())
    return means[["score", "std"]].reset_index()


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


def require_protocols(examples: pd.DataFrame, labels: Collection[str]) -> pd.DataFrame:
    """``examples`` as they are, if each was written by one of the protocols that a judge can be asked by now.

    Args:
        examples: the table ``schema.EXAMPLES``; a null ``protocol`` is not checked.
        labels: names, wordings and versions, as protocols give them.

    Raises:
        T2IEvalError: some were written in another wording, scale or version.
    """
    other = sorted(set(examples["prompt_version"].dropna()) - set(labels))
    if other:
        count = int((examples["prompt_version"] == other[0]).sum())
        raise T2IEvalError(
            f"{count} training examples were written with prompt version '{other[0]}', but judging uses "
            f"{', '.join(sorted(labels))}. Rebuild them with --pipelines=teacher_distillation, or restore judging.wording and "
            "judging.options."
        )
    return examples
