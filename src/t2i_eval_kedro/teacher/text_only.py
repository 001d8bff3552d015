"""Requests to a teacher that need no image: more of what a student can be taught at the price of text.

Only answers and looks need an image. What a prompt asks for (the extraction), and what follows from findings (a question's score,
the summaries, the merge), is text. So a teacher is asked

* for the extraction of further prompts that no image was made for,
* to sum up further findings: two images of one training prompt are mixed, each question with what was found in one of them, and
* to score and sum up what a student found itself, right or wrong, in the images that it was trained on.

Ours; T2I-Eval distils the steps of whole chains only.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from t2i_eval_kedro import schema
from t2i_eval_kedro.benchmarks.files import DataIssues, read_table
from t2i_eval_kedro.benchmarks.splits import near_form
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.backends.base import Backend
from t2i_eval_kedro.judging.engine import judge
from t2i_eval_kedro.judging.protocols import Answer, EvaluationItem
from t2i_eval_kedro.judging.protocols.base import Request, Verdict
from t2i_eval_kedro.judging.protocols.decomposed import Decomposed
from t2i_eval_kedro.schema import TEACHER
from t2i_eval_kedro.steps import APPEARANCE, EXTRACT, MERGE, OVERALL, SCORE, SUMMARY, summary_step

log = logging.getLogger(__name__)

PROMPT = "prompt/"
"""What the item of a further prompt begins with."""
MIX = "+"
"""What stands between the two items of a mixture; an item with itself has the findings of a student."""


def mixed_items(name: str, known: Container[str]) -> tuple[str, str] | None:
    """The two of ``known`` items that the mixture ``name`` is of; None where it is none of theirs. Their own names may have a ``+``.

    Example:
        >>> mixed_items("a+1+b", {"a+1", "b"}), mixed_items("prompt/00001", {"a+1", "b"})
        (('a+1', 'b'), None)
    """
    places = [place for place, sign in enumerate(name) if sign == MIX]
    parts = ((name[:place], name[place + 1 :]) for place in places)
    return next(((a, b) for a, b in parts if a in known and b in known), None)


def further_prompts(items: pd.DataFrame, source: int | str, *, seed: int) -> pd.DataFrame:
    """Items without an image, one a prompt, to be asked for their extraction.

    Args:
        items: every item of the benchmark, whatever its fold.
        source: how many prompts to draw, for ``shapes``; or a file of prompts: the column ``prompt`` of a .csv or .tsv, else one a line,
            which may be numbered or in quotes.
        seed: random seed of the drawing.

    Returns:
        The canonical table; empty where prompts are to be drawn for another benchmark.

    Raises:
        T2IEvalError: the file cannot be read or has no column ``prompt``, or every prompt of it is one of the benchmark's.
    """
    if isinstance(source, int):
        return _drawn(items, source, seed) if source else schema.ITEMS.empty()
    return _read(items, Path(source))


def _drawn(items: pd.DataFrame, n_prompts: int, seed: int) -> pd.DataFrame:
    from t2i_eval_kedro.shapes.make import BENCHMARK
    from t2i_eval_kedro.shapes.prompts import ScenePrompt, extra_prompts, prompt_text

    truths = [json.loads(text) for text in items.drop_duplicates("prompt_id")["attributes"].dropna()]
    if not truths or "prompt_scene" not in truths[0]:
        log.warning(
            "No further prompts are drawn: that can be done for the benchmark '%s' alone; teacher.extra_prompts may be a file with one "
            "prompt a line.",
            BENCHMARK,
        )
        return schema.ITEMS.empty()
    cores = {ScenePrompt.from_json(truth["prompt_scene"]).core for truth in truths}
    drawn = extra_prompts(n_prompts, seed, cores)
    return _items((prompt_text(prompt), json.dumps({"prompt_scene": prompt.to_json()})) for prompt in drawn)


def _read(items: pd.DataFrame, path: Path) -> pd.DataFrame:
    known = {near_form(_bare(prompt)) for prompt in items["prompt"].unique()}
    fresh: dict[str, str] = {}
    for prompt in _column(path) if path.suffix.lower() in (".csv", ".tsv") else _lines(path):
        form = near_form(_bare(prompt))
        if prompt and form not in known:
            fresh.setdefault(form, prompt)
    if not fresh:
        raise T2IEvalError(f"'{path}' (teacher.extra_prompts) holds no prompt that is not one of the benchmark's.")
    return _items((prompt, None) for prompt in fresh.values())


def _column(path: Path) -> list[str]:
    issues = DataIssues()
    rows = read_table(path, ("prompt",), issues, "\t" if path.suffix.lower() == ".tsv" else ",")
    if len(table := issues.frame()):
        raise T2IEvalError(
            f"{table.iloc[0]['where']}: {table.iloc[0]['detail']}; correct the file of teacher.extra_prompts."
        )
    return [row["prompt"].strip() for row in rows]


def _lines(path: Path) -> list[str]:
    try:
        return [_bare(line) for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise T2IEvalError(f"The prompts of teacher.extra_prompts cannot be read from '{path}': {error}.") from error


_NUMBER = re.compile(r"^\s*(\(\d+\)|\d+[.)])(?!\d)")
_QUOTED = re.compile(r"""(?:"([^"]+)"|\u201c([^\u201d]+)\u201d|'([^']+)')""")


