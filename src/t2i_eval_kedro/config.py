"""The configuration of one experiment: base, environment, the variant's overrides, then the command line.

The axes of an experiment are ``benchmark``, ``variant`` and ``seed``. ``parameters_ablations.yml`` names the variants; each is
a set of overrides of other parameters, so that one dial an ablation is turned in one place. ``variant=<study>/<variant>`` applies
what all variants of a study share before the variant's own, and as the name is part of every path, keeps their files together.
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
        overrides = variant_overrides(str(given.get("variant", declared["variant"])), declared)
        return merge(merge(declared, overrides), given)


def variant_overrides(name: str, declared: Mapping[str, Any]) -> dict[str, Any]:
    """What the variant ``name``, or ``<study>/<variant>``, changes in the ``declared`` parameters.

    Raises:
        T2IEvalError: an unknown study or variant, or a parameter that no parameters file knows.
    """
    study, _, variant = name.rpartition("/")
    variants, studies = declared["variants"], declared.get("studies", {})
    if variant not in variants:
        raise T2IEvalError(f"There is no variant '{variant}'; the variants are {', '.join(variants)}.")
    if study and study not in studies:
        raise T2IEvalError(f"There is no study '{study}'; the studies are {', '.join(studies)}.")
    shared = studies[study]["overrides"] if study else {}
    own = variants[variant] or {}
    refuse_unknown(shared, declared, f"study '{study}'")
    refuse_unknown(own, declared, f"variant '{variant}'")
    return merge(shared, own)


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
