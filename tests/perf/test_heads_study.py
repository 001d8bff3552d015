"""The study of judges that predict numbers: what is kept is not asked again, and is compared seed by seed."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import perf.heads
import pytest
from perf.heads import Study
from PIL import Image

from t2i_eval_kedro import load_judge, schema
from t2i_eval_kedro.datasets.image_store import ImageStoreDataset
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.models.settings import ModelSettings
from t2i_eval_kedro.training.heads.data import HeadItem
from t2i_eval_kedro.training.heads.judges import Predictions

PROMPTS, IMAGES = 24, 4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An ingested benchmark: the rating of image n of prompt p is (p + 2 n) mod 10, and its one element is there from 5 on."""
    names = [(f"p{p}", f"p{p}-{n}", (p + 2 * n) % 10) for p in range(PROMPTS) for n in range(IMAGES)]
    folds = {f"p{p}": "validation" if p < 8 else "test" if p < 20 else "train" for p in range(PROMPTS)}
    attributes = json.dumps({"prompt_kind": {"negated": False}, "faults": []})
    items = schema.ITEMS.frame(
        {"item_id": item, "benchmark": "shapes", "prompt_id": prompt, "prompt": "a cat", "generator": "g"}
        | {"image": f"{item}.png", "attributes": attributes}
        for prompt, item, _ in names
    )
    splits = schema.SPLITS.frame({"item_id": i, "split_name": "split", "fold": folds[p]} for p, i, _ in names)
    ratings = schema.RATINGS.frame(
        {"item_id": item, "rater_id": "r", "dimension": "overall", "score": float(rating), "off_scale": False}
        | {"scale_min": 0.0, "scale_max": 10.0}
        for _, item, rating in names
    )
    elements = schema.ELEMENTS.frame(
        {"prompt_id": prompt, "element_id": "cat", "text": "cat", "skill": "object"} for prompt in folds
    )
    labels = schema.ELEMENT_RATINGS.frame(
        {"item_id": item, "element_id": "cat", "rater_id": "r", "label": float(rating > 4)} for _, item, rating in names
    )
    tables = {"items": items, "splits": splits, "ratings": ratings, "elements": elements, "element_ratings": labels}
    for name, table in tables.items():
        table.to_parquet(tmp_path / f"{name}.parquet")
    ImageStoreDataset(filepath=str(tmp_path / "images")).save([])
    return tmp_path


