"""What judges that predict numbers learn on the embedded benchmark, over seeds; written to ``perf/results/heads.json``.

Needs an ingested benchmark (``kedro run --pipelines=ingestion``). A frozen student's states are computed once for all rows:

    python -m perf.heads                     # the score head: seeds, few labels, pseudo-labels, and between kinds of prompts
    python -m perf.heads --judges level_tokens fga_blip2
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from t2i_eval_kedro import schema
from t2i_eval_kedro.agreement.label_agreement import prompt_weights
from t2i_eval_kedro.config import load_config
from t2i_eval_kedro.datasets.image_store import ImageStoreDataset
from t2i_eval_kedro.judging.evaluators import JudgingSettings
from t2i_eval_kedro.judging.protocols import Wording
from t2i_eval_kedro.models.settings import ModelSettings
from t2i_eval_kedro.pipelines.heads.nodes import HeadsSettings
from t2i_eval_kedro.provenance import commit
from t2i_eval_kedro.statistics.estimates import bootstrap_estimate
from t2i_eval_kedro.statistics.pooled import pooled_statistics
from t2i_eval_kedro.training.heads.data import HeadData, HeadItem, head_data
from t2i_eval_kedro.training.heads.fga import FGAJudge
from t2i_eval_kedro.training.heads.judges import HeadJudge, Predictions, pseudo_labelled
from t2i_eval_kedro.training.heads.results import element_summary, tables
from t2i_eval_kedro.training.heads.score_head import ScoreHeadJudge

OUT = Path("perf/results/heads.json")
RESAMPLES, CONFIDENCE = 1000, 0.95
SEEDS = (0, 1, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("data/02_intermediate/shapes"), help="Ingested benchmark.")
    parser.add_argument("--judges", nargs="*", default=["score_head"])
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    parameters = load_config(Path("conf"), "base").resolved.parameters
    settings = HeadsSettings.model_validate(parameters["heads"])
    frames = {
        name: schema.TABLES[name].check(pd.read_parquet(arguments.folder / f"{name}.parquet"))
        for name in ("items", "splits", "ratings", "elements", "element_ratings")
    }
    data = head_data(*frames.values(), settings.dimension)
    images = ImageStoreDataset(filepath=str(arguments.folder / "images")).load()
    measure = Measure(data, frames["items"])
    rows: dict[str, Any] = json.loads(arguments.out.read_text())["rows"] if arguments.out.is_file() else {}

    def keep(name: str, row: dict[str, Any]) -> None:
        rows[name] = row
        content = {"commit": commit(), "synthetic": True, "items": len(data.items), "rows": rows}
        arguments.out.write_text(json.dumps(content, indent=1) + "\n")
        print(name, json.dumps(row), flush=True)

    for name in arguments.judges:
        judge = make(name, settings, parameters, data, images)
        known, _ = data.training_items(1.0, 0)
        start = time.process_time()
        said = over_seeds(judge, known, data, settings, measure.held_out)
        keep(name, measure.row(said) | {"processor_seconds": round(time.process_time() - start, 1)})
        if name != "score_head":
            continue
        few, unknown = data.training_items(0.3, 0)
        said_few = over_seeds(judge, few, data, settings, measure.held_out)
        keep("heads_few_labels", measure.row(said_few))
        bound = settings.data.pseudo_labels.model_copy(update={"max_spread": 0.05, "versions": 2})
        more = []
        for seed in SEEDS:
            judge.fit(few, settings.data, seed)
            added = pseudo_labelled(judge, unknown, bound, 0)
            judge.fit([*few, *added], settings.data, seed)
            more.append(judge.predict(measure.held_out))
        keep(
            "heads_pseudo_labels", measure.row(more) | {"added": len(added), "gain": measure.difference(more, said_few)}
        )
        kinds = sorted({item.kind for item in known})
        for trained_on in kinds:
            some = [item for item in known if item.kind == trained_on]
            judge.fit(some, settings.data, 0)
            said_of = judge.predict(measure.held_out)
            for tested_on in kinds:
                chosen = [item for item in measure.held_out if item.kind == tested_on]
                keep(
                    f"trained on {trained_on}, tested on {tested_on}",
                    measure.row([said_of], chosen) | {"trained_on": len(some)},
                )


def make(name: str, settings: HeadsSettings, parameters: dict[str, Any], data: HeadData, images: Any) -> HeadJudge:
    """The judge ``name`` of the pipeline, untrained."""
    if name == "fga_blip2":
        return FGAJudge(settings.fga_blip2, data, images)
    judging = JudgingSettings.model_validate(parameters["judging"])
    wording = Wording.load(Path("conf/base/prompts"), judging.wording, judging.wordings[judging.wording])
    model = ModelSettings.model_validate(parameters["model"])
    chosen = settings.score_head if name == "score_head" else settings.level_tokens
    return ScoreHeadJudge(chosen, model, wording, data.dimension, data, images)


def over_seeds(
    judge: HeadJudge, items: list[HeadItem], data: HeadData, settings: HeadsSettings, held_out: list[HeadItem]
) -> list[Predictions]:
    """What the judge says of ``held_out`` after a training with each seed."""
    said = []
    for seed in SEEDS:
        judge.fit(items, settings.data, seed)
        said.append(judge.predict(held_out))
    return said


class Measure:
    """Agreement with people on the test fold, mean over seeds; intervals over prompts and seeds."""

    def __init__(self, data: HeadData, items: pd.DataFrame) -> None:
        self.data, self.items = data, items
        self.held_out = [item for item in data.fold("test") if item.rating is not None]

    def spearman(self, said: Predictions, items: list[HeadItem]) -> np.ndarray:
        row, weights = prompt_weights(self.items, pd.Index([item.item_id for item in items]), RESAMPLES, 0)
        scores = np.array([said.scores[item.item_id] for item in items])
        gold = np.array([item.rating for item in items], dtype=float)
        return pooled_statistics(scores, gold, row, weights, ("spearman",))["spearman"]

    def row(self, said: list[Predictions], items: list[HeadItem] | None = None) -> dict[str, Any]:
        chosen = items or self.held_out
        values = np.stack([self.spearman(one, chosen) for one in said])
        prompts = len({item.prompt_id for item in chosen})
        out = {"spearman": self.estimate(values, prompts), "by_seed": [round(float(v), 4) for v in values[:, 0]]}
        if said[0].elements:
            part = replace(self.data, items=tuple(chosen))
            found = []
            for one in said:
                _, elements = tables("judge", one, chosen, self.data.dimension)
                found.append(element_summary(part, self.items, "test", elements, RESAMPLES, CONFIDENCE, 0)["judge"])
            out["elements"] = found[0] | {"balanced_by_seed": [entry["balanced_accuracy"]["value"] for entry in found]}
        return out

    def difference(self, a: list[Predictions], b: list[Predictions]) -> dict[str, Any]:
        values = np.stack(
            [self.spearman(x, self.held_out) - self.spearman(y, self.held_out) for x, y in zip(a, b, strict=True)]
        )
        return self.estimate(values, len({item.prompt_id for item in self.held_out}))

    @staticmethod
    def estimate(values: np.ndarray, prompts: int) -> dict[str, Any]:
        """``(seeds, 1 + B)`` to the mean over seeds, and over each resample's seeds."""
        rng = np.random.default_rng(0)
        picked = rng.integers(len(values), size=(values.shape[1] - 1, len(values)))
        resampled = values[picked, np.arange(1, values.shape[1])[:, None]].mean(axis=1)
        return bootstrap_estimate(np.concatenate([[values[:, 0].mean()], resampled]), CONFIDENCE, prompts)


if __name__ == "__main__":
    main()
