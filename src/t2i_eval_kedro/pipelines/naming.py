"""How the pipelines of this package write the inputs of their nodes."""

from __future__ import annotations


def by_name(*datasets: str, **arguments: str) -> dict[str, str]:
    """The inputs of a node, argument -> dataset; those in ``datasets`` go to the argument of their own name.

    That of ``params:model`` is ``model``, that of ``params:model.name`` is ``name``.
    """
    return {name.removeprefix("params:").rpartition(".")[2]: name for name in datasets} | arguments
