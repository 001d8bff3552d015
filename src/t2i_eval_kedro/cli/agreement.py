"""``kedro agreement`` and ``kedro score-submission``: agreement statistics for people who bring only numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from t2i_eval_kedro import api
from t2i_eval_kedro.agreement import inputs, regions, submissions
from t2i_eval_kedro.agreement.outcome import refuse_without_figure
from t2i_eval_kedro.agreement.rated_items import Missing
from t2i_eval_kedro.cli.errors import readable_errors
from t2i_eval_kedro.cli.reading import reading_options, reading_settings
from t2i_eval_kedro.datasets.atomic import require_writable
from t2i_eval_kedro.reporting.agreement import GROUPINGS, Grouping


@click.command("agreement")
@click.option(
    "--ratings",
    type=click.Path(path_type=Path),
    help=f"CSV file with the columns {', '.join(inputs.RATINGS)}[, skill]; --preferences may stand alone.",
)
@click.option(
    "--scores",
    type=click.Path(path_type=Path),
    help=f"CSV file with the columns {', '.join(inputs.SCORES)}[, dimension, run, higher_is_better].",
)
@click.option(
    "--preferences",
    type=click.Path(path_type=Path),
    help=f"CSV file with the columns {', '.join(inputs.PREFERENCES)} (label: a, b or tie).",
)
@click.option(
    "--pairwise-scores",
    type=click.Path(path_type=Path),
    help=f"CSV file of evaluators' own verdicts on pairs, with the columns {', '.join(inputs.PAIRWISE_SCORES)}.",
)
@click.option(
    "--by",
    type=click.Choice(GROUPINGS),
    default="none",
    show_default=True,
    help="Print averages within prompts, generators or skills. The files contain all of them.",
)
@click.option(
    "--scale",
    metavar="MIN:MAX",
    help="Rating scale; ratings outside it are excluded and counted. Default: the range of the ratings.",
)
@click.option(
    "--lower-is-better",
    multiple=True,
    metavar="NAME",
    help="Evaluator whose low scores mean good images; may be repeated.",
)
@click.option(
    "--missing",
    type=click.Choice(["refuse", "drop", "worst"]),
    default="drop",
    show_default=True,
    help="Policy for a rated item without a score: stop, leave the item out, or use the evaluator's worst score.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Random seed for the bootstrap and the permutation tests.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to write agreement.json and agreement.html to.",
)
@reading_options
@readable_errors
def agreement(
    ratings: Path | None,
    scores: Path | None,
    preferences: Path | None,
    pairwise_scores: Path | None,
    by: Grouping,
    scale: str | None,
    lower_is_better: tuple[str, ...],
    missing: Missing,
    seed: int,
    out: Path | None,
    **reading: Any,
) -> None:
    """Measure how well evaluators' scores agree with people's ratings."""
    if out is not None:
        require_writable(out)
    measured = api.agreement(
        ratings,
        scores,
        preferences,
        pairwise_scores=pairwise_scores,
        scale=inputs.parse_scale(scale) if scale is not None else None,
        lower_is_better=lower_is_better,
        settings=reading_settings(reading),
        missing=missing,
        seed=seed,
    )
    click.echo(measured.text(by))
    if out is not None:
        measured.save(out, by)
        click.echo(f"Written: {out / 'agreement.json'} and {out / 'agreement.html'}")
    refuse_without_figure(measured.summary)


@click.command("score-submission")
@click.argument("track", type=click.Choice(submissions.TRACKS))
@click.option(
    "--truth",
    required=True,
    type=click.Path(path_type=Path),
    help="Ground truth: a JSON list (alignment) or a folder (structure).",
)
@click.option(
    "--submission",
    "paths",
    required=True,
    multiple=True,
    type=click.Path(path_type=Path),
    help="Submission in the format of the truth; may be repeated to learn which weights change the winner.",
)
@click.option(
    "--mode",
    type=click.Choice(regions.STRUCTURE_MODES),
    default="as_published",
    show_default=True,
    help="As the organisers' released script computes the score; structure: the same with regions matched one to one; or with its faults corrected.",
)
@readable_errors
def score_submission(
    track: submissions.Track, truth: Path, paths: tuple[Path, ...], mode: regions.StructureMode
) -> None:
    """Score submissions to the NTIRE 2025 text-to-image quality challenge; prints JSON.

    One submission gives its scores. Several give the scores of each under "submissions", and under "weights" who wins
    at which share of all weights of the final score, and the nearest weights to the official ones that change the winner.

    Alignment files are JSON lists of {img_path, total_score, element_score}. A structure side is a folder with
    scores.json ({name: score}) or scores.csv (name, score), and one mask per image, <name>.png or <name>.npy, in which what is not 0 is
    flawed; "input" in the result counts masks that are missing, extra, unreadable or empty.
    """
    click.echo(json.dumps(submissions.score_submissions(track, truth, paths, mode), indent=2, allow_nan=False))
