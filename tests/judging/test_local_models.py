"""No kept answer outlives what decided it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import yaml
from plain_settings import settings_of

from t2i_eval_kedro.judging.evaluators import JudgingSettings
from t2i_eval_kedro.judging.local_models import cache_answers, open_backend, processor_fingerprint
from t2i_eval_kedro.judging.protocols.base import Answer, ChatMessage, Request
from t2i_eval_kedro.judging.shards import BatchImages
from t2i_eval_kedro.models.processors import load_processor
from t2i_eval_kedro.models.settings import ModelSettings

ROOT = Path(__file__).parents[2]
REQUEST = Request("i", "s", "t", "", (ChatMessage("user", "score ?", ("a.png",)),), 4)


class Counting:
    def __init__(self) -> None:
        self.asked = 0

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        for i, _ in enumerate(requests):
            self.asked += 1
            yield i, Answer("7")


def change_json(path: Path, change: Callable[[dict], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def larger(content: dict) -> None:
    (content.get("image_processor") or content)["size"] = {"height": 32, "width": 32}


CHANGES: dict[str, Callable[[Path, Path], object]] = {
    "size of images": lambda model, _: change_json(
        next(path for path in (model / "preprocessor_config.json", model / "processor_config.json") if path.is_file()),
        larger,
    ),
    "chat template": lambda model, _: (model / "chat_template.jinja").write_text(
        (model / "chat_template.jinja").read_text() + " "
    ),
    "tokenizer": lambda model, _: change_json(
        model / "tokenizer.json", lambda content: content.update(normalizer={"type": "Lowercase"})
    ),
    "configuration of the adapter": lambda _, adapter: (adapter / "adapter_config.json").write_text(
        '{"lora_alpha": 2}'
    ),
    "weights of the adapter": lambda _, adapter: (adapter / "adapter_model.safetensors").write_bytes(b"other"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_whatever_decides_an_answer_is_in_its_name(tmp_path: Path, what: str) -> None:
    model, adapter = tmp_path / "model", tmp_path / "adapter"
    shutil.copytree(ROOT / "data/06_models/tiny_vlm", model)
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"lora_alpha": 1}')
    (adapter / "adapter_model.safetensors").write_bytes(b"weights")
    given = yaml.safe_load((ROOT / "conf/base/parameters_judging.yml").read_text())["judging"]
    judging = JudgingSettings.model_validate(given | {"answers": str(tmp_path / "answers.sqlite")})
    backend, images = Counting(), BatchImages({"a.png": b"image"})

    def ask() -> int:
        settings = settings_of(ModelSettings, model=str(model), device="cpu")
        list(cache_answers(backend, settings, adapter, images, judging).answer([REQUEST]))
        return backend.asked

    assert [ask(), ask()] == [1, 1]
    CHANGES[what](model, adapter)
    assert ask() == 2


def test_options_of_vllm_reach_its_engine_by_their_names_and_are_in_the_name_of_an_answer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from t2i_eval_kedro.judging.backends import vllm

    given = yaml.safe_load((ROOT / "conf/base/parameters_judging.yml").read_text())["judging"]
    options = {"gpu_memory_utilization": 0.5, "tensor_parallel_size": 2}
    answers = {"answers": str(tmp_path / "answers.sqlite"), "backend": "vllm"}
    plain, tuned = (JudgingSettings.model_validate(given | answers | {"vllm": more}) for more in ({}, options))
    started: list[dict[str, object]] = []
    monkeypatch.setattr(vllm, "VLLMBackend", lambda *_, **engine: started.append(engine))
    model, images = (
        settings_of(ModelSettings, model=str(ROOT / "data/06_models/tiny_vlm")),
        BatchImages({"a.png": b"image"}),
    )
    open_backend(model, None, images, tuned)
    assert options.items() <= started[0].items()
    backend = Counting()
    for judging, asked in ((plain, 1), (plain, 1), (tuned, 2)):
        list(cache_answers(backend, model, None, images, judging).answer([REQUEST]))
        assert backend.asked == asked
    for name in ("dtype", "max_lora_rank"):
        with pytest.raises(ValueError, match=f"'{name}' of vllm.LLM is set by this project"):
            JudgingSettings.model_validate(given | {"vllm": {name: 1}})


def test_the_fingerprint_of_a_processor_does_not_depend_on_what_it_did() -> None:
    processor = load_processor(ROOT / "data/06_models/tiny_vlm")
    before = processor_fingerprint(processor)
    processor.tokenizer(["a cat", "a"], padding=True, truncation=True, max_length=2)
    assert (
        processor_fingerprint(processor)
        == before
        == processor_fingerprint(load_processor(ROOT / "data/06_models/tiny_vlm"))
    )
