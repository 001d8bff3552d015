"""``kedro agreement`` and ``kedro score-submission``: agreement statistics for people who bring only numbers."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
from PIL import Image

from t2i_eval_kedro import schema
from t2i_eval_kedro.agreement import challenge, regions, summarise
from t2i_eval_kedro.agreement.rated_items import Missing
from t2i_eval_kedro.cli.errors import readable_errors
from t2i_eval_kedro.datasets.atomic import atomic_file
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.statistics.sensitivity import weight_sweep

RATINGS = ("item_id", "prompt_id", "generator", "rater_id", "dimension", "score")
SCORES = ("item_id", "evaluator", "score")
PREFERENCES = ("prompt_id", "item_a", "item_b", "rater_id", "label")
SHOWN = {"spearman": "Spearman", "kendall_b": "Kendall tau-b", "pearson": "Pearson", "pairwise_accuracy": "pairs right"}
MAX_MASK_PIXELS = 64_000_000

Input = dict[str, Any]


@click.command("agreement")
@click.option(
    "--ratings", required=True, type=click.Path(path_type=Path), help=f"CSV with {', '.join(RATINGS)}[, skill]."
)
@click.option(
    "--scores", required=True, type=click.Path(path_type=Path), help=f"CSV with {', '.join(SCORES)}[, dimension]."
)
@click.option(
    "--preferences", type=click.Path(path_type=Path), help=f"CSV with {', '.join(PREFERENCES)} (a, b or tie)."
)
@click.option(
    "--by",
    type=click.Choice(["none", "prompt", "generator", "skill"]),
    default="none",
    show_default=True,
    help="Print averages inside prompts, generators or skills. The files hold all of them.",
)
@click.option("--scale", help="MIN:MAX of the ratings; others are excluded and counted. Default: what the file holds.")
@click.option(
    "--lower-is-better", multiple=True, metavar="NAME", help="A judge whose low scores are good; may be repeated."
)
@click.option(
    "--missing",
    type=click.Choice(["refuse", "drop", "worst"]),
    default="drop",
    show_default=True,
    help="What to do about a rated item without a score: stop, leave it out, count the judge's worst score.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the bootstrap and the tests."
)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for agreement.json and agreement.html."
)
@readable_errors
def agreement(
    ratings: Path,
    scores: Path,
    preferences: Path | None,
    by: str,
    scale: str | None,
    lower_is_better: tuple[str, ...],
    missing: Missing,
    seed: int,
    out: Path | None,
) -> None:
    """Measure how well judges' scores agree with people's ratings."""
    found: Input = {}
    rated = _read_csv(ratings, RATINGS, ("skill",))
    judged = _read_csv(scores, SCORES, ("dimension",))
    items = _items(rated, ratings)
    rating_table = _ratings(rated, _scale(scale), found)
    score_table = _scores(judged, lower_is_better, found)
    known = set(items["item_id"])
    found["items_with_scores_only"] = len(set(score_table["item_id"]) - known)
    found["rated_items_without_any_score"] = len(known - set(score_table["item_id"]))
    wanted = None
    if preferences is not None:
        wanted = _preferences(_read_csv(preferences, PREFERENCES, ()), known, found)
    summary = summarise(
        items,
        rating_table,
        score_table,
        seed=seed,
        missing=missing,
        preferences=wanted,
    )
    summary = {"input": found} | summary
    tables = _tables(summary, by)
    for title, table in tables:
        click.echo(f"{title}\n{table.to_string(index=False)}\n")
    notes = {name: value for name, value in found.items() if value}
    if notes:
        click.echo("Input: " + "; ".join(f"{name.replace('_', ' ')}: {value}" for name, value in notes.items()))
    if out is not None:
        with atomic_file(out / "agreement.json") as path:
            path.write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        with atomic_file(out / "agreement.html") as path:
            path.write_text(_page(tables, notes), encoding="utf-8")
        click.echo(f"Written: {out / 'agreement.json'} and {out / 'agreement.html'}")


def _read_csv(path: Path, columns: Sequence[str], optional: Sequence[str]) -> pd.DataFrame:
    """The named columns as text, stripped; empty cells are empty strings."""
    if not path.is_file():
        raise T2IEvalError(f"There is no file '{path}'; give a CSV with {', '.join(columns)}.")
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise T2IEvalError(f"'{path}' is no readable CSV in UTF-8 ({error}).") from error
    table.columns = table.columns.str.strip()
    lacking = [name for name in columns if name not in table.columns]
    if lacking:
        raise T2IEvalError(f"'{path}' lacks the column {', '.join(lacking)}; it needs {', '.join(columns)}.")
    kept = [*columns, *(name for name in optional if name in table.columns)]
    if not table.columns[table.columns.isin(kept)].is_unique:
        raise T2IEvalError(f"'{path}' has a column twice; keep one of each.")
    return pd.DataFrame({name: table[name].str.strip() for name in kept})


def _numbers(text: pd.Series) -> pd.Series:
    """Finite numbers; everything else is null."""
    values = pd.to_numeric(text.where(text != ""), errors="coerce").astype(float)
    return values.where(np.isfinite(values))


def _scale(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    low, colon, high = text.partition(":")
    try:
        limits = float(low), float(high)
    except ValueError:
        limits = math.nan, math.nan
    if not colon or not limits[0] < limits[1] or not math.isfinite(limits[1] - limits[0]):
        raise T2IEvalError(f"'--scale {text}' is no scale; write MIN:MAX, for example 1:5.")
    return limits


def _items(rated: pd.DataFrame, path: Path) -> pd.DataFrame:
    own = rated[["item_id", "prompt_id", "generator"]].drop_duplicates()
    twice = own[own["item_id"].duplicated()]
    if len(twice):
        raise T2IEvalError(
            f"'{path}' gives item '{twice['item_id'].iloc[0]}' more than one prompt or generator; an item is one image."
        )
    if (own == "").any(axis=None):
        raise T2IEvalError(f"'{path}' has a row without item_id, prompt_id or generator; fill it in or remove the row.")
    skills: dict[str, set[str]] = {}
    if "skill" in rated:
        for item, names in zip(rated["item_id"], rated["skill"], strict=True):
            skills.setdefault(item, set()).update(name.strip() for name in names.split(";") if name.strip())
    return schema.ITEMS.frame(
        {
            "item_id": item,
            "benchmark": "files",
            "prompt_id": prompt,
            "prompt": prompt,
            "generator": generator,
            "attributes": json.dumps({"skills": sorted(skills[item])}) if skills.get(item) else None,
        }
        for item, prompt, generator in own.itertuples(index=False)
    )


def _ratings(rated: pd.DataFrame, scale: tuple[float, float] | None, found: Input) -> pd.DataFrame:
    values = _numbers(rated["score"])
    found["unreadable_ratings"] = int(values.isna().sum())
    if scale is None and values.notna().any():
        scale = float(values.min()), float(values.max())
    low, high = scale or (0.0, 0.0)
    table = rated[["item_id", "rater_id", "dimension"]].assign(
        score=values, scale_min=low, scale_max=high, std=np.nan, n_raters=None
    )
    table["off_scale"] = (values < low) | (values > high)
    found["off_scale_ratings"] = int(table["off_scale"].sum())
    table = _without_conflicts(table, ["item_id", "rater_id", "dimension"], "ratings", found)
    return schema.RATINGS.check(table)


def _scores(judged: pd.DataFrame, lower: Sequence[str], found: Input) -> pd.DataFrame:
    unknown = sorted(set(lower) - set(judged["evaluator"]))
    if unknown:
        names = ", ".join(sorted(set(judged["evaluator"])))
        raise T2IEvalError(f"'--lower-is-better {unknown[0]}' names no judge of the scores; there are {names}.")
    values = _numbers(judged["score"])
    found["unreadable_scores"] = int(values.isna().sum())
    table = judged[["item_id", "evaluator"]].assign(
        dimension=judged.get("dimension", ""),
        run=0,
        score=values,
        explanation=None,
        higher_is_better=~judged["evaluator"].isin(lower),
    )
    table = _without_conflicts(table, ["item_id", "evaluator", "dimension"], "scores", found)
    table["status"] = np.where(table["score"].notna(), schema.OK, schema.UNPARSED)
    return schema.SCORES.check(table)


def _without_conflicts(table: pd.DataFrame, key: list[str], name: str, found: Input) -> pd.DataFrame:
    """One row a key: repeated rows once, rows that contradict each other as one row without a value; both counted."""
    once = table.drop_duplicates([*key, "score"])
    conflict = once.duplicated(key, keep=False)
    found[f"repeated_{name}"] = len(table) - len(once)
    found[f"contradicting_{name}"] = int(once[conflict].drop_duplicates(key).shape[0])
    return once.assign(score=once["score"].where(~conflict)).drop_duplicates(key)


def _preferences(table: pd.DataFrame, known: set[str], found: Input) -> pd.DataFrame:
    joined = table["item_a"].isin(known) & table["item_b"].isin(known)
    legible = table["label"].isin(["a", "b", "tie"])
    found["preferences_of_unknown_items"] = int((~joined).sum())
    found["unreadable_preferences"] = int((joined & ~legible).sum())
    kept = table[joined & legible]
    key = ["prompt_id", "item_a", "item_b", "rater_id"]
    once = kept.drop_duplicates()
    conflict = once.duplicated(key, keep=False)
    found["repeated_preferences"] = len(kept) - len(once)
    found["contradicting_preferences"] = int(conflict.sum())
    return schema.PREFERENCES.check(once[~conflict])


def _tables(summary: dict[str, Any], by: str) -> list[tuple[str, pd.DataFrame]]:
    source = summary["evaluators"] if by == "none" else summary["by"].get(by, {})
    if by == "skill" and not source:
        raise T2IEvalError("There are no skills; give the ratings a column 'skill' (several separated by ';').")
    title = "Agreement with the mean rating" + ("" if by == "none" else f", averaged inside each {by}")

    def place(row: tuple[str, str, Input]) -> tuple[str, float, str]:
        value = row[2]["spearman"]["value"]
        return row[1], math.inf if value is None else -value, row[0]

    measured = [(name, dimension, figures) for name, cells in source.items() for dimension, figures in cells.items()]
    rows = [
        {"judge": name, "dimension": dimension}
        | {label: _cell(figures.get(statistic)) for statistic, label in SHOWN.items()}
        | {"n": figures["spearman"].get("n"), "note": figures["spearman"].get("reason", "")}
        for name, dimension, figures in sorted(measured, key=place)
    ]
    tables = [(f"{title} (95% interval over prompts)", pd.DataFrame(rows))]
    counts = [
        {"judge": name, "dimension": dimension} | cell
        for name, dimensions in summary["counts"].items()
        for dimension, cell in dimensions.items()
    ]
    tables.append(("Rated items by what the judge gave", pd.DataFrame(counts)))
    people = [
        {
            "dimension": dimension,
            "statistic": statistic,
            "noise ceiling": _plain(cell["value"]),
            "note": cell.get("reason", ""),
        }
        for dimension, cells in summary["ceiling"].items()
        for statistic, cell in cells.items()
    ]
    tables.append(("What the raters' own agreement allows", pd.DataFrame(people)))
    tested = [
        {
            "a": entry["a"],
            "b": entry["b"],
            "dimension": entry["dimension"],
            "a minus b": _cell({**entry, "value": entry["difference"]}),
            "p": _plain(entry["p"]),
            "p (Holm)": _plain(entry.get("p_holm")),
            "note": entry.get("reason", ""),
        }
        for entry in summary["significance"]
        if entry["statistic"] == "spearman"
    ]
    if tested:
        tables.append(("Differences in Spearman (whole prompts swapped)", pd.DataFrame(tested)))
    preferred = [
        {"judge": name, "dimension": dimension or "(any)"}
        | {kind.replace("_", " "): _cell(cell[kind]) for kind in ("accuracy", "accuracy_without_ties")}
        | {"n": cell["accuracy"]["n"], "missing": cell["missing"]}
        for name, dimensions in summary.get("preferences", {}).items()
        for dimension, cell in dimensions.items()
    ]
    if preferred:
        tables.append(("Preferences shared with people", pd.DataFrame(preferred)))
    return [(title, _without_empty_note(table)) for title, table in tables]


def _without_empty_note(table: pd.DataFrame) -> pd.DataFrame:
    empty = "note" in table and (table["note"] == "").all()
    return table.drop(columns="note") if empty else table


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _cell(figure: dict[str, Any] | None) -> str:
    if figure is None or figure["value"] is None:
        return "-"
    return f"{figure['value']:.3f} [{_plain(figure['low'])}, {_plain(figure['high'])}]"


def _page(tables: Sequence[tuple[str, pd.DataFrame]], notes: Input) -> str:
    body = "".join(
        f"<h2>{html.escape(title)}</h2><div>{table.to_html(index=False, border=0)}</div>" for title, table in tables
    )
    faults = "".join(f"<li>{html.escape(name.replace('_', ' '))}: {value}</li>" for name, value in notes.items())
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>Agreement with people</title><style>'
        "body{font:1rem/1.5 system-ui,sans-serif;color:#222;max-width:75rem;margin:2rem auto;padding:0 1rem}"
        "h1{font-size:1.6rem}h2{font-size:1.1rem;margin:2rem 0 .5rem}div{overflow-x:auto}"
        "table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}"
        "th,td{padding:.3rem 1.2rem .3rem 0;text-align:left;white-space:nowrap;border-bottom:1px solid #ddd}"
        f"</style></head><body><h1>Agreement with people</h1>{body}"
        + (f"<h2>Input</h2><ul>{faults}</ul>" if faults else "")
        + "</body></html>\n"
    )


@click.command("score-submission")
@click.argument("track", type=click.Choice(["alignment", "structure"]))
@click.option(
    "--truth", required=True, type=click.Path(path_type=Path), help="JSON list (alignment) or folder (structure)."
)
@click.option(
    "--submission",
    "submissions",
    required=True,
    multiple=True,
    type=click.Path(path_type=Path),
    help="The same form as the truth; may be repeated to learn which weights of the final score change the winner.",
)
@click.option(
    "--mode",
    type=click.Choice(challenge.MODES),
    default="as_published",
    show_default=True,
    help="As the organisers' released script computes it, or with its faults corrected.",
)
@readable_errors
def score_submission(track: str, truth: Path, submissions: tuple[Path, ...], mode: str) -> None:
    """Score submissions to the NTIRE 2025 text-to-image quality challenge; prints JSON.

    One submission gives its figures. Several give the figures of each under ``submissions``, and under ``weights`` who wins
    at which share of all weights of the final score, and the nearest weights to the official ones that change the winner.

    Alignment files are JSON lists of {img_path, total_score, element_score}. A structure side is a folder with
    scores.json ({name: score}) and one PNG mask an image, <name>.png, in which a pixel that is not 0 is flawed.
    """
    found: dict[str, dict[str, Any]] = {}
    for path in dict.fromkeys(submissions):
        if track == "alignment":
            result = challenge.ntire_alignment(_entries(truth), _entries(path), mode)  # type: ignore[arg-type]
        else:
            result = regions.ntire_structure(_flaws(truth), _flaws(path), mode)  # type: ignore[arg-type]
        found[str(path)] = result
    weights = challenge.ALIGNMENT_WEIGHTS if track == "alignment" else regions.STRUCTURE_WEIGHTS
    one, *others = found.values()
    said = {"submissions": found, "weights": _sweep(found, weights)} if others else one
    click.echo(json.dumps(said, indent=2, allow_nan=False))


def _sweep(found: dict[str, dict[str, Any]], weights: dict[str, float]) -> dict[str, Any]:
    """The sweep over weights; a submission with an undefined component takes no part and is named."""
    entries = {name: [figures[part] for part in weights] for name, figures in found.items()}
    whole = {name: values for name, values in entries.items() if None not in values}
    left_out = [name for name in entries if name not in whole]
    if not whole:
        return {"left_out": left_out, "reason": "every submission has an undefined component"}
    return {**weight_sweep(whole, list(weights), list(weights.values())), "left_out": left_out}


def _refuse_pickle(path: Path) -> None:
    if path.suffix in (".pkl", ".pickle") or (path.is_file() and path.read_bytes()[:1] == b"\x80"):
        raise T2IEvalError(
            f"'{path}' is a pickle, which can run any program when it is read; convert it where you trust it: write "
            "scores.json with {name: score} and each pred_area as <name>.png into one folder."
        )


def _json(path: Path) -> Any:
    if not path.is_file():
        raise T2IEvalError(f"There is no file '{path}'.")
    _refuse_pickle(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise T2IEvalError(f"'{path}' is no JSON in UTF-8 ({error}).") from error


def _entries(path: Path) -> list[dict[str, Any]]:
    entries = _json(path)
    if not isinstance(entries, list) or not entries:
        raise T2IEvalError(f"'{path}' is no JSON list of images; each needs img_path, total_score and element_score.")
    return entries


def _flaws(folder: Path) -> dict[str, regions.Flaws]:
    _refuse_pickle(folder)
    if not folder.is_dir():
        raise T2IEvalError(
            f"'{folder}' is no folder; give one with scores.json and a mask <name>.png for each name in it."
        )
    scores = _json(folder / "scores.json")
    if not isinstance(scores, dict) or not scores:
        raise T2IEvalError(f"'{folder / 'scores.json'}' is no JSON object {{name: score}}.")
    out = {}
    for name, score in scores.items():
        if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
            raise T2IEvalError(f"The score of '{name}' in '{folder / 'scores.json'}' is no finite number: {score!r}.")
        out[name] = regions.Flaws(float(score), _mask(folder, name))
    return out


def _mask(folder: Path, name: str) -> regions.Mask:
    path = folder / f"{name}.png"
    if "\0" in name or not path.resolve().is_relative_to(folder.resolve()):
        raise T2IEvalError(f"The name {name!r} leads out of '{folder}'; rename the image.")
    if not path.is_file():
        raise T2IEvalError(f"There is no mask '{path}'; add it (all zeros where nothing is flawed) or remove '{name}'.")
    try:
        with Image.open(path, formats=["PNG"]) as image:
            if image.width * image.height > MAX_MASK_PIXELS:
                raise T2IEvalError(f"The mask '{path}' has {image.width} x {image.height} pixels, too many for a mask.")
            pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] = np.asarray(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise T2IEvalError(f"'{path}' is no readable PNG ({error}).") from error
    flawed = pixels[..., :3].any(axis=-1) if pixels.ndim == 3 else pixels > 0
    return np.asarray(flawed, dtype=np.uint8)