def _bare(line: str) -> str:
    """The prompt on a line, without the number of a list and without quotes around all of it."""
    text = _NUMBER.sub("", line).strip()
    quoted = _QUOTED.fullmatch(text)
    return quoted[quoted.lastindex or 0].strip() if quoted else text


def _items(prompts: Iterable[tuple[str, str | None]]) -> pd.DataFrame:
    return schema.ITEMS.frame(
        {
            "item_id": f"{PROMPT}{number:05d}",
            "benchmark": "",
            "prompt_id": f"{PROMPT}{number:05d}",
            "prompt": prompt,
            "generator": "",
            "attributes": attributes,
        }
        for number, (prompt, attributes) in enumerate(prompts)
    )


class _ExtractionOnly:
    """The first request of a chain and no other."""

    def __init__(self, chain: Decomposed) -> None:
        self.chain, self.name, self.label = chain, chain.name, chain.label

    def requests(self, item: EvaluationItem, answers: Mapping[str, Answer]) -> Sequence[Request]:
        return [] if answers else self.chain.requests(item, answers)

    def verdict(self, item: EvaluationItem, answers: Mapping[str, Answer]) -> Verdict:
        return Verdict({})


class _GoingOn:
    """What a chain asks once some of its steps are answered: ``given``, by item and step."""

    def __init__(self, chain: Decomposed, given: Mapping[str, Mapping[str, Answer]]) -> None:
        self.chain, self.name, self.label, self._given = chain, chain.name, chain.label, given

    def requests(self, item: EvaluationItem, answers: Mapping[str, Answer]) -> Sequence[Request]:
        return self.chain.requests(item, {**self._given[item.item_id], **answers})

    def verdict(self, item: EvaluationItem, answers: Mapping[str, Answer]) -> Verdict:
        return Verdict({})


def ask_extractions(prompts: pd.DataFrame, chain: Decomposed, backend: Backend) -> pd.DataFrame:
    """The transcripts of the extraction of each of ``prompts`` (:func:`further_prompts`)."""
    asked = [EvaluationItem(str(row.item_id), str(row.prompt), "") for row in prompts.itertuples()]
    return judge(asked, _ExtractionOnly(chain), backend, name=TEACHER).transcripts


def ask_mixtures(
    transcripts: pd.DataFrame, items: pd.DataFrame, chain: Decomposed, backend: Backend, *, per_prompt: int, seed: int
) -> pd.DataFrame:
    """The transcripts of the summaries and the merge of mixed findings.

    Args:
        transcripts: the teacher's, of whole chains.
        items: the items whose findings are mixed, those of the training fold.
        chain: the protocol, which asks these stages without the image.
        backend: the teacher, to whom a mixture is known as ``<item>+<item>``.
        per_prompt: mixtures of each prompt, fewer where it has too few images.
        seed: random seed of which images are mixed, and of which question's finding comes from which.
    """
    first = transcripts[(transcripts["run"] == 0) & transcripts["item_id"].isin(items["item_id"])]
    answers = {
        str(item): {str(row.step): Answer(str(row.answer)) for row in rows.itertuples()}
        for item, rows in first.groupby("item_id", sort=True)
        if (rows["status"] == schema.OK).all()
    }
    rng = np.random.default_rng(seed)
    given: dict[str, dict[str, Answer]] = {}
    asked = []
    for prompt, rows in items[items["item_id"].isin(list(answers))].groupby("prompt", sort=True):
        pairs = list(combinations(sorted(rows["item_id"]), 2))
        for place in sorted(rng.permutation(len(pairs))[:per_prompt]):
            a, b = pairs[place]
            if answers[a][EXTRACT] == answers[b][EXTRACT]:
                asked.append(EvaluationItem(f"{a}{MIX}{b}", str(prompt), ""))
                given[f"{a}{MIX}{b}"] = _mixed(answers[a], answers[b], rng)
    return judge(asked, _GoingOn(chain, given), backend, name=TEACHER).transcripts


