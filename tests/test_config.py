"""Axes and layers, on small configurations of their own."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path, PurePath
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from t2i_eval_kedro.config import Axes, ExperimentConfigLoader, as_yaml, merge, overview
from t2i_eval_kedro.errors import T2IEvalError

PARAMETERS = {
    "benchmark": "shapes",
    "student": "small",
    "variant": "full",
    "seed": 0,
    "model": {"model": None},
    "sft": {
        "lr": 0.1,
        "max_steps": None,
        "epochs": 1.0,
        "steps_share": 1.0,
        "batch_size": 2,
        "gradient_accumulation_steps": 64,
        "batch_share": 1.0,
        "lora": {"r": 16, "alpha": 32},
    },
    "repeats": {},
    "variants": {
        "full": {},
        "low": {"sft": {"lora": {"r": 2}}},
        "short": {"sft": {"steps_share": 0.1}},
        "broken": {"sft": {"lrr": 1}},
        "axis": {"seed": 3},
    },
    "studies": {"quick": {"variants": ["full", "short"], "overrides": {"sft": {"steps_share": 0.5, "lr": 0.3}}}},
}
STUDENTS = {
    "small": {"model": {"model": "tiny"}, "sft": {"max_steps": 1000, "lora": {"r": 4}}, "repeats": {"score": 2}},
    "large": {"model": {"model": "big"}},
}
CATALOG = {
    "_run": "${runtime_params:benchmark}/${runtime_params:student}/${runtime_params:variant}/seed_${runtime_params:seed}",
    "summary": {"type": "json.JSONDataset", "filepath": "data/08_reporting/${_run}/summary.json"},
}


class Conf:
    """A folder of configuration files, and the loader of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write("base/parameters.yml", PARAMETERS)
        self.write("base/catalog.yml", CATALOG)
        for name, settings in STUDENTS.items():
            self.write(f"base/students/{name}.yml", settings)
        self.write("test/parameters.yml", {"sft": {"lr": 0.5}})

    def write(self, path: str, content: dict[str, Any]) -> None:
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / path).write_text(yaml.safe_dump(content, sort_keys=False))

    def loader(self, env: str | None = None, **runtime: Any) -> ExperimentConfigLoader:
        return ExperimentConfigLoader(
            str(self.folder),
            env,
            runtime,
            base_env="base",
            default_run_env="local",
            merge_strategy={"parameters": "soft"},
        )

    def parameters(self, env: str | None = None, **runtime: Any) -> dict[str, Any]:
        return self.loader(env, **runtime)["parameters"]

    def summary(self, env: str | None = None, **runtime: Any) -> str:
        return self.loader(env, **runtime)["catalog"]["summary"]["filepath"]


@pytest.fixture
def conf(tmp_path: Path) -> Conf:
    return Conf(tmp_path)


def test_an_axis_comes_from_the_last_layer_and_every_path_and_parameter_follows(conf: Conf) -> None:
    assert conf.summary() == "data/08_reporting/shapes/small/full/seed_0/summary.json"
    conf.write("local/parameters.yml", {"benchmark": "mine", "student": "large", "seed": 1})
    assert conf.summary() == "data/08_reporting/mine/large/full/seed_1/summary.json"
    assert conf.summary(variant="quick/low", seed=2) == "data/08_reporting/mine/large/quick/low/seed_2/summary.json"
    parameters = conf.parameters(seed="3")
    assert [parameters[name] for name in asdict(Axes("", "", "", 0))] == ["mine", "large", "full", 3]
    assert parameters["model"] == {"model": "big"}
    assert conf.summary("test") == "data/08_reporting/shapes/small/full/seed_0/summary.json"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"student": "smal"}, r"no student 'smal'; the students are large, small"),
        ({"student": 7}, r"no student '7'"),
        ({"variant": "smal"}, r"no variant 'smal'; the variants are full, low, short"),
        ({"variant": "slow/low"}, r"no study 'slow'; the studies are quick"),
        ({"variant": "quick/smal"}, r"no variant 'smal'"),
        ({"seed": "abc"}, r"'abc' is not a seed; give a whole number from 0"),
        ({"seed": -1}, r"'-1' is not a seed"),
        ({"seed": 0.5}, r"'0.5' is not a seed"),
        ({"seed": True}, r"'True' is not a seed"),
        ({"seed": 2**31}, r"is not a seed"),
        ({"benchmark": "../up"}, r"'../up' cannot be a benchmark's name"),
        ({"benchmark": "a/b"}, r"cannot be a benchmark's name"),
        ({"benchmark": None}, r"'None' cannot be a benchmark's name"),
        ({"benchmark": 1.5}, r"'1.5' cannot be a benchmark's name"),
    ],
)
def test_a_wrong_axis_is_refused_with_what_there_is(conf: Conf, given: dict[str, Any], message: str) -> None:
    for key in ("parameters", "catalog"):
        with pytest.raises(T2IEvalError, match=message):
            conf.loader(**given)[key]


