"""``kedro judge``: one image, or a CSV of prompts and images, judged without a pipeline."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from t2i_eval_kedro.benchmarks.images import BadImage, ImageFiles
from t2i_eval_kedro.cli.errors import readable_errors
from t2i_eval_kedro.cli.evaluators import (
    BASE,
    Evaluator,
    Project,
    find_evaluator,
    load_project,
    project_options,
    resolved_axes,
)
from t2i_eval_kedro.datasets.atomic import atomic_file
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.backends.base import Backend
from t2i_eval_kedro.judging.engine import Judgement, judge
from t2i_eval_kedro.judging.known_elements import elements_for, read_elements
from t2i_eval_kedro.judging.local_models import cache_answers, open_backend
from t2i_eval_kedro.judging.protocols import EvaluationItem, Protocol
from t2i_eval_kedro.judging.protocols.decomposed import Decomposed
from t2i_eval_kedro.judging.protocols.registry import PROTOCOLS, build, candidate_tokens_of
from t2i_eval_kedro.schema import FAILED, OK

SIMILARITY = "similarity"
REFERENCE = "reference"
COLUMNS = ("prompt", "image", "dimension", "score", "status", "explanation")


@click.command("judge")
@click.option("--prompt", metavar="TEXT", help="The prompt that the image was generated from.")
@click.option("--image", metavar="FILE", help="The image: PNG, JPEG or WebP.")
@click.option(
    "--reference",
    metavar="FILE",
    help="An image that shows how good such an image can look, for the appearance in the decomposed protocols.",
)
@click.option(
    "--csv",
    "table",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Judge every row of a CSV with the columns prompt and image (a path, from the folder of the CSV)[, reference].",
)
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE", help=f"With --csv: a CSV with {', '.join(COLUMNS)}."
)
@click.option(
    "--evaluator",
    metavar="NAME",
    help="base (untrained), sft or grpo of the experiment that --params name, or any adapter: its folder or its path below "
    "data/06_models. Default: grpo, else sft.",
)
@click.option(
    "--protocol",
    type=click.Choice(list(PROTOCOLS)),
    default="levels",
    show_default=True,
    help="How the judge is asked.",
)
@click.option(
    "--elements",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="CSV, JSON list or {prompt: list} of text, question[, prompt, element_id, skill, expected, parents].",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@project_options
@readable_errors
def judge_images(
    prompt: str | None,
    image: str | None,
    reference: str | None,
    table: Path | None,
    out: Path | None,
    evaluator: str | None,
    protocol: str,
    elements: Path | None,
    as_json: bool,
    env: str | None,
    params: Mapping[str, Any],
) -> None:
    """Judge an image, or every image of a CSV.

    Scores are 0 to 10 (cosines for the protocol similarity), those of elements 0 to 1.

    \b
    kedro judge --prompt "a red cube on a blue table" --image cube.png
    kedro judge --csv images.csv --out scores.csv
    """
    single = prompt is not None and image is not None
    if (
        single == (table is not None)
        or (table is None) != (out is None)
        or (not single and (prompt or image or reference))
    ):
        raise click.UsageError("Give either --prompt and --image, or --csv and --out.")
    if table is not None and as_json:
        raise click.UsageError("--json prints the verdict on one image; with --csv the scores go to --out.")
    rows = (
        _read_rows(table)
        if table is not None
        else pd.DataFrame([{"prompt": prompt, "image": image, REFERENCE: reference or ""}])
    )
    files = ImageFiles(table.parent if table is not None else Path())
    known = read_elements(elements) if elements is not None else {}
    if single:
        _check_single(files, str(prompt), str(image), reference)
    if protocol == SIMILARITY and evaluator:
        raise click.UsageError(
            "--protocol similarity has a model of its own (judging.similarity); name no --evaluator."
        )
    found = find_evaluator(BASE if protocol == SIMILARITY else evaluator, resolved_axes(env, params))
    if found.note:
        click.echo(f"No evaluator is named: {found.note}.", err=True)
    project = load_project(found, env, params)
    asked = build(protocol, project.wording, project.judging.options)
    if rows[REFERENCE].any() and not isinstance(asked, Decomposed):
        raise click.UsageError(f"The protocol {protocol} looks at no reference image; decomposed does.")
    subjects = [
        EvaluationItem(str(i), text, key, project.dimensions, elements_for(text, known), shown)
        for i, (text, key, shown) in enumerate(zip(rows["prompt"], rows["image"], rows[REFERENCE], strict=True))
    ]
    name, backend = _open(protocol, project, found, files, keep=table is not None)
    whole = [subject for subject in subjects if subject.prompt.strip() and subject.image]
    said = judge(whole, asked, backend, name=name, chunk_size=project.judging.batch_size)
    if single:
        _print(said, subjects[0], name, asked, as_json=as_json)
        if not (said.scores["status"] == OK).any():
            raise T2IEvalError(f"The judge gave no score: {said.scores['explanation'].iloc[0]}.")
        return
    assert out is not None
    scores = _by_row(subjects, said, asked)
    with atomic_file(out) as temporary:
        scores.to_csv(temporary, index=False, float_format="%.6g")
    click.echo(f"The scores of {len(rows)} images are in {out}.")
    if n_empty := int((scores["status"] != OK).sum()):
        click.echo(f"{n_empty} of its {len(scores)} scores are empty; the column explanation says why.")


def _open(protocol: str, project: Project, found: Evaluator, files: ImageFiles, *, keep: bool) -> tuple[str, Backend]:
    """The name of the judge and who answers for it; ``keep``: with its answers on disk, for a run that may be cut off."""
    if protocol == SIMILARITY:
        from t2i_eval_kedro.judging.backends.similarity import SimilarityBackend  # torch is slow to import

        return project.judging.similarity.model, SimilarityBackend(project.judging.similarity, files)
    backend = open_backend(project.model, found.adapter, files, project.judging)
    backend.require_tokens(candidate_tokens_of([protocol], project.wording, project.judging.options))
    if not keep:
        return found.name, backend
    return found.name, cache_answers(backend, project.model, found.adapter, files, project.judging)


def _read_rows(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise T2IEvalError(f"There is no file '{path}'; give a CSV with the columns prompt and image.")
    try:
        rows = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise T2IEvalError(f"'{path}' is no CSV in UTF-8 ({error}).") from error
    missing = [name for name in ("prompt", "image") if name not in rows.columns]
    if missing:
        raise T2IEvalError(
            f"'{path}' has no column '{missing[0]}'; its columns are {', '.join(map(str, rows.columns))}."
        )
    return rows.reindex(columns=["prompt", "image", REFERENCE], fill_value="")


def _check_single(files: ImageFiles, prompt: str, image: str, reference: str | None) -> None:
    if not prompt.strip():
        raise T2IEvalError("The prompt is empty; give the text that the image was generated from.")
    for path in (image, reference):
        try:
            if path:
                files.read(path)
        except BadImage as error:
            raise T2IEvalError(f"The image '{path}' cannot be judged: {error}.") from error


def _by_row(subjects: Sequence[EvaluationItem], said: Judgement, protocol: Protocol) -> pd.DataFrame:
    """A row for each dimension of each subject, in their order, those that could not be asked about among them."""
    judged = dict(tuple(said.scores.groupby("item_id", sort=False)))
    rows: list[dict[str, Any]] = []
    for subject in subjects:
        own = {"prompt": subject.prompt, "image": subject.image}
        if subject.item_id in judged:
            rows += [
                own | {name: row[name] for name in COLUMNS[2:]} for row in judged[subject.item_id].to_dict("records")
            ]
            continue
        reason = "the row has no image" if subject.prompt.strip() else "the row has no prompt"
        rows += [
            own | {"dimension": dimension, "score": None, "status": FAILED, "explanation": reason}
            for dimension in protocol.verdict(subject, {}).scores
        ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _print(said: Judgement, subject: EvaluationItem, judge_name: str, protocol: Protocol, *, as_json: bool) -> None:
    scores, elements = said.scores, said.element_scores
    if as_json:
        verdict = {
            "prompt": subject.prompt,
            "image": subject.image,
            "judge": judge_name,
            "protocol": protocol.name,
            "prompt_version": protocol.label,
            "scores": _plain(scores, ("dimension", "score", "status", "explanation")),
            "elements": _plain(elements, ("element_id", "score", "status")),
        }
        click.echo(json.dumps(verdict, ensure_ascii=False, indent=2, allow_nan=False))
        return
    console = Console(highlight=False)
    console.print(Text(f"{subject.image}: {subject.prompt}"))
    console.print(Text(f"judged by {judge_name}, {protocol.label}"))
    console.print(_table(scores, ("dimension", "score", "status", "explanation")))
    if len(elements):
        texts = {element.element_id: element.text for element in subject.elements}
        named = elements.assign(element=[texts.get(key, key) for key in elements["element_id"]])
        console.print(_table(named, ("element", "score", "status")))


def _plain(frame: pd.DataFrame, columns: Sequence[str]) -> list[dict[str, Any]]:
    kept = frame[list(columns)].astype(object)
    return kept.where(kept.notna(), None).to_dict("records")  # type: ignore[return-value]


def _table(frame: pd.DataFrame, columns: Sequence[str]) -> Table:
    """The columns that hold anything; text of a model or a file is never read as markup."""
    table = Table()
    shown = [name for name in columns if frame[name].notna().any()]
    for name in shown:
        table.add_column(name, justify="right" if name == "score" else "left", overflow="fold")
    for row in _plain(frame, shown):
        table.add_row(
            *(
                Text("" if value is None else f"{value:.2f}" if isinstance(value, float) else value)
                for value in row.values()
            )
        )
    return table
