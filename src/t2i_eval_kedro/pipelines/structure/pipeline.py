"""The graph of the models of structural faults."""

from __future__ import annotations

import inspect
from functools import partial, update_wrapper

from kedro.pipeline import Node, Pipeline, node, pipeline

from t2i_eval_kedro.models.structure.settings import ARCHITECTURES, Architecture
from t2i_eval_kedro.pipelines.naming import by_name
from t2i_eval_kedro.pipelines.structure import nodes


def create_pipeline() -> Pipeline:
    """Ratings and masks -> a model of each architecture, what it says about the held-out images, a summary and a report.

    One architecture alone: ``--tags=hybrid``. The summary then has the others where they judged before.
    """
    everything = ["structure", *ARCHITECTURES]
    prepared = node(
        nodes.prepare,
        inputs=by_name("items", "ratings", "splits", settings="params:structure"),
        outputs="structure_examples",
        name="prepare_structure",
        tags=everything,
    )
    models = [one for architecture in ARCHITECTURES for one in _model(architecture)]
    measured = node(
        nodes.measure,
        inputs=by_name(
            "images",
            examples="structure_examples",
            card="data_card",
            settings="params:structure",
            meta="params:meta_evaluation",
        )
        | {
            f"{name}_{kind}": f"structure_{name}_{kind}"
            for name in ARCHITECTURES
            for kind in ("predicted", "masks", "time")
        },
        outputs=["structure_summary", "structure_report"],
        name="measure_structure",
        tags=everything,
    )
    return pipeline([prepared, *models, measured], namespace="structure", prefix_datasets_with_namespace=False)


def _model(architecture: Architecture) -> list[Node]:
    """How one architecture is trained and asked."""
    function = partial(nodes.train, architecture)
    signature = inspect.signature(function)
    update_wrapper(function, nodes.train)
    vars(function)["__signature__"] = signature  # Kedro types parameters by their position
    return [
        node(
            function,
            inputs=by_name(
                "images",
                "params:launch",
                "params:seed",
                "parameters",
                examples="structure_examples",
                settings="params:structure",
                folder=f"structure_{architecture}_training",
            ),
            outputs=[f"structure_{architecture}_{kind}" for kind in ("model", "curve", "time")],
            name=f"train_{architecture}",
            tags=["structure", architecture],
        ),
        node(
            nodes.predict,
            inputs=by_name(
                "images",
                examples="structure_examples",
                settings="params:structure",
                model=f"structure_{architecture}_model",
            ),
            outputs=[f"structure_{architecture}_predicted", f"structure_{architecture}_masks"],
            name=f"predict_{architecture}",
            tags=["structure", architecture],
        ),
    ]
