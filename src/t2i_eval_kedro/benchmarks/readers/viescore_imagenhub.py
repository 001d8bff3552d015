"""ImagenHub text-to-image with VIEScore's judge answers: 197 prompts x 5 generators, three raters, two recorded judges.

Ku et al., "VIEScore: Towards Explainable Metrics for Conditional Image Synthesis Evaluation", ACL 2024. Raters gave
semantic consistency (SC) and perceptual quality (PQ) in {0, 0.5, 1}; overall is O = sqrt(SC * PQ) for each rater. A
judge's SC and PQ are the smallest of the scores it listed (0 to 10), its O the root of their product. The prompts
stand only in the judges' recorded requests; the images are not part of the release.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from t2i_eval_kedro import schema
from t2i_eval_kedro.answers import read_score_list
from t2i_eval_kedro.benchmarks.base import Benchmark, Builder, Dimension
from t2i_eval_kedro.benchmarks.files import read_json, read_table, records
from t2i_eval_kedro.errors import T2IEvalError

_LEVELS = (0.0, 0.5, 1.0)
SC = Dimension("SC", 0, 1, "how well the image follows the prompt", _LEVELS)
PQ = Dimension("PQ", 0, 1, "how natural and free of artifacts the image looks", _LEVELS)
O = Dimension("O", 0, 1, "how good the image is overall, for what the prompt asks and as a picture")  # noqa: E741
JUDGES = {"results_gpt4o_0shot": "GPT-4o 0-shot", "results_qwenvl_0shot": "Qwen-VL 0-shot"}
TASK = "ImagenHub_Text-Guided_IG"
JUDGE_SCALE = (0.0, 10.0)
SCORES_OF = {"SC": 1, "PQ": 2}
"""How many scores each request asks for."""
_PROMPT = "Text Prompt:"
_PAIR = re.compile(r"\[\s*([^,\[\]]+?)\s*,\s*([^,\[\]]+?)\s*\]")

Answers = dict[tuple[str, str, str], dict[str, dict[str, Any]]]


def read(raw: Path) -> Benchmark:
    """Read ``human/Text-To-Image_rater*.tsv`` and ``answers/results_*/<task>/<generator>/{SC,PQ}.json[.gz]``."""
    out = Builder("viescore_imagenhub", "ImagenHub text-to-image with VIEScore's judges", "MIT", (SC, PQ, O))
    answers = _answer_files(raw, out)
    prompts = {
        uid: answer["prompt_input"].rpartition(_PROMPT)[2].strip()
        for (_, _, step), file in answers.items()
        if step == "SC"
        for uid, answer in file.items()
        if _PROMPT in answer["prompt_input"]
    }
    for path in sorted((raw / "human").glob("Text-To-Image_rater*.tsv")):
        rater_id = path.stem.removeprefix("Text-To-Image_")
        for row in read_table(path, ("uid",), out.issues, delimiter="\t", key="uid"):
            _read_ratings(raw, row, rater_id, prompts, out)
    for (judge, generator, step), file in answers.items():
        _read_answers(judge, generator, step, file, out)
    _overall_scores(sorted({judge for judge, _, _ in answers}), out)
    return out.build()


def _answer_files(raw: Path, out: Builder) -> Answers:
    """The recorded answers by judge, generator and step (SC or PQ), then by the name of the image."""
    answers: Answers = {}
    for path in sorted((raw / "answers").glob(f"results_*/{TASK}/*/*.json*")):
        folder, _, generator, name = path.parts[-4:]
        step = name.partition(".")[0]
        if step not in ("SC", "PQ"):
            continue
        try:
            answers[JUDGES.get(folder, folder.removeprefix("results_")), generator, step] = {
                uid: answer
                for _, uid, answer in records(read_json(path, out.issues), path, {"prompt_input": str}, out.issues)
            }
        except T2IEvalError as error:
            out.issues.add("unreadable_file", path.relative_to(raw), str(error), "its answers excluded")
    return answers


def _read_ratings(raw: Path, row: dict[str, str], rater_id: str, prompts: dict[str, str], out: Builder) -> None:
    uid, where = row["uid"], row["#"]
    if uid not in prompts:
        out.issues.add("not_joined", where, f"no recorded request tells the prompt of {uid!r:.80}", "ratings excluded")
        return
    for generator, cell in row.items():
        if generator in ("#", "uid"):
            continue
        item_id = f"{generator}/{uid}"
        if not out.has("items", item_id):
            out.item(item_id, uid.partition(".")[0], prompts[uid], generator, where)
            out.image(item_id, raw, f"images/{item_id}")
        pair = _PAIR.fullmatch(cell.strip())
        if pair is None:
            out.issues.add(
                "unreadable_cell",
                where,
                f"{item_id} by {rater_id}: {cell!r:.60} is not a pair [SC, PQ]",
                "kept as nulls",
            )
        sc_read = out.rating(item_id, rater_id, SC, pair[1] if pair else None, where)
        pq_read = out.rating(item_id, rater_id, PQ, pair[2] if pair else None, where)
        if pair is not None and sc_read and pq_read:
            out.rating(item_id, rater_id, O, math.sqrt(float(pair[1]) * float(pair[2])), where)


def _read_answers(judge: str, generator: str, step: str, file: dict[str, dict[str, Any]], out: Builder) -> None:
    for uid, answer in file.items():
        item_id, where = f"{generator}/{uid}", f"{judge}/{generator}/{step}: {uid}"
        if not out.has("items", item_id):
            out.issues.add("not_joined", where, "no rated item", "answer excluded")
            continue
        listed = answer.get("score")
        read = read_score_list(answer, SCORES_OF[step], *JUDGE_SCALE)
        score = None if read.scores is None else min(read.scores)
        if score is None:
            detail = f"{listed!r:.60} is not the {SCORES_OF[step]} scores from 0 to 10 that were asked for"
            out.issues.add("unreadable_score", where, detail, "kept as null")
        for repair in read.repairs:
            out.issues.add("repaired_answer", where, repair, "read all the same")
        status = schema.OK if score is not None else schema.UNPARSED
        reasoning = answer.get("reasoning")
        message = {"role": "user", "text": answer["prompt_input"], "images": [f"images/{item_id}"]}
        out.add(
            "transcripts",
            where,
            item_id=item_id,
            judge=judge,
            run=0,
            step=step,
            task="score",
            aspect=step,
            question_id=step,
            messages=json.dumps([message], ensure_ascii=False),
            answer=json.dumps({"score": listed, "reasoning": reasoning}, ensure_ascii=False),
            status=status,
            usage=None,
            prompt_version="viescore as recorded by its authors",
        )
        out.score_row(where, item_id, judge, step, score, status, explanation=reasoning)


def _overall_scores(judges: list[str], out: Builder) -> None:
    """Add O of every judge, and a row with the status ``not_applicable`` for every answer that was not recorded."""
    known = {(row["item_id"], row["judge"], row["dimension"]): row["score"] for row in out.rows("scores")}
    items = [str(row["item_id"]) for row in out.rows("items")]
    for judge in judges:
        absent = 0
        for item_id in items:
            parts: list[float | None] = []
            status = schema.OK
            for step in ("SC", "PQ"):
                if (item_id, judge, step) not in known:
                    absent += 1
                    status = schema.NOT_APPLICABLE
                    out.no_score(item_id, judge, "", step)
                value = known.get((item_id, judge, step))
                parts.append(float(value) if isinstance(value, float | int) else None)
            if parts[0] is not None and parts[1] is not None:
                out.score_row("", item_id, judge, "O", math.sqrt(parts[0] * parts[1]), schema.OK)
            else:
                status = schema.NOT_APPLICABLE if status == schema.NOT_APPLICABLE else schema.UNPARSED
                out.score_row("", item_id, judge, "O", None, status)
        if absent:
            detail = f"{absent} of {2 * len(items)} answers are not recorded"
            out.issues.add("missing_answer", judge, detail, "kept as nulls", absent)
