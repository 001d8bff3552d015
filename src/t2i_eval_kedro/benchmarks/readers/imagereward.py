"""ImageReward test set: 466 prompts with 4 to 9 generations each, ranked by people; read as preferences.

Xu et al., "ImageReward: Learning and Evaluating Human Preferences for Text-to-Image Generation", NeurIPS 2023. A
lower rank is better and ranks may tie. Which model made an image is not told: the generator is "unknown".
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

from t2i_eval_kedro.benchmarks.base import Benchmark, Builder, number
from t2i_eval_kedro.benchmarks.files import read_json, records

GENERATOR = "unknown"
RATER = "ranking"


def read(raw: Path) -> Benchmark:
    """Read ``test.json`` and, where they are there, the images that it names."""
    out = Builder("imagereward", "ImageReward test set", "Apache-2.0", ())
    file = raw / "test.json"
    required = {"id": str, "prompt": str, "generations": list, "ranking": list}
    for where, _, row in records(read_json(file, out.issues), file, required, out.issues):
        prompt_id, generations, ranking = row["id"], row["generations"], row["ranking"]
        if len(generations) != len(ranking):
            detail = f"{len(generations)} generations and {len(ranking)} ranks"
            out.issues.add("not_joined", where, detail, "prompt excluded")
            continue
        ranked: list[tuple[str, float]] = []
        for path, rank in zip(map(str, generations), ranking, strict=True):
            if not out.item(path, prompt_id, row["prompt"], GENERATOR, where):
                continue
            out.image(path, raw, path)
            value = number(rank)
            if value is None:
                detail = f"rank {rank!r:.40} of {path}"
                out.issues.add("unreadable_rating", where, detail, "item left out of preferences")
            else:
                ranked.append((path, value))
        for (a, rank_a), (b, rank_b) in combinations(ranked, 2):
            label = "tie" if rank_a == rank_b else "a" if rank_a < rank_b else "b"
            out.add("preferences", where, prompt_id=prompt_id, item_a=a, item_b=b, rater_id=RATER, label=label)
    return out.build()
