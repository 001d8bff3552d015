"""TFRecord files of ``tf.train.Example`` messages, read without TensorFlow.

A record is its length (8 bytes, little endian), a masked CRC-32C of these, the bytes and a masked CRC-32C of them. The bytes are a protocol
buffer: a map from names to lists of bytes, of 32-bit floats or of integers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from t2i_eval_kedro.errors import T2IEvalError

MAX_RECORD = 1 << 28  # bytes; a damaged length is not taken for a record of this size
_POLYNOMIAL = 0x82F63B78  # Castagnoli's, reversed
_MASK = 0xA282EAD8
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

Feature = list[bytes] | list[float] | list[int]


def read_examples(path: Path) -> Iterator[dict[str, Feature]]:
    """Each example of the file ``path``: name -> its values.

    Raises:
        T2IEvalError: the file is missing, cut short or damaged; the message names the record.
    """
    if not path.is_file():
        raise T2IEvalError(f"{path} is not there; put the benchmark's files where its authors' release has them.")
    with path.open("rb") as file:
        for number in range(1 << 62):
            header = file.read(12)
            if not header:
                return
            where = f"record {number} of {path}"
            if header.startswith(b"version http"):
                raise T2IEvalError(
                    f"{path} is a pointer of Git LFS, not the file itself; run `git lfs pull` in its repository."
                )
            if len(header) < 12 or checksum(header[:8]) != int.from_bytes(header[8:], "little"):
                raise T2IEvalError(f"The length of {where} is damaged; fetch the file again.")
            (length,) = struct.unpack("<Q", header[:8])
            body = file.read(length + 4) if length <= MAX_RECORD else b""
            if len(body) < length + 4 or checksum(body[:length]) != int.from_bytes(body[length:], "little"):
                raise T2IEvalError(f"The file is cut short or damaged at {where}; fetch it again.")
            try:
                yield parse_example(body[:length])
            except (ValueError, IndexError, struct.error) as error:
                raise T2IEvalError(f"The {where} is not a tf.train.Example ({error}).") from error


def parse_example(data: bytes) -> dict[str, Feature]:
    """The features of an encoded ``tf.train.Example``.

    Raises:
        ValueError: the bytes are no such message.
    """
    features: dict[str, Feature] = {}
    for _, example in _fields(data, 1):
        for _, entry in _fields(example, 1):
            parts = dict(_fields(entry))
            name, feature = parts.get(1, b""), parts.get(2, b"")
            features[_bytes(name).decode()] = _values(_bytes(feature))
    return features


def _values(feature: bytes) -> Feature:
    """The values of an encoded ``Feature``, of which one kind is set."""
    for kind, listed in _fields(feature):
        values = [value for _, value in _fields(_bytes(listed), 1)]
        if kind == 1:
            return [_bytes(value) for value in values]
        if kind == 2:  # packed, or one by one
            return [float(x) for value in values for x in np.frombuffer(_bytes(value), "<f4")]
        if kind == 3:
            return [_signed(x) for value in values for x in ([value] if isinstance(value, int) else _varints(value))]
    return []


def _fields(data: bytes | int, only: int | None = None) -> Iterator[tuple[int, bytes | int]]:
    """The fields of an encoded message, or those of the number ``only``: number and value (an integer, or bytes)."""
    data = _bytes(data)
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        value: bytes | int
        if kind == _VARINT:
            value, at = _varint(data, at)
        else:
            if kind == _BYTES:
                size, at = _varint(data, at)
            elif kind in (_FIXED32, _FIXED64):
                size = 4 if kind == _FIXED32 else 8
            else:
                raise ValueError(f"wire type {kind}")
            value, at = data[at : at + size], at + size
            if at > len(data):
                raise ValueError("a field is longer than its message")
        if only is None or number == only:
            yield number, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The integer that begins at ``at``, and where the next field begins."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("an integer of more than ten bytes")


def _varints(data: bytes) -> Iterator[int]:
    at = 0
    while at < len(data):
        value, at = _varint(data, at)
        yield value


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _bytes(value: bytes | int) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number in place of a message")
    return value


def checksum(data: bytes) -> int:
    """The masked CRC-32C of ``data``, as TFRecord files hold it."""
    crc = int(_crc()(np.frombuffer(data, np.uint8), _table()))
    return (((crc >> 15) | (crc << 17)) + _MASK) & 0xFFFFFFFF


@cache
def _table() -> np.ndarray[Any, np.dtype[np.uint32]]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (_POLYNOMIAL if byte & 1 else 0)
        table.append(byte)
    return np.array(table, np.uint32)


@cache
def _crc() -> Any:
    import numba  # slow to import; a loop over the bytes of 18,000 heat maps would take hours without it

    @numba.njit(cache=False)
    def crc(data, table):  # type: ignore[no-untyped-def]
        value = np.uint32(0xFFFFFFFF)
        for byte in data:
            value = table[(value ^ byte) & np.uint32(0xFF)] ^ (value >> np.uint32(8))
        return value ^ np.uint32(0xFFFFFFFF)

    return crc
