"""The builder and the reading of raw files: what is wrong is excluded and noted, the rest goes on."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest
from benchmark_helpers import kinds, picture
from hypothesis import given
from hypothesis import strategies as st

from t2i_eval_kedro.benchmarks import Dimension, known_benchmarks, read_benchmark, register
from t2i_eval_kedro.benchmarks.base import Builder, number
from t2i_eval_kedro.benchmarks.files import DataIssues, contained, read_json, read_table
from t2i_eval_kedro.benchmarks.registry import READERS
from t2i_eval_kedro.errors import T2IEvalError

LOOKS = Dimension("looks", 1, 5, "how good it looks", (1, 2, 3, 4, 5))


def builder() -> Builder:
    out = Builder("made", "Made", "none", (LOOKS,))
    assert out.item("g/1", "1", "a cat", "g")
    return out


@pytest.mark.parametrize(
    ("raw", "problem", "off_scale"),
    [
        (6, "off_scale_rating", True),
        (0.5, "off_scale_rating", True),
        (2.5, "off_level_rating", False),
        ("", "unreadable_rating", False),
        ("4/5", "unreadable_rating", False),
        (None, "unreadable_rating", False),
        (float("nan"), "unreadable_rating", False),
        (True, "unreadable_rating", False),
    ],
)
def test_a_rating_that_cannot_be_is_a_null_and_stands_in_the_faults(raw: object, problem: str, off_scale: bool) -> None:
    out = builder()
    assert not out.rating("g/1", "r", LOOKS, raw, "line 3")
    made = out.build()
    assert made.ratings["score"].isna().all()
    assert made.ratings["off_scale"].tolist() == [off_scale]
    assert kinds(made) == {problem: 1}
    assert repr(raw) in made.issues["detail"].iloc[0]


def test_a_second_row_with_the_same_key_is_set_aside() -> None:
    out = builder()
    assert out.rating("g/1", "r", LOOKS, "4", "line 3")
    assert not out.rating("g/1", "r", LOOKS, "5", "line 4")
    assert not out.item("g/1", "1", "a cat", "g")
    made = out.build()
    assert made.ratings["score"].tolist() == [4]
    assert kinds(made) == {"duplicate_row": 2}


def test_an_item_without_prompt_is_set_aside_and_a_benchmark_without_items_is_refused() -> None:
    out = Builder("made", "Made", "none", (LOOKS,))
    assert not out.item("g/1", "1", "  ", "g")
    with pytest.raises(T2IEvalError, match="no usable item"):
        out.build()


@given(st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(10**12), 10**12)))
def test_numbers_are_read_as_they_are_written(value: float) -> None:
    assert number(value) == value == number(str(value)) == number(f" {value} ")


@pytest.mark.parametrize("raw", ["nan", "inf", "-Infinity", "1_000", "8/10", "**8**", "", [1], {}, True, 10**400])
def test_what_is_no_number_is_none(raw: object) -> None:
    assert number(raw) is None


@pytest.mark.parametrize(
    "path",
    [
        "../secret.png",
        "a/../../secret.png",
        "/etc/passwd",
        "~/secret.png",
        "C:/secret.png",
        "c:secret.png",
        "a\\..\\secret.png",
        "a\0.png",
        "file:///etc/passwd",
        "FILE:/etc/passwd",
        "https://example.org/a.png",
        "link.png",
        "folder/a.png",
        "loop/a.png",
        "",
        " a.png",
        "a" * 300,
        "a/" * 600 + "b",
        "é" * 200,
    ],
)
def test_paths_that_lead_out_of_the_raw_folder_are_refused(tmp_path: Path, path: str) -> None:
    root = tmp_path / "raw"
    root.mkdir()
    (tmp_path / "secret.png").write_bytes(picture())
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    (root / "folder").symlink_to(tmp_path)
    os.symlink("loop", root / "loop")
    with pytest.raises(ValueError, match=r"path|address|link"):
        contained(root, path)
    out = builder()
    out.image("g/1", root, path)
    made = out.build()
    assert kinds(made) == {"bad_path": 1}
    assert made.items["image"].isna().all()


def test_paths_inside_are_found_also_through_links_that_stay_inside(tmp_path: Path) -> None:
    root = tmp_path / "linked"
    (tmp_path / "raw" / "images").mkdir(parents=True)
    (tmp_path / "raw" / "images" / "a..b.png").write_bytes(picture())
    (tmp_path / "raw" / "same.png").symlink_to(tmp_path / "raw" / "images" / "a..b.png")
    root.symlink_to(tmp_path / "raw")
    out = builder()
    assert out.item("g/2", "1", "a cat", "g")
    out.image("g/1", root, "images/a..b.png")
    out.image("g/2", root, "same.png")
    made = out.build()
    assert dict(made.images()) == {"images/a..b.png": picture(), "same.png": picture()}
    assert made.items["image"].tolist() == ["images/a..b.png", "same.png"]


def test_json_keeps_the_first_of_two_keys_and_reads_nan_as_null(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('\ufeff{"a": 1, "a": 2, "b": [NaN, -Infinity, 3], "c": {"d": 1, "d": 1}}', encoding="utf-8")
    issues = DataIssues()
    assert read_json(path, issues) == {"a": 1, "b": [None, None, 3], "c": {"d": 1}}
    assert [row[0] for row in issues.rows].count("duplicate_key") == 2
    assert [row[0] for row in issues.rows].count("not_a_number") == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": "\xe9"}'.encode("latin-1"), "not UTF-8"),
        (b'{"a": ', "not readable JSON"),
        (b"[" * 200_000, "not readable JSON"),
        (b"[" + b"1" * 5000 + b"]", "not readable JSON"),
        (b"[" + b"0," * 1000 + b"0]", "more than 1,000 entries"),
        (b"\xff\xfe{\0}\0", "not UTF-8"),
    ],
)
def test_json_that_is_none_is_an_error_that_names_the_file(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(T2IEvalError, match=rf"x\.json .*{message}"):
        read_json(path, DataIssues(), max_entries=1000)


def test_ten_million_entries_are_refused_before_they_are_built(tmp_path: Path) -> None:
    path = tmp_path / "x.json.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b"[" + b"0," * 10_000_000 + b"0]")
    with pytest.raises(T2IEvalError, match=r"contains more than 10,000,000 entries"):
        read_json(path, DataIssues())


def test_a_damaged_archive_and_a_missing_file_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.json.gz"
    path.write_bytes(gzip.compress(json.dumps({"a": 1}).encode())[:-6])
    with pytest.raises(T2IEvalError, match=r"x\.json\.gz cannot be read"):
        read_json(path, DataIssues())
    with pytest.raises(T2IEvalError, match=r"y\.json is not there"):
        read_json(tmp_path / "y.json", DataIssues())


def test_table_rows_with_too_many_cells_or_no_identifier_are_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text('id,text\n1,"a, b"\n2,a,b\n\n3\n ,c\n4,"d\ne"\n', encoding="utf-8")
    issues = DataIssues()
    rows = read_table(path, ("id", "text"), issues, key="id")
    assert [(row["id"], row["text"], row["#"]) for row in rows] == [("1", "a, b", "x.csv:2"), ("4", "d\ne", "x.csv:8")]
    assert [row[:2] for row in issues.rows] == [
        ("cell_count", "x.csv:3"),
        ("cell_count", "x.csv:5"),
        ("no_identifier", "x.csv:6"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,other\n", "lacks text"),
        ("id,text,text\n", "each once"),
        ("", "has nothing"),
        ('id,text\n1,"a"b\n', "not readable CSV"),
        ('id,text\n1,"' + "a" * 200_000 + '"\n', "not readable CSV"),
    ],
)
def test_a_file_that_is_no_such_table_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(content)
    with pytest.raises(T2IEvalError, match=message):
        read_table(path, ("id", "text"), DataIssues())


def test_unknown_names_and_missing_files_are_explained(tmp_path: Path) -> None:
    with pytest.raises(T2IEvalError, match=r"no benchmark 'mine': the known ones are agiqa3k, .*tifa160"):
        read_benchmark("mine", tmp_path)
    with pytest.raises(T2IEvalError, match="'pickscore' has no reader yet"):
        read_benchmark("pickscore", tmp_path)
    with pytest.raises(T2IEvalError, match="files of benchmark 'dsg' are not at"):
        read_benchmark("dsg", tmp_path)
    with pytest.raises(T2IEvalError, match="cannot be a benchmark's name"):
        read_benchmark("../dsg", tmp_path)


def test_a_made_benchmark_needs_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("t2i_eval_kedro.benchmarks.registry.READERS", READERS)
    monkeypatch.setitem(READERS, "made", READERS["dsg"])
    register("made", lambda raw, size: builder().build(synthetic=size > 0), needs_files=False)
    assert read_benchmark("made", tmp_path, size=1).synthetic
    assert "made" in known_benchmarks()
