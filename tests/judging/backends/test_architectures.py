"""Tiny models of true architectures, with templates and tokenizers that behave as theirs do: judging, SFT, GRPO, adapters."""

from __future__ import annotations

import json
import logging
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from architectures import ARCHITECTURES, SMOKE, available, images_only, save
from models_table import TESTS
from PIL import Image
from plain_settings import settings_of
from readable_answers import readable_answer
from transformers.utils import is_torchvision_available

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.backends.transformers import TransformersBackend
from t2i_eval_kedro.judging.engine import judge as judge_items
from t2i_eval_kedro.judging.protocols import EvaluationItem, PromptElement, Wording
from t2i_eval_kedro.judging.protocols.base import Answer, ChatMessage, Request
from t2i_eval_kedro.judging.protocols.registry import PROTOCOLS, build
from t2i_eval_kedro.models.answers import candidate_sequences
from t2i_eval_kedro.models.loading import load_model
from t2i_eval_kedro.models.processors import encode, load_processor, published_processor
from t2i_eval_kedro.models.settings import ModelSettings
from t2i_eval_kedro.schema import EXAMPLES, FAILED, OK
from t2i_eval_kedro.training.ability import require_able
from t2i_eval_kedro.training.data import IGNORED, Encoder
from t2i_eval_kedro.training.grpo import train_grpo
from t2i_eval_kedro.training.settings import GRPOSettings, LoraSettings, SFTSettings
from t2i_eval_kedro.training.sft import train_sft

WEIGHTS = "adapter_model.safetensors"

SIZES = {"square": (64, 64), "wide": (96, 48), "tall": (40, 96), "large": (128, 128), "thread": (4, 1200)}
QUESTIONS = ("is it red ?", "is it a red circle above two squares ?", "why ?")
DIGITS = tuple(str(level) for level in range(11))
NAMES = pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=[
                *([] if name in SMOKE else [pytest.mark.models]),
                pytest.mark.skipif(not available(name), reason="the installed transformers has no such family"),
            ],
        )
        for name in ARCHITECTURES
    ],
)
PLAIN = dict.fromkeys(  # what is asked without sharing, and why
    ("gemma3", "minicpm_v_4_6", "minicpm_v_4_7"), "its text model has layers other than full causal attention"
)
NO_GRPO = {  # refused with this reason
    f"minicpm_v_{version}": f"trl's GRPO cannot train on a MiniCPMV{version}Processor" for version in ("4_6", "4_7")
}


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
    return {name: save(name, tmp_path_factory.mktemp("models") / name) for name in ARCHITECTURES if available(name)}


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


def examples(answers: dict[str, str], fold: str = "train") -> pd.DataFrame:
    """One direct score request for each image, answered."""
    return EXAMPLES.frame(
        {
            "example_id": image,
            "item_id": image,
            "fold": fold,
            "task": "score",
            "aspect": "overall",
            "messages": json.dumps([{"role": "user", "text": QUESTIONS[0], "images": [image]}]),
            "completion": answer,
            "score": float(answer) if answer.isdigit() else None,
            "question_id": "",
            "weight": 1.0,
        }
        for image, answer in answers.items()
    )


SCORED = {"square": "10", "wide": "1", "tall": "7"}


