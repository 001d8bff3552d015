"""Does it help a judge that answers in words to be told what a network of structure marks? Written to ``perf/results/evidence.json``.

Synthetic. Needs ``kedro run --pipelines=ingestion --params=benchmark=shapes_structure`` and the tiny backbones of ``kedro build-tiny-structure``. Trains two
networks of structure on one half of the training prompts each, then the embedded student, with ``judging.options.evidence`` and without, with the same
seed and steps, and lets each judge the held-out images by the decomposed chain. What is done is kept in ``--work``.

A shorter recipe than the student's, the same for both arms: it learns the requests about appearance alone (explanations and scores of entities, and the
summary of the aspect), and whatever else the chain asks is answered by the simulated teacher. The appearance score of a chain rests on nothing else but the
extraction, which is the teacher's here.

What is judged (ours): people's appearance of `shapes` counts blur, haze and grain alone, of which a network of structure knows nothing. Appearance in
T2I-Eval's sense counts structure too, so here a rater's appearance is the product of both of that rater's ratings, over 10 (as the truth of appearance is
a product over its faults), and the simulated teacher sees the product of both truths and names both kinds of fault.

    python -m perf.evidence [--seeds 0] [--steps 400]
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from t2i_eval_kedro import schema
from t2i_eval_kedro.benchmarks.readers.shapes import DIMENSIONS, STRUCTURE_NAME
from t2i_eval_kedro.datasets.answer_store import AnswerStore
from t2i_eval_kedro.datasets.atomic import atomic_file
from t2i_eval_kedro.datasets.image_store import ImageStore
from t2i_eval_kedro.judging.backends.base import Backend
from t2i_eval_kedro.judging.backends.simulated import SimulatedBackend
from t2i_eval_kedro.judging.evaluators import evaluation_items, judge_items
from t2i_eval_kedro.judging.evidence import EvidenceSource
from t2i_eval_kedro.judging.local_models import open_backend
from t2i_eval_kedro.judging.project import Project
from t2i_eval_kedro.judging.protocols import Answer, Request
from t2i_eval_kedro.models.structure.settings import StructureSettings
from t2i_eval_kedro.provenance import commit
from t2i_eval_kedro.ratings import mean_ratings
from t2i_eval_kedro.statistics.bootstrap import resample_counts
from t2i_eval_kedro.statistics.estimates import bootstrap_estimate
from t2i_eval_kedro.statistics.pooled import Weights, pooled_statistics
from t2i_eval_kedro.steps import APPEARANCE, explanation_task
from t2i_eval_kedro.teacher import teachers
from t2i_eval_kedro.teacher.teachers import Material, TeacherSettings
from t2i_eval_kedro.training import recipes
from t2i_eval_kedro.training.rebalancing import rebalance
from t2i_eval_kedro.training.settings import ExampleSettings, RebalancingSettings, SFTSettings
from t2i_eval_kedro.training.sft import train_sft
from t2i_eval_kedro.training.structure.data import structure_examples
from t2i_eval_kedro.training.structure.train import train_structure

log = logging.getLogger(__name__)

OUT = Path("perf/results/evidence.json")
WORK = Path("data/07_model_output") / STRUCTURE_NAME / "evidence"
DATA = Path("data/02_intermediate") / STRUCTURE_NAME
HALVES = ("first", "second")
ARMS = {"off": False, "on": True}
STRUCTURE = "structure"
STEPS = 400
RESAMPLES, CONFIDENCE = 1000, 0.95


@dataclass(frozen=True)
class AboutAppearance:
    """A judge that answers what is about appearance, and a teacher for everything else."""

    judge: Backend
    teacher: Backend

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        """Yield the answers of both."""
        for backend, about in ((self.teacher, False), (self.judge, True)):
            places = [i for i, request in enumerate(requests) if (request.aspect == APPEARANCE) == about]
            for place, answer in backend.answer([requests[i] for i in places]):
                yield places[place], answer


@dataclass(frozen=True)
class LooksTeacher:
    """A simulated teacher that also names structural faults where it explains appearance."""

    teacher: SimulatedBackend
    structure: dict[str, float]

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        """Yield the teacher's answers."""
        for i, answer in self.teacher.answer(requests):
            if requests[i].task == explanation_task(APPEARANCE) and answer.text.startswith("it is "):
                answer = replace(answer, text=answer.text + damage(self.structure[requests[i].item_id]))
            yield i, answer


