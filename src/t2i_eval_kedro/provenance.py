"""Where a result comes from: the commit and the versions that made it."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("t2i-eval-kedro", "kedro", "torch", "transformers", "peft", "trl", "pandas", "scipy", "numpy")


def commit() -> str:
    """The commit of the working tree, marked where files differ from it; ``unknown`` outside git."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=10"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def provenance(model: str) -> dict[str, object]:
    """Commit, model, Python and package versions (read from metadata, so that nothing heavy is imported)."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {"commit": commit(), "model": model, "python": platform.python_version(), "versions": versions}
