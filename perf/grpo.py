"""What GRPO gains on the synthetic benchmark, from which start and by which reward; one command, which goes on where it was cut off.

Every row trains from one start (the untrained model; supervised fine-tuning on the critiques of a tenth of the prompts, of all, or five times as long)
and is judged on the held-out prompts. The trainings of a seed share their starts. A finished row leaves ``done.json`` and is not run
again; an unfinished training resumes from its checkpoint. No number is tuned on these prompts.

``points``: Spearman with the raters' mean overall score, by what the judge writes (``reasoning``; ``levels`` for rows that do not reason) and by
expected scores (``expected``). ``within``: fraction of pairs of images of one prompt that it orders as people's means do, a tie counting
one half. ``order``: fraction of pairs on which both orders agree, for the row that learns from pairs. Differences are paired by prompt.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from t2i_eval_kedro import schema
from t2i_eval_kedro.agreement.rationales import rationale_quality
from t2i_eval_kedro.benchmarks.readers.shapes import DIMENSIONS
from t2i_eval_kedro.benchmarks.splits import split_by_prompt
from t2i_eval_kedro.datasets.atomic import atomic_file
from t2i_eval_kedro.judging.backends.simulated import SimulatedBackend
from t2i_eval_kedro.judging.backends.transformers import TransformersBackend
from t2i_eval_kedro.judging.evaluators import judge_items
from t2i_eval_kedro.judging.pairs import judge_pairs
from t2i_eval_kedro.judging.project import Project
from t2i_eval_kedro.judging.protocols.reasoning import PairRule
from t2i_eval_kedro.judging.protocols.registry import build
from t2i_eval_kedro.models.settings import ModelSettings
from t2i_eval_kedro.provenance import commit
from t2i_eval_kedro.statistics.bootstrap import resample_counts
from t2i_eval_kedro.statistics.estimates import bootstrap_estimate, round_or_none
from t2i_eval_kedro.statistics.pooled import Weights, pooled_statistics
from t2i_eval_kedro.steps import OVERALL, REASON, REASON_PAIR, SCORE
from t2i_eval_kedro.training.critiques import pairs_of, reasoning_examples
from t2i_eval_kedro.training.examples import examples_from_scores, means_on_ten
from t2i_eval_kedro.training.grpo import train_grpo
from t2i_eval_kedro.training.launch import score_parsers
from t2i_eval_kedro.training.rebalancing import rebalance
from t2i_eval_kedro.training.recipes import Sources, build_examples
from t2i_eval_kedro.training.settings import (
    REHEARSAL,
    ExampleSettings,
    GRPOSettings,
    RebalancingSettings,
    SFTSettings,
)
from t2i_eval_kedro.training.sft import train_sft

log = logging.getLogger(__name__)

UNTRAINED, TENTH, FULL, LONG = "untrained", "sft_tenth", "sft", "sft_long"
FRACTION = {TENTH: 0.1, FULL: 1.0, LONG: 1.0}
STEPS = {LONG: 4000}
"""Steps of supervised fine-tuning, where they are not the recipe's 800."""
SHARES = {LONG: {REASON: 0.9, REASON_PAIR: 0.5}}
"""Shares of what is drawn, where they are not the recipe's; all shares are scaled to sum to one."""
HELD_OUT, VALIDATION = 400, 100
"""Prompts of 1,000 or more; of fewer, the same fractions. Many are held out, so that the intervals are narrow."""


@dataclass(frozen=True)
class Row:
    """One row of the table: where training starts, what GRPO changes (None: no GRPO), over how many seeds, and whether its decomposed
    chain is asked, too."""

    start: str
    grpo: Mapping[str, Any] | None = None
    seeds: int = 1
    chain: bool = False


