"""However a command ends early, it ends in one sentence with status 1, and what is on disk is complete."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from kedro_project import run_kedro

from t2i_eval_kedro.cli.ablations import ablations
from t2i_eval_kedro.cli.agreement import agreement
from t2i_eval_kedro.cli.errors import readable_errors
from t2i_eval_kedro.cli.report import report
from t2i_eval_kedro.datasets.adapter import MANIFEST, check_folder
from t2i_eval_kedro.datasets.answer_store import AnswerStore
from t2i_eval_kedro.errors import T2IEvalError

LIMIT = 8192


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stderr.strip().splitlines()[-1]


def test_a_disk_that_takes_no_more_is_one_sentence_and_leaves_whole_files(project: Path) -> None:
    """A limit of the size of files stands for a full disk: the write fails half-way in the same way."""
    done = subprocess.run(
        [sys.executable, "-m", "kedro", "run", "--env=test", "--pipelines=ingestion"],
        cwd=project,
        env=os.environ | {"DO_NOT_TRACK": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT)),
    )
    assert "The file system refused" in last_line(done)
    assert all(path.stat().st_size < LIMIT for path in project.glob("data/0[2-8]*/**/*") if path.is_file())
    again = run_kedro(project, "run", "--env=test", "--pipelines=ingestion")
    assert again.returncode == 0, again.stderr


@pytest.mark.parametrize("command", [agreement, ablations, report])
def test_a_place_that_cannot_be_written_is_found_before_the_work(
    command: click.Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, project: Path
) -> None:
    monkeypatch.chdir(project)
    (tmp_path / "file").write_text("")
    (tmp_path / "summary.json").write_text("{}")
    cases = Path(__file__).parents[1] / "data/cases/numbers/base"
    given = {
        "agreement": [f"--ratings={cases / 'ratings.csv'}", f"--scores={cases / 'scores.csv'}"],
        "ablations": [],
        "report": [str(tmp_path / "summary.json")],
    }[str(command.name)]
    for work in ("t2i_eval_kedro.api.agreement", "t2i_eval_kedro.cli.ablations.measure"):
        monkeypatch.setattr(work, lambda *_, **__: pytest.fail("worked first"))
    done = CliRunner().invoke(command, [*given, f"--out={tmp_path / 'file' / 'out'}"])
    assert done.exit_code == 1
    assert "cannot be written" in done.output
    assert "is no folder" in done.output


def test_a_file_in_the_place_of_a_folder_is_named(project: Path) -> None:
    (project / "data" / "02_intermediate").write_text("a file")
    assert "02_intermediate" in last_line(run_kedro(project, "run", "--env=test", "--pipelines=ingestion"))


def test_a_fault_of_the_disk_is_found_below_what_was_raised_from_it() -> None:
    @readable_errors
    def command() -> None:
        try:
            raise OSError(errno.ENOSPC, "No space left on device", "a.parquet")
        except OSError as error:
            raise RuntimeError("a dataset could not be saved") from error

    with pytest.raises(click.ClickException, match=r"refused 'a\.parquet': no space left on device"):
        command()

    @readable_errors
    def other() -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file", "a.parquet")  # a fault of the code, not of the disk

    with pytest.raises(FileNotFoundError):
        other()


def test_a_damaged_answer_and_a_damaged_manifest_are_named(tmp_path: Path) -> None:
    store = AnswerStore(tmp_path / "answers.sqlite")
    store.put("key", {"text": "8"})
    store._db.execute("UPDATE answers SET answer = '{\"te'")
    with pytest.raises(T2IEvalError, match=r"answers\.sqlite cannot be used .*move it away"):
        store.get("key")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (adapter / name).write_text("{}")
    for text in ('{"adapter', "[1]", "3"):
        (adapter / MANIFEST).write_text(text)
        with pytest.raises(T2IEvalError, match=r"manifest\.json' of adapter .* is damaged"):
            check_folder(adapter)


def test_a_benchmark_without_ratings_is_refused_where_ratings_are_needed(project: Path) -> None:
    folder = project / "raw" / "mine"
    folder.mkdir(parents=True)
    rows = "".join(f"i{k},p{k // 2},prompt {k // 2},g{k % 2},\n" for k in range(20))
    (folder / "items.csv").write_text(f"item_id,prompt_id,prompt,generator,image\n{rows}")
    (folder / "ratings.csv").write_text("item_id,rater_id,dimension,score\n")
    arguments = ("run", "--env=test", "--pipelines=ingestion,meta_evaluation", "--params=benchmark=mine,raw_root=raw")
    assert "ratings.csv contains no rating" in last_line(run_kedro(project, *arguments))
