"""Whether what a judge says about an image is true: the faults that it names, against labels of the prompt's elements.

Rationales are measured and never rewarded, so that a training cannot learn to please the measure. All of it is ours:

* a true fault is an element that most people (or the scene behind a synthetic image) call unsatisfied, and whose parents are satisfied;
  what hangs on a missing object is its fault, once;
* a sentence names an element as a fault where it holds a word of denial and every content word of the element's text; of several
  elements that fit, those count whose words are not all part of another's ("circle is not red" is about the red circle, not about
  whether there is a circle);
* a rationale contradicts its score where it names a fault and the score is at least `PERFECT`, or where it complains about nothing and
  the score is below `POOR` (0 to 10).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from functools import cache

import numpy as np
import pandas as pd

from t2i_eval_kedro.agreement.label_agreement import prompt_weights
from t2i_eval_kedro.schema import OK, evaluator_names
from t2i_eval_kedro.statistics.estimates import Json, bootstrap_estimate
from t2i_eval_kedro.steps import OVERALL

PERFECT, POOR = 9.75, 5.0
DENIALS = frozenset(
    [
        "no",
        "not",
        "none",
        "never",
        "without",
        "missing",
        "misses",
        "lacks",
        "lack",
        "lacking",
        "absent",
        "wrong",
        "incorrect",
        "incorrectly",
        "instead",
        "fails",
        "failed",
        "neither",
        "nor",
        "cannot",
        "unlike",
        "omitted",
        "omits",
    ]
)
"""Words that deny; n't counts, too."""
COMPLAINTS = DENIALS | frozenset(
    [
        "blurry",
        "blurred",
        "blur",
        "hazy",
        "haze",
        "grainy",
        "noisy",
        "noise",
        "distorted",
        "distortion",
        "artifact",
        "artifacts",
        "unclear",
        "unrealistic",
        "poor",
        "bad",
        "broken",
        "deformed",
        "merged",
        "torn",
        "warped",
    ]
)
_FUNCTION_WORDS = frozenset(
    ["a", "an", "the", "is", "are", "of", "in", "on", "at", "to", "it", "its", "with", "and", "there"]
)
_NO_FAULT = re.compile(
    r"\bnothing\b[^.;\n]*\b(?:wrong|missing|incorrect)\b|\bno (?:faults?|problems?|issues?|errors?)\b", re.I
)


def named_faults(text: str, elements: Mapping[str, str]) -> set[str]:
    """The ids of the ``elements`` (id -> text) that a rationale calls unsatisfied.

    Example:
        >>> named_faults("Not red circle, blue. It is clear.", {"c": "circle", "c.color": "red circle", "s": "star"})
        {'c.color'}
        >>> named_faults("No star. The circle is red.", {"c": "circle", "c.color": "red circle", "s": "star"})
        {'s'}
    """
    named: set[str] = set()
    for sentence in re.split(r"[.;\n]", _NO_FAULT.sub("", text)):
        words = _words(sentence)
        if not _denies(sentence, words):
            continue
        fitting = {
            key: content for key, phrase in elements.items() if (content := _content(phrase)) <= words and content
        }
        named |= {key for key, content in fitting.items() if not any(content < other for other in fitting.values())}
    return named


def complains(text: str) -> bool:
    """Whether a rationale finds any fault, of the prompt's elements or of the image's quality.

    Example:
        >>> complains("nothing wrong . it is clear"), complains("it is slightly blurry")
        (False, True)
    """
    plain = _NO_FAULT.sub("", text)
    return bool(_words(plain) & COMPLAINTS) or "n't" in plain


def contradicts(score: float, text: str, named: Set[str]) -> bool:
    """Whether a rationale that names the faults ``named`` and its score, 0 to 10, cannot both be meant."""
    return (score >= PERFECT and bool(named)) or (score < POOR and not complains(text))


def _denies(sentence: str, words: Set[str]) -> bool:
    return bool(words & DENIALS) or "n't" in sentence


@cache
def _words(text: str) -> frozenset[str]:
    return frozenset(_stem(word) for word in re.findall(r"[a-z0-9]+", text.lower()))


@cache
def _content(phrase: str) -> frozenset[str]:
    return _words(phrase) - _FUNCTION_WORDS - DENIALS


def _stem(word: str) -> str:
    """A word without a plural's ending; denials stay as they are."""
    if word in COMPLAINTS or len(word) < 4:
        return word
    return re.sub(r"(?<=[sxz])es$|(?<=ch)es$|(?<=sh)es$|(?<=[^s])s$", "", word)


