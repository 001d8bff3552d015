"""Pre-training: what it feeds the model is what a chat would feed it, and a rebuild gives the same bytes, cut off or not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from t2i_eval_kedro.shapes import pretrain as module
from t2i_eval_kedro.shapes.pretrain import (
    ROW,
    ROWS,
    Phase,
    Recipe,
    answers_batch,
    hidden_states,
    pack,
    patch_labels,
    picture,
    pretrain,
    sample_pairs,
    scaled,
    tensors,
    tower_batch,
)
from t2i_eval_kedro.shapes.prompts import DEFAULT_PROMPTS, sample_prompts
from t2i_eval_kedro.shapes.questions import (
    PAIR_KINDS,
    PICTURE_KINDS,
    TEXT_KINDS,
    ask,
    ask_pair,
    ask_text,
    sample_picture,
)
from t2i_eval_kedro.shapes.scene import COLORS, SHAPES, SIZES
from t2i_eval_kedro.shapes.tiny_vlm import build_model, build_processor

FEW = Recipe(tower_steps=3, tower_batch=4, phases=(Phase(4, 2e-3, 1e-3, ((1, 0.5), (3, 0.5))), Phase(2, 1e-3, 5e-4)))
_FORBIDDEN = frozenset(prompt.core for prompt in sample_prompts(DEFAULT_PROMPTS, 0))


@pytest.fixture(scope="module")
def processor() -> Any:
    return build_processor()


def _chat(processor: Any, n_images: int, question: str, answer: str) -> str:
    content = [*[{"type": "image"}] * n_images, {"type": "text", "text": question}]
    text: str = processor.apply_chat_template(
        [{"role": "user", "content": content}, {"role": "assistant", "content": answer}]
    )
    return text


def test_packed_rows_give_each_question_the_hidden_states_of_a_chat_of_its_own(processor: Any) -> None:
    """Rows with one picture, with two and with none, in one batch, against the processor and the model as users call them."""
    model = build_model(processor.tokenizer).eval()
    rng = np.random.default_rng(5)
    drawn = [picture(sample_picture(rng), rng) for _ in range(3)]
    rows = [
        (1, sample_pairs(lambda kind: ask(drawn[0].shown, kind, rng), PICTURE_KINDS, 3, rng)),
        (
            2,
            sample_pairs(
                lambda k: ask_pair(drawn[1].shown, drawn[2].shown, drawn[1].shown.scene, k, rng), PAIR_KINDS, 2, rng
            ),
        ),
        (0, sample_pairs(lambda kind: ask_text(kind, rng), TEXT_KINDS, 3, rng)),
    ]
    packed = pack(processor.tokenizer, rows, 256) | {"pixels": np.stack([one.pixels for one in drawn])}
    ready = tensors(packed, model.config.image_token_id, int((packed["weights"] > 0).sum()), "cpu")
    images = [[drawn[0]], [drawn[1], drawn[2]], []]
    with torch.inference_mode():
        found = model.lm_head(hidden_states(model, ready).flatten(0, 1)[ready["asked"]])
        alone, answers = [], []
        for (n_images, pairs), shown in zip(rows, images, strict=True):
            for pair in pairs:
                inputs = processor(
                    text=_chat(processor, n_images, pair.question, pair.answer),
                    images=[Image.fromarray(one.pixels) for one in shown] or None,
                    return_tensors="pt",
                )
                n = len(processor.tokenizer.encode(pair.answer)) + 1
                alone.append(model(**inputs).logits[0, -n - 1 : -1])
                answers += inputs["input_ids"][0, -n:].tolist()
    assert ready["answered"].tolist() == answers
    torch.testing.assert_close(found, torch.cat(alone), atol=1e-4, rtol=1e-4)


def test_pixels_are_those_of_the_processor(processor: Any) -> None:
    rng = np.random.default_rng(6)
    pixels = picture(sample_picture(rng), rng).pixels
    expected = processor.image_processor(Image.fromarray(pixels), return_tensors="np")["pixel_values"][0]
    np.testing.assert_allclose(scaled(torch.from_numpy(pixels)[None])[0].numpy(), expected, atol=1e-5)


def test_an_answers_weights_sum_to_the_root_of_its_length_and_nothing_else_counts(processor: Any) -> None:
    rng = np.random.default_rng(7)
    pairs = sample_pairs(lambda kind: ask_text(kind, rng), TEXT_KINDS, 40, rng)
    packed = pack(processor.tokenizer, [(0, pairs)], ROW)
    ids, weights, segments = packed["input_ids"][0], packed["weights"][0], packed["segments"][0]
    kept = int(segments.max())
    assert 3 < len(set(segments.tolist()) - {-1, 0}) < 40
    for number in set(segments.tolist()) - {-1, 0}:
        counted = ids[(segments == number) & (weights > 0)]
        assert processor.tokenizer.decode(counted[:-1]) == pairs[number - 1].answer
        assert weights[segments == number].sum() == pytest.approx(len(counted) ** 0.5)
    assert kept <= 40
    assert not weights[segments <= 0].any()


def test_patch_labels_name_the_object_in_its_cell() -> None:
    rng = np.random.default_rng(8)
    for _ in range(20):
        one = picture(sample_picture(rng), rng)
        labels = patch_labels(one)
        assert (labels[:, 0] > 0).sum() == sum(group.count for group in one.shown.scene.groups)
        for item in one.objects:
            shape, color, size, count, lower, right, _, _, row, column = labels[item.cell]
            group = item.group
            assert (SHAPES[shape - 1], COLORS[color - 1], SIZES[size - 1]) == (group.shape, group.color, group.size)
            assert (count, 2 * lower + right) == (group.count, group.quadrant)
            assert (row, column) == (int(item.y // 16), int(item.x // 16))


def test_no_question_describes_what_a_prompt_of_the_benchmark_states() -> None:
    rng = np.random.default_rng(9)

    def about(hidden: frozenset[str]) -> set[str]:
        found: set[str] = set()
        for _ in range(150):
            shown = sample_picture(rng, 1)
            found |= {p.about for p in sample_pairs(lambda kind: ask(shown, kind, rng), PICTURE_KINDS, 10, rng, hidden)}  # noqa: B023
        found |= {p.about for p in sample_pairs(lambda kind: ask_text(kind, rng), TEXT_KINDS, 500, rng, hidden)}
        return found & _FORBIDDEN

    assert about(frozenset())
    assert not about(_FORBIDDEN)


def test_batches_have_every_kind_of_row_and_come_from_streams_of_their_own(processor: Any) -> None:
    tokenizer = processor.tokenizer
    one, again, other = (answers_batch(0, step, FEW, tokenizer, _FORBIDDEN) for step in (3, 3, 2))
    assert all(np.array_equal(one[name], again[name]) for name in one)
    assert not np.array_equal(one["pixels"], other["pixels"])
    image = tokenizer.convert_tokens_to_ids("<image>")
    assert (one["input_ids"] == image).sum(axis=1).tolist() == [16] * ROWS[0] + [32] * ROWS[1] + [0] * ROWS[2]
    assert len(one["pixels"]) == ROWS[0] + 2 * ROWS[1]
    assert not np.array_equal(one["pixels"], answers_batch(1, 3, FEW, tokenizer, _FORBIDDEN)["pixels"])
    assert [FEW.phases[0].groups(step) for step in range(4)] == [1, 1, 3, 3]
    assert not np.array_equal(tower_batch(0, FEW)["pixels"], tower_batch(1, FEW)["pixels"])


def test_no_question_or_answer_speaks_of_scores() -> None:
    rng = np.random.default_rng(10)
    for _ in range(100):
        shown = sample_picture(rng)
        pairs = sample_pairs(lambda kind: ask(shown, kind, rng), PICTURE_KINDS, 10, rng)  # noqa: B023
        pairs += sample_pairs(lambda kind: ask_text(kind, rng), TEXT_KINDS, 5, rng)
        for pair in pairs:
            assert not {"rate", "score", "scores", "overall"} & set(f"{pair.question} {pair.answer}".split())


class _CutOffError(Exception):
    pass


def test_a_run_that_is_cut_off_goes_on_to_the_same_weights(
    processor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(name: str, recipe: Recipe = FEW, workers: int = 0) -> dict[str, torch.Tensor]:
        model = build_model(processor.tokenizer, recipe.seed)
        pretrain(model, processor.tokenizer, recipe, tmp_path / name, workers=workers, save_every=1)
        return model.state_dict()

    whole = train("whole")
    step = module.Trainer.step
    for cut in (1, 4, 8):  # in the first stage, and in both phases
        seen = 0

        def stopping(self: Any, batch: Any, number: int, cut: int = cut) -> None:
            nonlocal seen
            if seen == cut:
                raise _CutOffError
            seen += 1
            step(self, batch, number)

        monkeypatch.setattr(module.Trainer, "step", stopping)
        with pytest.raises(_CutOffError):
            train(f"cut_{cut}")
        monkeypatch.setattr(module.Trainer, "step", step)
        resumed = train(f"cut_{cut}")
        assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    other = train("whole", replace(FEW, seed=1))  # a state of another recipe is not gone on from
    assert not all(torch.equal(whole[name], other[name]) for name in whole)


@pytest.mark.slow
def test_workers_do_not_change_the_weights(processor: Any, tmp_path: Path) -> None:
    states = []
    for workers in (0, 2):
        model = build_model(processor.tokenizer)
        pretrain(model, processor.tokenizer, FEW, tmp_path / str(workers), workers=workers)
        states.append(model.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_training_lowers_the_loss_of_a_batch_that_comes_again(processor: Any) -> None:
    model = build_model(processor.tokenizer).train()
    batch = answers_batch(0, 0, FEW, processor.tokenizer, _FORBIDDEN)
    ready = tensors(batch, model.config.image_token_id, module.MAX_ANSWERS, "cpu")
    parameters = [p for p in model.parameters() if p.requires_grad]
    trainer = module.Trainer([model], [(parameters, 2e-3)], 1000, lambda b: module.answers_loss(model, b), "cpu")
    losses = []
    for _ in range(12):
        trainer.step(ready, 150)
        losses.append(trainer.loss())
    assert losses[-1] < 0.8 * losses[0]
