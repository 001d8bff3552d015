from __future__ import annotations

import json

import pytest

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.engine import judge
from t2i_eval_kedro.judging.protocols import Answer, Decomposed, EvaluationItem, Wording
from t2i_eval_kedro.judging.protocols.decomposed import DecomposedLevels
from t2i_eval_kedro.schema import FAILED, NOT_APPLICABLE, OK, UNPARSED

EXTRACTION = """appearance | cat | Is the cat well drawn?
attributes | cat | Is the cat black?
relations | cat, dog | Is the cat left of the dog?"""


class Scripted:
    """A backend that answers every request by its task, and records what it was asked."""

    def __init__(self, **by_task: str) -> None:
        self.by_task = {"extract": EXTRACTION} | by_task
        self.asked: list = []

    def answer(self, requests):
        for i, request in enumerate(requests):
            self.asked.append(request)
            default = "7" if request.task.endswith("_2") else "fine"
            yield i, Answer(self.by_task.get(request.step, self.by_task.get(request.task, default)))


def run(wording: Wording, backend: Scripted):
    item = EvaluationItem("i1", "a black cat left of a dog", "i1.png")
    return judge([item], Decomposed(wording), backend, name="x")


def scores(judgement) -> dict[str, tuple]:
    return {r.dimension: (r.score, r.status) for r in judgement.scores.itertuples()}


def test_the_chain_asks_each_stage_in_its_order(wording: Wording) -> None:
    backend = Scripted()
    run(wording, backend)
    steps = [request.step for request in backend.asked]
    assert steps[0] == "extract"
    assert steps[-2:] == ["merge/explain", "merge/score"]
    assert len(steps) == 1 + 2 + 3 + 3 + 3 * 2 + 2
    for before, after in (
        ("appearance/0/explain", "appearance/0/score"),
        ("attributes/1/answer", "attributes/1/explain"),
        ("attributes/1/explain", "attributes/1/score"),
        ("relations/2/score", "summary/relations/explain"),
        ("summary/relations/explain", "summary/relations/score"),
        ("summary/appearance/score", "merge/explain"),
    ):
        assert steps.index(before) < steps.index(after)


def test_a_score_is_asked_in_a_new_chat_and_an_explanation_in_the_same(wording: Wording) -> None:
    backend = Scripted(**{"attributes/1/answer": "it is black"})
    run(wording, backend)
    by_step = {request.step: request for request in backend.asked}
    explain, score = by_step["attributes/1/explain"], by_step["attributes/1/score"]
    assert [m.role for m in explain.messages] == ["user", "assistant", "user"]
    assert explain.messages[1].text == "it is black"
    assert [m.images for m in explain.messages] == [("i1.png",), (), ()]
    assert [m.role for m in score.messages] == ["user"]
    assert "it is black" in score.messages[0].text
    assert by_step["extract"].messages[0].images == ()


def test_scores_and_explanations_come_from_the_summaries_and_the_merge(compact: Wording) -> None:
    said = run(compact, Scripted(**{"merge/score": "3", "merge/explain": "poor", "summary/relations/score": "n/a"}))
    read = scores(said)
    assert read["appearance"] == read["attributes"] == (7.0, OK)
    assert read["overall"] == (3.0, OK)
    assert read["relations"][1] == NOT_APPLICABLE
    overall = said.scores.set_index("dimension").loc["overall"]
    assert overall["explanation"] == "poor"


def test_an_extraction_without_questions_ends_the_chain_unparsed(wording: Wording) -> None:
    backend = Scripted(extract="I cannot do that.")
    said = run(wording, backend)
    assert len(backend.asked) == 1
    assert set(said.scores["status"]) == {UNPARSED}
    assert said.scores["score"].isna().all()


def test_an_unreadable_score_downstream_is_not_imputed(compact: Wording) -> None:
    more = f"{EXTRACTION}\nattributes | cat | Is there a cat?"
    backend = Scripted(extract=more, **{"attributes/1/score": "good"})
    run(compact, backend)
    summary = next(r for r in backend.asked if r.step == "summary/attributes/explain")
    assert "n/a 7" in summary.messages[0].text


def test_an_aspect_without_a_question_is_null_with_its_reason_and_costs_no_request(wording: Wording) -> None:
    backend = Scripted(extract=EXTRACTION.rpartition("\n")[0])
    judged = run(wording, backend)
    steps = [request.step for request in backend.asked]
    assert not [step for step in steps if "relations" in step]
    assert scores(judged)["relations"][1] == NOT_APPLICABLE
    assert scores(judged)["overall"] == scores(judged)["attributes"]
    reason = judged.scores.set_index("dimension").loc["relations", "explanation"]
    assert reason == "the prompt raises no question about relations"
    merge = next(request for request in backend.asked if request.step == "merge/score")
    assert merge.context["summaries"]["relations"]["score"] == "n/a"
    assert merge.context["summaries"]["attributes"]["score"] == "7"


def test_an_aspect_whose_scores_are_unread_or_do_not_apply_is_null_too(wording: Wording) -> None:
    backend = Scripted(**{"attributes/1/score": "good", "relations/2/score": "n/a"})
    judged = run(wording, backend)
    assert {name: status for name, (_, status) in scores(judged).items()} == {
        "appearance": OK,
        "attributes": UNPARSED,
        "relations": NOT_APPLICABLE,
        "overall": OK,
    }
    assert "good" in judged.scores.set_index("dimension").loc["attributes", "explanation"]
    nothing = run(wording, Scripted(**{f"{aspect}_2": "n/a" for aspect in ("appearance", "attributes", "relations")}))
    assert {status for _, status in scores(nothing).values()} == {NOT_APPLICABLE}
    assert len(nothing.transcripts) == 1 + 2 + 3 + 3


