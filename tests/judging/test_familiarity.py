"""Prompts unlike what a judge was trained on are flagged, and said once."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from PIL import Image

from t2i_eval_kedro import load_judge
from t2i_eval_kedro.judging.familiarity import KnownWords, known_words
from t2i_eval_kedro.models.adapters import VOCABULARY, vocabulary

TINY = Path(__file__).parents[2] / "data" / "06_models" / "tiny_vlm"


def test_a_pre_trained_judge_is_flagged_where_most_words_are_new(caplog: pytest.LogCaptureFixture) -> None:
    judge = KnownWords(frozenset({"a", "red", "cube", "on", "table"}))
    with caplog.at_level(logging.WARNING):
        notes = judge.notes(["A red cube, on a TABLE", "a red fox", "an astronaut rides a horse"])
    assert notes[:2] == ["", ""]
    assert notes[2] == "far from the training data: 4 of 5 words were not in it: an, astronaut, rides, ..."
    assert len(caplog.records) == 1
    assert "The scores of 1 of 3 prompts may mean little" in caplog.text


def test_an_adapter_keeps_the_words_of_its_requests(tmp_path: Path) -> None:
    messages = [json.dumps([{"role": "user", "text": text, "images": []}]) for text in ("A cat.", "a DOG, 2 dogs")]
    assert vocabulary(messages) == ["a", "cat", "dog", "dogs"]
    (tmp_path / VOCABULARY).write_text("a\ncat\n", encoding="utf-8")
    assert known_words("some/model", tmp_path, ()) == KnownWords(frozenset({"a", "cat"}))
    assert known_words("some/model", tmp_path / "older", ()) is None
    assert known_words("tiny_vlm", tmp_path, ["\u0120red", "##x"]) == KnownWords(frozenset({"a", "cat", "red"}), True)


def test_the_embedded_model_says_loudly_what_it_does_not_know_and_refuses_what_it_cannot_read(
    caplog: pytest.LogCaptureFixture,
) -> None:
    judge = load_judge(TINY, untrained=True)
    blank = Image.new("RGB", (64, 64), "white")
    with caplog.at_level(logging.WARNING):
        verdicts = judge([blank] * 3, ["a red circle above a blue square", "an astronaut", "red " * 3000])
    assert [bool(verdict.domain_note) for verdict in verdicts] == [False, True, False]
    assert "never met: astronaut" in verdicts[1].domain_note
    assert "MEAN NOTHING" in caplog.text
    assert set(verdicts.frame().loc[4:7, "domain_note"]) == {verdicts[1].domain_note}
    assert verdicts[2].scores["overall"] is None
    assert verdicts[2].status == "failed"
    assert "the model reads 2048 at most" in str(verdicts[2].explanation)
