"""EvalAlign: 220 test prompts and 11 skills, each with a question and graded options.

Tan et al., "EvalAlign: Supervised Fine-Tuning Multimodal LLMs with Human-Aligned Data for Evaluating Text-to-Image
Models" (arXiv 2406.16562). The six alignment skills are asked about a prompt where its question file has them; their
questions are the release's. The five faithfulness skills are asked about every faithfulness prompt; the wording of
their questions is ours, the grades are the release's. "Not in the image" (-1) is no score: such an answer is counted
and gives no rating.

Items are the images under ``images/<alignment or faithfulness>/<generator>/<prompt id>.<suffix>``. Without them each
prompt stands as an item of the generator "none" that has no image. Answers of people are read from
``annotations.csv`` (columns image, skill, rater_id, option), a form of ours, because the form of the released
annotations is not documented.
"""

from __future__ import annotations

import re
from pathlib import Path

from t2i_eval_kedro.benchmarks.base import Benchmark, Builder, Dimension
from t2i_eval_kedro.benchmarks.files import read_json, read_table, records
from t2i_eval_kedro.benchmarks.readers.evalalign_skills import ALIGNMENT, FAITHFULNESS, NOT_PRESENT, SKILLS

NO_GENERATOR = "none"


def _plain(name: str) -> str:
    """The skill in plain words, without its aspect."""
    return name.rpartition("/")[2].replace("_", " ")


DIMENSIONS = {
    name: Dimension(
        name,
        skill.options[0],
        skill.options[-1],
        skill.about if skill.aspect == ALIGNMENT else f"{_plain(name)} faithfulness",
        skill.options,
    )
    for name, skill in SKILLS.items()
}
_PLACEHOLDER = re.compile(r"^<image>\s*")


def read(raw: Path) -> Benchmark:
    """Read ``test_{alignment,faithfulness}_prompt.json``, and the images and ``annotations.csv`` if there."""
    out = Builder("evalalign", "EvalAlign", "Apache-2.0", tuple(DIMENSIONS.values()))
    prompts: dict[str, str] = {}
    file = raw / "test_faithfulness_prompt.json"
    for where, _, row in records(read_json(file, out.issues), file, {"prompt_id": str, "prompt": str}, out.issues):
        prompt_id = f"faithfulness/{row['prompt_id']}"
        prompts[prompt_id] = row["prompt"]
        for name, skill in SKILLS.items():
            if skill.aspect == FAITHFULNESS:
                _element(out, where, prompt_id, name, _plain(name), skill.question(), "4")
    file = raw / "test_alignment_prompt.json"
    required = {"prompt_id": str, "prompt": str, "result_info": dict, "question_info": dict}
    for where, _, row in records(read_json(file, out.issues), file, required, out.issues):
        prompt_id = f"alignment/{row['prompt_id']}"
        prompts[prompt_id] = row["prompt"]
        for skill, question in row["question_info"].items():
            if f"{ALIGNMENT}/{skill}" not in SKILLS or not isinstance(question, str):
                out.issues.add("unreadable_cell", where, f"no question of a known skill: {skill!r:.40}", "excluded")
                continue
            text = str(row["result_info"].get(skill, skill))
            _element(out, where, prompt_id, f"alignment/{skill}", text, _PLACEHOLDER.sub("", question), "2")
    _items(raw, prompts, out)
    _annotations(raw, out)
    return out.build()


def _element(out: Builder, where: str, prompt_id: str, skill: str, text: str, question: str, best: str) -> None:
    row = {
        "prompt_id": prompt_id,
        "element_id": skill,
        "text": text,
        "skill": skill,
        "question": question,
        "expected": best,
    }
    out.add("elements", where, **row)


def _items(raw: Path, prompts: dict[str, str], out: Builder) -> None:
    images = sorted(path.relative_to(raw).as_posix() for path in raw.glob("images/*/*/*") if path.is_file())
    for path in images:
        _, kind, generator, name = path.split("/")
        prompt_id = f"{kind}/{name.partition('.')[0]}"
        if prompt_id not in prompts:
            out.issues.add("not_joined", path, "the file's name is not a prompt's identifier", "image excluded")
            continue
        if out.item(path, prompt_id, prompts[prompt_id], generator, path):
            out.image(path, raw, path)
    if not images:
        out.issues.add(
            "no_generator", "images", "the release has prompts and no images", "prompts kept as items", len(prompts)
        )
        for prompt_id, prompt in prompts.items():
            out.item(prompt_id, prompt_id, prompt, NO_GENERATOR, attributes={"prompt_only": True})


def _annotations(raw: Path, out: Builder) -> None:
    path = raw / "annotations.csv"
    if not path.is_file():
        return
    absent = 0
    for row in read_table(path, ("image", "skill", "rater_id", "option"), out.issues, key="image"):
        dimension = DIMENSIONS.get(row["skill"])
        if dimension is None or not out.has("items", row["image"]):
            out.issues.add("not_joined", row["#"], f"{row['image']!r:.60}, {row['skill']!r:.40}", "rating excluded")
        elif row["option"].strip() == str(NOT_PRESENT) and SKILLS[row["skill"]].may_be_absent:
            absent += 1
        else:
            out.rating(row["image"], row["rater_id"], dimension, row["option"], row["#"])
    if absent:
        out.issues.add(
            "not_applicable", path.name, f"{absent} answers say that there is none in the image", "no rating", absent
        )
