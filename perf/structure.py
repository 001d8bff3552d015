"""Speed of the structure track's scores: NTIRE 2025's official score of 1,000 masks, read from PNG files (one thread).

python perf/structure.py
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from t2i_eval_kedro.agreement.submissions import score_submissions

MASKS, GOAL_SECONDS = 1000, 10.0


def write_side(folder: Path, seed: int) -> None:
    """Masks of 512 x 512 pixels with up to six ellipses and rectangles each, and a score for each."""
    folder.mkdir()
    scores = {}
    for k in range(MASKS):
        place, shake = np.random.default_rng([0, k]), np.random.default_rng([seed, k])
        mask = Image.new("L", (512, 512))
        pen = ImageDraw.Draw(mask)
        for _ in range(int(place.integers(0, 7))):
            x, y, w, h = (*place.integers(0, 440, 2), *place.integers(15, 120, 2))
            x, y = x + shake.integers(-9, 9), y + shake.integers(-9, 9)
            draw = pen.ellipse if place.random() < 0.5 else pen.rectangle
            draw((x, y, x + w, y + h), fill=255)
        mask.save(folder / f"im{k}.png")
        scores[f"im{k}"] = float(place.normal() + 0.5 * shake.normal())
    (folder / "scores.json").write_text(json.dumps(scores))


def main() -> dict[str, Any]:
    """Write both sides, score them in each mode, and time the scoring, reading included."""
    with tempfile.TemporaryDirectory() as name:
        truth, submission = Path(name) / "truth", Path(name) / "submission"
        write_side(truth, 1)
        write_side(submission, 2)
        result: dict[str, Any] = {"masks": MASKS, "goal_seconds": GOAL_SECONDS}
        for mode in ("as_published", "one_to_one", "corrected"):
            wall, processor = time.perf_counter(), time.process_time()
            scores = score_submissions("structure", truth, [submission], mode)
            result[mode] = {
                "seconds": round(time.perf_counter() - wall, 2),
                "processor_seconds": round(time.process_time() - processor, 2),
                "F1_Score": scores["F1_Score"],
            }
    return result


if __name__ == "__main__":
    print(json.dumps(main(), indent=1))
