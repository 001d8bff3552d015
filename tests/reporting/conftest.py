from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from t2i_eval_kedro import schema
from t2i_eval_kedro.reporting.inputs import ReportInputs

GENERATORS = ("good", "fair", "poor")
DIMENSIONS = ("overall", "appearance")
HOSTILE = '<script>alert("x")</script> & "quoted" a cat'


def png(width: int = 64, height: int = 64, format: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (200, 30, 30)).save(buffer, format=format)
    return buffer.getvalue()


def cell(value: float | None, half: float = 0.05, n: int = 36, **more: object) -> dict[str, object]:
    if value is None:
        return {"value": None, "low": None, "high": None, "n": n, **more}
    return {"value": value, "low": value - half, "high": value + half, "n": n, **more}


def statistics(value: float | None, **more: object) -> dict[str, Any]:
    return {name: cell(value, **more) for name in ("spearman", "kendall_b", "pearson")}


def pair(a: str, b: str, difference: float, half: float, **more: object) -> dict[str, object]:
    ends = {"low": difference - half, "high": difference + half}
    return {"a": a, "b": b, "dimension": "overall", "statistic": "spearman", "difference": difference, **ends, **more}


def summary(**values: float | None) -> dict[str, Any]:
    """A summary of evaluators with these figures in every statistic and dimension."""
    good = {"ok": 36, "unparsed": 0, "failed": 0, "not_applicable": 0}
    return {
        "benchmark": "shapes",
        "variant": "full",
        "seed": 0,
        "evaluators": {name: {d: statistics(value) for d in DIMENSIONS} for name, value in values.items()},
        "counts": {name: {d: dict(good) for d in DIMENSIONS} for name in values},
        "significance": [],
    }


@pytest.fixture(scope="session")
def inputs() -> ReportInputs:
    """Synthetic inputs of every part: 12 prompts by 3 generators, 3 raters, four evaluators, both curves."""
    rng = np.random.default_rng(0)
    items, ratings, scores, transcripts = [], [], [], []
    for prompt in range(12):
        for level, generator in enumerate(GENERATORS):
            item = f"i{prompt:02d}-{generator}"
            text = HOSTILE if prompt == 0 else f"a red circle number {prompt}"
            items.append(
                {
                    "item_id": item,
                    "benchmark": "shapes",
                    "prompt_id": f"p{prompt:02d}",
                    "prompt": text,
                    "generator": generator,
                    "image": f"{item}.png",
                }
            )
            truth = 9 - 3 * level + rng.uniform(-1, 1)
            for dimension in DIMENSIONS:
                for rater in range(3):
                    ratings.append(
                        {
                            "item_id": item,
                            "rater_id": f"r{rater}",
                            "dimension": dimension,
                            "score": float(np.clip(round(truth + rng.normal(0, 0.7)), 0, 10)),
                            "scale_min": 0,
                            "scale_max": 10,
                            "off_scale": False,
                        }
                    )
                for name, noise in (("base", 4.0), ("sft", 1.0), ("teacher", 0.3), ("falling_metric", 2.0)):
                    value = float(np.clip(truth + rng.normal(0, noise), 0, 10))
                    unparsed = name == "base" and prompt == 1
                    scores.append(
                        {
                            "item_id": item,
                            "judge": name,
                            "protocol": {"teacher": "decomposed", "falling_metric": None}.get(name, "levels"),
                            "dimension": dimension,
                            "run": 0,
                            "score": None if unparsed else (-value if name == "falling_metric" else value),
                            "status": "unparsed" if unparsed else "ok",
                            "explanation": HOSTILE if name == "teacher" else None,
                            "higher_is_better": name != "falling_metric",
                        }
                    )
            transcripts.append(
                {
                    "item_id": item,
                    "judge": "teacher",
                    "protocol": "decomposed",
                    "run": 0,
                    "step": "merge",
                    "task": "merge",
                    "aspect": "",
                    "question_id": "",
                    "messages": json.dumps([{"role": "user", "text": f"Judge: {text}", "images": [f"{item}.png"]}]),
                    "answer": HOSTILE,
                    "status": "ok",
                    "prompt_version": "decomposed@1/compact@1",
                }
            )
    steps = np.arange(40)
    bins = [f"{low}-{low + 1}" for low in range(10)] + ["10", "N/A"]
    return ReportInputs(
        summary=summary(teacher=0.95, sft=0.75, falling_metric=0.5, base=0.14)
        | {
            "significance": [pair("base", "sft", -0.61, 0.1), pair("falling_metric", "sft", -0.02, 0.1)],
            "noise_ceiling": {"overall": {"spearman": {"value": 0.91}}},
            "published": [{"system": "clip", "published": 0.31, "as_published": cell(0.31), "match": True}],
        },
        card={
            "name": "shapes",
            "synthetic": True,
            "licence": "Apache-2.0",
            "sizes": {"items": 36},
            "data_issues": ["two <b>"],
        },
        items=schema.ITEMS.frame(items),
        ratings=schema.RATINGS.frame(ratings),
        scores=schema.SCORES.frame(scores),
        transcripts=schema.TRANSCRIPTS.frame(transcripts),
        image=lambda key: png(),
        sft_curve=pd.DataFrame(
            {"step": steps, "loss": 2 - steps / 40, "validation_loss": np.where(steps % 10, np.nan, 2)}
        ),
        grpo_curve=pd.DataFrame(
            {
                "step": steps,
                "reward": 0.5 + steps / 100,
                "reward_std": 0.1,
                "best_constant_reward": 0.718,
                "unparsed": 0.1,
            }
        ),
        rebalancing=pd.DataFrame(
            [{"task": "score", "aspect": "overall", "bin": b, "before": 3 + i, "after": 9} for i, b in enumerate(bins)]
            + [{"task": "extract", "aspect": "", "bin": "all", "before": 100, "after": 100}]
        ),
        provenance={"commit": "abc", "versions": {"numpy": "2.4"}},
    )


@pytest.fixture
def make_summary() -> Callable[..., dict[str, Any]]:
    return summary


@pytest.fixture
def make_pair() -> Callable[..., dict[str, object]]:
    return pair


@pytest.fixture
def make_png() -> Callable[..., bytes]:
    return png
