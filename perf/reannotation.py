"""What a second round of rating changes on shapes: labels, their distance from the truth, and the noise ceiling. Synthetic.

python -m perf reannotation
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd

from t2i_eval_kedro.agreement.human_agreement import noise_ceiling, rating_table
from t2i_eval_kedro.agreement.rated_items import build
from t2i_eval_kedro.ratings import mean_ratings
from t2i_eval_kedro.schema import SCORES
from t2i_eval_kedro.shapes.make import make_shapes
from t2i_eval_kedro.shapes.second_round import DISPUTED, disputed, second_round
from t2i_eval_kedro.statistics.bootstrap import resample_counts
from t2i_eval_kedro.statistics.pooled import Weights

DIMENSION = "overall"
RESAMPLES, CONFIDENCE = 200, 0.95


def main(prompts: int = 1000, panel: str = "three") -> dict[str, Any]:
    made = make_shapes(prompts, raters=panel)
    first = made.ratings[made.ratings["dimension"] == DIMENSION].reset_index(drop=True)
    rounds = {"first": first, "second": second_round(made.items, first)}
    truth = pd.Series(
        [json.loads(text)["truth"][DIMENSION] for text in made.items["attributes"]], made.items["item_id"], name="truth"
    )
    means = {name: mean_ratings(ratings).set_index("item_id")["score"] for name, ratings in rounds.items()}
    out: dict[str, Any] = {
        "synthetic": True,
        "prompts": prompts,
        "raters": panel,
        "dimension": DIMENSION,
        "threshold": DISPUTED,
        "disputed_share": round(float(disputed(first).mean()), 4),
        "disputed_share_after": round(float(disputed(rounds["second"]).mean()), 4),
        "mean_change_of_labels": round(float((means["second"] - means["first"]).abs().mean()), 4),
    }
    for name, ratings in rounds.items():
        (sample,) = build(made.items, ratings, SCORES.empty()).values()
        weights = Weights(
            np.vstack([np.ones((1, sample.prompts), dtype=np.int64), resample_counts(sample.prompts, RESAMPLES, 0)])
        )
        names = sorted(set(ratings["rater_id"]))
        ceiling = noise_ceiling(rating_table(ratings, sample), names, False, sample.prompt, weights, CONFIDENCE)
        error = means[name] - truth.loc[means[name].index]
        out[name] = {
            "rmse_to_truth": round(float(np.sqrt((error**2).mean())), 4),
            "spearman_with_truth": round(float(means[name].corr(truth.loc[means[name].index], method="spearman")), 4),
            "noise_ceiling_spearman": ceiling["spearman"],
        }
    print(json.dumps(out, indent=1))
    return out
