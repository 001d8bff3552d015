"""Scores of public challenges and papers, as their organisers compute them and corrected.

Every function has ``mode``: ``as_published`` repeats the released code, its faults included; ``corrected`` is what the
text around it says. The two stand side by side so that a published figure can be checked and a right one be had.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.statistics.correlation import kendall_b, pearson_logistic, spearman, undefined
from t2i_eval_kedro.statistics.estimates import Json
from t2i_eval_kedro.statistics.grouping import fisher_mean
from t2i_eval_kedro.statistics.kernels import Floats
from t2i_eval_kedro.statistics.ties import best_threshold, pairs_within_groups, tie_calibrated

Mode = Literal["as_published", "corrected"]
MODES = ("as_published", "corrected")

ALIGNMENT_WEIGHTS = {"SRCC": 0.25, "PLCC": 0.25, "ACC": 0.5}
"""Weights of NTIRE 2025's alignment track."""


def check_mode(mode: str) -> None:
    """Refuse a mode that does not exist.

    Raises:
        T2IEvalError: ``mode`` is neither ``as_published`` nor ``corrected``.
    """
    if mode not in MODES:
        raise T2IEvalError(f"Unknown mode '{mode}'; choose as_published or corrected.")


def ntire_alignment(
    truth: Sequence[Mapping[str, Any]], submission: Sequence[Mapping[str, Any]], mode: Mode = "as_published"
) -> Json:
    """NTIRE 2025, track 1: ``Final_Score = 0.25 SRCC + 0.25 PLCC + 0.5 ACC``.

    As published, both lists are sorted by ``img_path`` and paired by position, and the logistic of PLCC is fitted from
    the truth to the prediction. Corrected, they are joined by ``img_path``, the logistic maps the prediction to the
    truth, and an element or image that the submission lacks counts as a wrong label; correlations are over the images
    of both.

    Args:
        truth: entries ``{img_path, total_score, element_score: {element: score}}``.
        submission: entries of the same form.
        mode: ``as_published`` or ``corrected``.

    Returns:
        ``SRCC``, ``PLCC``, ``ACC`` and ``Final_Score``; an undefined one is null, and ``reason`` says why.

    Raises:
        T2IEvalError: the lists cannot be paired as the mode pairs them.
    """
    check_mode(mode)
    true, submitted = _by_path(truth, "truth"), _by_path(submission, "submission")
    if mode == "as_published":
        if len(true) != len(submitted):
            raise T2IEvalError(
                f"The truth has {len(true)} images and the submission {len(submitted)}; the published script pairs them by "
                "position and needs equal numbers (use mode corrected to join by img_path)."
            )
        pairs = list(zip(true.values(), submitted.values(), strict=True))
    else:
        pairs = [(entry, submitted[path]) for path, entry in true.items() if path in submitted]
        if not pairs:
            raise T2IEvalError("No img_path of the submission is in the truth; give both the same image names.")
    gold = np.array([_number(t["total_score"], t["img_path"]) for t, _ in pairs])
    predicted = np.array([_number(s["total_score"], s["img_path"]) for _, s in pairs])
    srcc = spearman(predicted, gold)
    plcc = pearson_logistic(gold, predicted) if mode == "as_published" else pearson_logistic(predicted, gold)
    right = total = 0
    judged = pairs if mode == "as_published" else [(t, submitted.get(path)) for path, t in true.items()]
    for entry, answer in judged:
        for element, value in entry["element_score"].items():
            given = None if answer is None else answer["element_score"].get(element)
            if given is None and mode == "as_published":
                raise T2IEvalError(
                    f"The submission has no element '{element}' for '{entry['img_path']}', where the published "
                    "script stops (use mode corrected to count it as wrong)."
                )
            right += given is not None and (_number(value, element) >= 0.5) == (_number(given, element) >= 0.5)
            total += 1
    accuracy = right / total if total else float("nan")
    final = ALIGNMENT_WEIGHTS["SRCC"] * srcc + ALIGNMENT_WEIGHTS["PLCC"] * plcc + ALIGNMENT_WEIGHTS["ACC"] * accuracy
    return figures_or_null(
        {"SRCC": srcc, "PLCC": plcc, "ACC": accuracy, "Final_Score": final}, undefined(predicted, gold)
    )


