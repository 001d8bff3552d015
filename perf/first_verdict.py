"""How long the first verdict of a new process takes, beside the same model loaded and asked once by transformers alone.

Work: a process starts, loads the embedded model and scores one image, on one thread of a CPU. Three processes each, in turn; the
fastest of each counts, in seconds of the processor, which other work disturbs least, and by the clock. ``import`` is the package alone.

    python -m perf first_verdict
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from perf.judging import TINY
from t2i_eval_kedro.shapes.make import make_shapes

ROUNDS = 3
OURS = """
from t2i_eval_kedro import load_judge
load_judge({model!r}, untrained=True)({image!r}, {prompt!r})
"""
TRANSFORMERS = """
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor
processor = AutoProcessor.from_pretrained({model!r})
model = AutoModelForImageTextToText.from_pretrained({model!r}, dtype=torch.float32).eval()
inputs = processor(images=Image.open({image!r}).convert("RGB"), text="<image> " + {prompt!r}, return_tensors="pt")
with torch.inference_mode():
    model(**inputs, logits_to_keep=1)
"""
TIMED = "import time\n{}\nprint(time.process_time())"


def main() -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        shapes = make_shapes(1)
        key, data = next(iter(shapes.images))
        image = Path(folder) / key
        image.write_bytes(data)
        filled = {"model": str(TINY), "image": str(image), "prompt": str(shapes.items["prompt"][0])}
        ways = {"load_judge": OURS, "transformers alone": TRANSFORMERS, "import": "import t2i_eval_kedro"}
        seconds: dict[str, dict[str, float]] = {way: {"processor": float("inf"), "wall": float("inf")} for way in ways}
        for _ in range(ROUNDS):
            for way, code in ways.items():
                start = time.perf_counter()
                command = [sys.executable, "-c", TIMED.format(code.format(**filled))]
                done = subprocess.run(
                    command, capture_output=True, text=True, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
                )
                found = {"processor": float(done.stdout.split()[-1]), "wall": time.perf_counter() - start}
                seconds[way] = {kind: min(best, found[kind]) for kind, best in seconds[way].items()}
    ours, plain, _ = seconds.values()
    result = {
        "processes of each": ROUNDS,
        "seconds": {way: {kind: round(value, 3) for kind, value in each.items()} for way, each in seconds.items()},
        "ours over transformers alone": {kind: round(ours[kind] / plain[kind], 2) for kind in ours},
    }
    print(result, flush=True)
    return result
