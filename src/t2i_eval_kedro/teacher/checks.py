"""Is the teacher worth learning from? Checks of its transcripts, before a student is trained on them.

Every check is a table of counts or figures; nothing is changed or thrown away. Thresholds are ours.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from t2i_eval_kedro import schema
from t2i_eval_kedro.agreement.rated_items import build
from t2i_eval_kedro.benchmarks.checks import check_examples, quotes_score
from t2i_eval_kedro.judging.backends.base import MALFORMED, REFUSED, TRUNCATED
from t2i_eval_kedro.judging.chain import Chains, Record, stages
from t2i_eval_kedro.judging.protocols import Answer, Wording
from t2i_eval_kedro.judging.protocols.parsing import parse_questions, parse_score
from t2i_eval_kedro.statistics.bootstrap import percentile_interval, resample_counts, with_sample
from t2i_eval_kedro.statistics.pooled import Weights, pooled_statistics
from t2i_eval_kedro.steps import ASPECTS, EXPLAIN, EXTRACT, OVERALL, SCORE, is_score_task, summary_step

LOW, HIGH = 10 / 3, 20 / 3
"""A score in the lowest third says no, one in the highest third says yes."""
DRAWS = 500
ROUNDING = 1.0
"""How far, of 10, a summary may lie outside the scores that it sums up: about one level."""


def check_teacher(
    items: pd.DataFrame,
    ratings: pd.DataFrame,
    elements: pd.DataFrame,
    element_ratings: pd.DataFrame,
    transcripts: pd.DataFrame,
    scores: pd.DataFrame,
    examples: pd.DataFrame,
    wording: Wording,
) -> dict[str, list[Record]]:
    """Every check of a teacher that gave steps; see the functions for what each table holds."""
    chains = Chains(transcripts, wording)
    return {
        "agreement_with_people": agreement_with_people(items, ratings, scores),
        "answers": answers_by_task(transcripts, wording),
        "contradictions": contradictions(chains),
        "leakage": leakage(transcripts, examples),
        "agreement_of_runs": agreement_of_runs(scores),
        "stages": stages(chains, items, ratings, elements, element_ratings),
    }


def agreement_with_people(items: pd.DataFrame, ratings: pd.DataFrame, scores: pd.DataFrame) -> list[Record]:
    """By aspect: Spearman with people's mean ratings over all items, with a 95% interval over prompts."""
    rows: list[Record] = []
    for dimension, sample in build(items, ratings, scores).items():
        for given in sample.scores.values():
            used = np.isfinite(given)
            if used.sum() > 2:
                weights = Weights(with_sample(resample_counts(sample.prompts, DRAWS, 0)))
                drawn = pooled_statistics(given[used], sample.gold[used], sample.prompt[used], weights, ("spearman",))
                low, high = percentile_interval(drawn["spearman"][1:], 0.95, len(np.unique(sample.prompt[used])))
                figures = [_figure(value) for value in (drawn["spearman"][0], low, high)]
                rows.append(
                    {"aspect": dimension, "items": int(used.sum())}
                    | dict(zip(("spearman", "low", "high"), figures, strict=True))
                )
    return rows


def answers_by_task(transcripts: pd.DataFrame, wording: Wording) -> list[Record]:
    """By task: how many were asked, and the share that was readable, unparsed, refused, truncated, malformed or not given."""
    rows: list[Record] = []
    for task, some in transcripts.groupby("task", sort=True):
        kinds = [
            _kind(str(task), str(answer), str(status), wording)
            for answer, status in zip(some["answer"], some["status"], strict=True)
        ]
        names = ("readable", schema.UNPARSED, REFUSED, TRUNCATED, MALFORMED, "not given")
        rows.append({"task": task, "asked": len(kinds)} | {name: kinds.count(name) / len(kinds) for name in names})
    return rows


def _kind(task: str, answer: str, status: str, wording: Wording) -> str:
    if status != schema.OK:
        return next((kind for kind in (REFUSED, TRUNCATED, MALFORMED) if answer.startswith(kind)), "not given")
    if task == EXTRACT:
        return "readable" if parse_questions(answer) else schema.UNPARSED
    if is_score_task(task):
        return schema.UNPARSED if parse_score(Answer(answer), wording).status == schema.UNPARSED else "readable"
    return "readable"


def contradictions(chains: Chains) -> list[Record]:
    """Answers that speak against the score that the teacher itself gave next."""
    plain = [step for step in chains.questions if step.judgement is not None and step.score is not None]
    against = sum((step.score or 0) >= HIGH if step.judgement is False else (step.score or 0) <= LOW for step in plain)
    outside = {
        "a summary lies outside the scores that it sums up": [0, 0],
        "the overall score lies outside the aspects'": [0, 0],
    }
    by_item: dict[tuple[str, str], list[float]] = {}
    for step in chains.questions:
        if step.score is not None:
            by_item.setdefault((step.item_id, step.question.aspect), []).append(step.score)
    for item in chains.answers:
        aspects = [chains.score(item, summary_step(aspect, SCORE)) for aspect in ASPECTS]
        known = [score for score in aspects if score is not None]
        pairs = [(by_item.get((item, aspect), []), score) for aspect, score in zip(ASPECTS, aspects, strict=True)]
        for counts, checked in zip(
            outside.values(), (pairs, [(known, chains.score(item, summary_step(OVERALL, SCORE)))]), strict=True
        ):
            for parts, score in checked:
                if parts and score is not None:
                    counts[0] += 1
                    counts[1] += not min(parts) - ROUNDING <= score <= max(parts) + ROUNDING
    counts_of = {"the answer says no and the score yes, or the reverse": [len(plain), against], **outside}
    return [{"what": what, "checked": checked, "found": count} for what, (checked, count) in counts_of.items()]


def leakage(transcripts: pd.DataFrame, examples: pd.DataFrame) -> list[Record]:
    """Explanations that state the score which is asked for next, and examples whose request therefore holds its answer."""
    first = transcripts[(transcripts["run"] == 0) & (transcripts["status"] == schema.OK)]
    stages = first["step"].str.rpartition("/")[2]
    explained = first[stages == EXPLAIN].set_index("question_id")["answer"]
    scored = pd.to_numeric(first[stages == SCORE].set_index("question_id")["answer"], errors="coerce").dropna()
    pairs = pd.concat({"text": explained, "score": scored}, axis=1, join="inner")
    stating = sum(quotes_score(text, score) for text, score in zip(pairs["text"], pairs["score"], strict=True))
    noted = check_examples(examples)
    return [
        {"what": "an explanation states the score", "checked": len(pairs), "found": stating},
        {
            "what": "an example's request states its score",
            "checked": int(examples["score"].notna().sum()),
            "found": int(noted["count"].sum()),
        },
    ]


def agreement_of_runs(scores: pd.DataFrame) -> list[Record]:
    """By aspect: how the second run's scores of the same items differ from the first's; empty after one run."""
    rows: list[Record] = []
    for dimension, some in scores.groupby("dimension", sort=False):
        wide = some.pivot(index="item_id", columns="run", values="score")
        if 1 in wide:
            both = wide[[0, 1]].dropna()
            apart = (both[0] - both[1]).abs()
            rows.append(
                {
                    "aspect": dimension,
                    "items": len(both),
                    "the_same": _figure((apart < 1e-9).mean()),
                    "mean_difference": _figure(apart.mean()),
                    "spearman": _figure(both[0].corr(both[1], method="spearman")),
                }
            )
    return rows


def _figure(value: float) -> float | None:
    """JSON has no NaN."""
    return float(value) if np.isfinite(value) else None
