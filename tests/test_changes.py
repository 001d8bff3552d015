"""What changed: code by its imports, files by their state."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import t2i_eval_kedro
from t2i_eval_kedro import changes
from t2i_eval_kedro.changes import code_hash, files_state, rooms, source_files

PACKAGE = Path(t2i_eval_kedro.__file__).parent


def names(*modules: str) -> list[str]:
    return [path.relative_to(PACKAGE).as_posix() for path in source_files(f"t2i_eval_kedro.{name}" for name in modules)]


def test_source_files_are_what_is_imported_and_no_more() -> None:
    found = names("pipelines.meta_evaluation.nodes")
    assert {"agreement/published.csv", "statistics/kernels.py", "pipelines/meta_evaluation/nodes.py"} <= set(found)
    assert not any("training/" in path or "readers/tifa160" in path for path in found)
    assert found == sorted(found)
    assert "training/answer_loss.py" in names("pipelines.sft.nodes")  # imported inside a function
    assert names("errors") == ["errors.py"]
    assert source_files(["json", "pandas"]) == []


def test_rooms_are_folders_and_modules_at_the_top_and_single_pipelines() -> None:
    found = rooms(["t2i_eval_kedro.pipelines.sft.nodes"])
    assert {"training", "models", "pipelines/sft", "schema.py"} <= set(found)
    assert "pipelines/grpo" not in found
    assert "pipelines" not in found
    assert all((PACKAGE / room).exists() for room in found)


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of three modules, in place of this one."""
    package = tmp_path / "small"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "first.py").write_text('"""First."""\nfrom small.second import VALUE\n\n\ndef f():\n    return VALUE\n')
    (package / "second.py").write_text("VALUE = 1\n")
    (package / "third.py").write_text("VALUE = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(changes, "PACKAGE", "small")
    return package


def test_a_hash_changes_with_what_code_does(copy: Path) -> None:
    def value() -> str:
        code_hash.cache_clear()
        return code_hash(("small.first",))

    before = value()
    assert len(before) == 64
    (copy / "first.py").write_text(
        '"""Other."""\nfrom small.second import VALUE  # a comment\ndef f():\n    """G."""\n    return (VALUE)\n'
    )
    (copy / "third.py").write_text("VALUE = 2\n")  # which nobody imports
    assert value() == before
    (copy / "second.py").write_text("VALUE = 2\n")
    assert value() != before


def test_the_state_of_files_is_their_names_sizes_and_times(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    file = tmp_path / "a" / "one.csv"
    file.write_text("1")
    os.utime(file, ns=(1, 1))
    (tmp_path / "leads_nowhere").symlink_to(tmp_path / "none")
    paths = [tmp_path, tmp_path / "absent"]
    before = files_state(paths)
    assert before["files"] == 1
    assert files_state(paths) == before
    os.utime(file, ns=(1, 2))
    assert files_state(paths) != before  # time
    file.write_text("12")
    os.utime(file, ns=(1, 1))
    assert files_state(paths) != before  # size
    file.write_text("1")
    os.utime(file, ns=(1, 1))
    assert files_state(paths) == before
    file.rename(tmp_path / "a" / "two.csv")
    assert files_state(paths) != before  # name
