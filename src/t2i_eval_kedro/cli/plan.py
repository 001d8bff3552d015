"""``plan``: how many prompts, images and raters a comparison of judges needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from t2i_eval_kedro.cli.errors import readable_errors
from t2i_eval_kedro.cli.reading import reading_options, reading_settings
from t2i_eval_kedro.errors import T2IEvalError


@click.command("plan")
@click.option("--prompts", type=click.IntRange(min=1), help="Number of prompts. Default: the pilot's.")
@click.option("--images", type=click.IntRange(min=1), help="Number of images per prompt. Default: the pilot's.")
@click.option("--raters", type=click.IntRange(min=1), help="Number of ratings per image. Default: the pilot's.")
@click.option("--ratings", type=click.Path(path_type=Path), help="CSV file of a pilot's ratings, as for `agreement`.")
@click.option("--scores", type=click.Path(path_type=Path), help="CSV file of the pilot's scores, as for `agreement`.")
@click.option("--dimension", help="Dimension of the pilot. Default: the one with the most ratings.")
@click.option("--reliability", type=float, help="Reliability of one rating, ICC(1); without a pilot it must be given.")
@click.option("--correlation", type=float, help="Correlation of the better judge with the mean of unlimited raters.")
@click.option(
    "--difference", type=float, help="Difference between two judges to be shown. Default: the pilot's, or 0.1."
)
@click.option(
    "--simulations", type=click.IntRange(min=10), default=200, show_default=True, help="Number of studies to simulate."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Random seed of the simulation.")
@reading_options
@readable_errors
def plan(
    prompts: int | None,
    images: int | None,
    raters: int | None,
    ratings: Path | None,
    scores: Path | None,
    dimension: str | None,
    reliability: float | None,
    correlation: float | None,
    difference: float | None,
    simulations: int,
    seed: int,
    **reading: Any,
) -> None:
    """Say how many prompts and raters a comparison needs: expected interval widths, power, and what more of each buys."""
    from t2i_eval_kedro.agreement.inputs import read_input  # scipy and numba are slow to import
    from t2i_eval_kedro.agreement.study_plan import plan_table, read_pilot
    from t2i_eval_kedro.statistics.planning import Assumptions, StudyDesign, expected_precision, larger_designs

    settings = reading_settings(reading)
    if ratings is not None or scores is not None:
        given = read_input(ratings, scores, settings=settings)
        pilot = read_pilot(given.items, given.ratings, given.scores, dimension, difference)
        size, assumed, parts = pilot.design, pilot.assumptions, pilot.components
        click.echo(
            f"Pilot ({pilot.dimension}): {size.prompts} prompts, {size.images} images per prompt, {size.raters} ratings per "
            f"image. Variance of a rating: {parts.prompt:.3f} between prompts, {parts.image:.3f} between images of a prompt, "
            f"{parts.rating:.3f} between ratings of an image. Judges: {', '.join(pilot.judges)}."
        )
        assumptions = Assumptions(
            assumed.reliability if reliability is None else reliability,
            assumed.correlation if correlation is None else correlation,
            assumed.difference,
            assumed.prompt_fraction,
        )
        design = StudyDesign(prompts or size.prompts, images or size.images, raters or size.raters)
    else:
        needed = {
            "--prompts": prompts,
            "--images": images,
            "--raters": raters,
            "--reliability": reliability,
            "--correlation": correlation,
        }
        absent = [name for name, value in needed.items() if value is None]
        if absent:
            raise T2IEvalError(f"Without a pilot (--ratings and --scores) the plan needs {', '.join(absent)}.")
        design = StudyDesign(prompts or 0, images or 0, raters or 0)
        assumptions = Assumptions(reliability or 0.0, correlation or 0.0, 0.1 if difference is None else difference)
    click.echo(
        f"Assumed: reliability of one rating {assumptions.reliability:.3f}, correlation with unlimited raters "
        f"{assumptions.correlation:.3f} and {assumptions.correlation - assumptions.difference:.3f}, "
        f"{assumptions.prompt_fraction:.0%} of the variance between prompts. Spearman, 95% intervals over prompts, test at 5%, "
        f"{simulations} simulated studies.\n"
    )
    plans = {
        name: (one, expected_precision(one, assumptions, simulations=simulations, seed=seed))
        for name, one in larger_designs(design).items()
    }
    click.echo(plan_table(plans).to_string(index=False))
