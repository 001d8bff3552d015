"""Training in several processes: what ``accelerate launch`` starts comes to the adapter of one process."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest
from plain_settings import settings_of
from safetensors.numpy import load_file

from t2i_eval_kedro.datasets.adapter import check_folder
from t2i_eval_kedro.datasets.image_store import ImageStore, write_image_store
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.models.settings import ModelSettings
from t2i_eval_kedro.training.launch import SFTJob, command, environment, run
from t2i_eval_kedro.training.settings import LaunchSettings, LoraSettings, SFTSettings
from t2i_eval_kedro.training.trainers import per_process, require_whole_groups

FSDP2 = Path(__file__).parents[2] / "conf/gpu/accelerate/fsdp2.yml"

# Sums of float32 in another order; measured: up to 3e-6, where a step is 3e-3. It holds inside an epoch: at its end, two processes are given some examples
# again where their number does not divide evenly.
TOLERANCE = 1e-5
SETTINGS = settings_of(
    SFTSettings,
    max_steps=5,
    batch_size=8,
    gradient_accumulation_steps=2,
    warmup_steps=2,
    logging_steps=2,
    save_steps=3,
    eval_examples=8,
    lora=settings_of(LoraSettings, r=4, alpha=8),
)


@pytest.fixture(scope="module")
def store(pictures, tmp_path_factory: pytest.TempPathFactory) -> ImageStore:
    folder = tmp_path_factory.mktemp("store") / "images"

    def encoded():
        for key, image in pictures.images.items():
            out = io.BytesIO()
            image.save(out, format="PNG")
            yield key, out.getvalue()

    write_image_store(folder, encoded())
    return ImageStore(folder)


def train(
    base_model: Path, examples, store: ImageStore, folder: Path, *, dtype: str = "float32", **launch: object
) -> tuple[Path, pd.DataFrame]:
    job = SFTJob(
        model=settings_of(ModelSettings, model=str(base_model), device="cpu", dtype=dtype),
        settings=SETTINGS,
        data_note="Made up.",
    )
    return run(job, examples, store, settings_of(LaunchSettings, **launch), folder)


@pytest.mark.slow
def test_two_processes_give_the_adapter_of_one(base_model: Path, examples, store: ImageStore, tmp_path: Path) -> None:
    long = [
        text.replace('"text": "', '"text": "' + 200 * "image ", 1) if at % 8 == 0 else text
        for at, text in enumerate(examples["messages"])
    ]
    examples = examples.assign(messages=long)  # where a batch has long ones, they are a part of their own
    one, curve_of_one = train(base_model, examples, store, tmp_path / "one")
    two, curve_of_two = train(base_model, examples, store, tmp_path / "two", processes=2)
    check_folder(two)
    assert {path.name for path in tmp_path.iterdir()} == {one.name, two.name}  # nothing else is left behind
    expected, found = (load_file(folder / "adapter_model.safetensors") for folder in (one, two))
    assert expected.keys() == found.keys()
    for name, values in expected.items():
        assert abs(values - found[name]).max() < TOLERANCE, name
    moved = max(abs(values).max() for name, values in found.items() if "lora_B" in name)
    assert moved > 500 * TOLERANCE  # these begin at zero: the tolerance is far below what was learned
    by_pass = ["token_accuracy"]  # a mean over the passes of a step, of which one process makes two
    pd.testing.assert_frame_equal(curve_of_one.drop(columns=by_pass), curve_of_two.drop(columns=by_pass), atol=1e-5)
    assert json.loads((one / "settings.json").read_text()) == json.loads((two / "settings.json").read_text())


@pytest.mark.slow
def test_two_processes_that_share_the_model_give_the_adapter_of_one(
    base_model: Path, examples, store: ImageStore, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """FSDP2 by the file that docs/cluster.md names: each process holds a share of the model, and none but the first reads it."""
    one, curve_of_one = train(base_model, examples, store, tmp_path / "one")
    two, curve_of_two = train(base_model, examples, store, tmp_path / "two", processes=2, accelerate=str(FSDP2))
    check_folder(two)
    told = re.findall(r"Process (\d) of 2 holds (\d+) of (\d+) parameters", capfd.readouterr().err)
    shares = {int(process): int(held) for process, held, _ in told}
    whole = {int(total) for _, _, total in told}
    assert set(shares) == {0, 1}
    assert len(whole) == 1
    assert max(shares.values()) < 0.6 * whole.pop()
    expected, found = (load_file(folder / "adapter_model.safetensors") for folder in (one, two))
    assert expected.keys() == found.keys()
    for name, values in expected.items():
        assert abs(values - found[name]).max() < TOLERANCE, name
    pd.testing.assert_frame_equal(curve_of_one, curve_of_two, atol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("deepspeed") is None, reason="DeepSpeed is not installed")
def test_deepspeed_shards_the_model_and_gives_the_adapter_of_one(
    base_model: Path,
    examples,
    store: ImageStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """ZeRO-3 on a CPU, for which DeepSpeed compiles a part of itself."""
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    one, _ = train(base_model, examples, store, tmp_path / "one")
    two, _ = train(
        base_model, examples, store, tmp_path / "two", processes=2, accelerate=str(FSDP2.with_name("zero3.yml"))
    )
    told = re.findall(r"Process \d of 2 holds (\d+) of (\d+) parameters", capfd.readouterr().err)
    assert len(told) == 2
    assert all(int(held) < 0.6 * int(total) for held, total in told)
    expected, found = (load_file(folder / "adapter_model.safetensors") for folder in (one, two))
    assert expected.keys() == found.keys()
    for name, values in expected.items():
        assert abs(values - found[name]).max() < TOLERANCE, name


@pytest.mark.slow
def test_what_ends_the_processes_is_said_in_one_sentence(
    base_model: Path, examples, store: ImageStore, tmp_path: Path
) -> None:
    nothing = examples[examples["fold"] == "validation"]
    with pytest.raises(T2IEvalError, match="There are no training examples in the fold 'train'"):
        train(base_model, nothing, store, tmp_path / "none", processes=2)
    with pytest.raises(T2IEvalError, match=r"no file '/nowhere\.yml' \(launch\.accelerate\)"):
        train(base_model, examples, store, tmp_path / "none", accelerate="/nowhere.yml")
    with pytest.raises(ValueError, match="need the address of the first"):
        settings_of(LaunchSettings, machines=2)


@pytest.mark.slow
@pytest.mark.parametrize("bad", [0, 1])  # of two processes with one example each, it is the first's or the other's
def test_an_error_on_any_process_is_said(
    base_model: Path, examples, store: ImageStore, tmp_path: Path, bad: int
) -> None:
    two = examples[examples["fold"] == "train"].iloc[:2].copy()
    two.iloc[bad, two.columns.get_loc("messages")] = re.sub(
        r'"images": \["\d+"\]', '"images": ["file:gone.png"]', two["messages"].iloc[bad]
    )
    job = SFTJob(
        model=settings_of(ModelSettings, model=str(base_model), device="cpu"),
        settings=SETTINGS.model_copy(update={"batch_size": 2, "gradient_accumulation_steps": 1, "max_length": None}),
        data_note="",
    )
    with pytest.raises(T2IEvalError, match=r"image 'gone\.png'"):
        run(job, two, store, settings_of(LaunchSettings, processes=2), tmp_path / "out")


def test_the_command_of_each_machine(tmp_path: Path) -> None:
    launch = settings_of(LaunchSettings, processes=8, machines=2, address="10.0.0.1")
    first, other = command(launch, tmp_path), command(launch, tmp_path, rank="1")
    assert first[-1] == str(os.getpid())  # with which its processes end
    assert [a for a, b in zip(first[:-1], other, strict=True) if a != b] == ["--machine_rank=0"]
    assert {"--num_processes=16", "--num_machines=2", "--main_process_ip=10.0.0.1", "--multi_gpu"} <= set(first)


def test_processes_compute_in_the_precision_of_the_model_whatever_the_file_says(tmp_path: Path) -> None:
    launch = settings_of(LaunchSettings, processes=2, accelerate=str(FSDP2))
    for dtype, mixed in (("float32", "no"), ("bfloat16", "bf16")):
        assert f"--mixed_precision={mixed}" in command(launch, tmp_path, dtype)


@pytest.mark.parametrize(
    ("given", "shared"), [((8, 2, 1), (8, 2)), ((8, 2, 2), (8, 1)), ((8, 2, 4), (4, 1)), ((2, 64, 8), (2, 8))]
)
def test_a_step_is_divided(given: tuple[int, int, int], shared: tuple[int, int]) -> None:
    assert per_process(*given) == shared
    assert shared[0] * shared[1] * given[2] == given[0] * given[1]


def test_a_step_that_cannot_be_divided_is_refused() -> None:
    with pytest.raises(T2IEvalError, match="16 examples cannot be divided evenly among 3 processes"):
        per_process(8, 2, 3)


def test_a_step_of_grpo_gives_each_process_whole_groups() -> None:
    require_whole_groups(16, 8)
    with pytest.raises(T2IEvalError, match=r"grpo\.prompts_per_step=16 cannot be divided among 3 processes"):
        require_whole_groups(16, 3)


PARENT = """
import sys
sys.path.insert(0, {tests!r})
import pandas as pd
from pathlib import Path
from plain_settings import settings_of
from t2i_eval_kedro.datasets.image_store import ImageStore
from t2i_eval_kedro.models.settings import ModelSettings
from t2i_eval_kedro.training.launch import SFTJob, run
from t2i_eval_kedro.training.settings import LaunchSettings, SFTSettings
settings = settings_of(SFTSettings, max_steps=100_000, batch_size=8, save_steps=20, eval_examples=0)
job = SFTJob(model=settings_of(ModelSettings, model={model!r}, device="cpu"), settings=settings, data_note="")
run(job, pd.read_parquet({examples!r}), ImageStore(Path({images!r})), settings_of(LaunchSettings, processes=2), Path({folder!r}))
"""


def training_processes(folder: Path) -> set[int]:
    """Those that were started on ``folder``, the launcher among them."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if str(folder).encode() in words:
            found.add(int(entry.parent.name))
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="processes are found in /proc")
def test_the_processes_of_a_killed_run_end_and_a_second_run_is_refused_while_it_lives(
    base_model: Path, examples, store: ImageStore, tmp_path: Path
) -> None:
    examples.to_parquet(tmp_path / "examples.parquet")
    folder = tmp_path / "training"
    script = PARENT.format(
        tests=str(Path(__file__).parents[1]),
        model=str(base_model),
        examples=str(tmp_path / "examples.parquet"),
        images=str(store.folder),
        folder=str(folder),
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    ) as parent:
        try:
            deadline = time.monotonic() + 180
            while not list(folder.glob("checkpoints/checkpoint-*/files.json")):
                assert parent.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert len(training_processes(folder)) >= 2
            with pytest.raises(T2IEvalError, match=rf"already running: process {parent.pid} on "):
                train(base_model, examples, store, folder)
        finally:
            parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while training_processes(folder):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    adapter, _ = train(base_model, examples, store, folder)  # the lock went with its holder
    check_folder(adapter)


def test_more_processes_than_gpus_are_refused_before_anything_is_written(
    base_model: Path, examples, store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    job = SFTJob(
        model=settings_of(ModelSettings, model=str(base_model), device="auto"), settings=SETTINGS, data_note=""
    )
    folder = tmp_path / "work"
    with pytest.raises(
        T2IEvalError, match=r"launch\.processes=2, and this machine shows 1 GPU, .* launch\.processes=1"
    ):
        run(job, examples, store, settings_of(LaunchSettings, processes=2), folder)
    assert not (folder / "job.json").exists()


def test_processes_of_a_cpu_see_no_gpu(base_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They would wait for each other on a GPU, and there may be fewer of those than processes."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    jobs = {
        device: SFTJob(
            model=settings_of(ModelSettings, model=str(base_model), device=device), settings=SETTINGS, data_note=""
        )
        for device in ("cpu", "auto")
    }
    assert environment(jobs["cpu"])["CUDA_VISIBLE_DEVICES"] == ""
    assert environment(jobs["auto"])["CUDA_VISIBLE_DEVICES"] == "0"
