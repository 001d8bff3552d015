"""The graph of reporting."""

from __future__ import annotations

from kedro.pipeline import Pipeline, node, pipeline

from t2i_eval_kedro.pipelines.reporting import nodes


def create_pipeline() -> Pipeline:
    """The summary, the tables and the curves -> report.html."""
    return pipeline(
        [
            node(
                nodes.write_report,
                inputs=[
                    "summary",
                    "data_card",
                    "items",
                    "splits",
                    "ratings",
                    "scores",
                    "images",
                    "sft_curve",
                    "grpo_curve",
                    "rebalancing_table",
                    "sft_time",
                    "grpo_time",
                    "teacher_costs",
                    "teacher_checks",
                    "params:teacher",
                    "params:model.model",
                    "recorded_transcripts",
                    "teacher_transcripts",
                    "base_transcripts",
                    "sft_transcripts",
                    "grpo_transcripts",
                ],
                outputs="report",
                name="write_report",
            )
        ],
        tags="reporting",
    )
