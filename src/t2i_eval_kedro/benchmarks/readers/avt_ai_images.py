"""AVT AI images: 19 prompts x 5 generators and three photographs, 27 raters, three dimensions (1 to 5).

Goering et al., "Analysis of Appeal for Realistic AI-Generated Photos", IEEE Access 2023. The photographs ("own") are
real: their items have the attribute ``real`` and stay out of generator rankings. Six no-reference image quality
metrics are recorded; ILNIQE, NIQE and BRISQUE are better when lower.
"""

from __future__ import annotations

from pathlib import Path

from t2i_eval_kedro.benchmarks.base import Benchmark, Builder, Dimension
from t2i_eval_kedro.benchmarks.files import read_table

_LEVELS = (1.0, 2.0, 3.0, 4.0, 5.0)
DIMENSIONS = {
    name: Dimension(name, 1, 5, description, _LEVELS)
    for name, description in (
        ("prompt_matching", "how well the image matches the prompt"),
        ("realism", "how much the image looks like a real photograph"),
        ("image_appeal", "how much the image appeals to those who look at it"),
    )
}
HIGHER_IS_BETTER = {"ILNIQE": False, "NIQE": False, "BRISQUE": False, "MUSIQ": True, "DBCNN": True, "MANIQA": True}
REAL = "own"


def read(raw: Path) -> Benchmark:
    """Read ``prompts.csv``, ``ratings.csv``, ``iqa.csv`` and ``images/<generator>/<prompt>.jpg``."""
    out = Builder("avt_ai_images", "AVT AI images, study 1", "GPL-3.0", tuple(DIMENSIONS.values()))
    prompts = {
        row["ID"]: row for row in read_table(raw / "prompts.csv", ("ID", "prompts", "category"), out.issues, key="ID")
    }

    def item(key: str, where: str) -> bool:
        """Whether ``key`` (generator/prompt) is an item, which is added when it is met first."""
        generator, _, prompt_id = key.partition("/")
        if prompt_id not in prompts:
            out.issues.add("not_joined", where, f"no prompt for {key!r:.80}", "row excluded")
            return False
        if not out.has("items", key):
            attributes = {"category": prompts[prompt_id]["category"]} | ({"real": True} if generator == REAL else {})
            out.item(key, prompt_id, prompts[prompt_id]["prompts"], generator, where, attributes)
            out.image(key, raw, f"images/{key}.jpg", key=f"{key}.jpg")
        return True

    for row in read_table(
        raw / "ratings.csv", ("user_ID", "image_key", "dimension", "rating"), out.issues, key="image_key"
    ):
        if not item(row["image_key"], row["#"]):
            continue
        if row["dimension"] not in DIMENSIONS:
            out.exclude(
                "ratings",
                "unreadable_cell",
                row["#"],
                f"dimension {row['dimension']!r:.40} is not known",
                "rating excluded",
            )
            continue
        out.rating(row["image_key"], row["user_ID"], DIMENSIONS[row["dimension"]], row["rating"], row["#"])
    if (raw / "iqa.csv").is_file():
        for row in read_table(
            raw / "iqa.csv", ("model", "metric", "img_id", "quality_score"), out.issues, key="img_id"
        ):
            key = f"{row['model']}/{row['img_id'].rpartition('.')[0]}"
            if row["metric"] not in HIGHER_IS_BETTER:
                out.exclude(
                    "scores",
                    "unreadable_cell",
                    row["#"],
                    f"metric {row['metric']!r:.40} is not known",
                    "score excluded",
                )
            elif item(key, row["#"]):
                out.score(
                    key, row["metric"], row["quality_score"], row["#"], higher_is_better=HIGHER_IS_BETTER[row["metric"]]
                )
    return out.build()
