from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional as F
from transformers import AutoTokenizer, BertTokenizerFast, Blip2Config

from t2i_eval_kedro.cli.convert_fga import convert_fga
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.models.fga_blip2 import (
    MAX_TOKENS,
    RELEASED_SHAPE,
    FGABlip2,
    FGAScores,
    PromptTokens,
    clean,
    convert_checkpoint,
    element_cross_entropy,
    element_positions,
    element_scores,
    element_spans,
    fga_loss,
    located,
    token_targets,
    variance_weight,
)

WIDTH, HEADS, VISION, BLOCKS, LAYERS, QUERIES, WORDS, SIDE, PATCH = 16, 2, 24, 2, 4, 5, 40, 28, 14


def configuration() -> Blip2Config:
    return Blip2Config(
        vision_config={
            "hidden_size": VISION,
            "intermediate_size": 32,
            "num_hidden_layers": BLOCKS,
            "num_attention_heads": HEADS,
            "image_size": SIDE,
            "patch_size": PATCH,
        },
        qformer_config={
            "hidden_size": WIDTH,
            "intermediate_size": 32,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "encoder_hidden_size": VISION,
            "vocab_size": WORDS,
            "max_position_embeddings": 40,
            "use_qformer_text_input": True,
        },
        text_config={
            "model_type": "opt",
            "hidden_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "ffn_dim": 8,
        },
        num_query_tokens=QUERIES,
        image_text_hidden_size=8,
        image_token_index=None,
    )


