"""What is slow to import waits until it is needed. (That imports run one way is in pyproject.toml, for import-linter.)"""

from __future__ import annotations

import subprocess
import sys

SLOW = {"torch", "transformers", "trl", "scipy", "numba", "seaborn", "matplotlib", "openai", "ray"}


def test_what_is_slow_to_import_waits_until_it_is_needed() -> None:
    code = "import sys, t2i_eval_kedro.cli, t2i_eval_kedro.pipeline_registry as r; r.register_pipelines(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not SLOW & set(done.stdout.split())
    assert {"pandas", "t2i_eval_kedro.pipelines.sft.nodes"} <= set(done.stdout.split())
