"""What the networks that stand for pre-trained ones are taught; captions are true or false of their pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from t2i_eval_kedro.models.fga_blip2 import PromptTokens
from t2i_eval_kedro.shapes.pretrain import scaled
from t2i_eval_kedro.shapes.prompts import elements, prompt_text, sample_prompts
from t2i_eval_kedro.shapes.scene import CELLS, COLORS, SHAPES, SIZES, Group, Scene
from t2i_eval_kedro.training.heads.towers import (
    ANSWERS,
    CURRICULUM,
    MAX_TOKENS,
    UNKNOWN,
    TowerRecipe,
    WordHeads,
    build_blip,
    build_tokenizer,
    caption_batches,
    matching_losses,
    patch_labels,
    sample_twins,
    start_from_tiny,
    token_labels,
)

ROOT = Path(__file__).parents[3]
TINY = ROOT / "data/06_models/tiny_vlm"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory):
    return build_tokenizer(tmp_path_factory.mktemp("words"))


def test_every_prompt_of_the_benchmark_is_read_to_its_end_without_unknown_words(tokenizer) -> None:
    for prompt in sample_prompts(300, 0):
        ids = tokenizer(prompt_text(prompt))["input_ids"]
        assert len(ids) <= MAX_TOKENS
        assert tokenizer.unk_token_id not in ids


def test_captions_without_faults_hold_and_others_say_what_does_not() -> None:
    rng = np.random.default_rng(0)
    right = [sample_twins(rng, 4, 0.0, 0, frozenset())[0] for _ in range(60)]
    # what is stated by contradiction is never all true
    assert all(all(one.held.values()) for one in right if one.prompt.conflict is None)
    wrong = [sample_twins(rng, 4, 0.0, 3, frozenset())[0] for _ in range(60)]
    assert np.mean([all(one.held.values()) for one in wrong]) < 0.2
    kept = {one.prompt.core for one in right[:10]}
    again = [sample_twins(np.random.default_rng(0), 4, 0.0, 0, frozenset(kept)) for _ in range(3)]
    assert not kept & {one.prompt.core for pair in again for one in pair}


def test_twins_show_one_picture_and_only_it_tells_which_of_them_is_right() -> None:
    rng = np.random.default_rng(0)
    pairs = [sample_twins(rng, 4, 0.0, 0, frozenset()) for _ in range(80)]
    assert all(np.array_equal(one.pixels, other.pixels) for one, other in pairs)
    words = [(prompt_text(one.prompt).split(), prompt_text(other.prompt).split()) for one, other in pairs]
    of_equal_length = [(a, b) for a, b in words if len(a) == len(b)]
    assert np.median([sum(x != y for x, y in zip(a, b, strict=True)) for a, b in of_equal_length]) <= 2
    plain = [(one, other) for one, other in pairs if one.prompt.conflict is None and other.prompt.conflict is None]
    assert 0.5 < np.mean([not all(other.held.values()) for _, other in plain]) < 1  # not every change is stated


def test_some_captions_have_words_that_state_nothing() -> None:
    rng = np.random.default_rng(0)
    assert not any(one.prompt.before or one.prompt.after for one in sample_twins(rng, 2, 0.0, 0, frozenset()))
    assert all(one.prompt.before or one.prompt.after for one in sample_twins(rng, 2, 1.0, 0, frozenset()))


def test_words_are_labelled_by_what_they_say(tokenizer) -> None:
    rng = np.random.default_rng(1)
    for _ in range(40):
        one, _ = sample_twins(rng, 2, 0.0, 2, frozenset())
        tokens = PromptTokens(tokenizer, prompt_text(one.prompt), MAX_TOKENS)
        checked, held, answers = token_labels(tokens, one)
        words = tokenizer.convert_ids_to_tokens(tokens.ids)
        for part in elements(one.prompt):
            color = part.text.split()[0]
            contradicts = part.element_id.endswith(".conflict")  # is said after its object, and not found
            if part.skill == "color" and words.count(color) == 1 and not contradicts:
                at = words.index(color)
                assert checked[at] == 1
                assert held[at] == one.held[part.element_id]
                # a right word is the answer itself, and a wrong one is not
                assert (ANSWERS[answers[at]] == color) == one.held[part.element_id]
        assert held[checked == 0].max(initial=0) == 0


def test_a_patch_is_labelled_by_the_group_in_whose_region_it_lies() -> None:
    seen = Scene((Group("circle", "red", "small", 2, 0), Group("star", "blue", "large", 1, 3)))
    labels = patch_labels(seen).reshape(CELLS, CELLS, 4)
    circle = [SHAPES.index("circle"), COLORS.index("red"), SIZES.index("small"), 1]
    star = [SHAPES.index("star"), COLORS.index("blue"), SIZES.index("large"), 0]
    assert labels[0, 0].tolist() == labels[1, 1].tolist() == circle  # upper left
    assert labels[2, 2].tolist() == labels[3, 3].tolist() == star  # lower right
    assert labels[0, 3].tolist() == [len(SHAPES), UNKNOWN, UNKNOWN, UNKNOWN]


def test_batches_are_the_same_for_the_same_seed_and_begin_with_few_groups(tokenizer) -> None:
    recipe = TowerRecipe(batch_size=4)
    first, second = ([*caption_batches(recipe, tokenizer, 4, frozenset(), None)] for _ in range(2))
    assert all(torch.equal(a[name], b[name]) for a, b in zip(first, second, strict=True) for name in a)
    assert CURRICULUM[0][1] == 1
    assert first[0]["mask"].sum(dim=1).max() < first[-1]["mask"].sum(dim=1).max()


def test_the_tower_is_the_tiny_models(tokenizer) -> None:
    """Without the class token, which the tiny model's tower has not, both towers say the same of a picture."""
    from transformers import AutoModelForImageTextToText

    tiny = AutoModelForImageTextToText.from_pretrained(TINY, dtype=torch.float32).eval()
    model = build_blip(len(tokenizer), 0).eval()
    start_from_tiny(model, tokenizer, TINY)
    rng = np.random.default_rng(0)
    pixels = scaled(torch.from_numpy(np.stack([sample_twins(rng, 4, 0.0, 0, frozenset())[0].pixels for _ in range(3)])))
    vision = model.blip.vision_model
    with torch.no_grad():
        theirs = tiny.model.vision_tower(pixels, output_hidden_states=True).hidden_states[-1]
        ours = vision.embeddings(pixels)[:, 1:]
        for layer in vision.encoder.layers:
            ours = layer(ours)
            ours = ours[0] if isinstance(ours, tuple) else ours
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
    word = tokenizer.get_vocab()["purple"]
    theirs_word = tiny.get_input_embeddings().weight[build_tiny_vocab()["Ġpurple"]]
    torch.testing.assert_close(model.blip.embeddings.word_embeddings.weight[word], theirs_word)


def build_tiny_vocab() -> dict[str, int]:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(TINY).get_vocab()


def test_a_few_steps_teach_which_words_hold(tokenizer) -> None:
    model = build_blip(len(tokenizer), 0).train()
    start_from_tiny(model, tokenizer, TINY)
    batch = next(caption_batches(TowerRecipe(batch_size=12), tokenizer, 4, frozenset(), 3))
    heads = WordHeads(model, tokenizer)
    trained = [p for n, p in model.named_parameters() if "vision" not in n]
    optimizer = torch.optim.Adam([*trained, *heads.parameters()], lr=1e-3)
    first = matching_losses(model, heads, batch)
    for _ in range(12):
        loss = sum(matching_losses(model, heads, batch).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    last = matching_losses(model, heads, batch)
    assert last["words"] < 0.7 * first["words"]
    assert last["caption"] < 0.9 * first["caption"]
    assert last["answers"] < 0.7 * first["answers"]
    assert last["shape"] < 0.8 * first["shape"]
    assert last["count"] < 0.9 * first["count"]
