"""The small CLIP is taught which caption belongs to which picture, and answers as CLIPScore."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from random_model import Pictures

from t2i_eval_kedro.cli.build_towers import build_towers
from t2i_eval_kedro.models.image_text import open_scorer, score
from t2i_eval_kedro.models.settings import ScorerSettings
from t2i_eval_kedro.shapes.pretrain import picture, scaled
from t2i_eval_kedro.shapes.prompts import prompt_text
from t2i_eval_kedro.training.heads.clip_towers import (
    CLIP,
    ClipRecipe,
    build_clip,
    contrast_batches,
    contrastive_losses,
    holds,
    sample_contrast,
    start_clip_from_tiny,
)
from t2i_eval_kedro.training.heads.towers import MAX_TOKENS, build_blip, build_tokenizer, start_from_tiny

ROOT = Path(__file__).parents[3]
TINY = ROOT / "data/06_models/tiny_vlm"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory):
    made = build_tokenizer(tmp_path_factory.mktemp("words"))
    made.model_input_names = ["input_ids", "attention_mask"]
    return made


def test_one_caption_holds_and_one_does_not_and_neither_is_of_the_benchmark() -> None:
    rng = np.random.default_rng(0)
    drawn = [sample_contrast(rng, 3, 0.5, frozenset()) for _ in range(40)]
    assert all(holds(right, shown) and not holds(wrong, shown) for shown, right, wrong in drawn)
    assert sum(bool(right.before or right.after) for _, right, _ in drawn) in range(8, 33)  # about half are filled
    stated = frozenset(caption.core for _, right, wrong in drawn[:5] for caption in (right, wrong))
    _, right, wrong = sample_contrast(np.random.default_rng(0), 3, 0.5, stated)
    assert not stated & {right.core, wrong.core}


def test_a_batch_says_which_captions_hold_of_which_picture(tokenizer) -> None:
    batch = next(contrast_batches(ClipRecipe(batch_size=24), tokenizer, 20, frozenset()))
    count = len(batch["pixels"])
    assert batch["ids"].shape == batch["mask"].shape
    assert len(batch["ids"]) == 2 * count
    assert batch["ids"].shape[1] <= MAX_TOKENS
    own = torch.arange(count)
    assert batch["holds"][own, own].all()
    assert not batch["holds"][own, count + own].any()
    assert batch["holds"].sum() > count  # of one group at first, some captions hold of several pictures
    again = next(contrast_batches(ClipRecipe(batch_size=24), tokenizer, 20, frozenset()))
    assert all(torch.equal(batch[name], again[name]) for name in batch)


def test_losses_are_cross_entropies_and_what_holds_too_is_no_negative() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.5, -1.0], [3.0, 0.0, 1.0, 2.0]])
    held = torch.tensor([[True, True, False, False], [False, True, False, False]])

    class Model:
        def __call__(self, **_: torch.Tensor):
            return type("Out", (), {"logits_per_image": logits})

    batch = {"pixels": logits, "ids": logits, "mask": logits, "holds": held}
    found = contrastive_losses(Model(), batch)

    def entropy(right: float, *others: float) -> float:
        return float(np.log(np.exp([right, *others]).sum()) - right)

    captions = (
        entropy(2.0, 0.5, -1.0) + entropy(0.0, 3.0, 1.0, 2.0)
    ) / 2  # the second caption holds of the first picture
    assert float(found["captions"]) == pytest.approx(captions, abs=1e-5)
    assert float(found["pictures"]) == pytest.approx((entropy(2.0, 3.0) + entropy(0.0)) / 2, abs=1e-5)


def test_it_begins_with_the_tiny_models_tower_and_words(tokenizer) -> None:
    clip, blip = build_clip(tokenizer, 0).eval(), build_blip(len(tokenizer), 0).eval()
    start_from_tiny(blip, tokenizer, TINY)
    rng = np.random.default_rng(1)
    shown = [sample_contrast(rng, 4, 0.0, frozenset())[0] for _ in range(8)]
    pixels = scaled(torch.from_numpy(np.stack([picture(one, rng).pixels for one in shown])))

    def alike() -> float:
        with torch.no_grad():
            ours, theirs = (
                model(pixels, output_hidden_states=True).hidden_states[2][:, 1:]
                for model in (clip.vision_model, blip.blip.vision_model)
            )
        return float(
            torch.nn.functional.cosine_similarity(ours - ours.mean((0, 1)), theirs - theirs.mean((0, 1)), dim=-1).mean()
        )

    assert abs(alike()) < 0.2
    start_clip_from_tiny(clip, tokenizer, TINY)
    assert alike() > 0.5  # CLIP's norm before the first layer makes more of empty patches
    torch.testing.assert_close(
        clip.text_model.embeddings.token_embedding.weight[tokenizer.get_vocab()["purple"]],
        blip.blip.embeddings.word_embeddings.weight[tokenizer.get_vocab()["purple"]],
    )


def test_a_few_steps_teach_which_caption_is_whose(tokenizer) -> None:
    model = build_clip(tokenizer, 0).train()
    start_clip_from_tiny(model, tokenizer, TINY)
    batch = next(contrast_batches(ClipRecipe(batch_size=8), tokenizer, 4, frozenset()))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    first = contrastive_losses(model, batch)
    for _ in range(40):
        loss = sum(contrastive_losses(model, batch).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    last = contrastive_losses(model, batch)
    assert last["captions"] < 0.6 * first["captions"]
    assert last["pictures"] < 0.6 * first["pictures"]


def test_the_command_writes_a_clip_that_clip_score_reads(tmp_path: Path) -> None:
    (tmp_path / "tiny_vlm").symlink_to(TINY)
    ran = CliRunner().invoke(build_towers, ["--folder", str(tmp_path), "--only", "clip", "--steps", "2"])
    assert ran.exit_code == 0, ran.output
    assert {path.name for path in tmp_path.iterdir()} == {"tiny_vlm", CLIP}
    rng = np.random.default_rng(0)
    shown, right, wrong = sample_contrast(rng, 2, 0.0, frozenset())
    images = Pictures({"a": Image.fromarray(picture(shown, rng).pixels)})
    settings = ScorerSettings(
        kind="clip_score",
        model=str(tmp_path / CLIP),
        processor=None,
        revision=None,
        text="{prompt}",
        answer="",
        batch_size=2,
    )
    pairs = [("a", prompt_text(right)), ("a", prompt_text(wrong) + " nothing else please" * 40)]  # longer than it reads
    scores = score(open_scorer(settings), settings, images, pairs)
    assert len(scores) == 2
    assert all(0 <= value <= 2.5 for value in scores)
