from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from plain_settings import settings_of
from random_model import Pictures
from test_answer_loss import mean_cross_entropy

from t2i_eval_kedro.datasets.adapter import check_folder
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.evaluators import JudgingSettings
from t2i_eval_kedro.judging.local_models import open_backend
from t2i_eval_kedro.judging.protocols.base import ChatMessage, Request
from t2i_eval_kedro.models.loading import load_model
from t2i_eval_kedro.models.processors import load_processor
from t2i_eval_kedro.models.settings import ModelSettings
from t2i_eval_kedro.training import sft
from t2i_eval_kedro.training.answer_loss import AnswerLossTrainer
from t2i_eval_kedro.training.data import Encoder
from t2i_eval_kedro.training.settings import GRPOSettings, LoraSettings, SFTSettings
from t2i_eval_kedro.training.sft import score_tokens, train_sft

SHORT = settings_of(
    SFTSettings,
    max_steps=6,
    batch_size=8,
    logging_steps=2,
    eval_examples=8,
    lora=settings_of(LoraSettings, r=4, alpha=8),
)


@pytest.fixture(scope="module")
def trained(
    base_model: Path, examples, pictures, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, pd.DataFrame]:
    folder = tmp_path_factory.mktemp("trained") / "sft"
    curve = train_sft(
        examples, pictures, settings_of(ModelSettings, model=str(base_model)), SHORT, folder, data_note="Made up."
    )
    return folder, curve


def test_the_loss_falls_and_the_validation_loss_is_that_of_the_adapter(
    trained: tuple[Path, pd.DataFrame], base_model: Path, examples, pictures
) -> None:
    folder, curve = trained
    assert curve["step"].tolist() == [2, 4, 6]
    assert curve["loss"].iloc[-1] < curve["loss"].iloc[0]
    held_out = examples[examples["fold"] == "validation"]
    drawn = held_out.iloc[np.sort(np.random.default_rng(0).choice(len(held_out), SHORT.eval_examples, replace=False))]
    batch = Encoder(drawn, load_processor(base_model), pictures)([{"row": row} for row in range(len(drawn))])
    expected = {
        name: mean_cross_entropy(load_model(base_model, adapter=adapter, device="cpu"), batch)
        for name, adapter in (("trained", folder), ("base", None))
    }
    assert curve["validation_loss"].iloc[-1] == pytest.approx(expected["trained"], rel=1e-3)
    assert expected["trained"] < expected["base"] - 0.1


def test_the_folder_is_whole_and_names_no_path(trained: tuple[Path, pd.DataFrame], base_model: Path) -> None:
    folder, curve = trained
    check_folder(folder)
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "tiny-llava"
    card = (folder / "README.md").read_text()
    assert "Made up." in card
    assert "## Agreement with people" in card
    settings = json.loads((folder / "settings.json").read_text())
    assert settings["settings"]["lora"]["r"] == 4
    assert settings["data"]["examples"] == {"appearance_1": 44, "score": 44}
    pd.testing.assert_frame_equal(pd.read_csv(folder / "curve.csv"), curve, rtol=1e-5, check_dtype=False)
    for path in folder.iterdir():
        assert str(base_model.parent).encode() not in path.read_bytes(), path


def test_plain_peft_loads_it_and_it_changes_the_model(trained: tuple[Path, pd.DataFrame], base_model: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    folder, _ = trained
    plain = PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained(base_model), folder).eval()
    ours = load_model(base_model, adapter=folder, merge=True, device="cpu")
    base = load_model(base_model, device="cpu")
    ids = torch.tensor([[3, 10, 11, 4]])
    with torch.no_grad():
        expected = plain(input_ids=ids).logits
        torch.testing.assert_close(ours(input_ids=ids).logits, expected, atol=1e-5, rtol=1e-4)
        assert (base(input_ids=ids).logits - expected).abs().max() > 1e-3


def loading_code(card: str) -> str:
    return card.partition("```python\n")[2].partition("```")[0]


