"""The answer store keeps what it was given, whatever happens to the process that gave it."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t2i_eval_kedro.datasets.answer_store import AnswerStore, AnswerStoreDataset
from t2i_eval_kedro.errors import T2IEvalError

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


def child(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Another process with ``code``; it stands for a second run."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@settings(max_examples=30, deadline=None)
@given(answers=st.dictionaries(TEXTS, st.dictionaries(TEXTS, TEXTS | st.none() | st.integers(-(2**53), 2**53))))
def test_what_was_put_is_there_after_reopening(tmp_path_factory: pytest.TempPathFactory, answers: dict) -> None:
    path = tmp_path_factory.mktemp("store") / "a.sqlite"
    store = AnswerStore(path)
    for key, answer in answers.items():
        store.put(key, answer)
    store.close()
    assert [p.name for p in path.parent.iterdir()] == ["a.sqlite"]  # one file, for DVC
    again = AnswerStoreDataset(filepath=str(path)).load()
    assert len(again) == len(answers)
    assert {key: again.get(key) for key in answers} == answers


def test_failures_stand_apart_and_all_count(tmp_path: Path) -> None:
    store = AnswerStore(tmp_path / "a.sqlite")
    store.put("k", {"text": "first"}, failed=True)
    store.put("k", {"text": "second"}, failed=True)
    assert store.get("k") is None
    assert store.failure("k") == {"text": "second"}
    store.put("k", {"text": "good"})
    store.put("k", {"text": "never"})  # a good answer is final
    assert store.get("k") == {"text": "good"}
    assert [answer["text"] for answer in store.every_answer()] == ["good", "first", "second"]


def test_a_killed_process_loses_nothing(tmp_path: Path) -> None:
    code = """
        import sys
        from pathlib import Path
        from t2i_eval_kedro.datasets.answer_store import AnswerStore
        store = AnswerStore(Path(sys.argv[1]))
        for i in range(10**9):
            store.put(str(i), {"i": i})
            print(i, flush=True)
    """
    process = child(code, tmp_path / "a.sqlite")
    assert process.stdout is not None
    for _ in range(50):
        process.stdout.readline()
    process.kill()
    said = 49 + len(process.stdout.read().splitlines())
    store = AnswerStore(tmp_path / "a.sqlite")
    assert len(store) >= said
    assert all(store.get(str(i)) == {"i": i} for i in range(said))


def test_a_full_disk_is_one_sentence_and_costs_nothing_that_was_there(tmp_path: Path) -> None:
    # A limit on the size of files makes the kernel refuse the write, as a full disk does.
    code = """
        import resource, sys
        from pathlib import Path
        from t2i_eval_kedro.datasets.answer_store import AnswerStore
        from t2i_eval_kedro.errors import T2IEvalError
        store = AnswerStore(Path(sys.argv[1]))
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        try:
            for i in range(10**9):
                store.put(str(i), {"text": "x" * 5000})
        except T2IEvalError as error:
            print(i, error)
    """
    process = child(code, tmp_path / "a.sqlite")
    out, err = process.communicate()
    number, _, sentence = out.partition(" ")
    assert "free some space" in sentence, err
    store = AnswerStore(tmp_path / "a.sqlite")
    assert len(store) >= int(number) > 10
    store.put("more", {})


def test_two_runs_take_turns(tmp_path: Path) -> None:
    code = """
        import sys, time
        from pathlib import Path
        from t2i_eval_kedro.datasets.answer_store import AnswerStore
        store = AnswerStore(Path(sys.argv[1]))
        with store.exclusive_lock():
            print("in", flush=True)
            time.sleep(0.3)
            store.put("k", {"by": "first"})
    """
    process = child(code, tmp_path / "a.sqlite")
    assert process.stdout is not None
    process.stdout.readline()
    store = AnswerStore(tmp_path / "a.sqlite")
    assert store.get("k") is None
    with store.exclusive_lock():
        assert store.get("k") == {"by": "first"}
    process.wait()


def test_what_is_no_store_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    path.write_bytes(b"something else entirely" * 100)
    with pytest.raises(T2IEvalError, match="dvc checkout"):
        AnswerStore(path)
    assert path.read_bytes() == b"something else entirely" * 100