def test_each_layer_is_over_the_one_before(conf: Conf) -> None:
    def lora(env: str | None = None, **runtime: Any) -> dict[str, Any]:
        return conf.parameters(env, **runtime)["sft"]["lora"]

    assert lora(student="large") == {"r": 16, "alpha": 32}  # neutral
    assert lora() == {"r": 4, "alpha": 32}  # student
    assert lora(variant="low") == {"r": 2, "alpha": 32}  # variant
    assert conf.parameters(variant="low")["sft"]["lr"] == 0.1
    assert conf.parameters(variant="quick/low")["sft"]["lr"] == 0.3  # study
    assert conf.parameters("test", variant="quick/low")["sft"]["lr"] == 0.5  # environment
    conf.write("local/parameters.yml", {"sft": {"lora": {"r": 8}}})
    assert lora(variant="low") == {"r": 8, "alpha": 32}
    assert lora(variant="low", sft={"lora": {"r": 9}}) == {"r": 9, "alpha": 32}  # command line


def test_every_value_knows_its_layer(conf: Conf) -> None:
    conf.write("local/parameters.yml", {"model": {"model": "mine"}})
    layers = conf.loader(variant="quick/low", seed=4).resolved.layers
    assert layers["sft.epochs"] == "student small"  # unset there, because it gives steps
    assert layers["sft.lora.alpha"] == "neutral"
    assert layers["sft.lora.r"] == "variant low"
    assert layers["sft.lr"] == "study quick"
    assert layers["sft.max_steps"] == "student small, times 0.5 (study quick)"
    assert layers["model.model"] == "conf/local"
    assert layers["seed"] == "--params"
    assert layers["repeats.score"] == "student small"
    assert "repeats" not in layers


def test_where_a_group_becomes_a_value_or_a_value_a_group_no_layer_of_before_is_left(conf: Conf) -> None:
    conf.write("local/parameters.yml", {"sft": {"lora": None}})
    assert "sft.lora" in (layers := conf.loader().resolved.layers)
    assert not [name for name in layers if name.startswith("sft.lora.")]
    back = conf.loader(sft={"lora": {"r": 8}}).resolved.layers
    assert (back["sft.lora.r"], "sft.lora" in back) == ("--params", False)


def test_a_share_multiplies_the_steps_or_epochs_below_it(conf: Conf) -> None:
    def length(env: str | None = None, **runtime: Any) -> tuple[int | None, float | None]:
        sft = conf.parameters(env, **runtime)["sft"]
        assert "steps_share" not in sft
        return sft["max_steps"], sft["epochs"]

    assert length() == (1000, None)
    assert length(student="large") == (None, 1.0)
    assert length(variant="short") == (100, None)
    assert length(student="large", variant="short") == (None, pytest.approx(0.1))
    assert length(variant="quick/short") == (50, None)
    assert length(variant="short", sft={"max_steps": 7}) == (7, None)  # steps of a higher layer are steps
    assert length(variant="short", sft={"epochs": 2.0}) == (None, 2.0)
    assert length(variant="short", sft={"steps_share": 0.001}) == (1, None)
    for wrong in (0, -1, "half", True):
        with pytest.raises(T2IEvalError, match=r"\(sft\.steps_share, --params\) is not a share"):
            length(sft={"steps_share": wrong})


def test_a_share_of_the_examples_a_step_multiplies_what_makes_up_the_step(conf: Conf) -> None:
    def step(**runtime: Any) -> tuple[int, int]:
        sft = conf.parameters(student="large", sft=runtime)["sft"]
        assert "batch_share" not in sft
        return sft["batch_size"], sft["gradient_accumulation_steps"]

    assert step() == (2, 64)
    assert step(batch_share=0.16) == (2, 10)
    assert step(batch_share=0.001) == (2, 1)
    conf.write(
        "base/students/large.yml",
        {"model": {"model": "big"}, "sft": {"batch_size": 32, "gradient_accumulation_steps": 1}},
    )
    assert step(batch_share=0.16) == (5, 1)
    assert step(batch_share=2) == (64, 1)
    with pytest.raises(T2IEvalError, match=r"'0' \(sft\.batch_share, --params\) is not a share"):
        step(batch_share=0)


