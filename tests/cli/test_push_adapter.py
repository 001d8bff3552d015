"""Publishing to a hub: a local HTTP server stands in for it."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from t2i_eval_kedro.cli.push_adapter import push
from t2i_eval_kedro.datasets.adapter import write_manifest

REPO = "somebody/judge"
TOKEN = "hf_a_secret_token"
SUMMARY = {
    "benchmark": "shapes",
    "synthetic": True,
    "fold": "test",
    "settings": {"confidence": 0.95, "interval": "bootstrap of whole prompts"},
    "judges": {
        "base": {"judge": "base", "protocol": "levels"},
        "sft": {"judge": "sft", "protocol": "levels"},
        "sft_decomposed": {"judge": "sft", "protocol": "decomposed"},
    },
    "evaluators": {
        "base": {"overall": {"spearman": {"value": 0.1111, "low": 0.0, "high": 0.2, "n": 40}}},
        "sft": {"overall": {"spearman": {"value": 0.6124, "low": 0.5018, "high": 0.7096, "n": 40}}},
        "sft_decomposed": {"overall": {"spearman": {"value": 0.4321, "low": None, "high": None, "n": 39}}},
    },
}
"""What meta_evaluation wrote of an adapter ``sft``, as far as the card needs it."""


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "sft"
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    (folder / "README.md").write_text("# card\n\n## Agreement with people\n\nNot measured yet.\n\n## Licence\n\nMIT\n")
    write_manifest(folder)
    return folder


class Hub:
    """The parts of the hub's interface that an upload needs. It takes every file in the commit; the real hub has large ones sent before it,
    by a protocol of huggingface_hub's own."""

    def __init__(self, server: HTTPServer) -> None:
        self.server, self.lines, self.created = server, [], {}
        self.tokens: set[str | None] = set()
        server.expect_request("/api/repos/create").respond_with_handler(self.create)
        server.expect_request("/api/validate-yaml").respond_with_json({"warnings": [], "errors": []})
        server.expect_request(f"/api/models/{REPO}/preupload/main").respond_with_handler(self.preupload)
        server.expect_request(f"/api/models/{REPO}/commit/main").respond_with_handler(self.commit)

    def create(self, request: Request) -> Response:
        self.tokens.add(request.headers.get("Authorization"))
        self.created = request.get_json()
        return self.answer({"url": self.server.url_for(f"/{REPO}")})

    def preupload(self, request: Request) -> Response:
        files = [{"path": file["path"], "uploadMode": "regular"} for file in request.get_json()["files"]]
        return self.answer({"files": [file | {"shouldIgnore": False} for file in files]})

    def commit(self, request: Request) -> Response:
        self.tokens.add(request.headers.get("Authorization"))
        self.lines = [json.loads(line) for line in request.get_data().splitlines()]
        return self.answer({"commitUrl": self.server.url_for(f"/{REPO}/commit/c0ffee"), "commitOid": "c0ffee"})

    def answer(self, content: object) -> Response:
        return Response(json.dumps(content), content_type="application/json")

    @property
    def files(self) -> dict[str, bytes]:
        """The regular files of the commit."""
        sent = [line["value"] for line in self.lines if line["key"] == "file"]
        return {file["path"]: base64.b64decode(file["content"]) for file in sent}


@pytest.fixture
def hub(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> Hub:
    monkeypatch.setenv("HF_ENDPOINT", httpserver.url_for("/").rstrip("/"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    return Hub(httpserver)


def test_an_adapter_is_uploaded_with_what_was_measured_in_its_card(hub: Hub, adapter: Path, tmp_path: Path) -> None:
    summary = tmp_path / "summary.json"
    summary.write_text(json.dumps(SUMMARY))
    result = CliRunner().invoke(push, [str(adapter), REPO, "--private", "--summary", str(summary)])
    assert result.exit_code == 0, result.output
    assert "4 files are at" in result.output
    assert "commit c0ffee" in result.output
    assert TOKEN not in result.output
    assert hub.created["visibility"] == "private"
    assert hub.tokens == {f"Bearer {TOKEN}"}
    assert hub.files.keys() == {"README.md", "adapter_config.json", "adapter_model.safetensors", "manifest.json"}
    assert hub.files["adapter_model.safetensors"] == b"weights"
    card = hub.files["README.md"].decode()
    assert "| levels | overall | 0.612 [0.502, 0.710] | 40 |" in card
    assert "| decomposed | overall | 0.432 | 39 |" in card
    assert "0.111" not in card  # another judge's
    assert "a **synthetic** benchmark" in card
    assert "Not measured yet" not in card
    assert card.endswith("## Licence\n\nMIT\n")
    assert "Not measured yet" in (adapter / "README.md").read_text()  # the folder stays as DVC knows it


def test_a_dry_run_needs_no_token_and_reaches_nothing(adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    result = CliRunner().invoke(push, [str(adapter), REPO, "--dry-run"])
    assert result.exit_code == 0, result.output
    assert f"these 4 files would go to {REPO}" in result.output


def test_what_cannot_be_uploaded_ends_in_one_sentence(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_TOKEN", TOKEN)

    def refused(*arguments: str) -> str:
        result = CliRunner().invoke(push, list(arguments))
        assert result.exit_code == 1
        assert TOKEN not in result.output
        assert result.output.count("\n") < 7
        return result.output

    assert "did not take the adapter" in refused(str(adapter), REPO)
    assert "write OWNER/NAME" in refused(str(adapter), "judge")
    assert "is no readable summary" in refused(str(adapter), REPO, "--summary", str(tmp_path / "none.json"))
    monkeypatch.delenv("HF_TOKEN")
    assert "as HF_TOKEN" in refused(str(adapter), REPO)
    (adapter / "adapter_model.safetensors").write_bytes(b"torn")
    assert "is not as it was written" in refused(str(adapter), REPO)
