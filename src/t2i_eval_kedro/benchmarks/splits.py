"""Splits of a benchmark's items: by prompt, so that no prompt is in two folds, and by generator.

Prompts are the same when their texts are the same after Unicode normalisation, case folding and the removal of repeated
blanks and outer punctuation, under whatever identifier they stand. All texts of one prompt identifier stay together, and so do texts that
differ in articles, accents, punctuation or invisible characters alone.
"""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Mapping, Sequence

import pandas as pd

from t2i_eval_kedro import schema
from t2i_eval_kedro.errors import T2IEvalError

FRACTIONS: Mapping[str, float] = {"train": 0.7, "validation": 0.1, "test": 0.2}
BY_PROMPT, BY_GENERATOR = "prompt", "generator"
UNUSED = "unused"
ARTICLES = frozenset({"a", "an", "the"})
VALIDATION = "validation"
TRAINING_FOLDS = ("train", VALIDATION)
"""What a student learns from and is stopped by; every other fold is not shown to it."""


def normalised(prompt: str) -> str:
    """The form of ``prompt`` under which prompts are compared."""
    text = " ".join(unicodedata.normalize("NFKC", prompt).casefold().split())
    return text.strip(" .,;:!?\"'") or text


def near_form(prompt: str) -> str:
    """The form under which prompts that differ in articles, accents, punctuation, hyphens or invisible characters are one."""
    text = unicodedata.normalize("NFKD", prompt.replace("\u2019", "'")).casefold()
    text = "".join(c for c in text if not unicodedata.combining(c) and unicodedata.category(c) != "Cf")
    text = "".join(c if c.isalnum() else "" if c == "'" else " " for c in text)
    return " ".join(word for word in text.split() if word not in ARTICLES) or normalised(prompt)


def prompt_groups(items: pd.DataFrame) -> pd.Series:
    """For each row of ``items`` its group of prompts, named by the first of its normalised texts in order.

    A group holds all texts of one identifier and all texts of one :func:`near_form`, so that no fold sees another's prompt
    with a comma more.
    """
    texts = items["prompt"].map(normalised)
    parent: dict[str, str] = {text: text for text in texts}

    def root(text: str) -> str:
        while parent[text] != text:
            parent[text] = parent[parent[text]]
            text = parent[text]
        return text

    first: dict[tuple[str, str], str] = {}
    forms = dict(zip(texts, items["prompt"].map(near_form), strict=True))
    for prompt_id, text in zip(items["prompt_id"], texts, strict=True):
        for key in (("id", prompt_id), ("form", forms[text])):
            a, b = sorted((root(text), root(first.setdefault(key, text))))
            parent[b] = a
    return texts.map(root)


def split_by_prompt(
    items: pd.DataFrame, fractions: Mapping[str, float] = FRACTIONS, seed: int = 0, name: str = BY_PROMPT
) -> pd.DataFrame:
    """Put every item in a fold, all items of one prompt in the same.

    Args:
        items: the items table.
        fractions: share of the prompts for each fold; they sum to 1. A fold with share 0 stays empty, any other gets
            at least one prompt.
        seed: the same seed gives the same split on every machine, whatever the order of the items.
        name: name of the split.

    Returns:
        The splits table.

    Raises:
        T2IEvalError: the fractions are not shares of a whole, or there are fewer prompts than folds.
    """
    groups = prompt_groups(items)
    fold_of = _deal(sorted(set(groups)), fractions, seed)
    return schema.SPLITS.check(
        pd.DataFrame({"item_id": items["item_id"], "split_name": name, "fold": groups.map(fold_of)})
    )


