"""Architectures beyond the default one load, judge and train."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from architectures import ARCHITECTURES, images_only, save
from PIL import Image
from plain_settings import settings_of
from transformers.utils import is_torchvision_available

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.backends.transformers import TransformersBackend
from t2i_eval_kedro.judging.protocols.base import Answer, ChatMessage, Request
from t2i_eval_kedro.models.loading import load_model, load_processor
from t2i_eval_kedro.models.settings import ModelSettings
from t2i_eval_kedro.schema import EXAMPLES, FAILED, OK
from t2i_eval_kedro.training.settings import LoraSettings, SFTSettings
from t2i_eval_kedro.training.sft import train_sft

pytestmark = pytest.mark.skipif(is_torchvision_available(), reason="the processors here are made without videos")

SIZES = {"square": (64, 64), "wide": (96, 48), "tall": (40, 96), "large": (128, 128), "thread": (4, 1200)}
QUESTIONS = ("is it red ?", "is it a red circle above two squares ?", "why ?")
NAMES = pytest.mark.parametrize("name", ARCHITECTURES)


class Store:
    def image(self, key: str) -> Image.Image:
        width, height = SIZES[key]
        pixels = np.random.default_rng(len(key)).integers(0, 255, (height, width, 3), dtype=np.uint8)
        return Image.fromarray(pixels)


@pytest.fixture(scope="module", autouse=True)
def without_videos() -> Iterator[None]:
    with images_only():
        yield


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: save(name, tmp_path_factory.mktemp("models") / name) for name in ARCHITECTURES}


def asked(choices: tuple[str, ...], images: tuple[str, ...]) -> list[Request]:
    return [
        Request(image, text, "task", "", (ChatMessage("user", text, (image,)),), 4, choices)
        for image in images
        for text in QUESTIONS
    ]


def judge(folder: Path, requests: list[Request], adapter: Path | None = None, **settings: object) -> list[Answer]:
    model = load_model(folder, adapter=adapter, device="cpu", merge=True)
    backend = TransformersBackend(model, load_processor(folder), Store(), **settings)
    given = dict(backend.answer(requests))
    return [given[i] for i in range(len(requests))]


def probability(answer: Answer, choice: str) -> float:
    """Of all tokens, not of the choices alone."""
    return answer.probabilities[choice] * (1 - answer.out_of_vocabulary_mass)


@NAMES
@pytest.mark.parametrize("choices", [("yes", "no"), ()])
def test_it_judges_from_shared_prefixes_as_it_does_plainly(folders, name: str, choices, caplog) -> None:
    requests = asked(choices, ("square", "wide", "tall", "large"))
    with caplog.at_level(logging.WARNING):
        shared = judge(folders[name], requests, batch_size=16)
    assert not [record for record in caplog.records if "encoded again" in record.getMessage()]
    plain = judge(folders[name], requests, batch_size=1, share_prefixes=False)
    assert [a.text for a in shared] == [b.text for b in plain]
    for a, b in zip(shared, plain, strict=True):
        assert (a.status, a.usage) == (OK, b.usage)
        assert dict(a.probabilities) == pytest.approx(dict(b.probabilities), abs=1e-5)
        assert a.out_of_vocabulary_mass == pytest.approx(b.out_of_vocabulary_mass, abs=1e-5)
    if choices:
        assert np.ptp([answer.probabilities["yes"] for answer in plain]) > 0.01  # the model looks at what it is shown


@NAMES
def test_training_makes_its_answers_more_probable(folders, name: str, tmp_path: Path) -> None:
    answers = {"square": "yes", "wide": "no"}
    requests = [request for request in asked(("yes", "no"), tuple(answers)) if request.messages[0].text == QUESTIONS[0]]
    rows = [
        {
            "example_id": image,
            "item_id": image,
            "fold": "train",
            "task": "score",
            "aspect": "overall",
            "messages": json.dumps([{"role": "user", "text": "is it red ?", "images": [image]}]),
            "completion": answer,
            "score": None,
            "question_id": "",
            "weight": 1.0,
        }
        for image, answer in answers.items()
    ]
    settings = settings_of(
        SFTSettings, max_steps=10, batch_size=2, eval_examples=0, lora=settings_of(LoraSettings, r=4, alpha=8)
    )
    model = settings_of(ModelSettings, model=str(folders[name]), device="cpu")
    train_sft(EXAMPLES.frame(rows), Store(), model, settings, tmp_path / "adapter")
    before, after = (
        judge(folders[name], requests, adapter=adapter, batch_size=8) for adapter in (None, tmp_path / "adapter")
    )
    for answer, untrained, trained in zip(answers.values(), before, after, strict=True):
        assert probability(trained, answer) > 3 * probability(untrained, answer)


@pytest.mark.parametrize("choices", [("yes", "no"), ()])
@pytest.mark.parametrize("share_prefixes", [True, False])
def test_an_image_that_the_processor_refuses_costs_its_own_requests(folders, choices, share_prefixes: bool) -> None:
    requests = asked(choices, ("square", "thread", "wide"))  # Qwen2.5-VL takes nothing 200 times as high as wide
    given = judge(folders["qwen2_5_vl"], requests, batch_size=16, share_prefixes=share_prefixes)
    assert [answer.status for answer in given] == [OK] * 3 + [FAILED] * 3 + [OK] * 3
    assert all(answer.text.startswith("the image cannot be processed") for answer in given[3:6])


@pytest.mark.parametrize("name", ["qwen2_5_vl", "internvl"])
def test_what_is_not_installed_is_named(folders, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = type(load_processor(folders[name]))
    monkeypatch.setattr(
        owner, "get_attributes", classmethod(lambda cls: ["image_processor", "tokenizer", "video_processor"])
    )
    with pytest.raises(T2IEvalError, match=r"pip install 't2i-eval-kedro\[torchvision\]'"):
        load_processor(folders[name])


def test_remote_code_is_opted_into(tmp_path: Path) -> None:
    config = {"model_type": "strange", "auto_map": {"AutoConfig": "m.C", "AutoModelForImageTextToText": "m.M"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(T2IEvalError, match=r"model\.trust_remote_code=true"):
        load_model(tmp_path)
