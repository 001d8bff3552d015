"""A CLIP model with random weights, saved and loaded as a real one is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from plain_settings import settings_of
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.backends.similarity import SimilarityBackend
from t2i_eval_kedro.judging.engine import judge
from t2i_eval_kedro.judging.protocols import ChatMessage, EvaluationItem, Request
from t2i_eval_kedro.judging.protocols.similarity import Similarity, SimilaritySettings
from t2i_eval_kedro.schema import FAILED, OK

SIDE, LENGTH = 32, 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip")
    letters = [chr(i) for i in range(ord("a"), ord("z") + 1)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (path / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (path / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer.from_pretrained(path, model_max_length=LENGTH)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {"vocab_size": len(words), "max_position_embeddings": LENGTH, "bos_token_id": 52, "eos_token_id": 53}
    torch.manual_seed(0)
    config = CLIPConfig(
        text_config=shape | text, vision_config=shape | {"image_size": SIDE, "patch_size": 16}, projection_dim=24
    )
    CLIPModel(config).save_pretrained(path)
    sizes: dict[str, Any] = {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}}
    CLIPProcessor(image_processor=CLIPImageProcessor(**sizes), tokenizer=tokenizer).save_pretrained(path)
    return path


class Store:
    """One picture a colour; no picture of another name."""

    def image(self, key: str) -> Image.Image:
        if key not in ("red", "green", "blue"):
            raise KeyError(key)
        return Image.new("RGB", (40, 50), key)


SUBJECTS = [
    EvaluationItem(f"{color}/{prompt}", prompt, color)
    for color in ("red", "green", "blue")
    for prompt in ("cat", "a dog")
]


def scores(folder: Path, **settings: Any) -> dict[str, tuple[float | None, str]]:
    backend = SimilarityBackend(settings_of(SimilaritySettings, model=str(folder), device="cpu", **settings), Store())
    said = judge(SUBJECTS, Similarity(), backend, name="clip_similarity").scores
    return {row.item_id: (row.score, row.explanation) for row in said.itertuples()}


def test_it_is_the_models_own_similarity(folder: Path) -> None:
    model, processor = CLIPModel.from_pretrained(folder).eval(), CLIPProcessor.from_pretrained(folder)
    found = scores(folder)
    for item in SUBJECTS:
        inputs = processor(text=[item.prompt], images=[Store().image(item.image)], return_tensors="pt", padding=True)
        with torch.inference_mode():
            cosine = float(model(**inputs).logits_per_image / model.logit_scale.exp())
        value, explanation = found[item.item_id]
        assert value == pytest.approx(10 * max(cosine, 0), abs=1e-4)
        assert explanation == f"cosine {cosine:.4f}"


def test_scores_do_not_depend_on_the_batch(folder: Path) -> None:
    one, many = scores(folder, batch_size=1), scores(folder, batch_size=5)
    assert {name: value for name, (value, _) in one.items()} == pytest.approx(
        {name: value for name, (value, _) in many.items()}, abs=1e-5
    )


def test_the_prefix_stands_before_the_prompt(folder: Path) -> None:
    assert scores(folder) != scores(folder, prefix="a photo depicts ")


def test_a_long_text_is_cut_off_and_counted_and_a_bad_image_costs_itself(folder: Path) -> None:
    backend = SimilarityBackend(settings_of(SimilaritySettings, model=str(folder), device="cpu"), Store())
    asked = [
        Request("1", "similarity", "similarity", "", (ChatMessage("user", text, images),), 1)
        for text, images in (("x" * 60, ("red",)), ("", ("red",)), ("cat", ("gone",)), ("cat", ()), ("قطة", ("red",)))
    ]
    said = dict(backend.answer(asked))
    assert [said[i].status for i in range(5)] == [OK, OK, FAILED, FAILED, OK]
    assert (said[0].usage["cut_off_tokens"], said[1].usage["cut_off_tokens"]) == (60 + 2 - LENGTH, 0)


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(T2IEvalError, match=r"does not contain config\.json"):
        SimilarityBackend(settings_of(SimilaritySettings, model=str(tmp_path)), Store())
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(T2IEvalError, match="cannot be loaded"):
        SimilarityBackend(settings_of(SimilaritySettings, model=str(tmp_path)), Store())
