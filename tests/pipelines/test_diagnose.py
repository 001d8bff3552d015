"""The diagnostics of a run measure the rationales of held-out items, and of those alone."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pandas as pd

from t2i_eval_kedro import schema
from t2i_eval_kedro.judging.project import Project
from t2i_eval_kedro.pipelines.meta_evaluation import nodes
from t2i_eval_kedro.shapes.make import make_shapes


def test_rationales_of_held_out_items_are_among_the_diagnostics() -> None:
    project = Project.open(Path(), "base", {"student": "tiny_vlm", "meta_evaluation": {"n_resamples": 100}})
    made = make_shapes(n_prompts=12, seed=0)
    prompts = sorted(set(made.items["prompt_id"]))
    held_out = made.items["prompt_id"].isin(prompts[6:])
    splits = pd.DataFrame({"item_id": made.items["item_id"], "fold": held_out.map({True: "test", False: "train"})})
    element = made.elements.drop_duplicates("prompt_id").set_index("prompt_id")["text"]
    scores = schema.SCORES.frame(
        {
            "item_id": item,
            "judge": "grpo",
            "protocol": "reasoning",
            "dimension": "overall",
            "run": 0,
            "score": 5.0,
            "status": "ok",
            "explanation": f"no {element[prompt]} . it is clear",
            "higher_is_better": True,
        }
        for item, prompt in zip(made.items["item_id"], made.items["prompt_id"], strict=True)
    )
    found = nodes.diagnose(
        made.items,
        splits,
        made.ratings,
        made.elements,
        made.element_ratings,
        scores,
        schema.ELEMENT_SCORES.empty(),
        {name: partial(str, text) for name, text in project.templates.items()},
        project.judging,
        project.settings("meta_evaluation", nodes.MetaEvaluationSettings),
        grpo_transcripts=schema.TRANSCRIPTS.empty(),
        grpo_attribution=schema.ATTRIBUTION.empty(),
    )
    (row,) = found["rationales"]
    assert (row["evaluator"], row["items"]) == ("grpo_reasoning", int(held_out.sum()))
    assert 0 < row["named_true"]["value"] < 1
