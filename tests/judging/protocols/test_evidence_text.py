"""Evidence stands before the requests about appearance, where it is on, and nowhere else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_decomposed import EXTRACTION, Scripted

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.engine import judge
from t2i_eval_kedro.judging.protocols import EvaluationItem, Wording
from t2i_eval_kedro.judging.protocols.base import Request
from t2i_eval_kedro.judging.protocols.evidence import (
    EVIDENCE_TASKS,
    NO_EVIDENCE,
    MarkedRegion,
    StructureEvidence,
    with_evidence,
)
from t2i_eval_kedro.judging.protocols.registry import PROTOCOLS, ProtocolOptions, build

ITEM = EvaluationItem("i1", "a black cat left of a dog", "i1.png", {"overall": "how good"})
TORN = StructureEvidence(6.6, (MarkedRegion("large", "upper left", 0.031), MarkedRegion("small", "middle", 0.002)))
ON = ProtocolOptions(evidence=("network",))


def requests(wording: Wording, options: ProtocolOptions, item: EvaluationItem, name: str = "decomposed"):
    backend = Scripted()
    judge([item], build(name, wording, options), backend, name="x")
    assert EXTRACTION.count("appearance") == 1
    return {request.step: request for request in backend.asked}


def shown(request: Request) -> tuple[object, ...]:
    """Everything that decides an answer."""
    return request.messages_json, request.max_tokens, request.candidate_tokens, request.response_schema


@pytest.mark.parametrize("name", ["decomposed", "decomposed_levels"])
@pytest.mark.parametrize("text_stages", [True, False])
def test_the_requests_about_appearance_alone_change(wording: Wording, name: str, text_stages: bool) -> None:
    off = requests(wording, ProtocolOptions(text_stages=text_stages), ITEM, name)
    on = requests(wording, ON.model_copy(update={"text_stages": text_stages}), replace(ITEM, evidence=TORN), name)
    assert on.keys() == off.keys()
    changed = {step for step in on if shown(on[step]) != shown(off[step])}
    assert changed == {step for step in on if on[step].task in EVIDENCE_TASKS}
    assert changed == {"appearance/0/explain", "appearance/0/score"}
    for step in changed:
        (old,), (new,) = off[step].messages, on[step].messages
        assert new.images == old.images
        assert new.text.endswith(old.text)
        assert new.text == with_evidence(old.text, wording, TORN)


def test_without_the_option_evidence_changes_nothing(wording: Wording) -> None:
    plain, given = (requests(wording, ProtocolOptions(), item) for item in (ITEM, replace(ITEM, evidence=TORN)))
    assert {step: shown(one) for step, one in plain.items()} == {step: shown(one) for step, one in given.items()}


def test_labels_differ_where_evidence_is_on_and_are_the_old_ones_where_it_is_off(compact: Wording) -> None:
    for name in PROTOCOLS:
        off, on = (build(name, compact, options).label for options in (ProtocolOptions(), ON))
        asked_with = name in ("decomposed", "decomposed_levels")
        assert (off != on) == asked_with, name
    assert build("decomposed", compact).label == "decomposed_text@2/compact@2"
    assert build("decomposed", compact, ON).label == "decomposed_text_evidence@2/compact@2"
    plain = ProtocolOptions(text_stages=False, evidence=("network",))
    assert build("decomposed", compact, plain).label == "decomposed_evidence@2/compact@2"


def test_the_text_has_the_score_the_number_of_regions_and_the_largest_of_them(wording: Wording) -> None:
    text = with_evidence("is it clear ?", wording, TORN)
    assert f"structure {wording.level(6.6)} " in text
    assert "2 faults" in text or "2 regions" in text
    assert text.index("large") < text.index("upper left") < text.index("small") < text.index("middle")
    many = with_evidence("?", wording, StructureEvidence(1.0, TORN.regions * 5))
    assert "10 faults" in many or "10 regions, of which the largest are" in many
    assert many.count("upper left") < 5


def test_an_image_without_a_region_is_said_to_have_none(wording: Wording) -> None:
    text = with_evidence("is it clear ?", wording, StructureEvidence(10.0))
    assert f"structure {wording.levels[-1]} " in text
    assert "0 faults ;" in text or "marks no region.\n\nis it clear ?" in text


def test_the_tiny_model_reads_evidence_in_words_that_it_has(compact: Wording) -> None:
    from kedro_project import ROOT
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(ROOT / "data/06_models/tiny_vlm")
    for word in compact.render("evidence", request="", score="7", regions=TORN.regions[:1]).split():
        assert len(tokenizer.encode(word)) == 1, word


def test_an_unreadable_image_leaves_the_request_as_it_is_and_forgotten_evidence_is_an_error(wording: Wording) -> None:
    off = requests(wording, ProtocolOptions(), ITEM)
    unread = requests(wording, ON, replace(ITEM, evidence=NO_EVIDENCE))
    assert {step: shown(one) for step, one in unread.items()} == {step: shown(one) for step, one in off.items()}
    with pytest.raises(T2IEvalError, match=r"no evidence on 'i1.png'.*_evidence@2"):
        requests(wording, ON, ITEM)


def test_the_option_is_a_folder_several_or_none() -> None:
    assert ProtocolOptions.model_validate({"evidence": "a"}).evidence == ("a",)
    assert ProtocolOptions.model_validate({"evidence": ["a", "b"]}).evidence == ("a", "b")
    assert ProtocolOptions.model_validate({"evidence": None}).evidence == ProtocolOptions().evidence == ()
