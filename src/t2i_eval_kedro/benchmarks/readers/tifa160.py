"""TIFA v1.0 human set: 160 prompts x 5 generators, two raters (1 to 5), recorded metrics.

Hu et al., "TIFA: Accurate and Interpretable Text-to-Image Faithfulness Evaluation with Question Answering", ICCV 2023.
The release lists two scores an image without naming the raters: raters "1" and "2" are positions in that list.
Questions, and the answers of mPLUG-large to them, are published for two sample images whose generator is not told.
"""

from __future__ import annotations

from pathlib import Path

from t2i_eval_kedro import schema
from t2i_eval_kedro.benchmarks.base import Benchmark, Builder, Dimension, number
from t2i_eval_kedro.benchmarks.files import read_json, records

ALIGNMENT = Dimension("alignment", 1, 5, "how well the image matches the prompt", (1, 2, 3, 4, 5))
METRICS = (
    "bleu",
    "rouge",
    "meteor",
    "spice",
    "clipscore_vitb32",
    "tifa_vilt",
    "tifa_ofa-large",
    "tifa_git-large",
    "tifa_blip2-flant5xl",
    "tifa_mplug-large",
)
RATERS = 2
SAMPLE_GENERATOR = "unknown"


def read(raw: Path) -> Benchmark:
    """Read ``human_annotations_with_scores.json`` and, where they are there, the ``sample_*.json`` files and images."""
    out = Builder("tifa160", "TIFA v1.0 human set", "Apache-2.0", (ALIGNMENT,))
    file = raw / "human_annotations_with_scores.json"
    required = {"text_id": str, "text": str, "human_scores": list}
    for where, item_id, row in records(read_json(file, out.issues), file, required, out.issues):
        text_id = row["text_id"]
        if not text_id or not item_id.startswith(f"{text_id}_"):
            out.issues.add("not_joined", where, f"text_id {text_id!r} does not begin the item's name", "item excluded")
            continue
        if not out.item(item_id, text_id, row["text"], item_id.removeprefix(f"{text_id}_"), where):
            continue
        out.image(item_id, raw, str(row.get("image_path", "")))
        ratings = row["human_scores"]
        if len(ratings) != RATERS:
            out.issues.add("rater_count", where, f"{len(ratings)} ratings where {RATERS} belong", "kept")
        for position, score in enumerate(ratings, 1):
            out.rating(item_id, str(position), ALIGNMENT, score, where)
        for metric in METRICS:
            if metric in row:
                out.score(item_id, metric, row[metric], where, "alignment")
    _read_samples(raw, out)
    return out.build()


def _read_samples(raw: Path, out: Builder) -> None:
    questions, images = raw / "sample_question_answers.json", raw / "sample_imgs.json"
    if not questions.is_file() or not images.is_file():
        return
    element_ids: dict[tuple[str, str], str] = {}
    prompts: dict[str, str] = {}
    required = dict.fromkeys(("id", "caption", "question", "answer", "element", "element_type"), str) | {
        "choices": list
    }
    for _, _, row in records(read_json(questions, out.issues), questions, required, out.issues):
        prompt_id = row["id"]
        prompts[prompt_id] = row["caption"]
        element_id = str(1 + sum(known == prompt_id for known, _ in element_ids))
        element_ids[prompt_id, row["question"]] = element_id
        out.add(
            "elements",
            prompt_id=prompt_id,
            element_id=element_id,
            text=row["element"],
            skill=row["element_type"],
            question=f"{row['question']} ({', '.join(map(str, row['choices']))})",
            expected=row["answer"],
        )
    named = read_json(images, out.issues)
    for prompt_id, name in named.items() if isinstance(named, dict) else ():
        item_id = f"{prompt_id}_sample"
        if out.item(item_id, prompt_id, prompts.get(prompt_id, ""), SAMPLE_GENERATOR, images.name, {"sample": True}):
            out.image(item_id, raw, str(name))
    results = raw / "sample_evaluation_result.json"
    if not results.is_file():
        return
    document = read_json(results, out.issues)
    details = document.get("question_details") if isinstance(document, dict) else None
    for _, prompt_id, answers in records(details, results, {}, out.issues):
        for where, question, answer in records(answers, results, {}, out.issues):
            if (prompt_id, question) not in element_ids or not out.has("items", f"{prompt_id}_sample"):
                out.issues.add("not_joined", where, f"{prompt_id}: {question!r:.80}", "answer excluded")
                continue
            score = number(answer.get("scores"))
            if score is None:
                out.issues.add("unreadable_score", where, f"{answer.get('scores')!r:.40}", "kept as null")
            out.add(
                "element_scores",
                where,
                item_id=f"{prompt_id}_sample",
                element_id=element_ids[prompt_id, question],
                judge="tifa_mplug-large",
                run=0,
                score=score,
                status=schema.OK if score is not None else schema.UNPARSED,
            )
