"""Tiny models of the true architectures with random weights, chat templates that behave as theirs do, and tokenizers that split as theirs do.

What the public files of each say, and what is modelled here:

| family | answer behind the request | digits and words | first token |
|---|---|---|---|
| Qwen2-VL, Qwen2.5-VL, Qwen3-VL, InternVL3 | at once, after "assistant" and a line break | one token a digit, " good" and "good" differ | none |
| Qwen3-VL-Thinking | after a block of thoughts that the request opens; earlier answers are written without theirs | as above | none |
| LLaVA-1.5 (Vicuna) | "ASSISTANT: 5 ": a blank before and after, no end of turn | SentencePiece: "5" is a blank and a digit | the tokenizer's |
| LLaVA-NeXT (Mistral) | "[/INST] 5</s>", no generation prompt | SentencePiece, as above | the tokenizer's |
| LLaVA-OneVision | requests end "assistant" and a line break, answered ones have a blank before the break | as Qwen | none |
| Idefics3, SmolVLM2 | "Assistant: 5" and an end of utterance | " good" is one token, " 5" two | in the template |
| Gemma3 | after "model" and a line break; the template trims texts | SentencePiece without a blank at the start | in the template |
| MiniCPM-V 4.6, 4.7 | after an empty block of thoughts that the request holds; earlier answers are written without it (the template is Qwen3.5's; that the instruct model's requests hold the block is an assumption) | as Qwen | none |
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

SIDE, PATCH = 32, 8
WORDS = ("yes", "no", "good", "bad")
TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,  # flat random weights would tell nothing apart
    "max_position_embeddings": 16384,  # the tokenizers write nearly every letter as a token
}
TILES = tuple(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7))

_PARTS = (
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}IMAGE"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}"
)
_IM = (
    "{% for message in messages %}SYSTEM<|im_start|>{{ message['role'] }}\n" + _PARTS + "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_HELPFUL = "{% if loop.first and message['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"


def _thinking(opened: str) -> str:
    """A template whose requests end with ``opened``. The last answer after the last question has its thoughts before it, empty where there
    are none; earlier ones have not."""
    return (
        "{% set last = namespace(query=-1) %}{% for message in messages %}{% if message['role'] == 'user' %}"
        "{% set last.query = loop.index0 %}{% endif %}{% endfor %}"
        "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
        "{% if message['role'] == 'assistant' and loop.index0 > last.query %}<think>\n\n</think>\n\n{% endif %}"
        + _PARTS
        + "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
        + opened
        + "{% endif %}"
    )


_VISION = "<|vision_start|><|image_pad|><|vision_end|>"
TEMPLATES = {
    "qwen2": _IM.replace("SYSTEM", _HELPFUL).replace("IMAGE", _VISION),
    "qwen3": _IM.replace("SYSTEM", "").replace("IMAGE", _VISION),
    "qwen3_thinking": _thinking("<think>\n").replace("IMAGE", _VISION),
    "internvl": _IM.replace("SYSTEM", "").replace("IMAGE", "<IMG_CONTEXT>\n"),
    "minicpm": _thinking("<think>\n\n</think>\n\n").replace("IMAGE", "<|image_pad|>"),
    "vicuna": (
        "{% for message in messages %}{% if message['role'] != 'system' %}{{ message['role'].upper() + ': ' }}{% endif %}"
        "{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>\n{% endif %}{% endfor %}"
        "{% for part in message['content'] %}{% if part['type'] == 'text' %}"
        "{% if message['role'] == 'assistant' %}{% generation %}{{ part['text'] + ' ' }}{% endgeneration %}"
        "{% else %}{{ part['text'] + ' ' }}{% endif %}{% endif %}{% endfor %}{% endfor %}"
        "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
    ),
    "mistral": (
        "{% for message in messages %}{% if message['role'] == 'user' %}[INST] {% for part in message['content'] %}"
        "{% if part['type'] == 'image' %}<image>\n{% endif %}{% endfor %}{% for part in message['content'] %}"
        "{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %} [/INST]"
        "{% elif message['role'] == 'assistant' %}{% generation %} {{ message['content'][0]['text'] }}</s>{% endgeneration %}"
        "{% endif %}{% endfor %}"
    ),
    "onevision": (
        "{% for message in messages %}<|im_start|>{{ message['role'] + ' ' }}"
        "{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>{% endif %}{% endfor %}"
        "{% for part in message['content'] %}{% if part['type'] == 'text' %}"
        "{% if message['role'] == 'assistant' %}{% generation %}{{ '\n' + part['text'] }}{% endgeneration %}"
        "{% else %}{{ '\n' + part['text'] }}{% endif %}{% endif %}{% endfor %}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
    "idefics": (
        "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}"
        "{% if message['content'][0]['type'] == 'image' %}:{% else %}{{ ': ' }}{% endif %}"
        + _PARTS.replace("IMAGE", "<image>")
        + "<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
    ),
    "gemma": (
        "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
        "<start_of_turn>{{ 'model' if message['role'] == 'assistant' else message['role'] }}\n"
        "{% for part in message['content'] %}{% if part['type'] == 'image' %}<start_of_image>"
        "{% elif part['type'] == 'text' %}{{ part['text'] | trim }}{% endif %}{% endfor %}<end_of_turn>\n{% endfor %}"
        "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
    ),
}


def _merges(blank: str) -> tuple[list[str], list[tuple[str, str]]]:
    """What a BPE model needs to write each of ``WORDS``, capitalized too and behind a blank, as one token: pieces and merges."""
    words = [form for word in WORDS for form in (word, word.capitalize())]
    vocabulary, merges = [], []
    for word in words:
        for n in range(1, len(word)):
            if (word[:n], word[n]) not in merges:
                merges.append((word[:n], word[n]))
                vocabulary.append(word[: n + 1])
    return [*vocabulary, *(blank + word for word in words)], [*merges, *((blank, word) for word in words)]


def _byte_level(special: tuple[str, ...], *, pad: str, eos: str, bos: str | None = None, **names: str) -> Any:
    """Qwen's and Llama 3's way: bytes, a token a digit, a word with a blank before it is another token."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words, merges = _merges("Ġ")
    vocabulary = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet()), *words]
    core = Tokenizer(models.BPE(vocab={word: n for n, word in enumerate(dict.fromkeys(vocabulary))}, merges=merges))
    split = pre_tokenizers.Split(Regex(r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+"), "isolated")
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(list(special))
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token=pad, eos_token=eos, bos_token=bos, extra_special_tokens=names
    )


def _sentence_piece(special: tuple[str, ...], *, pad: str, eos: str, bos: str, prefix: bool, **names: str) -> Any:
    """Llama's and Gemma's way: blanks are a letter, digits stand alone, and with ``prefix`` each text begins with a blank."""
    from tokenizers import Tokenizer, decoders, models, normalizers, processors
    from transformers import PreTrainedTokenizerFast

    words, merges = _merges("▁")
    characters = [*(chr(code) for code in range(33, 127)), "▁", "\n"]
    vocabulary = [*special, *(f"<0x{code:02X}>" for code in range(256)), *characters, *words]
    core = Tokenizer(
        models.BPE(
            vocab={word: n for n, word in enumerate(dict.fromkeys(vocabulary))},
            merges=merges,
            unk_token="<unk>",
            byte_fallback=True,
        )
    )
    core.normalizer = normalizers.Sequence(
        [*([normalizers.Prepend("▁")] if prefix else []), normalizers.Replace(" ", "▁")]
    )
    core.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            *([decoders.Strip(" ", 1, 0)] if prefix else []),
        ]
    )
    core.add_special_tokens(list(special))
    core.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, core.token_to_id(bos))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=pad,
        eos_token=eos,
        bos_token=bos,
        unk_token="<unk>",
        extra_special_tokens=names,
    )