def read_findings(path: Path, items: pd.DataFrame, chain: Decomposed) -> pd.DataFrame:
    """A judge's transcripts of whole decomposed chains about ``items``, those of the training fold; it may hold others, which are left out.

    Raises:
        T2IEvalError: the file is no table of transcripts, holds no chain about one of the items that was answered to its end, was asked
            in another wording than ``chain``, or about another prompt of the same item.
    """
    try:
        table = schema.TRANSCRIPTS.check(pd.read_parquet(path))
    except (OSError, ValueError, T2IEvalError) as error:
        raise T2IEvalError(
            f"teacher.findings names '{path}', which cannot be read as the transcripts of a judge ({error}); name the "
            "<judge>_transcripts.parquet of a run with judging.fold=train."
        ) from error
    chains = table[
        (table["protocol"] == Decomposed.name) & (table["run"] == 0) & table["item_id"].isin(items["item_id"])
    ]
    ended = set(chains.loc[chains["step"] == summary_step(OVERALL, SCORE), "item_id"])
    whole = chains[chains["item_id"].isin(ended - set(chains.loc[chains["status"] != schema.OK, "item_id"]))]
    if whole.empty:
        raise T2IEvalError(
            f"'{path}' (teacher.findings) holds no complete decomposed chain about an item of the training fold; make it by a run with "
            "judging.fold=train and judging.protocols=[decomposed]."
        )
    wordings = whole["prompt_version"].str.rpartition("/")[2]
    if set(wordings) != {chain.label.rpartition("/")[2]}:
        raise T2IEvalError(
            f"The findings in '{path}' (teacher.findings) are in the wording {wordings.iloc[0]}, and the teacher is asked as {chain.label}; "
            "make them with the same judging.wording."
        )
    prompts = dict(zip(items["item_id"], items["prompt"], strict=True))
    for row in whole[whole["step"] == EXTRACT].itertuples():
        if str(prompts[row.item_id]).strip() not in "".join(turn["text"] for turn in json.loads(str(row.messages))):
            raise T2IEvalError(
                f"The findings in '{path}' (teacher.findings) about item '{row.item_id}' are about another prompt than the benchmark's, "
                f"'{prompts[row.item_id]}'; make them on this benchmark."
            )
    return whole


def ask_about_findings(
    findings: pd.DataFrame, items: pd.DataFrame, chain: Decomposed, backend: Backend
) -> pd.DataFrame:
    """The teacher's transcripts of all that follows from what a judge found: scores of questions, summaries and the merge.

    Args:
        findings: transcripts of one judge, of whole chains (:func:`read_findings`). Its answers, explanations and what it says about looks are given;
            its scores and summaries are not.
        items: the items that they are about.
        chain: the protocol, which asks these stages without the image.
        backend: the teacher, to whom an item is known as ``<item>+<item>``.
    """
    prompts = dict(zip(items["item_id"], items["prompt"], strict=True))
    given: dict[str, dict[str, Answer]] = {}
    asked = []
    for item, rows in findings.groupby("item_id", sort=True):
        steps = {str(row.step): Answer(str(row.answer)) for row in rows.itertuples() if not _follows(str(row.step))}
        given[f"{item}{MIX}{item}"] = steps
        asked.append(EvaluationItem(f"{item}{MIX}{item}", str(prompts[item]), ""))
    return judge(asked, _GoingOn(chain, given), backend, name=TEACHER).transcripts


def _follows(step: str) -> bool:
    """Whether a step of the chain is asked about findings alone, not about the prompt or the image."""
    stage = step.partition("/")[0]
    return stage in (SUMMARY, MERGE) or (stage != APPEARANCE and step.endswith(f"/{SCORE}"))


def _mixed(a: Mapping[str, Answer], b: Mapping[str, Answer], rng: np.random.Generator) -> dict[str, Answer]:
    """The extraction, and each question's steps from ``a`` or from ``b``; nothing of what follows them."""
    steps = [step for step in a if not step.startswith((f"{SUMMARY}/", f"{MERGE}/"))]
    chosen: dict[str, Mapping[str, Answer]] = {}
    for question in dict.fromkeys(step.rpartition("/")[0] for step in steps):
        chosen[question] = a if rng.random() < 0.5 else b
    return {step: chosen[step.rpartition("/")[0]][step] for step in steps}