REWARDS: dict[str, dict[str, float]] = {
    name: {"gaussian": 0.0, "pairwise": 0.0, "format": 0.1, name: 1.0} for name in ("gaussian", "rank", "binary")
}
SETTINGS: dict[str, Any] = {
    "max_steps": 40,
    "learning_rate": 2.0e-4,
    "eval_steps": 10,
    "eval_examples": 256,
    "save_steps": 10,
}
"""Of every GRPO row, in place of the recipe's: few steps at a higher rate, so that a row takes minutes; the adapter is chosen on more validation
prompts."""
REASONS: dict[str, Any] = {**SETTINGS, "tasks": [REASON]}
PAIRS: dict[str, Any] = {
    **SETTINGS,
    "tasks": [REASON_PAIR],
    "targets": "preferences",
    "max_completion_length": 144,  # two thoughts and two scores
    "trl": {"min_p": 0.1},
}
"""Of the rows that learn from pairs. Without ``min_p``, 94% of the drawn answers cannot be read: the tiny model leaves words that it never needed a small
probability each where the next image's name is due, and most of it together."""
IMAGES = 4
"""Images of a held-out prompt that are judged: more of one prompt make the intervals hardly narrower."""
ROWS: dict[str, Row] = {
    UNTRAINED: Row(UNTRAINED, seeds=3),
    "grpo_from_untrained": Row(UNTRAINED, {**SETTINGS, "tasks": [SCORE], "start": "base"}, seeds=3),
    TENTH: Row(TENTH, seeds=3),
    "grpo_from_tenth": Row(TENTH, REASONS, seeds=3),
    FULL: Row(FULL, seeds=3, chain=True),
    "grpo": Row(FULL, REASONS, seeds=3, chain=True),
    "grpo_rank": Row(TENTH, {**REASONS, "rewards": REWARDS["rank"]}),
    "grpo_binary": Row(TENTH, {**REASONS, "rewards": REWARDS["binary"]}),
    "grpo_preferences": Row(TENTH, PAIRS),
    LONG: Row(LONG, chain=True),
    "grpo_from_long": Row(LONG, REASONS, chain=True),
    "grpo_preferences_from_long": Row(LONG, PAIRS),
    "grpo_without_rehearsal": Row(FULL, {**REASONS, "rehearsal_weight": 0.0}, chain=True),
}
DIFFERENCES = (
    ("grpo_from_untrained", UNTRAINED),
    ("grpo_from_tenth", TENTH),
    ("grpo", FULL),
    ("grpo_from_long", LONG),
    ("grpo_from_tenth", "grpo_rank"),
    ("grpo_from_tenth", "grpo_binary"),
    ("grpo_preferences", TENTH),
    ("grpo_preferences_from_long", LONG),
)


@dataclass(frozen=True)
class Pictures:
    """Encoded images by key, as an image store."""

    encoded: Mapping[str, bytes] = field(repr=False)

    def image(self, key: str) -> Image.Image:
        """The decoded image."""
        return Image.open(io.BytesIO(self.encoded[key])).convert("RGB")


