"""Fetching from a hub: a local HTTP server stands in for it."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zipfile
from pathlib import Path

import pytest
from benchmark_helpers import picture
from click.testing import CliRunner
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from t2i_eval_kedro.benchmarks.fetch import RECORD, checksum_of, fetch_benchmark
from t2i_eval_kedro.cli.fetch import fetch
from t2i_eval_kedro.errors import T2IEvalError

REPO = "DataHammer/T2I-Eval-Bench"
OTHER = "DY-Evalab/EvalMuse"
COMMITS = {"main": "a" * 40, "v0": "b" * 40, "a" * 40: "a" * 40, "b" * 40: "b" * 40}


def archive(*names: str, link: bool = False, data: bytes = picture()) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        if link:
            info = tarfile.TarInfo("link")
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(info)
    return out.getvalue()


class Hub:
    """The two parts of the hub's interface that a download needs."""

    def __init__(self, server: HTTPServer) -> None:
        self.files = {"scores.json": b"[]", "t2i-eval-bench.json": b'["x"]', "images.tar.gz": archive("images/0.png")}
        self.sent: list[tuple[str, str, str | None]] = []
        self.cut_after: int | None = None
        self.wrong = False
        server.expect_request(f"/api/datasets/{REPO}/revision/main").respond_with_handler(self.listing)
        for revision in COMMITS:
            server.expect_request(f"/api/datasets/{REPO}/revision/{revision}").respond_with_handler(self.listing)
            for name in self.files:
                path = f"/datasets/{REPO}/resolve/{revision}/{name}"
                server.expect_request(path).respond_with_handler(self.file)

    def listing(self, request: Request) -> Response:
        commit = COMMITS[request.path.rpartition("/")[2]]
        siblings = []
        for name, data in self.files.items():
            blob = hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()
            entry: dict[str, object] = {"rfilename": name, "size": len(data), "blobId": blob}
            if name.endswith(".gz"):
                entry["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
            siblings.append(entry)
        return Response(json.dumps({"id": REPO, "sha": commit, "siblings": siblings}), content_type="application/json")

    def file(self, request: Request) -> Response:
        *_, revision, name = request.path.split("/")
        data = self.files[name]
        wanted = request.headers.get("Range")
        self.sent.append((request.method, f"{revision[0]}/{name}", wanted))
        if self.wrong:
            data = b"?" * len(data)
        if wanted is not None:
            start = int(wanted.removeprefix("bytes=").partition("-")[0])
            headers = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
            return Response(data[start:], status=206, headers=headers)
        return Response(data[: self.cut_after])

    @property
    def gets(self) -> list[str]:
        return [name for method, name, _ in self.sent if method == "GET"]


@pytest.fixture
def hub(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> Hub:
    monkeypatch.setenv("HF_ENDPOINT", httpserver.url_for("/").rstrip("/"))
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    return Hub(httpserver)


def test_labels_are_fetched_pinned_and_checked_and_not_twice(hub: Hub, tmp_path: Path) -> None:
    paths = fetch_benchmark("t2i_eval_bench", tmp_path)
    assert sorted(path.name for path in paths) == ["scores.json", "t2i-eval-bench.json"]
    folder = tmp_path / "t2i_eval_bench"
    assert (folder / "scores.json").read_bytes() == b"[]"
    record = json.loads((folder / RECORD).read_text())
    assert (record["repo_id"], record["commit"]) == (REPO, "a" * 40)
    assert set(hub.gets) == {"a/scores.json", "a/t2i-eval-bench.json"}
    hub.sent.clear()
    fetch_benchmark("t2i_eval_bench", tmp_path)
    assert hub.sent == []


def test_a_later_fetch_stays_at_the_commit_of_the_first(hub: Hub, tmp_path: Path) -> None:
    fetch_benchmark("t2i_eval_bench", tmp_path, revision="v0")
    assert all(name.startswith("b/") for name in hub.gets)
    (tmp_path / "t2i_eval_bench" / "scores.json").write_bytes(b"{}")  # same size, other content
    hub.sent.clear()
    fetch_benchmark("t2i_eval_bench", tmp_path)
    assert hub.gets == ["b/scores.json"]
    assert (tmp_path / "t2i_eval_bench" / "scores.json").read_bytes() == b"[]"


@pytest.mark.parametrize(("start", "ranges"), [("right", ["bytes=1000-"]), ("wrong", ["bytes=1000-", None])])
def test_a_broken_download_goes_on_where_it_stopped(
    hub: Hub, tmp_path: Path, start: str, ranges: list[str | None]
) -> None:
    data = bytes(range(256)) * 100
    hub.files["scores.json"] = data
    hub.cut_after = 1000
    with pytest.raises(T2IEvalError, match=r"scores\.json .* could not be fetched .* goes on where it stopped"):
        fetch_benchmark("t2i_eval_bench", tmp_path)
    folder = tmp_path / "t2i_eval_bench"
    assert not (folder / "scores.json").exists()
    part = folder / "scores.json.part"
    assert part.read_bytes() == data[:1000]
    if start == "wrong":
        part.write_bytes(bytes(1000))
    hub.cut_after = None
    hub.sent.clear()
    fetch_benchmark("t2i_eval_bench", tmp_path)
    assert [wanted for _, name, wanted in hub.sent if name == "a/scores.json"] == ranges
    assert (folder / "scores.json").read_bytes() == data
    assert not part.exists()


def test_images_are_unpacked(hub: Hub, tmp_path: Path) -> None:
    result = CliRunner().invoke(fetch, ["t2i_eval_bench", "--raw-root", str(tmp_path), "--images"])
    assert result.exit_code == 0, result.output
    assert "3 files of t2i_eval_bench" in result.output
    assert (tmp_path / "t2i_eval_bench" / "images" / "0.png").read_bytes() == picture()


def test_zip_archives_are_unpacked_too(hub: Hub, tmp_path: Path, httpserver: HTTPServer) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as zipped:
        zipped.writestr("images/1.png", picture())
        zipped.writestr("empty/", b"")
    for name, content in (("images.zip", out.getvalue()), ("more.zip.part-aa", b"x")):
        hub.files[name] = content
        httpserver.expect_request(f"/datasets/{OTHER}/resolve/{'a' * 40}/{name}").respond_with_handler(hub.file)
    for name in ("scores.json", "t2i-eval-bench.json"):
        httpserver.expect_request(f"/datasets/{OTHER}/resolve/{'a' * 40}/{name}").respond_with_handler(hub.file)
    httpserver.expect_request(f"/api/datasets/{OTHER}/revision/main").respond_with_handler(hub.listing)
    said: list[str] = []
    fetch_benchmark("evalmuse", tmp_path, images=True, say=said.append)
    assert (tmp_path / "evalmuse" / "images" / "1.png").read_bytes() == picture()
    assert said[-1].startswith("more.zip.part-aa is a part of a larger archive")
    escape = io.BytesIO()
    with zipfile.ZipFile(escape, "w") as zipped:
        zipped.writestr("../escape.png", picture())
    hub.files["images.zip"] = escape.getvalue()
    with pytest.raises(T2IEvalError, match="climbs out"):
        fetch_benchmark("evalmuse", tmp_path, revision="main", images=True)
    assert not (tmp_path / "escape.png").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (archive("../escape.png"), "cannot be unpacked"),
        (archive(link=True), "not a file"),
        (archive("/etc/escape.png"), "cannot be unpacked"),
        (b"no archive", "cannot be unpacked"),
        (archive("zeros", data=bytes(1 << 25)), "grows more than 20 times"),
    ],
)
def test_bad_archives_are_refused(hub: Hub, tmp_path: Path, content: bytes, message: str) -> None:
    hub.files["images.tar.gz"] = content
    with pytest.raises(T2IEvalError, match=message):
        fetch_benchmark("t2i_eval_bench", tmp_path / "raw", images=True)
    assert not (tmp_path / "escape.png").exists()
    assert not (tmp_path / "raw" / "escape.png").exists()


def test_files_that_are_not_what_the_hub_states_are_refused(hub: Hub, tmp_path: Path) -> None:
    hub.wrong = True
    with pytest.raises(T2IEvalError, match="does not have the checksum git:"):
        fetch_benchmark("t2i_eval_bench", tmp_path)


def test_what_cannot_be_fetched_ends_in_one_sentence(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = CliRunner()
    result = runner.invoke(fetch, ["tifa160", "--raw-root", str(tmp_path)])
    assert result.exit_code == 1
    assert "those that are: evalmuse" in result.output
    result = runner.invoke(fetch, ["t2i_eval_bench", "--raw-root", str(tmp_path), "--revision", "nowhere"])
    assert result.exit_code == 1
    assert "at revision nowhere" in result.output
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    result = runner.invoke(fetch, ["t2i_eval_bench", "--raw-root", str(tmp_path)])
    assert result.exit_code == 1
    assert result.output.startswith("Error: http://127.0.0.1:9 does not give data set")
    assert result.output.count("\n") == 1


def test_checksums_are_those_of_git_and_sha256(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"hello\n")
    assert checksum_of(path, "git:") == "git:ce013625030ba8dba906f756967f9e9ca394464a"
    assert checksum_of(path, "sha256:").endswith("be03")
