from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from t2i_eval_kedro.config import ExperimentConfigLoader, merge
from t2i_eval_kedro.errors import T2IEvalError

PARAMETERS = {
    "benchmark": "shapes",
    "variant": "full",
    "sft": {"lr": 0.1, "lora": {"r": 16, "alpha": 32}},
    "repeats": {},
    "variants": {"full": {}, "small": {"sft": {"lora": {"r": 2}}}, "broken": {"sft": {"lrr": 1}}},
}


@pytest.fixture
def load(tmp_path: Path):
    for env in ("base", "test"):
        (tmp_path / env).mkdir()
    (tmp_path / "base" / "parameters.yml").write_text(yaml.safe_dump(PARAMETERS, sort_keys=False))
    (tmp_path / "test" / "parameters.yml").write_text(yaml.safe_dump({"sft": {"lr": 0.5}}))

    def read(env: str = "base", **runtime: Any) -> dict[str, Any]:
        loader = ExperimentConfigLoader(
            str(tmp_path), env, runtime, base_env="base", merge_strategy={"parameters": "soft"}
        )
        return loader["parameters"]

    return read


def test_the_variant_overrides_the_environment_and_the_command_line_the_variant(load) -> None:
    assert load("test", variant="small")["sft"] == {"lr": 0.5, "lora": {"r": 2, "alpha": 32}}
    assert load("test", variant="small", sft={"lora": {"r": 4}})["sft"] == {"lr": 0.5, "lora": {"r": 4, "alpha": 32}}
    assert load()["sft"] == PARAMETERS["sft"]


def test_an_unknown_variant_is_named_with_those_there_are(load) -> None:
    with pytest.raises(T2IEvalError, match=r"no variant 'smal'; the variants are full, small, broken"):
        load(variant="smal")


def test_an_unknown_parameter_is_named_with_the_nearest(load) -> None:
    with pytest.raises(T2IEvalError, match=r"no parameter 'benchmrk' \(--params\); did you mean benchmark"):
        load(benchmrk="tifa160")
    with pytest.raises(T2IEvalError, match=r"no parameter 'sft\.lora\.rr'"):
        load(sft={"lora": {"rr": 1}})
    with pytest.raises(T2IEvalError, match=r"no parameter 'sft\.lrr' \(variant 'broken'\)"):
        load(variant="broken")


def test_an_empty_mapping_takes_any_name(load) -> None:
    assert load(repeats={"score": 3})["repeats"] == {"score": 3}


_trees = st.recursive(st.integers(), lambda children: st.dictionaries(st.sampled_from("abc"), children), max_leaves=8)


@given(base=st.dictionaries(st.sampled_from("abc"), _trees), over=st.dictionaries(st.sampled_from("abc"), _trees))
def test_merging_keeps_what_is_not_overridden(base: dict[str, Any], over: dict[str, Any]) -> None:
    merged = merge(base, over)
    assert set(merged) == set(base) | set(over)
    assert merge(merged, over) == merged
    assert merge(base, {}) == base
