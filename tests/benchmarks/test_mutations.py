"""Readers never crash: whatever a value in the raw files becomes, they read on or stop with one sentence."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest
from benchmark_helpers import picture

from t2i_eval_kedro.benchmarks import read_benchmark
from t2i_eval_kedro.benchmarks.card import data_card
from t2i_eval_kedro.benchmarks.splits import split_by_prompt
from t2i_eval_kedro.errors import T2IEvalError

QUESTION = {"id": "c", "caption": "a cat", "question": "cat?", "choices": ["yes"], "answer": "yes", "element": "cat"}
JUDGED = {"question": "cat?", "value": {"answer": "yes", "explanation": "it is", "score": 7}}
SUMMARY = {"explanation": "good", "score": 8}
BENCH_SCORES = {
    "appearance": {"score": 8, "manual_score": [7, 8, 9, 8]},
    "overall": {"score": "N/A", "manual_score": [1] * 4},
}
ANSWER = {"score": [8], "reasoning": "fine", "prompt_input": "Text Prompt: a cat", "vision_input": ["x"]}
REGION = {"bbox_type": 1, "bbox": [{"x": 1, "y": 2}, {"x": 5, "y": 6}]}

FILES: dict[str, dict[str, Any]] = {
    "tifa160": {
        "human_annotations_with_scores.json": {
            "c_sd": {"text_id": "c", "image_path": "c.png", "text": "a cat", "human_scores": [4, 5], "bleu": 0.1}
        },
        "sample_question_answers.json": [QUESTION | {"element_type": "animal"}],
        "sample_imgs.json": {"c": "c.png"},
        "sample_evaluation_result.json": {"question_details": {"c": {"cat?": {"scores": 1}}}},
        "c.png": picture(),
    },
    "dsg": {
        "tifa160-likert-anns.csv": [
            ["t2i_model", "item_id", "source_id", "worker_id", "answer"],
            ["sd1dot5", "tifa160_0", "c", "w", "4"],
            ["sd1dot5", "tifa160_0", "c", "v", "5"],
        ],
        "dsg-1k-anns.csv": [
            [
                *("item_id", "text", "proposition_id", "dependency", "category_broad", "category_detailed", "tuple"),
                "question_natural_language",
            ],
            ["tifa160_0", "a cat", "1", "0", "entity", "whole", "entity - whole (cat)", "Is there a cat?"],
            ["tifa160_0", "a cat", "2", "1", "attribute", "color", "attribute - color (cat, red)", "Is it red?"],
        ],
        "vqa_answers/mplug_dsg.csv": [
            ["t2i_model", "item_id", "question_id", "answer"],
            ["sd1dot5", "tifa160_0", "1", "yes"],
            ["sd1dot5", "tifa160_0", "2", "no"],
        ],
    },
    "viescore_imagenhub": {
        "human/Text-To-Image_rater1.tsv": "uid\tSD\nsample_0.jpg\t[0.5, 1]\n",
        "answers/results_gpt4o_0shot/ImagenHub_Text-Guided_IG/SD/SC.json": {"sample_0.jpg": ANSWER},
        "answers/results_gpt4o_0shot/ImagenHub_Text-Guided_IG/SD/PQ.json": {"sample_0.jpg": ANSWER | {"score": [1, 2]}},
    },
    "genai_bench": {
        "genai_image.json": {"00000": {"prompt": "a cat", "models": {"SD": [3, 4, 5]}}},
        "genai_skills.json": {"basic": [0], "counting": [0]},
    },
    "agiqa3k": {
        "data.csv": [
            ["name", "prompt", "adj1", "adj2", "style", "mos_quality", "std_quality", "mos_align", "std_align"],
            ["sd1.5_normal_000.jpg", "a cat", "", "", "anime", "2.5", "0.5", "3", "0.1"],
        ],
    },
    "imagereward": {
        "test.json": [{"id": "1", "prompt": "a cat", "generations": ["a.webp", "b.webp"], "ranking": [1, 2]}],
    },
    "avt_ai_images": {
        "prompts.csv": [["ID", "prompts", "category"], ["p01", "a cat", "x"]],
        "ratings.csv": [["user_ID", "image_key", "dimension", "rating"], ["1", "glide/p01", "realism", "3"]],
        "iqa.csv": [["model", "metric", "img_id", "quality_score"], ["glide", "NIQE", "p01.png", "3.5"]],
        "images/glide/p01.jpg": picture(form="JPEG"),
    },
    "evalalign": {
        "test_faithfulness_prompt.json": [{"prompt_id": "7", "prompt": "a man"}],
        "test_alignment_prompt.json": [
            {"prompt_id": "7", "prompt": "cats", "result_info": {"Object": "cats"}, "question_info": {"Object": "all?"}}
        ],
    },
    "evalmuse": {
        "train_list.json": [
            {
                "prompt_id": "3",
                "img_path": "SD/3.png",
                "prompt": "a cat",
                "total_score": [3, 4, 5],
                "element_score": {"cat (animal)": [1, 0, 1]},
                "promt_meaningless": [0, 0, 0],
                "type": "real",
                "fidelity_label": ["a"],
            }
        ],
        "SD/3.png": picture(),
    },
    "evalmuse_structure": {
        "train_info.json": {"a.png": {"prompt_en": "a man", "mos": 3, "bbox_info": [[REGION], [], []]}},
        "a.png": picture(),
    },
    "t2i_eval_bench": {
        "t2i-eval-bench.json": [
            {
                "id": 0,
                "gt_image": "0.png",
                "ref_image": None,
                "image_caption": "a cat",
                "appearance_questions": [{"id": "q", "question": "?"}],
            }
        ],
        "scores.json": [
            {
                "id": "0",
                "overall": BENCH_SCORES,
                "appearance_questions": [{"id": "q", "score": 9, "manual_score": [9] * 4}],
            }
        ],
        "0.png": picture(),
    },
    "t2i_eval_distill": {
        "train.json": [
            {
                "id": 3,
                "model_name": "sd3",
                "gt_image": "i.png",
                "ref_image": None,
                "image_caption": "a cat",
                "data": {
                    "Structure Information": {},
                    "Questions": {
                        "Appearance Quality Questions": {"cat": [{"question": "cat?", "value": None}]},
                        "Relationship Attribute Consistency Questions": [
                            {"question": "on?", "value": {"entities": "a"}}
                        ],
                    },
                    "Answers": {"Appearance Quality Questions": {"cat": [JUDGED]}},
                    "Evaluation": {
                        "Appearance Quality Answers": {"cat": [JUDGED]},
                        "Overall Evaluation": {"Overall Score": SUMMARY, "Appearance Quality Summary": SUMMARY},
                    },
                },
            }
        ],
    },
    "mine": {
        "items.csv": [["item_id", "prompt_id", "prompt", "generator", "image"], ["1", "p", "a cat", "g", "1.png"]],
        "ratings.csv": [
            ["item_id", "rater_id", "dimension", "score", "scale_min", "scale_max"],
            ["1", "r", "looks", "3", "1", "5"],
        ],
        "scores.csv": [["item_id", "evaluator", "dimension", "score"], ["1", "clip", "", "0.3"]],
        "elements.csv": [["prompt_id", "element_id", "text", "skill"], ["p", "e", "cat", "animal"]],
        "element_ratings.csv": [["item_id", "element_id", "rater_id", "label"], ["1", "e", "r", "1"]],
        "1.png": picture(),
    },
}

GONE = object()  # the value is not replaced, it is taken out

ODD_VALUES = [
    GONE,
    None,
    True,
    0,
    -1,
    7.5,
    1e300,
    10**400,
    "",
    "x",
    "N/A",
    "a,b",
    "../x",
    "\0",
    "\ud800",
    [],
    [None],
    [[]],
    {},
    {"a": None},
]
ODD_CELLS = [GONE, "", "x", "-1", "nan", "1e999", "..", "/", "a/b/c", "\0", "\u2028", "[1,2]", "0", "yes", "é" * 300]
ALL = os.environ.get("T2I_EVAL_ALL_MUTATIONS") == "1"  # every value at every place: some minutes
STEP = 10


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a document, as the keys that lead to it."""
    found = [path]
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        found += places(child, (*path, key))
    return found


