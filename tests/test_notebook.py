"""The notebook runs from top to bottom and is committed without outputs."""

from __future__ import annotations

from pathlib import Path

import nbformat
from kedro_project import ROOT
from nbclient import NotebookClient

NOTEBOOK = ROOT / "notebooks" / "from_prompt_to_verdict.ipynb"


def test_the_notebook_ends_in_a_verdict(project: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(project)}}).execute()
    last = notebook.cells[-1]["outputs"][-1]["data"]["text/plain"]
    assert all(name in last for name in ("overall", "appearance", "attributes", "relations", "status"))


def test_no_outputs_are_committed() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells)
