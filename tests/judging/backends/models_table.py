"""Writes ``docs/models.md``: what works on which architecture, as the tests of ``test_architectures.py`` found it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

TESTS = {
    "test_it_judges_from_shared_prefixes_as_it_does_plainly": "distributions and free text; one image encoded once",
    "test_it_is_judged_by_every_protocol_to_the_end": "every protocol",
    "test_a_level_s_probability_is_that_of_its_token_sequences": "levels of several tokens",
    "test_what_is_learned_follows_what_a_judge_is_asked_with": "answer positions",
    "test_training_makes_its_answers_more_probable": "SFT",
    "test_an_interrupted_training_resumes_to_the_same_bytes": "resume",
    "test_an_adapter_loads_in_plain_peft_and_merges_into_the_same_model": "plain peft, merge",
    "test_grpo_scores_what_a_judge_would_be_asked_with": "GRPO, images of several sizes",
}
MODELS = {
    "qwen2_vl": "Qwen2-VL",
    "qwen2_5_vl": "Qwen2.5-VL",
    "qwen3_vl": "Qwen3-VL, instruct",
    "qwen3_vl_thinking": "Qwen3-VL, thinking",
    "internvl3": "InternVL3 (-hf)",
    "llava_1_5": "LLaVA-1.5 (Vicuna)",
    "llava_next": "LLaVA-NeXT (Mistral)",
    "llava_onevision": "LLaVA-OneVision",
    "idefics3": "Idefics3",
    "smolvlm2": "SmolVLM2",
    "gemma3": "Gemma3",
    "minicpm_v_4_6": "MiniCPM-V 4.6",
    "minicpm_v_4_7": "MiniCPM-V 4.7",
}
_HEAD = """# What works on which model

Made by `make test-models`; do not edit. Each row is a tiny model of random weights of that architecture, with a chat template and a tokenizer
that behave as its published ones do (`tests/judging/backends/architectures.py` says what is modelled). It shows that the code of the
project, of transformers, peft and trl goes together, on a CPU in float32; it says nothing about how well a real model judges.
Processors that read videos too need the extra `torchvision`, and SmolVLM2 also `pip install num2words`; the tests leave the videos out.

"""
_TAIL = """
- Every protocol: the model is asked every request of every protocol in the wording `full`, with a reference image or a second image where
  there is one; what its random weights write is replaced by a readable answer, so that each chain goes on to its end.
- `prefixes: no`: the text model has layers other than full causal attention (sliding windows in Gemma3, linear attention in MiniCPM-V), so
  each question is asked with its image encoded again.
- `refused`: trl cannot tell apart the images of several requests, as MiniCPM-V's processor joins them; GRPO says so before anything is computed.
- Thinking models: `model.thinking: closed` (default) ends each request with an empty block of thoughts; `generated` lets a judge think first,
  at most `model.thinking_tokens`, by every protocol, and reads its answer behind that; examples are learned with the block closed. The tasks
  `conversation` and `published_subtasks` are refused for them, for MiniCPM-V 4.6 and 4.7 and for LLaVA-OneVision, whose templates write an
  earlier answer otherwise than they ask for it.
- GRPO on LLaVA-OneVision takes one image per request.
- MiniCPM-V 2.6, T2I-Eval's student, is not in transformers: it needs `model.trust_remote_code=true` and a pinned revision, and is not tested
  here. Its successors 4.6 and 4.7 are, and `qwen2_5_vl_7b` has a text model of the same width and depth.
- LLaVA-NeXT 13B, EvalAlign's student: its authors' code is not in transformers; `llava-hf/llava-v1.6-vicuna-13b-hf` replaces it (LLaVA-1.5's
  template).
"""


def write(
    path: Path, outcomes: Mapping[tuple[str, str], bool], plain: Collection[str], refused: Collection[str]
) -> None:
    """Write the table.

    Args:
        path: file to write.
        outcomes: (test, architecture) -> whether all its cases passed.
        plain: architectures that are asked without shared prefixes.
        refused: architectures whose GRPO is refused.
    """
    lines = ["| model | architecture | " + " | ".join(TESTS.values()) + " |", "|---" * (len(TESTS) + 2) + "|"]
    for name, title in MODELS.items():
        cells = []
        for test in TESTS:
            outcome = outcomes.get((test, name))
            cell = "not run" if outcome is None else "yes" if outcome else "**no**"
            if outcome and name in plain and test == next(iter(TESTS)):
                cell = "yes (prefixes: no)"
            if outcome and name in refused and test == list(TESTS)[-1]:
                cell = "refused"
            cells.append(cell)
        lines.append(f"| `{name}` | {title} | " + " | ".join(cells) + " |")
    path.write_text(_HEAD + "\n".join(lines) + "\n" + _TAIL, encoding="utf-8")
