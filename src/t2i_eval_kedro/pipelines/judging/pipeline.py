"""The graph of judging: one pipeline for every judge, in the judge's own namespace."""

from __future__ import annotations

from kedro.pipeline import Pipeline, node, pipeline

from t2i_eval_kedro.pipelines.judging import nodes
from t2i_eval_kedro.pipelines.naming import by_name

_SHARED = ("items", "elements", "splits", "images", "data_card", "prompts")


def create_pipeline(judge: str, *, adapter: bool) -> Pipeline:
    """The held-out items -> ``<judge>_scores``, ``<judge>_transcripts`` and ``<judge>_element_scores``.

    Args:
        judge: name of the judge and of the namespace.
        adapter: whether it judges with the adapter ``<judge>_adapter``; else the base model judges.
    """
    inputs = (*_SHARED, *(["adapter"] if adapter else []))
    outputs = ["scores", "transcripts", "element_scores"]
    arguments = by_name(
        *inputs, "params:model", "params:judging", tasks="params:examples.tasks", teacher="params:teacher.kind"
    )
    return pipeline(
        [node(nodes.judge_held_out, inputs=arguments, outputs=outputs, name=f"judge_{judge}")],
        namespace=judge,
        inputs={name: f"{judge}_{name}" if name == "adapter" else name for name in inputs},
        outputs={name: f"{judge}_{name}" for name in outputs},
        parameters={"model", "judging", "examples.tasks", "teacher.kind"},
        tags="judging",
    )
