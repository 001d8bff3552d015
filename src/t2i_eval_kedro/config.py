"""The configuration of one experiment: base, environment, the variant's overrides, then the command line.

The axes of an experiment are ``benchmark``, ``variant`` and ``seed``. ``parameters_ablations.yml`` names the variants; each is
a set of overrides of other parameters, so that one dial an ablation is turned in one place.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from kedro.config import OmegaConfigLoader

from t2i_eval_kedro.errors import T2IEvalError


class ExperimentConfigLoader(OmegaConfigLoader):
    """Kedro's loader, with the overrides of ``variant`` applied to the parameters and unknown names refused."""

    def __getitem__(self, key: str) -> dict[str, Any]:
        """The configuration ``key``.

        Raises:
            T2IEvalError: a parameter on the command line or in a variant that no parameters file knows, or an unknown
                variant.
        """
        if key != "parameters":
            return super().__getitem__(key)
        given, self.runtime_params = self.runtime_params or {}, {}
        try:
            declared = super().__getitem__(key)
        finally:
            self.runtime_params = given
        refuse_unknown(given, declared, "--params")
        variant, variants = given.get("variant", declared["variant"]), declared["variants"]
        if variant not in variants:
            raise T2IEvalError(f"There is no variant '{variant}'; the variants are {', '.join(variants)}.")
        overrides = variants[variant] or {}
        refuse_unknown(overrides, declared, f"variant '{variant}'")
        return merge(merge(declared, overrides), given)


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with the values of ``over``; mappings are merged, everything else is replaced."""
    merged = dict(base)
    for name, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
        merged[name] = merge(merged[name], value) if both else value
    return merged


def refuse_unknown(given: Mapping[str, Any], declared: Mapping[str, Any], where: str, prefix: str = "") -> None:
    """Refuse a name in ``given`` that ``declared`` does not have; an empty mapping in ``declared`` takes any name.

    Raises:
        T2IEvalError: names the parameter and the nearest declared ones.
    """
    for name, value in given.items():
        if name not in declared:
            near = difflib.get_close_matches(str(name), [str(key) for key in declared], n=3, cutoff=0.5)
            names = ", ".join(f"{prefix}{key}" for key in (near or declared))
            raise T2IEvalError(f"There is no parameter '{prefix}{name}' ({where}); did you mean {names}?")
        if isinstance(value, Mapping) and isinstance(declared[name], Mapping) and declared[name]:
            refuse_unknown(value, declared[name], where, f"{prefix}{name}.")
