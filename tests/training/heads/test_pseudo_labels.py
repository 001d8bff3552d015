from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
from head_samples import data_settings, grey_data, grey_items

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.training.heads.data import HeadItem
from t2i_eval_kedro.training.heads.judges import Predictions, View, pseudo_labelled, trained
from t2i_eval_kedro.training.heads.settings import DataSettings, PseudoLabelSettings

SETTINGS = PseudoLabelSettings(max_spread=0.05, versions=3, strength=0.5)


class Nervous:
    """A judge that says the brightness, and is unsure of dark images: their score moves with the light."""

    def __init__(self) -> None:
        self.seen: list[HeadItem] = []

    def fit(self, items: Sequence[HeadItem], data: DataSettings, seed: int) -> pd.DataFrame:
        self.seen = list(items)
        return pd.DataFrame({"step": [1], "loss": [0.0]})

    def predict(self, items: Sequence[HeadItem], view: View | None = None) -> Predictions:
        version = 0 if view is None else view.version
        move = {item.item_id: 0.1 * version * (int(item.image) < 5) for item in items}
        scores = {item.item_id: int(item.image) / 10 + move[item.item_id] for item in items}
        elements = {name: {"grey": 0.9, "light": score, "cat": None} for name, score in scores.items()}
        return Predictions(scores, elements)

    def save(self, folder: Path) -> None:
        raise AssertionError


def test_only_images_that_it_is_sure_of_are_kept_with_its_own_scores() -> None:
    kept = pseudo_labelled(Nervous(), grey_items(), SETTINGS, 0)
    assert [item.image for item in kept] == ["5", "6", "7", "8", "9", "10"]
    assert [item.rating for item in kept] == pytest.approx([0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    assert kept[0].labels == {"grey": 1.0, "light": 1.0}  # an element that it does not find is not learned
    assert [
        item.image
        for item in pseudo_labelled(Nervous(), grey_items(), SETTINGS.model_copy(update={"max_spread": 0.2}), 0)
    ] == [str(n) for n in range(11)]


def test_a_second_judge_learns_from_people_and_from_the_first() -> None:
    data = grey_data(grey_items(copies=4) + grey_items("test"))
    settings = data_settings(labelled_fraction=0.5, pseudo_labels=SETTINGS.model_dump())
    made: list[Nervous] = []

    def make() -> Nervous:
        made.append(Nervous())
        return made[-1]

    judge, _, counts = trained(make, data, settings, 0)
    assert counts == {"labelled": 22, "unlabelled": 22, "pseudo_labelled": 12}
    assert [len(one.seen) for one in made] == [22, 34]
    assert judge is made[-1]
    known = {item.item_id for item in made[0].seen}
    assert known == {item.item_id for item in judge.seen[:22]}
    assert not known & {item.item_id for item in judge.seen[22:]}


def test_without_a_bound_nothing_is_added_and_without_unscored_images_it_is_an_error() -> None:
    data = grey_data(grey_items(copies=4))
    _, _, counts = trained(Nervous, data, data_settings(labelled_fraction=0.5), 0)
    assert counts["pseudo_labelled"] == 0
    with pytest.raises(T2IEvalError, match="nothing to label"):
        trained(Nervous, data, data_settings(pseudo_labels=SETTINGS.model_dump()), 0)
