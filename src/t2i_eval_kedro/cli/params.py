"""``--params`` with lists: ``judging.protocols=[levels,dsg],seed=1``. Kedro splits at every comma, also at those of a list."""

from __future__ import annotations

from typing import Any

import click
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

PARAMS_HELP = (
    "Parameters as name=value, separated by commas; a value may be a list, as in judging.protocols=[levels,dsg]."
)
_PAIRS = {"[": "]", "{": "}", '"': '"', "'": "'"}


def split_at_commas(text: str) -> list[str]:
    """The parts of ``text`` between commas that stand in no bracket and no quotation marks.

    Example:
        >>> split_at_commas("a=[1,2],b=3")
        ['a=[1,2]', 'b=3']
    """
    parts, open_marks = [""], ""
    for character in text:
        if open_marks and character == open_marks[-1]:
            open_marks = open_marks[:-1]
        elif character in _PAIRS and open_marks[-1:] not in ('"', "'"):
            open_marks += _PAIRS[character]
        if character == "," and not open_marks:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def split_params(context: click.Context, parameter: click.Parameter, value: Any) -> dict[str, Any]:
    """The nested parameters that ``value`` names, for a click option.

    Raises:
        click.BadParameter: a part is no ``name=value``, or its value is not valid YAML.
    """
    if isinstance(value, dict):
        return value
    parts = split_at_commas(value or "")
    for part in parts:
        name, equals, _ = part.partition("=")
        if not equals or not name.strip():
            raise click.BadParameter(f"'{part}' is not name=value; write for example seed=1.", context, parameter)
    try:
        container = OmegaConf.to_container(OmegaConf.from_dotlist(parts))
    except (OmegaConfBaseException, YAMLError) as error:
        raise click.BadParameter(f"'{value}' cannot be read: {error}", context, parameter) from error
    assert isinstance(container, dict)
    return {str(name): given for name, given in container.items()}
