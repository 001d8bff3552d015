from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd
import pytest
from plain_settings import settings_of
from random_model import LEVELS

from t2i_eval_kedro.datasets.adapter import check_folder
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.backends.transformers import TransformersBackend
from t2i_eval_kedro.judging.protocols.base import ChatMessage, Request
from t2i_eval_kedro.models.loading import load_model, load_processor
from t2i_eval_kedro.models.settings import ModelSettings
from t2i_eval_kedro.training.grpo import train_grpo
from t2i_eval_kedro.training.settings import GRPOSettings, LoraSettings, SFTSettings
from t2i_eval_kedro.training.sft import train_sft

SETTINGS = settings_of(
    GRPOSettings,
    max_steps=4,
    prompts_per_step=4,
    generations=4,
    batch_size=8,
    logging_steps=1,
    learning_rate=1e-3,
    max_completion_length=3,
)
WEIGHTS = "adapter_model.safetensors"


def parse(answer: str) -> float | None:
    return float(answer) if answer in {str(level) for level in range(11)} else None


@pytest.fixture(scope="module")
def sft_adapter(base_model: Path, examples, pictures, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "sft"
    settings = settings_of(
        SFTSettings,
        max_steps=30,
        batch_size=22,
        eval_examples=0,
        lora=settings_of(LoraSettings, r=8, alpha=16, score_tokens=True),
    )
    train_sft(
        examples[examples["task"] == "score"],
        pictures,
        settings_of(ModelSettings, model=str(base_model)),
        settings,
        folder,
    )
    return folder


@pytest.fixture(scope="module")
def trained(
    base_model: Path, examples, pictures, sft_adapter: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, pd.DataFrame]:
    folder = tmp_path_factory.mktemp("trained") / "grpo"
    model = settings_of(ModelSettings, model=str(base_model))
    return folder, train_grpo(examples, pictures, model, sft_adapter, SETTINGS, parse, folder)


def test_the_curve_says_what_was_rewarded(trained: tuple[Path, pd.DataFrame]) -> None:
    _, curve = trained
    assert curve["step"].tolist() == [1, 2, 3, 4]
    shares = curve[["reward", "zero_variance_groups", "unparsed"]]
    assert shares.ge(0).all(axis=None)
    assert shares.le(1).all(axis=None)
    assert curve["reward"].gt(0).all()  # it has learned to answer with a score
    assert curve["unparsed"].lt(1).all()
    assert curve["distinct_scores"].between(0, 4).all()
    assert curve["distinct_scores"].max() > 1
    constant = max(
        sum(math.exp(-((score - target) ** 2) / 8) for target in range(11)) / 11
        for score in (n / 10 for n in range(101))
    )
    assert curve["best_constant_reward"].unique() == pytest.approx([constant])
    assert curve["reward_gaussian"].to_numpy() == pytest.approx(curve["reward"].to_numpy())


def test_a_sum_of_rewards_is_drawn_part_by_part(
    base_model: Path, examples, pictures, sft_adapter: Path, tmp_path: Path
) -> None:
    settings = SETTINGS.model_copy(update={"max_steps": 2, "rewards": {"rank": 1.0, "diversity": 0.25, "format": 0.0}})
    curve = train_grpo(
        examples,
        pictures,
        settings_of(ModelSettings, model=str(base_model)),
        sft_adapter,
        settings,
        parse,
        tmp_path / "a",
    )
    assert list(curve.columns[-2:]) == ["reward_rank", "reward_diversity"]
    total = curve["reward_rank"] + 0.25 * curve["reward_diversity"]
    assert curve["reward"].to_numpy() == pytest.approx(total.to_numpy(), abs=1e-5)
    # a group of four earns the number of its different scores
    assert 4 * curve["reward_diversity"].to_numpy() == pytest.approx(curve["distinct_scores"].to_numpy(), abs=1e-5)


def test_the_adapter_went_on_from_the_fine_tuned_one(trained: tuple[Path, pd.DataFrame], sft_adapter: Path) -> None:
    from safetensors.numpy import load_file

    folder, _ = trained
    check_folder(folder)
    before, after = load_file(sft_adapter / WEIGHTS), load_file(folder / WEIGHTS)
    assert before.keys() == after.keys()
    change = max(abs(after[name] - before[name]).max() for name in before)
    assert 0 < change < 4 * 1.5e-3  # four steps of Adam move a weight by about the learning rate each
    config = [json.loads((path / "adapter_config.json").read_text()) for path in (sft_adapter, folder)]
    assert config[0]["target_modules"] == config[1]["target_modules"]
    assert config[1]["base_model_name_or_path"] == "tiny-llava"


def test_cut_off_or_not_the_same_seed_gives_the_same_bytes(
    trained: tuple[Path, pd.DataFrame], base_model: Path, examples, pictures, sft_adapter: Path, tmp_path: Path
) -> None:
    folder, curve = trained
    model, checkpoints, out = (
        settings_of(ModelSettings, model=str(base_model)),
        tmp_path / "checkpoints",
        tmp_path / "a",
    )
    settings = SETTINGS.model_copy(update={"save_steps": 2})
    answers = 0

    def cut_off(answer: str) -> float | None:
        nonlocal answers
        answers += 1
        if answers > 2 * 16 + 5:
            raise KeyboardInterrupt
        return parse(answer)

    with pytest.raises(KeyboardInterrupt):
        train_grpo(examples, pictures, model, sft_adapter, settings, cut_off, out, checkpoint_dir=checkpoints)
    assert (checkpoints / "checkpoint-2").is_dir()
    again = train_grpo(examples, pictures, model, sft_adapter, settings, parse, out, checkpoint_dir=checkpoints)
    pd.testing.assert_frame_equal(again, curve)
    assert (out / WEIGHTS).read_bytes() == (folder / WEIGHTS).read_bytes()


def mean_error(base_model: Path, adapter: Path, pictures) -> float:
    """Mean distance of the expected score from the true one, over the eleven pictures."""
    requests = [
        Request(str(n), "a", "score", "", (ChatMessage("user", "Score the image.", (str(n),)),), 3, LEVELS)
        for n in range(11)
    ]
    model = load_model(base_model, adapter=adapter, device="cpu", merge=True)
    backend = TransformersBackend(model, load_processor(base_model), pictures, batch_size=11)
    expected = {
        place: sum(int(level) * share for level, share in answer.probabilities.items())
        for place, answer in backend.answer(requests)
    }
    return sum(abs(expected[n] - n) for n in range(11)) / 11


def test_scores_move_towards_people_s_and_away_from_their_reverse(
    base_model: Path, examples, pictures, sft_adapter: Path, tmp_path: Path
) -> None:
    """Rewards that read the score's mirror image, or no score at all, would fail one of the two."""
    model = settings_of(ModelSettings, model=str(base_model), device="cpu")
    settings = SETTINGS.model_copy(
        update={"max_steps": 12, "prompts_per_step": 11, "generations": 8, "batch_size": 88, "learning_rate": 3e-3}
    )
    before = mean_error(base_model, sft_adapter, pictures)
    after = {}
    for name, score in (("people", examples["score"]), ("reverse", 10 - examples["score"])):
        rated = examples.assign(score=score)
        train_grpo(rated, pictures, model, sft_adapter, settings, parse, tmp_path / name)
        after[name] = mean_error(base_model, tmp_path / name, pictures)
    assert after["people"] < before - 0.2
    assert after["reverse"] > before + 0.2


def test_without_scores_there_is_nothing_to_train_on(
    base_model: Path, examples, pictures, sft_adapter: Path, tmp_path: Path
) -> None:
    others = examples[examples["task"] != "score"]
    with pytest.raises(T2IEvalError, match="task 'score'"):
        train_grpo(
            others,
            pictures,
            settings_of(ModelSettings, model=str(base_model)),
            sft_adapter,
            SETTINGS,
            parse,
            tmp_path / "a",
        )
