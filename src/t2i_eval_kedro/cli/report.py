"""``t2i-eval report``: the page of a summary, without the project that it was measured in."""

from __future__ import annotations

import json
from pathlib import Path

import click

from t2i_eval_kedro.cli.errors import readable_errors
from t2i_eval_kedro.datasets.atomic import atomic_file, require_writable
from t2i_eval_kedro.errors import T2IEvalError


@click.command("report")
@click.argument("summary", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), help="HTML file to write. Default: report.html beside the summary."
)
@readable_errors
def report(summary: Path, out: Path | None) -> None:
    """Write the report of SUMMARY, a summary.json of kedro run or an agreement.json of t2i-eval agreement.

    Images, ratings and training curves are in the report that kedro run writes; this one says that it has none.
    """
    from t2i_eval_kedro.reporting.inputs import ReportInputs
    from t2i_eval_kedro.reporting.report import build_report

    try:
        measured = json.loads(summary.read_bytes())
    except FileNotFoundError as error:
        raise T2IEvalError(f"There is no file '{summary}'; give a summary.json or an agreement.json.") from error
    except (OSError, ValueError) as error:
        raise T2IEvalError(f"'{summary}' cannot be read as JSON ({error}).") from error
    if not isinstance(measured, dict):
        raise T2IEvalError(f"'{summary}' is not a summary; give a summary.json or an agreement.json.")
    path = out or summary.with_name("report.html")
    require_writable(path)
    if path.resolve() == summary.resolve():
        raise T2IEvalError(f"'{path}' is the summary; write the report to another file (--out).")
    try:
        page = build_report(ReportInputs(summary=measured))
    except (AttributeError, KeyError, TypeError, IndexError, ValueError) as error:
        raise T2IEvalError(
            f"'{summary}' is not a summary as `t2i-eval agreement` and `kedro run` write it ({type(error).__name__}: {error})."
        ) from error
    with atomic_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    click.echo(f"The report is {path}.")