_IM_SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)


def _siglip() -> dict[str, Any]:
    return {
        "image_size": SIDE,
        "patch_size": PATCH,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }


def _text(tokenizer: Any, **more: Any) -> dict[str, Any]:
    ids = {name: getattr(tokenizer, f"{name}_id") for name in ("bos_token", "eos_token", "pad_token")}
    return TEXT | {"vocab_size": len(tokenizer), **{f"{name}_id": value for name, value in ids.items()}} | more


def _qwen(version: str) -> tuple[Any, Any]:
    import transformers

    tokenizer = _byte_level(
        (*_IM_SPECIAL, *(("<think>", "</think>") if "3" in version else ())), pad="<|endoftext|>", eos="<|im_end|>"
    )
    ids = tokenizer.convert_tokens_to_ids
    size = {"shortest_edge": 1024, "longest_edge": 4096}
    images = transformers.Qwen2VLImageProcessorPil(patch_size=PATCH, merge_size=2, size=size)
    name = {"qwen2": "Qwen2VL", "qwen2_5": "Qwen2_5_VL", "qwen3": "Qwen3VL", "qwen3_thinking": "Qwen3VL"}[version]
    vision: dict[str, Any] = {"depth": 2, "num_heads": 4, "patch_size": PATCH}
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
    text = _text(tokenizer, rope_parameters=rope)
    if version == "qwen2":
        vision |= {"embed_dim": 32, "hidden_size": 32, "mlp_ratio": 2}
    elif version == "qwen2_5":
        vision |= {
            "hidden_size": 32,
            "intermediate_size": 64,
            "window_size": 32,
            "out_hidden_size": 32,
            "fullatt_block_indexes": [1],
        }
    else:
        vision |= {"hidden_size": 32, "intermediate_size": 64, "out_hidden_size": 32, "num_position_embeddings": 64}
        vision |= {"deepstack_visual_indexes": [0]}
        text |= {"head_dim": 8, "rope_parameters": rope | {"mrope_interleaved": True}}
    config = getattr(transformers, f"{name}Config")(
        vision_config=vision,
        text_config=text,
        image_token_id=ids("<|image_pad|>"),
        video_token_id=ids("<|video_pad|>"),
        vision_start_token_id=ids("<|vision_start|>"),
        vision_end_token_id=ids("<|vision_end|>"),
    )
    template = TEMPLATES["qwen2" if version in ("qwen2", "qwen2_5") else version]
    return config, getattr(transformers, f"{name}Processor")(images, tokenizer, None, chat_template=template)