def test_an_unknown_parameter_is_named_with_the_nearest(conf: Conf) -> None:
    with pytest.raises(T2IEvalError, match=r"no parameter 'benchmrk' \(--params\); did you mean benchmark"):
        conf.parameters(benchmrk="tifa160")
    with pytest.raises(T2IEvalError, match=r"no parameter 'sft\.lora\.rr'"):
        conf.parameters(sft={"lora": {"rr": 1}})
    with pytest.raises(T2IEvalError, match=r"no parameter 'sft\.lrr' \(variant broken\)"):
        conf.parameters(variant="broken")
    with pytest.raises(T2IEvalError, match=r"The variant axis sets 'seed'"):
        conf.parameters(variant="axis")
    conf.write("base/students/small.yml", {"sft": {"max_stps": 3}})
    with pytest.raises(
        T2IEvalError, match=r"no parameter 'sft\.max_stps' \(student small\); did you mean sft.max_steps"
    ):
        conf.parameters()
    conf.write("test/parameters.yml", {"sfft": {"lr": 0.5}})
    with pytest.raises(T2IEvalError, match=r"no parameter 'sfft' \(conf/test\)"):
        conf.parameters("test", student="large")


def test_an_environment_brings_students_variants_and_studies_of_its_own(conf: Conf) -> None:
    conf.write("local/students/mine.yml", {"model": {"model": "my_model"}})
    conf.write("local/parameters.yml", {"variants": {"high": {"sft": {"lora": {"r": 64}}}}})
    parameters = conf.parameters(student="mine", variant="quick/high")
    assert parameters["model"]["model"] == "my_model"
    assert parameters["sft"]["lora"]["r"] == 64
    with pytest.raises(T2IEvalError, match=r"no student 'mine'; the students are large, small"):
        conf.parameters("test", student="mine")


def test_an_environment_that_is_not_there_is_refused_unless_nobody_named_it(conf: Conf) -> None:
    assert conf.parameters()["sft"]["lr"] == 0.1  # there is no conf/local
    with pytest.raises(T2IEvalError, match=r"no environment 'nope' \(--env\); there are base, test"):
        conf.parameters("nope")


def test_a_recipe_that_is_not_yaml_is_named(conf: Conf) -> None:
    for text, message in (("sft: [", "is not valid YAML"), ("- a", "is not a mapping")):
        (conf.folder / "base/students/bad.yml").write_text(text)
        with pytest.raises(T2IEvalError, match=rf"bad\.yml' {message}"):
            conf.parameters()


def test_a_recipe_as_yaml_gives_the_settings_back_with_their_layers(conf: Conf) -> None:
    resolved = conf.loader(variant="quick/low").resolved
    text = as_yaml(resolved)
    assert yaml.safe_load(text) == {
        name: value for name, value in resolved.parameters.items() if name not in ("variants", "studies")
    }
    lines = {line.split(":")[0].strip(): line.partition("#")[2].strip() for line in text.splitlines()}
    assert text.startswith("benchmark: shapes")
    assert (lines["r"], lines["lr"], lines["score"], lines["alpha"]) == (
        "variant low",
        "study quick",
        "student small",
        "neutral",
    )


def test_an_overview_has_every_student_in_every_variant(conf: Conf) -> None:
    groups = {"model": {"model": None, "dtype": "f"}, "judging": {"wording": "full"}}
    more = {"batch_size": 2, "gradient_accumulation_steps": 1, "learning_rate": 0.1}
    variants = {name: value for name, value in PARAMETERS["variants"].items() if name not in ("broken", "axis")}
    conf.write("base/parameters.yml", {**PARAMETERS, **groups, "sft": PARAMETERS["sft"] | more, "variants": variants})
    table = overview(conf.loader())
    rows = [dict(zip(table[0], row, strict=True)) for row in table[1:]]
    assert len(rows) == len(STUDENTS) * len(variants)
    short = next(row for row in rows if (row["student"], row["variant"]) == ("small", "short"))
    assert (short["sft.max_steps"], short["sft.epochs"]) == ("100", "-")
    assert short["changed by the variant"] == "sft.max_steps=100"


def test_an_empty_mapping_takes_any_name(conf: Conf) -> None:
    assert conf.parameters(repeats={"extract": 3})["repeats"] == {"score": 2, "extract": 3}


def test_a_folder_says_which_experiment_it_is_of() -> None:
    for axes in (Axes("shapes", "small", "full", 0), Axes("mine", "large", "quick/low", 12)):
        assert Axes.of_folder(PurePath(axes.folder)) == axes
    for other in ("tiny_vlm", "shapes/small/full", "shapes/small/full/0", "a/b/c/d/e/seed_0"):
        assert Axes.of_folder(PurePath(other)) is None


_trees = st.recursive(st.integers(), lambda children: st.dictionaries(st.sampled_from("abc"), children), max_leaves=8)


@given(base=st.dictionaries(st.sampled_from("abc"), _trees), over=st.dictionaries(st.sampled_from("abc"), _trees))
def test_merging_keeps_what_is_not_overridden(base: dict[str, Any], over: dict[str, Any]) -> None:
    merged = merge(base, over)
    assert set(merged) == set(base) | set(over)
    assert merge(merged, over) == merged
    assert merge(base, {}) == base
