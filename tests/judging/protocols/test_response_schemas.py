"""A form's text is what the protocol's parser reads."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from t2i_eval_kedro.judging.protocols import Answer, Wording
from t2i_eval_kedro.judging.protocols.parsing import Question, parse_questions, parse_score
from t2i_eval_kedro.judging.protocols.response_schemas import (
    ExtractionSchema,
    StructuredExtractionSchema,
    json_schema,
    score_schema,
)


def test_every_level_is_read_as_its_score(wording: Wording) -> None:
    form = score_schema(wording.levels)
    for level in (*wording.levels, "n/a"):
        text = form.model_validate({"score": level}).text()
        assert parse_score(Answer(text), wording) == parse_score(Answer(level), wording)


@pytest.mark.parametrize("answer", [{"score": "11"}, {"score": 7}, {}, {"score": "7", "why": "so"}, []])
def test_what_is_off_the_schema_is_refused(wording: Wording, answer: object) -> None:
    with pytest.raises(ValidationError):
        score_schema(wording.levels).model_validate(answer)


def test_an_extraction_is_read_as_its_questions() -> None:
    line = {"aspect": "relations", "entities": ["a dog", "a ball"], "question": "Is the dog left of the ball?"}
    text = ExtractionSchema.model_validate({"questions": [line]}).text()
    assert parse_questions(text) == (Question("relations", ("a dog", "a ball"), "Is the dog left of the ball?"),)


def test_a_structured_extraction_is_read_with_what_is_stated() -> None:
    lines = [
        {"aspect": "appearance", "entities": ["dog"], "stated": "", "question": "Is the dog well drawn?"},
        {"aspect": "attributes", "entities": ["dog"], "stated": "colour: black", "question": "Is the dog black?"},
    ]
    text = StructuredExtractionSchema.model_validate({"questions": lines}).text()
    assert parse_questions(text) == (
        Question("appearance", ("dog",), "Is the dog well drawn?"),
        Question("attributes", ("dog",), "Is the dog black?", "colour: black"),
    )


def test_schemas_are_in_the_strict_subset(wording: Wording) -> None:
    def objects(node: object) -> list[dict]:
        inner = list(node.values()) if isinstance(node, dict) else node if isinstance(node, list) else []
        own = [node] if isinstance(node, dict) and node.get("type") == "object" else []
        return own + [found for part in inner for found in objects(part)]

    for form in (score_schema(wording.levels), ExtractionSchema, StructuredExtractionSchema):
        found = objects(json_schema(form))
        assert found
        for node in found:
            assert node["additionalProperties"] is False
            assert sorted(node["required"]) == sorted(node["properties"])
