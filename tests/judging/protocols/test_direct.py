from __future__ import annotations

import pytest

from t2i_eval_kedro.judging.protocols import Answer, EvaluationItem, Wording
from t2i_eval_kedro.judging.protocols.direct import Direct
from t2i_eval_kedro.schema import OK, UNPARSED

ITEM = EvaluationItem("i", "a cat", "i.png", {"prompt_matching": "how well it matches", "overall": "how good it is"})


@pytest.mark.parametrize(
    ("text", "overall", "matching", "repairs"),
    [
        ("7 overall\n3 prompt matching\nIt is a dog.", 7, 3, 0),
        ("- 7 overall\n- 3 prompt matching", 7, 3, 2),
        ("**Overall**: 7/10\nprompt matching: 3.5", 7, 3.5, 4),
        ("7 overall\nIt is a dog.", 7, None, 0),
        ("3 prompt matching\n7 overall", None, None, 0),  # not in its place
        ("7 or 8 overall\n3 prompt matching", None, 3, 1),
        ("I cannot.", None, None, 0),
    ],
)
def test_each_score_is_read_in_its_place(
    compact: Wording, text: str, overall: float | None, matching: float | None, repairs: int
) -> None:
    verdict = Direct(compact).verdict(ITEM, {"direct": Answer(text)})
    values = {name: score.value for name, score in verdict.scores.items()}
    assert values == {"overall": overall, "prompt_matching": matching}
    assert all((score.value is None) == (score.status == UNPARSED) for score in verdict.scores.values())
    assert len(verdict.repairs) == repairs


def test_read_strictly_only_the_asked_form_counts(compact: Wording) -> None:
    answer = {"direct": Answer("7 overall\n- 3 prompt matching")}
    scores = Direct(compact, reading="strict").verdict(ITEM, answer).scores
    assert [(score.value, score.status) for score in scores.values()] == [(7, OK), (None, UNPARSED)]
