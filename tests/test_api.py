"""The Python door: a judge, agreement and a benchmark in one import, without a Kedro session."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kedro_project import ROOT
from pages import outside
from PIL import Image
from plain_settings import settings_of
from scipy.stats import spearmanr

from t2i_eval_kedro import agreement, api, load_judge, read_benchmark
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.judge import Judge
from t2i_eval_kedro.judging.verdicts import Verdict, Verdicts
from t2i_eval_kedro.models.settings import ModelSettings
from t2i_eval_kedro.shapes.make import make_shapes

TINY = ROOT / "data" / "06_models" / "tiny_vlm"
SHAPES = make_shapes(3)
ITEMS = SHAPES.items


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for key, data in SHAPES.images:
        (folder / key).write_bytes(data)
    (folder / "bad.jpg").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def judge(pictures: Path) -> Judge:
    return load_judge(TINY, untrained=True, images=pictures)


def single(judge: Judge, image: object = None, prompt: str | None = None) -> Verdict:
    verdict = judge(ITEMS["image"][0] if image is None else image, ITEMS["prompt"][0] if prompt is None else prompt)  # type: ignore[arg-type]
    assert isinstance(verdict, Verdict)
    return verdict


def many(verdicts: Verdict | Verdicts) -> Verdicts:
    assert isinstance(verdicts, Verdicts)
    return verdicts


def test_importing_the_package_loads_no_library() -> None:
    code = "import sys, t2i_eval_kedro; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"pandas", "numpy", "torch", "kedro", "transformers"} & set(done.stdout.split())


def test_one_image_gives_a_verdict_that_reads_well(judge: Judge) -> None:
    verdict = single(judge)
    assert verdict.status == "ok"
    assert set(verdict.scores) == {"overall", "appearance", "attributes", "relations"}
    assert verdict.score == verdict.scores["overall"]
    assert 0 <= verdict.scores["overall"] <= 10  # type: ignore[operator]
    assert (verdict.judge, verdict.protocol) == ("tiny_vlm", "levels")
    assert verdict.prompt_version.endswith("/compact@2")  # as the recipe of the embedded model says
    text = repr(verdict)
    assert ITEMS["prompt"][0][:30] in text
    assert f"{verdict.score:.2f}" in text
    page = verdict._repr_html_()
    assert "data:image/png;base64," in page
    assert f"{verdict.score:.2f}" in page
    assert outside(page) == []
    assert json.loads(json.dumps(verdict.as_dict(), allow_nan=False))["scores"][0]["score"] == verdict.score


def test_an_image_is_judged_alike_in_whatever_form_it_comes(judge: Judge, pictures: Path) -> None:
    path = pictures / ITEMS["image"][0]
    expected = single(judge, path).scores
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    for image in (str(path), path.read_bytes(), picture, np.asarray(picture)):
        assert single(judge, image).scores == pytest.approx(expected, abs=1e-6)
    other = single(judge, pictures / ITEMS["image"][5]).scores
    assert other != pytest.approx(expected, abs=1e-3)


def test_lists_frames_and_folders_give_the_same_scores_in_the_order_given(judge: Judge, pictures: Path) -> None:
    frame = ITEMS.iloc[[4, 0, 9]][["item_id", "image", "prompt", "generator"]].reset_index(drop=True)
    expected = [
        single(judge, image, prompt).score for image, prompt in zip(frame["image"], frame["prompt"], strict=True)
    ]
    listed = many(judge(list(frame["image"]), list(frame["prompt"])))
    assert [verdict.score for verdict in listed] == pytest.approx(expected, abs=1e-5)
    framed = many(judge(frame))
    assert [verdict.score for verdict in framed] == pytest.approx(expected, abs=1e-5)
    rows = framed.frame()
    assert list(rows["generator"]) == [name for name in frame["generator"] for _ in range(4)]
    assert list(rows["item_id"].drop_duplicates()) == list(frame["item_id"])
    texts = dict(zip(ITEMS["image"], ITEMS["prompt"], strict=True)) | {"bad": "anything"}
    whole = many(judge(pictures, texts))
    assert len(whole) == len(ITEMS) + 1
    by_name = {Path(verdict.image).name: verdict for verdict in whole}
    assert by_name[frame["image"][1]].score == pytest.approx(expected[1], abs=1e-5)
    assert by_name["bad.jpg"].status == "failed"
    assert "(1 more)" not in repr(whole)
    assert repr(framed).count("\n") < repr(whole).count("\n")


def test_prompts_of_a_folder_stand_beside_the_images(judge: Judge, pictures: Path, tmp_path: Path) -> None:
    for place in (0, 1):
        shutil.copy(pictures / ITEMS["image"][place], tmp_path)
        (tmp_path / ITEMS["image"][place]).with_suffix(".txt").write_text(ITEMS["prompt"][place] + "\n")
    verdicts = many(judge(tmp_path))
    assert [verdict.prompt for verdict in verdicts] == list(ITEMS["prompt"][:2])
    (tmp_path / ITEMS["image"][0]).with_suffix(".txt").unlink()
    with pytest.raises(T2IEvalError, match="no prompt for the image"):
        judge(tmp_path)


def test_an_unreadable_image_in_the_middle_costs_its_own_row_alone(judge: Judge) -> None:
    images = [ITEMS["image"][0], "bad.jpg", "none.png", ITEMS["image"][1]]
    verdicts = many(judge(images, "a red circle"))
    assert [verdict.status for verdict in verdicts] == ["ok", "failed", "failed", "ok"]
    assert verdicts[1].score is None
    assert set(verdicts[1].scores) == set(verdicts[0].scores)
    assert "not PNG, JPEG, WebP" in str(verdicts[1].explanation)
    frame = verdicts.frame()
    assert frame["score"].isna().sum() == 8
    assert verdicts[1]._repr_html_().count("<img") == 0
    with pytest.raises(T2IEvalError, match=r"'bad\.jpg' cannot be judged: not PNG"):
        single(judge, "bad.jpg")


@pytest.mark.parametrize(
    ("images", "prompts", "message"),
    [
        ("p0000-careful.png", None, "prompt of the image is missing"),
        ("p0000-careful.png", " ", "prompt is empty"),
        (["p0000-careful.png"] * 2, ["a", "b", "c"], "2 images, 3 prompts"),
        (pd.DataFrame({"picture": ["x"]}), None, "does not have the column 'prompt'"),
        (np.zeros((4, 4)), "a", "array of float64"),
    ],
)
def test_wrong_input_is_named(judge: Judge, images: object, prompts: object, message: str) -> None:
    with pytest.raises(T2IEvalError, match=message):
        judge(images, prompts)  # type: ignore[arg-type]


def test_elements_are_answered_one_by_one(pictures: Path, tmp_path: Path) -> None:
    elements = [{"element_id": "e", "text": "a star", "question": "is there a star ?"}]
    (tmp_path / "elements.json").write_text(json.dumps(elements))
    judge = load_judge(TINY, untrained=True, protocol="dsg", images=pictures, elements=tmp_path / "elements.json")
    verdict = single(judge)
    assert [(one.element_id, one.text, one.status) for one in verdict.elements] == [("e", "a star", "ok")]
    assert 0 <= verdict.elements[0].score <= 1  # type: ignore[operator]
    assert "a star" in repr(verdict)
    assert "a star" in verdict._repr_html_()


def test_a_generated_protocol_explains_itself(pictures: Path) -> None:
    verdict = single(load_judge(TINY, untrained=True, protocol="decomposed", images=pictures))
    assert verdict.explanation
    assert set(verdict.statuses.values()) <= {"ok", "unparsed", "failed", "not_applicable"}


def test_a_model_without_an_adapter_judges_only_when_asked_to() -> None:
    with pytest.raises(T2IEvalError, match="has not learned to judge"):
        load_judge(TINY)


@pytest.mark.parametrize("name", ["nowhere/at/all", "./nowhere", "/nowhere"])
def test_a_path_that_is_no_model_is_named(name: str) -> None:
    with pytest.raises(T2IEvalError, match="does not exist"):
        load_judge(name)


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(T2IEvalError, match=r"config\.json"):
        load_judge(tmp_path)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of the tiny model that moves its answers, below a folder that also contains the model."""
    import torch
    from peft import LoraConfig, get_peft_model

    from t2i_eval_kedro.models.adapters import save_adapter

    root = tmp_path_factory.mktemp("clone") / "data" / "06_models"
    root.mkdir(parents=True)
    (root / "tiny_vlm").symlink_to(TINY)
    base = settings_of(ModelSettings, model=str(TINY), dtype="float32")
    torch.manual_seed(0)
    model = get_peft_model(base.load(), LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    asked = json.dumps([{"role": "user", "text": ITEMS["prompt"][0], "images": []}])
    examples = pd.DataFrame({"task": ["score"], "messages": [asked]})
    curve = pd.DataFrame({"step": [1], "loss": [1.0]})
    return save_adapter(
        model,
        root / "shapes" / "tiny_vlm" / "full" / "seed_0" / "sft",
        method="supervised fine-tuning",
        base=base,
        settings={},
        examples=examples,
        data_hash="0" * 64,
        curve=curve,
    )


def test_an_adapter_finds_its_base_model_and_judges_otherwise(adapter: Path, judge: Judge, pictures: Path) -> None:
    trained = load_judge(adapter, images=pictures)
    verdict = single(trained)
    assert verdict.judge == "shapes/tiny_vlm/full/seed_0/sft"
    assert verdict.prompt_version.endswith("/compact@2")
    assert verdict.scores != pytest.approx(single(judge).scores, abs=1e-3)
    moved = adapter.parents[4] / "elsewhere"
    shutil.copytree(adapter, moved)
    assert single(load_judge(moved, images=pictures)).scores == pytest.approx(verdict.scores, abs=1e-6)


def test_an_adapter_away_from_its_base_model_asks_for_it(adapter: Path, tmp_path: Path, pictures: Path) -> None:
    shutil.copytree(adapter, tmp_path / "sft")
    with pytest.raises(T2IEvalError, match="give its folder or hub name with base="):
        load_judge(tmp_path / "sft")
    assert single(load_judge(tmp_path / "sft", base=TINY, images=pictures)).status == "ok"
    (tmp_path / "sft" / "adapter_model.safetensors").write_bytes(b"torn")
    with pytest.raises(T2IEvalError, match="not as it was written"):
        load_judge(tmp_path / "sft", base=TINY)


@pytest.mark.parametrize("name", ["nobody", "nobody/nothing"])
def test_a_name_that_cannot_be_looked_up_without_a_network_is_refused_in_one_sentence(name: str) -> None:
    code = f"from t2i_eval_kedro import load_judge\nload_judge({name!r})"
    nowhere = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"}  # nothing listens there
    done = subprocess.run([sys.executable, "-c", code], env=nowhere, capture_output=True, text=True, check=False)
    assert "T2IEvalError: " in done.stderr.splitlines()[-1]
    assert repr(name) in done.stderr.splitlines()[-1]


def test_what_is_judged_can_be_measured_at_once(judge: Judge) -> None:
    scores = many(judge(ITEMS[["item_id", "image", "prompt"]]))
    rated = SHAPES.ratings.merge(ITEMS[["item_id", "prompt_id", "generator"]], on="item_id")
    measured = agreement(rated, scores.frame(), n_resamples=100)
    table = measured.table()
    assert list(table["evaluator"].unique()) == ["tiny_vlm"]
    means = SHAPES.ratings[SHAPES.ratings["dimension"] == "overall"].groupby("item_id")["score"].mean()
    mine = scores.frame().query("dimension == 'overall'").set_index("item_id")["score"]
    expected = spearmanr(means, mine[means.index]).statistic
    cell = measured.summary["evaluators"]["tiny_vlm"]["overall"]["spearman"]
    assert cell["value"] == pytest.approx(expected, abs=1e-6)
    assert f"{expected:.3f}" in table.loc[table["dimension"] == "overall", "Spearman"].iloc[0]


@pytest.fixture(scope="module")
def measured() -> api.Agreement:
    rng = np.random.default_rng(0)
    rows, scores = [], []
    for prompt in range(12):
        for generator in "abc":
            truth = rng.normal()
            item = f"{prompt}{generator}"
            rows += [(item, f"p{prompt}", generator, rater, "overall", round(truth + rng.normal())) for rater in "12"]
            scores += [(item, "good_one", truth), (item, "noise", rng.normal())]
    ratings = pd.DataFrame(rows, columns=["item_id", "prompt_id", "generator", "rater_id", "dimension", "score"])
    return agreement(ratings, pd.DataFrame(scores, columns=["item_id", "evaluator", "score"]), n_resamples=200)


def test_an_agreement_is_shown_in_every_form(measured: api.Agreement, tmp_path: Path) -> None:
    table = measured.table()
    assert list(table["evaluator"]) == ["good_one", "noise"]
    assert list(measured.table(by="prompt")["evaluator"]) == ["good_one", "noise"]
    differences = measured.differences()
    assert len(differences) == 1
    entry = next(one for one in measured.summary["significance"] if one["statistic"] == "spearman")
    assert f"{entry['difference']:.3f}" in differences["a minus b"][0]
    page = measured.to_html(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text() == page
    assert outside(page) == []
    latex = measured.to_latex()
    assert "good\\_one" in latex
    assert "\\toprule" in latex
    assert "95\\%" in latex
    assert table["Spearman"][0] in repr(measured)
    assert table["Spearman"][0] in measured._repr_html_()
    value = measured.summary["evaluators"]["good_one"]["overall"]["spearman"]["value"]
    axes = measured.plot().axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["noise", "good_one"]
    assert any(list(line.get_xdata()) == [value] for line in axes.lines)
    with pytest.raises(T2IEvalError, match="no dimension 'beauty'; the dimensions are overall"):
        measured.plot("beauty")


def test_the_package_agreement_can_be_called_whichever_was_imported_first() -> None:
    code = (
        "import t2i_eval_kedro.agreement.summary\n"
        "from t2i_eval_kedro import agreement\n"
        "from t2i_eval_kedro.errors import T2IEvalError\n"
        "try: agreement('none.csv', 'none.csv')\n"
        "except T2IEvalError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "There is no file 'none.csv'" in done.stdout


def test_a_benchmark_is_read_as_tables() -> None:
    shapes = read_benchmark("shapes", n_prompts=2, seed=3)
    assert len(shapes.items) == 2 * 8
    assert set(shapes.ratings["item_id"]) == set(shapes.items["item_id"])
    with pytest.raises(T2IEvalError, match="nope"):
        read_benchmark("nope")


@pytest.mark.slow
def test_one_image_is_judged_quietly_and_loads_nothing_that_trains_draws_or_runs_pipelines(pictures: Path) -> None:
    code = (
        "import sys\n"
        "from t2i_eval_kedro import load_judge\n"
        f"judge = load_judge({str(TINY)!r}, untrained=True)\n"
        f"judge({str(pictures / ITEMS['image'][0])!r}, 'a red circle')\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    loaded = set(done.stdout.split())
    assert "torch" in loaded
    needless = {
        "trl",
        "peft",
        "datasets",
        "kedro.framework",
        "kedro_datasets",
        "matplotlib",
        "seaborn",
        "statsmodels",
        "dvc",
    }
    assert not needless & loaded
