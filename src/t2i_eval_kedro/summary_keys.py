"""Keys of ``summary.json`` that have been renamed, and one function that reads summaries written with the old ones.

The old keys are read for one release after 0.1.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SECTIONS = {"by": "within_group", "ceiling": "noise_ceiling", "human_level": "leave_one_rater_out"}
"""Sections of the summary, old name -> new name."""

KEYS = {
    ("settings", "level"): "confidence",
    ("settings", "missing"): "missing_policy",
    ("counts", "missing"): "not_applicable",
    ("evaluators", "share_of_ceiling"): "corrected_for_attenuation",
    ("raters", "anonymous"): "unidentified",
    ("leave_one_rater_out", "people"): "rater",
    ("ranks", "probability"): "rank_probability",
    ("elements", "missing"): "n_unscored",
    ("preferences", "missing"): "n_unscored",
    ("published", "really"): "actual_method",
}
"""(section, old key at any depth of it) -> new key."""

STATISTICS = {"kendall_b_by_prompt": "kendall_b_within_prompt"}
"""Values of ``significance[].statistic``, old -> new."""


def with_current_keys(summary: Mapping[str, Any]) -> dict[str, Any]:
    """``summary`` with every renamed key under its present name; a summary of today comes back equal."""
    out: dict[str, Any] = {}
    for key, section in summary.items():
        name = SECTIONS.get(key, key)
        renamed = {old: new for (place, old), new in KEYS.items() if place == name}
        out[name] = _rename(section, renamed)
    if isinstance(out.get("significance"), list):
        out["significance"] = [
            {**entry, "statistic": STATISTICS.get(entry["statistic"], entry["statistic"])}
            if "statistic" in entry
            else entry
            for entry in out["significance"]
        ]
    return out


def _rename(node: Any, renamed: Mapping[str, str]) -> Any:
    if isinstance(node, Mapping):
        # Only keys that hold figures are renamed: an evaluator or dimension that bears the name of a key holds a mapping.
        return {
            key if isinstance(value, Mapping) else renamed.get(key, key): _rename(value, renamed)
            for key, value in node.items()
        }
    return [_rename(one, renamed) for one in node] if isinstance(node, list) else node
