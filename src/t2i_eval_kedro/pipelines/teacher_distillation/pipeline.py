"""The graph of teacher distillation."""

from __future__ import annotations

from kedro.pipeline import Pipeline, node, pipeline

from t2i_eval_kedro.pipelines.naming import by_name
from t2i_eval_kedro.pipelines.teacher_distillation import nodes


def create_pipeline() -> Pipeline:
    """Items -> the teacher's transcripts, about images and about text alone, scores and account -> examples and checks."""
    given = {"transcripts": "teacher_transcripts", "scores": "teacher_scores"}
    return pipeline(
        [
            node(
                nodes.ask_teacher,
                inputs=by_name(
                    "items",
                    "splits",
                    "images",
                    "prompts",
                    "params:teacher",
                    "params:judging",
                    recorded="recorded_transcripts",
                    card="data_card",
                    answers="teacher_answers",
                    key="teacher_key",
                ),
                outputs=["teacher_transcripts", "teacher_text_transcripts", "teacher_scores", "teacher_costs"],
                name="ask_teacher",
            ),
            node(
                nodes.attribute_teacher,
                inputs=by_name(
                    "items",
                    "splits",
                    "ratings",
                    "elements",
                    "element_ratings",
                    "images",
                    "prompts",
                    "params:teacher",
                    "params:judging",
                    recorded="recorded_transcripts",
                    card="data_card",
                    answers="teacher_answers",
                    key="teacher_key",
                ),
                outputs="teacher_attribution",
                name="attribute_teacher",
            ),
            node(
                nodes.build_examples,
                inputs=by_name(
                    "items",
                    "splits",
                    "ratings",
                    "elements",
                    "element_ratings",
                    "images",
                    "prompts",
                    "params:judging",
                    card="data_card",
                    about_text="teacher_text_transcripts",
                    settings="params:examples",
                    **given,
                ),
                outputs="examples",
                name="build_examples",
            ),
            node(
                nodes.check_teacher,
                inputs=by_name(
                    "items",
                    "ratings",
                    "elements",
                    "element_ratings",
                    "examples",
                    "prompts",
                    "params:judging",
                    **given,
                ),
                outputs="teacher_checks",
                name="check_teacher",
            ),
        ],
        namespace="teacher_distillation",
        prefix_datasets_with_namespace=False,
        tags="teacher_distillation",
    )
