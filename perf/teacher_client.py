"""A teacher of a server over made items, to be measured and killed: ``python -m perf.teacher_client URL FOLDER ITEMS``.

The decomposed protocol with the default settings of the teacher, 8 requests in flight; answers go to ``FOLDER/answers.sqlite``
and, at the end, transcripts to ``FOLDER/transcripts.parquet``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml
from pydantic import SecretStr

from t2i_eval_kedro.datasets.answer_store import AnswerStore
from t2i_eval_kedro.judging.backends.openai import OpenAIBackend
from t2i_eval_kedro.judging.backends.openai_settings import OpenAISettings
from t2i_eval_kedro.judging.cache import CachedBackend, Keys
from t2i_eval_kedro.judging.engine import judge
from t2i_eval_kedro.judging.protocols import Decomposed, EvaluationItem, Wording
from t2i_eval_kedro.judging.protocols.wording import WordingSettings

CONF = Path(__file__).parents[1] / "conf" / "base"


def parameters(group: str) -> Any:
    return yaml.safe_load((CONF / f"parameters_{group}.yml").read_text())[group.removesuffix("_distillation")]


def settings(url: str, in_flight: int) -> OpenAISettings:
    """The default settings without limits, which would measure the limits."""
    changed = {"base_url": url, "requests_per_minute": None, "tokens_per_minute": None, "in_flight": in_flight}
    return OpenAISettings(**parameters("teacher_distillation")["openai"] | changed)


def backend(url: str, store: AnswerStore, in_flight: int, picture: bytes = b"\x89PNG") -> CachedBackend:
    chosen = settings(url, in_flight)

    def read(key: str) -> bytes:
        return picture + key.encode()

    keys = Keys(chosen.identity, read)
    return CachedBackend(OpenAIBackend(chosen, SecretStr("sk-none"), read, name=keys), store, keys)


def main(url: str, folder: Path, items: int) -> None:
    wording = Wording.load(CONF / "prompts", "full", WordingSettings(**parameters("judging")["wordings"]["full"]))
    evaluation_items = [EvaluationItem(f"i{i}", f"a thing {i} left of the other", f"{i}.png") for i in range(items)]
    asked = backend(url, AnswerStore(folder / "answers.sqlite"), in_flight=8)
    said = judge(evaluation_items, Decomposed(wording), asked, name="teacher")
    said.transcripts.to_parquet(folder / "transcripts.parquet")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