def internvl3() -> tuple[Any, Any]:
    from transformers import GotOcr2ImageProcessorPil, InternVLConfig, InternVLProcessor

    names = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    tokenizer = _byte_level((*_IM_SPECIAL[:3], *names.values()), pad="<|endoftext|>", eos="<|im_end|>", **names)
    images = GotOcr2ImageProcessorPil(size={"height": SIDE, "width": SIDE}, crop_to_patches=True, max_patches=4)
    processor = InternVLProcessor(images, tokenizer, None, image_seq_length=4, chat_template=TEMPLATES["internvl"])
    config = InternVLConfig(
        vision_config=_siglip(),
        text_config=_text(tokenizer, model_type="qwen2"),
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
    )
    return config, processor


def llava_1_5() -> tuple[Any, Any]:
    from transformers import CLIPImageProcessorPil, LlavaConfig, LlavaProcessor

    tokenizer = _sentence_piece(
        ("<unk>", "<s>", "</s>", "<pad>", "<image>"), pad="<pad>", eos="</s>", bos="<s>", prefix=True
    )
    images = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    processor = LlavaProcessor(
        images,
        tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATES["vicuna"],
    )
    config = LlavaConfig(
        vision_config=_siglip() | {"model_type": "clip_vision_model", "projection_dim": 32},
        text_config=_text(tokenizer, model_type="llama"),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    return config, processor


_GRID = [[SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE]]


def llava_next() -> tuple[Any, Any]:
    from transformers import LlavaNextConfig, LlavaNextImageProcessorPil, LlavaNextProcessor

    tokenizer = _sentence_piece(
        ("<unk>", "<s>", "</s>", "<pad>", "<image>"), pad="<pad>", eos="</s>", bos="<s>", prefix=True
    )
    images = LlavaNextImageProcessorPil(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}, image_grid_pinpoints=_GRID
    )
    processor = LlavaNextProcessor(
        images,
        tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATES["mistral"],
    )
    config = LlavaNextConfig(
        vision_config=_siglip() | {"model_type": "clip_vision_model", "projection_dim": 32},
        text_config=_text(tokenizer, model_type="mistral", sliding_window=None),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=_GRID,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    return config, processor


def llava_onevision() -> tuple[Any, Any]:
    from transformers import LlavaOnevisionConfig, LlavaOnevisionImageProcessorPil, LlavaOnevisionProcessor

    tokenizer = _byte_level((*_IM_SPECIAL[:3], "<image>", "<video>"), pad="<|endoftext|>", eos="<|im_end|>")
    images = LlavaOnevisionImageProcessorPil(size={"height": SIDE, "width": SIDE}, image_grid_pinpoints=_GRID)
    processor = LlavaOnevisionProcessor(
        images,
        tokenizer,
        None,
        num_image_tokens=(SIDE // PATCH) ** 2,
        vision_feature_select_strategy="full",
        chat_template=TEMPLATES["onevision"],
    )
    config = LlavaOnevisionConfig(
        vision_config=_siglip() | {"model_type": "siglip_vision_model", "vision_use_head": False},
        text_config=_text(tokenizer, model_type="qwen2"),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=_GRID,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    return config, processor


def _idefics(kind: str) -> tuple[Any, Any]:
    import transformers

    special = (
        "<|im_end|>",
        "<|im_start|>",
        "<end_of_utterance>",
        "<image>",
        "<fake_token_around_image>",
        "<global-img>",
        *TILES,
    )
    tokenizer = _byte_level(special, pad="<|im_end|>", eos="<end_of_utterance>", bos="<|im_start|>")
    sizes = {"size": {"longest_edge": 2 * SIDE}, "max_image_size": {"longest_edge": SIDE}}
    images = getattr(transformers, f"{kind}ImageProcessorPil")(**sizes)
    video = (None,) if kind == "SmolVLM" else ()
    processor = getattr(transformers, f"{kind}Processor")(
        images, tokenizer, *video, image_seq_len=4, chat_template=TEMPLATES["idefics"]
    )
    config = getattr(transformers, f"{kind}Config")(
        vision_config=_siglip(),
        text_config=_text(tokenizer, model_type="llama"),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
    )
    return config, processor


def gemma3() -> tuple[Any, Any]:
    from transformers import Gemma3Config, Gemma3ImageProcessorPil, Gemma3Processor

    names = {"image_token": "<image_soft_token>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"}
    special = ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>", *names.values())
    tokenizer = _sentence_piece(special, pad="<pad>", eos="<end_of_turn>", bos="<bos>", prefix=False, **names)
    images = Gemma3ImageProcessorPil(size={"height": SIDE, "width": SIDE})
    processor = Gemma3Processor(images, tokenizer, chat_template=TEMPLATES["gemma"], image_seq_length=4)
    ids = {name: tokenizer.convert_tokens_to_ids(token) for name, token in names.items()}
    config = Gemma3Config(
        vision_config=_siglip() | {"model_type": "siglip_vision_model", "vision_use_head": False},
        text_config=_text(tokenizer, head_dim=8, query_pre_attn_scalar=8, sliding_window=64),
        mm_tokens_per_image=4,
        boi_token_index=ids["boi_token"],
        eoi_token_index=ids["eoi_token"],
        image_token_index=ids["image_token"],
        initializer_range=0.3,
    )
    return config, processor


def _minicpm(version: str) -> tuple[Any, Any]:
    import transformers

    names = {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"}
    for part in ("image", "slice", "image_id"):
        names |= {f"{part}_start_token": f"<{part}>", f"{part}_end_token": f"</{part}>"}
    special = (*_IM_SPECIAL[:3], "<think>", "</think>", *names.values())
    tokenizer = _byte_level(special, pad="<|endoftext|>", eos="<|im_end|>", **names)
    images = transformers.MiniCPMV4_6ImageProcessorPil(scale_resolution=2 * SIDE, patch_size=PATCH, max_slice_nums=4)
    owner = getattr(transformers, f"MiniCPMV{version}Processor")
    processor = owner(images, tokenizer, None, chat_template=TEMPLATES["minicpm"])
    layers = {"layer_types": ["linear_attention", "full_attention"], "head_dim": 16}
    linear = {"key_head_dim": 8, "value_head_dim": 8, "num_key_heads": 2, "num_value_heads": 4}
    ids = tokenizer.convert_tokens_to_ids
    marks = {
        f"{part}_{end}_id": ids(names[f"{part}_{end}_token"]) for part in ("image", "slice") for end in ("start", "end")
    }
    if version == "4_7":  # images have places of their own
        layers["rope_parameters"] = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0}
        layers["rope_parameters"] |= {"mrope_section": [2, 3, 3], "mrope_interleaved": True}
        marks["newline_id"] = ids("Ċ")
    config = getattr(transformers, f"MiniCPMV{version}Config")(
        vision_config={**_siglip(), "image_size": 2 * SIDE},
        text_config=_text(tokenizer, model_type="qwen3_5_text", **layers)
        | {f"linear_{name}": value for name, value in linear.items()},
        image_token_id=ids(names["image_token"]),
        video_token_id=ids(names["video_token"]),
        insert_layer_id=0,
        **(marks if version == "4_7" else {}),
    )
    return config, processor


ARCHITECTURES: dict[str, Callable[[], tuple[Any, Any]]] = {
    "qwen2_vl": lambda: _qwen("qwen2"),
    "qwen2_5_vl": lambda: _qwen("qwen2_5"),
    "qwen3_vl": lambda: _qwen("qwen3"),
    "qwen3_vl_thinking": lambda: _qwen("qwen3_thinking"),
    "internvl3": internvl3,
    "llava_1_5": llava_1_5,
    "llava_next": llava_next,
    "llava_onevision": llava_onevision,
    "idefics3": lambda: _idefics("Idefics3"),
    "smolvlm2": lambda: _idefics("SmolVLM"),
    "gemma3": gemma3,
    "minicpm_v_4_6": lambda: _minicpm("4_6"),
    "minicpm_v_4_7": lambda: _minicpm("4_7"),
}
"""How configuration and processor of each family are made. An older transformers may lack some: :func:`available`."""
SMOKE = ("qwen2_5_vl", "llava_1_5", "smolvlm2")  # run with every other test; all of them by `make test-models`
WITH_VIDEOS = (
    "Qwen2VL",
    "Qwen2_5_VL",
    "Qwen3VL",
    "InternVL",
    "LlavaOnevision",
    "SmolVLM",
    "MiniCPMV4_6",
    "MiniCPMV4_7",
)


@contextlib.contextmanager
def images_only() -> Iterator[None]:
    """Let the processors that own a video processor, which needs torchvision, be made and read without it, also where torchvision is installed."""
    import transformers
    from transformers.models.smolvlm import processing_smolvlm

    if processing_smolvlm.num2words is None:  # which writes the number of a video's frames
        processing_smolvlm.num2words = str
    owners = [
        getattr(transformers, f"{name}Processor") for name in WITH_VIDEOS if hasattr(transformers, f"{name}Processor")
    ]
    smolvlm = transformers.SmolVLMProcessor
    plain = smolvlm.__init__

    def without_video(  # from_pretrained reads the names of the arguments
        self: Any,
        image_processor: Any,
        tokenizer: Any,
        video_processor: Any = None,
        image_seq_len: int = 169,
        chat_template: str | None = None,
        **more: Any,
    ) -> None:
        plain(self, image_processor, tokenizer, video_processor, image_seq_len, chat_template, **more)

    minicpms = {owner: owner.__init__ for owner in owners if owner.__name__.startswith("MiniCPM")}

    def minicpm_without_video(
        self: Any, image_processor: Any, tokenizer: Any, video_processor: Any = None, chat_template: str | None = None
    ) -> None:  # the second is taken for the tokenizer
        minicpms[type(self)](self, image_processor, tokenizer, tokenizer, chat_template)

    for owner in minicpms:
        owner.__init__ = minicpm_without_video
        owner.video_processor = SimpleNamespace(slice_mode=True, downsample_mode="16x")
    smolvlm.__init__ = without_video
    smolvlm.video_processor = SimpleNamespace(num_frames=1, fps=1, size={"longest_edge": SIDE})
    for owner in owners:
        owner.get_attributes = classmethod(lambda cls: ["image_processor", "tokenizer"])
    try:
        yield
    finally:
        smolvlm.__init__ = plain
        del smolvlm.video_processor
        for owner, made in minicpms.items():
            owner.__init__ = made
            del owner.video_processor
        for owner in owners:
            del owner.get_attributes


def available(name: str) -> bool:
    """Whether the installed transformers has the family."""
    import transformers

    return not name.startswith("minicpm_v_") or hasattr(transformers, f"MiniCPMV{name[-3:]}Processor")


def save(name: str, folder: Path) -> Path:
    """Write model and processor of architecture ``name`` to ``folder``, as they are published."""
    import torch
    from transformers import AutoModelForImageTextToText

    config, processor = ARCHITECTURES[name]()
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config)
    model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    model.generation_config.pad_token_id = processor.tokenizer.pad_token_id
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
