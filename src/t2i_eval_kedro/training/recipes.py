"""Which examples a student is trained on: the recipes of the papers, one option each (docs/recipes.md)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd

from t2i_eval_kedro import schema
from t2i_eval_kedro.benchmarks.splits import TRAINING_FOLDS
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.evaluators import evaluation_items
from t2i_eval_kedro.judging.evidence import EvidenceSource
from t2i_eval_kedro.judging.protocols import Wording
from t2i_eval_kedro.judging.protocols.registry import ProtocolOptions
from t2i_eval_kedro.steps import OVERALL
from t2i_eval_kedro.teacher.text_only import MIX, mixed_items
from t2i_eval_kedro.training.critiques import critiques, reasoning_examples
from t2i_eval_kedro.training.examples import (
    as_published,
    direct_examples,
    examples_from_conversations,
    examples_from_elements,
    examples_from_options,
    examples_from_scores,
    examples_from_transcripts,
    means_on_ten,
    require_training_fold,
)
from t2i_eval_kedro.training.rehearsal import rehearsal_examples
from t2i_eval_kedro.training.settings import STEPS, ExampleSettings, Task

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sources:
    """The canonical tables that examples are made from; ``transcripts``, ``about_text`` and ``scores`` are the teacher's, or empty."""

    items: pd.DataFrame
    splits: pd.DataFrame
    ratings: pd.DataFrame
    elements: pd.DataFrame
    element_ratings: pd.DataFrame
    transcripts: pd.DataFrame
    about_text: pd.DataFrame
    scores: pd.DataFrame


def build_examples(
    tables: Sources,
    phrases: Mapping[str, str],
    options: ProtocolOptions,
    wording: Wording,
    settings: ExampleSettings,
    evidence: EvidenceSource | None = None,
) -> pd.DataFrame:
    """The table ``schema.EXAMPLES`` for the tasks of ``settings``.

    Args:
        tables: canonical tables of one benchmark.
        phrases: the rated dimensions: name -> the phrase that a judge is asked with.
        options: what protocols leave to the settings; the student is asked by the same.
        wording: the words of the requests.
        settings: the recipe.
        evidence: where evidence comes from, where the options ask for some.

    Raises:
        T2IEvalError: a generator that is not there is left out, soft labels have no spread to be made from, or a task gives
            no training example.
    """
    folds, levels = _folds(tables, settings), options.levels(wording)
    means = means_on_ten(_rated_again(tables, settings))
    from_people = settings.scores == "people" or settings.soft is not None or tables.scores.empty
    given = means if from_people else tables.scores
    if settings.second_round is not None and not from_people:
        raise T2IEvalError(
            "examples.second_round changes people's ratings, and scores are taught from the teacher's; set examples.scores=people, or "
            "examples.second_round=null."
        )
    taught = _perturbed(given, settings)
    if settings.soft is not None:
        taught = _softened(taught, len(levels.vocabulary.levels), settings.soft)
    stages: dict[str, Any] = {"text_stages": options.text_stages}
    if evidence is not None and set(settings.tasks) & {"subtasks", "published_subtasks"}:
        learned = tables.items[tables.items["item_id"].map(folds).isin(TRAINING_FOLDS)]
        stages["evidence"] = {item.item_id: item.evidence for item in evidence.add(evaluation_items(learned, phrases))}
    made: dict[Task, pd.DataFrame] = {}
    for task in settings.tasks:
        match task:
            case "subtasks":
                steps, fold_of = tables.transcripts, folds
                if settings.text_only:
                    steps = pd.concat([steps, tables.about_text], ignore_index=True)
                    fold_of = _text_folds(tables.about_text, folds) | folds
                made[task] = examples_from_transcripts(steps, fold_of, wording, **stages)
            case "published_subtasks":
                made[task] = as_published(examples_from_transcripts(tables.transcripts, folds, wording, **stages))
            case "conversation":
                made[task] = examples_from_conversations(tables.transcripts, tables.items, folds, wording)
            case "direct":
                made[task] = direct_examples(given, tables.items, folds, phrases, wording)
            case "score":
                made[task] = examples_from_scores(taught, tables.items, folds, phrases, levels, tables.elements)
            case "elements" | "negative_elements":
                label_tables = (tables.elements, tables.element_ratings, tables.items, folds, wording)
                made[task] = examples_from_elements(*label_tables, negative=task == "negative_elements")
            case "reason" | "reason_aspects" | "reason_pair":
                thoughts = critiques(tables.transcripts, wording)
                made[task] = reasoning_examples(task, given, tables.items, folds, phrases, wording, thoughts)
            case "skills":
                made[task] = examples_from_options(tables.elements, tables.ratings, tables.items, folds, wording)
    if tables.transcripts.empty and set(settings.tasks) <= set(STEPS):
        raise T2IEvalError(
            f"Nothing can be taught: {', '.join(settings.tasks)} (examples.tasks) are made of a teacher's steps, and no teacher was "
            "asked; set teacher.kind=openai or recorded, or add 'score', which people's ratings teach."
        )
    rehearsed = rehearsal_examples(settings.rehearsal, tables.items, folds, seed=settings.seed)
    examples = schema.EXAMPLES.check(pd.concat([*made.values(), rehearsed], ignore_index=True))
    require_training_fold(examples)
    for task in made:
        if not (made[task]["fold"] == "train").any():
            _refuse_empty(task, tables)
    return _weighted(examples, tables.items, given) if settings.variance_weight else examples


