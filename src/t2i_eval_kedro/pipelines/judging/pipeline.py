"""The graph of judging: one pipeline for every judge, in the judge's own namespace."""

from __future__ import annotations

from kedro.pipeline import Pipeline, node, pipeline

from t2i_eval_kedro.pipelines.judging import nodes
from t2i_eval_kedro.pipelines.naming import by_name

_SHARED = ("items", "elements", "splits", "images", "data_card", "prompts")
_PEOPLE = ("ratings", "element_ratings")
_PAIRS = ("items", "splits", "preferences", "images", "data_card", "prompts")


def create_pipeline(judge: str, *, adapter: bool) -> Pipeline:
    """The held-out items -> ``<judge>_scores``, ``<judge>_transcripts``, ``<judge>_element_scores``, ``<judge>_attribution`` and
    ``<judge>_preference_scores``.

    The base model's best protocol is chosen first: ``base_protocol``.

    Args:
        judge: name of the judge and of the namespace.
        adapter: whether it judges with the adapter ``<judge>_adapter``; else the base model judges.
    """
    inputs = (*_SHARED, *(["adapter"] if adapter else []))
    outputs = ["scores", "transcripts", "element_scores"]
    settings = ("params:model", "params:judging")
    learned = {"tasks": "params:examples.tasks", "teacher": "params:teacher.kind"}
    chosen = {} if adapter else {"best": "protocol"}
    nodes_of_judge = [
        node(
            nodes.judge_held_out,
            inputs=by_name(*inputs, *settings, **learned, **chosen),
            outputs=outputs,
            name=f"judge_{judge}",
        ),
        node(
            nodes.attribute,
            inputs=by_name(*inputs, *_PEOPLE, *settings, **learned),
            outputs="attribution",
            name=f"attribute_{judge}",
        ),
        node(
            nodes.compare_pairs,
            inputs=by_name(*_PAIRS, *(["adapter"] if adapter else []), *settings),
            outputs="preference_scores",
            name=f"compare_pairs_{judge}",
        ),
    ]
    if not adapter:
        nodes_of_judge.append(
            node(
                nodes.choose_base_protocol,
                inputs=by_name(*inputs, "ratings", *settings),
                outputs="protocol",
                name="choose_base_protocol",
            )
        )
    made = [*outputs, "attribution", "preference_scores", *chosen.values()]
    return pipeline(
        nodes_of_judge,
        namespace=judge,
        inputs={name: f"{judge}_{name}" if name == "adapter" else name for name in (*inputs, *_PEOPLE, "preferences")},
        outputs={name: f"{judge}_{name}" for name in made},
        parameters={"model", "judging", "examples.tasks", "teacher.kind"},
        tags="judging",
    )
