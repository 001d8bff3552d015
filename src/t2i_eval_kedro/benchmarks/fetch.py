"""Downloads of the benchmarks that live on the Hugging Face hub: pinned, resumable, checked.

The commit of the data set is resolved once and written, with the sizes and checksums that the hub states, to ``fetched.json``
beside the files. Every later fetch asks for that same commit, goes on where the last one stopped, and fetches again what
no longer has its checksum. ``HF_ENDPOINT`` names another hub (a mirror), as everywhere.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

from t2i_eval_kedro.benchmarks.files import contained
from t2i_eval_kedro.datasets.atomic import atomic_file
from t2i_eval_kedro.errors import T2IEvalError

RECORD = "fetched.json"
MAX_UNPACKED_RATIO = 20  # images hardly shrink; an archive that grows more is a bomb
DEFAULT_ENDPOINT = "https://huggingface.co"


@dataclass(frozen=True)
class HubSource:
    """A data set on the hub: its name, the files that are labels, and those that hold images."""

    repo_id: str
    labels: tuple[str, ...]
    images: tuple[str, ...]


SOURCES: dict[str, HubSource] = {
    "evalmuse": HubSource("DY-Evalab/EvalMuse", ("*.json",), ("*.zip*",)),
    "evalalign": HubSource("Fudan-FUXI/EvalAlign-datasets", ("*.json", "*.jsonl", "*.csv"), ("*.zip*", "*.tar*")),
    "t2i_eval_bench": HubSource("DataHammer/T2I-Eval-Bench", ("*.json",), ("*.tar.gz",)),
    "t2i_eval_distill": HubSource("DataHammer/T2I-Eval-Distill-GPT-4o", ("*json*",), ("*.tar*",)),
}


@dataclass(frozen=True)
class Remote:
    """One file as the hub states it; ``checksum`` is "sha256:..." of its content or "git:..." of its git blob."""

    name: str
    size: int
    checksum: str


def fetch_benchmark(
    name: str,
    raw_root: Path,
    revision: str | None = None,
    images: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """Fetch the files of benchmark ``name`` into ``raw_root/name``.

    Args:
        name: one of :data:`SOURCES`.
        raw_root: folder that holds a folder for each benchmark.
        revision: commit, tag or branch; without it the commit of the last fetch, and at the first the newest.
        images: fetch the images too and unpack them from tar and zip archives.
        say: is told what is done, a line at a time.

    Returns:
        The files, checked.

    Raises:
        T2IEvalError: the hub has no such benchmark, data set or revision, cannot be reached, or sends something else than it
            states.
    """
    source = SOURCES.get(name)
    if source is None:
        raise T2IEvalError(
            f"Benchmark '{name}' is not fetched from the Hugging Face hub (those that are: {', '.join(SOURCES)}); "
            f"put its files into {raw_root / name} yourself."
        )
    folder = raw_root / name
    record = _recorded(folder / RECORD)
    commit, listed = _listing(source.repo_id, revision or record.get("commit") or "main")
    patterns = source.labels + (source.images if images else ())
    chosen = [file for file in listed if any(fnmatch.fnmatch(file.name, pattern) for pattern in patterns)]
    if not chosen:
        raise T2IEvalError(
            f"{source.repo_id} at {commit} has no file like {', '.join(patterns)}; try another revision."
        )
    paths = [_fetch_file(source.repo_id, commit, file, folder, say) for file in chosen]
    with atomic_file(folder / RECORD) as temporary:
        content = {"repo_id": source.repo_id, "commit": commit, "files": [asdict(file) for file in chosen]}
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    for path in paths:
        if path.name.endswith((".tar", ".tar.gz", ".tgz", ".zip")):
            say(f"unpacking {path.name}")
            _unpack(path, folder)
        elif ".zip." in path.name:
            say(f"{path.name} is a part of a larger archive; join the parts in order and unpack it in {folder}")
    return paths


def hub_endpoint() -> str:
    """The hub's address, read when it is needed: huggingface_hub reads the variable when it is imported."""
    return os.environ.get("HF_ENDPOINT", DEFAULT_ENDPOINT).rstrip("/")


def network_errors() -> tuple[type[Exception], ...]:
    """What huggingface_hub raises when the hub refuses or cannot be reached: its own error and the HTTP client's.

    Its own error inherits from that of the client, which is another package in every major version.
    """
    from huggingface_hub.errors import HfHubHTTPError

    clients = tuple(base for base in HfHubHTTPError.__bases__ if issubclass(base, Exception))
    return (HfHubHTTPError, OSError, *clients)