def _rated_again(tables: Sources, settings: ExampleSettings) -> pd.DataFrame:
    """People's ratings, after a simulated second round where the recipe asks for one."""
    if settings.second_round is None:
        return tables.ratings
    from t2i_eval_kedro.shapes.second_round import second_round  # real benchmarks have no use for it

    return second_round(tables.items, tables.ratings, settings.second_round)


def _refuse_empty(task: Task, tables: Sources) -> None:
    """What is made of a teacher's steps may be empty where no teacher was asked; anything else that was asked for must be there."""
    if task in STEPS and tables.transcripts.empty:
        log.warning("No teacher was asked for steps, so '%s' (examples.tasks) is not taught.", task)
        return
    source = "the teacher's answers" if task in STEPS else "people's ratings"
    raise T2IEvalError(
        f"The task '{task}' (examples.tasks) has no training example: {source} hold nothing for it in the training fold; "
        "leave it out or choose another benchmark."
    )


def _folds(tables: Sources, settings: ExampleSettings) -> dict[str, str]:
    """The fold of each item that may be trained or validated on."""
    unknown = sorted(set(settings.leave_out) - set(tables.items["generator"]))
    if unknown:
        known = ", ".join(sorted(set(tables.items["generator"])))
        raise T2IEvalError(
            f"There is no generator '{unknown[0]}' to leave out (examples.leave_out); there are {known}."
        )
    kept = tables.items[~tables.items["generator"].isin(settings.leave_out)]
    kept = kept.merge(tables.splits[["item_id", "fold"]], on="item_id")
    training = kept["fold"] == "train"
    # By prompt text, as the split is; each prompt has a place of its own between 0 and 1, so smaller fractions are nested.
    prompts = sorted(
        set(kept.loc[training, "prompt"]), key=lambda text: (crc32(f"{settings.seed}:{text}".encode()), text)
    )
    used = set(prompts[: max(1, round(settings.prompt_fraction * len(prompts)))])
    kept = kept[~training | kept["prompt"].isin(used)]
    return dict(zip(kept["item_id"], kept["fold"], strict=True))


def _text_folds(about_text: pd.DataFrame, folds: Mapping[str, str]) -> dict[str, str]:
    """The fold ``train`` for each further prompt, and for each mixture of two items that are trained on."""
    training = {item for item, fold in folds.items() if fold == "train"}
    return {
        item: "train"
        for item in about_text["item_id"].unique()
        if MIX not in item or mixed_items(item, training) is not None
    }


def _perturbed(scores: pd.DataFrame, settings: ExampleSettings) -> pd.DataFrame:
    """``scores`` with Gaussian noise, kept within 0 to 10: iMatch's score perturbation; its size is ours."""
    if not settings.perturbation:
        return scores
    noise = np.random.default_rng(settings.seed).normal(0, settings.perturbation, len(scores))
    return scores.assign(score=(scores["score"] + noise).clip(0, 10))


def _softened(means: pd.DataFrame, levels: int, form: str) -> pd.DataFrame:
    """``means`` with the column ``soft_label``: probabilities of the levels, from the worst to the best."""
    from t2i_eval_kedro.training import soft_labels  # scipy is slow to import

    if means["std"].isna().any():
        item, dimension = means.loc[means["std"].isna(), ["item_id", "dimension"]].iloc[0]
        raise T2IEvalError(
            f"Soft labels (examples.soft) need several ratings or a published spread; item '{item}' has one rating of "
            f"'{dimension}'."
        )
    step = (levels - 1) / 10
    soft_label = {"published": soft_labels.published, "corrected": soft_labels.corrected}[form]
    softened = [
        soft_label(1 + step * mean, step * std, levels) for mean, std in zip(means["score"], means["std"], strict=True)
    ]
    return means.assign(soft_label=[label / label.sum() for label in softened])


def _weighted(examples: pd.DataFrame, items: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """Examples weighted by the variance of the scores of their prompt's images.

    EvalMuse states that prompts with a larger variance weigh more; its formula is not public and its released loss does not
    use it. Ours: (1 + v / mean v) / 2, where v is the sample variance of a prompt's overall scores and the mean is over
    prompts, so weights lie above one half and are 1 on average; 1 where a prompt has a single image, and for examples
    of further prompts, which have none.
    """
    dimension = OVERALL if (scores["dimension"] == OVERALL).any() else scores["dimension"].iloc[0]
    rated = scores[scores["dimension"] == dimension].merge(items[["item_id", "prompt"]], on="item_id")
    variance = rated.groupby("prompt")["score"].var(ddof=1)
    mean = variance[variance.index.isin(items.loc[items["item_id"].isin(examples["item_id"]), "prompt"])].mean()
    weight = ((1 + variance / mean) / 2).fillna(1.0) if mean > 0 else variance * 0 + 1
    by_item = items.set_index("item_id")["prompt"].map(weight)
    return examples.assign(weight=examples["item_id"].map(by_item).fillna(1.0).to_numpy(dtype=float))
