"""The graph of judges that predict numbers."""

from __future__ import annotations

from collections.abc import Callable

from kedro.pipeline import Pipeline, node, pipeline

from t2i_eval_kedro.pipelines.heads import nodes
from t2i_eval_kedro.pipelines.naming import by_name

_OTHERS = ("recorded_scores", "teacher_scores", "base_scores", "sft_scores", "grpo_scores")
"""Scores that an ensemble may have members among; each is optional."""
_TRAINED: dict[str, tuple[Callable[..., nodes.Judged], tuple[str, ...]]] = {
    nodes.FGA: (nodes.judge_fga, ("images", "params:judging", "params:seed")),
    nodes.SCORE_HEAD: (nodes.judge_score_head, ("images", "prompts", "params:model", "params:judging", "params:seed")),
    nodes.LEVEL_TOKENS: (
        nodes.judge_level_tokens,
        ("images", "prompts", "params:model", "params:judging", "params:seed"),
    ),
}


def create_pipeline() -> Pipeline:
    """People's scores and element labels -> judges that predict numbers, their ensembles, and how well they agree."""
    read = node(
        nodes.collect,
        inputs=by_name("items", "splits", "ratings", "elements", "element_ratings", settings="params:heads"),
        outputs="head_data",
        name="collect_head_data",
    )
    others = node(
        nodes.collect_others,
        inputs=by_name("items", benchmarks="ingested_benchmarks", data="head_data", settings="params:heads"),
        outputs="other_benchmarks",
        name="collect_other_benchmarks",
    )
    judges = [
        node(
            function,
            inputs=by_name(
                *inputs, data="head_data", others="other_benchmarks", settings="params:heads", folder="heads_folder"
            )
            | ({"card": "data_card"} if "prompts" in inputs else {}),
            outputs=[
                f"{name}_scores",
                f"{name}_element_scores",
                f"{name}_curve",
                f"{name}_time",
                f"{name}_other_scores",
            ],
            name=f"judge_{name}",
        )
        for name, (function, inputs) in _TRAINED.items()
    ]
    published = node(
        nodes.judge_baselines,
        inputs=by_name(
            "images", "params:judging", data="head_data", others="other_benchmarks", settings="params:heads"
        ),
        outputs=[f"{nodes.BASELINES}_scores", f"{nodes.BASELINES}_time", f"{nodes.BASELINES}_other_scores"],
        name="judge_baselines",
    )
    scores, elements, times = ([f"{name}_{kind}" for name in _TRAINED] for kind in ("scores", "element_scores", "time"))
    scores.append(f"{nodes.BASELINES}_scores")
    times.append(f"{nodes.BASELINES}_time")
    gathered = node(
        nodes.gather,
        inputs=by_name("params:judging", *scores, *elements, *_OTHERS, data="head_data", settings="params:heads"),
        outputs=["heads_scores", "heads_element_scores", "ensemble_weights"],
        name="gather_heads",
    )
    measured = node(
        nodes.measure,
        inputs=by_name(
            "items",
            "params:meta_evaluation",
            *times,
            *_OTHERS,
            data="head_data",
            scores="heads_scores",
            element_scores="heads_element_scores",
            weights="ensemble_weights",
            settings="params:heads",
        ),
        outputs="heads_summary",
        name="measure_heads",
    )
    transfer = node(
        nodes.tabulate_transfer,
        inputs=by_name(
            "items",
            "params:meta_evaluation",
            *(f"{name}_other_scores" for name in (*_TRAINED, nodes.BASELINES)),
            data="head_data",
            others="other_benchmarks",
            scores="heads_scores",
            settings="params:heads",
        ),
        outputs="heads_transfer",
        name="tabulate_transfer",
    )
    written = node(
        nodes.write_submission,
        inputs=by_name(
            "elements",
            "params:meta_evaluation",
            data="head_data",
            scores="heads_scores",
            element_scores="heads_element_scores",
            settings="params:heads",
        ),
        outputs=["submission", "submission_truth"],
        name="write_submission",
    )
    return pipeline(
        [read, others, *judges, published, gathered, measured, transfer, written],
        namespace="heads",
        prefix_datasets_with_namespace=False,
        tags="heads",
    )
