"""Cut the excerpts of public benchmarks in this folder from their whole files.

    python tests/data/make_excerpts.py FOLDER

FOLDER holds the whole files, one folder a benchmark; the layout is in ``src/t2i_eval_kedro/benchmarks``. Every row that is
kept is as it was, its faults included; nothing is added. README.md has the sources and their licences.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
# Prompts that both TIFA and DSG rated; DSG's judges left one unanswered and gave unreadable answers on two.
TIFA = ("coco_669925", "coco_325049", "partiprompt_366", "partiprompt_86", "partiprompt_726", "drawbench_57")
BROKEN_GRAPH = "posescript_69"  # a prompt that nobody rated, one of whose propositions depends on what is not there
IMAGENHUB = tuple(f"sample_{i}.jpg" for i in range(10))
AGIQA_ENDINGS = ("_normal_000.jpg", "_normal_001.jpg", "_normal_002.jpg", "_normal_003.jpg")
PREFERENCES, EVALALIGN = 6, 6


def write_json(path: str, document: Any) -> None:
    target = HERE / path
    target.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(document, ensure_ascii=False, indent=1) + "\n"
    if target.suffix == ".gz":  # without a time, so that the same rows give the same bytes
        target.write_bytes(gzip.compress(text.encode(), mtime=0))
    else:
        target.write_text(text, encoding="utf-8")


def cut_csv(source: Path, path: str, keep: Callable[[dict[str, str]], bool], delimiter: str = ",") -> None:
    rows = list(csv.reader(io.StringIO(source.read_text("utf-8-sig"), newline=""), delimiter=delimiter))
    kept = [row for row in rows[1:] if keep(dict(zip(rows[0], row, strict=False)))]
    target = HERE / path
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter, lineterminator="\n").writerows([rows[0], *kept])


def main(whole: Path) -> None:
    tifa = json.loads((whole / "tifa160/human_annotations_with_scores.json").read_text())
    write_json(
        "tifa160/human_annotations_with_scores.json", {k: v for k, v in tifa.items() if v.get("text_id") in TIFA}
    )
    for name in ("sample_evaluation_result", "sample_imgs", "sample_question_answers"):
        write_json(f"tifa160/{name}.json", json.loads((whole / f"tifa160/{name}.json").read_text()))

    with (whole / "dsg/tifa160-likert-anns.csv").open(encoding="utf-8") as file:
        ids = {row["item_id"] for row in csv.DictReader(file) if row["source_id"] in TIFA} | {BROKEN_GRAPH}
    for name in ("tifa160-likert-anns", "dsg-1k-anns", "vqa_answers/instructblip_dsg", "vqa_answers/mplug_dsg"):
        cut_csv(whole / f"dsg/{name}.csv", f"dsg/{name}.csv", lambda row: row["item_id"] in ids)

    for rater in (1, 2, 3):
        name = f"viescore_imagenhub/human/Text-To-Image_rater{rater}.tsv"
        cut_csv(whole / name, name, lambda row: row["uid"] in IMAGENHUB, "\t")
    for file in sorted((whole / "viescore_imagenhub/answers").rglob("*.json.gz")):
        answers = json.loads(gzip.decompress(file.read_bytes()))
        write_json(str(file.relative_to(whole)), {uid: answers[uid] for uid in IMAGENHUB if uid in answers})

    cut_csv(whole / "agiqa3k/data.csv", "agiqa3k/data.csv", lambda row: row["name"].endswith(AGIQA_ENDINGS))
    rankings = json.loads((whole / "imagereward/test.json").read_text())
    write_json("imagereward/test.json", rankings[:PREFERENCES])
    for skill in ("alignment", "faithfulness"):
        name = f"evalalign/test_{skill}_prompt.json"
        write_json(name, json.loads((whole / name).read_text())[:EVALALIGN])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
