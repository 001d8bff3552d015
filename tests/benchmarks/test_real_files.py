"""Readers on the real files: sizes, joins, and figures that their sources publish."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from benchmark_helpers import kinds, mean_ratings

from t2i_eval_kedro import schema
from t2i_eval_kedro.benchmarks import Benchmark
from t2i_eval_kedro.datasets.image_store import decode

Real = Callable[[str], Benchmark]


def scores(benchmark: Benchmark, evaluator: str, dimension: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Recorded scores in the order of the mean ratings."""
    table = benchmark.scores
    rows = table[(schema.evaluator_names(table) == evaluator) & (table["dimension"] == dimension)].set_index("item_id")
    return rows["score"].reindex(mean_ratings(benchmark, dimension).index)


def test_tifa160_reproduces_its_published_figures(real: Real) -> None:
    tifa = real("tifa160")
    assert len(tifa.items) == 802
    assert len(tifa.ratings) == 1600
    assert tifa.ratings["rater_id"].unique().tolist() == ["1", "2"]
    means = mean_ratings(tifa, "alignment")
    metric = scores(tifa, "tifa_mplug-large", "alignment")
    assert metric.corr(means) == pytest.approx(0.597, abs=5e-4)
    assert metric.corr(means, method="kendall") == pytest.approx(0.472, abs=5e-4)


def test_tifa160_has_the_questions_and_images_of_its_samples(real: Real) -> None:
    tifa = real("tifa160")
    sample = tifa.element_scores.merge(tifa.items, on="item_id")
    by_prompt = sample.groupby("prompt_id")["score"].mean()
    assert by_prompt.mean() == pytest.approx(0.8125)  # tifa_average of the sample
    images = dict(tifa.images())
    assert set(images) == {"coco_301091.jpg", "drawbench_52.jpg"} == set(tifa.items["image"].dropna())
    assert all(decode(data).size > (100, 100) for data in images.values())


def test_dsg_joins_tifa160_item_by_item(real: Real) -> None:
    dsg, tifa = real("dsg"), real("tifa160")
    rated = tifa.items[tifa.items["generator"] != "unknown"]
    joined = dsg.items.merge(rated, on=["item_id", "prompt_id", "generator"])
    assert len(joined) == len(dsg.items) == 800
    assert mean_ratings(dsg, "alignment").corr(mean_ratings(tifa, "alignment"), method="spearman") > 0.6


@pytest.mark.parametrize(
    ("evaluator", "spearman", "kendall"),
    [
        ("mplug-large_dsg", 0.463, 0.380),
        ("mplug-large_dsg-no-dependency", 0.464, 0.378),
        ("instruct-blip_dsg", 0.442, 0.364),
        ("instruct-blip_dsg-no-dependency", 0.436, 0.355),
    ],
)
def test_dsg_reproduces_its_published_figures(real: Real, evaluator: str, spearman: float, kendall: float) -> None:
    dsg = real("dsg")
    means, metric = mean_ratings(dsg, "alignment"), scores(dsg, evaluator, "alignment")
    assert metric.isna().sum() == 5
    metric = metric.fillna(0.0)  # the authors score an unanswered item 0
    assert metric.corr(means, method="spearman") == pytest.approx(spearman, abs=6e-4)
    assert metric.corr(means, method="kendall") == pytest.approx(kendall, abs=6e-4)


def test_dsg_keeps_the_graph_and_notes_what_is_broken_in_it(real: Real) -> None:
    dsg = real("dsg")
    assert (len(dsg.elements), dsg.elements["prompt_id"].nunique()) == (8182, 1060)
    ids = set(zip(dsg.elements["prompt_id"], dsg.elements["element_id"], strict=True))
    for prompt_id, element_id, parents in dsg.elements[["prompt_id", "element_id", "parents"]].dropna().to_numpy():
        above = parents.split(",")
        assert element_id not in above
        assert all((prompt_id, parent) in ids for parent in above)
    assert kinds(dsg)["bad_dependency"] == 62
    assert kinds(dsg)["unanswered_item"] == 10
    unread = dsg.element_scores[dsg.element_scores["score"].isna()]
    assert len(unread) == kinds(dsg)["unreadable_answer"] == 21
    assert set(unread["status"]) == {"unparsed"}


def test_viescore_reproduces_its_published_figures(real: Real) -> None:
    viescore = real("viescore_imagenhub")
    assert (len(viescore.items), len(viescore.ratings)) == (985, 985 * 9)
    generator = viescore.items.set_index("item_id")["generator"]
    for dimension, published in (("SC", 0.4989), ("PQ", 0.2495)):
        means, metric = mean_ratings(viescore, dimension), scores(viescore, "GPT-4o 0-shot", dimension)
        own = generator.reindex(means.index)
        by_generator = [
            metric[own == name].corr(means[own == name], method="spearman") for name in sorted(own.unique())
        ]
        # the published average is the tanh of a mean of correlations
        assert np.tanh(np.mean(by_generator)) == pytest.approx(published, abs=6e-5)


