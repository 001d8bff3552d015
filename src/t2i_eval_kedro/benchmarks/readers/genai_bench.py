"""GenAI-Bench: 1,600 prompts x 6 generators, three raters (1 to 5), ten skills and two levels of prompts.

Li et al., "GenAI-Bench: Evaluating and Improving Compositional Text-to-Visual Generation", CVPR 2024 workshops. The
skills of a prompt are tags of its items (attribute ``skills``), "basic" and "advanced" its levels (attribute
``levels``); a few prompts have neither. Ratings come as a list of three: raters "1" to "3" are positions in that list.
"""

from __future__ import annotations

from pathlib import Path

from t2i_eval_kedro.benchmarks.base import Benchmark, Builder, Dimension
from t2i_eval_kedro.benchmarks.files import read_json, records

ALIGNMENT = Dimension("alignment", 1, 5, "how well the image matches the prompt", (1, 2, 3, 4, 5))
LEVELS = ("basic", "advanced")
RATERS = 3


def read(raw: Path) -> Benchmark:
    """Read ``genai_image.json`` and ``genai_skills.json`` in ``genai1600/`` or in ``raw`` itself."""
    out = Builder("genai_bench", "GenAI-Bench (images)", "MIT", (ALIGNMENT,))
    folder = raw / "genai1600" if (raw / "genai1600").is_dir() else raw
    tags = _tags(folder, out)
    untagged = []
    file = folder / "genai_image.json"
    required = {"prompt": str, "models": dict}
    for where, prompt_id, row in records(read_json(file, out.issues), file, required, out.issues):
        prompt_tags = tags.get(prompt_id, [])
        if not prompt_tags:
            untagged.append(prompt_id)
        attributes = {
            "skills": [tag for tag in prompt_tags if tag not in LEVELS],
            "levels": [tag for tag in prompt_tags if tag in LEVELS],
        }
        for generator, ratings in row["models"].items():
            item_id = f"{generator}/{prompt_id}"
            if not isinstance(ratings, list):
                out.issues.add("malformed_entry", where, f"ratings of {generator} are not a list", "item excluded")
                continue
            if not out.item(item_id, prompt_id, row["prompt"], generator, where, attributes):
                continue
            out.image(item_id, folder, f"images/{generator}/{prompt_id}.jpeg")
            if len(ratings) != RATERS:
                out.issues.add("rater_count", where, f"{len(ratings)} ratings where {RATERS} belong", "kept")
            for position, score in enumerate(ratings, 1):
                out.rating(item_id, str(position), ALIGNMENT, score, where)
    if untagged:
        detail = f"{len(untagged)} prompts have no skill: {', '.join(untagged[:20])}"
        out.issues.add("untagged_prompt", "genai_skills.json", detail, "kept without skills", len(untagged))
    return out.build()


def _tags(folder: Path, out: Builder) -> dict[str, list[str]]:
    """The skills and levels of each prompt; the file lists the prompts of each by their running number."""
    tags: dict[str, list[str]] = {}
    file = folder / "genai_skills.json"
    document = read_json(file, out.issues)
    for tag, numbers in document.items() if isinstance(document, dict) else ():
        listed = numbers if isinstance(numbers, list) else [numbers]
        for index in listed:
            if isinstance(index, int):
                tags.setdefault(f"{index:05d}", []).append(tag)
            else:
                out.issues.add("malformed_entry", f"{file.name}: {tag}", f"{index!r:.40} is not a number", "excluded")
    return tags
