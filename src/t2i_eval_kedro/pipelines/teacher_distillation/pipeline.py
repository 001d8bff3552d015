"""The graph of teacher distillation."""

from __future__ import annotations

from kedro.pipeline import Pipeline, node, pipeline

from t2i_eval_kedro.pipelines.teacher_distillation import nodes


def create_pipeline() -> Pipeline:
    """Items -> the teacher's transcripts, scores and account -> examples and checks."""
    return pipeline(
        [
            node(
                nodes.ask_teacher,
                inputs=[
                    "items",
                    "splits",
                    "images",
                    "recorded_transcripts",
                    "data_card",
                    "prompts",
                    "teacher_answers",
                    "teacher_key",
                    "params:teacher",
                    "params:judging",
                ],
                outputs=["teacher_transcripts", "teacher_scores", "teacher_costs"],
                name="ask_teacher",
            ),
            node(
                nodes.build_examples,
                inputs=[
                    "items",
                    "splits",
                    "ratings",
                    "elements",
                    "element_ratings",
                    "teacher_transcripts",
                    "teacher_scores",
                    "data_card",
                    "prompts",
                    "params:judging",
                    "params:examples",
                ],
                outputs="examples",
                name="build_examples",
            ),
            node(
                nodes.check_teacher,
                inputs=[
                    "items",
                    "ratings",
                    "elements",
                    "element_ratings",
                    "teacher_transcripts",
                    "teacher_scores",
                    "examples",
                    "prompts",
                    "params:judging",
                ],
                outputs="teacher_checks",
                name="check_teacher",
            ),
        ],
        tags="teacher_distillation",
    )
