"""The datasets of canonical tables and JSON documents: round trips, faults, atomic writes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kedro.io import DataCatalog

from t2i_eval_kedro import schema
from t2i_eval_kedro.datasets.atomic import atomic_file, atomic_folder
from t2i_eval_kedro.datasets.canonical import CanonicalTable, JSONFile
from t2i_eval_kedro.errors import T2IEvalError


def elements(**changes: object) -> pd.DataFrame:
    row = {"prompt_id": "p", "element_id": "1", "text": "cat", "skill": "animal", "parents": None}
    return schema.ELEMENTS.frame([row | changes])


def test_a_table_survives_a_round_trip(tmp_path: Path) -> None:
    dataset = CanonicalTable(filepath=str(tmp_path / "deep" / "elements.parquet"), table="elements")
    frame = elements(question="Is there a cat?")
    dataset.save(frame)
    pd.testing.assert_frame_equal(dataset.load(), frame)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["elements.parquet"]


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"), min_size=1), min_size=1, unique=True
    )
)
def test_any_text_survives_a_round_trip(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    dataset = CanonicalTable(filepath=str(tmp_path_factory.mktemp("table") / "t.parquet"), table="elements")
    frame = schema.ELEMENTS.frame({"prompt_id": "p", "element_id": text, "text": text, "skill": "s"} for text in texts)
    dataset.save(frame)
    assert list(dataset.load()["text"]) == texts


def test_a_missing_table_names_the_pipeline_that_makes_it(tmp_path: Path) -> None:
    dataset = CanonicalTable(filepath=str(tmp_path / "items.parquet"), table="items", made_by="ingestion")
    with pytest.raises(T2IEvalError, match=r"items\.parquet is not there; run `kedro run --pipelines=ingestion`"):
        dataset.load()
    assert not dataset.exists()


def test_an_optional_table_that_is_not_there_is_empty(tmp_path: Path) -> None:
    frame = CanonicalTable(filepath=str(tmp_path / "x.parquet"), table="ratings", optional=True).load()
    assert frame.empty
    assert list(frame.columns) == list(schema.RATINGS.columns)


def test_an_unknown_table_is_refused() -> None:
    with pytest.raises(T2IEvalError, match="no canonical table 'pictures'"):
        CanonicalTable(filepath="x", table="pictures")


def test_a_table_that_breaks_the_schema_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "elements.parquet"
    dataset = CanonicalTable(filepath=str(path), table="elements")
    dataset.save(elements())
    before = path.read_bytes()
    with pytest.raises(T2IEvalError, match="key that occurs before"):
        dataset.save(pd.concat([elements(), elements()]))
    assert path.read_bytes() == before


def test_a_file_that_breaks_the_schema_or_is_no_parquet_is_refused_on_load(tmp_path: Path) -> None:
    path = tmp_path / "elements.parquet"
    dataset = CanonicalTable(filepath=str(path), table="elements")
    pd.DataFrame({"prompt_id": ["p"]}).to_parquet(path)
    with pytest.raises(T2IEvalError, match="wrong columns"):
        dataset.load()
    path.write_bytes(b"PAR1 no")
    with pytest.raises(T2IEvalError, match="not a readable Parquet"):
        dataset.load()


def test_the_catalog_makes_both_datasets(tmp_path: Path) -> None:
    catalog = DataCatalog.from_config(
        {
            "elements": {
                "type": "t2i_eval_kedro.datasets.canonical.CanonicalTable",
                "filepath": str(tmp_path / "elements.parquet"),
                "table": "elements",
                "metadata": {"kedro-viz": {"layer": "primary"}},
            },
            "card": {"type": "t2i_eval_kedro.datasets.canonical.JSONFile", "filepath": str(tmp_path / "card.json")},
        }
    )
    catalog.save("elements", elements())
    catalog.save("card", {"b": 1, "a": ["é", None]})
    assert len(catalog.load("elements")) == 1
    assert catalog.load("card") == {"b": 1, "a": ["é", None]}
    assert (tmp_path / "card.json").read_text(encoding="utf-8") == '{\n "b": 1,\n "a": [\n  "é",\n  null\n ]\n}\n'
    assert catalog["elements"].metadata == {"kedro-viz": {"layer": "primary"}}


def test_json_refuses_nan_and_keeps_the_old_document(tmp_path: Path) -> None:
    dataset = JSONFile(filepath=str(tmp_path / "x.json"), made_by="reporting")
    with pytest.raises(T2IEvalError, match="pipelines=reporting"):
        dataset.load()
    dataset.save({"a": 1})
    with pytest.raises(T2IEvalError, match="is not JSON"):
        dataset.save({"a": float("nan")})
    assert dataset.load() == {"a": 1}
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(T2IEvalError, match="not readable JSON"):
        dataset.load()
    assert JSONFile(filepath=str(tmp_path / "y.json"), optional=True).load() == {}


def half_a_file(path: Path) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt


def half_a_folder(path: Path) -> None:
    with atomic_folder(path) as temporary:
        (temporary / "new").write_text("half")
        raise KeyboardInterrupt


def test_an_interrupted_write_leaves_what_was_there(tmp_path: Path) -> None:
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.write_text("old")
    folder.mkdir()
    (folder / "old").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        half_a_file(file)
    with pytest.raises(KeyboardInterrupt):
        half_a_folder(folder)
    assert file.read_text() == "old"
    found = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*"))
    assert found == ["file", "folder", "folder/old"]


WRITE_AND_WAIT = """
import sys
from pathlib import Path
from t2i_eval_kedro.datasets.atomic import atomic_file, atomic_folder
file, folder = Path(sys.argv[1], "file"), Path(sys.argv[1], "folder")
with atomic_file(file) as temporary, atomic_folder(folder) as new:
    temporary.write_text("half")
    (new / "half").write_text("half")
    if sys.argv[2] == "between":
        folder.rename(new.parent / "old0")
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("when", ["writing", "between"])
def test_what_a_killed_writer_left_is_removed_by_the_next_one_and_a_live_one_s_is_not(
    tmp_path: Path, when: str
) -> None:
    """``between``: killed after the old folder was moved aside, before the new one took its place."""
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.write_text("old")
    folder.mkdir()
    (folder / "old").write_text("old")
    command = [sys.executable, "-c", WRITE_AND_WAIT, str(tmp_path), when]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        assert len(list(tmp_path.glob(".*"))) == 2
        with pytest.raises(KeyboardInterrupt):
            half_a_file(file)
        with pytest.raises(KeyboardInterrupt):
            half_a_folder(folder)
        assert len(list(tmp_path.glob(".*"))) == 2  # of a writer that is at work
        writer.kill()
    with pytest.raises(KeyboardInterrupt):
        half_a_file(file)
    with pytest.raises(KeyboardInterrupt):
        half_a_folder(folder)
    found = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*"))
    assert found == ["file", "folder", "folder/old"]
    assert file.read_text() == "old"


