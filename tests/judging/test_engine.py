from __future__ import annotations

import random

from t2i_eval_kedro.judging.engine import judge
from t2i_eval_kedro.judging.protocols import Answer, Decomposed, Subject, Wording


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


def subjects(n: int) -> list[Subject]:
    return [Subject(f"i{k}", f"prompt {k % 3}", f"i{k}.png") for k in range(n)]


def test_the_same_request_is_asked_once(compact: Wording) -> None:
    backend = Counting(0)
    said = judge(subjects(12), Decomposed(compact), backend, evaluator="x")
    assert len(backend.texts) == len(set(backend.texts))
    extractions = said.transcripts[said.transcripts["task"] == "extract"]
    assert len(extractions) == 12
    assert sum("list questions" in text for text in backend.texts) == 3


def test_results_do_not_depend_on_the_order_of_answers_or_subjects(compact: Wording) -> None:
    first = judge(subjects(9), Decomposed(compact), Counting(0), evaluator="x")
    second = judge(subjects(9)[::-1], Decomposed(compact), Counting(1), evaluator="x")
    key = ["item_id", "dimension"]
    one, two = (t.scores.sort_values(key, ignore_index=True) for t in (first, second))
    assert one.equals(two)


def test_no_subjects_give_empty_tables(compact: Wording) -> None:
    said = judge([], Decomposed(compact), Counting(0), evaluator="x")
    assert len(said.scores) == len(said.transcripts) == 0
