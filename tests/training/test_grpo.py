from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pandas as pd
import pytest
from plain_settings import settings_of
from random_model import LEVELS

from t2i_eval_kedro.datasets.adapter import check_folder
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.backends.transformers import TransformersBackend
from t2i_eval_kedro.judging.protocols.base import ChatMessage, Request
from t2i_eval_kedro.judging.protocols.wording import AnswerVocabulary
from t2i_eval_kedro.models.adapters import tasks_taught
from t2i_eval_kedro.models.loading import load_model
from t2i_eval_kedro.models.processors import load_processor
from t2i_eval_kedro.models.settings import ModelSettings
from t2i_eval_kedro.training.grpo import train_grpo
from t2i_eval_kedro.training.grpo_trainer import PolicyTrainer
from t2i_eval_kedro.training.settings import GRPOSettings, LoraSettings, SFTSettings
from t2i_eval_kedro.training.sft import train_sft
from t2i_eval_kedro.training.validation import Watcher, readouts

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


PARSERS = {"score": parse}


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
        settings_of(ModelSettings, model=str(base_model), device="cpu"),
        settings,
        folder,
    )
    return folder


@pytest.fixture(scope="module")
def trained(
    base_model: Path, examples, pictures, sft_adapter: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, pd.DataFrame]:
    folder = tmp_path_factory.mktemp("trained") / "grpo"
    model = settings_of(ModelSettings, model=str(base_model), device="cpu")
    return folder, train_grpo(examples, pictures, model, sft_adapter, SETTINGS, PARSERS, folder)


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
        settings_of(ModelSettings, model=str(base_model), device="cpu"),
        sft_adapter,
        settings,
        PARSERS,
        tmp_path / "a",
    )
    assert [name for name in curve.columns if name.startswith("reward_")] == [
        "reward_std",
        "reward_rank",
        "reward_diversity",
    ]
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
        settings_of(ModelSettings, model=str(base_model), device="cpu"),
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
        train_grpo(
            examples, pictures, model, sft_adapter, settings, {"score": cut_off}, out, checkpoint_dir=checkpoints
        )
    assert (checkpoints / "checkpoint-2").is_dir()
    again = train_grpo(examples, pictures, model, sft_adapter, settings, PARSERS, out, checkpoint_dir=checkpoints)
    assert set(again.attrs["seconds_per_step"]) == {"generation", "reward", "update"}
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
        train_grpo(rated, pictures, model, sft_adapter, settings, PARSERS, tmp_path / name)
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
            settings_of(ModelSettings, model=str(base_model), device="cpu"),
            sft_adapter,
            SETTINGS,
            PARSERS,
            tmp_path / "a",
        )


def with_validation(examples: pd.DataFrame) -> pd.DataFrame:
    """``examples`` with copies of the score requests as the fold ``validation``."""
    copies = examples[examples["task"] == "score"].assign(fold="validation")
    return pd.concat([examples, copies.assign(example_id="v/" + copies["example_id"])], ignore_index=True)


VOCABULARY = AnswerVocabulary(tuple(str(level) for level in range(11)))


def train(examples, pictures, base_model: Path, start, out: Path, **given) -> pd.DataFrame:
    model = settings_of(ModelSettings, model=str(base_model), device="cpu")
    checkpoint_dir = given.pop("checkpoint_dir", None)
    parsers = given.pop("parsers", PARSERS)
    settings = SETTINGS.model_copy(update=given)
    return train_grpo(
        examples,
        pictures,
        model,
        start,
        settings,
        parsers,
        out,
        vocabulary=VOCABULARY,
        checkpoint_dir=checkpoint_dir,
    )


