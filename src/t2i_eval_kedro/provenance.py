"""Where a result comes from: the commit and the versions that made it."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("t2i-eval-kedro", "kedro", "torch", "transformers", "peft", "trl", "pandas", "scipy", "numpy")


def commit() -> str:
    """The commit of the working tree, marked where files other than results differ from it; ``unknown`` outside git."""
    try:
        head = _git("describe", "--always", "--abbrev=10")
        # A run writes its own metrics, which git tracks, before its report asks where it comes from.
        changed = _git("diff", "--name-only", "HEAD", "--", ":(top)", ":(top,exclude)data/08_reporting")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head}-dirty" if changed else head


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()


def provenance(model: str) -> dict[str, object]:
    """Commit, model, Python and package versions (read from metadata, so that nothing heavy is imported)."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {"commit": commit(), "model": model, "python": platform.python_version(), "versions": versions}
