"""FGA-BLIP2 as a judge, on the small network of the embedded benchmark with the tiny model's tower and no pre-training of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from head_samples import data_settings, grey_data, grey_items
from random_model import Pictures

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.training.heads.fga import FGAJudge
from t2i_eval_kedro.training.heads.judges import View
from t2i_eval_kedro.training.heads.settings import FGASettings
from t2i_eval_kedro.training.heads.towers import build_blip, build_tokenizer, start_from_tiny

SETTINGS = {
    "tokenizer": None,
    "train_vision": False,
    "variance_weight": None,
    "element_weight": 0.0,
    "search": "windows",
    "own_tokens": True,
    "epochs": 12.0,
    "batch_size": 11,
    "learning_rate": 2e-3,
    "weight_decay": 0.0,
    "cache_mb": 64,
}


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("blip")
    tokenizer = build_tokenizer(folder)
    model = build_blip(len(tokenizer), 0)
    start_from_tiny(model, tokenizer, Path(__file__).parents[3] / "data/06_models/tiny_vlm")
    model.save(folder / "model", tokenizer)
    return folder / "model"


def judge_of(start: Path, pictures: Pictures, **given: object) -> FGAJudge:
    items = grey_items(prompt="a light grey card")
    return FGAJudge(FGASettings.model_validate(SETTINGS | {"start": str(start)} | given), grey_data(items), pictures)


def test_it_learns_scores_and_elements_and_what_it_wrote_says_the_same(
    start: Path, pictures: Pictures, tmp_path: Path
) -> None:
    items = grey_items()
    judge = judge_of(start, pictures, epochs=40.0)
    curve = judge.fit(items, data_settings(), 0)
    assert curve["loss"].iloc[-1] < 0.5 * curve["loss"].iloc[0]
    said = judge.predict(items)
    scores = [said.scores[item.item_id] for item in items]
    assert np.corrcoef(scores, [item.rating for item in items])[0, 1] > 0.9
    assert all(0 <= score <= 1 for score in scores)
    assert {found["cat"] for found in said.elements.values()} == {None}
    judge.save(tmp_path / "judge")
    again = judge_of(tmp_path / "judge", pictures).predict(items)
    assert again.scores == pytest.approx(said.scores, abs=1e-6)


@pytest.mark.parametrize("given", [{}, {"train_vision": True}])
def test_its_batches_go_where_the_network_is(start: Path, pictures: Pictures, given: dict) -> None:
    """Seen without a GPU: on torch's device ``meta`` what lies elsewhere is refused, and there are no values to give in the end."""
    settings = FGASettings.model_validate(SETTINGS | {"start": str(start)} | given)
    judge = FGAJudge(settings, grey_data(grey_items(prompt="a light grey card")), pictures, "meta")
    with pytest.raises(RuntimeError, match="meta tensors"):
        judge.predict(grey_items())
    with pytest.raises(RuntimeError, match=r"item\(\) cannot be called on meta tensors"):
        judge.fit(grey_items(), data_settings(), 0)


@pytest.mark.parametrize(
    "given",
    [
        {"train_vision": True},
        {"variance_weight": "normalised"},
        {"element_weight": 1.0},
        {"own_tokens": False},
        {"search": "runs"},
        {"learning_rate": 1e-3},
    ],
)
def test_each_setting_changes_what_is_learned(start: Path, pictures: Pictures, given: dict) -> None:
    items = [
        type(item)(**{**vars(item), "variance": 4.0 if n % 2 else 0.0, "labels": {"light": 1.0, "grey": 0.0}})
        for n, item in enumerate(grey_items(prompt="a light, very grey card"))
    ]

    def learned(**more: object) -> dict[str, torch.Tensor]:
        judge = judge_of(start, pictures, epochs=1.0, **more)
        judge.fit(items, data_settings(), 0)
        return judge.model.state_dict()

    plain, changed = learned(), learned(**given)
    moved = {name for name, value in plain.items() if not torch.equal(value, changed[name])}
    assert moved
    assert any("vision_model" in name for name in moved) == ("train_vision" in given)


def test_training_is_the_same_for_the_same_seed(start: Path, pictures: Pictures) -> None:
    items = grey_items()
    one, same, other = (judge_of(start, pictures, epochs=1.0) for _ in range(3))
    for judge, seed in ((one, 0), (same, 0), (other, 1)):
        judge.fit(items, data_settings(perturbation=0.1), seed)
    assert one.predict(items) == same.predict(items)
    assert one.predict(items) != other.predict(items)


def test_features_are_kept_within_their_memory_and_scores_do_not_depend_on_it(start: Path, pictures: Pictures) -> None:
    items = grey_items()
    kept, none = judge_of(start, pictures), judge_of(start, pictures, cache_mb=0)
    assert kept.predict(items).scores == pytest.approx(none.predict(items).scores, abs=1e-6)
    assert len(kept._features) == 11
    assert not none._features
    assert kept.predict(items, View(1, 1.0, 0)).scores != kept.predict(items).scores


def test_a_network_that_there_is_not_is_named(pictures: Pictures, tmp_path: Path) -> None:
    with pytest.raises(T2IEvalError, match="make it with kedro build-towers"):
        judge_of(tmp_path / "none", pictures)
