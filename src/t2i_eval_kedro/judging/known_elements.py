"""Elements that the caller knows: from the canonical table or from a file, as items take them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from t2i_eval_kedro.benchmarks.files import DataIssues, read_json, read_table
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.protocols import PromptElement

FIELDS = ("element_id", "text", "question", "skill", "expected", "parents")
EVERY_PROMPT = ""


def elements_by_prompt(elements: pd.DataFrame) -> dict[str, tuple[PromptElement, ...]]:
    """The rows of the canonical table ``elements``, by prompt_id."""
    rows: list[dict[str, Any]] = elements.astype(object).where(elements.notna(), "").to_dict("records")  # type: ignore[assignment]
    return _grouped(((str(row["prompt_id"]), row) for row in rows), "table 'elements'")


def read_elements(path: Path) -> dict[str, tuple[PromptElement, ...]]:
    """The elements in a CSV file, a JSON list of objects, or a JSON object of such lists by prompt; by the text of the prompt.

    Columns: ``text`` or ``question`` or both; optionally ``prompt`` (without it, an element belongs to every prompt and stands
    under ""), ``element_id`` (else the position within the prompt), ``skill``, ``expected`` (else "yes") and ``parents``
    (element ids, comma-separated or as a list).

    Raises:
        T2IEvalError: the file cannot be read, an element has neither text nor question, two elements of a prompt have one
            id, or a parent is not an element of the prompt.
    """
    if not path.is_file():
        raise T2IEvalError(f"The elements file '{path}' cannot be read: it is not there; correct the path.")
    issues = DataIssues()
    if path.suffix == ".json":
        rows = read_json(path, issues)
        if isinstance(rows, dict) and all(isinstance(listed, list) for listed in rows.values()):
            rows = [
                {"prompt": prompt, **row} if isinstance(row, dict) else row
                for prompt, listed in rows.items()
                for row in listed
            ]
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise T2IEvalError(
                f"'{path}' holds no elements; write a list of objects, one an element, or such a list a prompt."
            )
        strange = sorted({name for row in rows for name in row} - {"prompt", *FIELDS})
        if strange:
            raise T2IEvalError(
                f"An element in '{path}' has the unknown field '{strange[0]}'; it may have {', '.join(FIELDS)}."
            )
    else:
        rows = read_table(path, (), issues)
    table = issues.frame()
    if len(table):
        raise T2IEvalError(f"{table.iloc[0]['where']}: {table.iloc[0]['detail']}; correct the file of elements.")
    by_prompt = _grouped(((str(row.get("prompt") or EVERY_PROMPT), row) for row in rows), str(path))
    for elements in by_prompt.values():
        names = {element.element_id for element in elements}
        for element in elements:
            unknown = [parent for parent in element.parents if parent not in names]
            if unknown:
                raise T2IEvalError(
                    f"PromptElement '{element.element_id}' in {path} names the parent '{unknown[0]}', which is no element of its "
                    "prompt; correct its parents."
                )
    return by_prompt


def elements_for(prompt: str, known: Mapping[str, tuple[PromptElement, ...]]) -> tuple[PromptElement, ...]:
    """What :func:`read_elements` found for ``prompt``: its own elements, else those of every prompt."""
    return known.get(prompt) or known.get(EVERY_PROMPT, ())


def _grouped(rows: Iterable[tuple[str, Mapping[str, Any]]], where: str) -> dict[str, tuple[PromptElement, ...]]:
    by_prompt: dict[str, dict[str, PromptElement]] = {}
    for prompt, row in rows:
        of_prompt = by_prompt.setdefault(prompt, {})
        given = {name: row.get(name) or "" for name in FIELDS}
        listed = given["parents"] if isinstance(given["parents"], list) else str(given["parents"]).split(",")
        element = PromptElement(
            element_id=str(given["element_id"] or len(of_prompt) + 1),
            text=str(given["text"] or given["question"]),
            question=str(given["question"]),
            skill=str(given["skill"]),
            expected=str(given["expected"] or "yes"),
            parents=tuple(str(parent).strip() for parent in listed if str(parent).strip()),
        )
        if not element.text:
            raise T2IEvalError(f"An element in {where} has neither text nor question; give it one of them.")
        if element.element_id in of_prompt:
            raise T2IEvalError(
                f"PromptElement '{element.element_id}' stands twice for one prompt in {where}; give each an id of its own."
            )
        of_prompt[element.element_id] = element
    return {prompt: tuple(of_prompt.values()) for prompt, of_prompt in by_prompt.items()}
