"""The notebook runs from top to bottom, shows what the Python door says, and is committed without outputs."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import nbformat
import pytest
from kedro_project import ROOT
from nbclient import NotebookClient
from pages import outside
from scipy.stats import spearmanr

from t2i_eval_kedro import load_judge, read_benchmark

NOTEBOOK = ROOT / "notebooks" / "from_prompt_to_verdict.ipynb"


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> list[nbformat.NotebookNode]:
    """The outputs of the code cells, in order."""
    from kedro_project import make_project

    project = make_project(tmp_path_factory.mktemp("notebook"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(project)}}).execute()
    return [cell for cell in notebook.cells if cell["cell_type"] == "code"]


def shown(cell: nbformat.NotebookNode, kind: str = "text/html") -> str:
    return next(output["data"][kind] for output in cell["outputs"] if kind in output.get("data", {}))


def rows(page: str) -> list[dict[str, str]]:
    """The rows of a data frame's table in ``page``, by column."""
    table = ElementTree.fromstring(re.search(r"<table.*?</table>", page, re.DOTALL).group())  # type: ignore[union-attr]
    header, *body = [["".join(cell.itertext()) for cell in row] for row in table.iter("tr")]
    return [dict(zip(header, cells, strict=True)) for cells in body]


def test_the_notebook_shows_the_scores_that_the_judge_gives(executed: list[nbformat.NotebookNode]) -> None:
    benchmark = read_benchmark("shapes", n_prompts=8, seed=7)
    item, images = benchmark.items.iloc[1], dict(benchmark.images())
    verdict = load_judge(ROOT / "data/06_models/tiny_vlm", untrained=True)(images[item["image"]], item["prompt"])
    page = shown(executed[2])
    for score in verdict.scores.values():  # type: ignore[union-attr]
        assert f">{score:.2f}<" in page
    assert outside(page) == []
    last = rows(shown(executed[-1]))
    assert {row[""]: float(row["score"]) for row in last} == pytest.approx(verdict.scores, abs=1e-4)  # type: ignore[union-attr]
    assert {row["status"] for row in last} == {"ok"}


def test_the_notebook_ends_in_an_agreement_that_scipy_confirms(executed: list[nbformat.NotebookNode]) -> None:
    benchmark = read_benchmark("shapes", n_prompts=8, seed=7)
    judge = load_judge(ROOT / "data/06_models/tiny_vlm", untrained=True)
    images = dict(benchmark.images())
    scores = [
        one.score for one in judge([images[key] for key in benchmark.items["image"]], list(benchmark.items["prompt"]))
    ]  # type: ignore[union-attr]
    overall = benchmark.ratings[benchmark.ratings["dimension"] == "overall"].groupby("item_id")["score"].mean()
    expected = spearmanr(overall[benchmark.items["item_id"]], scores).statistic
    cell = next(row["Spearman"] for row in rows(shown(executed[4])) if row["dimension"] == "overall")
    assert float(cell.split()[0]) == pytest.approx(expected, abs=1e-3)


def test_the_notebook_shows_no_warning_of_a_library(executed: list[nbformat.NotebookNode]) -> None:
    texts = [output["text"] for cell in executed for output in cell["outputs"] if output["output_type"] == "stream"]
    assert texts  # the progress of the judge and what was printed
    assert not [text for text in texts if "Warning" in text]


def test_no_outputs_are_committed() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells)