class Study:
    """The data that all rows share, and where their results are kept."""

    def __init__(
        self, folder: Path, prompts: int, params: Mapping[str, Any], resamples: int, *, model: Path | None = None
    ) -> None:
        """Make the benchmark and the teacher's answers.

        Args:
            folder: where rows are kept.
            prompts: number of prompts of the benchmark.
            params: parameters on top of the student's recipe, nested.
            resamples: number of bootstrap resamples of prompts.
            model: the student's folder, where it is not the recipe's.
        """
        from t2i_eval_kedro.shapes.make import make_shapes

        self.folder, self.resamples = folder, resamples
        self.project = Project.open(Path(), "base", {"student": "tiny_vlm", **params})
        self.model = self.project.settings("model", ModelSettings)
        if model is not None:
            self.model = self.model.model_copy(update={"model": str(model)})
        self.wording = self.project.wording
        self.phrases = {dimension.name: dimension.description for dimension in DIMENSIONS}
        made = make_shapes(prompts)
        self.items, self.ratings, self.elements = made.items, made.ratings, made.elements
        self.truth = made.element_ratings
        self.pictures = Pictures(dict(made.images))
        test, validation = HELD_OUT / max(prompts, 1000), VALIDATION / max(prompts, 1000)
        splits = split_by_prompt(made.items, {"train": 1 - test - validation, "validation": validation, "test": test})
        self.folds = dict(zip(splits["item_id"], splits["fold"], strict=True))
        held_out = made.items[made.items["item_id"].map(self.folds) == "test"]
        self.held_out = held_out.sample(frac=1, random_state=0).groupby("prompt_id").head(IMAGES).sort_index()
        self.sources = Sources(
            *(made.items, splits, made.ratings, made.elements, made.element_ratings),
            *self.teacher(made.items[made.items["item_id"].map(self.folds) == "train"]),
        )

    def teacher(self, items: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        """What the simulated teacher says of ``items``, asked once: its transcripts, none about text alone, and its scores."""
        kept = [self.folder / f"teacher_{name}.parquet" for name in ("transcripts", "scores")]
        if not all(path.is_file() for path in kept):
            teacher = SimulatedBackend(items, self.wording, seed=0, error_rate=0.02, score_noise=0.3)
            judged = judge_items(items, teacher, self.wording, self.phrases, ["decomposed"], name="teacher")
            for table, path in zip((judged.transcripts, judged.scores), kept, strict=True):
                with atomic_file(path) as temporary:
                    table.to_parquet(temporary)
        transcripts, scores = map(pd.read_parquet, kept)
        return schema.TRANSCRIPTS.check(transcripts), schema.TRANSCRIPTS.empty(), schema.SCORES.check(scores)

    def supervised(self, start: str, seed: int) -> pd.DataFrame:
        """The balanced examples of one start; without the recipe's extraction of further prompts, which all rows lack."""
        values = dict(self.project.parameters["examples"])
        values |= {"tasks": ["subtasks", SCORE, REASON, REASON_PAIR], "prompt_fraction": FRACTION[start]}
        chosen = ExampleSettings.model_validate(values)
        examples = build_examples(self.sources, self.phrases, self.project.judging.options, self.wording, chosen)
        settings = self.project.settings("rebalancing", RebalancingSettings)
        shares = {**settings.shares, **SHARES.get(start, {})}
        balanced, _ = rebalance(examples, **settings.model_dump() | {"seed": settings.seed + seed, "shares": shares})
        return balanced

    def start(self, name: str, seed: int) -> Path | None:
        """The adapter of one start, trained where it is not there yet; None for the untrained model."""
        if name == UNTRAINED:
            return None
        adapter = self.folder / "starts" / name / f"seed_{seed}"
        if not (adapter / "manifest.json").is_file():
            settings = self.project.settings("sft", SFTSettings)
            train_sft(
                self.supervised(name, seed),
                self.pictures,
                self.model,
                settings.model_copy(
                    update={"seed": settings.seed + seed, "max_steps": STEPS.get(name, settings.max_steps)}
                ),
                adapter,
                checkpoint_dir=adapter.with_name(f".{adapter.name}"),
            )
        return adapter

    def train(self, row: Row, seed: int, folder: Path) -> tuple[Path | None, dict[str, Any]]:
        """The adapter of one row, and what GRPO took."""
        start = self.start(row.start, seed)
        if row.grpo is None:
            return start, {}
        given = dict(self.project.parameters["grpo"])
        settings = GRPOSettings.model_validate(
            given | dict(row.grpo) | {"rewards": given["rewards"] | dict(row.grpo.get("rewards", {}))}
        )
        settings = settings.model_copy(update={"seed": settings.seed + seed})
        levels = self.project.judging.options.levels(self.wording)
        means = means_on_ten(self.ratings)
        asked = {OVERALL: self.phrases[OVERALL]}
        direct = examples_from_scores(means, self.items, self.folds, asked, levels)
        parts = [direct if SCORE in settings.tasks else direct[direct["fold"] == "validation"]]
        parts += [
            reasoning_examples(task, means, self.items, self.folds, asked, self.wording, None)
            for task in settings.tasks
            if task != SCORE
        ]
        if settings.rehearses:
            taught = self.supervised(row.start, seed)
            taught = taught[taught["fold"] == "train"]
            parts.append(taught.assign(fold=REHEARSAL, example_id=f"{REHEARSAL}/" + taught["example_id"]))
        begun = time.monotonic()
        curve = train_grpo(
            schema.EXAMPLES.check(pd.concat(parts, ignore_index=True)),
            self.pictures,
            self.model,
            start or self.project.settings("sft", SFTSettings).lora,
            settings,
            score_parsers(levels.vocabulary),
            folder / "adapter",
            vocabulary=levels.vocabulary,
            checkpoint_dir=folder / "checkpoints",
        )
        recorded = json.loads((folder / "adapter" / "settings.json").read_text())["settings"]
        took = {
            "seconds": round(time.monotonic() - begun, 1),
            "seconds_per_step": curve.attrs["seconds_per_step"],
            **{name: recorded[name] for name in ("kept_step", "stopped")},
            "last": curve.dropna(subset=["reward"]).iloc[-1].dropna().to_dict(),
        }
        return folder / "adapter", took

    def run(self, name: str, row: Row, seed: int) -> None:
        """Train and judge one row for one seed, unless it is done."""
        folder = self.folder / "rows" / name / f"seed_{seed}"
        if (folder / "done.json").is_file():
            return
        log.info("== %s, seed %d", name, seed)
        folder.mkdir(parents=True, exist_ok=True)
        adapter, took = self.train(row, seed, folder)
        model, processor = self.model.load(adapter=adapter), self.model.load_processor()
        backend = TransformersBackend(model, processor, self.pictures, batch_size=self.project.judging.batch_size)
        asked = {OVERALL: self.phrases[OVERALL]}
        protocols = [
            "levels",
            *(["reasoning"] if row.start != UNTRAINED else []),
            *(["decomposed"] if row.chain else []),
        ]
        judged = judge_items(self.held_out, backend, self.wording, asked, protocols, name=name)
        judged.scores.to_parquet(folder / "scores.parquet")
        judged.transcripts.to_parquet(folder / "transcripts.parquet")
        # What learns from pairs compares some, and so does its start.
        if name in (TENTH, LONG) or (row.grpo is not None and REASON_PAIR in row.grpo["tasks"]):
            self.preferences(backend, name).to_parquet(folder / "preferences.parquet")
        with atomic_file(folder / "done.json") as path:
            path.write_text(json.dumps(took, indent=1, default=float) + "\n", encoding="utf-8")

    def preferences(self, backend: TransformersBackend, name: str) -> pd.DataFrame:
        """What a judge says of pairs of held-out images, in both orders."""
        prompt = dict(zip(self.items["item_id"], self.items["prompt_id"], strict=True))
        pairs = pd.DataFrame(
            [(prompt[a], a, b) for a, b in pairs_of(self.held_out)], columns=["prompt_id", "item_a", "item_b"]
        )
        protocol, asked = build("pairwise", self.wording), {OVERALL: self.phrases[OVERALL]}
        table, _ = judge_pairs(pairs, self.items, backend, protocol, PairRule(), asked, OVERALL, name=name)
        return table

    def table(self, rows: Mapping[str, Row], differences: Iterable[tuple[str, str]] = DIFFERENCES) -> dict[str, Any]:
        """Figures of every row that is done, and the paired ``differences`` of those."""
        means = means_on_ten(self.ratings)
        gold = means[means["dimension"] == OVERALL].set_index("item_id")["score"].reindex(self.held_out["item_id"])
        prompt, names = pd.factorize(self.held_out["prompt_id"], sort=True)
        ones = np.ones((1, len(names)), dtype=np.int64)
        weights = Weights(np.vstack([ones, resample_counts(len(names), self.resamples, 0)]))
        figure = partial(bootstrap_estimate, confidence=0.95, groups=len(names))
        figures: dict[str, Any] = {}
        draws: dict[tuple[str, str], dict[str, np.ndarray]] = {}
        for name in rows:
            folders = sorted(path.parent for path in (self.folder / "rows" / name).glob("seed_*/done.json"))
            if not folders:
                continue
            scores = [pd.read_parquet(folder / "scores.parquet") for folder in folders]
            figures[name] = {
                "seeds": len(folders),
                "took": [json.loads((f / "done.json").read_text()) for f in folders],
            }
            for protocol in sorted(set(scores[0]["protocol"])):
                asked = [
                    (f, one) for f, one in zip(folders, scores, strict=True) if (one["protocol"] == protocol).any()
                ]
                values = [_overall(one, protocol, self.held_out["item_id"]) for _, one in asked]
                read = float(np.mean([np.isfinite(one).mean() for one in values]))
                points = [_points(one, gold.to_numpy(), prompt, weights) for one in values]
                within = np.mean([_within(one, gold.to_numpy(), prompt, weights) for one in values], axis=0)
                draws[name, protocol] = {f.name: one for (f, _), one in zip(asked, points, strict=True)}
                figures[name][protocol] = {
                    "read": read,
                    "points": figure(np.mean(points, axis=0)),
                    "by_seed": [round_or_none(one[0]) for one in points],
                    "within": figure(within),
                }
            reasoned = pd.concat([one[one["protocol"] == "reasoning"].assign(run=i) for i, one in enumerate(scores)])
            if len(reasoned):
                figures[name]["rationales"] = rationale_quality(
                    self.held_out, self.elements, self.truth, reasoned, self.resamples, 0.95, 0
                )
            compared = [f / "preferences.parquet" for f in folders if (f / "preferences.parquet").is_file()]
            if compared:
                figures[name]["pairs"] = self._pairs(map(pd.read_parquet, compared), means)
        paired = {
            f"{a} - {b}": {
                protocol: _difference(draws[a, protocol], draws[b, protocol], figure)
                for protocol in ("reasoning", "levels", "decomposed")
                if (a, protocol) in draws and (b, protocol) in draws
            }
            for a, b in differences
            if a in figures and b in figures
        }
        return {"held_out_prompts": len(names), "rows": figures, "differences": paired}

    def _pairs(self, tables: Iterable[pd.DataFrame], means: pd.DataFrame) -> dict[str, Any]:
        """Fractions of pairs that were read, told right where people tell them apart, and answered alike in both orders: means over seeds."""
        score = means[means["dimension"] == OVERALL].set_index("item_id")["score"]
        by_seed = []
        for table in tables:
            gap = table["item_a"].map(score) - table["item_b"].map(score)
            answered = table["status"] == schema.OK
            decided = answered & (gap.abs() > PairRule().tie)
            hits = (np.sign(table["margin"]) == np.sign(gap)) + 0.5 * (table["margin"] == 0)
            by_seed.append(
                {
                    "read": float(answered.mean()),
                    "accuracy": float(hits[decided].mean()),
                    "order": float(table["consistent"].mean()),
                }
            )
        return {**pd.DataFrame(by_seed).mean().to_dict(), "by_seed": by_seed}


def _difference(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray], figure: Callable[..., Any]) -> dict[str, Any]:
    """The mean difference over the seeds that both have."""
    by_seed = [a[seed] - b[seed] for seed in a if seed in b]
    return {**figure(np.mean(by_seed, axis=0)), "by_seed": [round_or_none(one[0]) for one in by_seed]}