def damage(structure: float) -> str:
    """A true score of structure (0 to 10) in the embedded model's words, after those about clarity; empty for a sound image."""
    if structure >= 10:
        return ""
    return f" and {'slightly ' if structure > 8 else '' if structure > 5 else 'very '}broken"


class Study:
    """The data of both arms, and where results are kept."""

    def __init__(self, work: Path, steps: int) -> None:
        """Read the ingested benchmark.

        Args:
            work: folder of results.
            steps: optimiser steps of the SFT.
        """
        self.work, self.steps = work, steps
        self.project = Project.open(Path(), "base", {"student": "tiny_vlm", "benchmark": STRUCTURE_NAME})
        self.wording = self.project.wording
        self.phrases = {dimension.name: dimension.description for dimension in DIMENSIONS}
        items, ratings, splits, elements, labels = (
            pd.read_parquet(DATA / f"{name}.parquet")
            for name in ("items", "ratings", "splits", "elements", "element_ratings")
        )
        self.images = ImageStore(DATA / "images")
        self.plain, self.people, self.splits = items, ratings, splits
        stated = [json.loads(text) for text in items["attributes"]]
        self.structure = {
            str(item): float(one["truth"][STRUCTURE]) for item, one in zip(items["item_id"], stated, strict=True)
        }
        for one in stated:
            one["truth"][APPEARANCE] = one["truth"][APPEARANCE] * one["truth"][STRUCTURE] / 10
        self.items = schema.ITEMS.check(items.assign(attributes=[json.dumps(one) for one in stated]))
        self.ratings = schema.RATINGS.check(looks(ratings))
        self.elements, self.labels = elements, labels
        folds = dict(zip(splits["item_id"], splits["fold"], strict=True))
        self.held_out = schema.ITEMS.check(self.items[self.items["item_id"].map(folds) == "test"])
        self.seen = self.held_out["generator"].isin(
            set(self.items.loc[self.items["item_id"].map(folds) == "train", "generator"])
        )

    @cached_property
    def networks(self) -> list[str]:
        """Folders of the two networks of structure, trained where they are not there yet."""
        settings = self.project.settings(STRUCTURE, StructureSettings)
        examples = structure_examples(self.plain, self.people, self.splits, settings.dimension)
        folders = []
        for half in HALVES:
            folder = self.work / f"structure_{half}"
            if not (folder / "manifest.json").is_file():
                halved = settings.model_copy(update={"half": half})
                train_structure(
                    examples, self.images, "hybrid", halved, folder, checkpoint_dir=folder.with_name(f".{folder.name}")
                )
            folders.append(str(folder))
        return folders

    @cached_property
    def evidence(self) -> EvidenceSource:
        """Where evidence comes from."""
        return EvidenceSource(self.networks, self.images, AnswerStore(self.work / "evidence.sqlite"))

    @cached_property
    def sources(self) -> recipes.Sources:
        """The tables that examples are made of; the teacher is asked once."""
        names = ("transcripts", "about_text", "scores")
        kept = {name: self.work / f"teacher_{name}.parquet" for name in names}
        if not all(path.is_file() for path in kept.values()):
            settings = self.project.settings("teacher", TeacherSettings)
            folds = self.splits.set_index("item_id")["fold"]
            asked = schema.ITEMS.check(self.items[self.items["item_id"].map(folds) != "unused"])
            judged = judge_items(
                asked,
                self.teacher(asked),
                self.wording,
                self.phrases,
                ["decomposed"],
                name=schema.TEACHER,
                options=teachers.AS_PUBLISHED,
            )
            trained = list(folds.index[folds == "train"])
            store = AnswerStore(self.work / "teacher.sqlite")
            material = Material(asked, self.images, schema.TRANSCRIPTS.empty(), store, None, trained, self.items)
            text = teachers.ask_about_text("simulated", settings, material, judged.transcripts, self.wording)
            for name, table in zip(names, (judged.transcripts, text, judged.scores), strict=True):
                with atomic_file(kept[name]) as path:
                    table.to_parquet(path)
        transcripts, text, scores = (pd.read_parquet(kept[name]) for name in names)
        return recipes.Sources(
            self.items,
            self.splits,
            self.ratings,
            self.elements,
            self.labels,
            schema.TRANSCRIPTS.check(transcripts),
            schema.TRANSCRIPTS.check(text),
            schema.SCORES.check(scores),
        )

    def teacher(self, items: pd.DataFrame) -> LooksTeacher:
        """The simulated teacher of ``items``."""
        settings = self.project.settings("teacher", TeacherSettings)
        simulated = SimulatedBackend(
            items,
            self.wording,
            seed=settings.seed,
            error_rate=settings.error_rate,
            score_noise=settings.score_noise,
        )
        return LooksTeacher(simulated, self.structure)

    def run(self, arm: str, seed: int) -> pd.DataFrame:
        """The scores of one arm on the held-out images; trained and judged where that is not done yet."""
        folder = self.work / arm / f"seed_{seed}"
        if not (folder / "scores.parquet").is_file():
            judging = self.project.judging
            options = judging.options.model_copy(update={"evidence": tuple(self.networks) if ARMS[arm] else ()})
            evidence = self.evidence if ARMS[arm] else None
            adapter, begun = folder / "adapter", time.monotonic()
            if not (adapter / "manifest.json").is_file():
                examples = recipes.build_examples(
                    self.sources,
                    self.phrases,
                    options,
                    self.wording,
                    self.project.settings("examples", ExampleSettings).model_copy(update={"tasks": ["subtasks"]}),
                    evidence,
                )
                examples = schema.EXAMPLES.check(examples[examples["aspect"] == APPEARANCE])
                even = self.project.settings("rebalancing", RebalancingSettings)
                balanced, _ = rebalance(examples, **even.model_dump() | {"seed": even.seed + seed})
                settings = self.project.settings("sft", SFTSettings)
                settings = settings.model_copy(
                    update={
                        "seed": settings.seed + seed,
                        "max_steps": self.steps,
                        "eval_steps": 0,
                        "eval_examples": 0,
                        "save_steps": 100,
                    }
                )
                log.info("%s, seed %d: examples after %.0f s", arm, seed, time.monotonic() - begun)
                train_sft(
                    balanced,
                    self.images,
                    self.project.model,
                    settings,
                    adapter,
                    checkpoint_dir=folder / "checkpoints",
                )
                log.info("%s, seed %d: trained after %.0f s", arm, seed, time.monotonic() - begun)
            judged = judge_items(
                self.held_out,
                AboutAppearance(
                    open_backend(self.project.model, adapter, self.images, judging), self.teacher(self.held_out)
                ),
                self.wording,
                self.phrases,
                ["decomposed"],
                name=arm,
                options=options,
                evidence=evidence,
                chunk_size=judging.batch_size,
            )
            log.info("%s, seed %d: judged after %.0f s", arm, seed, time.monotonic() - begun)
            judged.transcripts.to_parquet(folder / "transcripts.parquet")
            with atomic_file(folder / "scores.parquet") as path:
                judged.scores.to_parquet(path)
        return pd.read_parquet(folder / "scores.parquet")

    def table(self, seeds: Sequence[int]) -> dict[str, Any]:
        """Spearman with people's appearance, structure counted, of every judge, and paired differences; means over seeds."""
        order = self.held_out["item_id"]
        chains = {
            arm: [
                scores[scores["dimension"] == APPEARANCE].set_index("item_id")["score"].reindex(order).to_numpy(float)
                for scores in (self.run(arm, seed) for seed in seeds)
            ]
            for arm in ARMS
        }
        said = self.evidence.add(evaluation_items(self.held_out, self.phrases))
        network = np.array([np.nan if one.evidence is None else one.evidence.score for one in said], dtype=float)
        values = {
            "evidence off": chains["off"],
            "evidence on": chains["on"],
            "network of structure alone": [network],
            "evidence off, times the network": [one * network / 10 for one in chains["off"]],
        }
        means = mean_ratings(self.ratings)
        gold = means[means["dimension"] == APPEARANCE].set_index("item_id")["score"].reindex(order).to_numpy(float)
        scored = np.isfinite(gold) & np.all([np.isfinite(one) for of in values.values() for one in of], axis=0)
        strata = {"all": np.ones(len(order), bool), "seen": self.seen.to_numpy(), "unseen": ~self.seen.to_numpy()}
        return {
            "scored_by_all": int(scored.sum()),
            "held_out": len(order),
            **{name: self._stratum(values, gold, scored & chosen) for name, chosen in strata.items()},
        }

    def _stratum(
        self, values: dict[str, list[np.ndarray]], gold: np.ndarray, chosen: np.ndarray
    ) -> dict[str, dict[str, Any]]:
        prompts, names = pd.factorize(self.held_out["prompt_id"].to_numpy()[chosen], sort=True)
        ones = np.ones((1, len(names)), dtype=np.int64)
        weights = Weights(np.vstack([ones, resample_counts(len(names), RESAMPLES, 0)]))
        figure = partial(bootstrap_estimate, confidence=CONFIDENCE, groups=len(names))
        draws = {
            name: np.mean(
                [
                    pooled_statistics(one[chosen], gold[chosen], prompts, weights, ("spearman",))["spearman"]
                    for one in of
                ],
                axis=0,
            )
            for name, of in values.items()
        }
        first = "evidence on"
        return {
            "items": {"n": int(chosen.sum()), "prompts": len(names)},
            "spearman": {name: figure(drawn) for name, drawn in draws.items()},
            "differences": {
                f"{first} - {name}": figure(draws[first] - drawn) for name, drawn in draws.items() if name != first
            },
        }

    def honesty(self, n: int = 200) -> dict[str, Any]:
        """Spearman of each network's score with people's structure on ``n`` training images that it learned from, and on ``n`` that the other did."""
        settings = self.project.settings(STRUCTURE, StructureSettings)
        examples = structure_examples(self.plain, self.people, self.splits, settings.dimension)
        train = examples[examples["fold"] == "train"]
        from t2i_eval_kedro.models.structure.model import load_structure
        from t2i_eval_kedro.training.structure.data import in_half

        out: dict[str, Any] = {}
        for half, folder in zip(HALVES, self.networks, strict=True):
            network, inside = load_structure(folder), in_half(train["prompt"], half)  # type: ignore[arg-type]
            for name, rows in (("learned from", train[inside]), ("not learned from", train[~inside])):
                some = rows.sample(min(n, len(rows)), random_state=0)
                results = network.predict([self.images.image(key) for key in some["image"]])
                scores = pd.Series([result.score for result in results], index=some.index)
                out.setdefault(half, {})[name] = round(float(scores.corr(some["score"], method="spearman")), 3)
        return {"n": n, "spearman_with_structure": out}


