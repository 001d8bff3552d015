from __future__ import annotations

import json
from pathlib import Path

import torch
from click.testing import CliRunner
from plain_settings import settings_of
from transformers import AutoModelForImageTextToText

from t2i_eval_kedro.cli.merge_adapter import merge
from t2i_eval_kedro.models.loading import load_model
from t2i_eval_kedro.models.processors import encode, load_processor
from t2i_eval_kedro.models.settings import ModelSettings
from t2i_eval_kedro.training.settings import LoraSettings, SFTSettings
from t2i_eval_kedro.training.sft import train_sft


def test_a_merged_model_answers_as_base_and_adapter_do(base_model: Path, examples, pictures, tmp_path: Path) -> None:
    settings = settings_of(
        SFTSettings,
        max_steps=4,
        batch_size=8,
        eval_examples=0,
        lora=settings_of(LoraSettings, r=4, alpha=8, score_tokens=True),
    )
    train_sft(
        examples, pictures, settings_of(ModelSettings, model=str(base_model), device="cpu"), settings, tmp_path / "sft"
    )
    words = [str(tmp_path / "sft"), str(tmp_path / "merged"), "--model", str(base_model), "--dtype", "float32"]
    result = CliRunner().invoke(merge, [*words, "--licence", "MIT"])
    assert result.exit_code == 0, result.output
    inputs = encode(load_processor(base_model), [[{"role": "user", "text": "Score it.", "images": ["3"]}]], pictures)
    merged = AutoModelForImageTextToText.from_pretrained(tmp_path / "merged").eval()
    with torch.no_grad():
        expected = load_model(base_model, adapter=tmp_path / "sft", device="cpu")(**inputs).logits
        torch.testing.assert_close(merged(**inputs).logits, expected, atol=1e-4, rtol=1e-4)
        assert (load_model(base_model, device="cpu")(**inputs).logits - expected).abs().max() > 1e-3
    assert load_processor(tmp_path / "merged").chat_template == load_processor(base_model).chat_template
    assert "license: mit" in (tmp_path / "merged" / "README.md").read_text()
    assert not list((tmp_path / "merged").glob("*.bin"))
    assert "adapter" not in json.loads((tmp_path / "merged" / "config.json").read_text())


def test_an_adapter_of_another_model_is_refused(base_model: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(merge, [str(tmp_path), str(tmp_path / "out"), "--model", str(base_model)])
    assert result.exit_code == 1
    assert "does not contain adapter_config.json" in result.output