def _overall(scores: pd.DataFrame, protocol: str, order: pd.Series) -> np.ndarray:
    """A judge's overall scores in the order of the items; NaN where there is none."""
    some = scores[(scores["protocol"] == protocol) & (scores["dimension"] == OVERALL)]
    return some.set_index("item_id")["score"].reindex(order).to_numpy(dtype=float)


def _points(values: np.ndarray, gold: np.ndarray, prompt: np.ndarray, weights: Weights) -> np.ndarray:
    used = np.isfinite(values) & np.isfinite(gold)
    return pooled_statistics(values[used], gold[used], prompt[used], weights, ("spearman",))["spearman"]


def _within(values: np.ndarray, gold: np.ndarray, prompt: np.ndarray, weights: Weights) -> np.ndarray:
    """Fraction of pairs of one prompt in people's order, under every weighting of the prompts."""
    sums = np.zeros((weights.table.shape[1], 2))
    for group in range(len(sums)):
        own = np.flatnonzero((prompt == group) & np.isfinite(values) & np.isfinite(gold))
        a, b = np.triu_indices(len(own), 1)
        apart, ours = np.sign(gold[own[a]] - gold[own[b]]), np.sign(values[own[a]] - values[own[b]])
        sums[group] = [((ours == apart) + 0.5 * (ours == 0))[apart != 0].sum(), (apart != 0).sum()]
    weighted = weights.table @ sums
    return weighted[:, 0] / weighted[:, 1]


