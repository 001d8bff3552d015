"""Speed of the structure track: NTIRE 2025's official score of 1,000 masks, read from PNG files, and masks of the tiny networks (one thread).

The networks' weights are random; speed does not depend on them. Goal: 20 images of 256 x 256 pixels a second on two cores.

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
IMAGES, GOAL_IMAGES_PER_SECOND = 64, 20.0


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


def images_per_second(folder: Path) -> dict[str, float]:
    """Images of 256 x 256 pixels for which each tiny network gives mask and score in a second of one core."""
    import torch

    from t2i_eval_kedro.config import default_conf, load_config
    from t2i_eval_kedro.models.structure.model import (
        VERSION,
        Calibration,
        StructureConfig,
        StructureModel,
        load_tokenizer,
    )
    from t2i_eval_kedro.models.structure.networks import build_network
    from t2i_eval_kedro.models.structure.settings import ARCHITECTURES, StructureSettings
    from t2i_eval_kedro.shapes.tiny_structure import _Students
    from t2i_eval_kedro.shapes.tiny_vlm import build_processor

    torch.set_num_threads(1)
    tokenizer = build_processor().tokenizer
    _Students(tokenizer).save(folder, tokenizer)
    values = load_config(default_conf(), "base").resolved.parameters["structure"]
    for name, places in {
        "rahf": ("text_image=clip",),
        "hybrid": ("vit=vit", "cnn=cnn"),
        "instances": ("segmenter=mask2former",),
    }.items():
        values[name] |= {place.split("=")[0]: str(folder / place.split("=")[1]) for place in places}
    settings = StructureSettings.model_validate(values)
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 255, (256, 256, 3), dtype=np.uint8)) for _ in range(IMAGES)]
    result = {}
    for architecture in ARCHITECTURES:
        chosen = settings.network(architecture)
        network = build_network(architecture, chosen)
        config = StructureConfig(
            version=VERSION, architecture=architecture, settings=chosen.model_dump(mode="json"), fingerprints={}, dimension="structure",
            scale_min=0, scale_max=10, calibration=Calibration(threshold=0.5, slope=1, offset=0),
        )  # fmt: skip
        model = StructureModel(network, config, load_tokenizer(chosen) if network.text else None)
        model.predict(pictures[:16])
        start = time.process_time()
        model.predict(pictures)
        result[architecture] = round(IMAGES / (time.process_time() - start), 1)
    return result


def main() -> dict[str, Any]:
    """Write both sides, score them in each mode, and time the scoring, reading included."""
    with tempfile.TemporaryDirectory() as name:
        truth, submission = Path(name) / "truth", Path(name) / "submission"
        write_side(truth, 1)
        write_side(submission, 2)
        speed = images_per_second(Path(name) / "backbones")
        result: dict[str, Any] = {"masks": MASKS, "goal_seconds": GOAL_SECONDS}
        result |= {"images_per_core_second": speed, "goal_images_per_second_on_two_cores": GOAL_IMAGES_PER_SECOND}
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
