"""A group whose commands are imported when they are called: most of them need libraries that are slow to import."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click


class LazyCommands(click.Group):
    """Commands by the place of each; the help of the group imports them all only where it has no line for one."""

    def __init__(
        self, *args: Any, places: Mapping[str, str], lines: Mapping[str, str] | None = None, **kwargs: Any
    ) -> None:
        """Take the commands.

        Args:
            args: as click.Group takes them.
            places: command -> ``<module below cli>.<name in it>``.
            lines: command -> the line that the help prints, where it is not read off the command.
            kwargs: as click.Group takes them.
        """
        super().__init__(*args, **kwargs)
        self._places = dict(places)
        self._lines = dict(lines or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the commands in the order in which they were given."""
        return list(self._places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command ``cmd_name``; None where there is none of this name."""
        if cmd_name not in self._places:
            return None
        module, _, name = self._places[cmd_name].rpartition(".")
        command: click.Command = getattr(import_module(f"t2i_eval_kedro.cli.{module}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the section of commands."""
        if set(self._lines) < set(self._places):
            super().format_commands(ctx, formatter)
            return
        with formatter.section("Commands"):
            formatter.write_dl([(name, self._lines[name]) for name in self._places])
