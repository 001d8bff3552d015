"""The tiny vision-language model: a LLaVA of about 1.4 M parameters (SigLIP tower, Qwen2 text model) and its processor.

It is a real transformers architecture at a size that trains on two CPU cores. The tokenizer is a byte-level BPE, so any
text encodes; each word of `WORDS` and each score level "0" to "10" is one token. A text always starts as if a space
stood before it, so that a word has the same token at the start of a turn as within a sentence; decoding removes that
space again.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2i_eval_kedro.shapes.prompts import prompt_words
from t2i_eval_kedro.shapes.scene import COLORS, NUMBERS, SHAPES, SIZES, plural

if TYPE_CHECKING:
    from transformers import LlavaForConditionalGeneration, LlavaProcessor, PreTrainedTokenizerFast

PATCH = 16
IMAGE_SIDE = 64
IMAGE_TOKENS = (IMAGE_SIDE // PATCH) ** 2
LEVELS = tuple(str(i) for i in range(11))
SPECIAL_TOKENS = ("<pad>", "<end>", "<user>", "<assistant>", "<system>", "<image>")

_SCENE_WORDS = "a an the which is are it there and of left right above below no not none nothing upper lower"
_QUESTION_WORDS = "what where how many color size shape stand stands to does image look describe in on this that with"
_JUDGE_WORDS = (
    "rate score scores overall appearance attributes relations alignment quality prompt question questions answer "
    "why summary summarize explain list good bad fine mostly partly all wrong missing clear hazy blurry slightly very "
    "yes realism match matches merge level aspect element text n a entity entities intrinsic relation object objects "
    "count counting spatial extract evaluate because but for as by be human authenticity correspondence grainy less more "
    "many first second better clearer fits which clearest mean numbers words name parts near negation same tie think "
    "structure torn merged warped extra prefer worse best worst equal fault faults broken region both either or"
)
_LETTERS = "a b c d e f g h i j k l m n o"  # a scale of fifteen levels
#: Every word that is one token, with a space before it.
WORDS = tuple(
    dict.fromkeys(
        [
            *(*SHAPES, *map(plural, SHAPES), *COLORS, *SIZES, *NUMBERS),
            *f"{_SCENE_WORDS} {_QUESTION_WORDS} {_JUDGE_WORDS} {_LETTERS}".split(),
            *sorted(prompt_words()),
        ]
    )
)
_MARKS = ("?", ".", ",", ":", ";", "|", "-", "/", "!", "(", ")")
_LINE_STARTS = ("attributes", "relations", "appearance")  # words that begin a line of a list, with no space before them

CHAT_TEMPLATE = (
    "{%- macro content(message) -%}"
    "{%- if message['content'] is string -%}{{- message['content'] -}}"
    "{%- else -%}{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'image' -%}{{- '<image>' -}}"
    "{%- elif part['type'] == 'text' -%}{{- part['text'] -}}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}"
    "{%- endmacro -%}"
    "{%- for message in messages -%}"
    "{%- if message['role'] not in ['system', 'user', 'assistant'] -%}"
    "{{- raise_exception('Unknown role: ' + message['role']) -}}"
    "{%- endif -%}"
    "{{- '<' + message['role'] + '>' -}}"
    "{%- if message['role'] == 'assistant' -%}"
    "{%- generation -%}{{- content(message) -}}{{- '<end>' -}}{%- endgeneration -%}"
    "{%- else -%}{{- content(message) -}}{{- '<end>' -}}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<assistant>' -}}{%- endif -%}"
)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer, trained on `WORDS`, the levels and punctuation; the same on every call and every machine."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    trainer = trainers.BpeTrainer(
        vocab_size=4096,  # never reached: merging stops when every word is one token
        min_frequency=2,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    spaced = " ".join([*WORDS, *LEVELS, *_MARKS])
    lines = "\n".join(["", *_LINE_STARTS])
    tags = "<think></think><answer></answer> <think> </think> <answer> </answer>"
    tokenizer.train_from_iterator([spaced, lines, tags] * 2, trainer)
    wrap: Any = PreTrainedTokenizerFast
    wrapped: PreTrainedTokenizerFast = wrap(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<end>",
        additional_special_tokens=list(SPECIAL_TOKENS[2:]),
        model_max_length=2048,
        clean_up_tokenization_spaces=False,
    )
    return wrapped


def build_processor() -> LlavaProcessor:
    """Tokenizer, 64 x 64 image processor (scaled to -1..1) and chat template."""
    from transformers import LlavaProcessor
    from transformers.models.siglip import SiglipImageProcessorPil

    side = {"height": IMAGE_SIDE, "width": IMAGE_SIDE}
    build: Any = LlavaProcessor
    processor: LlavaProcessor = build(
        image_processor=SiglipImageProcessorPil(size=side, image_mean=[0.5] * 3, image_std=[0.5] * 3),
        tokenizer=build_tokenizer(),
        patch_size=PATCH,
        vision_feature_select_strategy="full",
        num_additional_image_tokens=0,
        image_token="<image>",
        chat_template=CHAT_TEMPLATE,
    )
    return processor


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int = 0) -> LlavaForConditionalGeneration:
    """The untrained model in fp32, its weights drawn from ``seed``."""
    import torch
    from transformers import LlavaConfig, LlavaForConditionalGeneration, Qwen2Config, SiglipVisionConfig

    token: dict[str, Any] = {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIAL_TOKENS}
    vision = SiglipVisionConfig(
        image_size=IMAGE_SIDE,
        patch_size=PATCH,
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=384,
        vision_use_head=False,
    )
    text = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        intermediate_size=384,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        initializer_range=0.08,
        bos_token_id=None,
        eos_token_id=token["<end>"],
        pad_token_id=token["<pad>"],
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=token["<image>"],
        image_seq_length=IMAGE_TOKENS,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=True,
    )
    torch.manual_seed(seed)
    model = LlavaForConditionalGeneration(config)
    with torch.no_grad():
        # A head that starts by attending to tokens like its own and copying them learns to bind words to patches sooner
        # (in the spirit of mimetic initialization, Trockman and Kolter 2023).
        for layer in model.model.language_model.layers:
            layer.self_attn.k_proj.weight.copy_(layer.self_attn.q_proj.weight)
            layer.self_attn.o_proj.weight.copy_(layer.self_attn.v_proj.weight.T)
    model.generation_config.eos_token_id = token["<end>"]
    model.generation_config.pad_token_id = token["<pad>"]
    return model


def save(model: LlavaForConditionalGeneration, processor: LlavaProcessor, folder: Path) -> None:
    """Write everything that `AutoProcessor` and `AutoModelForImageTextToText` load from ``folder``."""
    model.save_pretrained(folder, safe_serialization=True)
    processor.save_pretrained(folder)
    for path in folder.iterdir():
        path.chmod(0o644)  # safetensors writes files that only their owner reads