def replaced(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return None if value is GONE else value
    changed = copy.deepcopy(document)
    spot = changed
    for key in path[:-1]:
        spot = spot[key]
    if value is GONE:
        del spot[path[-1]]
    else:
        spot[path[-1]] = value
    return changed


def write(root: Path, name: str, files: dict[str, Any]) -> None:
    for file, content in files.items():
        path = root / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif file.endswith(".json"):
            path.write_text(json.dumps(content))
        elif isinstance(content, str):
            path.write_text(content)
        else:
            quoted = [",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in content]
            path.write_text("\n".join(quoted), encoding="utf-8", errors="surrogatepass")


def read_all(root: Path, name: str) -> None:
    benchmark = read_benchmark(name, root)
    stored = [key for key, _ in benchmark.images()]
    assert len(set(stored)) == len(stored)
    assert set(benchmark.items["image"].dropna()) <= set(stored)
    json.dumps(data_card(benchmark, split_by_prompt(benchmark.items, {"test": 1.0})), allow_nan=False)


@pytest.mark.parametrize("name", FILES)
def test_the_files_as_they_are_can_be_read(name: str, tmp_path: Path) -> None:
    write(tmp_path, name, FILES[name])
    read_all(tmp_path, name)


PLACES = [
    (name, file, place)
    for name, files in FILES.items()
    for file, document in files.items()
    if isinstance(document, dict | list)
    for place in places(document)
    if file.endswith(".json") or len(place) == 2
]


@pytest.mark.parametrize(
    ("n", "name", "file", "place"),
    [(n, *place) for n, place in enumerate(PLACES)],
    ids=["/".join(map(str, (name, file, *keys))) for name, file, keys in PLACES],
)
def test_any_value_may_be_anything(n: int, name: str, file: str, place: tuple[Any, ...], tmp_path: Path) -> None:
    """Every place of every file takes every tenth odd value, another tenth than its neighbour."""
    values = ODD_VALUES if file.endswith(".json") else ODD_CELLS
    for i, value in enumerate(values if ALL else values[n % STEP :: STEP]):
        folder = tmp_path / str(i)
        write(folder, name, FILES[name] | {file: replaced(FILES[name][file], place, value)})
        fault = None
        try:
            read_all(folder, name)
        except T2IEvalError as error:
            fault = str(error)
        assert fault is None or (fault.endswith(".") and "\n" not in fault)
