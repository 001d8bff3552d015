"""Verdicts as text for a terminal and as a fragment of HTML for a notebook."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup
from rich.console import Console
from rich.table import Table
from rich.text import Text

from t2i_eval_kedro.reporting.gallery import Picture
from t2i_eval_kedro.reporting.pages import environment
from t2i_eval_kedro.reporting.tables import count_of
from t2i_eval_kedro.schema import OK

SHOWN = 20
"""Of more verdicts than this, the first and last are shown."""


def print_verdicts(verdicts: Sequence[Mapping[str, Any]], *, width: int | None = None) -> str:
    """``verdicts`` as text: one with every score and element, several with a row each.

    Text of a model or a file is never read as markup.

    Args:
        verdicts: each as :meth:`t2i_eval_kedro.judging.verdicts.Verdict.as_dict` gives it.
        width: columns of the terminal; by default those of the terminal that there is.
    """
    console = Console(file=io.StringIO(), highlight=False, width=width, force_jupyter=False)
    if len(verdicts) == 1:
        (verdict,) = verdicts
        console.print(Text(f"{verdict['image']}: {verdict['prompt']}"))
        console.print(Text(f"judged by {verdict['judge']}, {verdict['prompt_version']}"))
        if verdict.get("domain_note"):
            console.print(Text(str(verdict["domain_note"]), style="bold"))
        console.print(_table(verdict["scores"], ("dimension", "score", "status", "explanation")))
        if verdict["elements"]:
            rows = [{"element": one["text"], **one} for one in verdict["elements"]]
            console.print(_table(rows, ("element", "score", "status")))
    elif verdicts:
        dimensions = list(dict.fromkeys(one["dimension"] for verdict in verdicts for one in verdict["scores"]))
        first, last = _shown(len(verdicts))
        rows = [_row(verdict) for verdict in [*verdicts[:first], *verdicts[last:]]]
        if last > first:
            rows.insert(first, {"image": f"({last - first} more)"})
        names = dict.fromkeys(f"{one['judge']}, {one['prompt_version']}" for one in verdicts)
        console.print(Text(f"{count_of(len(verdicts), 'image')} judged by {'; '.join(names)}"))
        console.print(_table(rows, ("image", "prompt", *dimensions, "status", "note"), one_line=("image", "prompt")))
    else:
        console.print("No images were judged.")
    output = console.file
    assert isinstance(output, io.StringIO)
    return "\n".join(line.rstrip() for line in output.getvalue().rstrip("\n").split("\n"))


def print_comparison(comparison: Mapping[str, Any], *, width: int | None = None) -> str:
    """One comparison of two images as text, as :meth:`t2i_eval_kedro.judging.comparisons.Comparison.as_dict` gives it."""
    console = Console(file=io.StringIO(), highlight=False, width=width, force_jupyter=False)
    console.print(Text(f"a: {comparison['image_a']}, b: {comparison['image_b']}: {comparison['prompt']}"))
    console.print(
        Text(
            f"judged by {comparison['judge']}, {comparison['prompt_version']}; probability that a is better; a tie within "
            f"{comparison['tie']:g} of 10"
        )
    )
    columns = ("dimension", "preference", "probability", "margin", "consistent", "status", "explanation")
    rows = [
        row | {"consistent": None if row["consistent"] is None else "yes" if row["consistent"] else "no"}
        for row in comparison["preferences"]
    ]
    console.print(_table(rows, columns))
    output = console.file
    assert isinstance(output, io.StringIO)
    return "\n".join(line.rstrip() for line in output.getvalue().rstrip("\n").split("\n"))


def verdicts_html(verdicts: Sequence[Mapping[str, Any]], pictures: Sequence[Picture | None]) -> str:
    """``verdicts``, each beside its picture, as an HTML fragment without scripts and without anything to fetch."""
    first, last = _shown(len(verdicts))
    shown = [*zip(verdicts, pictures, strict=True)]
    shown = [*shown[:first], *shown[last:]]
    html = environment().get_template("verdicts.html.jinja").render(shown=shown, left_out=last - first)
    return str(Markup(html))


def _shown(count: int) -> tuple[int, int]:
    """How many of ``count`` verdicts are shown before the gap, and from which on after it."""
    return (count, count) if count <= SHOWN else (SHOWN // 2, count - SHOWN // 2)


def _row(verdict: Mapping[str, Any]) -> dict[str, Any]:
    scores = {one["dimension"]: one["score"] for one in verdict["scores"]}
    reason = next((one["explanation"] for one in verdict["scores"] if one["status"] != OK and one["explanation"]), None)
    status = verdict["status"] if verdict["status"] == OK or not reason else f"{verdict['status']}: {reason}"
    note = str(verdict.get("domain_note") or "").split(":")[0] or None
    return {"image": Path(verdict["image"]).name, "prompt": verdict["prompt"], **scores, "status": status, "note": note}


def _table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], one_line: Sequence[str] = ()) -> Table:
    """The columns that have any value; those of ``one_line`` are cut where they do not fit."""
    table = Table()
    shown = [name for name in columns if any(row.get(name) is not None for row in rows)]
    for name in shown:
        numeric = all(isinstance(row.get(name), float | None) for row in rows)
        cut = name in one_line
        table.add_column(
            name,
            justify="right" if numeric else "left",
            overflow="ellipsis" if cut else "fold",
            no_wrap=cut or numeric,
            max_width=30 if cut else None,
        )
    for row in rows:
        table.add_row(*(Text(_cell(row.get(name))) for name in shown))
    return table


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.2f}" if isinstance(value, float) else str(value)
