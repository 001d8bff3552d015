from __future__ import annotations

import logging
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t2i_eval_kedro.datasets.answer_store import AnswerStore
from t2i_eval_kedro.judging.cache import CachedBackend, Keys
from t2i_eval_kedro.judging.engine import judge
from t2i_eval_kedro.judging.protocols import Answer, Decomposed, EvaluationItem, PromptElement, Protocol, Wording
from t2i_eval_kedro.judging.protocols.registry import ProtocolOptions, build


class Counting:
    """Answers as a function of the request alone, in an order of its own, and counts the questions."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.texts: list[str] = []

    def answer(self, requests):
        order = list(range(len(requests)))
        self.random.shuffle(order)
        for i in order:
            self.texts.append(requests[i].messages_json)
            if requests[i].task == "extract":
                yield i, Answer("attributes | cat | Is the cat black?\nappearance | cat | Is it clear?")
            else:
                yield i, Answer(str(sum(requests[i].messages_json.encode()) % 11))


def items(n: int) -> list[EvaluationItem]:
    return [EvaluationItem(f"i{k}", f"prompt {k % 3}", f"i{k}.png") for k in range(n)]


def test_the_same_request_is_asked_once(compact: Wording) -> None:
    backend = Counting(0)
    said = judge(items(12), Decomposed(compact), backend, name="x")
    assert len(backend.texts) == len(set(backend.texts))
    extractions = said.transcripts[said.transcripts["task"] == "extract"]
    assert len(extractions) == 12
    assert sum("name the kinds and objects and questions" in text for text in backend.texts) == 3


def test_results_do_not_depend_on_the_order_of_answers_or_items(compact: Wording) -> None:
    first = judge(items(9), Decomposed(compact), Counting(0), name="x")
    second = judge(items(9)[::-1], Decomposed(compact), Counting(1), name="x")
    key = ["item_id", "dimension"]
    one, two = (t.scores.sort_values(key, ignore_index=True) for t in (first, second))
    assert one.equals(two)


def test_no_items_give_empty_tables(compact: Wording) -> None:
    said = judge([], Decomposed(compact), Counting(0), name="x")
    assert len(said.scores) == len(said.transcripts) == 0


@settings(max_examples=25)
@given(n=st.integers(1, 9), chunk_size=st.one_of(st.none(), st.integers(1, 10)), seed=st.integers(0, 5))
def test_results_and_their_order_do_not_depend_on_how_many_are_judged_at_once(
    compact: Wording, n: int, chunk_size: int | None, seed: int
) -> None:
    backend = Counting(seed)
    said = judge(items(n), Decomposed(compact), backend, name="x", chunk_size=chunk_size)
    whole = judge(items(n), Decomposed(compact), Counting(0), name="x")
    pd.testing.assert_frame_equal(said.scores, whole.scores)
    pd.testing.assert_frame_equal(said.transcripts, whole.transcripts)
    assert len(backend.texts) == len(set(backend.texts))


def test_empty_scores_are_counted_at_the_end_with_a_reason(compact: Wording, caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Counting):
        def answer(self, requests):
            for i, answer in super().answer(requests):
                bad = "i3.png" in requests[i].messages_json
                yield i, Answer("no such picture", status="failed") if bad else answer

    with caplog.at_level(logging.WARNING):
        said = judge(items(6), Decomposed(compact), Failing(0), name="x")
    assert "x_decomposed: 4 of 24 scores are empty because they failed; 4 of them: no such picture" in caplog.text
    assert set(said.scores.loc[said.scores["item_id"] == "i3", "status"]) == {"failed"}
    assert "failed" not in set(said.scores.loc[said.scores["item_id"] != "i3", "status"])


class Deadly(Counting):
    """Notes in a file what it is asked, and kills its process before it is asked for the ``last`` time."""

    def __init__(self, log: Path, last: int) -> None:
        super().__init__(0)
        self.log = log
        self.left = last

    def answer(self, requests):
        for i, answer in super().answer(requests):
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            self.left -= 1
            with self.log.open("a") as log:
                log.write(f"{requests[i].messages_json}\n")
            yield i, answer


def judge_with_answers_kept(folder: Path, last: int, wording: Wording) -> None:
    """Judge some items into ``folder``; the process dies after ``last`` questions."""
    backend = CachedBackend(Deadly(folder / "asked", last), AnswerStore(folder / "answers.sqlite"), Keys({}))
    said = judge(items(9), Decomposed(wording), backend, name="x", chunk_size=4)
    said.scores.to_parquet(folder / "scores.parquet")
    said.transcripts.to_parquet(folder / "transcripts.parquet")


def test_a_run_that_is_killed_and_started_again_asks_nothing_twice(tmp_path: Path, compact: Wording) -> None:
    whole = judge(items(9), Decomposed(compact), Counting(0), name="x")
    script = (
        "import sys; from pathlib import Path; sys.path.insert(0, str(Path('..').resolve())); from wordings import read_wording; import test_engine as t; "
        "t.judge_with_answers_kept(Path(sys.argv[1]), int(sys.argv[2]), read_wording('compact'))"
    )
    codes = []
    for last in (1, 7, 20, 10_000):
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path), str(last)], cwd=Path(__file__).parent, check=False
        )
        codes.append(done.returncode)
    assert codes == [-signal.SIGKILL] * 3 + [0]
    asked = (tmp_path / "asked").read_text().splitlines()
    assert len(asked) == len(set(asked)) > 28
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "scores.parquet"), whole.scores)
    transcripts = pd.read_parquet(tmp_path / "transcripts.parquet")
    pd.testing.assert_frame_equal(transcripts, whole.transcripts)


class Elsewhere:
    """Knows the answer, but gives most of the probability of some items to other words."""

    def answer(self, requests):
        for i, request in enumerate(requests):
            best, *others = request.candidate_tokens
            shares = {best: 0.75} | {word: 0.25 / len(others) for word in others}
            outside = 0.95 if request.item_id in ("i0", "i1") else 0.2
            yield i, Answer(best, probabilities=shares, out_of_vocabulary_mass=outside)


@pytest.mark.parametrize("name", ["levels", "direct_levels", "dsg", "pn_vqa"])
def test_too_much_probability_outside_the_answers_leaves_a_null_with_that_reason(compact: Wording, name: str) -> None:
    element = PromptElement("1", "a cat", "is there a cat ?")
    asked = [EvaluationItem(f"i{k}", f"prompt {k}", f"i{k}.png", {"overall": "x"}, (element,)) for k in range(4)]
    protocol: Protocol = build(name, compact, ProtocolOptions())
    free = judge(asked, protocol, Elsewhere(), name="x").scores
    assert set(free["status"]) == {"ok"}
    held = judge(asked, protocol, Elsewhere(), name="x", max_out_of_vocabulary=0.9)
    by_item = held.scores.set_index("item_id")
    assert list(by_item.loc[["i0", "i1"], "status"]) == ["unparsed"] * 2
    assert by_item.loc[["i0", "i1"], "score"].isna().all()
    reason = "95.0% of the probability is on other words than the answers, more than 90%"
    assert reason in by_item.loc["i0", "explanation"]
    kept = by_item.loc[["i2", "i3"], "score"].tolist()
    assert kept == free.set_index("item_id").loc[["i2", "i3"], "score"].tolist()
    assert all("0.95" in text for text in held.transcripts.loc[held.transcripts["item_id"] == "i0", "usage"])
