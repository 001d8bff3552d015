"""TFRecord files, written here byte by byte after the format's specification."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2i_eval_kedro.benchmarks.tfrecord import checksum, parse_example, read_examples
from t2i_eval_kedro.errors import T2IEvalError


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def message(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def feature(values: list) -> bytes:
    if values and isinstance(values[0], bytes):
        return message(1, b"".join(message(1, value) for value in values))
    if values and isinstance(values[0], float):
        return message(2, message(1, b"".join(struct.pack("<f", value) for value in values)))
    return message(3, message(1, b"".join(map(varint, values))))


def example(**features: list) -> bytes:
    entries = [message(1, message(1, name.encode()) + message(2, feature(v))) for name, v in features.items()]
    return message(1, b"".join(entries))


def write_tfrecord(path: Path, examples: list[bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    records = b""
    for data in examples:
        length = struct.pack("<Q", len(data))
        records += length + struct.pack("<I", checksum(length)) + data + struct.pack("<I", checksum(data))
    path.write_bytes(records)
    return path


def test_the_checksum_is_crc32c_with_the_mask_of_the_format() -> None:
    # RFC 3720, B.4: 32 bytes of zeros have the CRC-32C 0x8a9136aa, 32 of ones 0x62a8ab43.
    def masked(crc: int) -> int:
        return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF

    assert checksum(bytes(32)) == masked(0x8A9136AA)
    assert checksum(b"\xff" * 32) == masked(0x62A8AB43)


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=5),
        st.one_of(
            st.lists(st.binary(max_size=200), min_size=1, max_size=3),
            st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=3),
            st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=3),
        ),
        max_size=4,
    )
)
def test_what_is_written_is_read(features: dict) -> None:
    assert parse_example(example(**features)) == features


def test_values_that_are_not_packed_are_read() -> None:
    floats = message(2, b"".join(varint(1 << 3 | 5) + struct.pack("<f", value) for value in (0.5, 1.5)))
    integers = message(3, b"".join(varint(1 << 3) + varint(value) for value in (3, -1)))
    entries = [message(1, message(1, b"f") + message(2, floats)), message(1, message(1, b"i") + message(2, integers))]
    assert parse_example(message(1, b"".join(entries))) == {"f": [0.5, 1.5], "i": [3, -1]}


def test_every_damaged_byte_is_noticed(tmp_path: Path) -> None:
    path = write_tfrecord(tmp_path / "a.tfrecord", [example(a=[1.5]), example(b=[b"x"])])
    assert list(read_examples(path)) == [{"a": [1.5]}, {"b": [b"x"]}]
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        with pytest.raises(T2IEvalError, match=r"damaged|cut short"):
            list(read_examples(path))
    path.write_bytes(whole[:-3])
    with pytest.raises(T2IEvalError, match="record 1"):
        list(read_examples(path))


def test_a_pointer_of_git_lfs_and_a_record_of_something_else_are_named(tmp_path: Path) -> None:
    path = tmp_path / "train.tfrecord"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(T2IEvalError, match="git lfs pull"):
        list(read_examples(path))
    with pytest.raises(T2IEvalError, match=r"is not a tf\.train\.Example"):
        list(read_examples(write_tfrecord(path, [b"\x0a\xff"])))
    with pytest.raises(T2IEvalError, match="is not there"):
        list(read_examples(tmp_path / "none"))
