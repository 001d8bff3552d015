"""DSG's Likert ratings of the TIFA v1.0 images: 800 items, five raters (1 to 5), propositions with a dependency graph.

Cho et al., "Davidsonian Scene Graph: Improving Reliability in Fine-grained Evaluation for Text-to-Image Generation",
ICLR 2024. Item and prompt identifiers are TIFA's, so that the tables of both benchmarks join. Propositions are kept
for all 1,060 prompts; answers about images that nobody rated (900 prompts, one generator) are counted and left out.

The recorded item scores follow the authors' released code: an answer counts when it is exactly "yes", a proposition
counts 0 where the raw answer to one of its direct parents does, and an item without answers scores 0.
``element_scores`` are the answers themselves; one that is neither "yes" nor begins with "no" is a null with the
status ``unparsed``.
"""

from __future__ import annotations

import re
from pathlib import Path

from t2i_eval_kedro import schema
from t2i_eval_kedro.benchmarks.base import Benchmark, Builder, Dimension
from t2i_eval_kedro.benchmarks.files import read_table

ALIGNMENT = Dimension("alignment", 1, 5, "how well the image matches the prompt", (1, 2, 3, 4, 5))
GENERATORS = {
    "mini-dalle": "mini_dalle",
    "vq-diffusion": "vq_diffusion",
    "sd1dot1": "stable_diffusion_v1_1",
    "sd1dot5": "stable_diffusion_v1_5",
    "sd2dot1": "stable_diffusion_v2_1",
}
ANSWER_FILES = {"mplug-large": "mplug_dsg.csv", "instruct-blip": "instructblip_dsg.csv"}
_NO = re.compile(r"no\b")


def read(raw: Path) -> Benchmark:
    """Read ``tifa160-likert-anns.csv``, ``dsg-1k-anns.csv`` and ``vqa_answers/*_dsg.csv``."""
    out = Builder("dsg", "DSG Likert ratings of the TIFA v1.0 images", "Apache-2.0", (ALIGNMENT,))
    propositions = read_table(
        raw / "dsg-1k-anns.csv",
        (
            "item_id",
            "text",
            "proposition_id",
            "dependency",
            "category_broad",
            "category_detailed",
            "tuple",
            "question_natural_language",
        ),
        out.issues,
        key="item_id",
    )
    likert = read_table(
        raw / "tifa160-likert-anns.csv",
        ("t2i_model", "item_id", "source_id", "worker_id", "answer"),
        out.issues,
        key="item_id",
    )
    prompts = {row["item_id"]: row["text"] for row in propositions}
    source = {row["item_id"]: row["source_id"] for row in likert}
    for row in likert:
        generator = GENERATORS.get(row["t2i_model"])
        if generator is None or row["item_id"] not in prompts:
            out.exclude(
                "ratings",
                "not_joined",
                row["#"],
                f"unknown generator or prompt: {row['t2i_model']} {row['item_id']}",
                "rating excluded",
            )
            continue
        item_id = f"{row['source_id']}_{generator}"
        if not out.has("items", item_id):
            out.item(
                item_id, row["source_id"], prompts[row["item_id"]], generator, row["#"], {"dsg_id": row["item_id"]}
            )
            out.image(item_id, raw, f"images/{item_id}.jpg")
        out.rating(item_id, row["worker_id"], ALIGNMENT, row["answer"], row["#"])
    parents = _read_elements(propositions, source, out)
    for model, name in ANSWER_FILES.items():
        if (raw / "vqa_answers" / name).is_file():
            _read_answers(raw / "vqa_answers" / name, model, source, parents, out)
    return out.build()


def _read_elements(
    propositions: list[dict[str, str]], source: dict[str, str], out: Builder
) -> dict[tuple[str, str], list[str]]:
    """Add the elements; returns the direct parents of each (DSG's prompt id, element id)."""
    known = {(row["item_id"], row["proposition_id"]) for row in propositions}
    parents: dict[tuple[str, str], list[str]] = {}
    for row in propositions:
        prompt_id, element_id = row["item_id"], row["proposition_id"]
        named = [part.strip() for part in row["dependency"].split(",")]
        above = [part for part in named if part != "0" and part != element_id and (prompt_id, part) in known]
        if len(above) != len([part for part in named if part != "0"]):
            detail = (
                f"{prompt_id} {element_id}: depends on {row['dependency']!r:.60}, which is not all other propositions"
            )
            out.issues.add("bad_dependency", row["#"], detail, "the parents that exist are kept")
        parents[prompt_id, element_id] = above
        detailed = row["category_detailed"]
        out.add(
            "elements",
            row["#"],
            prompt_id=source.get(prompt_id, prompt_id),
            element_id=element_id,
            text=row["tuple"],
            skill=row["category_broad"] if detailed in ("", "-") else f"{row['category_broad']}/{detailed}",
            question=row["question_natural_language"],
            expected="yes",
            parents=",".join(above) or None,
        )
    return parents


def _read_answers(
    path: Path, model: str, source: dict[str, str], parents: dict[tuple[str, str], list[str]], out: Builder
) -> None:
    answers: dict[str, dict[str, bool]] = {}
    prompt_of: dict[str, str] = {}
    unrated = 0
    columns = ("t2i_model", "item_id", "question_id", "answer")
    for row in read_table(path, columns, out.issues, key="item_id"):
        prompt_id, element_id, answer = row["item_id"], row["question_id"], row["answer"]
        item_id = f"{source.get(prompt_id)}_{GENERATORS.get(row['t2i_model'])}"
        if not out.has("items", item_id):
            unrated += 1
            continue
        if (prompt_id, element_id) not in parents:
            out.issues.add("not_joined", row["#"], f"no proposition {element_id} of {prompt_id}", "answer excluded")
            continue
        value = 1.0 if answer == "yes" else 0.0 if _NO.match(answer) else None
        if value is None:
            out.issues.add(
                "unreadable_answer", row["#"], f"{model} on {item_id} {element_id}: {answer!r:.60}", "kept as null"
            )
        added = out.add(
            "element_scores",
            row["#"],
            item_id=item_id,
            element_id=element_id,
            judge=model,
            protocol="dsg",
            run=0,
            score=value,
            status=schema.OK if value is not None else schema.UNPARSED,
        )
        if added:
            answers.setdefault(item_id, {})[element_id] = answer == "yes"
            prompt_of[item_id] = prompt_id
    if unrated:
        out.issues.add(
            "not_joined", path.name, f"{unrated} answers on images that nobody rated", "answers excluded", unrated
        )
    for item in out.rows("items"):
        item_id = str(item["item_id"])
        raw = answers.get(item_id)
        if raw is None:
            out.issues.add(
                "unanswered_item",
                path.name,
                f"{model} answered nothing on {item_id}",
                "kept as a null score (the authors score it 0)",
            )
            for protocol in ("dsg", "dsg-no-dependency"):
                out.no_score(item_id, model, path.name, "alignment", protocol)
            continue
        plain = [float(yes) for yes in raw.values()]
        zeroed = [
            float(yes and all(raw.get(parent, True) for parent in parents[prompt_of[item_id], element_id]))
            for element_id, yes in raw.items()
        ]
        for protocol, values in (("dsg", zeroed), ("dsg-no-dependency", plain)):
            out.score(item_id, model, sum(values) / len(values), path.name, "alignment", protocol=protocol)
