"""Readers on excerpts of real files: every value that they read is compared with a second, short reading of the raw file."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import pytest
from benchmark_helpers import kinds, mean_ratings

from t2i_eval_kedro import schema
from t2i_eval_kedro.benchmarks import Benchmark, read_benchmark


@pytest.fixture
def read(excerpts: Path):
    def reader(name: str) -> Benchmark:
        return read_benchmark(name, excerpts)

    return reader


def rows(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


def test_tifa160(read, excerpts: Path) -> None:
    tifa = read("tifa160")
    raw = json.loads((excerpts / "tifa160/human_annotations_with_scores.json").read_text())
    assert len(raw) == 30
    assert mean_ratings(tifa, "alignment").to_dict() == {key: sum(r["human_scores"]) / 2 for key, r in raw.items()}
    for metric in ("bleu", "clipscore_vitb32", "tifa_mplug-large"):
        scores = tifa.scores[schema.evaluator_names(tifa.scores) == metric].set_index("item_id")["score"]
        assert scores.to_dict() == {key: row[metric] for key, row in raw.items()}
    by_prompt = tifa.element_scores.merge(tifa.items, on="item_id").groupby("prompt_id")["score"].mean()
    assert by_prompt.mean() == pytest.approx(0.8125)  # tifa_average, as the authors' script wrote it


def test_dsg(read, excerpts: Path) -> None:
    dsg, tifa = read("dsg"), read("tifa160")
    raw = rows(excerpts / "dsg/tifa160-likert-anns.csv")
    assert len(dsg.ratings) == len(raw) == 150
    total = sum(float(row["answer"]) for row in raw)
    assert dsg.ratings["score"].sum() == total
    joined = dsg.items.merge(tifa.items, on=["item_id", "prompt_id", "generator"])
    assert len(joined) == len(dsg.items) == 30
    rated = {row["item_id"] for row in raw}
    # a proposition counts 0 where a direct parent does; one prompt was never answered
    graph = {
        (r["item_id"], r["proposition_id"]): r["dependency"].split(",") for r in rows(excerpts / "dsg/dsg-1k-anns.csv")
    }
    answers = rows(excerpts / "dsg/vqa_answers/mplug_dsg.csv")
    yes = {(r["t2i_model"], r["item_id"], r["question_id"]): r["answer"] == "yes" for r in answers}
    by_image: dict[tuple[str, str], list[float]] = {}
    for (model, prompt, question), value in yes.items():
        parents = [yes.get((model, prompt, p.strip()), True) for p in graph[prompt, question]]
        by_image.setdefault((model, prompt), []).append(float(value and all(parents)))
    expected = sorted(sum(v) / len(v) for (_, prompt), v in by_image.items() if prompt in rated)
    scores = dsg.scores[schema.evaluator_names(dsg.scores) == "mplug-large_dsg"]
    assert sorted(scores["score"].dropna()) == pytest.approx(expected)
    assert scores["score"].isna().sum() == 5
    assert kinds(dsg)["bad_dependency"] == 9
    assert kinds(dsg)["unanswered_item"] == 10
    unread = dsg.element_scores[dsg.element_scores["score"].isna()]
    assert len(unread) == kinds(dsg)["unreadable_answer"] == 3
    assert set(unread["status"]) == {"unparsed"}


def test_viescore(read, excerpts: Path) -> None:
    viescore = read("viescore_imagenhub")
    folder = excerpts / "viescore_imagenhub"
    expected = {}
    for rater in (1, 2, 3):
        for row in rows(folder / f"human/Text-To-Image_rater{rater}.tsv", "\t"):
            for model in ("DALLE2", "SD", "SDXL", "DeepFloydIF", "OpenJourney"):
                for dimension, value in zip(("SC", "PQ"), json.loads(row[model]), strict=True):
                    expected[f"{model}/{row['uid']}", f"rater{rater}", dimension] = value
    ratings = viescore.ratings[viescore.ratings["dimension"] != "O"]
    assert ratings.set_index(["item_id", "rater_id", "dimension"])["score"].to_dict() == expected
    overall = viescore.ratings.pivot(index=["item_id", "rater_id"], columns="dimension", values="score")
    assert overall["O"].to_numpy() == pytest.approx((overall["SC"] * overall["PQ"]).to_numpy() ** 0.5)
    gpt = folder / "answers/results_gpt4o_0shot/ImagenHub_Text-Guided_IG/SD/SC.json.gz"
    scores = viescore.scores.query("judge == 'GPT-4o 0-shot' and dimension == 'SC'").set_index("item_id")["score"]
    for uid, answer in json.loads(gzip.decompress(gpt.read_bytes())).items():
        assert scores[f"SD/{uid}"] == answer["score"][0]
    assert (
        viescore.scores["status"] == "not_applicable"
    ).sum() == 20  # ten answers, and the product of each with the other
    assert kinds(viescore)["repaired_answer"] == 43


def test_agiqa3k(read, excerpts: Path) -> None:
    agiqa = read("agiqa3k")
    found = agiqa.ratings.set_index(["item_id", "dimension"])[["score", "std"]]
    for row in rows(excerpts / "agiqa3k/data.csv"):
        for dimension, name in (("quality", "quality"), ("alignment", "align")):
            assert found.loc[(row["name"], dimension)].tolist() == [
                float(row[f"mos_{name}"]),
                float(row[f"std_{name}"]),
            ]
    assert set(agiqa.ratings["rater_id"]) == {"mean"}
    assert agiqa.items["generator"].nunique() == 6


def test_imagereward(read, excerpts: Path) -> None:
    reward = read("imagereward")
    raw = json.loads((excerpts / "imagereward/test.json").read_text())
    rank = {path: r for row in raw for path, r in zip(row["generations"], row["ranking"], strict=True)}
    assert len(reward.preferences) == sum(len(r["ranking"]) * (len(r["ranking"]) - 1) // 2 for r in raw) == 45
    for a, b, label in reward.preferences[["item_a", "item_b", "label"]].to_numpy():
        assert label == ("tie" if rank[a] == rank[b] else "a" if rank[a] < rank[b] else "b")
    assert (reward.preferences["label"] == "tie").any()


def test_evalalign(read, excerpts: Path) -> None:
    evalalign = read("evalalign")
    raw = json.loads((excerpts / "evalalign/test_alignment_prompt.json").read_text())
    asked = sum(1 for row in raw for question in row["question_info"].values() if question != "none")
    counts = evalalign.elements["skill"].str.partition("/")[0].value_counts()
    assert counts.to_dict() == {"alignment": asked, "faithfulness": 6 * 5}
    assert not evalalign.elements["question"].str.contains("<image>").any()
