"""How long a benchmark of EvalMuse-40K's size takes to ingest, and how much memory.

Makes (synthetic) raw files in EvalMuse's form: 4,000 prompts, 20 generators, 40,000 JPEG images of 512 x 512 pixels, three
raters, six elements a prompt. Then runs ``kedro run --pipelines=ingestion`` on them twice (start of Python included), and
compares the image store with Parquet shards.

    python -m perf ingestion        (or python -m perf.ingestion NUMBER_OF_IMAGES)
"""

from __future__ import annotations

import io
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from t2i_eval_kedro.datasets.image_store import ImageStore, write_image_store

ROOT = Path(__file__).parents[1]
IMAGES = 40_000
GENERATORS = 20
IMAGES_A_PROMPT = 10
ELEMENTS = ("animal", "color", "object", "location", "counting", "activity")
POOL = 64
SIDE = 512
READS = 500
COMPARED = 2000
ROWS_A_GROUP = 8


def pictures() -> list[bytes]:
    """JPEG images with the detail of ordinary pictures (about 50 kB each)."""
    rng = np.random.default_rng(0)
    encoded = []
    for _ in range(POOL):
        coarse = Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).resize(
            (SIDE, SIDE), Image.Resampling.BICUBIC
        )
        noise = rng.normal(0, 6, (SIDE, SIDE, 1))
        pixels = np.clip(np.asarray(coarse, float) + noise, 0, 255).astype(np.uint8)
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, "JPEG", quality=85)
        encoded.append(out.getvalue())
    return encoded


def make_raw(folder: Path, images: int) -> int:
    """Write the raw files; returns the bytes of all images."""
    rng = np.random.default_rng(1)
    pool, rows, total = pictures(), [], 0
    for number in range(images // IMAGES_A_PROMPT):
        prompt = (
            " and ".join(f"{element} {number % (7 + i)}" for i, element in enumerate(ELEMENTS)) + f" in scene {number}"
        )
        for generator in rng.choice(GENERATORS, IMAGES_A_PROMPT, replace=False):
            path = f"model{generator:02d}/{number:05d}.jpg"
            picture = pool[int(rng.integers(POOL))]
            comment = path.encode()  # makes every file different: a JPEG comment after the first marker
            data = picture[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + picture[2:]
            file = folder / "images" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
            total += len(data)
            labels = {f"{e} {number % (7 + i)} ({e})": rng.integers(0, 2, 3).tolist() for i, e in enumerate(ELEMENTS)}
            rows.append(
                {
                    "prompt_id": f"{number:05d}",
                    "prompt": prompt,
                    "type": "synthetic",
                    "img_path": path,
                    "total_score": rng.integers(1, 6, 3).tolist(),
                    "element_score": labels,
                    "promt_meaningless": [0, 0, 0],
                    "split_confidence": [1, 1, 1],
                    "attribute_confidence": [1, 1, 1],
                    "fidelity_label": ["a", "b"],
                }
            )
    (folder / "train_list.json").write_text(json.dumps(rows))
    return total


def ingest(project: Path, raw_root: Path) -> dict[str, float]:
    """Run the ingestion pipeline as a person does; seconds, and the most memory that any run so far has used."""
    command = ["kedro", "run", "--pipelines=ingestion", f"--params=benchmark=evalmuse,raw_root={raw_root}"]
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", *command], cwd=project, check=False, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(done.stderr)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return {"seconds": round(seconds, 1), "peak_memory_mib": round(peak)}


def compare_formats(store: ImageStore, folder: Path) -> dict[str, dict[str, float]]:
    """Write and read speed of tar shards with an index, and of Parquet shards with small row groups."""
    some = store.keys()[:COMPARED]
    images = {key: store.read(key) for key in some}
    wanted = [some[i] for i in np.random.default_rng(2).integers(0, len(some), READS)]

    start = time.perf_counter()
    write_image_store(folder / "tar", images.items())
    tar_write = time.perf_counter() - start
    tar = ImageStore(folder / "tar")
    start = time.perf_counter()
    for key in wanted:
        tar.read(key)
    tar_read = time.perf_counter() - start

    start = time.perf_counter()
    path = folder / "images.parquet"
    table = pa.table({"key": some, "image": pa.array(list(images.values()), pa.large_binary())})
    pq.write_table(table, path, row_group_size=ROWS_A_GROUP, compression="none", use_dictionary=False)
    parquet_write = time.perf_counter() - start
    place = {key: i for i, key in enumerate(some)}
    file = pq.ParquetFile(path, memory_map=True)
    start = time.perf_counter()
    for key in wanted:
        group, row = divmod(place[key], ROWS_A_GROUP)
        file.read_row_group(group, columns=["image"])["image"][row].as_py()
    parquet_read = time.perf_counter() - start
    return {
        "tar": {"write_s": round(tar_write, 2), "random_read_ms": round(1000 * tar_read / READS, 3)},
        "parquet": {"write_s": round(parquet_write, 2), "random_read_ms": round(1000 * parquet_read / READS, 3)},
    }


def main(images: int = IMAGES) -> dict[str, object]:
    """Measure with ``images`` images: the first ingestion, a second one with nothing changed, and two forms of the store."""
    with tempfile.TemporaryDirectory(prefix="ingestion-") as name:
        folder = Path(name)
        start = time.perf_counter()
        size = make_raw(folder / "raw" / "evalmuse", images)
        made = time.perf_counter() - start
        project = folder / "project"
        for path in ("pyproject.toml", ".telemetry", "conf"):
            copy = shutil.copytree if (ROOT / path).is_dir() else shutil.copy
            (project / "src").mkdir(parents=True, exist_ok=True)  # Kedro wants one; the package itself is installed
            copy(ROOT / path, project / path)
        first, second = (ingest(project, folder / "raw") for _ in range(2))
        made_here = project / "data/02_intermediate/evalmuse"
        card = json.loads((made_here / "data_card.json").read_text())
        return {
            "what": f"{images} synthetic JPEG images of {SIDE} x {SIDE} pixels in EvalMuse-40K's form",
            "image_bytes": size,
            "make_raw_s": round(made, 1),
            "kedro_run": first,
            "goals": {"seconds": 600, "peak_memory_mib": 2048},
            "second_kedro_run_with_nothing_changed_s": second["seconds"],
            "sizes": card["sizes"],
            "element_positions": {k: v for k, v in card["element_positions"].items() if k != "examples_not_found"},
            "image_store_files": sum(1 for path in (made_here / "images").iterdir() if path.is_file()),
            "formats": compare_formats(ImageStore(made_here / "images"), folder / "formats"),
            "cores": os.cpu_count(),
            "load_average_at_the_end": round(os.getloadavg()[0], 1),
        }


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]) if len(sys.argv) > 1 else IMAGES), indent=1))