def true_faults(labels: Mapping[str, bool], parents: Mapping[str, Set[str]]) -> set[str]:
    """The unsatisfied elements whose parents are satisfied, or not labelled.

    Example:
        >>> sorted(true_faults({"c": False, "c.color": False, "s": False}, {"c.color": {"c"}}))
        ['c', 's']
    """
    return {
        key
        for key, satisfied in labels.items()
        if not satisfied and all(labels.get(parent, True) for parent in parents.get(key, ()))
    }


def rationale_quality(
    items: pd.DataFrame,
    elements: pd.DataFrame,
    element_ratings: pd.DataFrame,
    scores: pd.DataFrame,
    resamples: int,
    confidence: float,
    seed: int,
) -> list[Json]:
    """How true the rationales of each evaluator are that gives some.

    Args:
        items: canonical table; which items count.
        elements: canonical table.
        element_ratings: canonical table; an element is satisfied where the mean of its labels is above 0.5, and is left out where
            people are divided.
        scores: canonical table; the explanation of the overall dimension counts, else that of the first that an item has.
        resamples: number of bootstrap resamples of prompts.
        confidence: confidence level of the intervals, such as 0.95.
        seed: random seed of the resamples.

    Returns:
        Records ``{evaluator, items, true_faults, named, named_true, false, contradictions}``: numbers of items and of true faults, the mean
        number of faults that a rationale names, and as estimates with intervals the fraction of true faults that are named, of named
        faults that are none, and of rationales that contradict their score. What hangs on a missing object and is named, too, is not
        counted as false.
    """
    label = element_ratings.groupby(["item_id", "element_id"], as_index=False)["label"].mean().dropna()
    satisfied: dict[str, dict[str, bool]] = {}
    for item, element, value in label[label["label"] != 0.5].itertuples(index=False):
        satisfied.setdefault(str(item), {})[str(element)] = bool(value > 0.5)
    texts: dict[str, dict[str, str]] = {}
    parents: dict[str, dict[str, set[str]]] = {}
    for row in elements.itertuples():
        texts.setdefault(str(row.prompt_id), {})[str(row.element_id)] = str(row.text)
        above = str(row.parents).split(",") if isinstance(row.parents, str) and row.parents else []
        parents.setdefault(str(row.prompt_id), {})[str(row.element_id)] = {one.strip() for one in above}
    prompt_of = dict(zip(items["item_id"], items["prompt_id"], strict=True))
    given = scores[(scores["status"] == OK) & scores["explanation"].notna() & scores["item_id"].isin(list(satisfied))]
    given = given[given["item_id"].isin(list(prompt_of))]
    given = given.assign(first=given["dimension"] != OVERALL).sort_values(["item_id", "first"], kind="stable")
    records: list[Json] = []
    for name, rows in given.groupby(evaluator_names(given), sort=True):
        counted: list[tuple[str, int, int, int, int, int]] = []
        for row in rows.drop_duplicates(["item_id", "run"]).itertuples():
            item, prompt = str(row.item_id), str(prompt_of[row.item_id])
            named = named_faults(str(row.explanation), texts.get(prompt, {}))
            true = true_faults(satisfied[item], parents.get(prompt, {}))
            wrong = {key for key in named if satisfied[item].get(key, True)}
            contradiction = contradicts(float(row.score), str(row.explanation), named)  # type: ignore[arg-type]
            counted.append((item, len(true), len(named & true), len(named), len(wrong), contradiction))
        if not any(row[3] for row in counted):
            continue  # its explanations are no rationales about elements
        row_of, weights = prompt_weights(items, pd.Index([one[0] for one in counted]), resamples, seed)
        numbers = np.array([[*one[1:], 1] for one in counted], dtype=float)
        sums = weights.sums(numbers, row_of)
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = {
                "named_true": sums[:, 1] / sums[:, 0],
                "false": sums[:, 3] / sums[:, 2],
                "contradictions": sums[:, 4] / sums[:, 5],
            }
        records.append(
            {
                "evaluator": str(name),
                "items": len(counted),
                "true_faults": int(numbers[:, 0].sum()),
                "named": float(numbers[:, 2].mean()),
                **{
                    key: bootstrap_estimate(values, confidence, len(set(row_of)), n=len(counted))
                    for key, values in shares.items()
                },
            }
        )
    return records