def test_agreement_is_measured_by_both_readouts_and_the_best_adapter_is_kept(
    base_model: Path, examples, pictures, sft_adapter: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from safetensors.numpy import load_file

    rated = with_validation(examples)
    reverse = rated.assign(score=rated["score"].where(rated["fold"] != "train", 10 - rated["score"]))
    given = {"max_steps": 6, "prompts_per_step": 8, "batch_size": 32, "learning_rate": 5e-3, "eval_steps": 2}
    curve = train(reverse, pictures, base_model, sft_adapter, tmp_path / "a", **given, max_drop=9)
    measured = curve[["step", "agreement_generated", "agreement_expected"]].dropna()
    assert measured["step"].tolist() == [0, 2, 4, 6]
    means = measured[["agreement_generated", "agreement_expected"]].mean(axis=1).tolist()
    assert means[-1] < means[0]  # it was trained away from people's scores
    best = measured["step"].iloc[means.index(max(means))]
    recorded = json.loads((tmp_path / "a" / "settings.json").read_text())["settings"]
    assert recorded["kept_step"] == best
    assert not recorded["stopped"]
    assert not (tmp_path / "a" / "ref").exists()
    if best == 0:
        before, after = load_file(sft_adapter / WEIGHTS), load_file(tmp_path / "a" / WEIGHTS)
        assert all((before[name] == after[name]).all() for name in before)
    caplog.clear()
    curve = train(reverse, pictures, base_model, sft_adapter, tmp_path / "b", **given, max_drop=0.01)
    assert curve["step"].max() < 6
    assert "GRPO was stopped at step" in caplog.text
    assert "agreement fell from" in caplog.text


def test_a_readout_that_the_adapter_was_never_taught_is_measured_and_decides_nothing(
    sft_adapter: Path, examples, trained: tuple[Path, pd.DataFrame], tmp_path: Path
) -> None:
    assert tasks_taught(sft_adapter) == ["score"]
    assert tasks_taught(trained[0]) == ["score"]  # what it went on from is remembered
    assert tasks_taught(tmp_path) is None
    validation = with_validation(examples).query("fold == 'validation'")
    validation = pd.concat([validation, validation.assign(task="reason", example_id="r/" + validation["example_id"])])
    thinking = SETTINGS.model_copy(update={"tasks": ["reason"]})
    parsers = {**PARSERS, "reason": parse}

    def decides(settings: GRPOSettings, taught: list[str] | None) -> dict[str, bool]:
        return {one.name: one.decides for one in readouts(validation, settings, parsers, VOCABULARY, taught)}

    assert decides(thinking, ["reason"]) == {"generated": True, "expected": False}
    assert decides(thinking, ["reason", "score"]) == {"generated": True, "expected": True}
    assert decides(thinking, None) == {"generated": True, "expected": True}  # an adapter from elsewhere may know all
    assert decides(SETTINGS, []) == {"generated": True, "expected": True}  # it is being taught the score


def test_the_adapter_is_kept_by_the_readout_that_it_was_taught(
    base_model: Path, examples, pictures, sft_adapter: Path, tmp_path: Path
) -> None:
    scores = with_validation(examples)
    thoughts = scores.assign(
        example_id="r/" + scores["example_id"], task=scores["task"].where(scores["task"] != "score", "reason")
    )
    direct = scores[scores["fold"] == "validation"]
    start = tmp_path / "start"
    shutil.copytree(sft_adapter, start)
    recorded = json.loads((start / "settings.json").read_text())
    recorded["data"]["examples"] = {"reason": 1}
    (start / "settings.json").write_text(json.dumps(recorded))
    given = {"max_steps": 4, "eval_steps": 1, "learning_rate": 5e-3, "tasks": ["reason"], "max_drop": 9}
    curve = train(
        pd.concat([thoughts, direct]), pictures, base_model, start, tmp_path / "a", parsers={"reason": parse}, **given
    )
    measured = curve[["step", "agreement_generated", "agreement_expected"]].dropna()
    recorded = json.loads((tmp_path / "a" / "settings.json").read_text())["settings"]
    assert recorded["kept_step"] == measured["step"].iloc[measured["agreement_generated"].argmax()]
    assert recorded["taught"] == ["reason"]


def test_fields_of_trl_s_config_reach_its_trainer_under_their_own_names(
    base_model: Path, examples, pictures, sft_adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two iterations over each answer halve what is drawn, and a tiny ``top_p`` leaves one answer to draw; the others are seen in the trainer."""
    trainers = []
    plain = PolicyTrainer.train
    monkeypatch.setattr(PolicyTrainer, "train", lambda self, **given: trainers.append(self) or plain(self, **given))
    drawn = 0

    def counted(answer: str) -> float | None:
        nonlocal drawn
        drawn += 1
        return parse(answer)

    options = {"num_iterations": 2, "top_p": 1e-6, "epsilon_high": 0.37, "log_completions": True, "optim": "sgd"}
    curve = train(
        *(examples, pictures, base_model, sft_adapter, tmp_path / "a"), parsers={"score": counted}, trl=options
    )
    assert drawn == 4 * 16 / 2
    assert (curve["zero_variance_groups"].dropna() == 1).all()
    (trainer,) = trainers
    assert (trainer.epsilon_high, trainer.log_completions, trainer.args.optim) == (0.37, True, "sgd")


def test_a_group_of_answers_that_are_all_alike_stops_the_training(
    base_model: Path, examples, pictures, sft_adapter: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = {"max_steps": 20, "temperature": 1e-3, "min_distinct": 1.5}
    curve = train(examples, pictures, base_model, sft_adapter, tmp_path / "a", **given)
    assert curve["step"].max() < 20
    assert "different scores, fewer than 1.5 (grpo.min_distinct)" in caplog.text
    assert "can be read" not in caplog.text
    check_folder(tmp_path / "a")
    train(examples, pictures, base_model, sft_adapter, tmp_path / "b", parsers={"score": lambda text: None}, **given)
    assert (
        "no answer holds a score that can be read; teach the student to answer so (score in examples.tasks"
        in caplog.text
    )


def test_a_resumed_run_keeps_the_best_adapter_of_both_halves(
    base_model: Path, examples, pictures, sft_adapter: Path, tmp_path: Path
) -> None:
    rated = with_validation(examples)
    given = {"max_steps": 4, "eval_steps": 1, "save_steps": 2, "max_drop": 9.0, "beta": 0.05, "rehearsal_weight": 0.5}
    rated = pd.concat(
        [rated, examples.assign(fold="rehearsal", example_id="r/" + examples["example_id"])], ignore_index=True
    )
    whole = train(rated, pictures, base_model, sft_adapter, tmp_path / "a", **given | {"save_steps": 0})
    assert whole["rehearsal_loss"].gt(0).sum() == 4
    assert whole["kl"].iloc[1] == pytest.approx(0, abs=1e-6)
    assert whole["kl"].iloc[-1] > 0
    answers = 0

    def cut_off(answer: str) -> float | None:
        nonlocal answers
        answers += 1
        if answers > 16 * 3 + 32 * 4:  # three steps, and four measurements
            raise KeyboardInterrupt
        return parse(answer)

    at = {"checkpoint_dir": tmp_path / "checkpoints"}
    with pytest.raises(KeyboardInterrupt):
        train(rated, pictures, base_model, sft_adapter, tmp_path / "b", **given, **at, parsers={"score": cut_off})
    again = train(rated, pictures, base_model, sft_adapter, tmp_path / "b", **given, **at)
    pd.testing.assert_frame_equal(again, whole)
    assert (tmp_path / "a" / WEIGHTS).read_bytes() == (tmp_path / "b" / WEIGHTS).read_bytes()


def test_a_training_that_cannot_measure_agreement_says_so(
    base_model: Path, examples, pictures, sft_adapter: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    learned = examples[examples["fold"] == "train"]
    train(learned, pictures, base_model, sft_adapter, tmp_path / "a", max_steps=1, eval_steps=1, patience=1)
    assert "no validation prompt has a rating" in caplog.text
    assert "grpo.patience" in caplog.text


def test_the_best_adapter_is_that_of_the_checkpoint_not_of_what_came_after_it(tmp_path: Path) -> None:
    """A GPU does not repeat itself to the last bit: what was best after the checkpoint may not be again."""
    import torch
    from transformers import TrainerState

    def run(agreements: list[float], steps: range, state: TrainerState, checkpoint: Path | None) -> Watcher:
        values = iter(agreements)
        settings = SETTINGS.model_copy(update={"eval_steps": 1, "max_drop": 9.0})
        watcher = Watcher(settings, lambda model: {"agreement": next(values)}, checkpoint)
        watcher.begin(state, layer)
        for step in steps:
            state.global_step = step
            layer.bias.data.fill_(step)
            watcher.step(state, layer)
            if step == 2:
                watcher.save(tmp_path)
                state.save_to_json(str(tmp_path / "state.json"))
        watcher.restore(layer)
        return watcher

    layer = torch.nn.Linear(1, 1)
    first = run([0.1, 0.5, 0.4, 0.9], range(1, 4), TrainerState(max_steps=9), None)
    assert (first.best_step, layer.bias.item()) == (3, 3.0)
    again = run([0.2], range(3, 4), TrainerState.load_from_json(str(tmp_path / "state.json")), tmp_path)
    assert (again.best_step, layer.bias.item()) == (1, 1.0)


def test_rehearsal_keeps_what_the_policy_alone_would_lose(
    base_model: Path, examples, pictures, sft_adapter: Path, tmp_path: Path
) -> None:
    """The reverse of people's scores is rewarded; supervised examples of the right ones hold against it."""
    reverse = examples.assign(score=10 - examples["score"])
    score = examples[examples["task"] == "score"]
    beside = score.assign(fold="rehearsal", example_id="r/" + score["example_id"])
    for n in range(11):  # as an instruction set names its images
        pictures.image(str(n)).save(tmp_path / f"{n}.png")
    beside["messages"] = beside["messages"].str.replace(
        r'"images": \["(\d+)"\]', rf'"images": ["file:{tmp_path}/\1.png"]', regex=True
    )
    assert beside["messages"].str.contains("file:").all()
    given = {"max_steps": 10, "prompts_per_step": 11, "generations": 8, "batch_size": 88, "learning_rate": 3e-3}
    errors = {}
    for weight in (0.0, 3.0):
        out = tmp_path / str(weight)
        both = pd.concat([reverse, beside], ignore_index=True)
        train(both, pictures, base_model, sft_adapter, out, **given, rehearsal_weight=weight, rehearsal_examples=11)
        errors[weight] = mean_error(base_model, out, pictures)
    assert errors[3.0] < errors[0.0] - 0.3


def test_shared_requests_give_the_answers_of_plain_ones(
    base_model: Path, examples, pictures, sft_adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    sample = TransformersBackend.sample

    def counted(self, requests, counts, generation):
        sampled = sample(self, requests, counts, generation)
        drawn.append((len(requests), sampled is not None and len(sampled.answers)))
        return sampled

    monkeypatch.setattr(TransformersBackend, "sample", counted)
    given = {"max_steps": 1, "temperature": 1e-3, "min_distinct": 0}  # so cold that chance plays no part
    rewards = [
        train(examples, pictures, base_model, sft_adapter, tmp_path / str(shared), **given, share_prefixes=shared)
        for shared in (True, False)
    ]
    assert drawn == [(4, 16)]  # four requests are encoded for sixteen answers
    assert rewards[0]["reward"].tolist() == pytest.approx(rewards[1]["reward"].tolist())
    assert rewards[0]["completion_length"].tolist() == rewards[1]["completion_length"].tolist()


def test_answers_that_are_the_same_are_computed_once_and_teach_as_much(
    base_model: Path, examples, pictures, sft_adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.numpy import load_file

    from t2i_eval_kedro.training import grpo_trainer

    different, counts, curves = grpo_trainer._different, [], []

    def counted(rows, input_ids):
        chosen, place = different(rows, input_ids)
        counts.append((len(chosen), len(place)))
        return chosen, place

    def all_of_them(rows, input_ids):
        return [*range(len(rows))], [*range(len(rows))]

    for name, function in (("once", counted), ("each", all_of_them)):
        monkeypatch.setattr(grpo_trainer, "_different", function)
        given = {"max_steps": 3, "generations": 8, "batch_size": 16, "beta": 0.1, "temperature": 0.3}
        curves.append(train(examples, pictures, base_model, sft_adapter, tmp_path / name, **given))
    assert len(counts) == 3 * (1 + 2)  # a step: the divergence's reference, then a loss in two passes
    assert [total for _, total in counts] == 3 * [32, 16, 16]
    assert sum(chosen for chosen, _ in counts) < 0.6 * sum(total for _, total in counts)
    assert curves[0].to_numpy(float) == pytest.approx(curves[1].to_numpy(float), rel=1e-3, abs=1e-5, nan_ok=True)
    once, each = (load_file(tmp_path / name / WEIGHTS) for name in ("once", "each"))
    start = load_file(sft_adapter / WEIGHTS)
    changed = max(abs(each[name] - start[name]).max() for name in start)
    assert max(abs(once[name] - each[name]).max() for name in start) < 0.02 * changed


def test_training_begins_on_the_untrained_model_too(base_model: Path, examples, pictures, tmp_path: Path) -> None:
    lora = settings_of(LoraSettings, r=4, alpha=8)
    curve = train(examples, pictures, base_model, lora, tmp_path / "a", max_steps=1)
    assert len(curve) == 1
    check_folder(tmp_path / "a")
    assert json.loads((tmp_path / "a" / "adapter_config.json").read_text())["r"] == 4


@pytest.mark.parametrize(
    ("change", "given", "message"),
    [
        ({"score": 5.0}, {}, "All 44 training examples of the task 'score' have the same score"),
        ({}, {"rehearsal_weight": 1.0}, "asks for supervised examples, and there are none"),
        ({}, {"rewards": {"pairwise": 1.0, "format": 1.0}}, "None of the rewards pairwise, format compares"),
        ({}, {"own_rewards": {f"{__name__}.undefined": 1.0}}, "gave nan for the answer"),
    ],
)
def test_what_cannot_be_learned_from_is_refused_in_a_sentence(
    change, given, message: str, base_model: Path, examples, pictures, sft_adapter: Path, tmp_path: Path
) -> None:
    before = (sft_adapter / WEIGHTS).read_bytes()
    with pytest.raises(T2IEvalError, match=message):
        train(examples.assign(**change), pictures, base_model, sft_adapter, tmp_path / "a", **given)
    assert (sft_adapter / WEIGHTS).read_bytes() == before
    assert not (tmp_path / "a").exists()


def undefined(answers) -> list[float]:
    return [math.nan] * len(answers.scores)


def test_requests_without_rating_are_left_out_and_counted(
    base_model: Path, examples, pictures, sft_adapter: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    some = examples.assign(score=examples["score"].where(examples["score"] > 3))
    train(some, pictures, base_model, sft_adapter, tmp_path / "a", max_steps=1)
    assert "16 of 44 requests have no rating and are left out" in caplog.text


def test_answers_that_never_end_are_counted(
    base_model: Path, examples, pictures, sft_adapter: Path, tmp_path: Path
) -> None:
    curve = train(examples, pictures, base_model, sft_adapter, tmp_path / "a", max_steps=1, max_completion_length=1)
    assert curve["clipped"].iloc[0] > 0.5  # a score of one token has no room for its end
