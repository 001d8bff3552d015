from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from kedro.io import DatasetError

from t2i_eval_kedro.datasets.adapter import AdapterFolder, write_manifest
from t2i_eval_kedro.errors import T2IEvalError


def make_adapter(folder: Path, weights: bytes = b"weights") -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(weights)
    (folder / "README.md").write_text("# card")
    write_manifest(folder)
    return folder


@contextmanager
def refused(match: str) -> Iterator[None]:
    """Kedro wraps what a dataset raises; the cause is ours."""
    with pytest.raises(DatasetError, match=match) as caught:
        yield
    assert isinstance(caught.value.__cause__, T2IEvalError)


def test_a_saved_folder_is_loaded(tmp_path: Path) -> None:
    source = make_adapter(tmp_path / "work")
    dataset = AdapterFolder(filepath=str(tmp_path / "models" / "sft"))
    assert not dataset.exists()
    dataset.save(source)
    assert dataset.exists()
    assert dataset.load() == tmp_path / "models" / "sft"
    assert (dataset.load() / "README.md").read_text() == "# card"
    assert not source.exists()  # it was moved


def test_saving_again_replaces_the_folder_and_leaves_nothing_behind(tmp_path: Path) -> None:
    dataset = AdapterFolder(filepath=str(tmp_path / "models" / "sft"))
    dataset.save(make_adapter(tmp_path / "a", b"old"))
    dataset.save(make_adapter(tmp_path / "b", b"new"))
    assert (dataset.load() / "adapter_model.safetensors").read_bytes() == b"new"
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["sft"]


def test_of_two_writers_at_once_the_folder_of_one_stays_whole(tmp_path: Path) -> None:
    target = tmp_path / "models" / "sft"
    ready = threading.Barrier(2)

    def write(name: str) -> None:
        ready.wait()
        for n in range(100):
            AdapterFolder(filepath=str(target)).save(make_adapter(tmp_path / f"{name}{n}", name.encode()))

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(write, name) for name in "ab"]:
            done.result()
    assert (AdapterFolder(filepath=str(target)).load() / "adapter_model.safetensors").read_bytes() in (b"a", b"b")
    assert [path.name for path in target.parent.iterdir()] == ["sft"]


def test_a_folder_already_in_place_stays(tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "sft")
    dataset = AdapterFolder(filepath=str(folder))
    dataset.save(folder)
    assert dataset.load() == folder


def test_the_card_may_change(tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "sft")
    (folder / "README.md").write_text("# card with figures")
    assert AdapterFolder(filepath=str(folder)).load() == folder


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors", "manifest.json"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    folder = make_adapter(tmp_path / "sft")
    (folder / name).unlink()
    with refused(name):
        AdapterFolder(filepath=str(folder)).load()
    with refused(name):
        AdapterFolder(filepath=str(tmp_path / "copy")).save(folder)
    assert not (tmp_path / "copy").exists()


def test_a_torn_file_is_named(tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "sft")
    (folder / "adapter_model.safetensors").write_bytes(b"weigh")
    with refused(r"'adapter_model\.safetensors' of adapter"):
        AdapterFolder(filepath=str(folder)).load()


def test_a_manifest_cannot_reach_outside(tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "sft")
    (tmp_path / "secret").write_text("x")
    (folder / "manifest.json").write_text('{"../secret": "0"}')
    with refused("secret"):
        AdapterFolder(filepath=str(folder)).load()


def test_an_absent_folder_is_an_error_unless_it_is_optional(tmp_path: Path) -> None:
    with refused("does not exist"):
        AdapterFolder(filepath=str(tmp_path / "none")).load()
    folder = tmp_path / "sft"
    optional = AdapterFolder(filepath=str(folder), optional=True)
    assert optional.load() == folder
    folder.mkdir()
    with refused("does not contain"):  # it is there, and is not whole
        optional.load()
