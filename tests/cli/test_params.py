"""``--params`` as people write them."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from t2i_eval_kedro.cli.params import split_at_commas, split_params


@click.command()
@click.option("--params", default="", callback=split_params)
def show(params: dict[str, object]) -> None:
    click.echo(repr(params))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("seed=1", {"seed": 1}),
        ("a.b=1,a.c=x", {"a": {"b": 1, "c": "x"}}),
        (
            "judging.wording=full,judging.protocols=[levels,holistic,dsg]",
            {"judging": {"wording": "full", "protocols": ["levels", "holistic", "dsg"]}},
        ),
        ("a=[[1,2],[3]],b={x: 1, y: 2}", {"a": [[1, 2], [3]], "b": {"x": 1, "y": 2}}),
        ("a=null, b=true ,c=1e-3", {"a": None, "b": True, "c": 0.001}),
        ("name='a,b'", {"name": "a,b"}),
        ("path=C:/x=y", {"path": "C:/x=y"}),
    ],
)
def test_lists_and_nested_names_are_read(text: str, expected: dict[str, object]) -> None:
    done = CliRunner().invoke(show, ["--params", text])
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == repr(expected)


@pytest.mark.parametrize(
    ("text", "message"), [("seed", "'seed' is not name=value"), ("=1", "is not name=value"), ("a=[1", "cannot be read")]
)
def test_what_is_no_parameter_is_named(text: str, message: str) -> None:
    done = CliRunner().invoke(show, ["--params", text])
    assert done.exit_code == 2
    assert message in " ".join(done.output.split())


def test_an_apostrophe_within_brackets_does_not_end_them() -> None:
    assert split_at_commas('a=["it\'s, so",2],b=3') == ['a=["it\'s, so",2]', "b=3"]
