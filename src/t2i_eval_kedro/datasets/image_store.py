"""The image store: many images in few files, any of them by its key.

A store is a folder of uncompressed tar shards in WebDataset's layout and ``index.parquet``, which says for each key
where its bytes stand. Readers of shards (WebDataset, Ray Data) stream them; :class:`ImageStore` reads one image with
one system call at a known offset. Nothing is shared between reads, so a store may be used from several threads and
processes.

A member of a shard is named after its key, with ``%`` and the dots of the last part percent-encoded, because WebDataset
takes everything up to the first dot of a file name as the key of the sample.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from kedro.io import AbstractDataset
from PIL import Image, ImageOps

from t2i_eval_kedro.datasets.atomic import atomic_folder
from t2i_eval_kedro.datasets.canonical import acting_on_faults, missing_file
from t2i_eval_kedro.errors import T2IEvalError

INDEX = "index.parquet"
SHARD_BYTES = 128 * 2**20
_ORIENTATION = 0x0112  # the EXIF tag
_ON_ITS_SIDE = (5, 6, 7, 8)


class ImageStore:
    """Images by key, read only; see :func:`write_image_store`."""

    def __init__(self, folder: Path | None) -> None:
        """Open the store at ``folder``; ``None`` is the store without images.

        Raises:
            T2IEvalError: ``folder`` is not an image store.
        """
        self.folder = folder
        self._places: dict[str, tuple[str, int, int]] = {}
        if folder is not None:
            if not (folder / INDEX).is_file():
                raise T2IEvalError(f"{folder} is not an image store ({INDEX} is not there); make it again.")
            index = pq.read_table(folder / INDEX).to_pydict()
            places = zip(index["shard"], index["offset"], index["size"], strict=True)
            self._places = dict(zip(index["key"], places, strict=True))

    def keys(self) -> list[str]:
        """The keys, in the order in which the images were written."""
        return list(self._places)

    def shards(self) -> list[Path]:
        """The tar files that hold the images, for whatever streams them."""
        names = dict.fromkeys(shard for shard, _, _ in self._places.values())
        return [] if self.folder is None else [self.folder / name for name in names]

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def read(self, key: str) -> bytes:
        """The encoded image (PNG, JPEG or WebP) under ``key``.

        Raises:
            T2IEvalError: there is no such image, or its shard is shorter than the index says.
        """
        if self.folder is None or key not in self._places:
            raise T2IEvalError(
                f"The image store {self.folder or ''} does not contain the image '{key}'; run the ingestion of its benchmark again."
            )
        shard, offset, size = self._places[key]
        with (self.folder / shard).open("rb") as file:
            data = os.pread(file.fileno(), size, offset)
        if len(data) != size:
            raise T2IEvalError(
                f"Shard {shard} of the image store {self.folder} is cut short; ingest its benchmark again."
            )
        return data

    def image(self, key: str) -> Image.Image:
        """The image under ``key`` as RGB, upright; what is transparent lies on white."""
        return decode(self.read(key))

    def items(self) -> Iterator[tuple[str, bytes]]:
        """Every key with its encoded image."""
        return ((key, self.read(key)) for key in self._places)


def image_size(data: bytes) -> tuple[int, int]:
    """Width and height of ``data`` (an encoded image) as :func:`decode` turns it, without decoding it."""
    with Image.open(io.BytesIO(data)) as opened:
        width, height = opened.size
        return (height, width) if _lies_on_its_side(opened) else (width, height)


def _lies_on_its_side(opened: Image.Image) -> bool:
    """Whether the EXIF orientation exchanges width and height; of a PNG, as far as it stands before the pixels."""
    if opened.format == "PNG" and not {"exif", "Raw profile type exif"} & set(opened.info):
        return False  # PIL would decode the image to look behind it
    return opened.getexif().get(_ORIENTATION, 1) in _ON_ITS_SIDE


def decode(data: bytes, least: tuple[int, int] | None = None) -> Image.Image:
    """``data`` (an encoded image) as RGB, turned as its EXIF orientation says, on white where it is transparent.

    Grey pixels of 16 bits are scaled to 8: 65535 is 255. A JPEG of much more than ``least`` (width, height) is decoded at a half, a
    quarter or an eighth of its size, no smaller than that.
    """
    with Image.open(io.BytesIO(data)) as opened:
        if least is not None:
            opened.draft("RGB", least[::-1] if _lies_on_its_side(opened) else least)  # does nothing to what is no JPEG
        return as_rgb(ImageOps.exif_transpose(opened))


def as_rgb(image: Image.Image) -> Image.Image:
    """``image`` as :func:`decode` shows it."""
    if image.mode.startswith("I;16"):
        image = Image.fromarray(np.round(np.asarray(image, dtype=np.float64) / 257).astype(np.uint8))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image.convert("RGB")


def write_image_store(folder: Path, images: Iterable[tuple[str, bytes]], shard_bytes: int = SHARD_BYTES) -> int:
    """Write ``images`` (key, encoded image) as the store at ``folder``, in place of what is there.

    ``images`` may be a generator: one image is held at a time. The same images give the same bytes.

    Args:
        folder: the store; it appears when all images are written.
        images: keys are unique, relative and use forward slashes.
        shard_bytes: a shard is closed when it has reached this size.

    Returns:
        The number of images.

    Raises:
        T2IEvalError: a key occurs twice, is empty or climbs.
    """
    seen: set[str] = set()
    index: dict[str, list[Any]] = {"key": [], "shard": [], "offset": [], "size": []}
    with atomic_folder(folder) as temporary:
        writer: _Shard | None = None
        try:
            for key, data in images:
                if key in seen or not key or key.startswith("/") or ".." in key.split("/"):
                    raise T2IEvalError(
                        f"'{key}' cannot be a key of an image store (it must be relative and occur once)."
                    )
                seen.add(key)
                if writer is None or writer.size >= shard_bytes:
                    number = 0 if writer is None else writer.number + 1
                    if writer is not None:
                        writer.close()
                    writer = _Shard(temporary, number)
                index["key"].append(key)
                index["shard"].append(writer.name)
                index["offset"].append(writer.add(key, data))
                index["size"].append(len(data))
        finally:
            if writer is not None:
                writer.close()
        types = pa.schema([("key", pa.string()), ("shard", pa.string()), ("offset", pa.int64()), ("size", pa.int64())])
        pq.write_table(pa.table(index, schema=types), temporary / INDEX)
    return len(seen)


class _Shard:
    """One tar file that is being written."""

    def __init__(self, folder: Path, number: int) -> None:
        self.number = number
        self.name = f"images-{number:05d}.tar"
        self._file = (folder / self.name).open("wb")
        self.size = 0

    def add(self, key: str, data: bytes) -> int:
        """Append ``data``; returns the offset of its first byte in the file."""
        info = tarfile.TarInfo(member_name(key, data))
        info.size = len(data)
        header = info.tobuf(tarfile.PAX_FORMAT)
        padding = -len(data) % tarfile.BLOCKSIZE
        self._file.write(header + data + bytes(padding))
        offset = self.size + len(header)
        self.size = offset + len(data) + padding
        return offset

    def close(self) -> None:
        """End the tar file with its two empty blocks."""
        if not self._file.closed:
            self._file.write(bytes(2 * tarfile.BLOCKSIZE))
            self._file.close()


def member_name(key: str, data: bytes) -> str:
    """The name of the member that holds the image ``data`` of ``key``; its WebDataset key, decoded, is ``key``."""
    parent, slash, name = key.rpartition("/")
    return f"{parent}{slash}{name.replace('%', '%25').replace('.', '%2E')}.{_suffix(data)}"


def _suffix(data: bytes) -> str:
    if data.startswith(b"\x89PNG"):
        return "png"
    return "webp" if data[8:12] == b"WEBP" else "jpg"


class ImageStoreDataset(AbstractDataset[Iterable[tuple[str, bytes]] | ImageStore, ImageStore]):
    """An image store as a Kedro dataset: loads an :class:`ImageStore`, saves one or an iterable of (key, bytes)."""

    def __init__(
        self,
        *,
        filepath: str,
        optional: bool = False,
        made_by: str | None = None,
        shard_bytes: int = SHARD_BYTES,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Describe the store.

        Args:
            filepath: its folder.
            optional: a store that is not there loads as the empty one.
            made_by: pipeline that makes it, named in the error when it is not there.
            shard_bytes: size at which a shard is closed.
            metadata: ignored here; plugins read it.
        """
        self._path = Path(filepath)
        self._optional = optional
        self._made_by = made_by
        self._shard_bytes = shard_bytes
        self.metadata = metadata

    @acting_on_faults()
    def load(self) -> ImageStore:
        """The store.

        Raises:
            T2IEvalError: it is not there and not optional.
        """
        if not self._exists():
            if self._optional:
                return ImageStore(None)
            raise missing_file(self._path, self._made_by)
        return ImageStore(self._path)

    @acting_on_faults()
    def save(self, data: Iterable[tuple[str, bytes]] | ImageStore) -> None:
        """Write ``data`` in place of what is there."""
        images = data.items() if isinstance(data, ImageStore) else data
        write_image_store(self._path, images, self._shard_bytes)

    def _exists(self) -> bool:
        return (self._path / INDEX).is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._path), "optional": self._optional}