def leave_generators_out(
    items: pd.DataFrame,
    left_out: Sequence[str],
    fractions: Mapping[str, float] = FRACTIONS,
    seed: int = 0,
    name: str = BY_GENERATOR,
) -> pd.DataFrame:
    """Train on some generators and test on the others, with prompts that are not shared either.

    Prompts are dealt as by :func:`split_by_prompt`; in the fold ``test`` only the items of ``left_out`` generators
    count, in the other folds only the items of the rest. What counts nowhere has the fold ``unused``.

    Raises:
        T2IEvalError: a generator made no item, none is left to train on, or a fold with a share would be empty.
    """
    known = set(items["generator"])
    strange = [generator for generator in left_out if generator not in known]
    if strange or not left_out or known <= set(left_out):
        raise T2IEvalError(
            f"Generators to leave out must be some, not all, of {', '.join(sorted(known))}; "
            f"got {', '.join(left_out) or 'none'}."
        )
    splits = split_by_prompt(items, fractions, seed, name)
    held_out = items["generator"].isin(list(left_out)).reset_index(drop=True)
    counts = held_out == (splits["fold"] == "test")
    splits["fold"] = splits["fold"].where(counts, UNUSED)
    empty = [fold for fold, share in fractions.items() if share > 0 and fold not in set(splits["fold"])]
    if empty:
        raise T2IEvalError(
            f"Leaving out {', '.join(left_out)} leaves no item in fold '{empty[0]}'; change the fractions or the seed."
        )
    return schema.SPLITS.check(splits)


def only_tested(splits: pd.DataFrame, items: pd.DataFrame, generators: Sequence[str]) -> pd.DataFrame:
    """``splits`` of ``items`` in which the items of ``generators`` count in the fold ``test`` alone.

    Raises:
        T2IEvalError: one of the ``generators`` made no item.
    """
    known = set(items["generator"])
    strange = [generator for generator in generators if generator not in known]
    if strange:
        raise T2IEvalError(
            f"There is no generator '{strange[0]}' to hold out of training; there are {', '.join(sorted(known))}."
        )
    held_out = set(items.loc[items["generator"].isin(list(generators)), "item_id"])
    counts = ~splits["item_id"].isin(held_out) | (splits["fold"] == "test")
    return schema.SPLITS.check(splits.assign(fold=splits["fold"].where(counts, UNUSED)))


def with_unused(splits: pd.DataFrame, item_ids: pd.Series) -> pd.DataFrame:
    """``splits`` and a row for each of ``item_ids``, which count in no fold of any split in it."""
    rest = [
        pd.DataFrame({"item_id": item_ids, "split_name": name, "fold": UNUSED})
        for name in splits["split_name"].unique()
    ]
    return schema.SPLITS.check(pd.concat([splits, *rest], ignore_index=True))


def in_use(items: pd.DataFrame, splits: pd.DataFrame) -> pd.DataFrame:
    """The ``items`` that count in some fold of ``splits``; nobody needs to be asked about the others."""
    counting = splits.loc[splits["fold"] != UNUSED, "item_id"]
    return schema.ITEMS.check(items[items["item_id"].isin(set(counting))])


def training_items(splits: pd.DataFrame) -> frozenset[str]:
    """The ids of the items that a student is trained on."""
    return frozenset(splits.loc[splits["fold"] == "train", "item_id"])


def _deal(groups: list[str], fractions: Mapping[str, float], seed: int) -> dict[str, str]:
    """Deal shuffled ``groups`` to folds: largest remainders, at least one for each fold that has a share."""
    if any(share < 0 for share in fractions.values()) or abs(sum(fractions.values()) - 1) > 1e-6:
        raise T2IEvalError(f"The fractions of a split must be shares of 1; got {dict(fractions)}.")
    folds = [fold for fold, share in fractions.items() if share > 0]
    if len(groups) < len(folds):
        raise T2IEvalError(
            f"{len(groups)} prompts cannot be split into {len(folds)} folds; use fewer folds or more prompts."
        )
    exact = {fold: fractions[fold] * len(groups) for fold in folds}
    count = {fold: max(1, int(exact[fold])) for fold in folds}
    while sum(count.values()) != len(groups):
        step = 1 if sum(count.values()) < len(groups) else -1
        movable = [fold for fold in folds if step > 0 or count[fold] > 1]
        count[max(movable, key=lambda fold: step * (exact[fold] - count[fold]))] += step
    random.Random(seed).shuffle(groups)
    names = [fold for fold in folds for _ in range(count[fold])]
    return dict(zip(groups, names, strict=True))
