"""The vLLM backend. Where vLLM is not installed (it needs a GPU, or a build for CPUs), only what it refuses before it starts."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from t2i_eval_kedro.datasets.image_store import decode
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.backends.vllm import VLLMBackend
from t2i_eval_kedro.judging.engine import judge
from t2i_eval_kedro.judging.known_elements import elements_by_prompt
from t2i_eval_kedro.judging.protocols import EvaluationItem, Wording
from t2i_eval_kedro.judging.protocols.registry import build
from t2i_eval_kedro.models.loading import load_model
from t2i_eval_kedro.models.processors import load_processor
from t2i_eval_kedro.shapes.make import make_shapes

TINY = Path(__file__).parents[3] / "data/06_models/tiny_vlm"
SHAPES = make_shapes(4)


class Pictures:
    def __init__(self) -> None:
        self.data = dict(SHAPES.images)

    def image(self, key: str):
        return decode(self.data[key])


def test_without_vllm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "vllm", None)  # what makes Python not find a package
    with pytest.raises(T2IEvalError, match=r"needs the extra 'vllm'.*judging\.backend=transformers"):
        VLLMBackend(str(TINY), load_processor(TINY), Pictures())


def test_an_adapter_with_trained_embeddings_is_refused(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 16, "trainable_token_indices": [7, 8]}))
    (tmp_path / "adapter_model.safetensors").touch()
    with pytest.raises(T2IEvalError, match=r"trained embeddings of tokens .* which vLLM does not apply"):
        VLLMBackend(str(TINY), load_processor(TINY), Pictures(), adapter=tmp_path)


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("vision_tower.encoder.layers.0.self_attn.q_proj", r"trained more than the text model .*kedro merge-adapter"),
        ("visual.blocks.0.attn.qkv", r"trained more than the text model"),
        ("language_model.layers.0.self_attn.q_proj", r"needs the extra 'vllm'"),  # which comes next
    ],
)
def test_an_adapter_of_the_vision_tower_is_refused(
    tmp_path: Path, place: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "vllm", None)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 4}))
    name = f"base_model.model.model.{place}.lora_A.weight"
    save_file({name: torch.zeros(4, 4)}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(T2IEvalError, match=said):
        VLLMBackend(str(TINY), load_processor(TINY), Pictures(), adapter=tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed")
def test_vllm_answers_as_transformers_does(tmp_path: Path, compact: Wording) -> None:
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    from t2i_eval_kedro.judging.backends.transformers import TransformersBackend

    config = LlavaConfig.from_pretrained(TINY)
    config.text_config.hidden_size = 128  # heads of 32: vLLM knows none of 24
    torch.manual_seed(0)
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    shutil.copytree(TINY, ours)
    LlavaForConditionalGeneration(config).save_pretrained(ours)
    shutil.copytree(ours, theirs)
    weights = load_file(ours / "model.safetensors")
    renamed = {k.replace("vision_tower.", "vision_tower.vision_model."): v for k, v in weights.items()}
    save_file(renamed, theirs / "model.safetensors", metadata={"format": "pt"})  # as transformers 4 named them

    elements = elements_by_prompt(SHAPES.elements)
    asked = [
        EvaluationItem(row.item_id, row.prompt, row.image, {"overall": ""}, elements[row.prompt_id])
        for row in SHAPES.items.itertuples()
    ]
    asked.append(EvaluationItem("bad", "x", "none.png", {"overall": ""}))
    processor = load_processor(ours)
    plain = TransformersBackend(load_model(ours, device="cpu"), processor, Pictures())
    fast = VLLMBackend(str(theirs), processor, Pictures(), max_model_len=1024, enforce_eager=True)
    for name in ("levels", "pn_vqa", "decomposed"):
        one, other = (judge(asked, build(name, compact), backend, name="x") for backend in (plain, fast))
        assert list(one.scores["status"]) == list(other.scores["status"])
        assert one.scores["score"].to_numpy(float) == pytest.approx(
            other.scores["score"].to_numpy(float), abs=1e-3, nan_ok=True
        )
        assert list(one.transcripts["answer"]) == list(other.transcripts["answer"])
