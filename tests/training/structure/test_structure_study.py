"""The study of coarse labels: figures are means over seeds, and a cell that is done is not made again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from structure_models import little_benchmark, small_settings

from t2i_eval_kedro.agreement.regions import ImageRegions, combine
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.training.structure.study import StudySettings, measure_study, run_study


def study(**variants: dict) -> StudySettings:
    return StudySettings(architecture="hybrid", variants=variants, seeds=(0, 1), n_resamples=50, confidence=0.95)


def table(rng: np.random.Generator, skill: float) -> pd.DataFrame:
    score = np.arange(24.0)
    hits = (rng.random(24) < skill).astype(int)
    return pd.DataFrame(
        {
            "item_id": [f"i{k}" for k in range(24)],
            "prompt": [f"p{k // 2}" for k in range(24)],
            "seen": [k < 16 for k in range(24)],
            "predicted": 1,
            "true": 1,
            "hits": hits,
            "detected": hits,
            "iou": hits * 0.5,
            "score": score,
            "predicted_score": score + rng.normal(0, 8 * (1 - skill), 24),
        }
    )


def test_figures_are_means_over_seeds_and_differences_are_paired() -> None:
    rng = np.random.default_rng(0)
    cells = {"exact": [table(rng, 0.95) for _ in range(2)], "boxes": [table(rng, 0.3) for _ in range(2)]}
    result = measure_study(cells, study(exact={}, boxes={}))
    for name, tables in cells.items():
        for stratum, rows in (("seen", slice(0, 16)), ("unseen", slice(16, 24))):
            plain = []
            for one in tables:
                part = one.iloc[rows]
                regions = [ImageRegions(*row) for row in part[list(ImageRegions._fields)].itertuples(index=False)]
                plain.append(
                    combine(regions, part["predicted_score"].to_numpy(), part["score"].to_numpy(), "corrected")
                )
            for figure in ("F1_Score", "GIoU", "SRCC", "Final_Score"):
                assert result["variants"][name][stratum][figure]["value"] == pytest.approx(
                    np.mean([p[figure] for p in plain]), abs=1e-5
                )
    difference = result["differences"][0]
    assert (difference["a"], difference["b"], difference["stratum"]) == ("boxes", "exact", "seen")
    assert difference["F1_Score"]["high"] < 0


def test_cells_that_are_done_are_not_made_again(tmp_path: Path, backbones: Path) -> None:
    examples, images, _ = little_benchmark(tmp_path / "store", n_prompts=10)
    structure = small_settings(backbones, tmp_path, hybrid={"epochs": 0.5}).model_dump(mode="json")
    said: list[str] = []
    asked = study(exact={}, score_alone={"hybrid": {"losses": {"mask_dice": 0.0, "mask_focal": 0.0}}})
    first = run_study(examples, images, structure, asked, tmp_path / "study", said.append)
    assert len(said) == 4
    assert run_study(examples, images, structure, asked, tmp_path / "study", said.append) == first
    assert len(said) == 4
    (tmp_path / "study/exact/seed_1/images.parquet").unlink()
    run_study(examples, images, structure, asked, tmp_path / "study", said.append)
    assert said[4:] == ["Training hybrid, exact, seed_1"]
    changed = asked.model_copy(update={"seeds": (0,), "variants": {"exact": {"labels": "boxes"}}})
    run_study(examples, images, structure, changed, tmp_path / "study", said.append)
    assert said[5:] == ["Training hybrid, exact, seed_0"]
    with pytest.raises(T2IEvalError, match="Variant 'wrong'"):
        run_study(examples, images, structure, study(wrong={"labels": "circles"}), tmp_path / "other", said.append)
