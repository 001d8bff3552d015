"""``kedro judge`` and ``t2i-eval judge``: one image, or a CSV of prompts and images."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import click
import pandas as pd

from t2i_eval_kedro.api import BackendName, served_judge
from t2i_eval_kedro.cli.errors import readable_errors
from t2i_eval_kedro.cli.evaluators import EVALUATOR_HELP, choose_judge, project_options, project_root
from t2i_eval_kedro.config import merge
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.files import check_output, read_prompts_and_images, write_scores
from t2i_eval_kedro.judging.judge import GivenImages, require_readable
from t2i_eval_kedro.judging.known_elements import read_elements
from t2i_eval_kedro.judging.project import BASE, SIMILARITY, open_judge
from t2i_eval_kedro.judging.protocols.registry import PROTOCOLS
from t2i_eval_kedro.judging.verdicts import RESULT_COLUMNS
from t2i_eval_kedro.reporting.tables import count_of
from t2i_eval_kedro.schema import OK


@contextmanager
def _without_collecting() -> Iterator[None]:
    """No garbage is collected while torch and its kin are imported, and what they made is left alone to the end: a third of the start."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@click.command("judge")
@click.option("--prompt", metavar="TEXT", help="Prompt that the image was generated from.")
@click.option("--image", metavar="FILE", help="Image to judge: PNG, JPEG, WebP, GIF, BMP, TIFF or AVIF.")
@click.option(
    "--image-b",
    metavar="FILE",
    help="Second image of the same prompt: say which is better, with its probability; a CSV may have the column image_b.",
)
@click.option(
    "--reference",
    metavar="FILE",
    help="Image that shows how good such an image can look, for the appearance in the decomposed protocols.",
)
@click.option(
    "--csv",
    "table",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Judge every row of a CSV with the columns prompt and image (a path, from the folder of the CSV)[, image_b, reference, item_id].",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help=f"With --structure: folder to write. With --csv: CSV to write, with the columns of the input and {', '.join(RESULT_COLUMNS)}.",
)
@click.option(
    "--structure",
    "pictures",
    type=click.Path(path_type=Path),
    metavar="IMAGES",
    help="Mark where the images (a folder, or one file) are broken and score their structure; with --csv, those of its rows.",
)
@click.option(
    "--model",
    "structure_model",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="With --structure: folder of the trained model; by default that of the experiment (hybrid, else rahf, else instances).",
)
@click.option("--evaluator", metavar="NAME", help=EVALUATOR_HELP)
@click.option(
    "--untrained", is_flag=True, help="Judge with the model that --evaluator names although it has no adapter."
)
@click.option(
    "--protocol",
    type=click.Choice(list(PROTOCOLS)),
    default="levels",
    show_default=True,
    help="How the judge is asked; docs/protocols.md explains each.",
)
@click.option(
    "--backend",
    type=click.Choice(get_args(BackendName)),
    help="What runs the model: this process (transformers), vllm, or a server that speaks OpenAI's API, which --evaluator then "
    "names a model of; by default judging.backend of the settings.",
)
@click.option(
    "--base-url", metavar="URL", help="Address of that server, ending in /v1; its key is read from OPENAI_API_KEY."
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
    image_b: str | None,
    reference: str | None,
    table: Path | None,
    out: Path | None,
    pictures: Path | None,
    structure_model: Path | None,
    evaluator: str | None,
    untrained: bool,
    protocol: str,
    backend: BackendName | None,
    base_url: str | None,
    elements: Path | None,
    as_json: bool,
    env: str | None,
    params: Mapping[str, Any],
) -> None:
    """Judge an image, two images against each other, or every row of a CSV. Scores are 0 to 10.

    \b
    t2i-eval judge --evaluator ADAPTER --prompt "a red cube on a blue table" --image cube.png
    t2i-eval judge --evaluator ADAPTER --prompt "a red cube" --image a.png --image-b b.png --protocol pairwise
    t2i-eval judge --evaluator ADAPTER --csv images.csv --out scores.csv
    t2i-eval judge --backend openai --base-url http://127.0.0.1:8000/v1 --evaluator MODEL --csv images.csv --out scores.csv
    t2i-eval judge --structure images/ --out broken/ --model DIR
    """
    if pictures is not None:
        if out is None or image or reference or evaluator or elements or untrained or as_json or backend or base_url:
            raise click.UsageError(
                "With --structure, give --out and at most --csv, --prompt, --model, --params and --env."
            )
        from t2i_eval_kedro.cli.judge_structure import judge_structure

        judge_structure(pictures, out, structure_model, prompt, table, env, params)
        return
    if structure_model is not None:
        raise click.UsageError("--model names a model of structure; give --structure IMAGES as well, or --evaluator.")
    single = prompt is not None and image is not None
    if single == (table is not None) or (table is None) != (out is None):
        raise click.UsageError("Give either --prompt and --image, or --csv and --out.")
    if table is not None and (prompt or image or image_b or reference):
        raise click.UsageError("With --csv, prompts, images and references are columns of the file.")
    if table is not None and as_json:
        raise click.UsageError("--json prints the verdict on one image; with --csv the scores are written to --out.")
    if protocol == SIMILARITY and evaluator:
        raise click.UsageError(
            "--protocol similarity has a model of its own (judging.similarity); name no --evaluator."
        )
    if base_url and backend != "openai":
        raise click.UsageError("--base-url is the address of a server; give --backend openai as well.")
    if backend == "openai" and (evaluator is None or untrained):
        raise click.UsageError(
            "With --backend openai, --evaluator is the name that the server has for a model; no --untrained."
        )
    if reference and image_b:
        raise click.UsageError("--reference belongs to one image; compare two without it.")
    known = read_elements(elements) if elements is not None else {}
    rows = None
    if table is not None and out is not None:
        rows, notes = read_prompts_and_images(table)
        for note in notes:
            click.echo(note, err=True)
        given = [table, *filter(None, [elements]), *(table.parent / path for path in rows["image"] if path)]
        given += [table.parent / path for path in rows.get("image_b", ()) if path]
        check_output(out, given)
    compares = bool(image_b) if rows is None else "image_b" in rows
    if PROTOCOLS[protocol].pairs and not compares:
        where = "--image-b" if rows is None else "the column image_b"
        raise T2IEvalError(f"The protocol {protocol} compares two images of one prompt; give the second in {where}.")
    images = GivenImages(table.parent if table is not None else Path())
    if rows is None:
        for one in filter(None, (image, image_b)):
            require_readable(images, one, str(prompt), reference)
    asked: dict[str, Any] = {
        "protocol": protocol,
        "images": images,
        "elements": known,
        "references": bool(reference) if rows is None else bool((rows.get("reference", pd.Series()) != "").any()),
    }
    if backend == "openai":
        judge = served_judge(
            str(evaluator),
            base_url,
            params=params,
            root=project_root(),
            env=env,
            keep_answers=table is not None,
            **asked,
        )
    else:
        if backend is not None:
            params = merge(params, {"judging": {"backend": backend}})
        chosen = choose_judge(BASE if protocol == SIMILARITY else evaluator, env, params, untrained=untrained)
        with _without_collecting():
            judge = open_judge(
                chosen.project, chosen.adapter, name=chosen.name, keep_answers=table is not None, **asked
            )
    if rows is not None and out is not None and compares:
        compared = judge.compare_frame(rows)
        preferences = write_scores(compared, out)
        click.echo(f"The preferences of {count_of(len(rows), 'pair')} are in {out}.")
        if compared.consistency is not None:
            click.echo(f"Both orders of the images agree on {100 * compared.consistency:.1f}% of the pairs.")
        if n_empty := int((preferences["status"] != OK).sum()):
            click.echo(f"{n_empty} of its {len(preferences)} preferences are empty; the column explanation says why.")
        return
    if rows is not None and out is not None:
        scores = write_scores(judge.judge_frame(rows), out)
        click.echo(f"The scores of {count_of(len(rows), 'image')} are in {out}.")
        if n_empty := int((scores["status"] != OK).sum()):
            click.echo(f"{n_empty} of its {len(scores)} scores are empty; the column explanation says why.")
        return
    if image_b is not None:
        comparison = judge.compare(str(image), image_b, str(prompt))
        click.echo(
            json.dumps(comparison.as_dict(), ensure_ascii=False, indent=2, allow_nan=False)
            if as_json
            else repr(comparison)
        )
        if comparison.label is None:
            raise T2IEvalError(f"The judge gave no preference: {comparison.preference.explanations[0]}.")
        return
    verdict = judge.judge_image(str(image), str(prompt), reference=reference)
    click.echo(
        json.dumps(verdict.as_dict(), ensure_ascii=False, indent=2, allow_nan=False) if as_json else repr(verdict)
    )
    if OK not in verdict.statuses.values():
        raise T2IEvalError(f"The judge gave no score: {verdict.explanation or verdict.status}.")