def _recorded(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        record = json.loads(path.read_bytes())
    except ValueError as error:
        raise T2IEvalError(f"{path} is not readable JSON ({error}); delete it to fetch the newest files.") from error
    return record if isinstance(record, dict) else {}


def _listing(repo_id: str, revision: str) -> tuple[str, list[Remote]]:
    """The commit that ``revision`` means now, and its files."""
    from huggingface_hub import HfApi

    try:
        info = HfApi(endpoint=hub_endpoint()).dataset_info(repo_id, revision=revision, files_metadata=True)
    except network_errors() as error:
        raise T2IEvalError(
            f"{hub_endpoint()} does not give data set {repo_id} at revision {revision} ({_first_line(error)}); "
            "check the connection, HF_ENDPOINT and the revision."
        ) from error
    files = []
    for sibling in info.siblings or []:
        checksum = f"sha256:{sibling.lfs.sha256}" if sibling.lfs else f"git:{sibling.blob_id}"
        files.append(Remote(sibling.rfilename, int(sibling.size or 0), checksum))
    return str(info.sha), files


def _fetch_file(repo_id: str, commit: str, file: Remote, folder: Path, say: Callable[[str], None]) -> Path:
    """The local path of ``file``, which is fetched unless it is there and has its checksum.

    What has come of a file stands in ``<name>.part`` until it is whole; ``hf_hub_download`` would begin it anew.
    """
    try:
        path = contained(folder, file.name)
    except ValueError as error:
        raise T2IEvalError(f"{repo_id} names a file {file.name!r} that cannot be stored: {error}.") from error
    if path.is_file() and checksum_of(path, file.checksum) == file.checksum:
        return path
    part = path.with_name(f"{path.name}.part")
    resumed = part.is_file()
    say(f"fetching {file.name} ({file.size:,} bytes)")
    _download(repo_id, commit, file, part)
    if resumed and checksum_of(part, file.checksum) != file.checksum:
        part.unlink()  # the part was of another file
        _download(repo_id, commit, file, part)
    if checksum_of(part, file.checksum) != file.checksum:
        part.unlink()
        raise T2IEvalError(
            f"{file.name} of {repo_id} does not have the checksum {file.checksum}; the hub sends something else."
        )
    os.replace(part, path)
    return path


def _download(repo_id: str, commit: str, file: Remote, part: Path) -> None:
    """Add to ``part`` what it lacks of ``file``."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils._headers import build_hf_headers

    part.parent.mkdir(parents=True, exist_ok=True)
    have = part.stat().st_size if part.is_file() else 0
    if have > file.size:
        part.unlink()
        have = 0
    url = hf_hub_url(repo_id, file.name, repo_type="dataset", revision=commit, endpoint=hub_endpoint())
    try:
        with part.open("ab") as target:
            http_get(url, target, resume_size=have, headers=build_hf_headers(), expected_size=file.size)
    except network_errors() as error:
        raise T2IEvalError(
            f"{file.name} of {repo_id} could not be fetched ({_first_line(error)}); run the command again, "
            "it goes on where it stopped."
        ) from error


def checksum_of(path: Path, like: str) -> str:
    """The checksum of the file at ``path``, of the kind of ``like``: "sha256:..." or "git:..." (SHA-1 of the git blob)."""
    kind = like.partition(":")[0]
    digest = hashlib.sha256() if kind == "sha256" else hashlib.sha1(usedforsecurity=False)
    if kind == "git":
        digest.update(f"blob {path.stat().st_size}\0".encode())
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return f"{kind}:{digest.hexdigest()}"


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar or zip archive into ``folder``; members that lead out of it, links and devices are refused."""
    left = MAX_UNPACKED_RATIO * archive.stat().st_size + (1 << 20)
    try:
        for name, size, copy in _zip_members(archive) if archive.suffix == ".zip" else _tar_members(archive):
            left -= size
            if left < 0:
                raise T2IEvalError(
                    f"{archive.name} grows more than {MAX_UNPACKED_RATIO} times when unpacked; it was not unpacked further."
                )
            target = contained(folder, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(target) as temporary, temporary.open("wb") as file:
                shutil.copyfileobj(copy(), file)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError) as error:
        raise T2IEvalError(f"{archive.name} cannot be unpacked ({error}); delete it and fetch it again.") from error


Members = Iterator[tuple[str, int, Callable[[], IO[bytes]]]]


def _tar_members(archive: Path) -> Members:
    """Name, size and opener of every file in a tar archive."""
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isdir():
                continue
            if not member.isfile():
                raise ValueError(f"it holds {member.name!r}, which is not a file")
            yield member.name, member.size, partial(cast("Callable[..., IO[bytes]]", tar.extractfile), member)


def _zip_members(archive: Path) -> Members:
    """Name, size and opener of every file in a zip archive; a link comes out as a file that holds its target."""
    with zipfile.ZipFile(archive) as zipped:
        for member in zipped.infolist():
            if not member.is_dir():
                yield member.filename, member.file_size, partial(zipped.open, member)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")