def t2i_eval_correlation(result: Sequence[object], reference: Sequence[object], mode: Mode = "as_published") -> Json:
    """T2I-Eval's Spearman and Kendall tau-b of a list of scores with a reference.

    As published, a score that is no number becomes the mean of the other scores of its list, on both sides. Corrected,
    the pair is left out.
    """
    check_mode(mode)
    if len(result) != len(reference):
        raise T2IEvalError(f"There are {len(result)} results and {len(reference)} references; give one for one.")
    a, b = _numbers(result), _numbers(reference)
    if mode == "as_published":
        a, b = (np.where(np.isnan(v), np.nanmean(v) if np.isfinite(v).any() else np.nan, v) for v in (a, b))
    kept = np.isfinite(a) & np.isfinite(b)
    a, b = a[kept], b[kept]
    return figures_or_null({"spearman": spearman(a, b), "kendall_b": kendall_b(a, b)}, undefined(a, b)) | {"n": len(a)}


def evalalign_faithfulness(scores: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """EvalAlign's faithfulness: the mean over all applicable (image, skill) pairs; -1 means that the skill does not
    apply.

    Args:
        scores: skill -> one score an image, -1 or 0 to 4.

    Returns:
        ``by_skill`` means, ``overall`` their micro-average, ``macro`` the plain mean over skills.
    """
    kept = {skill: np.array([s for s in values if s != -1], dtype=float) for skill, values in scores.items()}
    by_skill = {skill: float(v.mean()) if len(v) else None for skill, v in kept.items()}
    means = [value for value in by_skill.values() if value is not None]
    everything = np.concatenate([*kept.values(), np.zeros(0)])
    return {
        "by_skill": by_skill,
        "overall": float(everything.mean()) if len(everything) else None,
        "macro": float(np.mean(means)) if means else None,
    }


def evalalign_alignment(scores: Mapping[str, Mapping[str, int]], mode: Mode = "as_published") -> dict[str, Any]:
    """EvalAlign's alignment over questions scored 0 to 2.

    As published, the overall figure divides the sum of all scores by the number of *images*, so that it grows with the
    number of questions (up to about 7); corrected, it divides by the number of questions and stays within 0 to 2.

    Args:
        scores: image -> skill -> score.
        mode: ``as_published`` or ``corrected``.
    """
    check_mode(mode)
    skills = sorted({skill for answers in scores.values() for skill in answers})
    by_skill = {skill: float(np.mean([a[skill] for a in scores.values() if skill in a])) for skill in skills}
    total = sum(sum(answers.values()) for answers in scores.values())
    parts = len(scores) if mode == "as_published" else sum(len(answers) for answers in scores.values())
    return {"by_skill": by_skill, "overall": total / parts if parts else None}


def viescore_average(correlations: Iterable[float], mode: Mode = "as_published") -> float:
    """VIEScore's "Fisher" average of correlations.

    As published, ``tanh(mean(r))``: the arctanh is missing, which shrinks every figure. Corrected, the Fisher mean
    ``tanh(mean(arctanh(r)))``.
    """
    check_mode(mode)
    values = np.asarray(list(correlations), dtype=float)
    if len(values) == 0:
        return float("nan")
    return float(np.tanh(values.mean())) if mode == "as_published" else fisher_mean(values)


def dsg_score(
    answers: Mapping[str, str],
    parents: Mapping[str, Sequence[str]],
    mode: Mode = "as_published",
    dependencies: bool = True,
) -> float:
    """DSG's score of one image: the share of propositions that hold.

    As published, an answer holds when it is exactly "yes", and a proposition counts 0 where the *raw* answer to one of
    its direct parents is not; a grandchild of a failed proposition can count. Corrected, the answer is read without
    regard to case and surrounding space, and failure passes down the whole graph.

    Args:
        answers: proposition -> answer.
        parents: proposition -> its direct parents; "0" and unknown ones are no parents.
        mode: ``as_published`` or ``corrected``.
        dependencies: whether parents count at all.

    Returns:
        The score in [0, 1]; NaN where there are no answers.
    """
    check_mode(mode)
    if not answers:
        return float("nan")
    raw = {key: (a if mode == "as_published" else a.strip().lower()) == "yes" for key, a in answers.items()}
    if not dependencies:
        return sum(raw.values()) / len(raw)

    def holds(key: str, path: tuple[str, ...]) -> bool:
        above = [parent for parent in parents.get(key, ()) if parent in raw]
        if mode == "as_published":
            return raw[key] and all(raw[parent] for parent in above)
        return raw[key] and all(parent in path or holds(parent, (*path, key)) for parent in above)

    return sum(holds(key, ()) for key in raw) / len(raw)


def vqascore_accuracy(
    scores: Floats,
    ratings: Floats,
    prompt: np.ndarray[Any, np.dtype[np.int64]] | None = None,
    mode: Mode = "as_published",
) -> Json:
    """VQAScore's meta-evaluation: pairwise accuracy with tie calibration.

    As published, over all pairs of items, with the threshold that is best on those very pairs. Corrected, within
    prompts, each half of the prompts scored with the threshold chosen on the other half.

    Args:
        scores: ``(n,)`` judge's scores.
        ratings: ``(n,)`` people's mean ratings.
        prompt: ``(n,)`` index of each item's prompt; needed when corrected.
        mode: ``as_published`` or ``corrected``.
    """
    check_mode(mode)
    if mode == "corrected":
        if prompt is None:
            raise T2IEvalError(
                "The corrected accuracy chooses its threshold on other prompts; give the prompt of every item."
            )
        groups = tuple(np.flatnonzero(prompt == p) for p in np.unique(prompt))
        values = tie_calibrated(scores, ratings, groups).by_prompt
        defined = values[np.isfinite(values)]
        accuracy = float(defined.mean()) if len(defined) else float("nan")
        return figures_or_null({"accuracy": accuracy}, "no prompt has two items, or there is only one prompt")
    first, second, _ = pairs_within_groups((np.arange(len(scores)),))
    if len(first) == 0:
        nothing = {"accuracy": float("nan"), "threshold": float("nan")}
        return figures_or_null(nothing, "fewer than 2 items have both a score and a rating")
    difference, by_people = scores[first] - scores[second], np.sign(ratings[first] - ratings[second])
    threshold, accuracy = best_threshold(
        np.abs(difference), (np.sign(difference) == by_people) & (by_people != 0), by_people == 0
    )
    return {"accuracy": accuracy, "threshold": threshold}


def viescore_overall(semantic: Sequence[float], perceptual: Sequence[float]) -> float:
    """VIEScore's O of one image, ``sqrt(min(SC) * min(PQ))``; NaN where a side has no score."""
    if not semantic or not perceptual:
        return float("nan")
    return math.sqrt(min(semantic) * min(perceptual))


def _by_path(entries: Sequence[Mapping[str, Any]], side: str) -> dict[str, Mapping[str, Any]]:
    out: dict[str, Mapping[str, Any]] = {}
    for position, entry in enumerate(entries):
        if not isinstance(entry, Mapping) or not {"img_path", "total_score", "element_score"} <= set(entry):
            raise T2IEvalError(f"Entry {position} of the {side} needs img_path, total_score and element_score.")
        if str(entry["img_path"]) in out:
            raise T2IEvalError(f"The {side} lists '{entry['img_path']}' twice; keep one entry an image.")
        out[str(entry["img_path"])] = entry
    return dict(sorted(out.items()))


def _number(value: object, where: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise T2IEvalError(f"The score {value!r} of '{where}' is no finite number; correct it.")
    return float(value)


def _numbers(values: Sequence[object]) -> Floats:
    finite = [
        float(v) if isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) else float("nan")
        for v in values
    ]
    return np.array(finite, dtype=float)


def figures_or_null(values: Mapping[str, float], reason: str | None) -> Json:
    """``values`` with null for what is not finite, and then the reason."""
    out: Json = {name: float(value) if math.isfinite(value) else None for name, value in values.items()}
    return out | ({"reason": reason or "not defined for these values"} if None in out.values() else {})
