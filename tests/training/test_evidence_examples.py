"""A student learns from the very requests that it is asked with: evidence is put before both by one function."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from t2i_eval_kedro.judging.backends.simulated import SimulatedBackend
from t2i_eval_kedro.judging.engine import judge
from t2i_eval_kedro.judging.evaluators import evaluation_items
from t2i_eval_kedro.judging.protocols import Answer, Request, Wording
from t2i_eval_kedro.judging.protocols.decomposed import Decomposed
from t2i_eval_kedro.judging.protocols.evidence import EVIDENCE_TASKS, MarkedRegion, StructureEvidence
from t2i_eval_kedro.shapes.make import make_shapes
from t2i_eval_kedro.training.examples import examples_from_transcripts

MADE = make_shapes(2)
PHRASES = {"overall": "how good"}


def evidence_on(number: int) -> StructureEvidence:
    return StructureEvidence(number % 11, (MarkedRegion("small", "lower left", 0.001),) * (number % 3))


def taught(wording: Wording, transcripts: pd.DataFrame, evidence: dict[str, StructureEvidence] | None, text: bool):
    folds = dict.fromkeys(MADE.items["item_id"], "train")
    return examples_from_transcripts(transcripts, folds, wording, text_stages=text, evidence=evidence)


@pytest.mark.parametrize("text_stages", [True, False])
def test_examples_hold_what_the_judge_is_asked(wording: Wording, text_stages: bool) -> None:
    items = evaluation_items(MADE.items, PHRASES)
    evidence = {item.item_id: evidence_on(k) for k, item in enumerate(items)}
    teacher = SimulatedBackend(MADE.items, wording, seed=0, error_rate=0.1, score_noise=0.3)
    transcripts = judge(items, Decomposed(wording), teacher, name="teacher").transcripts
    student = Decomposed(wording, text_stages=text_stages, evidence=True)
    requests: dict[str, Request] = {}
    for item in items:  # the student's requests, had it given the teacher's answers
        given = transcripts[transcripts["item_id"] == item.item_id].set_index("step")["answer"]
        answers: dict[str, Answer] = {}
        while waiting := student.requests(replace(item, evidence=evidence[item.item_id]), answers):
            requests |= {f"{item.item_id}/{request.step}": request for request in waiting}
            answers |= {request.step: Answer(given[request.step]) for request in waiting}
    examples = taught(wording, transcripts, evidence, text_stages)
    assert {"appearance_1", "appearance_2", "summary_1", "attributes_1"} <= set(examples["task"])
    for row in examples.itertuples():
        assert (row.messages, row.prompt_version) == (requests[row.example_id].messages_json, student.label)
    plain = taught(wording, transcripts, None, text_stages)
    assert not set(plain["prompt_version"]) & set(examples["prompt_version"])
    told, untold = (
        set(zip(one["example_id"], one["messages"], strict=True))
        for one in (frame[frame["task"].isin(EVIDENCE_TASKS)] for frame in (examples, plain))
    )
    assert not told & untold
    others = [frame[~frame["task"].isin(EVIDENCE_TASKS)]["messages"].tolist() for frame in (examples, plain)]
    assert others[0] == others[1]
