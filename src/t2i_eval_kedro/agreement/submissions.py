"""Submissions to the NTIRE 2025 text-to-image quality challenge as files: read, scored and compared.

Alignment files are JSON lists of ``{img_path, total_score, element_score}``. A structure side is a folder of masks and scores
(:mod:`t2i_eval_kedro.agreement.mask_folders`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from t2i_eval_kedro.agreement import challenge, regions
from t2i_eval_kedro.agreement.mask_folders import MaskFolder, read_json, read_mask_folder
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.statistics.sensitivity import weight_sweep

Track = Literal["alignment", "structure"]
TRACKS: tuple[Track, ...] = ("alignment", "structure")


def score_submissions(
    track: Track, truth: Path, submissions: Sequence[Path], mode: regions.StructureMode
) -> dict[str, Any]:
    """The challenge's scores of ``submissions`` against ``truth``.

    Returns:
        For one submission its scores; on the structure track with ``mode``, and ``input``: what was read, and how many masks were missing,
        extra, unreadable or empty. For several, ``submissions`` (path -> scores) and ``weights``: who wins at which share of
        all weights of the final score, and the nearest weights to the official ones that change the winner.

    Raises:
        T2IEvalError: a file or folder cannot be read, or is a pickle.
    """
    scored: dict[str, dict[str, Any]] = {}
    true_masks = read_mask_folder(truth) if track == "structure" else None
    for path in dict.fromkeys(submissions):
        if true_masks is None:
            if mode == "one_to_one":
                raise T2IEvalError(
                    f"The mode '{mode}' is for structure; choose {' or '.join(challenge.MODES)} for alignment."
                )
            scored[str(path)] = challenge.ntire_alignment(_entries(truth), _entries(path), mode)
        else:
            scored[str(path)] = _structure(true_masks, path, mode)
    weights = challenge.ALIGNMENT_WEIGHTS if track == "alignment" else regions.STRUCTURE_WEIGHTS
    first, *others = scored.values()
    return {"submissions": scored, "weights": _sweep(scored, weights)} if others else first


def _structure(truth: MaskFolder, submission: Path, mode: regions.StructureMode) -> dict[str, Any]:
    """The scores of one folder of masks, and what was read.

    Corrected, a mask that is missing or unreadable counts as empty, and a score that is not a number leaves its image out of PLCC and
    SRCC; otherwise both end with an error, as the published script would stop or compare an image with the next one's mask.
    """
    given = read_mask_folder(submission)
    truth.require_complete("the truth must be complete")
    if mode != "corrected":
        given.require_complete("correct them (or use mode corrected, which counts a missing mask as empty)")
    scores = regions.ntire_structure(truth.flaws, given.flaws, mode)
    return scores | {"mode": mode, "input": given.describe(truth.flaws)}


def _sweep(scored: Mapping[str, Mapping[str, Any]], weights: Mapping[str, float]) -> dict[str, Any]:
    """The sweep over weights; a submission with an undefined component takes no part and is named."""
    entries = {name: [scores[part] for part in weights] for name, scores in scored.items()}
    complete = {name: values for name, values in entries.items() if None not in values}
    left_out = [name for name in entries if name not in complete]
    if not complete:
        return {"left_out": left_out, "reason": "every submission has an undefined component"}
    return {**weight_sweep(complete, list(weights), list(weights.values())), "left_out": left_out}


def _entries(path: Path) -> list[dict[str, Any]]:
    entries = read_json(path)
    if not isinstance(entries, list) or not entries:
        raise T2IEvalError(
            f"'{path}' is not a JSON list of images; each needs img_path, total_score and element_score."
        )
    return entries
