"""EvalMuse-40K: 4,000 prompts, 20 generators, three raters' alignment scores (1 to 5) and element labels (0 or 1).

Han et al., "EvalMuse-40K: A Reliable and Fine-Grained Benchmark with Comprehensive Human Annotations for Text-to-Image
Generation Model Evaluation", AAAI 2026. An element is named by its text and, in the last brackets, its category.
Ratings come as lists without names: raters "1", "2", ... are positions. The labels of ``test.json`` are withheld;
its items have none. Attributes of an item: ``type`` (real or synthetic prompt), ``fidelity_label``, the means over
raters of the three confidence fields (six digits), and ``prompt_score_variance``: the sample variance (ddof 1) of
the mean scores of all images of its prompt, null where there is one image.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, variance
from typing import Any

from t2i_eval_kedro.benchmarks.base import Benchmark, Builder, Dimension, number
from t2i_eval_kedro.benchmarks.files import read_json, records

ALIGNMENT = Dimension("alignment", 1, 5, "how well the image matches the prompt", (1, 2, 3, 4, 5))
FILES = {"train_list.json": "train", "test.json": "test"}
CONFIDENCES = {
    "promt_meaningless": "prompt_meaningless",  # the release spells it so
    "split_confidence": "split_confidence",
    "attribute_confidence": "attribute_confidence",
}
DIGITS = 6


def read(raw: Path) -> Benchmark:
    """Read ``train_list.json``, ``test.json`` if there, and the images in ``images/`` or beside the files."""
    out = Builder("evalmuse", "EvalMuse-40K", "see the authors' data card", (ALIGNMENT,))
    rows: list[tuple[str, str, dict[str, Any]]] = []
    for name, part in FILES.items():
        if part == "train" or (raw / name).is_file():
            required = {"img_path": str, "prompt": str}
            document = read_json(raw / name, out.issues)
            rows += [(where, part, row) for where, _, row in records(document, raw / name, required, out.issues)]
    spread = prompt_score_variance([(row["prompt"], row.get("total_score")) for _, _, row in rows])
    folder = "images/" if (raw / "images").is_dir() else ""
    for where, part, row in rows:
        item_id, prompt = row["img_path"], row["prompt"]
        prompt_id = str(row.get("prompt_id") or out.prompt_id(prompt))
        details = {
            "type": row.get("type"),
            "released_in": part,
            "prompt_score_variance": spread.get(prompt),
            "fidelity_label": row.get("fidelity_label"),
        }
        details |= {ours: _mean(row.get(theirs)) for theirs, ours in CONFIDENCES.items()}
        if out.item(item_id, prompt_id, prompt, item_id.partition("/")[0], where, details):
            out.image(item_id, raw, folder + item_id, key=item_id)
            _read_labels(out, where, part, item_id, prompt_id, row)
    return out.build()


def prompt_score_variance(scored: Sequence[tuple[str, object]]) -> dict[str, float]:
    """Sample variance (ddof 1) of the mean scores of the images of each prompt, for prompts with two images or more.

    Args:
        scored: prompt and list of ratings of each image; an image without a usable rating does not count.
    """
    means: dict[str, list[float]] = {}
    for prompt, ratings in scored:
        mean = _mean(ratings)
        if mean is not None:
            means.setdefault(prompt, []).append(mean)
    return {prompt: variance(values) for prompt, values in means.items() if len(values) > 1}


def parse_element(name: str) -> tuple[str, str]:
    """The text and the category of an element such as "cat (on a mat) (animal)"; "other" where no category is given."""
    text, bracket, category = name.rpartition("(")
    if not bracket or not text.strip() or not category.strip(" )"):
        return name.strip(), "other"
    return text.strip(), category.strip().removesuffix(")").strip()


def _mean(values: object) -> float | None:
    """The mean of the numbers in a list, to six digits; a number stands for itself."""
    listed = values if isinstance(values, list) else [values]
    numbers = [value for value in map(number, listed) if value is not None]
    return round(fmean(numbers), DIGITS) if numbers else None


def _read_labels(out: Builder, where: str, part: str, item_id: str, prompt_id: str, row: Mapping[str, Any]) -> None:
    total = row.get("total_score")
    if isinstance(total, list):
        for rater, score in enumerate(total, 1):
            out.rating(item_id, str(rater), ALIGNMENT, score, where)
    elif total is not None or part == "train":
        out.issues.add("unreadable_rating", where, f"total_score is {total!r:.60}, not a list", "rating excluded")
    elements = row.get("element_score")
    if isinstance(elements, str):  # some copies of the file hold it as text
        elements = _parsed(elements)
    if not isinstance(elements, dict):
        out.issues.add("malformed_entry", where, "element_score is not an object", "elements excluded")
        return
    for name, labels in elements.items():
        if not out.has("elements", prompt_id, name):
            text, skill = parse_element(name)
            out.add("elements", where, prompt_id=prompt_id, element_id=name, text=text, skill=skill)
        for rater, raw in enumerate(labels if isinstance(labels, list) else [], 1):
            label = number(raw)
            if label not in (0.0, 1.0):
                out.issues.add("unreadable_cell", where, f"label of {name!r:.60} is {raw!r:.40}", "kept as null")
                label = None
            keys = {"item_id": item_id, "element_id": name, "rater_id": str(rater)}
            out.add("element_ratings", where, **keys, label=label)


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None