@pytest.fixture
def study(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """A study whose judges say people's rating with noise of their own, a third as much in the better one."""
    monkeypatch.setattr(perf.heads, "RESAMPLES", 50)
    made = Study(folder, folder / "work")
    noise = {"score_head": 0.1, "level_tokens": 0.3, "vqa_score": 0.3}

    def answer(name: str, seed: int) -> tuple[Predictions, dict[str, float]]:
        rng = np.random.default_rng([len(name), seed])

        def said(item: HeadItem) -> float:
            return float(item.rating or 0) + noise[name] * rng.standard_normal()

        scores = {item.item_id: said(item) for item in made.asked}
        elements = {item: {"cat": score} for item, score in scores.items()} if name == "score_head" else {}
        return Predictions(scores, elements), {"an_image": 0.5}

    monkeypatch.setattr(made, "_asked", answer)
    return made


def test_what_a_row_says_is_kept_and_its_agreement_is_of_the_test_fold(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = study.row("score_head", [0, 1])
    assert row["spearman"]["low"] < np.mean(row["by_seed"]) < row["spearman"]["high"]
    assert row["spearman"]["value"] == pytest.approx(np.mean(row["by_seed"]), abs=1e-3)
    assert row["elements"]["balanced_accuracy"]["value"] > 0.8
    assert row["elements"]["accuracy"]["n"] == 12 * IMAGES

    def asked_again(*_: object) -> None:
        raise AssertionError("a row that is kept was asked again")

    monkeypatch.setattr(study, "_asked", asked_again)
    assert study.row("score_head", [0, 1]) == row


def test_rows_are_compared_over_the_seeds_that_both_have(study: Study) -> None:
    rows = {"score_head": study.row("score_head", [0, 1, 2]), "level_tokens": study.row("level_tokens", [1, 2])}
    found = study.differences(rows)
    assert set(found) == {"score_head - level_tokens"}
    difference = found["score_head - level_tokens"]
    assert difference["seeds"] == [1, 2]
    assert difference["verdict"] == "helps"
    ours, theirs = rows["score_head"]["by_seed"][1:], rows["level_tokens"]["by_seed"]
    assert difference["value"] == pytest.approx(np.mean(np.subtract(ours, theirs)), abs=2e-4)


def test_an_ensemble_is_compared_with_the_member_that_is_best_on_validation_prompts(study: Study) -> None:
    rows = {name: study.row(name, [0]) for name in ("score_head", "level_tokens", "vqa_score")}
    found = study.ensembles(rows)
    assert set(found) == {"ensemble_mean", "ensemble_rank_mean", "ensemble_stacking"}
    for entry in found.values():
        assert entry["best_member"] == ["score_head"]
        assert sum(entry["weights"][0].values()) == pytest.approx(1, abs=2e-3)
        gain = entry["spearman"]["value"] - rows["score_head"]["spearman"]["value"]
        assert entry["gain"]["value"] == pytest.approx(gain, abs=2e-6)
        assert entry["seconds_an_image"] == 1.5


def test_the_seeds_of_a_row_are_an_ensemble_that_gains_where_their_noise_is_their_own(study: Study) -> None:
    rows = {name: study.row(name, [0, 1, 2]) for name in ("level_tokens", "vqa_score")}
    found = study.ensembles(rows)
    assert set(found) == {"seeds_of_level_tokens"}  # a published score has no seeds
    (entry,) = found.values()
    assert set(entry["members"]) == {"level_tokens_0", "level_tokens_1", "level_tokens_2"}
    assert entry["seconds_an_image"] == 1.5
    best = rows["level_tokens"]["by_seed"][int(entry["best_member"][0][-1])]
    assert entry["gain"]["value"] == pytest.approx(entry["spearman"]["value"] - best, abs=1e-4)
    assert entry["gain"]["low"] > 0


def test_what_a_student_could_not_say_counts_in_no_agreement_and_is_counted(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first member says nothing of two images; all are compared on the others."""
    given = study._asked  # type: ignore[attr-defined]
    names = {"sft": "score_head", "sft_decomposed": "level_tokens", "level_tokens": "vqa_score"}
    silent = {item.item_id for item in study.held_out[:2]}

    def answer(name: str, seed: int) -> tuple[Predictions, dict[str, float]]:
        said, seconds = given(names[name], seed)
        kept = {item: score for item, score in said.scores.items() if name != "sft" or item not in silent}
        return Predictions(kept), seconds

    monkeypatch.setattr(study, "_asked", answer)
    rows = {name: study.row(name, [0]) for name in names}
    assert rows["sft"]["unscored"] == [2]
    assert "unscored" not in rows["sft_decomposed"]
    found = study.ensembles(rows)
    assert set(found) == {f"{method}_with_student" for method in ("mean", "rank_mean", "stacking")}
    for entry in found.values():
        assert (entry["best_member"], entry["unscored"]) == (["sft"], [2])
        assert entry["gain"]["value"] == pytest.approx(entry["spearman"]["value"] - rows["sft"]["by_seed"][0], abs=1e-4)


def test_a_student_is_asked_with_the_adapter_of_its_seed_on_both_folds(folder: Path, tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model

    made = Study(folder, folder / "work", str(tmp_path / "seed_{seed}" / "sft"))
    pictures = {item.image: encoded(index) for index, item in enumerate(made.asked)}
    made.images = ImageStoreDataset(filepath=str(tmp_path / "pictures"))
    made.images.save(list(pictures.items()))
    made.images = made.images.load()
    phrase = "overall agreement of the image with the prompt"
    (folder / "data_card.json").write_text(json.dumps({"dimensions": [{"name": "overall", "description": phrase}]}))
    torch.manual_seed(0)
    model = ModelSettings.model_validate(made.parameters["model"])
    config = LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
    get_peft_model(model.load(), config).save_pretrained(tmp_path / "seed_7" / "sft")
    said = made.student("levels", 7).scores
    assert set(said) == {item.item_id for item in made.asked}
    judge = load_judge(tmp_path / "seed_7" / "sft", base=model.model, dimensions={"overall": phrase})
    for item in made.asked[:: len(made.asked) // 3]:
        verdict = judge(pictures[item.image], item.prompt)
        assert verdict.scores["overall"] == pytest.approx(10 * said[item.item_id], abs=1e-3)
    assert not made.student("decomposed", 7).scores  # an adapter of random weights writes nothing that can be parsed
    with pytest.raises(T2IEvalError):
        made.student("levels", 8)


def encoded(index: int) -> bytes:
    """A picture of one colour, as PNG."""
    buffer = BytesIO()
    Image.new("RGB", (64, 64), (index * 9 % 256, 80, 160)).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_row_that_is_asked_for_trains_no_other_and_loses_no_seed(
    study: Study, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out = tmp_path / "heads.json"
    elsewhere = {"seeds": [0], "spearman": {"value": 0.5}}  # measured on another machine: its answers are not kept here
    difference = {"score_head - level_tokens": {"value": 0.1}}
    out.write_text(json.dumps({"rows": {"level_tokens": elsewhere}, "differences": difference}))
    monkeypatch.setattr(perf.heads, "Study", lambda *_: study)
    for seeds in (["0", "1"], ["2"]):
        monkeypatch.setattr("sys.argv", ["heads", "--rows", "score_head", "--out", str(out), "--seeds", *seeds])
        perf.heads.main()
    found = json.loads(out.read_text())
    assert found["rows"]["score_head"]["seeds"] == [0, 1, 2]
    assert found["rows"]["level_tokens"] == elsewhere
    assert found["differences"] == difference
    assert not study.keeps("level_tokens", 0)


class Narrow:
    """A judge that knows people's rating of what it was trained on, by kind of prompt and by fault, and guesses at the rest."""

    def __init__(self, faults: dict[str, list[str]]) -> None:
        self.faults, self.known = faults, set()

    def fit(self, items: list[HeadItem], *_: object) -> None:
        self.known = {item.kind for item in items} | {fault for item in items for fault in self.faults[item.item_id]}

    def predict(self, items: list[HeadItem]) -> Predictions:
        rng = np.random.default_rng(0)
        return Predictions(
            {
                item.item_id: float(item.rating or 0)
                if {item.kind, *self.faults[item.item_id]} <= self.known
                else rng.random()
                for item in items
            }
        )


def test_transfer_is_between_kinds_of_prompts_and_to_a_fault_that_was_not_learned(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images of even prompts negate, and every other image has a fault."""
    monkeypatch.setattr(perf.heads, "RESAMPLES", 100)
    items = pd.read_parquet(folder / "items.parquet")
    negated = items["prompt_id"].str[1:].astype(int) % 2 == 0
    faults = {item: ["blur"] if int(item[-1]) % 2 else [] for item in items["item_id"]}
    items["attributes"] = [
        json.dumps({"prompt_kind": {"negated": bool(kind)}, "faults": faults[item]})
        for item, kind in zip(items["item_id"], negated, strict=True)
    ]
    items.to_parquet(folder / "items.parquet")
    made = Study(folder, folder / "work")
    monkeypatch.setattr(made, "judge", lambda *_: Narrow(faults))
    found = made.transfer()
    kinds = found["prompt_kinds"]
    assert set(kinds) == {"all", "negated", "plain"}
    assert kinds["all"]["trained_on"] == kinds["plain"]["trained_on"] + kinds["negated"]["trained_on"]
    assert kinds["plain"]["plain"]["spearman"]["value"] == pytest.approx(1)
    assert kinds["plain"]["negated"]["spearman"]["value"] < 0.8
    assert kinds["all"]["negated"]["spearman"]["value"] == pytest.approx(1)
    blur = found["faults"]["blur"]
    assert (blur["trained_on"], blur["with_fault"]) == (kinds["all"]["trained_on"] / 2, 24)
    assert blur["seen"]["value"] == pytest.approx(1)
    assert blur["difference"]["value"] == pytest.approx(blur["unseen"]["value"] - 1, abs=1e-3)
    assert blur["difference"]["high"] < 0
