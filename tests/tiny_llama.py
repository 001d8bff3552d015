"""A language model for tests, and propositions in DSG's layout."""

from __future__ import annotations

from pathlib import Path

ROWS = [
    ("a1", "A red cube on a table", 1, 0, "entity - whole (cube)"),
    ("a1", "A red cube on a table", 2, 1, "attribute - color (cube,  Red)"),
    ("a1", "A red cube on a table", 3, 0, "entity - whole (table)"),
    ("a1", "A red cube on a table", 4, "1,3", "relation - spatial (cube, table, on)"),
    ("a2", "the red cube, on a table!", 1, 0, "entity - whole (cubes)"),
    ("b1", "three dogs", 1, 0, "entity - whole (dogs)"),
    ("b1", "three dogs", 2, 1, "other - count (dogs, ==3)"),
    ("c1", "oil painting", 1, 0, "global - - (oil painting)"),
]


def tiny_llama(folder: Path) -> Path:
    """A random Llama of SmolLM2's architecture, with a tokenizer of bytes and its chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = {token: number for number, token in enumerate(["<|im_start|>", "<|im_end|>", *alphabet])}
    plain = Tokenizer(models.BPE(tokens, []))
    plain.pre_tokenizer, plain.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=plain, eos_token="<|im_end|>", additional_special_tokens=["<|im_start|>"]
    )
    tokenizer.chat_template = (
        "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    config = LlamaConfig(
        **{"vocab_size": len(tokens), "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2},
        **{"num_attention_heads": 4, "num_key_value_heads": 2, "eos_token_id": 1, "tie_word_embeddings": True},
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
