"""The options of every command that reads tables which people bring."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import click
from pydantic import ValidationError

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.tables.settings import IdRule, ReadingSettings, Repeated, read_mapping

_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--mapping",
        type=click.Path(path_type=Path),
        help="t2i_eval.yml of `t2i-eval check`: files, column names and settings.",
    ),
    click.option(
        "--ratings-scale",
        multiple=True,
        metavar="RATER=MIN:MAX",
        help="Scale that this rater used, mapped onto --scale; MAX:MIN for a reversed one. May be repeated.",
    ),
    click.option(
        "--missing-code", multiple=True, type=float, metavar="N", help="Number that means 'no rating'; may be repeated."
    ),
    click.option(
        "--ratings-lower-is-better/--ratings-higher-is-better",
        default=None,
        help="Whether low ratings mean good images, as ranks do.",
    ),
    click.option(
        "--id-rule", multiple=True, type=click.Choice(get_args(IdRule)), help="Repair of identifiers before joining."
    ),
    click.option(
        "--repeated", type=click.Choice(get_args(Repeated)), help="Policy for several values of one rater or judge."
    ),
    click.option(
        "--label", multiple=True, metavar="TEXT=a|b|tie", help="What a label of the preferences means; may be repeated."
    ),
    click.option("--decimal", type=click.Choice([".", ","]), help="Decimal sign, where the numbers do not show it."),
    click.option(
        "--same-scale", is_flag=True, help="Judges' scores are on the scale of the ratings, so that RMSE is defined."
    ),
    click.option(
        "--max-unreadable",
        type=click.FloatRange(0, 1),
        help="Fraction of present cells that may be unreadable. Default: 0.05.",
    ),
)
NAMES = ("mapping", "ratings_scale", "missing_code", "ratings_lower_is_better", "id_rule", "repeated", "label", "decimal", "same_scale", "max_unreadable")  # fmt: skip


def reading_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options, which reach the command as the keyword arguments :data:`NAMES`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def reading_settings(given: dict[str, Any]) -> ReadingSettings:
    """The settings of the options in ``given``, on top of the mapping's.

    Raises:
        T2IEvalError: an option cannot be read.
    """
    settings = read_mapping(given["mapping"]) if given.get("mapping") else ReadingSettings()
    more: dict[str, Any] = {}
    if given.get("ratings_scale"):
        more["rater_scales"] = dict(settings.rater_scales) | dict(map(_rater_scale, given["ratings_scale"]))
    if given.get("label"):
        more["labels"] = dict(settings.labels) | dict(map(_label, given["label"]))
    for option, name in (("missing_code", "missing_codes"), ("id_rule", "id_rules")):
        if given.get(option):
            more[name] = tuple(given[option])
    for name in ("ratings_lower_is_better", "repeated", "decimal", "max_unreadable"):
        if given.get(name) is not None:
            more[name] = given[name]
    if given.get("same_scale"):
        more["same_scale"] = True
    try:
        return ReadingSettings.model_validate(settings.model_dump() | more)
    except ValidationError as error:
        first = error.errors()[0]
        raise T2IEvalError(f"An option cannot be used: {'.'.join(map(str, first['loc']))}: {first['msg']}.") from error


def _rater_scale(text: str) -> tuple[str, tuple[float, float]]:
    rater, equals, scale = text.rpartition("=")
    bottom, colon, top = scale.partition(":")
    try:
        if equals and colon and rater:
            return rater, (float(bottom), float(top))
    except ValueError:
        pass
    raise T2IEvalError(f"'--ratings-scale {text}' is not RATER=MIN:MAX, for example anna=0:100.")


def _label(text: str) -> tuple[str, str]:
    label, equals, meaning = text.rpartition("=")
    if not equals or meaning not in ("a", "b", "tie"):
        raise T2IEvalError(f"'--label {text}' is not TEXT=a, TEXT=b or TEXT=tie.")
    return label, meaning
