"""Items for judges that predict numbers: eleven grey images, whose brightness is their score, and one element that bright ones have."""

from __future__ import annotations

from t2i_eval_kedro.training.heads.data import HeadData, HeadItem, PromptPart
from t2i_eval_kedro.training.heads.settings import DataSettings

PLAIN = {
    "labelled_fraction": 1.0,
    "pseudo_labels": {"max_spread": None, "versions": 2, "strength": 0.5},
    "perturbation": 0.0,
    "augment": 0.0,
    "seed": 0,
}
PARTS = {
    "grey": PromptPart("grey", "color"),
    "light": PromptPart("light grey", "color", ("grey",)),
    "cat": PromptPart("cat", "object"),
}


def data_settings(**given: object) -> DataSettings:
    return DataSettings.model_validate(PLAIN | given)


def grey_items(fold: str = "train", copies: int = 1, prompt: str = "a light grey card") -> list[HeadItem]:
    return [
        HeadItem(
            item_id=f"{fold}-{n}-{copy}",
            prompt_id=f"{fold}-{copy}",
            prompt=prompt,
            image=str(n),
            fold=fold,
            rating=n / 10,
            labels={"grey": 1.0, "light": float(n > 5), "cat": 0.0},
            kind="real",
        )
        for copy in range(copies)
        for n in range(11)
    ]


def grey_data(items: list[HeadItem]) -> HeadData:
    return HeadData(tuple(items), {item.prompt_id: PARTS for item in items}, "overall", (0.0, 10.0))