def test_the_code_on_the_card_loads_the_adapter(
    trained: tuple[Path, pd.DataFrame], base_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    folder, _ = trained
    (tmp_path / "tiny-llava").symlink_to(base_model)
    (tmp_path / "path/to/this").mkdir(parents=True)
    (tmp_path / "path/to/this/folder").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(loading_code((folder / "README.md").read_text()), names)
    ids = names["processor"].tokenizer("Score the image.", return_tensors="pt")["input_ids"]
    ours = load_model(base_model, adapter=folder, merge=True, device="cpu")
    with torch.no_grad():
        torch.testing.assert_close(names["model"](ids).logits, ours(ids).logits, atol=1e-5, rtol=1e-4)


def test_the_code_on_the_card_takes_the_revision_and_says_where_code_is_run(
    base_model: Path, examples, pictures, tmp_path: Path
) -> None:
    base = settings_of(ModelSettings, model=str(base_model), revision="0" * 40, trust_remote_code=True)
    one = SHORT.model_copy(update={"max_steps": 1, "eval_examples": 0})
    train_sft(examples, pictures, base, one, tmp_path / "a")
    code = loading_code((tmp_path / "a" / "README.md").read_text())
    assert code.count(f'.from_pretrained("tiny-llava", revision="{base.revision}", trust_remote_code=True)') == 2


def test_the_same_seed_gives_the_same_bytes(
    trained: tuple[Path, pd.DataFrame], base_model: Path, examples, pictures, tmp_path: Path
) -> None:
    folder, _ = trained
    model = settings_of(ModelSettings, model=str(base_model))
    train_sft(examples, pictures, model, SHORT, tmp_path / "again", data_note="Made up.")
    for name in sorted(path.name for path in folder.iterdir()):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name
    train_sft(examples, pictures, model, SHORT.model_copy(update={"seed": 1}), tmp_path / "other")
    name = "adapter_model.safetensors"
    assert (folder / name).read_bytes() != (tmp_path / "other" / name).read_bytes()


def test_labels_cover_the_answer_alone(base_model: Path, examples, pictures) -> None:
    processor = load_processor(base_model)
    encoder = Encoder(examples, processor, pictures)
    rows = [0, 1]
    batch = encoder([{"row": row} for row in rows])
    for place, row in enumerate(rows):
        answer = batch["labels"][place][batch["labels"][place] != -100]
        assert processor.tokenizer.decode(answer) == examples["completion"][row] + "<|end|>"
    text = processor.tokenizer.decode(batch["input_ids"][1][batch["attention_mask"][1].bool()])
    assert text == (
        "<|user|><image><image><image><image>Score the image.<|assistant|>0<|end|><|user|>Why?<|assistant|>"
        "It is 0 of 10.<|end|>"
    )
    assert batch["pixel_values"].shape == (2, 3, 32, 32)


def test_batches_equal_those_of_trl(base_model: Path, examples, pictures) -> None:
    import torch
    from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

    from t2i_eval_kedro.models.processors import image_keys, to_chat

    processor = load_processor(base_model)
    rows = [0, 1, 6, 21]
    requests = []
    for row in rows:
        messages = json.loads(examples["messages"][row])
        answer = {"role": "assistant", "text": examples["completion"][row]}
        requests.append(
            {
                "images": [pictures.image(key) for key in image_keys(messages)],
                "prompt": to_chat(messages),
                "completion": to_chat([answer]),
            }
        )
    expected = DataCollatorForVisionLanguageModeling(processor, completion_only_loss=True)(requests)
    encoder = Encoder(examples, processor, pictures, cache_mb=0)
    for _ in range(2):  # once encoded, once from what is kept
        batch = encoder([{"row": row} for row in rows])
        assert set(batch) == set(expected)
        torch.testing.assert_close(batch["pixel_values"], expected["pixel_values"])
        for place in range(len(rows)):
            ours, theirs = batch["attention_mask"][place].bool(), expected["attention_mask"][place].bool()
            for name in ("input_ids", "labels"):  # ours are padded on the left, theirs on the right
                assert batch[name][place][ours].tolist() == expected[name][place][theirs].tolist()


def test_the_loss_is_that_of_trl(base_model: Path, examples, pictures, tmp_path: Path) -> None:
    import torch
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    from t2i_eval_kedro.training.answer_loss import AnswerLossTrainer

    processor = load_processor(base_model)

    def loss(trainer_class: type[SFTTrainer], weights: list[float] | None = None, in_parts: bool = False) -> float:
        chosen = examples.iloc[[0, 1, 6, 21] * 8]
        if weights:
            chosen = chosen.assign(weight=weights)
        encoder = Encoder(chosen, processor, pictures)
        arguments = {"output_dir": str(tmp_path), "use_cpu": True, "bf16": False, "report_to": "none"}
        trainer = trainer_class(
            model=load_model(base_model, device="cpu"),
            args=SFTConfig(**arguments, dataset_kwargs={"skip_prepare_dataset": True}, gradient_checkpointing=False),
            data_collator=encoder,
            train_dataset=encoder.dataset(range(32)),
            processing_class=processor,
        )
        with torch.no_grad():
            rows = [{"row": row} for row in range(32)]
            batch = encoder.in_parts(rows) if in_parts else encoder(rows)
            assert len(batch.get("parts", "")) == (2 if in_parts else 0)
            return trainer.compute_loss(trainer.model, batch).item()

    assert loss(AnswerLossTrainer) == pytest.approx(loss(SFTTrainer), rel=1e-5)
    assert loss(AnswerLossTrainer, in_parts=True) == pytest.approx(loss(SFTTrainer), rel=1e-5)
    assert loss(AnswerLossTrainer, [2.0] * 32) == pytest.approx(2 * loss(SFTTrainer), rel=1e-5)
    assert loss(AnswerLossTrainer, [1.0, 0.0] * 16) < loss(AnswerLossTrainer)


def test_training_goes_on_from_an_adapter_which_is_not_changed(
    trained: tuple[Path, pd.DataFrame], base_model: Path, examples, pictures, tmp_path: Path
) -> None:
    """Also from one of another tool, which says nothing of itself but peft's configuration."""
    first, curve = trained
    start = tmp_path / "elsewhere"
    start.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(first / name, start)
    before = (start / "adapter_model.safetensors").read_bytes()
    other = SHORT.lora.model_copy(update={"r": SHORT.lora.r // 2})  # the rank stays that of the start
    settings = SHORT.model_copy(update={"max_steps": 2, "logging_steps": 1, "eval_examples": 0, "lora": other})
    model = settings_of(ModelSettings, model=str(base_model), device="cpu")
    losses = {}
    for name, folder in (("anew", None), ("on", str(start))):
        told = train_sft(examples, pictures, model, settings.model_copy(update={"start": folder}), tmp_path / name)
        losses[name] = told["loss"].iloc[0]
    assert losses["on"] < losses["anew"] - 0.5  # before the first step, on the same batch
    assert losses["on"] == pytest.approx(curve["loss"].dropna().iloc[-1], rel=0.3)
    assert (start / "adapter_model.safetensors").read_bytes() == before
    assert (tmp_path / "on" / "adapter_model.safetensors").read_bytes() != before
    assert json.loads((tmp_path / "on" / "adapter_config.json").read_text())["r"] == SHORT.lora.r
    recorded = json.loads((tmp_path / "on" / "settings.json").read_text())["settings"]
    assert recorded["start"] == "elsewhere"
    assert recorded["start_adapter_sha256"] == hashlib.sha256(before).hexdigest()
    with pytest.raises(T2IEvalError, match=r"does not contain adapter_config\.json"):
        train_sft(examples, pictures, model, settings.model_copy(update={"start": str(tmp_path)}), tmp_path / "none")


def test_no_training_fold_is_named(base_model: Path, examples, pictures, tmp_path: Path) -> None:
    held_out = examples[examples["fold"] == "validation"]
    with pytest.raises(T2IEvalError, match="fold 'train'"):
        train_sft(held_out, pictures, settings_of(ModelSettings, model=str(base_model)), SHORT, tmp_path / "a")


def test_long_examples_are_left_out_and_counted(
    base_model: Path, examples, pictures, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = SHORT.model_copy(update={"max_length": 28, "max_steps": 1, "eval_examples": 0})
    train_sft(examples, pictures, settings_of(ModelSettings, model=str(base_model)), settings, tmp_path / "a")
    assert "44 of 88 examples are longer than 28 tokens" in caplog.text
    kept = json.loads((tmp_path / "a" / "settings.json").read_text())["data"]["examples"]
    assert kept == {"score": 44}


def test_examples_longer_than_the_model_reads_are_left_out_counted_and_named(
    base_model: Path, examples, pictures, caplog: pytest.LogCaptureFixture
) -> None:
    long = examples.iloc[:3].copy()
    long["completion"] = long["completion"].where(long.index != long.index[1], "very " * 3000)
    encoder = Encoder(long, load_processor(base_model), pictures)
    assert encoder.rows_within(None, 2048) == [0, 2]
    assert (
        f"1 of 3 examples are longer than 2048 tokens (what the model reads) and are left out: {long['example_id'].iloc[1]}"
        in caplog.text
    )
    assert encoder.rows_within(None, None) == [0, 1, 2]


def test_a_loss_that_is_no_number_stops(base_model: Path, examples, pictures, tmp_path: Path) -> None:
    settings = SHORT.model_copy(update={"learning_rate": 1e30, "max_grad_norm": 1e30, "logging_steps": 1})
    with pytest.raises(T2IEvalError, match=r"not a finite number at step \d+ of 6; lower the learning rate"):
        train_sft(examples, pictures, settings_of(ModelSettings, model=str(base_model)), settings, tmp_path / "a")
    assert not list(tmp_path.iterdir())


def test_the_last_good_checkpoint_outlives_a_loss_that_is_no_number(
    base_model: Path, examples, pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss turns at step 3; a row of the curve is due only at step 6, a checkpoint at every step."""
    from t2i_eval_kedro.training.answer_loss import AnswerLossTrainer

    plain = AnswerLossTrainer.compute_loss

    def breaks(self: AnswerLossTrainer, *args: Any, **kwargs: Any) -> Any:
        loss = plain(self, *args, **kwargs)
        return loss * float("nan") if self.state.global_step >= 2 else loss

    monkeypatch.setattr(AnswerLossTrainer, "compute_loss", breaks)
    settings = SHORT.model_copy(update={"save_steps": 1, "logging_steps": 6, "eval_examples": 0})
    work = tmp_path / "work"
    with pytest.raises(
        T2IEvalError, match=r"not a finite number at step 3 of 6.* the last good checkpoint is in '.*work'"
    ):
        train_sft(
            examples,
            pictures,
            settings_of(ModelSettings, model=str(base_model), device="cpu"),
            settings,
            tmp_path / "a",
            checkpoint_dir=work,
        )
    assert {path.name for path in work.glob("checkpoint-*")} == {"checkpoint-1", "checkpoint-2"}


def test_training_stops_early_and_keeps_the_best(base_model: Path, examples, pictures, tmp_path: Path) -> None:
    """With a learning rate that undoes what was learned, the validation loss rises from the first step on."""
    settings = settings_of(
        SFTSettings,
        max_steps=12,
        batch_size=8,
        learning_rate=0.5,
        schedule="constant",
        eval_steps=1,
        eval_examples=8,
        patience=2,
        lora=settings_of(LoraSettings, r=2, alpha=4),
    )
    curve = train_sft(
        examples, pictures, settings_of(ModelSettings, model=str(base_model), device="cpu"), settings, tmp_path / "a"
    )
    losses = curve.set_index("step")["validation_loss"].dropna()
    stopped, best = int(losses.index[-1]), int(losses.idxmin())
    assert stopped == best + 2 < 12
    one = settings.model_copy(update={"max_steps": best, "patience": None})
    train_sft(examples, pictures, settings_of(ModelSettings, model=str(base_model), device="cpu"), one, tmp_path / "b")
    weights = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]


def test_a_run_that_is_resumed_still_knows_how_often_it_got_no_better(
    base_model: Path, examples, pictures, tmp_path: Path
) -> None:
    """Cut off after one validation without a lower loss, of the two that end it."""
    settings = settings_of(
        SFTSettings,
        max_steps=12,
        batch_size=8,
        learning_rate=0.5,
        schedule="constant",
        eval_steps=1,
        eval_examples=8,
        patience=2,
        image_cache_mb=0,
        lora=settings_of(LoraSettings, r=2, alpha=4),
    )
    model = settings_of(ModelSettings, model=str(base_model), device="cpu")
    whole = train_sft(examples, pictures, model, settings, tmp_path / "a")
    last = whole["step"].iloc[-1]
    work = tmp_path / "work"

    class Interrupted(Pictures):
        def image(self, key: str) -> Image.Image:
            if (work / f"checkpoint-{last - 1}" / "files.json").exists():
                raise KeyboardInterrupt
            return super().image(key)

    with pytest.raises(KeyboardInterrupt):
        train_sft(examples, Interrupted(pictures.images), model, settings, tmp_path / "b", checkpoint_dir=work)
    again = train_sft(examples, pictures, model, settings, tmp_path / "b", checkpoint_dir=work)
    pd.testing.assert_frame_equal(again, whole)


def test_settings_that_can_have_no_effect_are_refused(base_model: Path, examples, pictures, tmp_path: Path) -> None:
    model = settings_of(ModelSettings, model=str(base_model), device="cpu")
    stops = SHORT.model_copy(update={"eval_steps": 1, "eval_examples": 8, "patience": 1})
    with pytest.raises(T2IEvalError, match=r"sft\.patience .* no validation example"):
        train_sft(examples[examples["fold"] == "train"], pictures, model, stops, tmp_path / "a")
    drawn = examples.assign(frequency=[2.0, *[0.9] * (len(examples) - 1)])
    with pytest.raises(T2IEvalError, match=r"sft\.group_by_length=true .*rebalancing\.method=weighted"):
        train_sft(drawn, pictures, model, SHORT.model_copy(update={"group_by_length": True}), tmp_path / "a")


def test_a_training_shorter_than_its_log_and_one_that_was_cut_off_say_what_they_took(
    base_model: Path, examples, pictures, tmp_path: Path
) -> None:
    model = settings_of(ModelSettings, model=str(base_model), device="cpu")
    brief = SHORT.model_copy(update={"max_steps": 2, "logging_steps": 10, "eval_examples": 0})
    curve = train_sft(examples, pictures, model, brief, tmp_path / "a")
    assert curve.attrs["steps"] == 2
    assert 0 <= curve.attrs["seconds"] < 60  # two steps may take less than a tenth of one
    work = tmp_path / "work"

    class Interrupted(Pictures):
        def image(self, key: str) -> Image.Image:
            if (work / "checkpoint-1" / "files.json").exists():
                raise KeyboardInterrupt
            time.sleep(0.2)
            return super().image(key)

    saving = SHORT.model_copy(
        update={"max_steps": 2, "save_steps": 1, "eval_examples": 0, "image_cache_mb": 0, "batch_size": 8}
    )
    with pytest.raises(KeyboardInterrupt):
        train_sft(examples, Interrupted(pictures.images), model, saving, tmp_path / "b", checkpoint_dir=work)
    resumed = train_sft(examples, pictures, model, saving, tmp_path / "b", checkpoint_dir=work)
    assert resumed.attrs["steps"] == 2
    assert resumed.attrs["seconds"] > 4 * 0.2  # which the first step waited for its images


def test_the_last_validation_is_made_once(
    base_model: Path, examples, pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    validated = []
    plain = AnswerLossTrainer.evaluate
    monkeypatch.setattr(
        AnswerLossTrainer, "evaluate", lambda self, *given, **named: validated.append(1) or plain(self, *given, **named)
    )
    model = settings_of(ModelSettings, model=str(base_model), device="cpu")
    for every, times in ((1, 2), (2, 1), (5, 1), (0, 1)):
        settings = SHORT.model_copy(update={"max_steps": 2, "eval_steps": every, "eval_examples": 4})
        curve = train_sft(examples, pictures, model, settings, tmp_path / str(every))
        assert curve["validation_loss"].notna().iloc[-1]
        assert len(validated) == times
        validated.clear()


def test_the_vision_tower_can_be_left_alone(base_model: Path, examples, pictures, tmp_path: Path) -> None:
    from safetensors import safe_open

    lora = settings_of(LoraSettings, r=2, alpha=2, vision=False)
    settings = SHORT.model_copy(update={"lora": lora, "max_steps": 1, "eval_examples": 0})
    train_sft(examples, pictures, settings_of(ModelSettings, model=str(base_model)), settings, tmp_path / "a")
    with safe_open(tmp_path / "a" / "adapter_model.safetensors", "pt") as weights:
        names = list(weights.keys())
    assert names
    assert all("language_model" in name for name in names)


def test_the_embeddings_of_the_levels_can_be_trained(base_model: Path, examples, pictures, tmp_path: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    settings = SHORT.model_copy(
        update={"lora": settings_of(LoraSettings, r=2, alpha=2, score_tokens=True), "eval_examples": 0}
    )
    train_sft(examples, pictures, settings_of(ModelSettings, model=str(base_model)), settings, tmp_path / "a")
    trained = load_model(base_model, adapter=tmp_path / "a", merge=True, device="cpu")
    changed = trained.get_input_embeddings().weight - load_model(base_model, device="cpu").get_input_embeddings().weight
    levels = score_tokens(examples, load_processor(base_model))
    assert len(levels) == 11
    assert changed.abs().sum(dim=1).nonzero().flatten().tolist() == sorted(levels)
    plain = PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained(base_model), tmp_path / "a").eval()
    ids = torch.tensor([[3, 10, 11, 4]])
    with torch.no_grad():  # the output layer is tied to the embeddings, and has changed with them
        torch.testing.assert_close(trained(input_ids=ids).logits, plain(input_ids=ids).logits, atol=1e-5, rtol=1e-4)
        assert torch.equal(trained.get_output_embeddings().weight, trained.get_input_embeddings().weight)


CHECKPOINTED = settings_of(
    SFTSettings,
    max_steps=60,
    batch_size=8,
    logging_steps=2,
    save_steps=4,
    eval_examples=0,
    lora=settings_of(LoraSettings, r=4, alpha=8, dropout=0.1),
)
SCRIPT = """
import sys
import pandas as pd
from pathlib import Path
here = Path({this!r}).parent
sys.path[:0] = [str(here), str(here.parent)]
from random_model import make_pictures
from test_sft import CHECKPOINTED, ModelSettings, settings_of, train_sft
train_sft(pd.read_parquet({examples!r}), make_pictures(), settings_of(ModelSettings, model={model!r}), CHECKPOINTED, Path({out!r}),
          checkpoint_dir=Path({checkpoints!r}))
"""


def test_a_killed_run_goes_on_to_the_same_bytes(base_model: Path, examples, pictures, tmp_path: Path) -> None:
    examples.to_parquet(tmp_path / "examples.parquet")
    checkpoints, cut, whole = tmp_path / "checkpoints", tmp_path / "cut", tmp_path / "whole"
    script = SCRIPT.format(
        this=__file__,
        examples=str(tmp_path / "examples.parquet"),
        model=str(base_model),
        out=str(cut),
        checkpoints=str(checkpoints),
    )
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 60
        while not list(checkpoints.glob("checkpoint-*/files.json")):
            assert process.poll() is None, process.stderr.read().decode()[-2000:]
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert not cut.exists()
    model = settings_of(ModelSettings, model=str(base_model))
    train_sft(examples, pictures, model, CHECKPOINTED, cut, checkpoint_dir=checkpoints)
    train_sft(examples, pictures, model, CHECKPOINTED, whole)
    for path in whole.iterdir():
        assert path.read_bytes() == (cut / path.name).read_bytes(), path.name
    assert not checkpoints.exists()


def test_a_run_killed_after_its_last_step_makes_no_further_one(
    base_model: Path, examples, pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the last checkpoint and the adapter; the rate is constant, so that one step more would be seen."""
    model = settings_of(ModelSettings, model=str(base_model), device="cpu")
    settings = CHECKPOINTED.model_copy(
        update={"max_steps": 3, "save_steps": 1, "eval_examples": 4, "trl": {"lr_scheduler_type": "constant"}}
    )
    work, cut, whole = tmp_path / "work", tmp_path / "cut", tmp_path / "whole"

    def killed(*given: object, **named: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sft, "save_adapter", killed)
        with pytest.raises(KeyboardInterrupt):
            train_sft(examples, pictures, model, settings, cut, checkpoint_dir=work)
    assert (work / "checkpoint-3" / "files.json").is_file()
    train_sft(examples, pictures, model, settings, cut, checkpoint_dir=work)
    train_sft(examples, pictures, model, settings, whole)
    for path in whole.iterdir():
        assert path.read_bytes() == (cut / path.name).read_bytes(), path.name


TRUNCATED = ("trainer_state.json", "optimizer.pt", "adapter_model.safetensors", "files.json")


@pytest.mark.parametrize("name", TRUNCATED)
def test_a_truncated_checkpoint_is_not_resumed(
    base_model: Path, examples, pictures, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    model = settings_of(ModelSettings, model=str(base_model), device="cpu")
    settings = CHECKPOINTED.model_copy(update={"max_steps": 3, "save_steps": 1})
    work, interrupted, undisturbed = tmp_path / "work", tmp_path / "interrupted", tmp_path / "undisturbed"

    class Interrupted(Pictures):
        def image(self, key: str) -> Image.Image:
            if (work / "checkpoint-2" / "files.json").exists():
                raise KeyboardInterrupt
            return super().image(key)

    uncached = settings.model_copy(update={"image_cache_mb": 0})
    with pytest.raises(KeyboardInterrupt):
        train_sft(examples, Interrupted(pictures.images), model, uncached, interrupted, checkpoint_dir=work)
    content = (work / "checkpoint-2" / name).read_bytes()
    (work / "checkpoint-2" / name).write_bytes(content[: len(content) // 2])
    with caplog.at_level(logging.INFO):
        train_sft(examples, pictures, model, uncached, interrupted, checkpoint_dir=work)
    assert "The checkpoint of step 2 is partial and is deleted." in caplog.text
    assert "Resuming from step 1." in caplog.text
    train_sft(examples, pictures, model, settings, undisturbed)
    weights = "adapter_model.safetensors"
    assert (interrupted / weights).read_bytes() == (undisturbed / weights).read_bytes()


class Slow(Pictures):
    """Images that take .04 s each to read."""

    def image(self, key: str) -> Image.Image:
        time.sleep(0.04)
        return super().image(key)


def steps_of(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make each forward pass and its gradient take ``seconds`` in place of computing them, as a GPU would."""
    compute = AnswerLossTrainer.training_step

    def step(self: AnswerLossTrainer, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        until = time.monotonic() + seconds
        loss = compute(self, model, inputs, *args, **kwargs)
        time.sleep(max(0.0, until - time.monotonic()))
        return loss

    monkeypatch.setattr(AnswerLossTrainer, "training_step", step)


@pytest.mark.slow
def test_loader_workers_keep_the_training_from_waiting_and_change_nothing(
    base_model: Path,
    examples,
    pictures,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Steps of .2 s whose batch takes .16 s to read: with two workers less than a twentieth of the time is waited."""
    steps_of(0.2, monkeypatch)
    waited, weights = {}, {}
    for workers in (0, 2):
        settings = SHORT.model_copy(
            update={
                "max_steps": 20,
                "batch_size": 4,
                "image_cache_mb": 0,
                "eval_examples": 0,
                "loader_workers": workers,
            }
        )
        folder = tmp_path / str(workers)
        with caplog.at_level(logging.INFO):
            train_sft(
                examples,
                Slow(pictures.images),
                settings_of(ModelSettings, model=str(base_model), device="cpu"),
                settings,
                folder,
            )
        waited[workers] = float(re.findall(r"Waited for examples ([\d.]+)% of the time", caplog.text)[-1])
        weights[workers] = (folder / "adapter_model.safetensors").read_bytes()
    assert waited[0] > 10
    assert waited[2] < waited[0] / 2
    if os.getloadavg()[0] < (os.cpu_count() or 1):  # else the workers themselves wait for a processor
        assert waited[2] < 5
    assert weights[0] == weights[2]


def test_checkpoints_of_another_run_are_not_used(
    base_model: Path, examples, pictures, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = tmp_path / "checkpoints"
    (checkpoints / "checkpoint-4").mkdir(parents=True)
    (checkpoints / "run.json").write_text("another")
    train_sft(examples, pictures, settings_of(ModelSettings, model=str(base_model)), SHORT, tmp_path / "a")
    settings = SHORT.model_copy(update={"save_steps": 4})
    model = settings_of(ModelSettings, model=str(base_model))
    train_sft(examples, pictures, model, settings, tmp_path / "b", checkpoint_dir=checkpoints)
    assert "belong to another run and are deleted" in caplog.text
    weights = "adapter_model.safetensors"
    assert (tmp_path / "a" / weights).read_bytes() == (tmp_path / "b" / weights).read_bytes()


def test_fields_of_trl_pass_through_under_their_own_names(base_model: Path, examples, pictures, tmp_path: Path) -> None:
    """Loader workers change nothing; another optimiser does."""
    model = settings_of(ModelSettings, model=str(base_model), device="cpu")
    short = {"max_steps": 2, "eval_examples": 0, "save_steps": 0}
    weights = {}
    for name, options in (("plain", {}), ("workers", {"dataloader_num_workers": 2}), ("optimiser", {"optim": "sgd"})):
        settings = SHORT.model_copy(update={**short, "trl": options})
        train_sft(examples, pictures, model, settings, tmp_path / name)
        weights[name] = (tmp_path / name / "adapter_model.safetensors").read_bytes()
        assert json.loads((tmp_path / name / "settings.json").read_text())["settings"]["trl"] == options
    assert weights["plain"] == weights["workers"] != weights["optimiser"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optm": "sgd"}, "no field 'optm'; did you mean 'optim'"),
        ({"num_generations": 4}, "no field 'num_generations'"),  # of GRPOConfig alone
        ({"max_steps": 4}, "'max_steps' of trl's SFTConfig is set by this project: use max_steps beside trl"),
    ],
)
def test_a_field_that_trl_does_not_have_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        settings_of(SFTSettings, max_steps=1, trl=options)
    assert settings_of(GRPOSettings, trl={"epsilon_high": 0.3, "top_p": 0.9}).trl["top_p"] == 0.9


def test_large_images_reach_training_and_judging_at_one_size(
    base_model: Path, examples, pictures, tmp_path: Path
) -> None:
    sizes: list[tuple[int, int]] = []

    class Large(Pictures):
        def image(self, key: str) -> Image.Image:
            return super().image(key).resize((640, 320))

    processor = type(load_processor(base_model).image_processor)
    plain = processor.preprocess

    def recorded(self: Any, images: Any, *args: Any, **kwargs: Any) -> Any:
        flat = [picture for group in images for picture in (group if isinstance(group, list) else [group])]
        sizes.extend(
            picture.size for picture in flat if picture.getbbox()
        )  # not the black one by which a processor is tried
        return plain(self, images, *args, **kwargs)

    model = settings_of(ModelSettings, model=str(base_model), device="cpu", max_pixels=100 * 100)
    settings = yaml.safe_load((Path(__file__).parents[2] / "conf/base/parameters_judging.yml").read_text())["judging"]
    request = Request("3", "a", "score", "", (ChatMessage("user", "Score it.", ("3",)),), 3, ("1", "2"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processor, "preprocess", recorded)
        train_sft(examples, Large(pictures.images), model, SHORT.model_copy(update={"max_steps": 1}), tmp_path / "a")
        in_training = set(sizes)
        sizes.clear()
        backend = open_backend(model, tmp_path / "a", Large(pictures.images), JudgingSettings.model_validate(settings))
        assert len(dict(backend.answer([request]))) == 1
    assert set(sizes) == in_training == {(141, 70)}