def looks(ratings: pd.DataFrame) -> pd.DataFrame:
    """``ratings`` (0 to 10) without structure, in which each rater's appearance is that times the rater's structure, over 10."""
    structure = ratings[ratings["dimension"] == STRUCTURE].set_index(["item_id", "rater_id"])["score"]
    rest = ratings[ratings["dimension"] != STRUCTURE]
    about = rest["dimension"] == APPEARANCE
    keys = pd.MultiIndex.from_frame(rest.loc[about, ["item_id", "rater_id"]])
    product = rest.loc[about, "score"].to_numpy() * structure.reindex(keys).to_numpy() / 10
    return rest.assign(score=rest["score"].mask(about, pd.Series(product, index=rest.index[about])))


def main() -> dict[str, Any]:
    """Run what is missing, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--steps", type=int, default=STEPS, help="Optimiser steps of the SFT.")
    parser.add_argument("--arms", nargs="*", choices=ARMS, default=list(ARMS), help="Run these alone, without a table.")
    parser.add_argument("--work", type=Path, default=WORK, help="Folder that keeps networks, adapters and scores.")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    study = Study(arguments.work, arguments.steps)
    for seed in arguments.seeds:
        for arm in arguments.arms:
            study.run(arm, seed)
    if set(arguments.arms) != set(ARMS):
        return {}
    result = {
        "synthetic": True,
        "commit": commit(),
        "seeds": arguments.seeds,
        "steps": arguments.steps,
        "networks": study.honesty(),
        **study.table(arguments.seeds),
    }
    with atomic_file(arguments.out) as path:
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))
    return result


if __name__ == "__main__":
    main()