@pytest.fixture(scope="module")
def adapters(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An adapter of each architecture that has learned a few scores."""
    made: dict[str, Path] = {}
    settings = settings_of(
        SFTSettings,
        max_steps=16,
        batch_size=3,
        learning_rate=1e-2,
        eval_examples=0,
        lora=settings_of(LoraSettings, r=4, alpha=8),
    )

    class Made(dict[str, Path]):
        def __missing__(self, name: str) -> Path:
            self[name] = tmp_path_factory.mktemp("adapters") / name
            model = settings_of(ModelSettings, model=str(folders[name]), device="cpu")
            train_sft(examples(SCORED), Store(), model, settings, self[name])
            return self[name]

    return Made(made)


@NAMES
@pytest.mark.parametrize("choices", [("yes", "no"), DIGITS, ()], ids=["words", "digits", "text"])
def test_it_judges_from_shared_prefixes_as_it_does_plainly(folders, name: str, choices, caplog) -> None:
    requests = asked(choices, ("square", "wide", "tall", "large"))
    with caplog.at_level(logging.WARNING):
        shared = judge(folders[name], requests, batch_size=16)
    warned = [record.getMessage() for record in caplog.records if "encoded again" in record.getMessage()]
    assert len(warned) == (name in PLAIN)
    assert all(PLAIN[name] in message for message in warned)
    plain = judge(folders[name], requests, batch_size=1, share_prefixes=False)
    assert [a.text for a in shared] == [b.text for b in plain]
    for a, b in zip(shared, plain, strict=True):
        assert (a.status, a.usage) == (OK, b.usage)
        assert dict(a.probabilities) == pytest.approx(dict(b.probabilities), abs=1e-5)
        assert a.out_of_vocabulary_mass == pytest.approx(b.out_of_vocabulary_mass, abs=1e-5)
    if choices:  # the model looks at what it is shown
        given = [answer.probabilities[choices[0]] for answer in plain]
        assert np.ptp(given) > 0.01 * np.mean(given)


class Readable:
    """Asks a real model everything, and puts a readable text in the place of what random weights write, so that chains go on to their end."""

    def __init__(self, backend: TransformersBackend) -> None:
        self.backend = backend
        self.thoughts = 0

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        for i, answer in self.backend.answer([replace(one, max_tokens=2, top_logprobs=0) for one in requests]):
            assert answer.status == OK, answer.text
            self.thoughts += answer.usage.get("thought_tokens", 0)
            if requests[i].candidate_tokens:
                assert sum(answer.probabilities.values()) == pytest.approx(1)
                yield i, answer
            else:
                assert 0 <= answer.usage["completion_tokens"] <= 2
                yield i, replace(answer, text=readable_answer(requests[i].messages[-1].text))


PAIR = EvaluationItem(
    "i",
    "a cat on a mat",
    "wide",
    {"overall": "how good it is"},
    (PromptElement("1", "a cat", "Is there a cat?"), PromptElement("2", "on", "Is it on a mat?", parents=("1",))),
    reference="tall",
    comparison_image="square",
)


def judge_by_every_protocol(folder: Path, full: Wording, thinking: str = "closed") -> int:
    """Number of tokens of thoughts."""
    model, processor = load_model(folder, device="cpu"), load_processor(folder, thinking=thinking)
    backend = Readable(TransformersBackend(model, processor, Store(), batch_size=8, thinking_tokens=3))
    for name in PROTOCOLS:
        if name != "similarity":  # which is answered by another kind of model
            verdicts = judge_items([PAIR], build(name, full), backend, name="m")
            assert set(verdicts.scores["status"]) == {OK}, (name, verdicts.scores["explanation"].tolist())
            assert verdicts.scores["score"].between(0, 10).all(), name
    return backend.thoughts


@NAMES
def test_it_is_judged_by_every_protocol_to_the_end(folders, full: Wording, name: str) -> None:
    """Every request of every protocol in its full wording: text alone, one image, two, and earlier answers in the chat."""
    assert judge_by_every_protocol(folders[name], full) == 0


def test_a_model_that_thinks_first_is_judged_by_every_protocol(folders, full: Wording) -> None:
    assert judge_by_every_protocol(folders["qwen3_vl_thinking"], full, "generated") > 100


@NAMES
def test_a_level_s_probability_is_that_of_its_token_sequences(folders, name: str) -> None:
    """Computed again from the definition: token by token, each from a forward pass over all that stands before it."""
    request = asked(DIGITS, ("wide",))[0]
    model, processor = load_model(folders[name], device="cpu"), load_processor(folders[name])
    inputs = encode(processor, [request.chat], Store())

    def next_token(before: tuple[int, ...]) -> torch.Tensor:
        longer = dict(inputs)
        for field, value in inputs.items():
            if value.shape == inputs["input_ids"].shape:
                more = {"input_ids": list(before), "attention_mask": [1] * len(before)}.get(field, [0] * len(before))
                longer[field] = torch.cat([value, torch.tensor([more], dtype=value.dtype)], dim=1)
        with torch.no_grad():
            return model(**longer).logits[0, -1].double().log_softmax(-1)

    def of(ids: tuple[int, ...]) -> float:
        return math.exp(sum(float(next_token(ids[:n])[ids[n]]) for n in range(len(ids))))

    sequences = dict(zip(DIGITS, candidate_sequences(processor, DIGITS), strict=True))
    expected = {level: sum(of(ids) for ids in sequences[level]) for level in DIGITS}
    if len(sequences["10"][0]) == len(sequences["1"][0]) + 1:  # "1" is what is not "10"
        expected["1"] -= expected["10"]
    (answer,) = judge(folders[name], [request], batch_size=1)
    for level in DIGITS:
        assert probability(answer, level) == pytest.approx(expected[level], rel=2e-3, abs=1e-7), level


@NAMES
def test_what_is_learned_follows_what_a_judge_is_asked_with(folders, name: str) -> None:
    """And is what the tokenizer makes of the whole; where the template marks what it generates, it is that."""
    processor = load_processor(folders[name])
    table = examples({"wide": "good", "tall": "10"})
    for row, (image, answer) in enumerate((("wide", "good"), ("tall", "10"))):
        chat = [{"role": "user", "text": QUESTIONS[0], "images": [image]}]
        batch = Encoder(table, processor, Store())([{"row": row}])
        learned = batch["labels"][0][batch["labels"][0] != IGNORED].tolist()
        request = encode(processor, [chat], Store())["input_ids"][0].tolist()
        assert batch["input_ids"][0].tolist() == request + learned
        assert Encoder(table, processor, Store()).lengths([row]) == [len(request + learned)]
        (sequences,) = candidate_sequences(processor, [answer])
        assert tuple(learned[: len(sequences[0])]) == sequences[0]
        assert processor.tokenizer.decode(learned[: len(sequences[0])]).strip() == answer
        assert processor.tokenizer.eos_token_id in learned[len(sequences[0]) :]
        if "{% generation %}" in processor.chat_template:
            marked = processor.tokenizer.apply_chat_template(
                [
                    {"role": role, "content": [{"type": "text", "text": words}]}
                    for role, words in (("user", "x"), ("assistant", answer))
                ],
                chat_template=processor.chat_template,
                tokenize=True,
                return_dict=True,
                return_assistant_tokens_mask=True,
            )
            generated = [
                token for token, mask in zip(marked["input_ids"], marked["assistant_masks"], strict=True) if mask
            ]
            assert processor.tokenizer.decode(generated, skip_special_tokens=True).strip() == answer
            assert [token for token in sequences[0] if processor.tokenizer.decode([token]).strip()] == [
                token for token in generated if processor.tokenizer.decode([token], skip_special_tokens=True).strip()
            ]


@NAMES
def test_training_makes_its_answers_more_probable(folders, adapters, name: str) -> None:
    requests = [request for request in asked(DIGITS, tuple(SCORED)) if request.messages[0].text == QUESTIONS[0]]
    before, after = (judge(folders[name], requests, adapter, batch_size=8) for adapter in (None, adapters[name]))
    for answer, untrained, trained in zip(SCORED.values(), before, after, strict=True):
        assert probability(trained, answer) > 3 * probability(untrained, answer)


@NAMES
def test_an_adapter_loads_in_plain_peft_and_merges_into_the_same_model(folders, adapters, name: str) -> None:
    from peft import PeftModel
    from safetensors import safe_open
    from transformers import AutoModelForImageTextToText

    inputs = encode(load_processor(folders[name]), [[{"role": "user", "text": "x", "images": ["wide"]}]], Store())
    whole = AutoModelForImageTextToText.from_pretrained(folders[name])
    with safe_open(adapters[name] / WEIGHTS, framework="pt") as file:
        weights = [re.fullmatch(r"base_model\.model\.(.+)\.lora_[AB]\.weight", key) for key in file.keys()]  # noqa: SIM118
    # The names that vLLM takes: peft's, of modules that the published model has, and nothing beside LoRA.
    assert {match and match[1] for match in weights} <= {place for place, _ in whole.named_modules()}
    plain = PeftModel.from_pretrained(whole, adapters[name]).eval()
    merged = load_model(folders[name], adapter=adapters[name], device="cpu", merge=True)
    base = load_model(folders[name], device="cpu")
    with torch.no_grad():
        expected = plain(**inputs).logits
        torch.testing.assert_close(merged(**inputs).logits, expected, atol=1e-3, rtol=1e-3)
        assert (base(**inputs).logits - expected).abs().max() > 0.01


TOOLS = {  # how other tools name what they train, in adapter_config.json
    "ms-swift": r"^(model\.(language_model|text_model)(?=\.).*\.(q_proj|v_proj|down_proj))$",
    "LLaMA-Factory": ["q_proj", "v_proj", "down_proj"],
}
OLD = {  # what transformers 4 called the text model
    "qwen2_5_vl": ("model.language_model.layers.", "model.layers."),
    "llava_1_5": ("model.language_model.layers.", "language_model.model.layers."),
}


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("name", SMOKE)
def test_an_adapter_of_another_tool_is_judged_here(folders, name: str, tool: str, tmp_path: Path) -> None:
    """Made with plain peft and laid out as the tool's folder; also where an older transformers named its weights."""
    from peft import LoraConfig, get_peft_model
    from safetensors.torch import load_file, save_file

    base = load_model(folders[name], device="cpu")
    torch.manual_seed(1)
    tuned = get_peft_model(base, LoraConfig(r=2, target_modules=TOOLS[tool], task_type="CAUSAL_LM")).eval()
    for parameter, values in tuned.named_parameters():
        if "lora_B" in parameter and "vision" not in parameter and "visual" not in parameter:
            values.data.normal_()
    tuned.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    elsewhere = config | {"base_model_name_or_path": "/home/somebody/models/a-model"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(elsewhere))
    (tmp_path / ("args.json" if tool == "ms-swift" else "trainer_log.jsonl")).write_text("{}")
    inputs = encode(load_processor(folders[name]), [[{"role": "user", "text": "x", "images": ["wide"]}]], Store())
    with torch.no_grad():
        expected = tuned(**inputs).logits

    def answered() -> torch.Tensor:
        with torch.no_grad():
            return load_model(folders[name], adapter=tmp_path, device="cpu", merge=True)(**inputs).logits

    torch.testing.assert_close(answered(), expected, atol=1e-3, rtol=1e-3)
    weights = load_file(tmp_path / WEIGHTS)
    if name in OLD:
        save_file({key.replace(*OLD[name]): value for key, value in weights.items()}, tmp_path / WEIGHTS)
        assert load_file(tmp_path / WEIGHTS).keys() != weights.keys()
        torch.testing.assert_close(answered(), expected, atol=1e-3, rtol=1e-3)
    save_file({key.replace("layers.1", "layers.7"): value for key, value in weights.items()}, tmp_path / WEIGHTS)
    with pytest.raises(T2IEvalError, match=r"no place for its weight '.*layers\.7\."):
        answered()


@NAMES
def test_an_interrupted_training_resumes_to_the_same_bytes(folders, name: str, tmp_path: Path) -> None:
    class Interrupted(Store):
        def image(self, key: str) -> Image.Image:
            if (tmp_path / "work" / "checkpoint-1" / "files.json").exists():
                raise KeyboardInterrupt
            return super().image(key)

    settings = settings_of(
        SFTSettings,
        max_steps=4,
        batch_size=2,
        save_steps=1,
        eval_examples=0,
        image_cache_mb=0,
        lora=settings_of(LoraSettings, r=2, alpha=4),
    )
    model = settings_of(ModelSettings, model=str(folders[name]), device="cpu")
    with pytest.raises(KeyboardInterrupt):
        train_sft(examples(SCORED), Interrupted(), model, settings, tmp_path / "a", checkpoint_dir=tmp_path / "work")
    train_sft(examples(SCORED), Store(), model, settings, tmp_path / "a", checkpoint_dir=tmp_path / "work")
    train_sft(examples(SCORED), Store(), model, settings, tmp_path / "b")
    assert (tmp_path / "a" / WEIGHTS).read_bytes() == (tmp_path / "b" / WEIGHTS).read_bytes()


@NAMES
def test_grpo_scores_what_a_judge_would_be_asked_with(
    folders, adapters, name: str, tmp_path: Path, monkeypatch
) -> None:
    """Images of different sizes in one batch, and a prompt that spells a special token: the log probabilities that trl trains on are
    those of each request alone, as judging writes it."""
    from trl.trainer.grpo_trainer import GRPOTrainer

    seen: list[tuple[Any, ...]] = []
    plain = GRPOTrainer._get_per_token_logps_and_entropies

    def recorded(self: Any, model: Any, ids: Any, mask: Any, keep: int, *args: Any, **kwargs: Any) -> Any:
        out = plain(self, model, ids, mask, keep, *args, **kwargs)
        if not seen:
            seen.append((ids.clone(), mask.clone(), keep, out[0].detach().clone()))
        return out

    monkeypatch.setattr(GRPOTrainer, "_get_per_token_logps_and_entropies", recorded)
    processor = load_processor(folders[name])
    spelled = {processor.tokenizer.decode([token]) for token in processor.tokenizer.all_special_ids}
    text = f"is it {max(spelled, key=len)} ?"
    table = examples(SCORED)
    chats = [[{"role": "user", "text": text * (1 + n), "images": [image]}] for n, image in enumerate(SCORED)]
    table = table.assign(messages=[json.dumps(chat) for chat in chats])
    settings = settings_of(
        GRPOSettings,
        max_steps=1,
        prompts_per_step=3,
        generations=2,
        batch_size=6,
        max_completion_length=3,
        logging_steps=1,
        beta=0.1,
    )
    model = settings_of(ModelSettings, model=str(folders[name]), device="cpu")

    def parse(answer: str) -> float | None:
        return float(len(answer) % 10)

    if name in NO_GRPO:
        with pytest.raises(T2IEvalError, match=NO_GRPO[name]):
            train_grpo(table, Store(), model, tmp_path / "none", settings, {"score": parse}, tmp_path / "grpo")
        assert not seen
        return
    curve = train_grpo(table, Store(), model, adapters[name], settings, {"score": parse}, tmp_path / "grpo")
    assert curve["step"].tolist() == [1]
    assert (tmp_path / "grpo" / WEIGHTS).is_file()
    ids, mask, keep, log_probabilities = seen[0]
    policy = load_model(folders[name], adapter=adapters[name], device="cpu")
    requests = [encode(processor, [chat], Store()) for chat in chats]
    for row in range(len(ids)):
        tokens = ids[row][mask[row].bool()].tolist()
        answer = ids[row, -keep:][mask[row, -keep:].bool()].tolist()
        (inputs,) = [r for r in requests if r["input_ids"][0].tolist() == tokens[: len(tokens) - len(answer)]]
        longer = {
            field: torch.cat(
                [
                    value,
                    torch.tensor(
                        [{"input_ids": answer, "attention_mask": [1] * len(answer)}.get(field, [0] * len(answer))]
                    ),
                ],
                dim=1,
            )
            if value.shape == inputs["input_ids"].shape
            else value
            for field, value in inputs.items()
        }
        with torch.no_grad():
            logits = policy(**longer).logits[0, -len(answer) - 1 : -1].log_softmax(-1)
        expected = logits[torch.arange(len(answer)), torch.tensor(answer)]
        torch.testing.assert_close(log_probabilities[row, : len(answer)], expected, atol=2e-3, rtol=1e-3)


FORGETFUL = (
    "qwen3_vl_thinking",
    "llava_onevision",
    "minicpm_v_4_6",
    "minicpm_v_4_7",
)  # write an earlier answer otherwise than they asked for it


@NAMES
def test_what_it_cannot_do_is_refused_by_its_processor_alone(folders, name: str) -> None:
    model = settings_of(ModelSettings, model=str(folders[name]), device="cpu")
    require_able(model, tasks=["subtasks", "score"], choices=[("yes", "no"), DIGITS])
    for task in ("conversation", "published_subtasks"):
        if name in FORGETFUL:
            with pytest.raises(T2IEvalError, match=f"leave '{task}' out of examples.tasks"):
                require_able(model, tasks=["score", task], choices=[])
        else:
            require_able(model, tasks=["score", task], choices=[])
    if name in NO_GRPO:
        with pytest.raises(T2IEvalError, match=NO_GRPO[name]):
            require_able(model, tasks=["score"], choices=[], grpo=True)
    else:
        require_able(model, tasks=["score"], choices=[], grpo=True)


def test_a_thinking_model_thinks_before_a_distribution_and_before_free_text(folders) -> None:
    """By hand with the published template: the thoughts that it generates, the block closed behind them, then its answer."""
    folder, limit = folders["qwen3_vl_thinking"], 6
    model = load_model(folder, device="cpu")
    published = published_processor(folder)

    def inputs(text: str, picture: Image.Image) -> Any:
        return published(text=[text], images=[[picture]], return_tensors="pt", add_special_tokens=False)

    requests = asked(DIGITS, ("square", "wide")) + asked((), ("tall",))
    processor = load_processor(folder, thinking="generated")
    backend = TransformersBackend(model, processor, Store(), batch_size=4, thinking_tokens=limit)
    given = dict(backend.answer(requests))
    closed = dict(TransformersBackend(model, load_processor(folder), Store(), batch_size=4).answer(requests))
    first = [sequences[0] for sequences in candidate_sequences(load_processor(folder), DIGITS)]
    for i, request in enumerate(requests):
        (message,), picture = request.messages, Store().image(request.messages[0].images[0])
        chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": message.text}]}]
        open_text = published.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        assert open_text.endswith("<think>\n")
        asked_with = inputs(open_text, picture)
        end = published.tokenizer.convert_tokens_to_ids("</think>")
        out = model.generate(**asked_with, do_sample=False, max_new_tokens=limit, eos_token_id=[end, *_ends(model)])[
            0, asked_with["input_ids"].shape[1] :
        ].tolist()
        thoughts = out[: next((n for n, token in enumerate(out) if token in (end, *_ends(model))), limit)]
        text = published.tokenizer.decode(thoughts, skip_special_tokens=True).rstrip() + "\n</think>\n\n"
        answered = inputs(open_text + text, picture)
        assert given[i].usage["thought_tokens"] == len(thoughts) <= limit
        if not request.candidate_tokens:
            more = model.generate(**answered, do_sample=False, max_new_tokens=request.max_tokens)
            said = published.tokenizer.decode(more[0, answered["input_ids"].shape[1] :], skip_special_tokens=True)
            assert given[i].text == said.strip()
            continue
        with torch.inference_mode():
            logs = model(**answered).logits[0, -1].log_softmax(-1)
        for digit, ids in zip(DIGITS, first, strict=True):
            if len(ids) == 1 and digit != "1":  # of "1" it is what does not go on to "10"
                assert probability(given[i], digit) == pytest.approx(float(logs[ids[0]].exp()), rel=1e-3)
    assert any(given[i].probabilities != closed[i].probabilities for i in range(6))


def _ends(model: Any) -> list[int]:
    ends = model.generation_config.eos_token_id
    return ends if isinstance(ends, list) else [ends]


@pytest.mark.parametrize("choices", [("yes", "no"), ()])
@pytest.mark.parametrize("share_prefixes", [True, False])
def test_an_image_that_the_processor_refuses_costs_its_own_requests(folders, choices, share_prefixes: bool) -> None:
    requests = asked(choices, ("square", "thread", "wide"))  # Qwen2.5-VL takes nothing 200 times as high as wide
    given = judge(folders["qwen2_5_vl"], requests, batch_size=16, share_prefixes=share_prefixes)
    assert [answer.status for answer in given] == [OK] * 3 + [FAILED] * 3 + [OK] * 3
    assert all(answer.text.startswith("the image cannot be processed") for answer in given[3:6])


@pytest.mark.skipif(is_torchvision_available(), reason="torchvision is installed, so nothing is missing")
@pytest.mark.parametrize("name", ["qwen2_5_vl", "internvl3"])
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


@pytest.mark.skipif("T2I_EVAL_MODELS_TABLE" in os.environ, reason="the table is being written")
def test_the_table_of_the_docs_has_every_architecture_and_every_check() -> None:
    table = (Path(__file__).parents[3] / "docs" / "models.md").read_text()
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == list(ARCHITECTURES)
    assert all(title in table for title in TESTS.values())
    assert {name for name in globals() if name.startswith("test_") and name in TESTS} == set(TESTS)