def test_a_failed_answer_stops_its_item_alone(compact: Wording) -> None:
    class Failing(Scripted):
        def answer(self, requests):
            for i, answer in super().answer(requests):
                failed = requests[i].item_id == "i1" and requests[i].step == "attributes/1/answer"
                yield i, Answer("timeout", status=FAILED) if failed else answer

    items = [EvaluationItem(name, f"a black cat left of dog {name}", f"{name}.png") for name in ("i1", "i2")]
    said = judge(items, Decomposed(compact), Failing(), name="x")
    assert set(said.scores.loc[said.scores["item_id"] == "i1", "status"]) == {FAILED}
    assert set(said.scores.loc[said.scores["item_id"] == "i2", "status"]) == {OK}


def test_transcripts_hold_every_request_with_its_answer(compact: Wording) -> None:
    backend = Scripted()
    said = run(compact, backend)
    assert list(said.transcripts["step"]) == [request.step for request in backend.asked]
    last = said.transcripts.iloc[-1]
    assert json.loads(last["messages"])[-1]["text"] == backend.asked[-1].messages[-1].text
    assert (last["answer"], last["protocol"], last["prompt_version"]) == ("7", "decomposed", "decomposed@2/compact@2")


def test_a_reference_image_is_shown_when_appearance_is_scored(load_wording) -> None:
    backend = Scripted()
    item = EvaluationItem("i1", "a black cat left of a dog", "i1.png", reference="r.png")
    judge([item], Decomposed(load_wording("full")), backend, name="x")
    shown = {request.step for request in backend.asked if "r.png" in request.messages[-1].images}
    assert shown == {"appearance/0/score"}
    text = next(request for request in backend.asked if request.step in shown).messages[0].text
    assert "second image is a reference" in text
    asked = len(backend.asked)
    with pytest.raises(
        T2IEvalError, match=r"'i1' has a reference image, and the wording 'compact' .*judging.wording=full"
    ):
        judge([item], Decomposed(load_wording("compact")), backend, name="x")
    assert len(backend.asked) == asked  # before anything is asked


def test_a_question_is_scored_with_what_the_prompt_states_of_its_entities(full: Wording) -> None:
    extraction = """appearance | cat | - | Is the cat well drawn?
attributes | cat | colour: black | Is the cat black?
attributes | dog | existence: yes | Is there a dog?
attributes | tree | existence: yes | Is there a tree?
relations | cat, dog | left of | Is the cat left of the dog?"""
    backend = Scripted(extract=extraction)
    run(full, backend)
    text = {request.step: request.messages[-1].text for request in backend.asked}
    about = "What the prompt states:\n- cat: colour: black\n- dog: existence: yes\n- cat, dog: left of\n\nQuestion: "
    assert about in text["relations/4/score"]
    assert "- tree: existence: yes\n\nQuestion: Is there a tree?" in text["attributes/3/score"]
    assert "colour: black" not in text["attributes/3/score"]


class Distributing(Scripted):
    """Scripted, and sure by half of the lowest and the highest level where it may choose among them."""

    def answer(self, requests):
        for i, answer in super().answer(requests):
            choices = requests[i].candidate_tokens
            yield i, Answer(answer.text, probabilities={choices[0]: 0.5, choices[-1]: 0.5} if choices else {})


def test_the_expected_score_is_of_the_same_chain_and_asked_with_the_same_words(compact: Wording) -> None:
    subject, backend = EvaluationItem("i1", "a black cat left of a dog", "i1.png"), Distributing()
    generated = judge([subject], Decomposed(compact), backend, name="x")
    before, backend.asked = backend.asked, []
    expected = judge([subject], DecomposedLevels(compact), backend, name="x")
    assert set(scores(generated).values()) == {(7, OK)}
    assert set(scores(expected).values()) == {(5, OK)}
    assert [(r.step, r.messages) for r in backend.asked[: len(before)]] == [(r.step, r.messages) for r in before]
    last = backend.asked[len(before) :]
    by_step = {request.step: request for request in before}
    assert len(last) == 4
    for request in last:
        assert request.messages == by_step[request.step.replace("/levels", "/score")].messages
        assert request.candidate_tokens == compact.levels


def test_no_score_is_expected_where_the_chain_came_to_none(compact: Wording) -> None:
    subject = EvaluationItem("i1", "a black cat left of a dog", "i1.png")
    backend = Distributing(**{"relations/2/score": "n/a", "summary/appearance/score": "n/a"})
    found = scores(judge([subject], DecomposedLevels(compact), backend, name="x"))
    assert (found["relations"][1], found["appearance"][1]) == (NOT_APPLICABLE, NOT_APPLICABLE)
    assert found["overall"] == (5, OK)


def test_a_chain_that_failed_is_not_asked_for_its_end(compact: Wording) -> None:
    class Failing(Distributing):
        def answer(self, requests):
            for i, answer in super().answer(requests):
                yield i, Answer("timeout", status=FAILED) if requests[i].step == "merge/explain" else answer

    backend = Failing()
    subject = EvaluationItem("i1", "a black cat left of a dog", "i1.png")
    found = scores(judge([subject], DecomposedLevels(compact), backend, name="x"))
    assert found["overall"][1] == FAILED
    assert not [request for request in backend.asked if request.step.endswith("/levels")]
