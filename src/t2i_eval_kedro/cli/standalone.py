"""``t2i-eval``: the commands that need no Kedro project, in any folder."""

from __future__ import annotations

from importlib.util import find_spec

import click

from t2i_eval_kedro import __version__
from t2i_eval_kedro.cli.lazy import LazyCommands

PLACES = {
    "judge": "judge.judge_images",
    "agreement": "agreement.agreement",
    "check": "check.check",
    "plan": "plan.plan",
    "score-submission": "agreement.score_submission",
    "report": "report.report",
    "serve": "serve.serve_evaluator",
    "recipe": "recipe.recipe",
}
LINES = {
    "judge": "Judge an image, or every row of a CSV.",
    "agreement": "Measure how well evaluators' scores agree with people's ratings.",
    "check": "Say what is understood of files of ratings and scores.",
    "plan": "Say how many prompts and raters a comparison needs.",
    "score-submission": "Score submissions to the NTIRE 2025 challenge.",
    "report": "Write the report of a summary.",
    "serve": "Serve a judge to OpenAI clients.",
    "recipe": "Print the settings that a student is trained with.",
}
PRESENT = {name: place for name, place in PLACES.items() if find_spec(f"t2i_eval_kedro.cli.{place.partition('.')[0]}")}


@click.group(cls=LazyCommands, places=PRESENT, lines={name: LINES[name] for name in PRESENT})
@click.version_option(__version__, prog_name="t2i-eval")
def main() -> None:
    """Judge text-to-image images as people do, and measure how well any judge agrees with people."""


if __name__ == "__main__":
    main()
