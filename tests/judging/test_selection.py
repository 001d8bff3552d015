"""The untrained model's protocol is the one that agrees best with people; unscored items count as the worst."""

from __future__ import annotations

import pandas as pd
import pytest

from t2i_eval_kedro import schema
from t2i_eval_kedro.judging.selection import choose_protocol

RATINGS = schema.RATINGS.frame(
    {"item_id": f"i{k}", "rater_id": "r", "dimension": dimension, "score": float(k), "off_scale": False}
    | {"scale_min": 0.0, "scale_max": 10.0}
    for k in range(8)
    for dimension in ("overall", "attributes")
)


def scores(protocol: str, values: list[float | None], dimension: str = "") -> pd.DataFrame:
    return schema.SCORES.frame(
        {"item_id": f"i{k}", "judge": "base", "protocol": protocol, "dimension": dimension, "run": 0, "score": value}
        | {"status": "ok" if value is not None else "unparsed", "higher_is_better": True}
        for k, value in enumerate(values)
    )


def test_the_best_protocol_is_taken_and_the_others_are_named() -> None:
    good, bad = [float(k) for k in range(8)], [float(k % 3) for k in range(8)]
    chosen = choose_protocol(pd.concat([scores("dsg", bad), scores("pn_vqa", good)]), RATINGS)
    assert chosen["protocol"] == "pn_vqa"
    by_name = {row["protocol"]: row for row in chosen["candidates"]}
    assert by_name["pn_vqa"] == {"protocol": "pn_vqa", "items": 8, "scored": 8, "spearman": pytest.approx(1.0)}
    assert by_name["dsg"]["spearman"] < 0.5


def test_a_protocol_does_not_gain_by_leaving_items_out() -> None:
    sparse = [None, None, None, None, 5.0, 4.0, 6.0, None]
    fair = [0.0, 2.0, 1.0, 3.0, 5.0, 4.0, 6.0, 7.0]
    chosen = choose_protocol(pd.concat([scores("dsg", sparse), scores("pn_vqa", fair)]), RATINGS)
    assert chosen["protocol"] == "pn_vqa"
    assert chosen["candidates"][0]["scored"] == 3


def test_without_a_figure_nothing_is_chosen() -> None:
    chosen = choose_protocol(scores("dsg", [1.0] * 8), RATINGS)
    assert (chosen["protocol"], chosen["candidates"][0]["spearman"]) == (None, None)
    assert choose_protocol(scores("dsg", [1.0] * 8, "alignment"), RATINGS)["protocol"] is None