def authors_state(layers: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """Random weights in the layout of the authors' checkpoint (LAVIS), as the paper's code names them."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * 0.3

    state = {
        "query_tokens": draw(1, QUERIES, WIDTH),
        "temp": draw(1)[0],
        "visual_encoder.cls_token": draw(1, 1, VISION),
        "visual_encoder.pos_embed": draw(1, (SIDE // PATCH) ** 2 + 1, VISION),
        "visual_encoder.patch_embed.proj.weight": draw(VISION, 3, PATCH, PATCH),
        "visual_encoder.patch_embed.proj.bias": draw(VISION),
        "Qformer.bert.embeddings.position_ids": torch.arange(40)[None],
        "Qformer.bert.embeddings.word_embeddings.weight": draw(WORDS, WIDTH),
        "Qformer.bert.embeddings.position_embeddings.weight": draw(40, WIDTH),
        "Qformer.cls.predictions.bias": draw(WORDS),
    }

    def linear(name: str, out: int, into: int) -> None:
        state[f"{name}.weight"], state[f"{name}.bias"] = draw(out, into), draw(out)

    def norm(name: str, width: int) -> None:
        state[f"{name}.weight"], state[f"{name}.bias"] = 1 + draw(width), draw(width)

    norm("ln_vision", VISION)
    norm("Qformer.bert.embeddings.LayerNorm", WIDTH)
    for block in range(BLOCKS):
        name = f"visual_encoder.blocks.{block}"
        norm(f"{name}.norm1", VISION)
        norm(f"{name}.norm2", VISION)
        state[f"{name}.attn.qkv.weight"] = draw(3 * VISION, VISION)
        state[f"{name}.attn.q_bias"], state[f"{name}.attn.v_bias"] = draw(VISION), draw(VISION)
        linear(f"{name}.attn.proj", VISION, VISION)
        linear(f"{name}.mlp.fc1", 32, VISION)
        linear(f"{name}.mlp.fc2", VISION, 32)
    for layer in range(LAYERS):
        name = f"Qformer.bert.encoder.layer.{layer}"
        for kind, source in (("attention", WIDTH), ("crossattention", VISION)):
            if kind == "crossattention" and layer % 2:
                continue
            linear(f"{name}.{kind}.self.query", WIDTH, WIDTH)
            linear(f"{name}.{kind}.self.key", WIDTH, source)
            linear(f"{name}.{kind}.self.value", WIDTH, source)
            linear(f"{name}.{kind}.output.dense", WIDTH, WIDTH)
            norm(f"{name}.{kind}.output.LayerNorm", WIDTH)
        for end in ("", "_query"):
            linear(f"{name}.intermediate{end}.dense", 32, WIDTH)
            linear(f"{name}.output{end}.dense", WIDTH, 32)
            norm(f"{name}.output{end}.LayerNorm", WIDTH)
    linear("itm_head", 2, WIDTH)
    linear("vision_proj", 8, WIDTH)
    linear("text_proj", 8, WIDTH)
    width = WIDTH
    for number, following in zip(layers, (256, 128, 64, 16, 1), strict=True):
        linear(f"mask_proj.layers.{number}", following, width)
        state[f"mask_proj.layers.{number}.weight"] *= 3 / width**0.5
        width = following
    return state


def reference(
    state: dict[str, torch.Tensor], pixels: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor, layers: tuple[int, ...]
) -> FGAScores:
    """FGA-BLIP2 in plain torch from the paper and its weights: no line of the code under test, none of transformers."""

    def linear(name: str, x: torch.Tensor) -> torch.Tensor:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(name: str, x: torch.Tensor, eps: float) -> torch.Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return (
            centred / (x.var(-1, unbiased=False, keepdim=True) + eps).sqrt() * state[f"{name}.weight"]
            + state[f"{name}.bias"]
        )

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, keep: torch.Tensor | None) -> torch.Tensor:
        q, k, v = (x.reshape(*x.shape[:2], HEADS, -1).transpose(1, 2) for x in (q, k, v))
        weights = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        if keep is not None:
            weights = weights.masked_fill(keep[:, None, None] == 0, -1e9)
        return (weights.softmax(-1) @ v).transpose(1, 2).flatten(2)

    x = F.conv2d(pixels, state["visual_encoder.patch_embed.proj.weight"], stride=PATCH).flatten(2).transpose(1, 2)
    x = x + state["visual_encoder.patch_embed.proj.bias"]
    x = torch.cat([state["visual_encoder.cls_token"].expand(len(x), -1, -1), x], 1) + state["visual_encoder.pos_embed"]
    for block in range(BLOCKS):
        name = f"visual_encoder.blocks.{block}"
        y = norm(f"{name}.norm1", x, 1e-6) @ state[f"{name}.attn.qkv.weight"].T
        q, k, v = y.split(VISION, -1)
        y = attend(q + state[f"{name}.attn.q_bias"], k, v + state[f"{name}.attn.v_bias"], None)
        x = x + linear(f"{name}.attn.proj", y)
        x = x + linear(f"{name}.mlp.fc2", F.gelu(linear(f"{name}.mlp.fc1", norm(f"{name}.norm2", x, 1e-6))))
    image = norm("ln_vision", x, 1e-5)

    def bert(queries: torch.Tensor | None) -> torch.Tensor:
        h = state["Qformer.bert.embeddings.word_embeddings.weight"][ids]
        h = h + state["Qformer.bert.embeddings.position_embeddings.weight"][: ids.shape[1]]
        keep, n = mask, 0
        if queries is not None:
            n = queries.shape[1]
            h, keep = torch.cat([queries, h], 1), torch.cat([torch.ones(len(ids), n), mask], 1)
        h = norm("Qformer.bert.embeddings.LayerNorm", h, 1e-12)

        def sublayer(name: str, h: torch.Tensor, source: torch.Tensor, keep: torch.Tensor | None) -> torch.Tensor:
            q, k, v = (linear(f"{name}.self.{w}", s) for w, s in (("query", h), ("key", source), ("value", source)))
            return norm(f"{name}.output.LayerNorm", linear(f"{name}.output.dense", attend(q, k, v, keep)) + h, 1e-12)

        def feed(name: str, end: str, h: torch.Tensor) -> torch.Tensor:
            inner = F.gelu(linear(f"{name}.intermediate{end}.dense", h))
            return norm(f"{name}.output{end}.LayerNorm", linear(f"{name}.output{end}.dense", inner) + h, 1e-12)

        for layer in range(LAYERS):
            name = f"Qformer.bert.encoder.layer.{layer}"
            h = sublayer(f"{name}.attention", h, h, keep)
            seen, text = h[:, :n], h[:, n:]
            if n and layer % 2 == 0:
                seen = sublayer(f"{name}.crossattention", seen, image, None)
            h = torch.cat([feed(name, "_query", seen), feed(name, "", text)], 1) if n else feed(name, "", text)
        return h

    p = linear("itm_head", bert(state["query_tokens"].expand(len(ids), -1, -1))).softmax(-1)[..., 1]
    h = bert(None)
    for number in layers:
        h = linear(f"mask_proj.layers.{number}", h)
        if layers == (0, 3, 6, 9, 11) and number != 11:
            h = h.relu()
    return FGAScores(1 + 4 * p[:, :QUERIES].mean(1), p[:, QUERIES:], 1 / (1 + (-h.squeeze(-1)).exp()))


@pytest.fixture(scope="module", params=[(0, 3, 6, 9, 11), (0, 2, 4, 6, 7)], ids=["rectified", "plain"])
def converted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("fga")
    state = authors_state(request.param)
    torch.save({"model": state}, folder / "checkpoint.pth")
    convert_checkpoint(folder / "checkpoint.pth", configuration(), folder / "model")
    return FGABlip2.load(folder / "model"), state, request.param, folder


def inputs(n: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(1, WORDS, (n, 7), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    return torch.randn(n, 3, SIDE, SIDE, generator=generator), ids * mask, mask


def test_a_converted_checkpoint_scores_as_plain_torch_does(converted) -> None:
    model, state, layers, _ = converted
    pixels, ids, mask = inputs()
    with torch.no_grad():
        scores, expected = model(pixels, ids, mask), reference(state, pixels, ids, mask, layers)
    kept = mask.bool()
    torch.testing.assert_close(scores.overall, expected.overall, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(scores.tokens[kept], expected.tokens[kept], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(scores.membership[kept], expected.membership[kept], rtol=1e-4, atol=1e-5)
    assert scores.overall.std() > 0.01  # the weights tell the images apart, and the tokens
    assert scores.membership[kept].std() > 1e-3


def test_the_command_converts(converted, tmp_path: Path) -> None:
    _, _, _, folder = converted
    (tmp_path / "shape.json").write_text(json.dumps(configuration().to_dict(), default=str))
    arguments = [str(folder / "checkpoint.pth"), str(tmp_path / "out"), "--config", str(tmp_path / "shape.json")]
    done = CliRunner().invoke(convert_fga, arguments)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (
        folder / "model" / "model.safetensors"
    ).read_bytes()
    again = CliRunner().invoke(convert_fga, arguments)
    assert again.exit_code == 1
    assert "exists already" in again.output


def test_the_released_shape_has_the_authors_sizes() -> None:
    with torch.device("meta"):
        model = FGABlip2(Blip2Config(**RELEASED_SHAPE))
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert shapes["blip.vision_model.embeddings.position_embedding"] == (1, 677, 1408)
    assert shapes["blip.vision_model.encoder.layers.38.mlp.fc1.weight"] == (6144, 1408)
    assert shapes["blip.embeddings.word_embeddings.weight"] == (30523, 768)
    assert shapes["blip.qformer.encoder.layer.0.crossattention.attention.key.weight"] == (768, 1408)
    assert shapes["mask_head.0.weight"] == (256, 768)


def test_padding_does_not_reach_the_scores(converted) -> None:
    model, *_ = converted
    pixels, ids, mask = inputs()
    with torch.no_grad():
        whole, alone = model(pixels, ids, mask), model(pixels[1:2], ids[1:2, :4], mask[1:2, :4])
    torch.testing.assert_close(whole.overall[1:2], alone.overall, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(whole.tokens[1:2, :4], alone.tokens, rtol=1e-4, atol=1e-5)


def test_a_checkpoint_of_another_shape_is_refused(converted, tmp_path: Path) -> None:
    _, state, layers, _ = converted
    torch.save(state | {"itm_head.weight": torch.zeros(2, WIDTH + 1)}, tmp_path / "bad.pth")
    with pytest.raises(
        T2IEvalError, match=re.escape(f"itm_head.weight: shape (2, {WIDTH + 1}), expected (2, {WIDTH})")
    ):
        convert_checkpoint(tmp_path / "bad.pth", configuration(), tmp_path / "out")
    torch.save({k: v for k, v in state.items() if k != f"mask_proj.layers.{layers[1]}.weight"}, tmp_path / "lost.pth")
    with pytest.raises(T2IEvalError, match=r"mask_head\.\d\.weight: missing"):
        convert_checkpoint(tmp_path / "lost.pth", configuration(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_pickle_of_code_is_not_run(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "harm",))

    torch.save({"model": Harm()}, tmp_path / "harm.pth")
    with pytest.raises(T2IEvalError, match="cannot be read as a checkpoint"):
        convert_checkpoint(tmp_path / "harm.pth", configuration(), tmp_path / "out")
    assert not (tmp_path / "harm").exists()


def test_a_folder_that_is_no_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(T2IEvalError, match="does not hold an FGA-BLIP2 model"):
        FGABlip2.load(tmp_path)


def test_the_released_loss_by_hand() -> None:
    scores = FGAScores(
        torch.tensor([3.0, 4.0]), torch.tensor([[0.5, 0.8], [0.2, 0.4]]), torch.tensor([[0.9, 0.1], [0.6, 0.7]])
    )
    rating, mask = torch.tensor([2.0, 4.5]), torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    labels = torch.tensor([[0.25, 0.0], [0.875, 1.0]])
    first = 1.0 + 0.1 * (0.25 + 0.0) / 2 + 0.1 * (0.1 + 0.1) / 2
    second = 0.5 + 0.1 * (0.675 + 0.6) / 2 + 0.1 * (0.4 + 0.3) / 2
    assert fga_loss(scores, rating, labels, mask).item() == pytest.approx((first + second) / 2)
    weighted = fga_loss(scores, rating, labels, mask, torch.tensor([3.0, 1.0])).item()
    assert weighted == pytest.approx((first + second) / 2 + 1.0)  # (3 - 1) x 1.0 / 2


def test_the_cross_entropy_of_elements_by_hand() -> None:
    tokens = torch.tensor([[0.5, 0.8, 0.3], [0.2, 0.4, 0.9]])
    scores = FGAScores(torch.zeros(2), tokens, torch.zeros(2, 3))
    mask, labels = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]]), torch.tensor([[0.25, 1.0, 0.0], [0.5, 0.0, 0.5]])
    present, absent = -math.log(0.8) / 1.6, -math.log(1 - 0.4) / 0.4  # a share of .8
    half = -(math.log(0.9) + math.log(1 - 0.9)) / 2 * (0.5 / 1.6 + 0.5 / 0.4)
    found = element_cross_entropy(scores, labels, mask, 0.8)
    assert found.item() == pytest.approx((present + absent + half) / 3, abs=1e-5)
    no_elements = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    assert element_cross_entropy(scores, labels, no_elements, 0.8).item() == 0
    assert torch.isfinite(element_cross_entropy(scores, labels, mask, 1.0))


@pytest.mark.parametrize(("kind", "expected"), [("released", 1.0), ("entropy", 0.5)])
def test_what_is_uncertain_is_drawn_to_the_frequent_label_by_the_released_loss_and_to_half_by_the_cross_entropy(
    kind: str, expected: float
) -> None:
    logit = torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.Adam([logit], 0.1)
    labels, mask = torch.tensor([[0.0, 1.0, 1.0, 1.0, 1.0, 0.0]]), torch.tensor([[0.0, 1.0, 1.0, 1.0, 1.0, 1.0]])
    for _ in range(200):
        scores = FGAScores(torch.ones(1), logit.sigmoid().expand(1, 6), torch.ones(1, 6))
        loss = (
            fga_loss(scores, torch.ones(1), labels, mask)
            if kind == "released"
            else element_cross_entropy(scores, labels, mask, 0.8)
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert logit.sigmoid().item() == pytest.approx(expected, abs=0.05)


def test_variance_weights() -> None:
    variance = torch.tensor([0.0, 1.0, float("nan")])
    assert variance_weight(variance, "exp").tolist() == pytest.approx([1.0, 2.718282, 1.0])
    assert variance_weight(variance, "normalised").mean().item() == pytest.approx(1.0)
    with pytest.raises(T2IEvalError, match="expected exp or normalised"):
        variance_weight(variance, "sqrt")


VOCABULARY = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "a",
    "red",
    "fox",
    "##es",
    "in",
    "snow",
    "t",
    "-",
    "shirt",
    "st",
    "cat",
    "art",
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> BertTokenizerFast:
    file = tmp_path_factory.mktemp("bert") / "vocab.txt"
    file.write_text("\n".join(VOCABULARY) + "\n")
    return BertTokenizerFast(str(file))


@pytest.mark.parametrize(
    ("prompt", "element", "positions"),
    [
        ("a red fox in snow", "red fox", [2, 3]),
        ('a "red" fox; in snow.', "fox", [3]),  # punctuation before it does not shift it
        ("a fox (red) in snow", "fox (red)", [2, 3]),  # nor does its own lose it
        ("A RED fox", "a", [1]),
        ("foxes in snow", "foxes", [1, 2]),
        ("foxes in snow", "fox", None),  # part of a word is not the word
        ("a cat in art", "art", [4]),
        ("a red fox", "cat", None),
        ("a red fox", "!", None),
        ("a fox in a fox", "fox", [2]),
        ("a " * 29 + "red fox", "red fox", None),  # 31 words and [CLS]: [SEP] takes the place of the last
        ("a " * 28 + "red fox", "red fox", [29, 30]),
        ("a " * 60 + "fox", "fox", None),
    ],
)
def test_where_an_element_stands(
    tokenizer: BertTokenizerFast, prompt: str, element: str, positions: list[int] | None
) -> None:
    assert element_positions(tokenizer, prompt, element) == positions


def test_a_token_of_several_elements_gets_the_mean_of_their_labels_and_a_lost_element_drops_nothing(
    tokenizer: BertTokenizerFast,
) -> None:
    tokens = PromptTokens(tokenizer, "a red fox in snow")
    places = located(tokens, {"e1": "red fox", "e2": "snow", "e3": "fox", "e4": "cat"})
    assert places == {"e1": [2, 3], "e2": [5], "e3": [3], "e4": None}
    labels, mask = token_targets(places, {"e1": 1.0, "e2": 0.5, "e3": 0.0, "e4": 0.0}, 4.0)
    assert labels == [0.75, 0, 1.0, 0.5, 0, 0.5] + [0] * (MAX_TOKENS - 6)
    assert mask == [1, 0, 1, 1, 0, 1] + [0] * (MAX_TOKENS - 6)


@pytest.mark.parametrize(
    ("prompt", "element", "positions"),
    [
        ("red in snow a fox", "red fox", [1, 5]),
        ("red fox in snow", "red fox", [1, 2]),  # a run comes first
        ("a red cat in snow a foxes", "red fox", [2, 7, 8]),  # 6 words and a plural
        ("red cat in snow a cat in art fox", "red fox", None),  # 9 words are too far apart
        ("fox in red snow", "red fox", None),  # another order
        ("red cat, red fox and a fox", "red fox", [4, 5]),
    ],
)
def test_words_of_an_element_may_stand_apart(
    tokenizer: BertTokenizerFast, prompt: str, element: str, positions: list[int] | None
) -> None:
    # a comma and "and" are unknown tokens, one each
    assert PromptTokens(tokenizer, prompt).positions(element, "windows") == positions


@pytest.mark.parametrize(
    ("prompt", "element", "found"),
    [
        ("There is a large circle", "one circle", ["a", "circle"]),
        ("an apple and an old egg", "one egg", ["an", "egg"]),
        ("one small fox", "a fox", ["one", "fox"]),
        ("1 fox and 2 red cats", "one fox", ["1", "fox"]),
        ("1 fox and 2 red cats", "two cats", ["2", "cats"]),
        ("twelve cats", "12 cats", ["twelve", "cats"]),
        ("a fox left of a circle", "fox left of one circle", ["fox", "left", "of", "a", "circle"]),
        ("a circle, one red circle", "one circle", ["one", "circle"]),  # a word as it is comes first
        ("a picture of a blue circle", "one circle", ["a", "circle"]),
        ("a row of two sheep", "one sheep", []),  # another count stands between
        ("a row of circles", "one circle", []),  # an article counts a singular
        ("three circles", "2 circles", []),
        ("player a", "player one", []),  # it counts nothing
        ("4k cats", "four cats", []),
        ("the circle", "one circle", []),
    ],
)
def test_a_count_is_one_number_in_any_form(prompt: str, element: str, found: list[str]) -> None:
    assert [prompt[a:b] for a, b in element_spans(prompt, element, "windows")] == found
    literal = element in prompt
    assert bool(element_spans(prompt, element, "runs")) == literal  # the published search takes words as they are


_TEXTS = st.lists(st.sampled_from(["a", "an", "one", "1", "two", "2", "red", "cat", "cats", "and"]), max_size=12)


@given(_TEXTS, _TEXTS)
def test_counts_only_add_what_no_words_as_they_are_give(prompt: list[str], element: list[str]) -> None:
    """What is found lies in order, word for word the same number or the same noun; a run of words stays where it is."""
    text, asked = " ".join(prompt), " ".join(element)
    spans = element_spans(text, asked, "windows")
    run = element_spans(text, asked, "runs")
    if run:
        assert spans == run
    elif spans:
        assert spans == sorted(spans)
        said = [text[a:b] for a, b in spans]
        forms = {"a": "1", "an": "1", "one": "1", "two": "2", "cats": "cat"}
        assert [forms.get(w, w) for w in said] == [forms.get(w, w) for w in element]


@pytest.mark.parametrize("number", range(1, 13))
def test_number_words_and_digits_say_the_same(number: int) -> None:
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
    prompt = f"{words[number - 1]} small cats"
    assert element_spans(prompt, f"{number} cats", "windows")
    assert not element_spans(prompt, f"{number + 1} cats", "windows")


def test_an_element_leaves_out_the_tokens_of_what_it_presupposes(tokenizer: BertTokenizerFast) -> None:
    tokens = PromptTokens(tokenizer, "a fox in snow, a red fox")
    parts = {"fox": "fox", "color": "red fox", "same": "fox"}
    shared = located(tokens, parts)
    assert shared == {"fox": [2], "color": [7, 8], "same": [2]}
    own = located(tokens, parts, {"color": ["fox"], "same": ["fox"]})
    assert own == {"fox": [2], "color": [7], "same": [2]}  # what has nothing else keeps them


def test_images_are_resized_and_normalised() -> None:
    model = FGABlip2(configuration(), mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 1.0))
    pixels = model.pixels([Image.new("RGB", (60, 30), (255, 0, 51))])
    assert pixels.shape == (1, 3, SIDE, SIDE)
    assert pixels.mean(dim=(0, 2, 3)).tolist() == pytest.approx([1.0, -1.0, 0.2], abs=1e-6)


def test_a_model_keeps_its_length_its_pixels_and_its_tokenizer(tokenizer: BertTokenizerFast, tmp_path: Path) -> None:
    FGABlip2(configuration(), max_tokens=9, mean=(0.5,) * 3, std=(0.25,) * 3).save(tmp_path / "m", tokenizer)
    again = FGABlip2.load(tmp_path / "m")
    assert (again.max_tokens, again.mean, again.std) == (9, (0.5,) * 3, (0.25,) * 3)
    assert AutoTokenizer.from_pretrained(tmp_path / "m").encode("a red fox") == tokenizer.encode("a red fox")


def test_matching_averages_logits_over_the_queries(converted) -> None:
    """Equal to BLIP-2's own matching, as transformers computes it where text and queries go in together."""
    model, *_ = converted
    pixels, ids, mask = inputs()
    with torch.no_grad():
        own = model.matching(model.image_features(pixels), ids, mask)
        theirs = model.blip(
            pixel_values=pixels, input_ids=ids, attention_mask=mask, use_image_text_matching_head=True
        ).logits_per_image
    torch.testing.assert_close(own, theirs[:, 1] - theirs[:, 0], rtol=1e-4, atol=1e-5)


def test_an_element_that_is_not_found_is_null_and_never_0() -> None:
    scored = element_scores([0.1, 0.2, 0.4], {"fox": [1, 2], "cat": None})
    assert scored == {"fox": pytest.approx(0.3), "cat": None}


@given(st.text(alphabet='abc.!"()*#:;~ \t\nABC', max_size=60))
def test_cleaning_is_done_once(text: str) -> None:
    assert clean(clean(text)) == clean(text)
    assert not re.search(r'[.!"()*#:;~A-Z]|\s\s', clean(text))


@pytest.mark.parametrize("part", ["overall", "elements"])
def test_it_learns(part: str) -> None:
    """On image features that hold the answer, the score follows it: the overall score, or with its term weighed 0 the elements'."""
    torch.manual_seed(0)
    model = FGABlip2(configuration())
    n = 16
    rating, present = torch.linspace(1, 5, n), (torch.arange(n) % 2).float()
    features = torch.randn(1, 4, VISION).expand(n, -1, -1).clone()
    features[:, :, 0], features[:, :, 1] = rating[:, None] - 3, 4 * present[:, None] - 2
    ids = torch.tensor([[2, 5, 6, 7]]).expand(n, -1)
    mask, labels = torch.tensor([[0.0, 0, 1, 1]]).expand(n, -1), torch.zeros(n, 4)
    if part == "elements":
        labels[:, 2:] = present[:, None]
    weight = torch.full((n,), float(part == "overall"))
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(60):
        scores = model.from_features(features, ids, torch.ones_like(ids))
        loss = fga_loss(scores, rating, labels, mask, weight)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        scores = model.eval().from_features(features, ids, torch.ones_like(ids))
    if part == "overall":
        assert torch.corrcoef(torch.stack([scores.overall, rating]))[0, 1] > 0.9
    else:
        elements = scores.tokens[:, 2:].mean(1)
        assert elements[present == 1].min() > elements[present == 0].max()
        assert scores.membership.mean(0).gt(0.5).tolist() == [False, False, True, True]
