"""The project's commands, next to Kedro's own: ``kedro run`` with readable errors, and what has no pipeline."""

from __future__ import annotations

from t2i_eval_kedro.cli.lazy import LazyCommands

cli = LazyCommands(
    name="t2i_eval_kedro",
    help="Train and measure judges of text-to-image images.",
    places={
        "run": "run.run",
        "ablations": "ablations.ablations",
        "recipe": "recipe.recipe",
        "judge": "judge.judge_images",
        "serve-evaluator": "serve.serve_evaluator",
        "estimate-teacher": "estimate_teacher.estimate_teacher",
        "agreement": "agreement.agreement",
        "plan": "plan.plan",
        "score-submission": "agreement.score_submission",
        "structure-study": "structure_study.structure_study",
        "fetch-benchmark": "fetch.fetch",
        "build-tiny-vlm": "tiny_vlm.build_tiny_vlm",
        "convert-judge": "convert_judge.convert_judge",
        "build-towers": "build_towers.build_towers",
        "build-tiny-structure": "tiny_structure.build_tiny_structure",
        "build-smol": "extraction.build",
        "train-extraction": "extraction.train",
        "extract-elements": "extraction.extract_elements",
        "dvc-sync": "dvc_sync.dvc_sync",
        "convert-fga": "convert_fga.convert_fga",
        "push-adapter": "push_adapter.push",
        "merge-adapter": "merge_adapter.merge",
        "export-examples": "export_examples.export",
    },
)
