"""A score head and level tokens on a small model of random weights; the brightness of an image is its score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from head_samples import data_settings, grey_data, grey_items
from plain_settings import LORA, settings_of
from pydantic import ValidationError
from random_model import Pictures

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.protocols import Wording
from t2i_eval_kedro.models.processors import encode
from t2i_eval_kedro.models.settings import ModelSettings
from t2i_eval_kedro.training.heads.score_head import ScoreHeadJudge
from t2i_eval_kedro.training.heads.settings import ScoreHeadSettings

HEAD = {
    "readout": "head",
    "losses": {"mse": 1.0},
    "element_weight": 0.5,
    "answer_vocabulary": "digits",
    "categories": False,
    "prompt_kind": False,
    "epochs": 40.0,
    "batch_size": 11,
    "learning_rate": 1e-2,
    "weight_decay": 0.0,
    "lora": None,
}
LEVELS = HEAD | {
    "readout": "levels",
    "losses": {"cross_entropy": 1.0},
    "element_weight": 0.0,
    "lora": LORA,
    "learning_rate": 5e-3,
    "epochs": 24.0,
}


def judge_of(base_model: Path, pictures: Pictures, compact: Wording, settings: dict, items=None) -> ScoreHeadJudge:
    model = settings_of(ModelSettings, model=str(base_model), threads=1)
    data = grey_data(items or grey_items())
    return ScoreHeadJudge(ScoreHeadSettings.model_validate(settings), model, compact, "overall", data, pictures)


def agreement(judge: ScoreHeadJudge, items) -> float:
    said = judge.predict(items).scores
    return float(np.corrcoef([said[item.item_id] for item in items], [item.rating for item in items])[0, 1])


@pytest.mark.parametrize(
    "settings",
    [HEAD, HEAD | {"lora": LORA, "epochs": 14.0}, LEVELS | {"losses": {"cross_entropy": 1.0, "mse": 5.0}}],
    ids=["frozen", "adapter", "token_focus"],
)
def test_it_learns_and_what_it_wrote_says_the_same(
    base_model: Path, pictures: Pictures, compact: Wording, settings: dict, tmp_path: Path
) -> None:
    items = grey_items()
    judge = judge_of(base_model, pictures, compact, settings)
    before = agreement(judge, items)
    judge.fit(items, data_settings(), 0)
    assert agreement(judge, items) > max(0.8, before)
    judge.save(tmp_path / "judge")
    again = judge_of(base_model, pictures, compact, settings)
    assert again.predict(items) != judge.predict(items)
    again.restore(tmp_path / "judge")
    assert again.predict(items).scores == judge.predict(items).scores
    assert again.predict(items).elements == judge.predict(items).elements


def test_elements_are_told_apart_and_one_that_is_not_in_the_prompt_is_null(
    base_model: Path, pictures: Pictures, compact: Wording
) -> None:
    items = grey_items()
    judge = judge_of(base_model, pictures, compact, HEAD)
    judge.fit(items, data_settings(), 0)
    said = judge.predict(items).elements
    assert all(found["cat"] is None for found in said.values())
    assert all(found["grey"] > 0.5 for found in said.values())
    light = [said[item.item_id]["light"] for item in items]
    assert min(light[7:]) > max(light[:5])


def test_elements_are_read_where_they_stand_whatever_the_length_of_the_batch(
    base_model: Path, pictures: Pictures, compact: Wording
) -> None:
    items = [grey_items()[0], *grey_items("test", prompt="a light and very plain grey card of paper")[1:2]]
    judge = judge_of(base_model, pictures, compact, HEAD, items)
    places = [judge._request(item)[1] for item in items]
    ids = [encode(judge._processor, [judge._request(item)[0]], pictures)["input_ids"][0] for item in items]
    decode = judge._processor.tokenizer.decode
    for tokens, found in zip(ids, places, strict=True):
        own, last = found["light"]
        assert decode(torch.stack([tokens[-at] for at in own])).strip() == "light"
        assert decode(tokens[-last]) == "y"
    together = judge.predict(items).elements
    alone = [judge_of(base_model, pictures, compact, HEAD, items) for _ in items]
    for item, other in zip(items, alone, strict=True):
        other.heads.load_state_dict(judge.heads.state_dict())
        assert other.predict([item]).elements[item.item_id] == pytest.approx(together[item.item_id], abs=1e-4)


def test_the_request_names_categories_and_the_kind_of_prompt(
    base_model: Path, pictures: Pictures, compact: Wording
) -> None:
    plain, told = (
        judge_of(base_model, pictures, compact, HEAD | {"categories": on, "prompt_kind": on})._request(grey_items()[0])[
            0
        ][0]["text"]
        for on in (False, True)
    )
    assert told == f"real prompt ,\ngrey : color , light grey : color , cat : object\n{plain}"


def test_images_in_other_light_give_other_scores_and_augmented_epochs_other_weights(
    base_model: Path, pictures: Pictures, compact: Wording
) -> None:
    items = grey_items()
    settings = HEAD | {"epochs": 3.0}
    plain, augmented = (judge_of(base_model, pictures, compact, settings) for _ in range(2))
    plain.fit(items, data_settings(), 0)
    augmented.fit(items, data_settings(augment=1.0), 0)
    assert plain.predict(items).scores != augmented.predict(items).scores


def test_a_level_of_several_tokens_is_refused(base_model: Path, pictures: Pictures, compact: Wording) -> None:
    with pytest.raises(T2IEvalError, match="The level 'wrong' is not one token"):
        judge_of(base_model, pictures, compact, LEVELS | {"answer_vocabulary": "words"})


def test_a_judge_of_other_settings_is_not_taken_on(
    base_model: Path, pictures: Pictures, compact: Wording, tmp_path: Path
) -> None:
    judge_of(base_model, pictures, compact, HEAD).save(tmp_path / "judge")
    with pytest.raises(T2IEvalError, match="settings are others"):
        judge_of(base_model, pictures, compact, HEAD | {"epochs": 1.0}).restore(tmp_path / "judge")
    with pytest.raises(T2IEvalError, match="does not hold a score head"):
        judge_of(base_model, pictures, compact, HEAD).restore(tmp_path)


@pytest.mark.parametrize(
    "settings",
    [
        HEAD | {"losses": {"mse": 0.0}},
        LEVELS | {"lora": None},
        HEAD | {"losses": {"cross_entropy": 1.0}},
        LEVELS | {"element_weight": 1.0},
    ],
)
def test_settings_that_train_nothing_are_refused(settings: dict) -> None:
    with pytest.raises(ValidationError):
        ScoreHeadSettings.model_validate(settings)
