"""Where no figure can be computed, one sentence says so, with the reason of the first evaluator."""

from __future__ import annotations

import pytest

from t2i_eval_kedro.agreement.outcome import refuse_without_figure
from t2i_eval_kedro.errors import T2IEvalError


def cells(*reasons: str) -> dict[str, dict[str, dict[str, dict[str, object]]]]:
    return {
        f"judge {n}": {"overall": {"spearman": {"value": None, "reason": reason}}} for n, reason in enumerate(reasons)
    }


def test_the_first_evaluator_s_reason_is_given() -> None:
    with pytest.raises(T2IEvalError, match=r"computed: 'judge 0' on 'overall': too few\.$"):
        refuse_without_figure({"evaluators": cells("too few", "all alike")})


def test_nothing_at_all_has_a_reason_too() -> None:
    with pytest.raises(T2IEvalError, match="any evaluator: nobody rated what it scored"):
        refuse_without_figure({"evaluators": {}})


def test_one_figure_is_enough_be_it_of_preferences() -> None:
    refuse_without_figure({"evaluators": {"a": {"overall": {"spearman": {"value": 0.0}}}, **cells("too few")}})
    refuse_without_figure({"evaluators": cells("x"), "preferences": {"a": {"overall": {"accuracy": {"value": 0.5}}}}})