def test_tables_of_the_last_release_are_read(tmp_path: Path) -> None:
    """They name the evaluator alone, the protocol's version in the column ``protocol``, and a status ``missing``."""
    old = pd.DataFrame(
        {
            "item_id": ["i"] * 4,
            "evaluator": ["sft", "sft_pn_vqa", "teacher", "clip_score"],
            "run": 0,
            "step": "s",
            "task": "t",
            "aspect": "",
            "pair_id": "q",
            "messages": "[]",
            "answer": "7",
            "status": ["ok", "unparsed", "failed", "missing"],
            "usage": None,
            "protocol": "levels@1/compact@1",
        }
    )
    old.to_parquet(tmp_path / "t.parquet")
    table = CanonicalTable(filepath=str(tmp_path / "t.parquet"), table="transcripts").load()
    who = table[["judge", "protocol"]].astype(object).where(table[["judge", "protocol"]].notna(), None)
    assert who.to_numpy().tolist() == [
        ["sft", "levels"],
        ["sft", "pn_vqa"],
        ["teacher", "decomposed"],
        ["clip_score", None],
    ]
    assert set(table["prompt_version"]) == {"levels@1/compact@1"}
    assert list(table["status"]) == ["ok", "unparsed", "failed", "not_applicable"]
    assert list(schema.evaluator_names(table)) == list(old["evaluator"])


def test_two_evaluators_of_one_name_are_refused() -> None:
    row = {
        "item_id": "i",
        "judge": "sft",
        "dimension": "",
        "run": 0,
        "score": 1,
        "status": "ok",
        "higher_is_better": True,
    }
    scores = schema.SCORES.frame([row | {"protocol": "levels"}, row])
    with pytest.raises(T2IEvalError, match="Two evaluators are called 'sft'"):
        schema.evaluator_names(scores)


def test_a_file_that_is_moved_into_place_by_a_library_stays_the_writer_s(tmp_path: Path) -> None:
    """safetensors writes a file of its own and moves it to where it was told to write; another writer of the path comes then."""
    file = tmp_path / "file"
    with atomic_file(file) as temporary:
        beside = temporary.with_name("beside")
        beside.write_text("first")
        beside.replace(temporary)
        with atomic_file(file) as other:
            other.write_text("second")
        assert file.read_text() == "second"
    assert file.read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
