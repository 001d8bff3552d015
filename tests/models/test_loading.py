from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from plain_settings import settings_of
from pytest_httpserver import HTTPServer

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.models.loading import check_adapter, fingerprint, load_model
from t2i_eval_kedro.models.processors import load_processor
from t2i_eval_kedro.models.settings import ModelSettings
from t2i_eval_kedro.training.settings import LoraSettings, SFTSettings
from t2i_eval_kedro.training.sft import train_sft


@pytest.fixture(scope="module")
def adapter(base_model: Path, examples, pictures, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter") / "sft"
    settings = settings_of(
        SFTSettings, max_steps=1, batch_size=2, eval_examples=0, lora=settings_of(LoraSettings, r=2, alpha=4)
    )
    train_sft(examples, pictures, settings_of(ModelSettings, model=str(base_model)), settings, folder)
    return folder


@pytest.mark.parametrize("load", [load_model, load_processor, fingerprint])
@pytest.mark.parametrize("name", ["data/06_models/none/tiny", "./none", "/none"])
def test_a_missing_folder_is_named(load, name: str) -> None:
    with pytest.raises(T2IEvalError, match=f"'{name}' does not exist"):
        load(name)


def test_a_folder_that_is_no_model_is_named(tmp_path: Path) -> None:
    for load in (load_model, load_processor):
        with pytest.raises(T2IEvalError, match=r"does not contain config\.json"):
            load(tmp_path)


def test_a_model_of_another_kind_is_named(base_model: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    for load in (load_model, load_processor):
        with pytest.raises(T2IEvalError, match=r"cannot be loaded|has no image processor"):
            load(tmp_path)


def test_where_the_model_lies_can_be_said(base_model: Path) -> None:
    assert load_model(base_model, device="cpu", options={"device_map": {"": "meta"}}).device.type == "meta"


def test_an_unknown_dtype_is_refused(base_model: Path) -> None:
    with pytest.raises(T2IEvalError, match="'int8'"):
        load_model(base_model, dtype="int8")


def test_the_fingerprint_is_of_the_weights_not_of_the_place(base_model: Path, tmp_path: Path) -> None:
    moved, other = tmp_path / "moved", tmp_path / "other"
    for folder in (moved, other):
        shutil.copytree(base_model, folder)
    weights = other / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert fingerprint(base_model) == fingerprint(moved) != fingerprint(other)


@pytest.mark.parametrize("shards", [1, 3])
def test_the_fingerprint_of_a_hub_name_fetches_the_weights(
    base_model: Path, tmp_path: Path, httpserver: HTTPServer, shards: int
) -> None:
    folder = tmp_path / "model"
    size = (base_model / "model.safetensors").stat().st_size
    load_model(base_model, device="cpu").save_pretrained(folder, max_shard_size=size * 2 // shards)
    assert len(list(folder.glob("*.safetensors"))) > 1 or shards == 1
    for path in folder.iterdir():
        content = path.read_bytes()
        headers = {"ETag": f'"{path.name}"', "X-Repo-Commit": "0" * 40}
        address = f"/some/model/resolve/main/{path.name}"
        httpserver.expect_request(address).respond_with_data(content, headers=headers)
    absent = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": "0" * 40}
    httpserver.expect_request(re.compile("/some/model/.*")).respond_with_data(status=404, headers=absent)
    httpserver.expect_request(re.compile(".*")).respond_with_data(status=404, headers={"X-Error-Code": "RepoNotFound"})
    hub = {
        "HF_ENDPOINT": httpserver.url_for("/").rstrip("/"),
        "HF_HOME": str(tmp_path / "hub"),
        "HF_HUB_OFFLINE": "0",
    }
    code = "from t2i_eval_kedro.models.loading import fingerprint; print(fingerprint('some/model'))"
    for more in ({}, {"HF_HUB_OFFLINE": "1"}):  # first over the network, then from the cache
        done = subprocess.run([sys.executable, "-c", code], env=os.environ | hub | more, capture_output=True, text=True)
        assert done.stdout.strip() == fingerprint(folder), done.stderr
    hub["HF_HOME"] = str(tmp_path / "empty")
    missing = code.replace("some/model", "some/other")
    done = subprocess.run([sys.executable, "-c", missing], env=os.environ | hub, capture_output=True, text=True)
    assert "T2IEvalError: Model 'some/other'" in done.stderr


def test_the_fingerprint_of_a_file_above_256_mib_sees_its_size_and_its_blocks(tmp_path: Path) -> None:
    weights, mib = tmp_path / "model.safetensors", 2**20
    (tmp_path / "config.json").write_text("{}")

    def fingerprint_of(size: int, changed: int | None = None) -> str:
        weights.unlink(missing_ok=True)
        with weights.open("wb") as stream:
            stream.truncate(size)  # a file of holes
            if changed is not None:
                stream.seek(changed)
                stream.write(b"\x01")
        return fingerprint(tmp_path)

    size = 520 * mib
    plain = fingerprint_of(size)
    last_block_but_one = 254 * (size - mib) // 255
    others = {place: fingerprint_of(size, changed=place) for place in (0, mib - 1, last_block_but_one, size - 1)}
    assert plain not in others.values()
    assert len(set(others.values())) == 4
    assert fingerprint_of(size + 1) != plain
    assert fingerprint_of(size, changed=mib) == plain  # between two blocks nothing is read, as the docstring says


def test_an_adapter_of_another_base_model_is_refused(adapter: Path, base_model: Path, tmp_path: Path) -> None:
    check_adapter(adapter, base_model)
    other = tmp_path / "other"
    shutil.copytree(base_model, other)
    weights = other / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(T2IEvalError, match=r"trained on another base model \('tiny-llava'\)"):
        load_model(other, adapter=adapter)


def test_an_adapter_from_elsewhere_must_fit(adapter: Path, base_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    shutil.copytree(adapter, folder)
    (folder / "settings.json").unlink()
    load_model(base_model, adapter=folder, device="cpu")
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"r": 3}))
    with pytest.raises(T2IEvalError, match="does not fit"):
        load_model(base_model, adapter=folder, device="cpu")


def test_an_incomplete_adapter_is_named(base_model: Path, tmp_path: Path) -> None:
    with pytest.raises(T2IEvalError, match=r"adapter_config\.json"):
        load_model(base_model, adapter=tmp_path)