def run(study: Study, rows: Mapping[str, Row], seeds: int | None = None) -> dict[str, Any]:
    """Run what is missing, the rows with several seeds first, and return the table."""
    for seed in range(max(row.seeds for row in rows.values())):
        for name, row in rows.items():
            if seed < min(row.seeds, seeds or row.seeds):
                study.run(name, row, seed)
    return study.table(rows)


def _text(estimate: Mapping[str, Any]) -> str:
    value, low, high = (estimate[name] for name in ("value", "low", "high"))
    return "none" if value is None else f"{value:.3f}" + ("" if low is None else f" [{low:.3f}, {high:.3f}]")


def main(arguments: Sequence[str] = ()) -> dict[str, Any]:
    """Run the study, or some rows of it, and print its table."""
    parser = argparse.ArgumentParser(prog="python -m perf.grpo", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("data/perf_grpo"), help="where rows are kept")
    parser.add_argument("--prompts", type=int, default=1000, help="two fifths of them are held out")
    parser.add_argument(
        "--rows", nargs="*", default=list(ROWS), choices=list(ROWS), metavar="ROW", help=", ".join(ROWS)
    )
    parser.add_argument("--out", type=Path, help="also write the table as JSON")
    parser.add_argument("--seeds", type=int, help="at most so many seeds for a row")
    given = parser.parse_args(list(arguments))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    study = Study(given.folder, given.prompts, {}, resamples=2000)
    result = run(study, {name: ROWS[name] for name in given.rows}, given.seeds)
    for name, row in result["rows"].items():
        parts = [
            f"{protocol} {_text(row[protocol]['points'])} within {_text(row[protocol]['within'])} read {row[protocol]['read']:.2f}"
            for protocol in ("levels", "reasoning", "decomposed")
            if protocol in row
        ]
        print(f"{name:24s} {'; '.join(parts)}")
    for name, by_protocol in result["differences"].items():
        for protocol, estimate in by_protocol.items():
            print(f"{name:44s} {protocol:10s} {_text(estimate)}")
    for name, row in result["rows"].items():
        for quality in row.get("rationales", []):
            if quality["evaluator"].endswith("_reasoning"):
                shares = ", ".join(f"{key} {_text(quality[key])}" for key in ("named_true", "false", "contradictions"))
                print(f"{name:24s} rationales: {shares}")
        if "pairs" in row:
            print(
                f"{name:24s} pairs: "
                + ", ".join(f"{key} {row['pairs'][key]:.3f}" for key in ("read", "accuracy", "order"))
            )
    if given.out is not None:
        document = {"commit": commit(), "synthetic": True, "prompts": given.prompts, "result": result}
        with atomic_file(given.out) as path:
            path.write_text(json.dumps(document, indent=1, default=float) + "\n", encoding="utf-8")
    return result


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
