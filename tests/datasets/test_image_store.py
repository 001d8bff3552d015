"""The image store: round trips, random access, use from several processes, faults."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from t2i_eval_kedro.datasets.image_store import ImageStore, ImageStoreDataset, write_image_store
from t2i_eval_kedro.errors import T2IEvalError


def encoded(colour: object, size: tuple[int, int] = (8, 6), form: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    mode = "RGB" if isinstance(colour, str) or len(colour) == 3 else "RGBA"  # type: ignore[arg-type]
    Image.new(mode, size, colour).save(out, form, **options)  # type: ignore[arg-type]
    return out.getvalue()


def test_images_come_back_as_they_were(tmp_path: Path) -> None:
    images = {f"sd1.5_{i}/p{i}.v2.jpg": encoded("red", (8 + i, 8), "JPEG") for i in range(50)}
    assert write_image_store(tmp_path / "store", iter(images.items()), shard_bytes=4000) == 50
    store = ImageStore(tmp_path / "store")
    assert store.keys() == list(images)
    assert len(store) == 50
    assert dict(store.items()) == images
    assert len(list((tmp_path / "store").glob("*.tar"))) > 3
    assert store.image("sd1.5_7/p7.v2.jpg").size == (15, 8)
    assert "sd1.5_7/p7.v2.jpg" in store
    assert "nothing" not in store


def test_shards_are_tar_files_whose_webdataset_keys_decode_to_ours(tmp_path: Path) -> None:
    images = {
        "a.b/c.d.png": encoded("red"),
        "a.b/c%2E": encoded("blue", form="WEBP"),
        "e": encoded("lime", form="JPEG"),
        "x" * 300: b"\xff",
    }
    write_image_store(tmp_path / "s", images.items())
    with tarfile.open(tmp_path / "s" / "images-00000.tar") as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    found = {}
    for name, data in members.items():
        parent, slash, last = name.rpartition("/")
        found[parent + slash + unquote(last.partition(".")[0])] = data
    assert found == images


@settings(max_examples=15, deadline=None)
@given(
    st.dictionaries(
        st.text("ab/%.é ", min_size=1, max_size=8).filter(lambda k: k[0] != "/" and ".." not in k),
        st.binary(max_size=2000),
    )
)
def test_any_bytes_under_any_key_come_back(tmp_path_factory: pytest.TempPathFactory, images: dict[str, bytes]) -> None:
    folder = tmp_path_factory.mktemp("any") / "store"
    write_image_store(folder, images.items(), shard_bytes=1500)
    assert dict(ImageStore(folder).items()) == images


def test_the_same_images_give_the_same_bytes(tmp_path: Path) -> None:
    images = [(str(i), encoded("red", (9, 9 + i))) for i in range(5)]
    for name in "ab":
        write_image_store(tmp_path / name, images)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)


def test_turned_and_transparent_images_are_read_upright_and_on_white(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    images = {"turned": encoded("red", (8, 4), "JPEG", exif=exif), "glass": encoded((0, 0, 0, 0))}
    write_image_store(tmp_path / "s", images.items())
    store = ImageStore(tmp_path / "s")
    assert store.image("turned").size == (4, 8)
    assert store.image("glass").mode == "RGB"
    assert store.image("glass").getpixel((0, 0)) == (255, 255, 255)


def _read(job: tuple[ImageStore, str]) -> bytes:
    return job[0].read(job[1])


def test_one_store_serves_processes_and_threads(tmp_path: Path) -> None:
    images = {str(i): bytes([i]) * 100 for i in range(40)}
    write_image_store(tmp_path / "s", images.items(), shard_bytes=2000)
    store = ImageStore(tmp_path / "s")
    keys = store.keys()
    jobs = [(store, key) for key in keys]
    with ProcessPoolExecutor(2) as pool:
        assert list(pool.map(_read, jobs)) == list(images.values())
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(_read, jobs)) == list(images.values())


@pytest.mark.parametrize("keys", [["a", "a"], [""], ["/a"], ["b/../a"]])
def test_keys_that_cannot_be_are_refused_and_the_old_store_stays(tmp_path: Path, keys: list[str]) -> None:
    write_image_store(tmp_path / "s", [("old", b"x")])
    with pytest.raises(T2IEvalError, match="cannot be a key"):
        write_image_store(tmp_path / "s", [(key, b"y") for key in keys])
    assert ImageStore(tmp_path / "s").keys() == ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_a_failing_source_leaves_the_old_store(tmp_path: Path) -> None:
    write_image_store(tmp_path / "s", [("old", b"x")])

    def failing() -> Iterator[tuple[str, bytes]]:
        yield "new", b"y"
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        write_image_store(tmp_path / "s", failing())
    assert ImageStore(tmp_path / "s").keys() == ["old"]


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(T2IEvalError, match="is not an image store"):
        ImageStore(tmp_path)
    write_image_store(tmp_path / "s", [("a", bytes(3000))])
    store = ImageStore(tmp_path / "s")
    with pytest.raises(T2IEvalError, match="not contain the image 'b'"):
        store.read("b")
    (tmp_path / "s" / "images-00000.tar").write_bytes(b"")
    with pytest.raises(T2IEvalError, match="cut short"):
        store.read("a")


def test_the_dataset_saves_iterables_and_stores(tmp_path: Path) -> None:
    dataset = ImageStoreDataset(filepath=str(tmp_path / "s"), made_by="ingestion")
    with pytest.raises(T2IEvalError, match="pipelines=ingestion"):
        dataset.load()
    assert len(ImageStoreDataset(filepath=str(tmp_path / "s"), optional=True).load()) == 0
    dataset.save((key, b"x") for key in "ab")
    copy = ImageStoreDataset(filepath=str(tmp_path / "copy"))
    copy.save(dataset.load())
    assert dataset.exists()
    assert copy.load().keys() == ["a", "b"]
    copy.save([])
    assert len(copy.load()) == 0
