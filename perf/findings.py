"""What it teaches a student to see its own findings scored and summed up by its teacher; one command, which goes on where it was cut off.

A student that was fine-tuned as the recipe says judges images of its training prompts by the decomposed chain. The teacher, who is shown no
image, is asked what follows from what the student found. Two trainings go on from that student, equally long: one on the same examples as
before, one on these and the teacher's answers. Both judge held-out prompts by the chain; differences are paired by prompt. Synthetic.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from perf.grpo import FULL, Row, Study
from t2i_eval_kedro import schema
from t2i_eval_kedro.datasets.atomic import atomic_file
from t2i_eval_kedro.judging.backends.simulated import SimulatedBackend
from t2i_eval_kedro.judging.backends.transformers import TransformersBackend
from t2i_eval_kedro.judging.evaluators import judge_items
from t2i_eval_kedro.judging.protocols.decomposed import Decomposed
from t2i_eval_kedro.provenance import commit
from t2i_eval_kedro.teacher.text_only import ask_about_findings, read_findings
from t2i_eval_kedro.training.settings import SFTSettings
from t2i_eval_kedro.training.sft import train_sft

SAME, FINDINGS = "same_examples", "with_findings"
ROWS = {name: Row(FULL, chain=True) for name in (FULL, SAME, FINDINGS)}
DIFFERENCES = ((SAME, FULL), (FINDINGS, FULL), (FINDINGS, SAME))


class Findings(Study):
    """The study of GRPO, whose rows go on with supervised steps in place of rewards."""

    def __init__(self, *arguments: Any, steps: int, images: int, **options: Any) -> None:
        """Take the arguments of :class:`perf.grpo.Study`.

        Args:
            arguments: as there.
            steps: supervised steps of the rows that go on.
            images: images of a training prompt that the student judges.
            options: as there.
        """
        super().__init__(*arguments, **options)
        self.steps, self.images = steps, images

    def found(self, adapter: Path, seed: int) -> pd.DataFrame:
        """The teacher's transcripts of what follows from the student's findings; asked once."""
        folder = self.folder / "findings" / f"seed_{seed}"
        file, answered = folder / "transcripts.parquet", folder / "teacher.parquet"
        items = self.items[self.items["item_id"].map(self.folds) == "train"].groupby("prompt_id").head(self.images)
        if not answered.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            model, processor = self.model.load(adapter=adapter), self.model.load_processor()
            student = TransformersBackend(model, processor, self.pictures, batch_size=self.project.judging.batch_size)
            judged = judge_items(items, student, self.wording, self.phrases, ["decomposed"], name="sft")
            teacher = SimulatedBackend(items, self.wording, seed=0, error_rate=0.02, score_noise=0.3)
            chain = Decomposed(self.wording, text_stages=True)
            for path, make in (
                (file, lambda: judged.transcripts),
                (answered, lambda: ask_about_findings(read_findings(file, items, chain), items, chain, teacher)),
            ):
                with atomic_file(path) as temporary:
                    make().to_parquet(temporary)
        return schema.TRANSCRIPTS.check(pd.read_parquet(answered))

    def train(self, row: Row, seed: int, folder: Path) -> tuple[Path | None, dict[str, Any]]:
        """The adapter of one row, and what it was trained on."""
        start = self.start(row.start, seed)
        if folder.parent.name == FULL:
            return start, {}
        assert start is not None
        before = self.sources
        if folder.parent.name == FINDINGS:
            about_text = pd.concat([before.about_text, self.found(start, seed)], ignore_index=True)
            self.sources = replace(before, about_text=about_text)
        examples = self.supervised(row.start, seed)
        self.sources = before
        settings = self.project.settings("sft", SFTSettings)
        update = {"max_steps": self.steps, "start": str(start), "seed": settings.seed + seed + 1000}
        train_sft(
            examples,
            self.pictures,
            self.model,
            settings.model_copy(update=update),
            folder / "adapter",
            checkpoint_dir=folder / "checkpoints",
        )
        return folder / "adapter", {"examples": len(examples)}


def main(arguments: Sequence[str] = ()) -> dict[str, Any]:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(prog="python -m perf.findings", description=__doc__)
    parser.add_argument(
        "--folder", type=Path, default=Path("data/perf_grpo"), help="shared with perf.grpo, whose start it uses"
    )
    parser.add_argument("--prompts", type=int, default=1000, help="two fifths of them are held out")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--images", type=int, default=2, help="of a training prompt, that the student judges")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, help="also write the table as JSON")
    given = parser.parse_args(list(arguments))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    study = Findings(given.folder, given.prompts, {}, 2000, steps=given.steps, images=given.images)
    for seed in range(given.seeds):
        for name, row in ROWS.items():
            study.run(name, row, seed)
    result = study.table(ROWS, DIFFERENCES)
    print(json.dumps(result["differences"], indent=1))
    if given.out is not None:
        document = {
            "commit": commit(),
            "synthetic": True,
            "prompts": given.prompts,
            "steps": given.steps,
            "result": result,
        }
        with atomic_file(given.out) as path:
            path.write_text(json.dumps(document, indent=1, default=float) + "\n", encoding="utf-8")
    return result


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
