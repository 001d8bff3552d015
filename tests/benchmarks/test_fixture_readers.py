"""Readers of benchmarks whose real files are too large or not public: made files that follow the published schemas."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from benchmark_helpers import kinds, picture
from hypothesis import given
from hypothesis import strategies as st

from t2i_eval_kedro.benchmarks import Benchmark, read_benchmark
from t2i_eval_kedro.benchmarks.readers.evalmuse import parse_element, prompt_score_variance
from t2i_eval_kedro.benchmarks.readers.evalmuse_structure import marked_counts, mask_key
from t2i_eval_kedro.datasets.image_store import ImageStore, write_image_store
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.evaluators import evaluation_items


def write(folder: Path, name: str, content: object) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def attributes(benchmark: Benchmark, item_id: str) -> dict[str, object]:
    return json.loads(benchmark.items.set_index("item_id")["attributes"][item_id])


def muse(path: str, prompt: str, total: object, elements: object, **more: object) -> dict[str, object]:
    return {
        "prompt_id": None,
        "prompt": prompt,
        "type": "real",
        "img_path": path,
        "total_score": total,
        "element_score": elements,
        "promt_meaningless": [0, 0, 1],
        "split_confidence": [1, 1, 1],
        "attribute_confidence": [1, 0, 1],
        "fidelity_label": ["a"],
    } | more


@pytest.fixture
def evalmuse(tmp_path: Path) -> Benchmark:
    folder = tmp_path / "evalmuse"
    elements = {"puffin (animal)": [1, 0, 1], "cliff (of chalk) (location)": [1, 1, 1]}
    write(
        folder,
        "train_list.json",
        [
            muse("SD3/00110.png", "a puffin on a cliff", [4, 3, 3], elements),
            muse("SDXL/00110.png", "a puffin on a cliff", [1, 2, 1], json.dumps(elements)),
            muse("SDXL/00111.png", "a cat", [5, 9, "x"], {"cat (animal)": [1, 2]}),
            muse("SDXL/00112.png", "a cat", None, None),
            {"img_path": "SDXL/00113.png"},
            "no object",
        ],
    )
    write(folder, "test.json", [muse("SD3/00200.png", "a dog", None, {"dog (animal)": None}, type="synthetic")])
    write(folder, "images/SD3/00110.png", picture())
    write(folder, "images/SDXL/00111.png", b"no image")
    return read_benchmark("evalmuse", tmp_path)


def test_evalmuse_has_ratings_and_labels_by_rater(evalmuse: Benchmark) -> None:
    ratings = evalmuse.ratings.pivot(index="item_id", columns="rater_id", values="score")
    assert ratings.loc["SD3/00110.png"].tolist() == [4, 3, 3]
    assert ratings.loc["SDXL/00111.png", "1"] == 5
    assert ratings.loc["SDXL/00111.png", ["2", "3"]].isna().all()
    labels = evalmuse.element_ratings.set_index(["item_id", "element_id", "rater_id"])["label"].sort_index()
    assert labels.loc[("SDXL/00110.png", "puffin (animal)")].tolist() == [1, 0, 1]
    assert labels["SDXL/00111.png", "cat (animal)"].isna().tolist() == [False, True]
    elements = evalmuse.elements.set_index("element_id")
    assert elements.loc["cliff (of chalk) (location)", ["text", "skill"]].tolist() == ["cliff (of chalk)", "location"]


def test_evalmuse_keeps_the_withheld_test_part_without_labels(evalmuse: Benchmark) -> None:
    assert attributes(evalmuse, "SD3/00200.png")["released_in"] == "test"
    assert "SD3/00200.png" not in set(evalmuse.ratings["item_id"]) | set(evalmuse.element_ratings["item_id"])


def test_evalmuse_has_the_variance_of_the_scores_of_a_prompt(evalmuse: Benchmark) -> None:
    details = attributes(evalmuse, "SD3/00110.png")
    assert details["prompt_score_variance"] == pytest.approx(np.var([3.333333, 1.333333], ddof=1))
    assert (details["prompt_meaningless"], details["attribute_confidence"]) == (0.333333, 0.666667)
    assert attributes(evalmuse, "SD3/00200.png")["prompt_score_variance"] is None


def test_evalmuse_notes_what_is_wrong(evalmuse: Benchmark) -> None:
    found = kinds(evalmuse)
    assert found["malformed_entry"] == 3  # two rows, and one without elements
    assert (found["off_scale_rating"], found["unreadable_rating"], found["unreadable_cell"]) == (1, 2, 1)
    assert found["bad_image"] == 1
    assert evalmuse.items["image"].dropna().tolist() == ["SD3/00110.png"]
    assert dict(evalmuse.images()) == {"SD3/00110.png": picture()}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("puffin (animal)", ("puffin", "animal")),
        ("cat (on a mat) (animal/human)", ("cat (on a mat)", "animal/human")),
        ("a (b", ("a", "b")),
        ("plain", ("plain", "other")),
        ("(animal)", ("(animal)", "other")),
        ("x ()", ("x ()", "other")),
    ],
)
def test_elements_end_with_their_category(name: str, expected: tuple[str, str]) -> None:
    assert parse_element(name) == expected


@given(st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=3), min_size=2, max_size=6))
def test_score_variance_is_the_sample_variance_of_means(ratings: list[list[int]]) -> None:
    means = [np.mean(values) for values in ratings]
    spread = prompt_score_variance([("p", values) for values in ratings] + [("alone", [3]), ("p", None)])
    assert spread == {"p": pytest.approx(np.var(means, ddof=1), abs=1e-5)}


def corner(*points: tuple[float, float]) -> list[dict[str, float]]:
    return [{"x": x, "y": y} for x, y in points]


def test_evalmuse_structure_turns_regions_into_masks(tmp_path: Path) -> None:
    rectangle = {"bbox_type": 1, "bbox": corner((9, 7), (2, 3))}
    triangle = {"bbox_type": 2, "bbox": corner((0, 0), (8, 0), (0, 8))}
    broken = [{"bbox_type": 1, "bbox": corner((1, 1))}, {"bbox_type": 3, "bbox": []}, "x"]
    info = {
        "a.jpg": {"prompt_en": "a man", "mos": 2.5, "bbox_info": [[rectangle], [rectangle, triangle], []]},
        "b.jpg": {"prompt_en": "a man", "mos": 9, "bbox_info": [broken, []]},
        "c.jpg": {"prompt_en": "a man", "mos": 3},
    }
    folder = tmp_path / "evalmuse_structure"
    write(folder, "train_info.json", info)
    write(folder, "images/a.jpg", picture(size=(20, 12), form="JPEG"))
    made = read_benchmark("evalmuse_structure", tmp_path)
    assert made.ratings.set_index("item_id")["score"].to_dict() == {
        "a.jpg": 2.5,
        "b.jpg": pytest.approx(np.nan, nan_ok=True),
    }
    assert made.ratings["n_raters"].tolist() == [3, 2]
    found = kinds(made)
    assert (found["malformed_entry"], found["off_scale_rating"], found["rater_count"]) == (4, 1, 1)
    write_image_store(tmp_path / "store", made.images())
    store = ImageStore(tmp_path / "store")
    assert store.keys() == ["a.jpg", mask_key("a.jpg")]
    mask = np.asarray(store.image(mask_key("a.jpg")).convert("L"))
    assert mask.shape == (12, 20)
    assert (mask[3:8, 2:10] >= 2).all()
    assert mask[0, 0] == 1
    assert mask[11, 19] == 0


@given(
    st.lists(
        st.lists(
            st.tuples(st.integers(-3, 25), st.integers(-3, 15), st.integers(-3, 25), st.integers(-3, 15)), max_size=3
        ),
        max_size=3,
    )
)
def test_rectangles_are_counted_once_an_annotator(annotators: list[list[tuple[int, int, int, int]]]) -> None:
    regions = [
        [{"bbox_type": 1, "bbox": corner((x0, y0), (x1, y1))} for x0, y0, x1, y1 in drawn] for drawn in annotators
    ]
    expected = np.zeros((12, 20), int)
    y, x = np.mgrid[:12, :20]
    for drawn in annotators:
        covered = np.zeros((12, 20), bool)
        for x0, y0, x1, y1 in drawn:
            covered |= (min(x0, x1) <= x) & (x <= max(x0, x1)) & (min(y0, y1) <= y) & (y <= max(y0, y1))
        expected += covered
    assert (marked_counts(regions, 20, 12) == expected).all()


@pytest.fixture
def bench(tmp_path: Path) -> Benchmark:
    folder = tmp_path / "t2i_eval_bench"
    question = {"id": "q1", "question": "Is the cat sharp?"}
    write(
        folder,
        "t2i-eval-bench.json",
        [
            {
                "id": 0,
                "gt_image": "images/0.png",
                "ref_image": "ref/0.png",
                "image_caption": "a cat",
                "appearance_questions": [question],
            },
            {
                "id": 1,
                "gt_image": "../1.png",
                "ref_image": None,
                "image_caption": "a dog",
                "intrinsic_questions": ["Is it a dog?"],
            },
        ],
    )
    full = {
        "appearance": {"score": 8, "manual_score": [7, 8, 9, 8]},
        "intrinsic": {"score": "N/A", "manual_score": [5, 5, 5, 6]},
        "relationship": {"score": "eight", "manual_score": [11, 5, 5, 7]},
        "overall": {"score": 7.5, "manual_score": [7, 7, 7, 7]},
    }
    write(
        folder,
        "scores.json",
        [
            {
                "id": "0",
                "overall": full,
                "appearance_questions": [{"id": "q1", "score": 9, "manual_score": [9, 8, 10, 9]}],
            },
            {"id": "1", "overall": {"overall": {"score": 3, "manual_score": [3, 3]}}},
            {"id": "7", "overall": full},
        ],
    )
    write(folder, "images/0.png", picture())
    write(folder, "ref/0.png", picture())
    return read_benchmark("t2i_eval_bench", tmp_path)


def test_a_reference_image_reaches_the_protocol_that_takes_one(bench: Benchmark) -> None:
    shown, plain = evaluation_items(bench.items.assign(image="images/0.png"), {"overall": "x"})
    assert (shown.reference, plain.reference) == ("ref/0.png", "")
    assert "ref/0.png" in {key for key, _ in bench.images()}


def test_t2i_eval_bench_has_three_raters_and_gpt4o(bench: Benchmark) -> None:
    ratings = bench.ratings.pivot(index=["item_id", "dimension"], columns="rater_id", values="score")
    assert ratings.loc[("0", "appearance")].tolist() == [7, 8, 9]
    assert ratings.loc[("0", "relations")].isna().tolist() == [True, False, False]
    scores = bench.scores.set_index(["item_id", "dimension"])
    assert scores.loc[("0", "overall"), "score"] == 7.5
    assert scores.loc[("0", "attributes"), "status"] == "not_applicable"
    assert scores.loc[("0", "relations"), "status"] == "unparsed"
    assert bench.element_ratings["label"].tolist() == [0.9, 0.8, 1.0]
    assert bench.element_scores["score"].tolist() == [0.9]
    assert bench.elements["question"].tolist() == ["Is the cat sharp?", "Is it a dog?"]


def test_t2i_eval_bench_notes_what_is_wrong(bench: Benchmark) -> None:
    found = kinds(bench)
    assert found["wrong_mean"] == 1
    assert found["bad_path"] == 1
    assert found["not_joined"] == 1
    assert found["malformed_entry"] == 1
    assert found["off_scale_rating"] == 1


def test_t2i_eval_distill_becomes_transcripts(tmp_path: Path) -> None:
    evaluation = {"answer": "Yes.", "explanation": "It is black. I rate it 7 out of 10.", "score": 7}
    data = {
        "Structure Information": {"Intrinsic Attributes": {"cat": ["attribute 1: color: black"]}},
        "Questions": {
            "Appearance Quality Questions": {"cat": [{"question": "Is the cat sharp?", "value": None}]},
            "Intrinsic Attribute Consistency Questions": {"cat": [{"question": "Is the cat black?", "value": None}]},
            "Relationship Attribute Consistency Questions": [
                {"question": "Is the cat on the mat?", "value": {"entities": "cat, mat"}}
            ],
        },
        "Answers": {
            "Appearance Quality Questions": {
                "cat": [{"question": "Is the cat sharp?", "value": {"explanation": "Very.", "score": 9}}]
            },
            "Intrinsic Attribute Consistency Questions": {
                "cat": [{"question": "Is the cat black?", "value": {"answer": "Yes."}}]
            },
            "Relationship Attribute Consistency Questions": [],
        },
        "Evaluation": {
            "Appearance Quality Answers": {
                "cat": [{"question": "Is the cat sharp?", "value": {"explanation": "Very.", "score": 9}}]
            },
            "Intrinsic Attribute Consistency Answers": {
                "cat": [{"question": "Is the cat black?", "value": evaluation}]
            },
            "Relationship Attribute Consistency Answers": [],
            "Overall Evaluation": {
                "Appearance Quality Summary": {"explanation": "Sharp.", "score": 9},
                "Intrinsic Attribute Consistency Summary": {"explanation": "Black.", "score": "7"},
                "Relationship Attribute Consistency Summary": {"explanation": "None.", "score": "N/A"},
                "Overall Score": {"explanation": "Good.", "score": 8},
            },
        },
    }
    record = {"id": 3, "model_name": "sd3", "gt_image": "i/3.png", "ref_image": None, "image_caption": "a cat on a mat"}
    write(tmp_path / "t2i_eval_distill", "train.json", [record | {"data": data}, record | {"id": 4, "data": {}}])
    made = read_benchmark("t2i_eval_distill", tmp_path)
    steps = made.transcripts.query("item_id == '3'").set_index("step")
    assert steps.loc["attributes/1/answer", "answer"] == "Yes."
    assert steps.loc["attributes/1/score", ["task", "aspect", "answer"]].tolist() == ["attributes_2", "attributes", "7"]
    assert steps.loc["merge/score", "answer"] == "8"
    assert steps.loc["relations/2/score", "status"] == "not_applicable"
    assert json.loads(steps.loc["extract", "messages"])[0] == {"role": "user", "text": "a cat on a mat", "images": []}
    pair = steps.loc[["attributes/1/explain", "attributes/1/score"], "question_id"]
    assert pair.nunique() == 1
    scores = made.scores.query("item_id == '3'").set_index("dimension")
    assert scores["score"].round(1).to_dict() == pytest.approx(
        {"appearance": 9, "attributes": 7, "relations": np.nan, "overall": 8}, nan_ok=True
    )
    assert scores.loc["relations", "status"] == "not_applicable"
    assert made.element_scores.query("element_id == 'attributes/1'")["score"].tolist() == [0.7]
    assert kinds(made)["quoted_label"] == 1
    assert kinds(made)["malformed_entry"] == 3  # the record without questions, answers and evaluation


def test_evalalign_reads_images_and_human_options(tmp_path: Path) -> None:
    folder = tmp_path / "evalalign"
    write(folder, "test_faithfulness_prompt.json", [{"prompt_id": "7", "prompt": "A man waves."}])
    alignment = {
        "prompt_id": "7",
        "prompt": "two red cats",
        "result_info": {"Object": "cats;", "Count": "cats: two"},
        "question_info": {"Object": "<image>\nAll objects(cats;)? Answer: 0, none.", "Smell": "?"},
    }
    write(folder, "test_alignment_prompt.json", [alignment])
    prompts_only = read_benchmark("evalalign", tmp_path)
    assert prompts_only.items["prompt"].tolist() == ["A man waves.", "two red cats"]
    assert kinds(prompts_only)["no_generator"] == 1
    for path in ("faithfulness/sd3/7.png", "alignment/sd3/7.v2.png", "alignment/sd3/8.png"):
        write(folder, f"images/{path}", picture())
    rows = [
        "image,skill,rater_id,option",
        "images/faithfulness/sd3/7.png,faithfulness/hand,r1,-1",
        "images/faithfulness/sd3/7.png,faithfulness/face,r1,4",
        "images/faithfulness/sd3/7.png,faithfulness/object,r1,-1",
        "images/alignment/sd3/7.v2.png,alignment/Object,r1,2",
        "images/alignment/sd3/9.png,alignment/Object,r1,2",
    ]
    write(folder, "annotations.csv", "\n".join(rows))
    made = read_benchmark("evalalign", tmp_path)
    assert sorted(made.items["prompt_id"]) == ["alignment/7", "faithfulness/7"]
    used = made.ratings.dropna(subset="score")
    assert dict(zip(used["dimension"], used["score"], strict=True)) == {"faithfulness/face": 4, "alignment/Object": 2}
    found = kinds(made)
    assert (found["off_scale_rating"], found["not_applicable"], found["not_joined"]) == (1, 1, 2)
    questions = made.elements.set_index(["prompt_id", "element_id"])["question"]
    assert questions["alignment/7", "alignment/Object"].startswith("All objects(cats;)?")
    assert questions["faithfulness/7", "faithfulness/hand"].endswith("4: no problems.")
    assert "-1: " in questions["faithfulness/7", "faithfulness/face"]
    assert "-1: " not in questions["faithfulness/7", "faithfulness/common_sense"]
    assert made.elements["skill"].nunique() == 6


def test_a_users_own_folder_is_a_benchmark(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    write(folder, "pictures/1.png", picture())
    write(
        folder,
        "items.csv",
        "item_id,prompt_id,prompt,generator,image\n"
        "1,p,a cat,g,pictures/1.png\n2,p,a cat,h,\n3,p,a cat,h,../x.png\n4,,a dog,g,pictures/4.png\n5,q,,g,\n",
    )
    write(
        folder,
        "ratings.csv",
        "item_id,rater_id,dimension,score,scale_min,scale_max\n"
        "1,r,looks,3,1,5\n2,r,looks,7,1,5\n2,s,looks,,1,5\n1,s,looks,3,0,10\n9,r,looks,3,1,5\n1,r,fun,2,,5\n",
    )
    write(folder, "dimensions.csv", "dimension,description\nlooks,how good it looks\n")
    write(
        folder, "scores.csv", "item_id,evaluator,dimension,score,higher_is_better\n1,fid,,3.5,false\n2,clip,looks,x,\n"
    )
    write(folder, "preferences.csv", "prompt_id,item_a,item_b,rater_id,label\np,1,2,r,a\np,1,2,s,left\np,1,1,s,tie\n")
    write(folder, "elements.csv", "prompt_id,element_id,text,skill\np,e,cat,animal\n")
    write(folder, "element_ratings.csv", "item_id,element_id,rater_id,label\n1,e,r,1\n2,e,r,2\n2,f,r,1\n")
    with pytest.raises(T2IEvalError, match=r"1 of 1 scores of 'clip'.*scores.csv', line 3: 'score' is 'x'"):
        read_benchmark("mine", tmp_path)
    write(folder, "t2i_eval.yml", "max_unreadable: 1\n")
    mine = read_benchmark("mine", tmp_path)
    assert mine.name == "mine"
    assert mine.items.set_index("item_id")["image"].dropna().to_dict() == {"1": "pictures/1.png"}
    assert mine.items.set_index("item_id").loc["4", "prompt_id"] == "a dog"
    assert mine.ratings["score"].fillna(-1).tolist() == [3, -1, -1]
    assert [(d.name, d.scale_min, d.scale_max, d.description) for d in mine.dimensions] == [
        ("looks", 1, 5, "how good it looks")
    ]
    scores = mine.scores.set_index("judge")
    assert scores["higher_is_better"].to_dict() == {"fid": False, "clip": True}
    assert scores["status"].to_dict() == {"fid": "ok", "clip": "unparsed"}
    assert mine.preferences["label"].tolist() == ["a", "a"]
    assert mine.element_ratings["label"].fillna(-1).tolist() == [1, -1, 1]
    found = kinds(mine)
    assert (found["bad_path"], found["incomplete_item"], found["scale_conflict"]) == (1, 1, 1)
    assert found["not_joined"] == 2  # a rating of no item, a label of no element
    assert found["unreadable_cell"] == 2  # a scale, a label
    assert found["preferences_of_an_item_with_itself"] == 1
    assert mine.excluded == {"ratings": 4, "scores": 1, "preferences": 1, "element_ratings": 1}