@pytest.mark.parametrize(("dimension", "published"), [("SC", 0.5044), ("PQ", 0.3640), ("O", 0.4652)])
def test_viescore_raters_agree_as_published(real: Real, dimension: str, published: float) -> None:
    viescore = real("viescore_imagenhub")
    ratings = viescore.ratings[viescore.ratings["dimension"] == dimension]
    wide = ratings.pivot(index="item_id", columns="rater_id", values="score")
    generator = viescore.items.set_index("item_id")["generator"].reindex(wide.index)
    averages = []
    for name in sorted(generator.unique()):
        own = wide[generator == name]
        others = [own.drop(columns=rater).mean(axis=1).round(12) for rater in own.columns]
        raters = zip(own.columns, others, strict=True)
        averages.append(np.mean([own[rater].corr(other, method="spearman") for rater, other in raters]))
    # between raters the published average is shrunk twice: the tanh of a mean of tanhs of means
    assert np.tanh(np.mean(np.tanh(averages))) == pytest.approx(published, abs=6e-5)


def test_viescore_keeps_what_the_judges_wrote_and_counts_what_is_missing(real: Real) -> None:
    viescore = real("viescore_imagenhub")
    transcript = viescore.transcripts.query(
        "judge == 'GPT-4o 0-shot' and item_id == 'SD/sample_0.jpg' and step == 'SC'"
    )
    answer = json.loads(transcript["answer"].iloc[0])
    assert answer["score"] == [8]
    assert "bananas" in answer["reasoning"]
    assert "A black colored banana." in json.loads(transcript["messages"].iloc[0])[0]["text"]
    missing = viescore.scores.query("status == 'not_applicable' and dimension != 'O'")
    assert missing["judge"].unique().tolist() == ["Qwen-VL 0-shot"]
    assert len(missing) == 107
    repaired = viescore.issues[viescore.issues["kind"] == "repaired_answer"]
    assert repaired["count"].sum() == 784
    assert not (viescore.scores["status"] == "unparsed").any()


def test_agiqa3k_has_means_with_deviations(real: Real) -> None:
    agiqa = real("agiqa3k")
    assert (len(agiqa.items), agiqa.items["prompt"].nunique(), agiqa.items["generator"].nunique()) == (2982, 300, 10)
    assert set(agiqa.ratings["rater_id"]) == {"mean"}
    assert agiqa.ratings["std"].between(0.1, 2).all()
    first = agiqa.ratings.query("item_id == 'AttnGAN_normal_000.jpg' and dimension == 'quality'")
    assert first["score"].iloc[0] == pytest.approx(0.965602553)


def test_avt_has_all_images_and_marks_the_photographs(real: Real) -> None:
    avt = real("avt_ai_images")
    assert (len(avt.items), len(avt.ratings), avt.ratings["rater_id"].nunique()) == (98, 6795, 27)
    assert len(list(avt.images())) == avt.items["image"].notna().sum() == 98
    photographs = avt.items[avt.items["generator"] == "own"]
    assert [json.loads(text).get("real") for text in photographs["attributes"]] == [True] * 3
    lower = set(avt.scores.loc[~avt.scores["higher_is_better"], "judge"])
    assert lower == {"ILNIQE", "NIQE", "BRISQUE"}
    means = mean_ratings(avt, "image_appeal")
    metric = avt.scores[avt.scores["judge"] == "NIQE"].set_index("item_id")["score"].reindex(means.index)
    assert metric.corr(means, method="spearman") < 0


def test_genai_bench_has_skills_and_sets_aside_the_ratings_off_its_scale(real: Real) -> None:
    genai = real("genai_bench")
    assert (len(genai.items), len(genai.ratings)) == (9600, 28800)
    off = genai.ratings[genai.ratings["off_scale"]]
    assert off["score"].isna().all()
    listed = genai.issues.loc[genai.issues["kind"] == "off_scale_rating", "detail"]
    assert sorted(detail.split(": ")[1].split(" ")[0] for detail in listed) == ["33", "41"]
    assert kinds(genai)["untagged_prompt"] == 1
    details = [json.loads(text) for text in genai.items["attributes"]]
    skills = {skill for detail in details for skill in detail["skills"]}
    levels = {level for detail in details for level in detail["levels"]}
    assert (len(skills), levels) == (10, {"basic", "advanced"})
    assert sum(not detail["skills"] and not detail["levels"] for detail in details) == 7 * 6


def test_imagereward_turns_rankings_into_preferences(real: Real) -> None:
    reward = real("imagereward")
    assert (len(reward.items), reward.items["prompt_id"].nunique()) == (2720, 466)
    sizes = reward.items.groupby("prompt_id").size()
    assert len(reward.preferences) == (sizes * (sizes - 1) // 2).sum()
    first = reward.preferences[reward.preferences["prompt_id"] == "005658-0040"]
    assert first["label"].tolist() == ["a"] * 5 + ["b"]  # ranks 1, 2, 5, 3
    assert (reward.preferences["label"] == "tie").any()


def test_evalalign_has_a_question_for_every_skill_of_a_prompt(real: Real) -> None:
    evalalign = real("evalalign")
    counts = evalalign.elements["skill"].value_counts()
    alignment = {"Object": 118, "Count": 109, "Spatial": 85, "Action": 54, "Color": 26, "Style": 25}
    faithfulness = dict.fromkeys(("body", "hand", "face", "object", "common_sense"), 100)
    expected = {f"alignment/{skill}": n for skill, n in alignment.items()}
    assert counts.to_dict() == expected | {f"faithfulness/{skill}": n for skill, n in faithfulness.items()}
    assert not evalalign.elements["question"].str.contains("<image>").any()
