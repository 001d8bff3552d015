"""A base model in 4 bits: what is stored so, how it trains, and how it judges."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from plain_settings import settings_of
from random_model import Pictures, build_model

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.evaluators import JudgingSettings
from t2i_eval_kedro.judging.local_models import cache_answers, open_backend
from t2i_eval_kedro.judging.protocols.base import ChatMessage, Request
from t2i_eval_kedro.models.loading import load_model, outside_text_model
from t2i_eval_kedro.models.processors import encode, load_processor
from t2i_eval_kedro.models.settings import ModelSettings
from t2i_eval_kedro.training.checkpoints import run_hash
from t2i_eval_kedro.training.grpo import train_grpo
from t2i_eval_kedro.training.launch import SFTJob, run
from t2i_eval_kedro.training.settings import GRPOSettings, LaunchSettings, LoraSettings, SFTSettings
from t2i_eval_kedro.training.sft import train_sft

CONF = Path(__file__).parents[2] / "conf" / "base"
ASK = [{"role": "user", "text": "rate overall", "images": ["3"]}]
SETTINGS = settings_of(
    SFTSettings,
    max_steps=16,
    batch_size=8,
    logging_steps=4,
    eval_examples=0,
    lora=settings_of(LoraSettings, r=4, alpha=8, score_tokens=True),
)


def parse(answer: str) -> float | None:
    return float(answer) if answer in {str(level) for level in range(11)} else None


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelSettings:
    folder = build_model(tmp_path_factory.mktemp("model") / "tiny-llava", width=128)
    return settings_of(ModelSettings, model=str(folder), device="cpu", quantize="4bit")


@pytest.fixture(scope="module")
def trained(
    model: ModelSettings, examples, pictures, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, pd.DataFrame]:
    folder = tmp_path_factory.mktemp("quantized") / "sft"
    return folder, train_sft(examples, pictures, model, SETTINGS, folder)


def test_the_text_model_alone_is_in_4_bits_and_answers_nearly_as_before(model: ModelSettings, pictures) -> None:
    import torch
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn import Linear4bit
    from torch.nn import Linear

    whole, small = load_model(model.model, device="cpu"), load_model(model.model, device="cpu", quantize="4bit")
    for name, module in small.named_modules():
        if isinstance(module, Linear):  # which a layer of 4 bits is, too
            assert isinstance(module, Linear4bit) == ("language_model" in name), name
            if isinstance(module, Linear4bit):
                weight, state = whole.get_submodule(name).weight, module.weight.quant_state
                assert (module.weight.dtype, module.weight.numel()) == (torch.uint8, weight.numel() / 2)
                assert (state.quant_type, state.nested) == ("nf4", True)
                lost = (dequantize_4bit(module.weight, state) - weight).square().mean() / weight.square().mean()
                assert lost.sqrt() < 0.1, name  # 0.092 for Gaussian weights
    request = encode(load_processor(model.model), [ASK], pictures)
    with torch.no_grad():
        logits = [loaded(**request).logits.flatten() for loaded in (whole, small)]
    assert torch.corrcoef(torch.stack(logits))[0, 1] > 0.9  # 0.94: each weight has an error of 9%
    assert (logits[0] - logits[1]).abs().max() > 1e-3  # it is not the same model either


def test_a_model_whose_rows_are_no_whole_blocks_is_refused(tmp_path: Path) -> None:
    folder = build_model(tmp_path / "narrow", width=48)  # with inputs 48 and 96 wide
    with pytest.raises(
        T2IEvalError, match=r"No linear layer of the text model of .*narrow' has inputs a multiple of 64"
    ):
        load_model(folder, device="cpu", quantize="4bit")


def test_an_adapter_trains_on_it(trained: tuple[Path, pd.DataFrame]) -> None:
    from safetensors.numpy import load_file

    folder, curve = trained
    assert curve["loss"].iloc[-1] < curve["loss"].iloc[0] - 0.5
    weights = load_file(folder / "adapter_model.safetensors")
    assert {str(values.dtype) for values in weights.values()} == {"float32"}
    assert any(values.any() for name, values in weights.items() if "lora_B" in name)
    assert json.loads((folder / "settings.json").read_text())["base_model"]["quantize"] == "4bit"


def test_the_adapter_is_not_merged_into_4_bits(trained: tuple[Path, pd.DataFrame], model: ModelSettings) -> None:
    from peft import PeftModel

    assert isinstance(load_model(model.model, adapter=trained[0], device="cpu", quantize="4bit", merge=True), PeftModel)


def test_grpo_goes_on_from_it(
    trained: tuple[Path, pd.DataFrame], model: ModelSettings, examples, pictures, tmp_path: Path
) -> None:
    settings = settings_of(
        GRPOSettings,
        max_steps=1,
        logging_steps=1,
        prompts_per_step=4,
        generations=4,
        batch_size=16,
        max_completion_length=3,
    )
    curve = train_grpo(examples, pictures, model, trained[0], settings, {"score": parse}, tmp_path / "grpo")
    assert curve["step"].tolist() == [1]
    assert json.loads((tmp_path / "grpo" / "settings.json").read_text())["base_model"]["quantize"] == "4bit"


class Encoded(Pictures):
    """Pictures that are told apart by their keys."""

    def read(self, key: str) -> bytes:
        return key.encode()


def test_the_answers_of_the_float_model_are_not_those_of_4_bits(
    trained: tuple[Path, pd.DataFrame], model: ModelSettings, pictures, tmp_path: Path
) -> None:
    requests = [
        Request(key, text, "task", "", (ChatMessage("user", text, (key,)),), 6, ("1", "2", "3"))
        for key in ("2", "9")
        for text in ("Score the image.", "Score it again.")
    ]
    store = Encoded(pictures.images)
    given = {}
    settings = yaml.safe_load((CONF / "parameters_judging.yml").read_text())["judging"]
    judging = JudgingSettings.model_validate(settings | {"answers": str(tmp_path / "answers.db"), "batch_size": 4})
    for quantize in (None, "4bit"):
        chosen = model.model_copy(update={"quantize": quantize})
        backend = open_backend(chosen, trained[0], store, judging)  # type: ignore[arg-type]
        kept = cache_answers(backend, chosen, trained[0], store, judging)  # type: ignore[arg-type]
        given[quantize] = {place: dict(answer.probabilities) for place, answer in kept.answer(requests)}
        fresh = {place: dict(answer.probabilities) for place, answer in backend.answer(requests)}
        assert given[quantize] == {place: pytest.approx(shares) for place, shares in fresh.items()}
    assert given[None][0] != pytest.approx(given["4bit"][0], abs=1e-4)


def test_checkpoints_of_another_precision_or_size_of_image_are_of_another_run(model: ModelSettings) -> None:
    def hashed(**changed: object) -> str:
        return run_hash("sft", model.model_copy(update=changed), SETTINGS)

    assert len({hashed(), hashed(quantize=None), hashed(max_pixels=4096), hashed(min_pixels=16)}) == 4
    assert run_hash("sft", model, SETTINGS.model_copy(update={"loader_workers": 7})) == hashed()


def test_without_bitsandbytes_the_extra_is_named(base_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)  # what makes Python not find a package
    with pytest.raises(T2IEvalError, match=r"pip install 't2i-eval-kedro\[quantize\]', or set model\.quantize=null"):
        load_model(base_model, device="cpu", quantize="4bit")


def test_a_model_in_4_bits_is_not_sharded(model: ModelSettings, examples, pictures, tmp_path: Path) -> None:
    job = SFTJob(model=model, settings=SETTINGS, data_note="Made up.")
    with pytest.raises(T2IEvalError, match="4-bit base model cannot be sharded"):
        run(
            job,
            examples,
            pictures,
            settings_of(LaunchSettings, accelerate="conf/gpu/accelerate/fsdp2.yml"),
            tmp_path / "sft",
        )


def test_a_model_that_names_no_text_model_is_refused(base_model: Path) -> None:
    text = load_model(base_model, device="cpu").get_decoder()
    with pytest.raises(T2IEvalError, match="does not tell its text model from the rest"):
        outside_text_model(text)
